//! One vhost under test: its guest, its worker, and what must be true at its end.

use std::ops::Deref;
use std::time::{Duration, Instant};

use pvscsi_backend::control::{WorkerError, WorkerHandle};
use pvscsi_backend::demo::SimVhost;
use pvscsi_backend::limits::TimeLimits;
use pvscsi_ring::Nexus;
use pvscsi_ring::vscsiif::{DIRECTION_FROM_DEVICE, DIRECTION_TO_DEVICE};
use pvscsi_sg::disk::{DEFAULT_MAX_TRANSFER, DiskIdentity, EmulatedDisk, Medium};
use pvscsi_sg::{LogicalUnit, ReactorKind};
use pvscsi_sim::LinuxFrontend;
use pvscsi_sim::frontend::{self, GuestBuffer, Reply, Rqid, ScsiCall};

/// Both forms that a worker's reactor takes.
pub const KINDS: [ReactorKind; 2] = [ReactorKind::Auto, ReactorKind::Poll];

/// How long a guest waits for an answer that has to come.
pub const PATIENCE: Duration = Duration::from_secs(5);

pub type Luns = Vec<(Nexus, Box<dyn LogicalUnit>)>;

/// The address of a unit on the target that the scenarios use.
pub const fn lun(lun: u16) -> Nexus {
    Nexus { channel: 0, id: 1, lun }
}

/// A disk of 1 MiB.
pub fn ram_disk() -> Box<dyn LogicalUnit> {
    let medium = Medium::ram(1 << 20).unwrap();
    Box::new(EmulatedDisk::new(medium, DiskIdentity::from_name("scenario"), DEFAULT_MAX_TRANSFER))
}

/// A worker and its guest.
pub struct Vhost {
    pub frontend: LinuxFrontend,
    /// A raw guest has the ring: it counts the answers itself.
    pub taken_over: bool,
    worker: Option<WorkerHandle>,
}

/// Its worker, for orders.
impl Deref for Vhost {
    type Target = WorkerHandle;
    fn deref(&self) -> &WorkerHandle {
        self.worker.as_ref().expect("until the end")
    }
}

impl Vhost {
    pub fn start(kind: ReactorKind, luns: Luns) -> Self {
        Self::start_at(kind, 0, luns)
    }

    /// With ring indices that start at `index`.
    pub fn start_at(kind: ReactorKind, index: u32, luns: Luns) -> Self {
        Self::start_with(kind, index, luns, TimeLimits::default())
    }

    /// With time limits of its own.
    pub fn start_with(kind: ReactorKind, index: u32, luns: Luns, limits: TimeLimits) -> Self {
        let SimVhost { frontend, worker } = SimVhost::start(kind, index, luns, limits).unwrap();
        Self::of(frontend, worker)
    }

    /// From its two ends.
    pub fn of(frontend: LinuxFrontend, worker: WorkerHandle) -> Self {
        Self { frontend, taken_over: false, worker: Some(worker) }
    }

    /// With one disk of 1 MiB at LUN 0.
    pub fn with_disk(kind: ReactorKind) -> Self {
        Self::start(kind, vec![(lun(0), ram_disk())])
    }

    /// Sends a command.
    pub fn send(&mut self, to: Nexus, cdb: &[u8], direction: u8, buffer: GuestBuffer) -> Rqid {
        let Nexus { channel, id, lun } = to;
        let nexus = frontend::Nexus { channel, id, lun };
        let call = ScsiCall { nexus, cdb: cdb.to_vec(), direction, buffer, timeout_s: 30 };
        self.frontend.submit(call).expect("room on the ring")
    }

    /// The next answer, which has to come.
    pub fn reply(&mut self) -> Reply {
        let reply = self.frontend.wait_reply(PATIENCE);
        reply.unwrap_or_else(|| panic!("no answer; complaints: {:?}", self.frontend.complaints()))
    }

    /// Sends a command while no other is under way, and waits for its answer.
    pub fn call(&mut self, to: Nexus, cdb: &[u8], direction: u8, buffer: GuestBuffer) -> Reply {
        let rqid = self.send(to, cdb, direction, buffer);
        let reply = self.reply();
        assert_eq!(reply.rqid, rqid);
        reply
    }

    /// Writes the bytes from block `lba` on, from memory of that shape.
    pub fn write(&mut self, to: Nexus, lba: u32, bytes: &[u8], memory: &GuestBuffer) {
        memory.write(bytes);
        let reply = self.call(to, &rw10(0x2a, lba, bytes.len()), DIRECTION_TO_DEVICE, memory.clone());
        assert_eq!((reply.rslt, reply.residual), (0, 0), "WRITE at {lba}: sense {:02x?}", reply.sense);
    }

    /// Reads all of `memory` from block `lba` on.
    pub fn read(&mut self, to: Nexus, lba: u32, memory: GuestBuffer) -> Vec<u8> {
        let cdb = rw10(0x28, lba, memory.len());
        let reply = self.call(to, &cdb, DIRECTION_FROM_DEVICE, memory);
        assert_eq!((reply.rslt, reply.residual), (0, 0), "READ at {lba}: sense {:02x?}", reply.sense);
        reply.data.to_vec()
    }

    /// Ends the worker, expects so many requests to have got no answer, and checks everything else.
    pub fn end(mut self, unanswered: usize) -> Result<(), WorkerError> {
        self.check_end(unanswered)
    }

    /// Lends the worker's end to another thread, until [`give_back`](Self::give_back).
    pub fn take_worker(&mut self) -> WorkerHandle {
        self.worker.take().expect("until the end")
    }

    /// Gives it back, for the checks at the end.
    pub fn give_back(&mut self, worker: WorkerHandle) {
        self.worker = Some(worker);
    }

    fn check_end(&mut self, unanswered: usize) -> Result<(), WorkerError> {
        let Some(worker) = self.worker.take() else { return Ok(()) };
        let ended = worker.join();
        let frontend = &mut self.frontend;
        if !self.taken_over {
            assert!(frontend.poll_responses().is_empty(), "answers that the scenario did not ask for");
            assert_eq!(frontend.complaints(), []);
            assert_eq!(frontend.in_flight(), unanswered, "requests without an answer");
        }
        assert_eq!(frontend.domain().live_mappings(), 0, "pages mapped");
        assert!(!frontend.port_control().is_bound());
        ended
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check_end(0).expect("a worker that is told to stop ends well");
        }
    }
}

/// Waits for something that has to come.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_quickly(what, || {
        std::thread::sleep(Duration::from_millis(1));
        condition()
    });
}

/// The same without a pause.
#[track_caller]
pub fn wait_quickly(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
    }
}

/// READ (10) or WRITE (10).
pub fn rw10(opcode: u8, lba: u32, bytes: usize) -> Vec<u8> {
    assert!(bytes.is_multiple_of(512));
    let [a, b, c, d] = lba.to_be_bytes();
    let [m, n] = u16::try_from(bytes / 512).unwrap().to_be_bytes();
    vec![opcode, 0, a, b, c, d, 0, m, n, 0]
}

/// Bytes that tell where they belong.
pub fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i + seed).wrapping_mul(0x9e37_79b1) >> 16) as u8).collect()
}

/// SCSI status of an `rslt`.
pub fn status(rslt: i32) -> u8 {
    rslt.to_le_bytes()[0]
}

/// Host byte of an `rslt`.
pub fn host(rslt: i32) -> u8 {
    rslt.to_le_bytes()[2]
}
