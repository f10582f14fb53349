//! What a boot of the benchmark said, and its tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::Backend;
use crate::tools::Outcome;

/// Seconds that the scenario looks at an idle backend.
const IDLE: u32 = 10;
/// `IOCTL_GNTDEV_GRANT_COPY` of xen/gntdev.h and `IOCTL_EVTCHN_NOTIFY` of xen/evtchn.h, as the histogram has them.
const GRANT_COPY: &str = "ioctl:104708";
const NOTIFY: &str = "ioctl:44504";

/// What a boot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// I/Os per second of the wall's time.
    Speed,
    /// Thousand instructions of the whole machine for each I/O.
    Instructions,
}

impl Measure {
    /// Its key in the file of figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Speed => "wall",
            Self::Instructions => "instructions",
        }
    }

    /// The file of its plot.
    pub fn file(self) -> &'static str {
        match self {
            Self::Speed => "bench-iops.svg",
            Self::Instructions => "bench-instructions.svg",
        }
    }

    /// What its figures are.
    pub fn title(self) -> &'static str {
        match self {
            Self::Speed => "I/Os per second",
            Self::Instructions => "Thousand instructions per I/O",
        }
    }

    /// A figure of fio's in this measure: 1 ns is one instruction, so 10^9 / IOPS of them for each I/O.
    fn of(self, iops: f64) -> f64 {
        match self {
            Self::Speed => iops,
            Self::Instructions => 1e6 / iops,
        }
    }
}

/// What one backend did in one round of a job: I/Os per second, and microseconds that 50, 99 and 99.9 % of them took at most.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Figures {
    iops: f64,
    latency: [f64; 3],
}

/// What a backend's threads did while there was nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Idle {
    switches: u64,
    microseconds: u64,
}

/// System calls of our server in one job.
#[derive(Clone, Debug, Default, PartialEq)]
struct Calls {
    ios: f64,
    /// By name; `ioctl:NUMBER`, in hexadecimal, are part of `ioctl`.
    counts: BTreeMap<String, f64>,
}

/// All that one boot measured.
#[derive(Debug, Default, PartialEq)]
pub struct Results {
    /// In the order of their first appearance.
    pub jobs: Vec<String>,
    figures: BTreeMap<(String, Backend), Vec<Figures>>,
    idle: BTreeMap<Backend, Vec<Idle>>,
    calls: BTreeMap<String, Calls>,
}

impl Results {
    /// Reads the lines `LAB ROUND backend` and, after each, `LAB LATENCY job p50 p99 p99.9`, `LAB BENCH job iops` and
    /// `LAB IDLE switches microseconds`; and `LAB CALLS job name count` with `LAB COUNTED job ios`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or something failed.
    pub fn parse(report: &str) -> Outcome<Self> {
        let (mut results, mut backend, mut latency) = (Self::default(), None, None);
        for line in report.lines() {
            let Some((kind, rest)) = line.strip_prefix("LAB ").and_then(|line| line.split_once(' ')) else {
                continue;
            };
            let bad = || format!("cannot be read: {line}");
            match kind {
                "FAIL" => return Err(rest.to_owned()),
                "ROUND" => backend = Some(Backend::from_str(rest, false)?),
                "LATENCY" => latency = Some(last(rest).ok_or_else(bad)?),
                "BENCH" => {
                    let backend = backend.ok_or("a figure before the first round")?;
                    let (job, [iops]) = last(rest).ok_or_else(bad)?;
                    let latency = latency.take().filter(|(of, _)| *of == job);
                    let (_, latency) = latency.ok_or_else(|| format!("no latency before: {line}"))?;
                    results.add(job, backend, Figures { iops, latency })?;
                }
                "IDLE" => {
                    let backend = backend.ok_or("an idle time before the first round")?;
                    let idle = rest.split_once(' ').and_then(|(switches, microseconds)| {
                        Some(Idle {
                            switches: switches.parse().ok()?,
                            microseconds: microseconds.parse().ok()?,
                        })
                    });
                    results.idle.entry(backend).or_default().push(idle.ok_or_else(bad)?);
                }
                "CALLS" => {
                    let (what, [count]) = last(rest).ok_or_else(bad)?;
                    let (job, name) = what.rsplit_once(' ').ok_or_else(bad)?;
                    let name = name.strip_prefix("sys_").unwrap_or(name).to_owned();
                    results.calls.entry(job.to_owned()).or_default().counts.insert(name, count);
                }
                "COUNTED" => {
                    let (job, [ios]) = last(rest).ok_or_else(bad)?;
                    results.calls.entry(job.to_owned()).or_default().ios = ios;
                }
                _ => {}
            }
        }
        Ok(results)
    }

