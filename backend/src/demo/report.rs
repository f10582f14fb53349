//! What the demo says at its end, for people and for programs.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::job::Figures;

/// The one thing that must not be misunderstood.
const SIMULATED: &str = "Xen was simulated in this process; these figures say nothing about a real Xen host.";

/// The figures of one job.
#[derive(Clone, Debug, Serialize)]
pub struct JobReport {
    /// What was done.
    pub job: &'static str,
    /// Commands a second.
    pub iops: f64,
    /// Mebibytes a second.
    pub mib_per_s: f64,
    /// From submission to answer, in microseconds.
    pub latency_us: Latency,
}

/// Latencies in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 99 of 100 take no longer.
    pub p99: f64,
    /// 999 of 1000 take no longer.
    pub p99_9: f64,
    /// The longest.
    pub max: f64,
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Bytes of the disk.
    pub disk_bytes: u64,
    /// The jobs, in order.
    pub jobs: Vec<JobReport>,
    /// Bytes read and found to be what was written. A report is made only when all were.
    pub verified_bytes: u64,
    /// Commands that read them.
    pub verified_reads: u64,
    /// That Xen was simulated, in a sentence.
    pub note: &'static str,
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl JobReport {
    /// Sums up what was measured.
    #[must_use]
    pub fn new(job: &'static str, figures: &Figures) -> Self {
        let seconds = figures.took.as_secs_f64().max(f64::MIN_POSITIVE);
        let latencies = &figures.latencies;
        Self {
            job,
            iops: latencies.count() as f64 / seconds,
            mib_per_s: mib(figures.bytes) / seconds,
            latency_us: Latency {
                mean: micros(latencies.mean()),
                p50: micros(latencies.quantile(500)),
                p99: micros(latencies.quantile(990)),
                p99_9: micros(latencies.quantile(999)),
                max: micros(latencies.max()),
            },
        }
    }
}

impl Report {
    /// A report without jobs.
    #[must_use]
    pub fn new(disk_bytes: u64) -> Self {
        Self { disk_bytes, jobs: Vec::new(), verified_bytes: 0, verified_reads: 0, note: SIMULATED }
    }

    /// Writes it as a table.
    ///
    /// # Errors
    ///
    /// As the writer.
    pub fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{:<22}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
            "job", "IOPS", "MiB/s", "mean us", "p50", "p99", "p99.9", "max"
        )?;
        for JobReport { job, iops, mib_per_s, latency_us: Latency { mean, p50, p99, p99_9, max } } in
            &self.jobs
        {
            writeln!(
                out,
                "{job:<22}{iops:>9.0}{mib_per_s:>9.1}{mean:>9.1}{p50:>9.1}{p99:>9.1}{p99_9:>9.1}{max:>9.1}"
            )?;
        }
        writeln!(
            out,
            "Verified: {:.1} MiB read back by {} commands, every byte as it was written.",
            mib(self.verified_bytes),
            self.verified_reads
        )?;
        writeln!(out, "{SIMULATED}")
    }

    /// Writes it as one JSON object.
    ///
    /// # Errors
    ///
    /// As the writer.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }
}
