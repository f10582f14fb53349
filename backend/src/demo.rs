//! `xen-pvscsi demo`: the real worker at work for a simulated guest. No Xen, no root, no device.
//!
//! The guest fills a disk in memory, reads it back, then reads and writes at random at several sizes and depths, and at
//! last reads everything once more. Every byte that it reads is compared with what it wrote there.

mod content;
mod histogram;
mod job;
mod report;
#[cfg(test)]
mod tests;
mod vhost;

pub use content::Difference;
pub use report::{JobReport, Latency, Report};
pub use vhost::SimVhost;

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use pvscsi_guestmem::PAGE_SIZE;
use pvscsi_ring::Nexus;
use pvscsi_sg::disk::{DEFAULT_MAX_TRANSFER, DiskIdentity, EmulatedDisk, Medium, MediumError};
use pvscsi_sg::{LogicalUnit, ReactorKind};
use pvscsi_sim::frontend::Complaint;

use crate::control::WorkerError;
use crate::limits::TimeLimits;
use job::{Course, Guest, Job};

/// Where the demo's disk is, in the words of both ends.
const DISK: Nexus = Nexus { channel: 0, id: 0, lun: 0 };
const FRONT_DISK: pvscsi_sim::frontend::Nexus = pvscsi_sim::frontend::Nexus { channel: 0, id: 0, lun: 0 };

/// Pages of the longest command: 127 segments, which need an indirect list.
const LONGEST: usize = 127;

