//! A frontend's half of a vhost in xenstore (Xen io/xenbus.h and io/vscsiif.h), honest there: the ring is where it lies.

use std::thread;
use std::time::{Duration, Instant};

use std::sync::atomic::Ordering;

use pvscsi_ring::vscsiif::{REQ_EVENT, RSP_EVENT};
use pvscsi_sim::hostile::{Backend, End, HostileGuest, Memory, Put};
use pvscsi_xen::sys::evtchn::Evtchn;
use pvscsi_xen::sys::gntalloc::Gntalloc;
use pvscsi_xen::xenstore::{Error, Nodes, Xenstore};
use pvscsi_xen::{DomId, EventChannel};

use crate::xen::LinuxXen;

/// How long anything may take that has to come: the lab's machines are slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// States of one end, as its node has them.
mod state {
    pub(super) const INITIALISING: &str = "1";
    pub(super) const INIT_WAIT: &str = "2";
    pub(super) const INITIALISED: &str = "3";
    pub(super) const CONNECTED: &str = "4";
    pub(super) const CLOSING: &str = "5";
    pub(super) const CLOSED: &str = "6";
}

/// What the lab relies on: xenstored is there and allows what it allows to every guest.
const STORE: &str = "the guest's xenstore";

/// A vhost of this guest.
pub struct Vhost {
    store: Xenstore,
    front: String,
    back: String,
    backend: DomId,
    /// The backend's state when it last changed.
    state: String,
    /// Rings that were connected.
    pub rings: u32,
    /// Those that the backend gave up.
    pub given_up: u32,
}

/// TEST UNIT READY to LUN 0.
const PLAIN: Put = Put {
    opcode: 0,
    operand: 0,
    lun: 0,
    rqid: 0,
    nr_segments: 0,
    memory: Memory::First,
    offset: 0,
    length: 0,
    times: 1,
};

impl Vhost {
    /// Finds the vhost that the toolstack made.
    ///
    /// # Panics
    ///
    /// When there is none, or xenstore fails; so do all methods.
    pub fn find(number: u32) -> Self {
        let mut store = Xenstore::open().expect(STORE);
        let front = format!("device/vscsi/{number}");
        let back = store.read_str(&format!("{front}/backend")).expect(STORE);
        let backend = store.read_str(&format!("{front}/backend-id")).expect(STORE);
        let backend = DomId(backend.parse().expect("the number of a domain"));
        store.watch(&format!("{back}/state"), "backend").expect(STORE);
        Self { store, front, back, backend, state: String::new(), rings: 0, given_up: 0 }
    }

    /// Offers a new ring, and waits until the backend serves it.
    pub fn connect(&mut self) -> HostileGuest<LinuxXen> {
        let gntalloc = Gntalloc::open().expect("gntalloc");
        let (ring_ref, ring) = gntalloc.grant(self.backend, true).expect("a page for the ring");
        ring.store_u32(REQ_EVENT, 1, Ordering::Relaxed);
        ring.store_u32(RSP_EVENT, 1, Ordering::Relaxed);
        let port = Evtchn::offer(self.backend).expect("a port");
        self.write("ring-ref", &ring_ref.0.to_string());
        self.write("event-channel", &port.port().to_string());
        self.write("state", state::INITIALISED);
        let mut guest = HostileGuest::new(LinuxXen { gntalloc, port }, ring, ring_ref, self.backend);
        guest.patience = PATIENCE;
        // A backend that was connected to an earlier ring stays in 4, or closes once more for that one's sake: it is an answer that
        // tells of this one.
        guest.ask(PLAIN, &mut Backend { ended: &mut || None, let_go: &mut || () });
        self.await_state(state::CONNECTED);
        self.write("state", state::CONNECTED);
        self.rings += 1;
        guest
    }

    /// Takes a new ring in place of one that is of no use any more: where the backend closed, or every second time, without a word,
    /// and with the old ring's grant and port gone first; else step by step.
    pub fn reconnect(&mut self, old: HostileGuest<LinuxXen>) -> HostileGuest<LinuxXen> {
        if self.has_closed() {
            self.given_up += 1;
            drop(old);
        } else if self.rings.is_multiple_of(2) {
            drop(old);
        } else {
            self.close(old);
            self.write("state", state::INITIALISING);
            self.await_state(state::INIT_WAIT);
        }
        self.connect()
    }

    /// Lets go of the ring as the protocol has it.
    pub fn close(&mut self, guest: HostileGuest<LinuxXen>) {
        self.write("state", state::CLOSING);
        self.await_state(state::CLOSING);
        self.write("state", state::CLOSED);
        self.await_state(state::CLOSED);
        drop(guest);
    }

    /// How the backend gave up the ring, if it did.
    pub fn ended(&mut self) -> Option<End> {
        self.has_closed().then_some(End::Closed)
    }

    fn has_closed(&mut self) -> bool {
        self.look();
        self.state == state::CLOSING || self.state == state::CLOSED
    }

    fn look(&mut self) {
        let mut changed = false;
        while self.store.next_event().expect(STORE).is_some() {
            changed = true;
        }
        if changed {
            self.state = match self.store.read_str(&format!("{}/state", self.back)) {
                Ok(state) => state,
                Err(Error::System { errno, .. }) => format!("not there ({errno})"),
                Err(error) => panic!("{STORE}: {error}"),
            };
        }
    }

    fn await_state(&mut self, wanted: &str) {
        let start = Instant::now();
        while {
            self.look();
            self.state != wanted
        } {
            assert!(start.elapsed() < PATIENCE, "the backend is in state {}, not {wanted}", self.state);
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn write(&mut self, node: &str, value: &str) {
        self.store.write(&format!("{}/{node}", self.front), value).expect(STORE);
    }
}
