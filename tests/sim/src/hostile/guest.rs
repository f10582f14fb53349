//! Runs a list of actions, and finds out whether the backend held.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pvscsi_guestmem::SharedPage;
use pvscsi_ring::RingError;
use pvscsi_ring::vscsiif::{
    REQ_EVENT, REQ_PROD, RING_SLOTS, RSP_EVENT, RSP_PROD, SLOT_SIZE, WireRequest, WireResponse, WireSegment,
    slot_offset,
};
use pvscsi_xen::{DomId, GrantRef};
use zerocopy::{FromZeros, IntoBytes};

use super::expected::Expected;
use super::pages::Pages;
use super::{Action, GuestXen, Index, Memory, Put, SimXen, slots};
use crate::LinuxFrontend;

/// How long an answer may take that has to come.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a guest waits for room before it takes it that its devices hold commands.
const SHORT: Duration = Duration::from_millis(2);

/// How a backend gave up the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// For this reason.
    Ring(RingError),
    /// It closed, and did not tell the guest why.
    Closed,
}

/// The backend's side, as far as a run has to know it.
pub struct Backend<'a> {
    /// How it gave up the ring, if it did.
    pub ended: &'a mut dyn FnMut() -> Option<End>,
    /// Lets its devices finish what they hold.
    pub let_go: &'a mut dyn FnMut(),
}

impl fmt::Debug for Backend<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}

/// A guest that runs [`Action`]s.
#[derive(Debug)]
pub struct HostileGuest<X> {
    xen: X,
    ring: SharedPage,
    ring_ref: GrantRef,
    backend: DomId,
    pages: Pages,
    req_prod: u32,
    /// What the backend was shown last.
    shown: u32,
    /// Answers that were seen.
    answered: u32,
    /// `rsp_prod` may hold a number of ours.
    rsp_prod_spoilt: bool,
    expected: Expected,
    must_succeed: bool,
    ended: Option<End>,
    /// How long an answer may take that has to come.
    pub patience: Duration,
}

impl HostileGuest<SimXen> {
    /// Takes over the ring of a frontend that is connected and has sent nothing; it is of no use from then on.
    #[must_use]
    pub fn take_over(frontend: &LinuxFrontend, backend: DomId) -> Self {
        let xen = SimXen { domain: frontend.domain().clone(), port: frontend.port_control() };
        Self::new(xen, frontend.ring_page().share(), frontend.ring_ref(), backend)
    }

    /// Checks the end of the backend, now stopped: why it had given up the ring, if it did after [`run`](Self::run), and that it
    /// holds nothing of the guest's.
    ///
    /// # Panics
    ///
    /// When it had no reason to, or holds something.
    pub fn check_end(mut self, ended: Option<RingError>) {
        self.ended = self.ended.or(ended.map(End::Ring));
        self.judge_end();
        assert!(!self.xen.port.is_bound(), "a port bound");
        assert_eq!(self.xen.domain.live_mappings(), 0, "pages mapped");
        for gref in self.pages.live() {
            assert_eq!(self.xen.domain.try_revoke(gref), Ok(()), "a grant in use");
        }
    }
}

impl<X: GuestXen> HostileGuest<X> {
    /// A guest on a ring that `backend` serves, and that nothing was sent on.
    #[must_use]
    pub fn new(xen: X, ring: SharedPage, ring_ref: GrantRef, backend: DomId) -> Self {
        let index = ring.load_u32(RSP_PROD, Ordering::Acquire);
        Self {
            pages: Pages::grant_all(&xen, ring_ref, backend),
            xen,
            ring,
            ring_ref,
            backend,
            req_prod: index,
            shown: index,
            answered: index,
            rsp_prod_spoilt: false,
            expected: Expected::default(),
            must_succeed: false,
            ended: None,
            patience: PATIENCE,
        }
    }

    /// Makes ready for another list on the same ring, with new pages. `false`: it takes a new ring, for the backend has given this
    /// one up, or the guest does not know its indices any more.
    pub fn start_over(&mut self) -> bool {
        if self.ended.is_some() || !self.expected.indices_are_right() {
            return false;
        }
        self.pages = Pages::grant_all(&self.xen, self.ring_ref, self.backend);
        (self.expected, self.must_succeed, self.rsp_prod_spoilt) = (Expected::default(), false, false);
        true
    }

    /// Asks for one thing, and gives the answer's `rslt`.
    ///
    /// # Panics
    ///
    /// When there is none, or there is something wrong with it.
    pub fn ask(&mut self, put: Put, backend: &mut Backend<'_>) -> i32 {
        self.must_succeed = false;
        self.act(&Action::Put(put), backend);
        self.act(&Action::Await, backend);
        assert_eq!(self.ended, None, "the backend ended");
        self.answer(self.answered.wrapping_sub(1)).rslt
    }

