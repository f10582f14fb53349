//! The whole round of a worker, in the thread of its guest: the guest has its turn when the worker calls Xen.
//!
//! Neither the guest nor the simulated Xen nor the disk is counted. The reactor is poll: valgrind knows no io_uring, and the kernel's
//! part is not counted anyway.

use std::io;
use std::os::fd::BorrowedFd;

use crossbeam_channel::{Sender, unbounded};
use pvscsi_backend::control::{Bell, News, Order, WorkerEnd};
use pvscsi_backend::limits::TimeLimits;
use pvscsi_backend::log_limit::LogLimit;
use pvscsi_backend::worker::{Connection, Worker};
use pvscsi_guestmem::SharedPage;
use pvscsi_ring::vscsiif::DIRECTION_FROM_DEVICE;
use pvscsi_ring::{BackRing, Nexus};
use pvscsi_sg::disk::{DEFAULT_MAX_TRANSFER, DiskIdentity, EmulatedDisk, Medium};
use pvscsi_sg::{Command, Completion, Event, Job, LogicalUnit, Reactor, ReactorKind};
use pvscsi_sim::frontend::{GuestBuffer, LinuxFrontend, ScsiCall};
use pvscsi_sim::{Hypervisor, SimEvents, SimGrants};
use pvscsi_xen::{CopyBatch, DomId, EventChannel, GrantError, GrantRef, GrantTable, Port};

use crate::{counted, uncounted};

const BACKEND: DomId = DomId(0);
const GUEST: DomId = DomId(1);

/// What the guest does.
#[derive(Clone, Copy)]
pub struct Guest {
    /// Reads that it sends at once.
    pub reads: u8,
    /// Their length.
    pub kib: u16,
    /// Sends the next ones when the worker goes to sleep, or else as soon as it is rung.
    pub waits: bool,
}

/// The guest, at the other end of the worker's event channel.
struct Line {
    events: SimEvents,
    frontend: LinuxFrontend,
    guest: Guest,
    buffers: Vec<GuestBuffer>,
    turns_left: u32,
    orders: Sender<Order>,
    orders_bell: Bell,
}

impl Line {
    /// Takes all answers, and sends the next commands, or ends the worker.
    fn turn(&mut self) {
        for reply in self.frontend.poll_responses() {
            assert_eq!((reply.rslt, reply.residual), (0, 0));
            self.buffers.push(reply.data);
        }
        let idle = self.buffers.len() == usize::from(self.guest.reads);
        if idle && self.turns_left == 0 {
            self.buffers.clear();
            self.orders.send(Order::Stop).expect("the worker runs");
            self.orders_bell.ring();
        } else if idle {
            self.turns_left -= 1;
            let [high, low] = (self.guest.kib * 2).to_be_bytes();
            for buffer in self.buffers.drain(..) {
                let cdb = vec![0x28, 0, 0, 0, 0, 0, 0, high, low, 0];
                let direction = DIRECTION_FROM_DEVICE;
                let call = ScsiCall { cdb, direction, buffer, timeout_s: 30, ..ScsiCall::default() };
                self.frontend.submit(call).expect("room on the ring");
            }
        }
    }
}

impl EventChannel for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    fn unmask(&mut self) -> io::Result<Option<[u8; 4]>> {
        uncounted(|| {
            let written = self.events.unmask()?;
            // The first turn is here in any case.
            self.turn();
            Ok(written)
        })
    }

    fn notify(&mut self) -> io::Result<()> {
        uncounted(|| {
            self.events.notify()?;
            if !self.guest.waits {
                self.turn();
            }
            Ok(())
        })
    }

    fn port(&self) -> Port {
        self.events.port()
    }
}

struct Grants(SimGrants);

impl GrantTable for Grants {
    fn map_page(&self, gref: GrantRef) -> Result<SharedPage, GrantError> {
        self.0.map_page(gref)
    }

    fn copy(&self, batch: &mut CopyBatch<'_>) -> io::Result<()> {
        uncounted(|| self.0.copy(batch))
    }
}

struct Disk(EmulatedDisk);

impl LogicalUnit for Disk {
    fn submit(&mut self, command: Command, done: &mut Vec<Completion>) {
        uncounted(|| self.0.submit(command, done));
    }

    fn flush(&mut self, reactor: &mut Reactor) {
        self.0.flush(reactor);
    }

    fn on_event(&mut self, event: Event, reactor: &mut Reactor, done: &mut Vec<Completion>) {
        self.0.on_event(event, reactor, done);
    }

    fn attach(&mut self, owner: u32) {
        self.0.attach(owner);
    }

    fn resetter(&self) -> Option<Job> {
        self.0.resetter()
    }

    fn device_type(&self) -> u8 {
        self.0.device_type()
    }
}

/// Lets a worker serve so many rounds of such a guest.
pub fn serve(guest: Guest, rounds: u32) {
    let xen = Hypervisor::new();
    let frontend = LinuxFrontend::new(&xen, GUEST, BACKEND);
    let grants = xen.grant_table(BACKEND, GUEST);
    let ring = BackRing::attach(grants.map_page(frontend.ring_ref()).expect("granted"), 0);
    let medium = Medium::ram(1 << 20).expect("memory for a disk");
    let disk = EmulatedDisk::new(medium, DiskIdentity::from_name("bench"), DEFAULT_MAX_TRANSFER);
    let bell = || Bell::new().expect("a descriptor");
    let (orders_bell, (give, orders), (news, heard)) = (bell(), unbounded(), unbounded());
    let line = Line {
        events: xen.bind_interdomain(BACKEND, GUEST, frontend.port()).expect("a port"),
        frontend,
        guest,
        buffers: (0..guest.reads).map(|_| GuestBuffer::contiguous(0, usize::from(guest.kib) << 10)).collect(),
        turns_left: rounds,
        orders: give,
        orders_bell: orders_bell.clone(),
    };
    let connection = Connection {
        domid: GUEST,
        ring,
        events: Box::new(line),
        grants: Box::new(Grants(grants)),
        luns: vec![(Nexus { channel: 0, id: 0, lun: 0 }, Box::new(Disk(disk)))],
        feature_host: false,
        limits: TimeLimits::default(),
        log_limit: LogLimit::default(),
    };
    let end = WorkerEnd { orders, orders_bell, news, news_bell: bell(), name: "bench".to_owned() };
    let reactor = Reactor::new(ReactorKind::Poll).expect("poll needs nothing");
    let worker = Worker::new(connection, end, reactor).expect("memory for buffers");
    counted(|| worker.run());
    assert!(heard.try_iter().any(|news| matches!(news, News::Ended(Ok(())))), "the worker ended well");
}