    fn add(&mut self, job: &str, backend: Backend, figures: Figures) -> Outcome<()> {
        if figures.iops <= 0.0 {
            return Err(format!("{} did nothing in {job}", backend.name()));
        }
        if !self.jobs.iter().any(|known| known == job) {
            self.jobs.push(job.to_owned());
        }
        self.figures.entry((job.to_owned(), backend)).or_default().push(figures);
        Ok(())
    }

    /// Whether everything that was asked for is there.
    ///
    /// # Errors
    ///
    /// Names what is missing.
    pub fn complete(&self, backends: &[Backend], rounds: usize, calls: bool) -> Outcome<()> {
        for &backend in backends {
            let name = backend.name();
            for job in &self.jobs {
                let found = self.figures.get(&(job.clone(), backend)).map_or(0, Vec::len);
                if found != rounds {
                    return Err(format!("{name} has {found} rounds of {job}, not {rounds}"));
                }
            }
            if self.idle.get(&backend).map_or(0, Vec::len) != rounds {
                return Err(format!("nobody looked at {name} when it was idle"));
            }
        }
        if calls && self.calls.is_empty()
            || self.calls.values().any(|calls| calls.ios <= 0.0 || calls.counts.is_empty())
        {
            return Err("no system calls were counted".into());
        }
        if self.jobs.is_empty() { Err("the benchmark gave no figures".into()) } else { Ok(()) }
    }

    /// Those that were measured, in the order of the tables.
    pub fn backends(&self) -> Vec<Backend> {
        self.idle.keys().copied().collect()
    }

    /// The one that the others are compared with.
    pub fn base(&self) -> Option<Backend> {
        let backends = self.backends();
        [Backend::Kernel, Backend::Blkback]
            .into_iter()
            .find(|wanted| backends.contains(wanted))
            .or_else(|| backends.first().copied())
    }

    /// Mean over the rounds, and spread, the latter as half the width in percent of the mean.
    fn summary(&self, job: &str, backend: Backend, of: impl Fn(&Figures) -> f64) -> Option<(f64, f64)> {
        let rounds: Vec<_> = self.figures.get(&(job.to_owned(), backend))?.iter().map(of).collect();
        let (low, high) =
            rounds.iter().fold((f64::MAX, f64::MIN), |(low, high), &v| (low.min(v), high.max(v)));
        let mean = rounds.iter().sum::<f64>() / f64::from(u32::try_from(rounds.len()).unwrap_or(u32::MAX));
        Some((mean, 50.0 * (high - low) / mean))
    }

    /// What a backend's figure is of the one that it is compared with.
    pub fn ratio(&self, job: &str, backend: Backend, measure: Measure) -> Option<f64> {
        let mean = |backend| self.summary(job, backend, |figures| measure.of(figures.iops));
        Some(mean(backend)?.0 / mean(self.base()?)?.0)
    }

    /// All tables of the boot, in Markdown.
    pub fn tables(&self, measure: Measure) -> String {
        let backends = self.backends();
        let base = self.base();
        let mut out =
            format!("{} (as a part of {}'s)", measure.title(), base.map_or_else(String::new, Backend::name));
        if measure == Measure::Speed {
            out.push_str(", 99 % done within µs");
        }
        out.push_str(":\n\n| job |");
        for backend in &backends {
            let _ = write!(out, " {} |", backend.name());
        }
        let _ = writeln!(out, "\n|---|{}", "---|".repeat(backends.len()));
        for job in &self.jobs {
            let _ = write!(out, "| {job} |");
            for &backend in &backends {
                if let Some((mean, spread)) = self.summary(job, backend, |figures| measure.of(figures.iops)) {
                    let _ = write!(out, " {mean:.0} ±{spread:.0}%");
                }
                if let Some(ratio) = self.ratio(job, backend, measure).filter(|_| Some(backend) != base) {
                    let _ = write!(out, " ({ratio:.2})");
                }
                if let Some((p99, _)) = self
                    .summary(job, backend, |figures| figures.latency[1])
                    .filter(|_| measure == Measure::Speed)
                {
                    let _ = write!(out, ", {p99:.0}");
                }
                out.push_str(" |");
            }
            out.push('\n');
        }
        let _ = writeln!(out, "\n{}\n", self.idle_line());
        if !self.calls.is_empty() {
            out.push_str(&self.calls_table());
        }
        out
    }