    /// Does all of it, then waits until the backend has answered everything and shows that it still serves, LUN 0 among the rest;
    /// or until it has given up the ring, which it may only when the indices in it were wrong. Gives how many actions it did.
    ///
    /// # Panics
    ///
    /// When the backend did anything that it must not.
    pub fn run(&mut self, actions: &[Action], backend: &mut Backend<'_>) -> usize {
        let mut done = 0;
        for action in actions {
            self.act(action, backend);
            done += 1;
            if self.has_ended(backend) {
                break;
            }
        }
        self.settle(backend);
        self.judge_end();
        done
    }

    /// Only indices that are wrong, and wrong by the numbers, end a backend.
    fn judge_end(&self) {
        let Some(end) = self.ended else { return };
        if let End::Ring(RingError { req_prod, req_cons, answered }) = end {
            let (claimed, open) = (req_prod.wrapping_sub(req_cons), req_cons.wrapping_sub(answered));
            assert!(open <= RING_SLOTS && claimed > RING_SLOTS - open, "{end:?} is possible");
        }
        assert!(!self.expected.indices_are_right(), "given up for nothing: {end:?}");
    }

    fn act(&mut self, action: &Action, backend: &mut Backend<'_>) {
        match *action {
            Action::Put(put) => {
                let request = slots::command(&put, self.pages.gref(put.memory));
                (0..put.times).for_each(|_| self.put(&request, backend));
            }
            Action::Noise { seed } => self.put(&slots::noise(seed), backend),
            Action::Manage { act, lun, rqid, ref_rqid } => {
                self.put(&WireRequest { act, rqid, ref_rqid, ..slots::nothing(lun) }, backend);
            }
            Action::Poke { back, at, value } => self.poke(back, at, value),
            Action::Entry { entry, memory, offset, length } => {
                let gref = self.pages.gref(memory);
                self.pages.write_entry(entry, WireSegment { gref, offset, length });
                if self.pages.is_ring(gref) {
                    self.expected.indices_changed();
                }
            }
            Action::Show { bell } => self.show(bell),
            Action::Skip { by } => self.skip(by),
            Action::Jump { by: 0 } => self.show(true),
            Action::Jump { by } => {
                self.expected.indices_changed();
                self.store(REQ_PROD, self.req_prod.wrapping_add_signed(by));
                self.xen.ring_bell();
            }
            Action::Spoil { index, by } => self.spoil(index, by),
            Action::Revoke(memory) => self.pages.revoke(&self.xen, memory),
            Action::Grant(memory) => self.pages.grant(&self.xen, memory),
            Action::Bell { times } => (0..times).for_each(|_| self.xen.ring_bell()),
            Action::AskForEvent => {
                self.look();
                self.store(RSP_EVENT, self.answered.wrapping_add(1));
            }
            Action::LetGo => (backend.let_go)(),
            Action::Rest { times } => std::thread::sleep(Duration::from_micros(8) * times.into()),
            Action::Await => {
                self.show(true);
                if self.expected.indices_are_right() {
                    self.wait_for_answers(backend);
                }
            }
        }
    }

    fn put(&mut self, request: &WireRequest, backend: &mut Backend<'_>) {
        if !self.make_room(backend) {
            return;
        }
        self.ring.copy_in(slot_offset(self.req_prod), request.as_bytes());
        self.req_prod = self.req_prod.wrapping_add(1);
        self.suspect_own_ring(&request.seg);
    }

    /// A backend that writes data into the ring page spoils it on the guest's behalf.
    fn suspect_own_ring(&mut self, segments: &[WireSegment]) {
        if segments.iter().any(|segment| self.pages.is_ring(segment.gref)) {
            self.expected.indices_changed();
        }
    }

    fn poke(&mut self, back: u8, at: u8, value: u8) {
        let index = self.req_prod.wrapping_sub(u32::from(back)).wrapping_sub(1);
        let at = usize::from(at) % SLOT_SIZE;
        self.ring.copy_in(slot_offset(index) + at, &[value]);
        let unshown = self.req_prod.wrapping_sub(self.shown);
        if u32::from(back) >= unshown {
            self.expected.slots_changed();
        }
        self.suspect_own_ring(&self.slot(index).seg);
    }

    /// What a slot holds, as a request.
    fn slot(&self, index: u32) -> WireRequest {
        let mut request = WireRequest::new_zeroed();
        self.ring.copy_out(slot_offset(index), request.as_mut_bytes());
        request
    }

    /// What it holds as an answer.
    fn answer(&self, index: u32) -> WireResponse {
        let mut answer = WireResponse::new_zeroed();
        self.ring.copy_out(slot_offset(index), answer.as_mut_bytes());
        answer
    }

    fn show(&mut self, bell: bool) {
        while self.shown != self.req_prod {
            self.expected.show(&self.slot(self.shown));
            self.shown = self.shown.wrapping_add(1);
        }
        self.store(REQ_PROD, self.req_prod);
        if bell {
            self.xen.ring_bell();
        }
    }

    fn skip(&mut self, by: u8) {
        self.look();
        self.req_prod = self.req_prod.wrapping_add(by.into());
        if self.req_prod.wrapping_sub(self.answered) > RING_SLOTS {
            self.expected.indices_changed();
        }
        self.show(true);
    }

