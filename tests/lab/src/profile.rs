//! Where the instructions of an I/O go: by domain, and by function.
//!
//! The `bench` scenario with one guest and one of its jobs, where an instruction takes a nanosecond. A plugin of QEMU's (`profile/plugin.c`)
//! counts every block of code that the machine executes while fio measures; it does not sample, and the machine does not notice. Symbols
//! come from the two kernels, from Xen, and from our program; of other programs only the file is told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::image::Image;
use crate::program;
use crate::qemu::{Clock, End};
use crate::scenario::{self, Backend, Run};
use crate::symbols::{Files, Symbols};
use crate::tools::{self, Need, Outcome, at};

const LIMIT: Duration = Duration::from_secs(1800);
/// How many functions the table tells.
const TOP: usize = 40;
/// The program under test, as its file is called.
const OURS: &str = "xen-pvscsi";

/// A line of the plugin's.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Block {
    address: u64,
    page: u64,
    instructions: u64,
    /// How often it was executed while dom0 was the last domain whose kernel was seen, and while the guest was.
    executed: [u64; 2],
}

/// What executes instructions, in the order of an I/O's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    GuestUser,
    GuestKernel,
    XenGuest,
    XenDom0,
    Dom0Kernel,
    Ours,
    Dom0User,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::GuestUser => "guest, programs",
            Self::GuestKernel => "guest, kernel",
            Self::XenGuest => "Xen, for the guest",
            Self::XenDom0 => "Xen, for dom0",
            Self::Dom0Kernel => "dom0, kernel",
            Self::Ours => "dom0, xen-pvscsi",
            Self::Dom0User => "dom0, other programs",
        }
    }
}

/// Instructions, and how often a function's first one was executed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cost {
    instructions: u64,
    calls: u64,
}

/// What a job cost, by part and function.
type Costs = BTreeMap<(Part, String), Cost>;

/// What addresses mean.
struct Names {
    xen: Symbols,
    /// Of dom0 and of the guest.
    kernels: [Symbols; 2],
    files: [Files; 2],
    ours: Symbols,
}

/// Profiles one job of the benchmark, prints tables in Markdown, and writes `profile-BACKEND-JOB.json`.
///
/// # Errors
///
/// When there is no such job, something does not build, or the boot fails.
pub fn run(image: &Image, backend: Backend, serve: &str, job: &str) -> Outcome<()> {
    let guest = tools::lab_dir().join("scenarios/bench/guest.sh");
    let jobs = jobs(&fs::read_to_string(&guest).map_err(at(&guest))?);
    if !jobs.iter().any(|known| known == job) {
        return Err(format!("no job '{job}'; there are: {}", jobs.join(", ")));
    }
    tools::ensure(Need::Profile)?;
    let dir = tools::work_dir().join("profile");
    fs::create_dir_all(&dir).map_err(at(&dir))?;
    let (plugin, mark) = build(&dir)?;
    let mut programs = program::for_backend(backend)?;
    let ours = match programs.first() {
        Some(ours) => Symbols::of_program(ours)?,
        None => Symbols::default(),
    };
    programs.push(mark);
    let counts = dir.join("counts");
    let variables = [&*format!("PROFILE='{job}'"), &format!("SERVE='{serve}'"), "QUICK="];
    let run = Run {
        scenario: "bench",
        backend,
        limit: LIMIT,
        clock: Clock::Instructions,
        pinned: true,
        variables: &variables,
        plugin: Some(&format!("{},out={}", plugin.display(), counts.display())),
        ..Run::default()
    };
    let record = scenario::boot(&run, image, &programs)?;
    let trouble = match record.end {
        End::Broken(why) => Some(why),
        End::PoweredOff => record.crashes.first().cloned(),
    };
    if let Some(trouble) = trouble {
        return Err(format!("{trouble}; logs in {}", record.dir.display()));
    }
    let (ios, iops) = figures(&record.report)?;
    let text = |name: &str| {
        let file = record.dir.join(name);
        fs::read(&file).map(|text| String::from_utf8_lossy(&text).into_owned()).map_err(at(&file))
    };
    let (dom0, guest) = (text("symbols.dom0")?, text("guest-a.log")?);
    // The guest boots the same kernel as dom0, but has its own modules.
    let image = dom0.lines().filter(|line| !line.contains('[')).collect::<Vec<_>>().join("\n");
    let names = Names {
        xen: Symbols::parse(&text("symbols.xen")?),
        kernels: [Symbols::parse(&dom0), Symbols::parse(&format!("{image}\n{guest}"))],
        files: [Files::parse(&text("maps.dom0")?), Files::parse(&guest)],
        ours,
    };
    let costs = names.costs(&blocks(&fs::read_to_string(&counts).map_err(at(&counts))?)?);
    println!("\n{}", report(&costs, backend, job, ios, iops));
    let file = tools::work_dir().join(format!("profile-{backend}-{}.json", job.replace(' ', "-")));
    fs::write(&file, format!("{:#}\n", json_of(&costs, backend, job, ios, iops))).map_err(at(&file))?;
    println!("profile: figures in {}", file.display());
    Ok(())
}

