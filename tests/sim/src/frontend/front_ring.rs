//! The frontend's half of the shared ring (Xen io/ring.h, `FRONT_RING`).

use std::sync::atomic::Ordering;

use pvscsi_guestmem::{PAGE_SIZE, SharedPage};
use pvscsi_ring::vscsiif::{REQ_EVENT, REQ_PROD, RING_SLOTS, RSP_EVENT, RSP_PROD, WireResponse, slot_offset};
use zerocopy::{FromZeros, IntoBytes};

/// More responses on the ring than it has slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overflow {
    pub(super) unread: u32,
}

/// Private indices and the page. All indices run on modulo 2^32.
#[derive(Debug)]
pub(super) struct FrontRing {
    page: SharedPage,
    req_prod_pvt: u32,
    rsp_cons: u32,
}

impl FrontRing {
    /// An empty ring whose indices start at `index`, 0 in a real guest (`XEN_FRONT_RING_INIT`).
    pub(super) fn new(page: SharedPage, index: u32) -> Self {
        page.copy_in(0, &[0; PAGE_SIZE]);
        for (offset, value) in [
            (REQ_PROD, index),
            (RSP_PROD, index),
            (REQ_EVENT, index.wrapping_add(1)),
            (RSP_EVENT, index.wrapping_add(1)),
        ] {
            page.store_u32(offset, value, Ordering::Relaxed);
        }
        Self { page, req_prod_pvt: index, rsp_cons: index }
    }

    /// Whether another request fits (`RING_FULL`).
    pub(super) fn is_full(&self) -> bool {
        self.req_prod_pvt.wrapping_sub(self.rsp_cons) >= RING_SLOTS
    }

    /// Fills the next slot with the parts of a request at their offsets in the slot. Bytes between the parts keep what
    /// the slot held before, as they do in Linux.
    pub(super) fn put(&mut self, parts: &[(usize, &[u8])]) {
        assert!(!self.is_full(), "the caller looks for a free slot first");
        let slot = slot_offset(self.req_prod_pvt);
        for (offset, bytes) in parts {
            self.page.copy_in(slot + offset, bytes);
        }
        self.req_prod_pvt = self.req_prod_pvt.wrapping_add(1);
    }

    /// Shows the backend what was put, and tells whether it wants to be rung
    /// (`RING_PUSH_REQUESTS_AND_CHECK_NOTIFY`).
    pub(super) fn push_requests(&self) -> bool {
        let old = self.page.load_u32(REQ_PROD, Ordering::Relaxed);
        let new = self.req_prod_pvt;
        self.page.store_u32(REQ_PROD, new, Ordering::Release);
        self.page.full_barrier();
        let event = self.page.load_u32(REQ_EVENT, Ordering::Relaxed);
        new.wrapping_sub(event) < new.wrapping_sub(old)
    }

    /// How many responses can be taken now.
    pub(super) fn unread(&self) -> Result<u32, Overflow> {
        let unread = self.page.load_u32(RSP_PROD, Ordering::Acquire).wrapping_sub(self.rsp_cons);
        if unread > RING_SLOTS { Err(Overflow { unread }) } else { Ok(unread) }
    }

    /// Copies the next response out, once (`RING_COPY_RESPONSE`). There must be one.
    pub(super) fn take(&mut self) -> WireResponse {
        let mut response = WireResponse::new_zeroed();
        self.page.copy_out(slot_offset(self.rsp_cons), response.as_mut_bytes());
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        response
    }

    /// Asks for an event at the next response, and tells whether one came meanwhile
    /// (`RING_FINAL_CHECK_FOR_RESPONSES`; with nothing outstanding Linux only sets the threshold).
    pub(super) fn final_check(&self) -> bool {
        self.page.store_u32(RSP_EVENT, self.rsp_cons.wrapping_add(1), Ordering::Relaxed);
        if self.rsp_cons == self.req_prod_pvt {
            return false;
        }
        self.page.full_barrier();
        self.page.load_u32(RSP_PROD, Ordering::Relaxed) != self.rsp_cons
    }

    /// What Windows does when it stops: it declares all requests answered, in the backend's own index.
    pub(super) fn answer_all(&mut self) {
        self.page.store_u32(RSP_PROD, self.req_prod_pvt, Ordering::Release);
        self.rsp_cons = self.req_prod_pvt;
        self.page.store_u32(RSP_EVENT, self.rsp_cons.wrapping_add(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use pvscsi_guestmem::HeapPage;

    use super::*;

    #[test]
    fn a_new_ring_looks_as_the_header_says() {
        let page = HeapPage::new();
        page.share().copy_in(0, &[0xff; PAGE_SIZE]);
        let _ring = FrontRing::new(page.share(), 0);
        let mut bytes = [0xee; PAGE_SIZE];
        page.share().copy_out(0, &mut bytes);
        assert_eq!(bytes[..16], [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        assert!(bytes[16..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn the_backend_is_rung_only_when_it_asked_for_it() {
        let page = HeapPage::new();
        let view = page.share();
        let mut ring = FrontRing::new(page.share(), u32::MAX);
        ring.put(&[]);
        assert!(ring.push_requests(), "req_event was next");
        ring.put(&[]);
        assert!(!ring.push_requests(), "req_event is behind");
        view.store_u32(REQ_EVENT, 3, Ordering::Relaxed);
        ring.put(&[]);
        assert!(!ring.push_requests(), "req_event is still ahead");
        ring.put(&[]);
        ring.put(&[]);
        assert!(ring.push_requests(), "passed within a batch");
        assert_eq!(view.load_u32(REQ_PROD, Ordering::Relaxed), 4);
    }

    #[test]
    fn sixteen_requests_fill_the_ring_and_a_response_frees_a_slot() {
        let page = HeapPage::new();
        let mut ring = FrontRing::new(page.share(), u32::MAX - 5);
        for _ in 0..RING_SLOTS {
            assert!(!ring.is_full());
            ring.put(&[]);
        }
        assert!(ring.is_full());
        page.share().store_u32(RSP_PROD, u32::MAX - 4, Ordering::Relaxed);
        assert_eq!(ring.unread(), Ok(1));
        ring.take();
        assert!(!ring.is_full());
    }

    #[test]
    fn the_final_check_sees_a_response_that_came_meanwhile() {
        let page = HeapPage::new();
        let view = page.share();
        let mut ring = FrontRing::new(page.share(), 0);
        ring.put(&[]);
        ring.put(&[]);
        assert!(!ring.final_check());
        view.store_u32(RSP_PROD, 1, Ordering::Relaxed);
        assert!(ring.final_check());
        ring.take();
        assert!(!ring.final_check());
        assert_eq!(view.load_u32(RSP_EVENT, Ordering::Relaxed), 2);
        view.store_u32(RSP_PROD, 18, Ordering::Relaxed);
        assert_eq!(ring.unread(), Err(Overflow { unread: 17 }));
    }
}
