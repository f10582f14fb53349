//! The backend's view of the shared ring: the readable form of Xen's `io/ring.h`, in its words.

use std::sync::atomic::Ordering;

use pvscsi_guestmem::SharedPage;
use zerocopy::{FromZeros, IntoBytes};

use crate::response::Answer;
use crate::vscsiif::{REQ_EVENT, REQ_PROD, RING_SLOTS, RSP_EVENT, RSP_PROD, WireRequest, slot_offset};

/// The guest's producer index cannot be: it claims more requests than the ring has slots for, or takes some back.
///
/// The ring is of no use from then on: nothing says which slots hold requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the frontend's req_prod {req_prod} is impossible: {req_cons} requests taken, {answered} of them answered"
)]
pub struct RingError {
    /// What the guest wrote.
    pub req_prod: u32,
    /// Our consumer index.
    pub req_cons: u32,
    /// Our response producer index.
    pub answered: u32,
}

/// The debt of one taken request: exactly one answer, paid by [`BackRing::push`].
///
/// Dropping it unpaid is a bug of ours and panics; a ring that goes away as a whole
/// [`abandon`](Self::abandon)s its tickets.
#[derive(Debug)]
#[must_use = "each request is answered exactly once"]
pub struct Ticket {
    rqid: u16,
}

impl Ticket {
    /// The guest's name for the request.
    #[must_use]
    pub fn rqid(&self) -> u16 {
        self.rqid
    }

    /// Gives the request up without an answer, since its ring is gone.
    pub fn abandon(self) {
        std::mem::forget(self);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "request {} was dropped without an answer", self.rqid);
    }
}

/// The ring page and the backend's private indices. All indices wrap modulo 2^32.
#[derive(Debug)]
pub struct BackRing {
    page: SharedPage,
    // Never read back from the page: the guest may write all of it.
    req_cons: u32,
    rsp_prod_pvt: u32,
    rsp_prod: u32,
    req_prod: u32,
}

impl BackRing {
    /// Takes up a ring on which `answered` requests were answered and no other was taken (`BACK_RING_ATTACH`);
    /// 0 for a new ring.
    #[must_use]
    pub fn attach(page: SharedPage, answered: u32) -> Self {
        Self { page, req_cons: answered, rsp_prod_pvt: answered, rsp_prod: answered, req_prod: answered }
    }

    /// Requests taken and not answered.
    #[must_use]
    pub fn outstanding(&self) -> u32 {
        self.req_cons.wrapping_sub(self.rsp_prod_pvt)
    }

    /// Reads `req_prod` once, and says how many requests wait.
    fn look(&mut self) -> Result<u32, RingError> {
        // Acquire: the slots are read after the index that covers them.
        let req_prod = self.page.load_u32(REQ_PROD, Ordering::Acquire);
        let waiting = req_prod.wrapping_sub(self.req_cons);
        // A producer that went back shows as a huge number here.
        if waiting > RING_SLOTS.saturating_sub(self.outstanding()) {
            return Err(RingError { req_prod, req_cons: self.req_cons, answered: self.rsp_prod_pvt });
        }
        self.req_prod = req_prod;
        Ok(waiting)
    }

    /// Takes the next request: a private copy of its slot, read once, and the ticket for its answer.
    ///
    /// # Errors
    ///
    /// [`RingError`] when the guest's producer index is impossible.
    pub fn take(&mut self) -> Result<Option<(Ticket, WireRequest)>, RingError> {
        if self.req_prod == self.req_cons && self.look()? == 0 {
            return Ok(None);
        }
        let mut request = WireRequest::new_zeroed();
        self.page.copy_out(slot_offset(self.req_cons), request.as_mut_bytes());
        self.req_cons = self.req_cons.wrapping_add(1);
        Ok(Some((Ticket { rqid: request.rqid }, request)))
    }

