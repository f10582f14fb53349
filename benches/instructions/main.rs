//! What a request costs in instructions, which does not depend on what else the machine does.
//!
//! Each figure is a run of this program under valgrind's callgrind, which counts from the entry of [`counted`] to its return, but
//! not within [`uncounted`]. `stored` has what they may be, give or take [`SLACK`]: what is more fails.
//!
//! * `cargo bench --bench instructions` measures and compares;
//! * `-- --write` stores what it measures;
//! * `-- --test` runs what is to be measured, once, and counts nothing.

#[path = "../slots.rs"]
mod slots;
mod stored;
mod worker;

use std::error::Error;
use std::hint::black_box;
use std::process::{Command, ExitCode};

use pvscsi_ring::Request;

use slots::{Ring, slot};
use stored::Stored;
use worker::Guest;

/// How often a thing is done, so that its beginning and its end do not matter.
const TIMES: u32 = 1000;

/// By how much a figure may exceed the stored one.
const SLACK: f64 = 0.02;

struct Figure {
    name: &'static str,
    /// Does it so many times, within [`counted`].
    run: fn(u32),
}

const FIGURES: [Figure; 7] = [
    Figure { name: "parse a request with 1 segment", run: |times| parse(1, times) },
    Figure { name: "parse a request with 26 segments", run: |times| parse(26, times) },
    Figure { name: "take 16 requests, push and publish their answers", run: exchange },
    Figure {
        name: "worker, 1 read of 4k, woken for it",
        run: |times| worker::serve(Guest { reads: 1, kib: 4, waits: true }, times),
    },
    Figure {
        name: "worker, 10 reads of 4k, woken for them",
        run: |times| worker::serve(Guest { reads: 10, kib: 4, waits: true }, times),
    },
    Figure {
        name: "worker, 10 reads of 4k, still awake",
        run: |times| worker::serve(Guest { reads: 10, kib: 4, waits: false }, times),
    },
    Figure {
        name: "worker, 4 reads of 508k, woken for them",
        run: |times| worker::serve(Guest { reads: 4, kib: 508, waits: true }, times),
    },
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["--write"] => {
            Stored::measured(measure_all()?)?.write()?;
            Ok(ExitCode::SUCCESS)
        }
        ["--test"] => {
            FIGURES.iter().for_each(|figure| (figure.run)(1));
            Ok(ExitCode::SUCCESS)
        }
        ["--run", name] => {
            let figure = FIGURES.iter().find(|figure| figure.name == name).ok_or("no such figure")?;
            (figure.run)(TIMES);
            Ok(ExitCode::SUCCESS)
        }
        _ => Err("usage: cargo bench --bench instructions [-- --write | --test]".into()),
    }
}

fn compare() -> Result<ExitCode, Box<dyn Error>> {
    let (stored, now) = (Stored::read()?, Stored::measured(measure_all()?)?);
    let mut more = false;
    println!("{:50} {:>12} {:>12}", "instructions", "now", "stored");
    for (name, count) in &now.figures {
        let Some(before) = stored.get(name) else {
            println!("{name:50} {count:12.1} {:>12}", "none");
            more = true;
            continue;
        };
        let change = count / before - 1.0;
        let word = match change {
            change if change > SLACK => "  MORE",
            change if change < -SLACK => "  less: store it",
            _ => "",
        };
        more |= change > SLACK;
        println!("{name:50} {count:12.1} {before:12.1} {:+7.2} %{word}", change * 100.0);
    }
    if !more {
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "\nMore instructions than {} allows. If they are worth it, store the new figures, and say in the commit what for:\n  \
         cargo bench --bench instructions -- --write",
        stored::FILE
    );
    if stored.compiler != now.compiler {
        println!("The figures there are of {:?}; this is {:?}.", stored.compiler, now.compiler);
    }
    Ok(ExitCode::FAILURE)
}

fn measure_all() -> Result<Vec<(String, f64)>, Box<dyn Error>> {
    FIGURES.iter().map(|figure| Ok((figure.name.to_owned(), measure(figure)?))).collect()
}

/// Instructions of one time.
fn measure(figure: &Figure) -> Result<f64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["counted", "uncounted"].map(|name| format!("--toggle-collect=instructions::{name}*")))
        // The C library's plainest memcpy, whatever this processor could do besides.
        .env(
            "GLIBC_TUNABLES",
            "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX_Fast_Unaligned_Load,-SSSE3,-ERMS,-FSRM",
        )
        .arg(std::env::current_exe()?)
        .args(["--run", figure.name])
        .output()
        .map_err(|error| format!("cannot run valgrind (Debian's package of this name has it): {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected =
        said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<u64>().ok());
    match collected {
        Some(count) if output.status.success() && count > 0 => Ok(count as f64 / f64::from(TIMES)),
        _ => Err(format!("{}: {}\n{said}", figure.name, output.status).into()),
    }
}

/// Is counted, but for what is [`uncounted`] in it.
#[inline(never)]
fn counted<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

/// Is not counted.
#[inline(never)]
fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

fn parse(segments: u8, times: u32) {
    let slot = slot(segments, 4096);
    counted(|| {
        for _ in 0..times {
            black_box(Request::parse(black_box(&slot))).expect("a good request");
        }
    });
}

fn exchange(times: u32) {
    let mut ring = Ring::new();
    counted(|| {
        for _ in 0..times {
            black_box(ring.turn(16));
        }
    });
}
