//! xen-pvscsi against the kernel's xen-scsiback over LIO, on the same device, in the same boot, in turn.
//!
//! Two boots: one on the wall's clock with a core for dom0 and one for the guest, for I/Os per second; one where an
//! instruction takes a nanosecond, for instructions per I/O. Ratios are what counts: the machine is an emulated one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::image::Image;
use crate::qemu::{Clock, End};
use crate::scenario::{self, Run};
use crate::tools::{self, Outcome, at};

/// Four guests, one after the other, and one of them may be slow.
const LIMIT: Duration = Duration::from_secs(1800);

/// What one backend did in one job, a value for each round.
type Rounds = Vec<f64>;

/// By job, in the order of the job's first appearance, then by backend.
#[derive(Default, Debug, PartialEq)]
struct Results {
    jobs: Vec<String>,
    values: BTreeMap<(String, String), Rounds>,
}

/// Measures, prints a table in Markdown, and writes `bench.json`.
///
/// # Errors
///
/// When a boot fails, or a backend did not do all of its rounds.
pub fn run(image: &Image, programs: &[PathBuf], quick: bool) -> Outcome<()> {
    let wall = measure(image, programs, quick, Clock::Wall)?;
    let exact = measure(image, programs, quick, Clock::Instructions)?;
    println!("\n{}", table(&wall, &exact)?);
    let file = tools::work_dir().join("bench.json");
    let all =
        json!({ "quick": quick, "iops": json_of(&wall), "thousand_instructions_per_io": json_of(&exact) });
    fs::write(&file, format!("{all:#}\n")).map_err(at(&file))?;
    println!("bench: figures in {}", file.display());
    Ok(())
}

fn measure(image: &Image, programs: &[PathBuf], quick: bool, clock: Clock) -> Outcome<Results> {
    let variables = [if quick { "QUICK=1" } else { "QUICK=" }, "PROFILE="];
    let run =
        Run { scenario: "bench", limit: LIMIT, clock, pinned: true, variables: &variables, ..Run::default() };
    let record = scenario::boot(&run, image, programs)?;
    if let Some(trouble) = record.crashes.first() {
        return Err(format!("{trouble}; logs in {}", record.dir.display()));
    }
    if let End::Broken(why) = record.end {
        return Err(format!("{why}; logs in {}", record.dir.display()));
    }
    let results = parse(&record.report)?;
    // 1 ns is one instruction: 10^9 / IOPS of them for each I/O.
    let convert = |iops: f64| if clock == Clock::Instructions { 1e6 / iops } else { iops };
    let values = results.values.into_iter().map(|(k, v)| (k, v.into_iter().map(convert).collect())).collect();
    Ok(Results { values, ..results })
}

/// Reads the lines `LAB ROUND backend` and, after each, `LAB BENCH job iops`.
fn parse(report: &str) -> Outcome<Results> {
    let (mut results, mut backend) = (Results::default(), None);
    for line in report.lines() {
        if let Some(name) = line.strip_prefix("LAB ROUND ") {
            backend = Some(name.to_owned());
        } else if let Some(figure) = line.strip_prefix("LAB BENCH ") {
            let backend = backend.clone().ok_or("a figure before the first round")?;
            let (job, iops) = figure.rsplit_once(' ').ok_or_else(|| format!("no figure: {line}"))?;
            let iops: f64 = iops.parse().map_err(|e| format!("{line}: {e}"))?;
            if iops <= 0.0 {
                return Err(format!("{backend} did nothing in {job}"));
            }
            if !results.jobs.iter().any(|known| known == job) {
                results.jobs.push(job.to_owned());
            }
            results.values.entry((job.to_owned(), backend)).or_default().push(iops);
        } else if let Some(failure) = line.strip_prefix("LAB FAIL ") {
            return Err(failure.to_owned());
        }
    }
    for job in &results.jobs {
        for backend in ["ours", "kernel"] {
            match results.values.get(&(job.clone(), backend.into())).map_or(0, Vec::len) {
                2.. => {}
                n => return Err(format!("{backend} has {n} rounds of {job}, not two")),
            }
        }
    }
    if results.jobs.is_empty() { Err("the benchmark gave no figures".into()) } else { Ok(results) }
}

/// Mean and spread, the latter as half the width in percent of the mean.
fn summary(rounds: &[f64]) -> (f64, f64) {
    let (low, high) = rounds.iter().fold((f64::MAX, f64::MIN), |(low, high), &v| (low.min(v), high.max(v)));
    let mean = rounds.iter().sum::<f64>() / f64::from(u32::try_from(rounds.len()).unwrap_or(u32::MAX));
    (mean, 50.0 * (high - low) / mean)
}

fn table(wall: &Results, exact: &Results) -> Outcome<String> {
    let mut out = String::from(
        "| job | ours IOPS | kernel IOPS | ratio | ours K instr/IO | kernel K instr/IO | ratio |\n|---|---|---|---|---|---|---|\n",
    );
    for job in &wall.jobs {
        let _ = write!(out, "| {job} |");
        for results in [wall, exact] {
            let of = |backend: &str| {
                let rounds = results.values.get(&(job.clone(), backend.into()));
                rounds.map(|rounds| summary(rounds)).ok_or_else(|| format!("{job}: no figures of {backend}"))
            };
            let ((ours, ours_spread), (kernel, kernel_spread)) = (of("ours")?, of("kernel")?);
            let ratio = ours / kernel;
            let _ = write!(
                out,
                " {ours:.0} ±{ours_spread:.0}% | {kernel:.0} ±{kernel_spread:.0}% | {ratio:.2} |"
            );
        }
        out.push('\n');
    }
    Ok(out)
}

fn json_of(results: &Results) -> serde_json::Value {
    results
        .values
        .iter()
        .map(|((job, backend), rounds)| json!({ "job": job, "backend": backend, "rounds": rounds }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "LAB ROUND ours\nLAB BENCH read 4k qd1 300\nLAB ROUND kernel\nLAB BENCH read 4k qd1 100\n\
        LAB ROUND ours\nLAB BENCH read 4k qd1 500\nLAB ROUND kernel\nLAB BENCH read 4k qd1 100\n";

    #[test]
    fn rounds_are_gathered_by_job_and_backend() {
        let results = parse(REPORT).unwrap();
        let table = table(&results, &results).unwrap();
        assert!(
            table.ends_with("| read 4k qd1 | 400 ±25% | 100 ±0% | 4.00 | 400 ±25% | 100 ±0% | 4.00 |\n"),
            "{table}"
        );
    }

    #[test]
    fn a_missing_round_is_an_error() {
        let (short, _) = REPORT.rsplit_once("LAB ROUND").unwrap();
        assert!(parse(short).unwrap_err().contains("kernel has 1 rounds"));
        assert!(parse("").is_err());
        assert!(parse(&format!("{REPORT}LAB FAIL served: why")).is_err());
        assert!(parse(&REPORT.replace(" 300", " 0")).is_err(), "a job that did nothing");
    }
}