    /// Whether a request waits. Asks the guest for nothing.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub fn has_request(&mut self) -> Result<bool, RingError> {
        Ok(self.look()? > 0)
    }

    /// Asks the guest for an event with its next request, and looks once more (`RING_FINAL_CHECK_FOR_REQUESTS`):
    /// `true` means that a request came meanwhile, and perhaps no event for it will.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub fn final_check(&mut self) -> Result<bool, RingError> {
        if self.look()? > 0 {
            return Ok(true);
        }
        self.page.store_u32(REQ_EVENT, self.req_cons.wrapping_add(1), Ordering::Relaxed);
        // The threshold must be visible before the producer is read again, or both sides go to sleep.
        self.page.full_barrier();
        Ok(self.look()? > 0)
    }

    /// Pays the ticket: writes the response into the next slot. The guest sees it after [`publish`](Self::publish).
    ///
    /// # Panics
    ///
    /// When no request is outstanding: the ticket belongs to another ring.
    pub fn push(&mut self, ticket: Ticket, answer: &Answer<'_>) {
        assert!(self.outstanding() > 0, "a ticket of another ring");
        let response = answer.to_wire(ticket.rqid);
        ticket.abandon();
        self.page.copy_in(slot_offset(self.rsp_prod_pvt), response.as_bytes());
        self.rsp_prod_pvt = self.rsp_prod_pvt.wrapping_add(1);
    }

    /// Shows the guest all pushed responses (`RING_PUSH_RESPONSES_AND_CHECK_NOTIFY`); `true` when it wants an event.
    pub fn publish(&mut self) -> bool {
        let (old, new) = (self.rsp_prod, self.rsp_prod_pvt);
        if old == new {
            return false;
        }
        // Release: the responses are visible before the index that covers them.
        self.page.store_u32(RSP_PROD, new, Ordering::Release);
        self.rsp_prod = new;
        // The index must be visible before the threshold is read.
        self.page.full_barrier();
        let rsp_event = self.page.load_u32(RSP_EVENT, Ordering::Relaxed);
        new.wrapping_sub(rsp_event) < new.wrapping_sub(old)
    }
}

#[cfg(test)]
mod tests {
    use pvscsi_guestmem::HeapPage;

    use super::*;
    use crate::vscsiif::WireResponse;
    use zerocopy::FromBytes;

    /// A frontend's half of the page, by hand.
    struct Guest(SharedPage);

    impl Guest {
        fn put(&self, index: u32, rqid: u16) {
            let mut request = WireRequest::new_zeroed();
            request.rqid = rqid;
            self.0.copy_in(slot_offset(index), request.as_bytes());
            self.0.store_u32(REQ_PROD, index.wrapping_add(1), Ordering::Release);
        }
        fn response(&self, index: u32) -> WireResponse {
            let mut bytes = [0; 252];
            self.0.copy_out(slot_offset(index), &mut bytes);
            WireResponse::read_from_bytes(&bytes).unwrap()
        }
        fn word(&self, at: usize) -> u32 {
            self.0.load_u32(at, Ordering::Relaxed)
        }
    }

    fn ring(start: u32) -> (Guest, BackRing) {
        let page = HeapPage::new();
        let guest = Guest(page.share());
        guest.0.store_u32(REQ_PROD, start, Ordering::Relaxed);
        guest.0.store_u32(RSP_PROD, start, Ordering::Relaxed);
        guest.0.store_u32(REQ_EVENT, start.wrapping_add(1), Ordering::Relaxed);
        guest.0.store_u32(RSP_EVENT, start.wrapping_add(1), Ordering::Relaxed);
        (guest, BackRing::attach(page.share(), start))
    }

    fn answer(ring: &mut BackRing, ticket: Ticket) {
        ring.push(ticket, &Answer::command(0, 0, &[], 0));
    }