/// The jobs of the benchmark, by the names that its table has for them.
fn jobs(script: &str) -> Vec<String> {
    let job = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
        ["measure", rw, bs, depth, _] => Some(format!("{rw} {bs} qd{depth}")),
        _ => None,
    };
    script.lines().filter_map(job).collect()
}

/// The plugin, and the program that begins and ends its counting.
fn build(dir: &Path) -> Outcome<(PathBuf, PathBuf)> {
    let source = |name: &str| tools::lab_dir().join("profile").join(name);
    let (plugin, mark) = (dir.join("plugin.so"), dir.join("mark"));
    tools::run(
        Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-fvisibility=hidden", "-o"])
            .args([&plugin, &source("plugin.c")]),
    )?;
    tools::run(
        Command::new("cc")
            .args(["-nostdlib", "-static", "-Wl,-Ttext=0x4c4142000000", "-o"])
            .args([&mark, &source("mark.S")]),
    )?;
    Ok((plugin, mark))
}

/// From the lab's lines: I/Os of the job, and how many of them in a second.
fn figures(report: &str) -> Outcome<(f64, f64)> {
    let (mut ios, mut iops) = (None, None);
    for line in report.lines() {
        if let Some(failure) = line.strip_prefix("LAB FAIL ") {
            return Err(failure.to_owned());
        } else if let Some(figure) = line.strip_prefix("LAB PROFILE ") {
            ios = figure.parse().ok();
        } else if line.starts_with("LAB BENCH ") {
            iops = line.rsplit(' ').next().and_then(|figure| figure.parse().ok());
        }
    }
    ios.zip(iops)
        .filter(|&(ios, iops)| ios > 0.0 && iops > 0.0)
        .ok_or_else(|| "the job gave no figures".into())
}

fn blocks(text: &str) -> Outcome<Vec<Block>> {
    let block = |line: &str| {
        let mut words = line.split(' ');
        let mut next = |radix| u64::from_str_radix(words.next()?, radix).ok();
        Some(Block {
            address: next(16)?,
            page: next(16)?,
            instructions: next(10)?,
            executed: [next(10)?, next(10)?],
        })
    };
    let blocks: Option<Vec<_>> = text.lines().map(block).collect();
    match blocks {
        Some(blocks) if !blocks.is_empty() => Ok(blocks),
        Some(_) => Err("the plugin counted nothing: did the guest run its mark?".into()),
        None => Err("the plugin's counts are cut off".into()),
    }
}

