//! Proof that neither side of the ring sleeps over the other's last word.
//!
//! The backend's side is [`BackRing`] itself, on a page that loom controls; the guest's side is written here after Xen's
//! io/ring.h. The loom models run all interleavings of the two, and all values that a load may give. A lost wake-up shows as a
//! deadlock: both wait, and nobody will ring. Each of the four full barriers is shown to matter by leaving it out.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p pvscsi-ring --release --test loom`
#![cfg(loom)]

use loom::sync::{Condvar, Mutex};
use loom::thread;
use pvscsi_guestmem::{HeapPage, SharedPage};
use pvscsi_ring::vscsiif::{REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, SLOT_SIZE, slot_offset};
use pvscsi_ring::{Answer, BackRing, Ticket};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Two, for the threshold of the first was set before anybody ran.
const REQUESTS: u32 = 2;

/// An event channel with a waiter: an event that came before the wait is not lost, and several are one.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.heard.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.heard.wait(rung).unwrap();
        }
        *rung = false;
    }
}

/// The guest's half: `XEN_FRONT_RING_INIT`, `RING_PUSH_REQUESTS_AND_CHECK_NOTIFY`, `RING_FINAL_CHECK_FOR_RESPONSES`.
struct FrontRing {
    page: SharedPage,
    req_prod: u32,
    rsp_cons: u32,
}

impl FrontRing {
    fn new(page: SharedPage) -> Self {
        page.store_u32(REQ_EVENT, 1, Relaxed);
        page.store_u32(RSP_EVENT, 1, Relaxed);
        Self { page, req_prod: 0, rsp_cons: 0 }
    }

    /// Sends a request; `true` when the backend wants an event.
    fn send(&mut self) -> bool {
        let (old, new) = (self.req_prod, self.req_prod + 1);
        // Its name is its index, from 1 on; `act` 1.
        let mut slot = [0; SLOT_SIZE];
        slot[..4].copy_from_slice(&[new as u8, 0, 1, 6]);
        self.page.copy_in(slot_offset(old), &slot);
        self.page.store_u32(REQ_PROD, new, Release);
        self.req_prod = new;
        self.page.full_barrier();
        let event = self.page.load_u32(REQ_EVENT, Relaxed);
        new.wrapping_sub(event) < new.wrapping_sub(old)
    }

    /// Takes all answers that are there.
    fn take(&mut self) {
        while self.rsp_cons != self.page.load_u32(RSP_PROD, Acquire) {
            let mut slot = [0; SLOT_SIZE];
            self.page.copy_out(slot_offset(self.rsp_cons), &mut slot);
            self.rsp_cons += 1;
            assert_eq!(slot[..4], [self.rsp_cons as u8, 0, 0, 0], "the answer to this request, whole");
        }
    }

    /// Asks for an event; `true` when an answer came meanwhile.
    fn final_check(&self) -> bool {
        self.page.store_u32(RSP_EVENT, self.rsp_cons + 1, Relaxed);
        self.page.full_barrier();
        self.page.load_u32(RSP_PROD, Relaxed) != self.rsp_cons
    }

    /// Sleeps until all are answered.
    fn wait_for_answers(&mut self, to: u32, bell: &Bell) {
        loop {
            self.take();
            if self.rsp_cons == to {
                return;
            }
            if !self.final_check() {
                bell.wait();
            }
        }
    }
}

fn take(ring: &mut BackRing) -> Option<Ticket> {
    let (ticket, request) = ring.take().unwrap()?;
    assert_eq!((request.act, request.cmd_len), (1, 6), "the request is whole");
    Some(ticket)
}

/// Sleeps until all requests were taken and given to `then`.
fn serve(ring: &mut BackRing, bell: &Bell, mut then: impl FnMut(&mut BackRing, Ticket)) {
    let mut taken = 0;
    loop {
        while let Some(ticket) = take(ring) {
            then(ring, ticket);
            taken += 1;
        }
        if taken == REQUESTS {
            return;
        }
        if !ring.final_check().unwrap() {
            bell.wait();
        }
    }
}

fn answer(ring: &mut BackRing, ticket: Ticket, bell: &Bell) {
    ring.push(ticket, &Answer::command(0, 0, &[], 0));
    if ring.publish() {
        bell.ring();
    }
}

/// Both ends of a ring, without the barrier behind the index at `unfenced`.
fn ring(unfenced: Option<usize>) -> (FrontRing, BackRing) {
    let page = HeapPage::new();
    let front = FrontRing::new(page.share_unfenced(unfenced));
    (front, BackRing::attach(page.share_unfenced(unfenced), 0))
}

/// The guest sends while the backend goes to sleep.
fn requests(unfenced: Option<usize>) {
    loom::model(move || {
        let (mut front, mut back) = ring(unfenced);
        let bell = Arc::new(Bell::default());
        let guest = thread::spawn({
            let bell = Arc::clone(&bell);
            move || {
                for _ in 0..REQUESTS {
                    if front.send() {
                        bell.ring();
                    }
                }
            }
        });
        serve(&mut back, &bell, |_, ticket| ticket.abandon());
        guest.join().unwrap();
    });
}

/// The backend answers while the guest goes to sleep.
fn answers(unfenced: Option<usize>) {
    loom::model(move || {
        let (mut front, mut back) = ring(unfenced);
        let bell = Arc::new(Bell::default());
        for _ in 0..REQUESTS {
            front.send();
        }
        let tickets: Vec<_> = std::iter::from_fn(|| take(&mut back)).collect();
        let backend = thread::spawn({
            let bell = Arc::clone(&bell);
            move || {
                for ticket in tickets {
                    answer(&mut back, ticket, &bell);
                }
            }
        });
        front.wait_for_answers(REQUESTS, &bell);
        backend.join().unwrap();
    });
}

#[test]
fn no_request_is_slept_over() {
    requests(None);
}

#[test]
fn no_answer_is_slept_over() {
    answers(None);
}

/// Each waits for the other, twice.
#[test]
fn no_round_trip_gets_stuck() {
    let mut model = loom::model::Builder::new();
    // More switches than this at places where a thread could go on are not tried: both directions alone are, above.
    model.preemption_bound = Some(3);
    model.check(|| {
        let (mut front, mut back) = ring(None);
        let [to_back, to_front] = [(); 2].map(|()| Arc::new(Bell::default()));
        let backend = thread::spawn({
            let (to_back, to_front) = (Arc::clone(&to_back), Arc::clone(&to_front));
            move || serve(&mut back, &to_back, |ring, ticket| answer(ring, ticket, &to_front))
        });
        for request in 1..=REQUESTS {
            if front.send() {
                to_back.ring();
            }
            front.wait_for_answers(request, &to_front);
        }
        backend.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_barrier_of_the_final_check_matters() {
    requests(Some(REQ_EVENT));
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_barrier_of_publish_matters() {
    answers(Some(RSP_PROD));
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_guests_barrier_behind_its_requests_matters() {
    requests(Some(REQ_PROD));
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_guests_barrier_of_its_final_check_matters() {
    answers(Some(RSP_EVENT));
}
