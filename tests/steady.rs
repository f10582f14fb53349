//! The steady path neither allocates, frees nor logs.
//!
//! A worker serves a guest in a thread of this test, which asks for the thread's own counts between two commands: when all buffers
//! are as large as they get, and after thousands of commands more. What the simulated Xen allocates for a grant copy is not
//! counted.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use assert_no_alloc::{AllocDisabler, assert_no_alloc, permit_alloc, violation_count};
use crossbeam_channel::unbounded;
use pvscsi_backend::control::{Bell, News, Order, WorkerEnd};
use pvscsi_backend::limits::TimeLimits;
use pvscsi_backend::log_limit::LogLimit;
use pvscsi_backend::options::Options;
use pvscsi_backend::pdev::PDev;
use pvscsi_backend::worker::{Connection, Worker};
use pvscsi_guestmem::SharedPage;
use pvscsi_ring::vscsiif::{DIRECTION_FROM_DEVICE, DIRECTION_TO_DEVICE};
use pvscsi_ring::{BackRing, Nexus};
use pvscsi_sg::{
    Command, Completion, Directories, Engine, Event, Groups, Initiator, Job, LogicalUnit, Policed, Reactor,
    ReactorKind, Shared, TransferLimit,
};
use pvscsi_sim::frontend::{GuestBuffer, ScsiCall};
use pvscsi_sim::{Hypervisor, LinuxFrontend, SimGrants};
use pvscsi_xen::{CopyBatch, DomId, GrantError, GrantRef, GrantTable};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

const BACKEND: DomId = DomId(0);
const GUEST: DomId = DomId(1);

/// Bytes of the disks.
const DISK: u32 = 16 << 20;

/// Commands of one kind, so many at once.
#[derive(Clone, Copy)]
struct Run {
    write: bool,
    bytes: u32,
    depth: u32,
    count: u32,
}

/// The longest, of 508 KiB, have an indirect list.
fn runs(times: u32) -> [Run; 6] {
    let run =
        |write, kib: u32, depth, count: u32| Run { write, bytes: kib << 10, depth, count: count * times };
    [
        run(false, 4, 10, 100),
        run(true, 4, 10, 100),
        run(false, 64, 4, 8),
        run(true, 64, 4, 8),
        run(false, 508, 4, 2),
        run(true, 508, 4, 2),
    ]
}

/// How much more is done when it is counted.
const TIMES: u32 = 50;

fn commands(times: u32) -> u64 {
    runs(times).iter().map(|run| u64::from(run.count)).sum()
}

/// What the worker's thread has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    /// Memory that it got or gave back.
    memory: u32,
    /// Lines for the log, of any level.
    lines: u32,
}

thread_local! {
    static LINES: Cell<u32> = const { Cell::new(0) };
}

impl Counts {
    fn of_this_thread() -> Self {
        Self { memory: violation_count(), lines: LINES.get() }
    }
}

/// Counts the lines of the thread that it is the default of.
struct LineCounter;

impl Subscriber for LineCounter {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }
    fn event(&self, _event: &tracing::Event<'_>) {
        LINES.set(LINES.get() + 1);
    }
    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}

/// A unit that takes the counts of its thread with the first command that counts, and with the one behind the last.
struct Watched {
    unit: Box<dyn LogicalUnit>,
    commands: u64,
    first: Option<Counts>,
    report: Sender<(Counts, Counts)>,
}

impl LogicalUnit for Watched {
    fn submit(&mut self, command: Command, done: &mut Vec<Completion>) {
        if self.commands == commands(1) {
            self.first = Some(Counts::of_this_thread());
        }
        if self.commands == commands(1) + commands(TIMES) {
            let last = Counts::of_this_thread();
            self.report.send((self.first.expect("set before"), last)).expect("somebody waits for it");
        }
        self.commands += 1;
        self.unit.submit(command, done);
    }

    fn flush(&mut self, reactor: &mut Reactor) {
        self.unit.flush(reactor);
    }
    fn on_event(&mut self, event: Event, reactor: &mut Reactor, done: &mut Vec<Completion>) {
        self.unit.on_event(event, reactor, done);
    }
    fn attach(&mut self, owner: u32) {
        self.unit.attach(owner);
    }
    fn resetter(&self) -> Option<Job> {
        self.unit.resetter()
    }
    fn device_type(&self) -> u8 {
        self.unit.device_type()
    }
}

/// Grants whose own allocations do not count.
struct Uncounted(SimGrants);

impl GrantTable for Uncounted {
    fn map_page(&self, gref: GrantRef) -> Result<SharedPage, GrantError> {
        self.0.map_page(gref)
    }
    fn copy(&self, batch: &mut CopyBatch<'_>) -> io::Result<()> {
        permit_alloc(|| self.0.copy(batch))
    }
}