impl Names {
    fn costs(&self, blocks: &[Block]) -> Costs {
        // A page of memory belongs to one domain. That whose kernel was seen last is nearly always the one; the exceptions are
        // programs that the hypervisor interrupted, and to which it comes back past their kernel.
        let mut pages: BTreeMap<u64, [u64; 2]> = BTreeMap::new();
        for block in blocks {
            let [dom0, guest] = pages.entry(block.page).or_default();
            *dom0 = dom0.saturating_add(block.executed[0]);
            *guest = guest.saturating_add(block.executed[1]);
        }
        let mut costs = Costs::new();
        let mut add = |part, (name, first), block: &Block, executed: u64| {
            if executed > 0 {
                let cost: &mut Cost = costs.entry((part, name)).or_default();
                cost.instructions =
                    cost.instructions.saturating_add(executed.saturating_mul(block.instructions));
                cost.calls = cost.calls.saturating_add(if first { executed } else { 0 });
            }
        };
        for block in blocks {
            let [dom0, guest] = block.executed;
            // The hypervisor's part of the address space, as PV guests know it.
            if (0xffff_8000_0000_0000..0xffff_8800_0000_0000).contains(&block.address) {
                add(Part::XenDom0, self.xen.name(block.address), block, dom0);
                add(Part::XenGuest, self.xen.name(block.address), block, guest);
                continue;
            }
            let of_guest = pages.get(&block.page).is_some_and(|[dom0, guest]| guest > dom0);
            let (part, name) = self.place(block.address, of_guest);
            add(part, name, block, dom0.saturating_add(guest));
        }
        costs
    }

    /// The part that an address of a domain belongs to, the name of its function or file, and whether a function begins there.
    fn place(&self, address: u64, of_guest: bool) -> (Part, (String, bool)) {
        let [dom0, guest] = &self.kernels;
        let [dom0_files, guest_files] = &self.files;
        match (address >> 63 == 1, of_guest) {
            (true, true) => (Part::GuestKernel, guest.name(address)),
            (true, false) => (Part::Dom0Kernel, dom0.name(address)),
            (false, true) => (Part::GuestUser, (guest_files.name(address), false)),
            (false, false) => match dom0_files.within(OURS, address) {
                Some(offset) => (Part::Ours, self.ours.name(offset)),
                None => (Part::Dom0User, (dom0_files.name(address), false)),
            },
        }
    }
}

/// The parts and what they cost, and the functions, the most expensive first.
fn parts(costs: &Costs) -> BTreeMap<Part, u64> {
    let mut parts = BTreeMap::new();
    for ((part, _), cost) in costs {
        let sum: &mut u64 = parts.entry(*part).or_default();
        *sum = sum.saturating_add(cost.instructions);
    }
    parts
}

