//! xen-pvscsi against other backends on the same device, in the same boot, in turn.
//!
//! Two boots: one on the wall's clock with a core for dom0 and one for the guest, for I/Os per second; one where an
//! instruction takes a nanosecond, for instructions per I/O. Ratios are what counts: the machine is an emulated one.

mod plot;
mod results;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::image::Image;
use crate::qemu::{self, End};
use crate::scenario::{self, Run};
use crate::tools::{self, Outcome, at};
use results::{Measure, Results};

/// How long a guest may take, on a slow machine.
const LIMIT: Duration = Duration::from_secs(450);
/// How often each backend has its turn.
const ROUNDS: usize = 2;

/// Who serves a guest its disk. In the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Backend {
    /// xen-pvscsi, and the disk through sg
    Ours,
    /// The same, without looking for requests before it sleeps
    OursNoPolling,
    /// xen-pvscsi, with a disk of its own on the block device
    OursBlock,
    /// Linux's xen-scsiback over LIO pscsi
    Kernel,
    /// Linux's xen-blkback: no SCSI
    Blkback,
}

impl Backend {
    /// What the command line and the scenario call it.
    fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self)
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Which boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Clock {
    /// I/Os per second, on a quiet machine
    Wall,
    /// Instructions per I/O, whatever else the machine does
    Instructions,
    /// One after the other
    Both,
}

/// What to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Fewer I/Os: a first idea, with more noise
    #[arg(long)]
    quick: bool,
    /// Which backends, in turn, two rounds of each
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "ours,ours-block,kernel,blkback"
    )]
    backends: Vec<Backend>,
    /// By which clock: one boot, or two
    #[arg(long, value_enum, default_value = "both")]
    clock: Clock,
}

/// Measures, prints tables in Markdown, and writes `bench.json` and a plot of each boot.
///
/// # Errors
///
/// When a boot fails, or a backend did not do all of its rounds.
pub fn run(image: &Image, programs: &[PathBuf], options: &Options) -> Outcome<()> {
    let mut backends = options.backends.clone();
    backends.sort_unstable();
    backends.dedup();
    let dir = tools::work_dir();
    let mut all = json!({ "quick": options.quick });
    let mut tables = String::new();
    for (measure, clock, other) in [
        (Measure::Speed, qemu::Clock::Wall, Clock::Instructions),
        (Measure::Instructions, qemu::Clock::Instructions, Clock::Wall),
    ] {
        if options.clock == other {
            continue;
        }
        let results = boot(image, programs, &backends, options.quick, clock)?;
        tables.push_str(&results.tables(measure));
        write(&dir.join(measure.file()), &plot::bars(&results, measure))?;
        if let Some(all) = all.as_object_mut() {
            all.insert(measure.name().to_owned(), results.json(measure));
        }
    }
    println!("\n{tables}");
    write(&dir.join("bench.json"), &format!("{all:#}\n"))?;
    println!("bench: figures and plots in {}/bench*", dir.display());
    Ok(())
}

fn write(file: &Path, text: &str) -> Outcome<()> {
    fs::write(file, text).map_err(at(file))
}

fn boot(
    image: &Image,
    programs: &[PathBuf],
    backends: &[Backend],
    quick: bool,
    clock: qemu::Clock,
) -> Outcome<Results> {
    let names: Vec<_> = backends.iter().map(|backend| backend.name()).collect();
    let rounds = vec![names.join(" "); ROUNDS].join(" ");
    let rounds = format!("ROUNDS='{rounds}'");
    // System calls do not depend on the clock; one boot counts them.
    let trace = clock == qemu::Clock::Instructions && backends.contains(&Backend::Ours);
    let variables = [
        if quick { "QUICK=1" } else { "QUICK=" },
        if trace { "TRACE=1" } else { "TRACE=" },
        "PROFILE=",
        &rounds,
    ];
    let guests = backends.len().saturating_mul(ROUNDS).saturating_add(1);
    let limit = LIMIT.saturating_mul(u32::try_from(guests).unwrap_or(u32::MAX));
    let run = Run { scenario: "bench", limit, clock, pinned: true, variables: &variables, ..Run::default() };
    let record = scenario::boot(&run, image, programs)?;
    if let Some(trouble) = record.crashes.first() {
        return Err(format!("{trouble}; logs in {}", record.dir.display()));
    }
    if let End::Broken(why) = record.end {
        return Err(format!("{why}; logs in {}", record.dir.display()));
    }
    let results = Results::parse(&record.report)?;
    results.complete(backends, ROUNDS, trace)?;
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_knows_every_backend_by_name() {
        let script = fs::read_to_string(tools::lab_dir().join("scenarios/bench/dom0.sh")).unwrap();
        for backend in <Backend as clap::ValueEnum>::value_variants() {
            let name = backend.name();
            let word = name.strip_prefix("ours").filter(|rest| !rest.is_empty()).unwrap_or(&name);
            assert!(script.contains(word), "{name}");
        }
    }
}
