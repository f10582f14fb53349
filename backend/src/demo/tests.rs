//! The demo as a whole, on an honest disk and on ones that lie.

use clap::Parser;
use pvscsi_sg::{Command, Completion, Event, Job, Outcome, Reactor, Sense};

use super::*;

const SIZE: u64 = 16 << 20;
const BRIEF: Duration = Duration::from_millis(20);

fn disk() -> EmulatedDisk {
    EmulatedDisk::new(Medium::ram(SIZE).unwrap(), DiskIdentity::from_name("test"), DEFAULT_MAX_TRANSFER)
}

/// A disk whose `nth` READ goes wrong.
struct Liar {
    disk: EmulatedDisk,
    reads: u32,
    nth: u32,
    how: fn(&mut Completion),
}

impl LogicalUnit for Liar {
    fn submit(&mut self, command: Command, done: &mut Vec<Completion>) {
        let is_read = command.cdb.opcode() == 0x28;
        self.disk.submit(command, done);
        if is_read {
            self.reads += 1;
            if self.reads == self.nth {
                (self.how)(done.last_mut().unwrap());
            }
        }
    }
    fn flush(&mut self, reactor: &mut Reactor) {
        self.disk.flush(reactor);
    }
    fn on_event(&mut self, event: Event, reactor: &mut Reactor, done: &mut Vec<Completion>) {
        self.disk.on_event(event, reactor, done);
    }
    fn attach(&mut self, owner: u32) {
        self.disk.attach(owner);
    }
    fn resetter(&self) -> Option<Job> {
        self.disk.resetter()
    }
    fn device_type(&self) -> u8 {
        self.disk.device_type()
    }
}

fn demo_of_a_liar(nth: u32, how: fn(&mut Completion)) -> DemoError {
    let liar = Liar { disk: disk(), reads: 0, nth, how };
    measure(Box::new(liar), SIZE, BRIEF, &ProgressBar::hidden()).expect_err("a lie must be found")
}

#[test]
fn an_honest_disk_passes_all_jobs() {
    let report = measure(Box::new(disk()), SIZE, BRIEF, &ProgressBar::hidden()).unwrap();
    assert_eq!(report.jobs.len(), 11);
    for job in &report.jobs {
        assert!(job.iops > 0.0 && job.mib_per_s > 0.0, "{job:?}");
        let Latency { mean, p50, p99, p99_9, max } = job.latency_us;
        assert!(0.0 < p50 && p50 <= p99 && p99 <= p99_9 && p99_9 <= max && mean <= max, "{job:?}");
    }
    assert!(report.verified_bytes > 2 * SIZE, "read back twice, and read at random");
    let mut table = Vec::new();
    report.write_table(&mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    assert_eq!(table.lines().count(), 1 + 11 + 2, "{table}");
    assert!(table.ends_with("say nothing about a real Xen host.\n"));
    let mut json = Vec::new();
    report.write_json(&mut json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["jobs"][2]["job"], "read 4k, depth 1");
    assert!(json["jobs"][2]["latency_us"]["p99_9"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_flipped_bit_is_found_where_it_is() {
    let error = demo_of_a_liar(3, |completion| {
        completion.buffer.as_mut().unwrap().as_mut_slice()[70_001] ^= 4;
    });
    // The third command of the sequential pass that reads back.
    let DemoError::Wrong { job: "read back 508k, depth 4", offset, what: Wrong::Data(found) } = error else {
        panic!("{error}")
    };
    assert_eq!((offset, found.at, found.written ^ found.read), (2 * 508 * 1024, 70_001, 4));
}

#[test]
fn a_failure_and_missing_bytes_are_errors_too() {
    let failed = demo_of_a_liar(1, |completion| {
        completion.outcome = Outcome::check_condition(Sense::fixed(3, 0x11, 0), 0);
    });
    assert!(matches!(&failed, DemoError::Wrong { what: Wrong::Failed { rslt: 2, .. }, .. }), "{failed}");
    let short = demo_of_a_liar(50, |completion| completion.outcome = Outcome::good(512));
    assert!(
        matches!(&short, DemoError::Wrong { what: Wrong::Failed { rslt: 0, residual: 512, .. }, .. }),
        "{short}"
    );
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

#[test]
fn options_have_defaults_and_limits() {
    let parse = |args: &[&str]| Line::try_parse_from([&["demo"], args].concat()).map(|line| line.options);
    let options = parse(&[]).unwrap();
    assert_eq!((options.seconds, options.size, options.json), (2, 64 << 20, false));
    for (text, bytes) in [("16M", 16 << 20), ("1g", 1 << 30), ("20480k", 20 << 20), ("16777216", 16 << 20)] {
        assert_eq!(parse(&["--size", text]).unwrap().size, bytes);
    }
    for bad in ["", "M", "15M", "17G", "16MM", "16777217", "-1", "99999999999999999999G", "1T"] {
        assert!(parse(&["--size", bad]).is_err(), "{bad:?}");
    }
    assert!(parse(&["--seconds", "0"]).is_err());
}