    #[test]
    fn requests_are_answered_once_in_any_order_across_the_wrap() {
        let (guest, mut ring) = ring(u32::MAX - 20);
        let mut index = u32::MAX - 20;
        for round in 0..10_u16 {
            for i in 0..16 {
                guest.put(index.wrapping_add(i), round * 16 + i as u16);
            }
            let mut tickets = Vec::new();
            while let Some((ticket, request)) = ring.take().unwrap() {
                assert_eq!(ticket.rqid(), request.rqid);
                tickets.push(ticket);
            }
            assert_eq!(tickets.len(), 16);
            assert_eq!(ring.outstanding(), 16);
            for ticket in tickets.into_iter().rev() {
                answer(&mut ring, ticket);
            }
            ring.publish();
            for i in 0..16 {
                assert_eq!(guest.response(index.wrapping_add(i)).rqid, round * 16 + 15 - i as u16);
            }
            index = index.wrapping_add(16);
            assert_eq!(guest.word(RSP_PROD), index);
        }
        assert_eq!(ring.outstanding(), 0);
    }

    #[test]
    fn a_producer_that_jumps_or_goes_back_is_an_error() {
        for start in [0, 5, u32::MAX - 3] {
            for jump in [17, 18, 1000, u32::MAX, u32::MAX - 15, 1 << 31] {
                let (guest, mut ring) = ring(start);
                guest.0.store_u32(REQ_PROD, start.wrapping_add(jump), Ordering::Relaxed);
                assert!(ring.take().is_err(), "start {start} jump {jump}");
            }
            let (guest, mut ring) = ring(start);
            guest.0.store_u32(REQ_PROD, start.wrapping_add(16), Ordering::Relaxed);
            let (ticket, _) = ring.take().unwrap().unwrap();
            // One is taken; 16 more would be 17 in all.
            guest.0.store_u32(REQ_PROD, start.wrapping_add(17), Ordering::Relaxed);
            for _ in 0..15 {
                ring.take().unwrap().unwrap().0.abandon();
            }
            assert!(ring.take().is_err());
            assert!(ring.final_check().is_err());
            ticket.abandon();
        }
    }

    #[test]
    fn the_final_check_sees_a_late_request_and_sets_the_threshold() {
        let (guest, mut ring) = ring(7);
        assert!(!ring.final_check().unwrap());
        assert_eq!(guest.word(REQ_EVENT), 8);
        guest.put(7, 3);
        assert!(ring.final_check().unwrap());
        let (ticket, _) = ring.take().unwrap().unwrap();
        answer(&mut ring, ticket);
        assert!(!ring.final_check().unwrap());
        assert_eq!(guest.word(REQ_EVENT), 9);
    }

    #[test]
    fn notify_only_when_the_threshold_was_crossed() {
        let (guest, mut ring) = ring(0);
        for i in 0..3 {
            guest.put(i, 0);
        }
        guest.0.store_u32(RSP_EVENT, 3, Ordering::Relaxed);
        let mut told = Vec::new();
        while let Some((ticket, _)) = ring.take().unwrap() {
            answer(&mut ring, ticket);
            told.push(ring.publish());
        }
        assert_eq!(told, [false, false, true]);
        assert!(!ring.publish(), "nothing new, nothing to tell");
    }

    #[test]
    fn later_writes_of_the_guest_do_not_reach_the_copy() {
        let (guest, mut ring) = ring(0);
        guest.put(0, 42);
        let (ticket, request) = ring.take().unwrap().unwrap();
        guest.put(0, 99);
        assert_eq!((ticket.rqid(), request.rqid), (42, 42));
        answer(&mut ring, ticket);
        assert_eq!(guest.response(0).rqid, 42);
    }

    #[test]
    fn rsp_prod_of_the_page_is_never_read() {
        let (guest, mut ring) = ring(0);
        guest.put(0, 1);
        guest.0.store_u32(RSP_PROD, 0xdead_beef, Ordering::Relaxed);
        let (ticket, _) = ring.take().unwrap().unwrap();
        answer(&mut ring, ticket);
        ring.publish();
        assert_eq!(guest.word(RSP_PROD), 1);
    }

    #[test]
    #[should_panic(expected = "dropped without an answer")]
    fn a_dropped_ticket_is_our_bug() {
        let (guest, mut ring) = ring(0);
        guest.put(0, 1);
        drop(ring.take().unwrap().unwrap());
    }
}