fn functions(costs: &Costs) -> Vec<(Part, &str, Cost)> {
    let mut all: Vec<_> = costs.iter().map(|((part, name), cost)| (*part, name.as_str(), *cost)).collect();
    all.sort_by_key(|(_, _, cost)| std::cmp::Reverse(cost.instructions));
    all
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

fn report(costs: &Costs, backend: Backend, job: &str, ios: f64, iops: f64) -> String {
    let total: f64 = parts(costs).values().map(|&sum| float(sum)).sum();
    let mut out = format!(
        "{job}, {backend}: {:.1} K instructions per I/O ({:.1} by fio's clock)\n\n| domain | K instr/IO | share |\n|---|---|---|\n",
        total / ios / 1e3,
        1e6 / iops
    );
    for (part, sum) in parts(costs) {
        let sum = float(sum);
        let _ = writeln!(out, "| {} | {:.2} | {:.1}% |", part.name(), sum / ios / 1e3, 100.0 * sum / total);
    }
    out.push_str("\n| domain | function | K instr/IO | share | calls/IO |\n|---|---|---|---|---|\n");
    for (part, name, cost) in functions(costs).into_iter().take(TOP) {
        let (sum, calls) = (float(cost.instructions), float(cost.calls));
        let _ = writeln!(
            out,
            "| {} | `{name}` | {:.2} | {:.1}% | {:.2} |",
            part.name(),
            sum / ios / 1e3,
            100.0 * sum / total,
            calls / ios
        );
    }
    out
}

fn json_of(costs: &Costs, backend: Backend, job: &str, ios: f64, iops: f64) -> serde_json::Value {
    let parts: BTreeMap<_, _> = parts(costs).into_iter().map(|(part, sum)| (part.name(), sum)).collect();
    let functions: Vec<_> = functions(costs)
        .into_iter()
        .map(|(part, name, cost)| {
            json!({ "domain": part.name(), "function": name, "instructions": cost.instructions, "calls": cost.calls })
        })
        .collect();
    json!({
        "job": job, "backend": backend.to_string(), "ios": ios, "iops": iops, "instructions": parts,
        "functions": functions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            xen: Symbols::parse("ffff82d040200000 T entry\nffff82d040200100 t exit\n"),
            kernels: [
                Symbols::parse("ffffffff81000000 T both\n"),
                Symbols::parse("ffffffff81000000 T both\nffffffffc0001000 t front [xen_scsifront]\n"),
            ],
            files: [
                Files::parse("7f0000001000-7f0000002000 r-xp 00001000 00:01 9 /tmp/xen-pvscsi\n"),
                Files::parse("7f0000001000-7f0000002000 r-xp 00001000 00:01 9 /usr/bin/fio\n"),
            ],
            ours: Symbols::parse("20 T work\n"),
        }
    }

    #[test]
    fn a_block_is_its_pages_domains() {
        let blocks = blocks(
            "ffffffff81000000 1 3 10 0\nffffffff81000004 2 5 0 7\nffffffffc0001000 3 2 0 1\n7f0000001020 4 4 9 1\n\
             7f0000001030 5 1 1 9\nffff82d040200104 6 2 3 5\n",
        )
        .unwrap();
        let costs = names().costs(&blocks);
        let of = |part, name: &str| {
            costs.get(&(part, name.to_owned())).map(|cost| (cost.instructions, cost.calls))
        };
        assert_eq!(of(Part::Dom0Kernel, "both"), Some((30, 10)));
        assert_eq!(of(Part::GuestKernel, "both"), Some((35, 0)), "not entered at its first instruction");
        assert_eq!(of(Part::GuestKernel, "front [xen_scsifront]"), Some((2, 1)));
        assert_eq!(of(Part::Ours, "work"), Some((40, 10)), "the page is dom0's, whoever was seen last");
        assert_eq!(of(Part::GuestUser, "fio"), Some((10, 0)));
        assert_eq!(of(Part::XenDom0, "exit"), Some((6, 0)));
        assert_eq!(of(Part::XenGuest, "exit"), Some((10, 0)));
        assert_eq!(costs.len(), 7);
        let report = report(&costs, Backend::Ours, "job", 10.0, 500.0);
        assert!(report.contains("| dom0, xen-pvscsi | `work` | 0.00 | 30.1% | 1.00 |"), "{report}");
    }

    #[test]
    fn broken_counts_are_an_error() {
        assert!(blocks("").is_err());
        assert!(blocks("ffffffff81000000 1 3 10\n").is_err());
    }

    #[test]
    fn figures_need_a_job_that_was_measured() {
        assert_eq!(figures("LAB PROFILE 8000\nLAB BENCH randread 4k qd10 9876\n"), Ok((8000.0, 9876.0)));
        assert!(figures("LAB PROFILE 8000\n").is_err());
        assert!(figures("LAB PROFILE 8000\nLAB BENCH randread 4k qd10 0\n").is_err());
        assert_eq!(figures("LAB FAIL disk: none\n"), Err("disk: none".into()));
    }

    #[test]
    fn the_jobs_are_those_of_the_script() {
        let script = tools::lab_dir().join("scenarios/bench/guest.sh");
        let jobs = jobs(&fs::read_to_string(script).unwrap());
        assert!(jobs.iter().any(|job| job == "randread 4k qd10"), "{jobs:?}");
        assert_eq!(jobs.len(), 7);
    }
}
