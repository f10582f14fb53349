//! The lab: the real Xen hypervisor, dom0, xenstored, xl and Linux's own xen-scsifront, in QEMU's software emulation, on a
//! machine that has none of them. It needs nothing but Debian's packages.
//!
//! `cargo lab test` is the answer to "does it work on Xen"; `cargo lab bench` to "is it faster than the kernel's backend".

mod bench;
mod headers;
mod image;
mod profile;
mod program;
mod qemu;
mod report;
mod scenario;
mod symbols;
mod tools;

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;

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
    /// Build an image for scenarios to boot (once; about two minutes)
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
        /// Machines at once, of those that wait more than they work; two, if there are processors and memory for them, when it is
        /// not given
        #[arg(long, value_name = "N")]
        jobs: Option<usize>,
        #[command(flatten)]
        dist: DistArgument,
    },
    /// Compare our layouts and constants with the C headers (no boot)
    Headers,
    /// Measure xen-pvscsi and other backends, in turn
    Bench {
        #[command(flatten)]
        options: bench::Options,
        #[command(flatten)]
        dist: DistArgument,
    },
    /// Count where the machine's instructions go in one job of the benchmark, by domain and function
    Profile {
        /// The job, as the benchmark's table calls it
        #[arg(long, default_value = "randread 4k qd10")]
        job: String,
        /// Which backend serves the guest
        #[arg(long, value_enum, default_value_t = Backend::Ours)]
        backend: Backend,
        /// Options for xen-pvscsi serve, such as '--engine sg-uring'
        #[arg(long, value_name = "OPTIONS", default_value = "", allow_hyphen_values = true)]
        serve: String,
        #[command(flatten)]
        dist: DistArgument,
    },
}

#[derive(clap::Args)]
struct DistArgument {
    /// Which Debian to take Xen and Linux from; if it is not given, bookworm, or what the test needs
    #[arg(long, value_enum)]
    dist: Option<Dist>,
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
            let image = Image::get(dist.dist.unwrap_or_default())?;
            println!("{}", image.dir().display());
            Ok(true)
        }
        Verb::Run { scenario, keep, backend, dist } => {
            let test = Test::value_variants().iter().find(|test| test.scenario() == Some(scenario.as_str()));
            let like = test.map_or_else(Run::default, |test| Run::like(*test));
            let run = Run { scenario: &scenario, backend, keep, ..like };
            let image =
                ready(dist.dist.unwrap_or_else(|| test.map_or_else(Dist::default, |test| test.dist())))?;
            let mut programs = program::for_backend(backend)?;
            programs.extend(program::package_for(&scenario)?);
            Ok(finish(&scenario::judge(&run, &image, &programs)?))
        }
        Verb::Test { names, jobs, dist } => {
            let names = if names.is_empty() { Test::value_variants() } else { &names };
            test(names, dist.dist, jobs.unwrap_or_else(machines))
        }
        Verb::Headers => Ok(finish(&headers::compare()?)),
        Verb::Bench { options, dist } => {
            let image = ready(dist.dist.unwrap_or_default())?;
            let programs = program::build()?;
            bench::run(&image, &programs, &options)?;
            Ok(true)
        }
        Verb::Profile { job, backend, serve, dist } => {
            profile::run(&ready(dist.dist.unwrap_or_default())?, backend, &serve, &job)?;
            Ok(true)
        }
    }
}

fn test(names: &[Test], dist: Option<Dist>, jobs: usize) -> Outcome<bool> {
    let mut tally = Tally::default();
    if names.contains(&Test::Headers) {
        tally.add(&headers::compare()?);
    }
    let mut boots = Vec::new();
    for test in names {
        let Some(scenario) = test.scenario() else { continue };
        let image = ready(dist.unwrap_or_else(|| test.dist()))?;
        boots.push((scenario, *test, image, program::package_for(scenario)?));
    }
    if boots.is_empty() {
        return Ok(finish(&tally));
    }
    let programs = program::build()?;
    let boot = |(scenario, test, image, package): Boot| {
        let run = Run { scenario, clock: test.clock(), ..Run::like(test) };
        let programs: Vec<_> = programs.iter().cloned().chain(package).collect();
        scenario::judge(&run, &image, &programs)
    };
    let (busy, others): (Vec<_>, Vec<_>) = boots.into_iter().partition(|(_, test, ..)| test.is_busy());
    for (boots, jobs) in [(busy, 1), (others, jobs)] {
        tally.add(&at_once(boots, jobs, &boot)?);
    }
    Ok(finish(&tally))
}

/// What a boot needs to know: the scenario, as a test, its image, and the package if it is about that.
type Boot = (&'static str, Test, Image, Option<PathBuf>);

/// Boots all of these, so many at once.
fn at_once(boots: Vec<Boot>, jobs: usize, boot: &(impl Fn(Boot) -> Outcome<Tally> + Sync)) -> Outcome<Tally> {
    let boots = Mutex::new(VecDeque::from(boots));
    let next = || boots.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || -> Outcome<Tally> {
        let mut tally = Tally::default();
        while let Some(one) = next() {
            tally.add(&boot(one)?);
        }
        Ok(tally)
    };
    let done: Vec<Outcome<Tally>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err("a boot panicked".into())))
            .collect()
    });
    let mut tally = Tally::default();
    for one in done {
        tally.add(&one?);
    }
    Ok(tally)
}

/// Machines at once that this one has processors and memory for, when they wait more than they work.
fn machines() -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse().ok());
    let by_memory = available.unwrap_or(0_usize) / qemu::MEMORY_KIB;
    processors.min(by_memory).clamp(1, 2)
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
