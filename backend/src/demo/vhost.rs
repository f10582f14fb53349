//! A guest of the simulated Xen, and the worker that serves it.

use std::io;

use pvscsi_ring::{BackRing, Nexus};
use pvscsi_sg::{LogicalUnit, ReactorKind};
use pvscsi_sim::{Hypervisor, LinuxFrontend};
use pvscsi_xen::{DomId, GrantTable};

use crate::control::{Bell, Seat, WorkerError, WorkerHandle};
use crate::limits::TimeLimits;
use crate::log_limit::LogLimit;
use crate::worker::Connection;

const BACKEND: DomId = DomId(0);
const GUEST: DomId = DomId(1);

/// Both ends of one vhost, connected as the toolstack and xenstore would have connected them.
#[derive(Debug)]
pub struct SimVhost {
    /// The guest's end.
    pub frontend: LinuxFrontend,
    /// The backend's end.
    pub worker: WorkerHandle,
}

impl SimVhost {
    /// Makes a machine with one guest, and serves it `luns`. The ring's indices start at `start_index`: 0 as in a real guest,
    /// or near `u32::MAX` to see them wrap.
    ///
    /// # Errors
    ///
    /// When there are no descriptors, no memory or no thread left; with [`ReactorKind::IoUring`] also without io_uring.
    pub fn start(
        kind: ReactorKind,
        start_index: u32,
        luns: Vec<(Nexus, Box<dyn LogicalUnit>)>,
        limits: TimeLimits,
    ) -> io::Result<Self> {
        let xen = Hypervisor::new();
        let frontend = LinuxFrontend::with_start_index(&xen, GUEST, BACKEND, start_index);
        let grants = xen.grant_table(BACKEND, GUEST);
        let page = grants.map_page(frontend.ring_ref()).map_err(io::Error::other)?;
        let connection = Connection {
            domid: GUEST,
            ring: BackRing::attach(page, start_index),
            events: Box::new(xen.bind_interdomain(BACKEND, GUEST, frontend.port())?),
            grants: Box::new(grants),
            luns,
            feature_host: false,
            limits,
            log_limit: LogLimit::default(),
        };
        let worker = WorkerHandle::start(Seat::anywhere("simulated"), connection, kind, Bell::new()?)?;
        Ok(Self { frontend, worker })
    }

    /// Ends the worker.
    ///
    /// # Errors
    ///
    /// As [`WorkerHandle::join`].
    pub fn stop(self) -> Result<(), WorkerError> {
        self.worker.join()
    }
}