    fn idle_line(&self) -> String {
        let of = |(backend, rounds): (&Backend, &Vec<Idle>)| {
            let idle: Vec<_> =
                rounds.iter().map(|idle| format!("{} ({} µs)", idle.switches, idle.microseconds)).collect();
            format!("{} {}", backend.name(), idle.join(", "))
        };
        let all: Vec<_> = self.idle.iter().map(of).collect();
        format!(
            "Context switches (CPU time) of its threads in {IDLE} idle seconds of each round: {}.",
            all.join("; ")
        )
    }

    fn calls_table(&self) -> String {
        let mut out = String::from(
            "System calls of `ours`:\n\n| job | system call | per I/O | per batch |\n|---|---|---|---|\n",
        );
        for (job, calls) in &self.calls {
            let batches = calls.counts.get(GRANT_COPY).copied().filter(|copies| *copies > 0.0);
            let mut row = |name: &str, count: f64| {
                let per_batch =
                    batches.map_or_else(|| "–".into(), |batches| format!("{:.2}", count / batches));
                let _ = writeln!(out, "| {job} | {name} | {:.3} | {per_batch} |", count / calls.ios);
            };
            let all = calls.counts.iter().filter(|(name, _)| !name.starts_with("ioctl:"));
            row("all", all.map(|(_, count)| count).sum());
            // What is done once or twice in a job is noise.
            for (name, count) in calls.counts.iter().filter(|(_, count)| **count / calls.ios >= 0.001) {
                let name = match name.as_str() {
                    GRANT_COPY => "ioctl, GRANT_COPY of them",
                    NOTIFY => "ioctl, NOTIFY of them",
                    name => name,
                };
                row(name, *count);
            }
        }
        out.push('\n');
        out
    }

    /// All figures.
    pub fn json(&self, measure: Measure) -> Value {
        let rounds: Vec<_> = self
            .figures
            .iter()
            .map(|((job, backend), rounds)| {
                let all = |of: &dyn Fn(&Figures) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
                let [p50, p99, p999] =
                    [0, 1, 2].map(|i| all(&|f| f.latency.get(i).copied().unwrap_or_default()));
                json!({
                    "job": job, "backend": backend.name(), "rounds": all(&|f| measure.of(f.iops)),
                    "p50_us": p50, "p99_us": p99, "p99.9_us": p999,
                })
            })
            .collect();
        let idle: Vec<_> = self
            .idle
            .iter()
            .map(|(backend, rounds)| {
                let switches: Vec<_> = rounds.iter().map(|idle| idle.switches).collect();
                let microseconds: Vec<_> = rounds.iter().map(|idle| idle.microseconds).collect();
                json!({ "backend": backend.name(), "seconds": IDLE, "switches": switches, "cpu_us": microseconds })
            })
            .collect();
        let calls: Vec<_> = self
            .calls
            .iter()
            .map(|(job, calls)| json!({ "job": job, "ios": calls.ios, "counts": calls.counts }))
            .collect();
        json!({ "unit": measure.title(), "figures": rounds, "idle": idle, "system_calls": calls })
    }
}