/// Does what is to be done of a run, and checks every answer.
fn carry_out(run: Run, frontend: &mut LinuxFrontend) {
    let Run { write, bytes, depth, count } = run;
    let (opcode, direction) = if write { (0x2a, DIRECTION_TO_DEVICE) } else { (0x28, DIRECTION_FROM_DEVICE) };
    let mut free: Vec<_> =
        (0..depth).map(|_| GuestBuffer::contiguous(0, bytes.try_into().expect("some pages"))).collect();
    let mut sent = 0;
    let mut answered = 0;
    while answered < count {
        while sent < count
            && let Some(buffer) = free.pop()
        {
            let [.., a, b, c, d] = u64::from(sent * (bytes / 512) % (DISK / 512 - 1016)).to_be_bytes();
            let [.., m, n] = (bytes / 512).to_be_bytes();
            let cdb = vec![opcode, 0, a, b, c, d, 0, m, n, 0];
            let call = ScsiCall { cdb, direction, buffer, timeout_s: 30, ..ScsiCall::default() };
            frontend.submit(call).expect("room on the ring");
            sent += 1;
        }
        let reply = frontend.wait_reply(Duration::from_secs(10)).expect("an answer");
        assert_eq!((reply.rslt, reply.residual), (0, 0), "sense {:02x?}", reply.sense);
        free.push(reply.data);
        answered += 1;
    }
}

/// Lets a worker serve the unit until it was counted.
#[track_caller]
fn neither_allocates_nor_logs(kind: ReactorKind, unit: Box<dyn LogicalUnit>) {
    let xen = Hypervisor::new();
    let mut frontend = LinuxFrontend::new(&xen, GUEST, BACKEND);
    let grants = xen.grant_table(BACKEND, GUEST);
    let (report, counted) = channel();
    let watched = Watched { unit, commands: 0, first: None, report };
    let connection = Connection {
        domid: GUEST,
        ring: BackRing::attach(grants.map_page(frontend.ring_ref()).expect("granted"), 0),
        events: Box::new(xen.bind_interdomain(BACKEND, GUEST, frontend.port()).expect("a port")),
        grants: Box::new(Uncounted(grants)),
        luns: vec![(Nexus { channel: 0, id: 0, lun: 0 }, Box::new(watched))],
        feature_host: false,
        limits: TimeLimits::default(),
        log_limit: LogLimit::default(),
    };
    let bell = || Bell::new().expect("a descriptor");
    let (orders_bell, (give, orders), (news, heard)) = (bell(), unbounded(), unbounded());
    let end = WorkerEnd {
        orders,
        orders_bell: orders_bell.clone(),
        news,
        news_bell: bell(),
        name: "steady".into(),
    };
    let worker = std::thread::spawn(move || {
        let worker = Reactor::new(kind).and_then(|reactor| Worker::new(connection, end, reactor));
        tracing::subscriber::with_default(LineCounter, || {
            tracing::trace!("a line");
            assert_no_alloc(|| worker.expect("a worker").run());
        });
    });
    for run in runs(1).into_iter().chain(runs(TIMES)) {
        carry_out(run, &mut frontend);
    }
    carry_out(Run { write: false, bytes: 4096, depth: 1, count: 1 }, &mut frontend);
    let (before, after) = counted.recv().expect("all commands reach the unit");
    give.send(Order::Stop).expect("the worker serves");
    orders_bell.ring();
    worker.join().expect("a worker that ends well");
    assert!(heard.try_iter().any(|news| matches!(news, News::Ended(Ok(())))));
    assert_eq!(frontend.complaints(), []);
    assert!(before.memory > 0 && before.lines > 0, "the way there is counted: {before:?}");
    assert_eq!(after, before, "{} commands later", commands(TIMES));
}

/// Reading and writing by io_uring where that works, and without.
const KINDS: [ReactorKind; 2] = [ReactorKind::Auto, ReactorKind::Poll];

fn open(name: &str, shared: Option<Shared>) -> Box<dyn LogicalUnit> {
    name.parse::<PDev>().expect("a name").open(Options::default(), Engine::Auto, shared).expect("a disk")
}

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pvscsi-steady-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    /// A disk on a file.
    fn disk(&self) -> String {
        let path = self.0.join("disk");
        File::create(&path).and_then(|file| file.set_len(DISK.into())).expect("a file");
        format!("file:{}", path.display())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_disk_in_memory_is_served_without_allocation_or_log_line() {
    for kind in KINDS {
        neither_allocates_nor_logs(kind, open(&format!("ram:{DISK}"), None));
    }
}

#[test]
fn a_disk_on_a_file_is_served_without_allocation_or_log_line() {
    for kind in KINDS {
        let directory = Directory::new("file");
        neither_allocates_nor_logs(kind, open(&directory.disk(), None));
    }
}

/// A device that guests share, behind all that stands before one.
#[test]
fn a_shared_disk_behind_a_policy_is_served_without_allocation_or_log_line() {
    for kind in KINDS {
        let directory = Directory::new("shared");
        let places = Directories { run: directory.0.join("run"), saved: directory.0.join("saved") };
        let who = Initiator::named("guest");
        let shared = Shared::join(&places, "unit", who).expect("a place among the guests");
        let unit = open(&directory.disk(), Some(shared));
        let unit = TransferLimit::new(unit, 4096);
        let unit = Policed::new(Box::new(unit), Groups::default(), Box::new(|_| {}));
        neither_allocates_nor_logs(kind, Box::new(unit));
    }
}
