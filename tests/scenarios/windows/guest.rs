//! Windows on a ring, with a worker for the other end and no xenstore.

use std::time::Instant;

use pvscsi_backend::control::{Bell, Seat, WorkerHandle};
use pvscsi_backend::limits::TimeLimits;
use pvscsi_backend::log_limit::LogLimit;
use pvscsi_backend::worker::Connection;
use pvscsi_ring::vscsiif::{DIRECTION_FROM_DEVICE, DIRECTION_NONE, DIRECTION_TO_DEVICE};
use pvscsi_ring::{BackRing, Nexus};
use pvscsi_sg::ReactorKind;
use pvscsi_sim::Hypervisor;
use pvscsi_sim::frontend::windows::{Completed, SrbStatus, WindowsFrontend};
use pvscsi_sim::frontend::{self, GuestBuffer, Rqid, ScsiCall};
use pvscsi_xen::{DomId, GrantTable};

use crate::vhost::{Luns, PATIENCE, rw10};

pub const BACKEND: DomId = DomId(0);
pub const GUEST: DomId = DomId(3);

/// The address that Windows's table can hold first.
pub const FIRST: Nexus = at(0);

/// The address of a unit on the first target.
pub const fn at(lun: u16) -> Nexus {
    Nexus { channel: 0, id: 0, lun }
}

pub fn to_frontend(nexus: Nexus) -> frontend::Nexus {
    let Nexus { channel, id, lun } = nexus;
    frontend::Nexus { channel, id, lun }
}

/// A worker and Windows. The worker is stopped at the end, and everything is checked.
pub struct Direct {
    pub guest: WindowsFrontend,
    worker: Option<WorkerHandle>,
}

impl Direct {
    /// Windows has the units in its table, in this order.
    pub fn start(luns: Luns) -> Self {
        let xen = Hypervisor::new();
        let mut guest = WindowsFrontend::new(&xen, GUEST, BACKEND);
        for (nexus, _) in &luns {
            assert!(guest.devices().add(to_frontend(*nexus)));
        }
        let grants = xen.grant_table(BACKEND, GUEST);
        let connection = Connection {
            domid: GUEST,
            ring: BackRing::attach(grants.map_page(guest.ring_ref()).unwrap(), 0),
            events: Box::new(xen.bind_interdomain(BACKEND, GUEST, guest.port()).unwrap()),
            grants: Box::new(grants),
            luns,
            feature_host: false,
            limits: TimeLimits::default(),
            log_limit: LogLimit::default(),
        };
        let bell = Bell::new().unwrap();
        let worker =
            WorkerHandle::start(Seat::anywhere("windows"), connection, ReactorKind::Auto, bell).unwrap();
        Self { guest, worker: Some(worker) }
    }

    pub fn worker(&self) -> &WorkerHandle {
        self.worker.as_ref().expect("until the end")
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        let worker = self.worker.take().expect("once");
        if std::thread::panicking() {
            return;
        }
        worker.join().unwrap();
        assert_eq!(self.guest.complaints(), []);
        assert_eq!(self.guest.poll_completed().len(), 0, "commands that the scenario did not ask for");
        assert_eq!(self.guest.in_flight(), 0, "commands without an answer");
        assert_eq!(self.guest.domain().live_mappings(), 0);
        self.guest.quiesce();
        assert_eq!(self.guest.domain().live_grants(), 1 + self.guest.lost_grants(), "the ring");
        assert_eq!(self.guest.complaints(), []);
    }
}

/// What a scenario asks of Windows, however it is connected.
pub trait Io {
    fn windows(&mut self) -> &mut WindowsFrontend;

    fn send(&mut self, to: Nexus, cdb: &[u8], direction: u8, buffer: GuestBuffer) -> Result<Rqid, SrbStatus> {
        let call = ScsiCall { nexus: to_frontend(to), cdb: cdb.to_vec(), direction, buffer, timeout_s: 10 };
        self.windows().start_io(call)
    }

    /// The next command that is back, which has to come.
    fn completed(&mut self) -> Completed {
        let guest = self.windows();
        let start = Instant::now();
        guest.wait_completed(PATIENCE).unwrap_or_else(|| {
            panic!("nothing after {:?}; complaints: {:?}", start.elapsed(), guest.complaints())
        })
    }

    /// A command while no other is under way.
    fn call(&mut self, to: Nexus, cdb: &[u8], direction: u8, buffer: GuestBuffer) -> Completed {
        let rqid = self.send(to, cdb, direction, buffer).expect("room on the ring and a device");
        let completed = self.completed();
        assert_eq!(completed.sent.rqid, rqid);
        completed
    }

    /// Whether the unit says that it is ready.
    fn is_ready(&mut self, to: Nexus) -> bool {
        self.call(to, &[0; 6], DIRECTION_NONE, GuestBuffer::default()).status() == SrbStatus::Success
    }

    fn write(&mut self, to: Nexus, lba: u32, bytes: &[u8], memory: &GuestBuffer) {
        memory.write(bytes);
        let done = self.call(to, &rw10(0x2a, lba, bytes.len()), DIRECTION_TO_DEVICE, memory.clone());
        assert_eq!(done.status(), SrbStatus::Success, "WRITE at {lba}: sense {:02x?}", done.sent.sense);
    }

    fn read(&mut self, to: Nexus, lba: u32, memory: GuestBuffer) -> Vec<u8> {
        let done = self.call(to, &rw10(0x28, lba, memory.len()), DIRECTION_FROM_DEVICE, memory);
        assert_eq!(done.status(), SrbStatus::Success, "READ at {lba}: sense {:02x?}", done.sent.sense);
        done.sent.data.to_vec()
    }
}

impl Io for WindowsFrontend {
    fn windows(&mut self) -> &mut WindowsFrontend {
        self
    }
}

impl Io for Direct {
    fn windows(&mut self) -> &mut WindowsFrontend {
        &mut self.guest
    }
}
