//! Runs a list of actions against a worker of its own, with a RAM disk at LUN 0 and a scripted unit at LUN 1.
//!
//! The fuzz target `frontend_actions` uses this file as well.

use std::cell::Cell;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use pvscsi_backend::control::WorkerError;
use pvscsi_backend::demo::SimVhost;
use pvscsi_backend::limits::TimeLimits;
use pvscsi_ring::{Nexus, RingError};
use pvscsi_sg::disk::{DEFAULT_MAX_TRANSFER, DiskIdentity, EmulatedDisk, Medium};
use pvscsi_sg::{LogicalUnit, ReactorKind};
use pvscsi_sim::hostile::{Action, Backend, End, HostileGuest};
use pvscsi_xen::DomId;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::scripted_lun::scripted_lun;

/// Lines that a worker may write in its short life: what its limit lets through in a minute.
const LINES_MAX: u32 = 10;

/// Runs them, with ring indices that start at `start_index`.
///
/// # Panics
///
/// When the worker does anything that it must not.
pub fn run(kind: ReactorKind, start_index: u32, actions: &[Action]) {
    count_log_lines();
    let medium = Medium::ram(1 << 20).unwrap();
    let disk = EmulatedDisk::new(medium, DiskIdentity::from_name("hostile"), DEFAULT_MAX_TRANSFER);
    let (scripted, remote) = scripted_lun();
    let luns: Vec<(Nexus, Box<dyn LogicalUnit>)> = vec![
        (Nexus { channel: 0, id: 1, lun: 0 }, Box::new(disk)),
        (Nexus { channel: 0, id: 1, lun: 1 }, scripted),
    ];
    let SimVhost { frontend, worker } =
        SimVhost::start(kind, start_index, luns, TimeLimits::default()).unwrap();
    let mut guest = HostileGuest::take_over(&frontend, DomId(0));
    let mut ended = || worker.ended().map(|error| End::Ring(ring_error(error)));
    guest.run(actions, &mut Backend { ended: &mut ended, let_go: &mut || remote.release() });
    guest.check_end(worker.join().err().map(ring_error));
    assert!(!remote.is_alive(), "the unit went with its worker");
}

/// A worker ends by itself for no other reason: the simulated system does not fail.
fn ring_error(ended: WorkerError) -> RingError {
    match ended {
        WorkerError::Ring(error) => error,
        other => panic!("the worker ended: {other}"),
    }
}

static LINES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static LINES_HERE: Cell<u32> = const { Cell::new(0) };
}

/// Lines that workers have written since [`run`] was first called.
pub fn log_lines() -> u64 {
    LINES.load(Ordering::Relaxed)
}

/// From now on, and in the whole process, a worker that writes too many lines panics.
fn count_log_lines() {
    static SET: Once = Once::new();
    SET.call_once(|| tracing::subscriber::set_global_default(LineCounter).expect("no other subscriber"));
}

struct LineCounter;

impl Subscriber for LineCounter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("pvscsi")
    }

    fn event(&self, _event: &Event<'_>) {
        if std::thread::current().name() != Some("simulated") {
            return;
        }
        LINES.fetch_add(1, Ordering::Relaxed);
        let lines = LINES_HERE.get() + 1;
        LINES_HERE.set(lines);
        assert!(lines <= LINES_MAX, "one line more than a guest may cause");
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}
