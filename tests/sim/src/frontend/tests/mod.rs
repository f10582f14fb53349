mod complaints;
mod echo;
mod requests;

use std::sync::atomic::Ordering;

use pvscsi_guestmem::SharedPage;
use pvscsi_ring::vscsiif::{
    REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, WireRequest, WireResponse, slot_offset,
};
use pvscsi_xen::{EventChannel, GrantTable};
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::{SimEvents, SimGrants};

const BACKEND: DomId = DomId(0);
const GUEST: DomId = DomId(7);

/// The least that a backend is: it takes slots and answers what it is told to, right or wrong.
struct TestBackend {
    grants: SimGrants,
    events: SimEvents,
    ring: SharedPage,
    req_cons: u32,
    rsp_prod: u32,
}

impl TestBackend {
    fn connect(xen: &Hypervisor, frontend: &LinuxFrontend) -> Self {
        let grants = xen.grant_table(BACKEND, GUEST);
        let ring = grants.map_page(frontend.ring_ref()).unwrap();
        let index = ring.load_u32(RSP_PROD, Ordering::Relaxed);
        Self {
            events: xen.bind_interdomain(BACKEND, GUEST, frontend.port()).unwrap(),
            grants,
            ring,
            req_cons: index,
            rsp_prod: index,
        }
    }

    fn take(&mut self) -> Option<WireRequest> {
        if self.ring.load_u32(REQ_PROD, Ordering::Acquire) == self.req_cons {
            return None;
        }
        let mut request = WireRequest::new_zeroed();
        self.ring.copy_out(slot_offset(self.req_cons), request.as_mut_bytes());
        self.req_cons = self.req_cons.wrapping_add(1);
        Some(request)
    }

    fn put(&mut self, response: WireResponse) {
        self.ring.copy_in(slot_offset(self.rsp_prod), response.as_bytes());
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
    }

    /// Shows what was put, and rings if the guest asked for it.
    fn push(&mut self) {
        let old = self.ring.load_u32(RSP_PROD, Ordering::Relaxed);
        self.ring.store_u32(RSP_PROD, self.rsp_prod, Ordering::Release);
        self.ring.full_barrier();
        let event = self.ring.load_u32(RSP_EVENT, Ordering::Relaxed);
        if self.rsp_prod.wrapping_sub(event) < self.rsp_prod.wrapping_sub(old) {
            self.events.notify().unwrap();
        }
    }

    /// Asks for an event at the next request; whether one came meanwhile.
    fn final_check(&mut self) -> bool {
        self.ring.store_u32(REQ_EVENT, self.req_cons.wrapping_add(1), Ordering::Relaxed);
        self.ring.full_barrier();
        self.ring.load_u32(REQ_PROD, Ordering::Relaxed) != self.req_cons
    }
}

fn good(rqid: Rqid) -> WireResponse {
    let mut response = WireResponse::new_zeroed();
    response.rqid = rqid;
    response
}

fn connected() -> (LinuxFrontend, TestBackend) {
    let xen = Hypervisor::new();
    let frontend = LinuxFrontend::new(&xen, GUEST, BACKEND);
    let backend = TestBackend::connect(&xen, &frontend);
    (frontend, backend)
}

fn call(cdb: &[u8], direction: u8, buffer: GuestBuffer) -> ScsiCall {
    let nexus = Nexus { channel: 0, id: 3, lun: 5 };
    ScsiCall { nexus, cdb: cdb.to_vec(), direction, buffer, timeout_s: 30 }
}
