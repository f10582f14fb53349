//! Requests of a guest, for the benchmarks of the ring.

use std::hint::black_box;
use std::sync::atomic::Ordering;

use pvscsi_guestmem::{HeapPage, SharedPage};
use pvscsi_ring::vscsiif::{DIRECTION_FROM_DEVICE, REQ_PROD, VSCSIIF_ACT_SCSI_CDB, WireRequest, WireSegment};
use pvscsi_ring::{Answer, BackRing, Ticket};
use zerocopy::FromZeros;

/// A READ (10) with so many entries of `seg` used.
pub fn slot(count: u8, length: u16) -> WireRequest {
    let mut slot = WireRequest::new_zeroed();
    slot.act = VSCSIIF_ACT_SCSI_CDB;
    slot.cmd_len = 10;
    slot.cmnd[0] = 0x28;
    slot.sc_data_direction = DIRECTION_FROM_DEVICE;
    slot.nr_segments = count;
    for (gref, segment) in (8..).zip(&mut slot.seg) {
        *segment = WireSegment { gref, offset: 0, length };
    }
    slot
}

/// A ring, and a guest that looks at no answer.
pub struct Ring {
    guest: SharedPage,
    ring: BackRing,
    tickets: Vec<Ticket>,
    req_prod: u32,
}

impl Ring {
    pub fn new() -> Self {
        let page = HeapPage::new();
        let (guest, ring) = (page.share(), BackRing::attach(page.share(), 0));
        Self { guest, ring, tickets: Vec::with_capacity(16), req_prod: 0 }
    }

    /// Takes so many requests, answers all of them, and shows the answers to the guest.
    pub fn turn(&mut self, requests: u32) -> bool {
        self.req_prod = self.req_prod.wrapping_add(requests);
        self.guest.store_u32(REQ_PROD, self.req_prod, Ordering::Release);
        while let Some((ticket, slot)) = self.ring.take().expect("an honest index") {
            black_box(&slot);
            self.tickets.push(ticket);
        }
        for ticket in self.tickets.drain(..) {
            self.ring.push(ticket, &Answer::command(0, 0, &[], 0));
        }
        self.ring.publish()
    }
}
