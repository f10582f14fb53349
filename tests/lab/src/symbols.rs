//! What addresses mean: symbol tables and memory maps.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::tools::Outcome;

/// Functions by where they begin, in order.
#[derive(Debug, Default)]
pub struct Symbols(Vec<(u64, String)>);

impl Symbols {
    /// Reads lines `ADDRESS TYPE NAME`, and perhaps `[MODULE]`, as `/proc/kallsyms` and `nm` write them; skips all others.
    pub fn parse(text: &str) -> Self {
        let symbol = |line: &str| {
            let (address, rest) = line.split_once(' ')?;
            let (kind, name) = rest.split_once(' ')?;
            let address = u64::from_str_radix(address, 16).ok()?;
            matches!(kind, "t" | "T" | "w" | "W" | "i")
                .then(|| (address, without_hash(name.trim_end()).replace('\t', " ")))
        };
        let mut symbols: Vec<_> = text.lines().filter_map(symbol).collect();
        // Of several names the same one in each run.
        symbols.sort();
        symbols.dedup_by_key(|(address, _)| *address);
        Self(symbols)
    }

    /// The functions of a program.
    ///
    /// # Errors
    ///
    /// When `nm` cannot read it.
    pub fn of_program(program: &Path) -> Outcome<Self> {
        let output = Command::new("nm")
            .args(["-C", "--defined-only"])
            .arg(program)
            .stderr(Stdio::inherit())
            .output()
            .map_err(|e| format!("nm: {e}"))?;
        let symbols = Self::parse(&String::from_utf8_lossy(&output.stdout));
        if symbols.0.is_empty() {
            return Err(format!("{} has no symbols", program.display()));
        }
        Ok(symbols)
    }

    /// The function at an address, and whether it begins there.
    pub fn name(&self, address: u64) -> (String, bool) {
        let behind = self.0.partition_point(|(start, _)| *start <= address);
        match behind.checked_sub(1).and_then(|index| self.0.get(index)) {
            Some((start, name)) => (name.clone(), *start == address),
            None => (format!("{address:#x}"), false),
        }
    }
}

/// A Rust symbol without the hash at its end, which changes with each build.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((start, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => start,
        _ => name,
    }
}

/// Files that programs have in their memory.
#[derive(Debug, Default)]
pub struct Files(Vec<File>);

#[derive(Debug)]
struct File {
    start: u64,
    end: u64,
    name: String,
}

impl Files {
    /// Reads lines of `/proc/PID/maps`, of any number of programs; skips all others.
    pub fn parse(text: &str) -> Self {
        let file = |line: &str| {
            let mut words = line.split_whitespace();
            let (start, end) = words.next()?.split_once('-')?;
            let path = words.nth(4)?;
            Some(File {
                start: u64::from_str_radix(start, 16).ok()?,
                end: u64::from_str_radix(end, 16).ok()?,
                name: path.rsplit('/').next()?.to_owned(),
            })
        };
        Self(text.lines().filter_map(file).collect())
    }

    /// The file at an address.
    pub fn name(&self, address: u64) -> String {
        let file = self.0.iter().find(|file| (file.start..file.end).contains(&address));
        file.map_or_else(|| "unknown".into(), |file| file.name.clone())
    }

    /// How far an address is from the file's begin, if it is within this one.
    pub fn within(&self, name: &str, address: u64) -> Option<u64> {
        let parts = || self.0.iter().filter(|file| file.name == name);
        parts().find(|file| (file.start..file.end).contains(&address))?;
        address.checked_sub(parts().map(|file| file.start).min()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_function_before_it() {
        let symbols = Symbols::parse(
            "0000000000000000 A fixed\nffffffff81000010 T second\r\nffffffff81000000 t first\nffffffff81000008 d data\n\
             ffffffffc0000000 t third\t[sg]\nLAB up\n",
        );
        assert_eq!(symbols.name(0xffff_ffff_8100_0000), ("first".into(), true));
        assert_eq!(symbols.name(0xffff_ffff_8100_0009), ("first".into(), false));
        assert_eq!(symbols.name(0xffff_ffff_8100_0010), ("second".into(), true));
        assert_eq!(symbols.name(0xffff_ffff_c000_0001), ("third [sg]".into(), false));
        assert_eq!(symbols.name(0x10), ("0x10".into(), false));
    }

    #[test]
    fn a_rust_symbol_loses_its_hash() {
        let symbols = Symbols::parse("10 t pvscsi::worker::run::h0123456789abcdef\n20 T a::hold\n");
        assert_eq!(symbols.name(0x10).0, "pvscsi::worker::run");
        assert_eq!(symbols.name(0x20).0, "a::hold");
    }

    #[test]
    fn a_programs_own_symbols_are_found() {
        let symbols = Symbols::of_program(&std::env::current_exe().unwrap()).unwrap();
        // All else may be part of another function, in a program that is made to be fast.
        assert!(symbols.0.iter().any(|(_, name)| name == "main"));
    }

    #[test]
    fn files_are_known_by_their_maps() {
        let files = Files::parse(
            "7f00-8000 r--p 00000000 00:01 9    /tmp/prog\n8000-9000 r-xp 00000100 00:01 9    /tmp/prog\n\
             9000-9100 rw-p 00000000 00:00 0\na000-b000 r-xp 00000000 00:00 0    [vdso]\nnoise\n",
        );
        assert_eq!(files.name(0x8010), "prog");
        assert_eq!(files.name(0xa000), "[vdso]");
        assert_eq!(files.name(0x9000), "unknown");
        assert_eq!(files.within("prog", 0x8010), Some(0x110));
        assert_eq!(files.within("prog", 0xa000), None);
        assert_eq!(files.within("other", 0x8010), None);
    }
}