    fn spoil(&mut self, index: Index, by: i32) {
        let (at, proper) = match index {
            Index::RspProd => (RSP_PROD, self.answered),
            Index::ReqEvent => (REQ_EVENT, self.shown.wrapping_add(1)),
            Index::RspEvent => (RSP_EVENT, self.answered.wrapping_add(1)),
        };
        let value = proper.wrapping_add_signed(by);
        if index == Index::RspProd {
            self.look();
            self.rsp_prod_spoilt = true;
            // The guest overwrites what it does not know yet, or would itself take the value for answers, now or with the
            // requests that it still puts before the backend writes the true one.
            let open = self.answered != self.shown;
            if open || value.wrapping_sub(self.answered) <= 2 * RING_SLOTS {
                self.expected.indices_changed();
            }
        }
        self.store(at, value);
    }

    fn store(&self, at: usize, value: u32) {
        self.ring.store_u32(at, value, Ordering::Release);
    }

    fn has_ended(&mut self, backend: &mut Backend<'_>) -> bool {
        if self.ended.is_none() {
            self.ended = (backend.ended)();
        }
        self.ended.is_some()
    }

    /// Takes the answers that are there.
    fn look(&mut self) {
        if !self.expected.indices_are_right() {
            return;
        }
        let rsp_prod = self.ring.load_u32(RSP_PROD, Ordering::Acquire);
        let outstanding = self.shown.wrapping_sub(self.answered);
        if rsp_prod.wrapping_sub(self.answered) > outstanding {
            assert!(
                self.rsp_prod_spoilt,
                "rsp_prod is {rsp_prod}, with {outstanding} open and {} answered",
                self.answered
            );
            return;
        }
        while self.answered != rsp_prod {
            let answer = self.answer(self.answered);
            self.expected.accept(&answer);
            assert!(answer.rslt == 0 || !self.must_succeed, "{:#x} for a good request", answer.rslt);
            self.answered = self.answered.wrapping_add(1);
        }
    }

    /// Waits for a free slot, if the guest still knows what is free.
    fn make_room(&mut self, backend: &mut Backend<'_>) -> bool {
        let full = |guest: &Self| {
            guest.expected.indices_are_right() && guest.req_prod.wrapping_sub(guest.answered) >= RING_SLOTS
        };
        self.look();
        if full(self) {
            self.show(true);
            self.wait(backend, |guest| !full(guest));
        }
        !full(self)
    }

    fn wait_for_answers(&mut self, backend: &mut Backend<'_>) {
        self.wait(backend, |guest| guest.answered == guest.shown);
    }

    /// Waits for something that has to come unless the backend ends. Its devices finish what they hold when it takes long.
    fn wait(&mut self, backend: &mut Backend<'_>, come: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        loop {
            self.look();
            if come(self) || self.has_ended(backend) {
                return;
            }
            let waited = start.elapsed();
            assert!(
                waited < self.patience,
                "no answer; {:?}, {} answered of {}",
                self.expected,
                self.answered,
                self.shown
            );
            if waited > SHORT {
                (backend.let_go)();
                self.xen.ring_bell();
                std::thread::sleep(Duration::from_micros(200));
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// Sees to it that everything is answered, and asks for one thing more.
    fn settle(&mut self, backend: &mut Backend<'_>) {
        if self.expected.indices_are_right() {
            self.show(true);
            self.wait_for_answers(backend);
            if self.ended.is_none() {
                self.expected.assert_all_answered();
                self.probe(backend);
            }
            return;
        }
        let start = Instant::now();
        while !self.has_ended(backend) && !self.is_served(backend) {
            assert!(start.elapsed() < self.patience, "the backend neither serves nor ends");
        }
    }

    /// A ringful of good requests has to succeed: nothing that they need was lost on the way.
    fn probe(&mut self, backend: &mut Backend<'_>) {
        self.must_succeed = true;
        self.pages.grant(&self.xen, Memory::First);
        for rqid in 0..16 {
            self.put(&slots::inquiry(rqid, self.pages.gref(Memory::First)), backend);
        }
        self.show(true);
        self.wait_for_answers(backend);
    }

    /// Whether the backend answers, from whatever `req_prod` is now on, a request that makes sense. It may still be about to
    /// spoil that index itself: then another try says more.
    fn is_served(&mut self, backend: &mut Backend<'_>) -> bool {
        let req_prod = self.ring.load_u32(REQ_PROD, Ordering::Acquire);
        self.ring.copy_in(slot_offset(req_prod), slots::nothing(0).as_bytes());
        self.store(RSP_PROD, req_prod.wrapping_sub(1000));
        self.store(REQ_PROD, req_prod.wrapping_add(1));
        let start = Instant::now();
        while start.elapsed() < 25 * SHORT && !self.has_ended(backend) {
            (backend.let_go)();
            self.xen.ring_bell();
            if self.ring.load_u32(RSP_PROD, Ordering::Acquire) == req_prod.wrapping_add(1) {
                return true;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        false
    }
}
