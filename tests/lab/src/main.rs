//! The lab: the real Xen hypervisor, dom0, xenstored, xl and Linux's own xen-scsifront, in QEMU's software emulation, on a
//! machine that has none of them. It needs nothing but Debian's packages.
//!
//! `cargo lab test` is the answer to "does it work on Xen"; `cargo lab bench` to "is it faster than the kernel's backend".

mod bench;
mod headers;
mod image;
mod program;
mod qemu;
mod report;
mod scenario;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use image::{Dist, Image};
use report::Tally;
use scenario::{Backend, Run, Test};
use tools::{Need, Outcome};

/// Boots the real Xen in QEMU, to test and measure xen-pvscsi.
///
/// Exit status: 0 all is well, 1 something failed, 2 the command line is wrong.
#[derive(Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the image that all scenarios boot (once; about two minutes)
    Image {
        #[command(flatten)]
        dist: DistArgument,
    },
    /// Boot one scenario and show what it says
    Run {
        /// A directory of tests/lab/scenarios
        scenario: String,
        /// Keep the directory that dom0 shares with this machine
        #[arg(long)]
        keep: bool,
        /// Which backend serves the guests
        #[arg(long, value_enum, default_value_t = Backend::Ours)]
        backend: Backend,
        #[command(flatten)]
        dist: DistArgument,
    },
    /// Run all tests, or those named
    Test {
        /// Names of tests
        #[arg(value_enum)]
        names: Vec<Test>,
        #[command(flatten)]
        dist: DistArgument,
    },
    /// Compare our layouts and constants with the C headers (no boot)
    Headers,
    /// Measure xen-pvscsi and the kernel's xen-scsiback, in turn
    Bench {
        /// Fewer I/Os: a first idea, with more noise
        #[arg(long)]
        quick: bool,
        #[command(flatten)]
        dist: DistArgument,
    },
}

#[derive(clap::Args)]
struct DistArgument {
    /// Which Debian to take Xen and Linux from
    #[arg(long, value_enum, default_value_t = Dist::Bookworm)]
    dist: Dist,
}

fn main() -> ExitCode {
    match work(Arguments::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("lab: {why}");
            ExitCode::FAILURE
        }
    }
}

fn work(verb: Verb) -> Outcome<bool> {
    match verb {
        Verb::Image { dist } => {
            let image = Image::get(dist.dist)?;
            println!("{}", image.dir().display());
            Ok(true)
        }
        Verb::Run { scenario, keep, backend, dist } => {
            let run = Run { scenario: &scenario, backend, keep, ..Run::default() };
            let image = ready(dist.dist)?;
            let mut programs = program::for_backend(backend)?;
            programs.extend(program::package_for(&scenario)?);
            Ok(finish(&scenario::judge(&run, &image, &programs)?))
        }
        Verb::Test { names, dist } => {
            let names = if names.is_empty() { Test::value_variants() } else { &names };
            test(names, dist.dist)
        }
        Verb::Headers => Ok(finish(&headers::compare()?)),
        Verb::Bench { quick, dist } => {
            let image = ready(dist.dist)?;
            let programs = program::build()?;
            bench::run(&image, &programs, quick)?;
            Ok(true)
        }
    }
}

fn test(names: &[Test], dist: Dist) -> Outcome<bool> {
    let mut tally = Tally::default();
    if names.contains(&Test::Headers) {
        tally.add(&headers::compare()?);
    }
    let boots: Vec<_> = names.iter().filter_map(|test| Some((test.scenario()?, *test))).collect();
    if !boots.is_empty() {
        let image = ready(dist)?;
        let programs = program::build()?;
        for (scenario, test) in boots {
            let (clock, reboots) = (test.clock(), test.reboots());
            let run = Run { scenario, clock, reboots, ..Run::default() };
            let mut programs = programs.clone();
            programs.extend(program::package_for(scenario)?);
            tally.add(&scenario::judge(&run, &image, &programs)?);
        }
    }
    Ok(finish(&tally))
}

/// What every boot needs.
fn ready(dist: Dist) -> Outcome<Image> {
    tools::ensure(Need::Boot)?;
    Image::get(dist)
}

/// The closing line, alone on its line so that a machine finds it, and whether all went well.
fn finish(tally: &Tally) -> bool {
    println!("\n{tally}");
    tally.all_well()
}