/// What the user chooses.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Seconds for each job
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Bytes of the disk, from 16M to 16G; K, M and G are powers of 1024
    #[arg(long, value_name = "BYTES", default_value = "64M", value_parser = parse_size)]
    pub size: u64,
    /// Write JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// It is a failure, or says that bytes are missing.
    #[error("it ended with rslt {rslt:#010x}, {residual} bytes missing, sense {sense:02x?}")]
    Failed {
        /// As in the response.
        rslt: i32,
        /// As in the response.
        residual: u32,
        /// As in the response.
        sense: Vec<u8>,
    },
    /// The data is not what was written there.
    #[error("byte {} of it was written as {:#04x} and read as {:#04x}", .0.at, .0.written, .0.read)]
    Data(Difference),
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// There is no disk.
    #[error(transparent)]
    Disk(#[from] MediumError),
    /// There is no worker.
    #[error("cannot start the worker: {0}")]
    Start(io::Error),
    /// The worker did not end well.
    #[error("the worker failed: {0}")]
    Worker(#[from] WorkerError),
    /// The worker broke the protocol.
    #[error("the simulated guest does not accept what the worker did: {0}")]
    Complaint(Complaint),
    /// The worker fell silent.
    #[error("job {job:?}: no answer, with {in_flight} commands under way")]
    NoAnswer {
        /// The job.
        job: &'static str,
        /// Commands without an answer.
        in_flight: usize,
    },
    /// A command had the wrong answer.
    #[error("job {job:?}, command at byte {offset} of the disk: {what}")]
    Wrong {
        /// The job.
        job: &'static str,
        /// Where the command starts, in bytes.
        offset: u64,
        /// What is wrong.
        what: Wrong,
    },
    /// The result could not be written.
    #[error("cannot write the result: {0}")]
    Output(io::Error),
}

/// Runs the demo and writes its result to standard output; progress goes to standard error when that is a terminal.
///
/// # Errors
///
/// [`DemoError`]; above all when a byte read is not the one written.
pub fn run(options: &Options) -> Result<(), DemoError> {
    let disk =
        EmulatedDisk::new(Medium::ram(options.size)?, DiskIdentity::from_name("demo"), DEFAULT_MAX_TRANSFER);
    // Draws nothing where stderr is no terminal, and from a thread of its own where it is: not in the guest's time.
    let progress = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("{msg:22} [{bar:40}] {eta}") {
        progress.set_style(style.progress_chars("=> "));
    }
    progress.enable_steady_tick(Duration::from_millis(100));
    let report = measure(Box::new(disk), options.size, Duration::from_secs(options.seconds), &progress);
    progress.finish_and_clear();
    let report = report?;
    let mut out = io::stdout().lock();
    if options.json { report.write_json(&mut out) } else { report.write_table(&mut out) }
        .and_then(|()| out.flush())
        .map_err(DemoError::Output)
}

/// The jobs, in order.
fn jobs(each: Duration) -> Vec<Job> {
    let once = |name, write| Job { name, write, pages: LONGEST, depth: 4, course: Course::Once };
    let random = |name, write, pages, depth| Job { name, write, pages, depth, course: Course::Random(each) };
    vec![
        once("fill 508k, depth 4", true),
        once("read back 508k, depth 4", false),
        random("read 4k, depth 1", false, 1, 1),
        random("write 4k, depth 1", true, 1, 1),
        random("read 4k, depth 10", false, 1, 10),
        random("write 4k, depth 10", true, 1, 10),
        random("read 64k, depth 4", false, 16, 4),
        random("write 64k, depth 4", true, 16, 4),
        random("read 508k, depth 4", false, LONGEST, 4),
        random("write 508k, depth 4", true, LONGEST, 4),
        once("read all 508k, depth 4", false),
    ]
}

/// Does all jobs on a disk of `bytes` bytes.
fn measure(
    disk: Box<dyn LogicalUnit>,
    bytes: u64,
    each: Duration,
    progress: &ProgressBar,
) -> Result<Report, DemoError> {
    let mut vhost = SimVhost::start(ReactorKind::Auto, 0, vec![(DISK, disk)], TimeLimits::default())
        .map_err(DemoError::Start)?;
    let report = measure_on(&mut vhost, bytes, each, progress);
    let stopped = vhost.stop();
    let report = report?;
    stopped?;
    Ok(report)
}

fn measure_on(
    vhost: &mut SimVhost,
    bytes: u64,
    each: Duration,
    progress: &ProgressBar,
) -> Result<Report, DemoError> {
    let pages = usize::try_from(bytes).unwrap_or(usize::MAX) / PAGE_SIZE;
    let mut guest = Guest::new(&mut vhost.frontend, pages);
    let mut report = Report::new(bytes);
    let jobs = jobs(each);
    let timed = jobs.iter().filter(|job| matches!(job.course, Course::Random(_))).count();
    let millis = each.as_millis().saturating_mul(timed as u128);
    progress.set_length(u64::try_from(millis).unwrap_or(u64::MAX));
    for job in &jobs {
        progress.set_message(job.name);
        let figures = guest.run(job, progress)?;
        if !job.write {
            report.verified_bytes = report.verified_bytes.saturating_add(figures.bytes);
            report.verified_reads = report.verified_reads.saturating_add(figures.latencies.count());
        }
        report.jobs.push(JobReport::new(job.name, &figures));
    }
    Ok(report)
}

/// Reads a number of bytes: whole pages, 16 MiB (more than sixteen of the longest commands) to 16 GiB.
fn parse_size(text: &str) -> Result<u64, String> {
    let units = [(['K', 'k'], 1_u64 << 10), (['M', 'm'], 1 << 20), (['G', 'g'], 1 << 30)];
    let suffixed = units.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(*suffix)?, *unit)));
    let (number, unit) = suffixed.unwrap_or((text, 1));
    let number: u64 = number.parse().map_err(|error| format!("{error}"))?;
    let bytes = number.saturating_mul(unit);
    if !(16 << 20..=16 << 30).contains(&bytes) {
        return Err("a disk of the demo has 16M to 16G".to_owned());
    }
    if !bytes.is_multiple_of(PAGE_SIZE as u64) {
        return Err(format!("not a multiple of {PAGE_SIZE} bytes"));
    }
    Ok(bytes)
}