/// The numbers at the end of a line, and what is before them.
fn last<const N: usize>(line: &str) -> Option<(&str, [f64; N])> {
    let (mut line, mut numbers) = (line, [0.0; N]);
    for number in numbers.iter_mut().rev() {
        let (before, word) = line.rsplit_once(' ')?;
        *number = word.parse().ok()?;
        line = before;
    }
    Some((line, numbers))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Two rounds of two backends.
    pub const REPORT: &str = "LAB ROUND ours\nLAB IDLE 0 0\nLAB LATENCY read 4k qd1 10 20 30\nLAB BENCH read 4k qd1 300\n\
        LAB ROUND kernel\nLAB IDLE 3 40\nLAB LATENCY read 4k qd1 10 50 30\nLAB BENCH read 4k qd1 100\n\
        LAB ROUND ours\nLAB IDLE 0 0\nLAB LATENCY read 4k qd1 10 22 30\nLAB BENCH read 4k qd1 500\n\
        LAB ROUND kernel\nLAB IDLE 1 20\nLAB LATENCY read 4k qd1 10 50 30\nLAB BENCH read 4k qd1 100\n";
    const CALLS: &str = "LAB CALLS read 4k qd1 sys_ioctl 50\nLAB CALLS read 4k qd1 ioctl:104708 40\nLAB CALLS read 4k qd1 ioctl:44504 10\n\
        LAB CALLS read 4k qd1 sys_io_uring_enter 200\nLAB COUNTED read 4k qd1 100\n";
    const BOTH: [Backend; 2] = [Backend::Ours, Backend::Kernel];

    #[test]
    fn rounds_are_gathered_by_job_and_backend() {
        let results = Results::parse(REPORT).unwrap();
        results.complete(&BOTH, 2, false).unwrap();
        let table = results.tables(Measure::Speed);
        assert!(table.contains("| read 4k qd1 | 400 ±25% (4.00), 21 | 100 ±0%, 50 |\n"), "{table}");
        assert!(
            table.contains("of each round: ours 0 (0 µs), 0 (0 µs); kernel 3 (40 µs), 1 (20 µs).\n"),
            "{table}"
        );
        let table = results.tables(Measure::Instructions);
        assert!(table.contains("| read 4k qd1 | 2667 ±25% (0.27) | 10000 ±0% |\n"), "{table}");
    }

    #[test]
    fn latencies_and_idle_times_are_in_the_file() {
        let json = Results::parse(REPORT).unwrap().json(Measure::Speed);
        assert_eq!(json["figures"][0]["p99_us"], json!([20.0, 22.0]));
        assert_eq!(json["figures"][1]["p99.9_us"], json!([30.0, 30.0]));
        assert_eq!(json["idle"][1]["switches"], json!([3, 1]));
    }

    #[test]
    fn system_calls_are_told_by_io_and_by_batch() {
        let results = Results::parse(&format!("{REPORT}{CALLS}")).unwrap();
        results.complete(&BOTH, 2, true).unwrap();
        let table = results.tables(Measure::Instructions);
        for row in [
            "all | 2.500 | 6.25",
            "ioctl, GRANT_COPY of them | 0.400 | 1.00",
            "ioctl, NOTIFY of them | 0.100 | 0.25",
            "ioctl | 0.500 | 1.25",
            "io_uring_enter | 2.000 | 5.00",
        ] {
            assert!(table.contains(&format!("| read 4k qd1 | {row} |\n")), "{table}");
        }
    }

    #[test]
    fn what_is_missing_is_an_error() {
        let complete =
            |report: &str| Results::parse(report).and_then(|results| results.complete(&BOTH, 2, false));
        let (short, _) = REPORT.rsplit_once("LAB ROUND").unwrap();
        assert!(complete(short).unwrap_err().contains("kernel has 1 rounds"));
        assert!(complete(&REPORT.replace("LAB IDLE 3 40\n", "")).unwrap_err().contains("idle"));
        assert!(complete("").is_err());
        assert!(Results::parse(REPORT).unwrap().complete(&BOTH, 2, true).is_err(), "no system calls");
        let (short, _) = CALLS.rsplit_once("LAB COUNTED").unwrap();
        let uncounted = Results::parse(&format!("{REPORT}{short}")).unwrap();
        assert!(uncounted.complete(&BOTH, 2, true).is_err(), "of how many I/Os?");
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for (from, to) in [
            (" 300", " 0"),
            (" 300", " many"),
            ("LAB LATENCY read 4k qd1 10 20 30\n", ""),
            (" 10 20 30", " 10 20"),
            ("ROUND ours", "ROUND theirs"),
            ("IDLE 3 40", "IDLE -3 40"),
            ("LAB ROUND ours\n", "LAB FAIL served: why\n"),
        ] {
            assert!(Results::parse(&REPORT.replacen(from, to, 1)).is_err(), "{to}");
        }
    }
}
