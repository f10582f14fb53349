//! The figures in the tree.

use std::error::Error;
use std::fmt::Write;
use std::process::Command;

pub const FILE: &str = "benches/instructions/figures";
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions/figures");

/// Figures, and the compiler that they depend on.
pub struct Stored {
    pub compiler: String,
    pub figures: Vec<(String, f64)>,
}

impl Stored {
    /// What was measured just now.
    pub fn measured(figures: Vec<(String, f64)>) -> Result<Self, Box<dyn Error>> {
        let version = Command::new("rustc").arg("--version").output()?;
        Ok(Self { compiler: String::from_utf8(version.stdout)?.trim().to_owned(), figures })
    }

    /// A line with the compiler; then a line for each figure, number first.
    pub fn read() -> Result<Self, Box<dyn Error>> {
        let text = std::fs::read_to_string(PATH).map_err(|error| format!("{FILE}: {error}"))?;
        let (compiler, figures) = text.split_once('\n').unwrap_or_default();
        let figure = |line: &str| {
            let (count, name) = line.split_once(' ')?;
            Some((name.trim().to_owned(), count.parse().ok()?))
        };
        let parsed = |line| figure(line).ok_or_else(|| format!("{FILE}: {line:?} is no figure").into());
        let figures = figures.lines().map(parsed).collect::<Result<_, Box<dyn Error>>>()?;
        Ok(Self { compiler: compiler.to_owned(), figures })
    }

    pub fn write(&self) -> Result<(), Box<dyn Error>> {
        let mut text = format!("{}\n", self.compiler);
        for (name, count) in &self.figures {
            writeln!(text, "{count:.1} {name}")?;
        }
        print!("{text}");
        Ok(std::fs::write(PATH, text).map_err(|error| format!("{FILE}: {error}"))?)
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|(of, _)| of == name).map(|(_, count)| *count)
    }
}
