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
use pvscsi_xen::DomId;
use zerocopy::{FromZeros, IntoBytes};

use super::expected::Expected;
use super::pages::Pages;
use super::{Action, Index, Memory, slots};
use crate::{LinuxFrontend, PortControl, Way};

/// How long an answer may take that has to come.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a guest waits for room before it takes it that its devices hold commands.
const SHORT: Duration = Duration::from_millis(2);

/// The backend's side, as far as a run has to know it.
pub struct Backend<'a> {
    /// Why it gave up the ring, if it did.
    pub ended: &'a mut dyn FnMut() -> Option<RingError>,
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
pub struct HostileGuest {
    ring: SharedPage,
    pages: Pages,
    port: PortControl,
    req_prod: u32,
    /// What the backend was shown last.
    shown: u32,
    /// Answers that were seen.
    answered: u32,
    /// `rsp_prod` may hold a number of ours.
    rsp_prod_spoilt: bool,
    expected: Expected,
    must_succeed: bool,
    ended: Option<RingError>,
    pub(super) patience: Duration,
}

impl HostileGuest {
    /// Takes over the ring of a frontend that is connected and has sent nothing; it is of no use from then on.
    #[must_use]
    pub fn take_over(frontend: &LinuxFrontend, backend: DomId) -> Self {
        let ring = frontend.ring_page().share();
        let index = ring.load_u32(RSP_PROD, Ordering::Acquire);
        Self {
            ring,
            pages: Pages::grant_all(frontend, backend),
            port: frontend.port_control(),
            req_prod: index,
            shown: index,
            answered: index,
            rsp_prod_spoilt: false,
            expected: Expected::Answers(Vec::new()),
            must_succeed: false,
            ended: None,
            patience: PATIENCE,
        }
    }

    /// Does all of it, then waits until the backend has answered everything and shows that it still serves, LUN 0 among the rest;
    /// or until it has given up the ring, which it may only when the indices in it were wrong.
    ///
    /// # Panics
    ///
    /// When the backend did anything that it must not.
    pub fn run(&mut self, actions: &[Action], backend: &mut Backend<'_>) {
        for action in actions {
            self.act(action, backend);
            if self.has_ended(backend) {
                break;
            }
        }
        self.settle(backend);
        self.judge_end();
    }

    /// Checks the end of the backend, now stopped: why it had given up the ring, if it did after [`run`](Self::run), and that it
    /// holds nothing of the guest's.
    ///
    /// # Panics
    ///
    /// When it had no reason to, or holds something.
    pub fn check_end(mut self, ended: Option<RingError>) {
        self.ended = self.ended.or(ended);
        self.judge_end();
        assert!(!self.port.is_bound(), "a port bound");
        self.pages.check_released();
    }

    /// Only indices that are wrong, and wrong by the numbers, end a backend.
    fn judge_end(&self) {
        let Some(RingError { req_prod, req_cons, answered }) = self.ended else { return };
        let (claimed, open) = (req_prod.wrapping_sub(req_cons), req_cons.wrapping_sub(answered));
        assert!(open <= RING_SLOTS && claimed > RING_SLOTS - open, "{:?} is possible", self.ended);
        assert!(!self.expected.indices_are_right(), "given up for nothing: {:?}", self.ended);
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
                self.ring_bell();
            }
            Action::Spoil { index, by } => self.spoil(index, by),
            Action::Revoke(memory) => self.pages.revoke(memory),
            Action::Grant(memory) => self.pages.grant(memory),
            Action::Bell { times } => (0..times).for_each(|_| self.ring_bell()),
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

    fn show(&mut self, bell: bool) {
        while self.shown != self.req_prod {
            self.expected.show(&self.slot(self.shown));
            self.shown = self.shown.wrapping_add(1);
        }
        self.store(REQ_PROD, self.req_prod);
        if bell {
            self.ring_bell();
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

    fn ring_bell(&self) {
        self.port.raise_spurious(Way::ToBackend);
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
            let mut answer = WireResponse::new_zeroed();
            self.ring.copy_out(slot_offset(self.answered), answer.as_mut_bytes());
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
                self.ring_bell();
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
        self.pages.grant(Memory::First);
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
            self.ring_bell();
            if self.ring.load_u32(RSP_PROD, Ordering::Acquire) == req_prod.wrapping_add(1) {
                return true;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        false
    }
}
