//! The guest's bell: when it is heard, and what it costs.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pvscsi_backend::control::{Bell, WorkerHandle};
use pvscsi_backend::limits::TimeLimits;
use pvscsi_backend::log_limit::LogLimit;
use pvscsi_backend::worker::Connection;
use pvscsi_guestmem::SharedPage;
use pvscsi_ring::BackRing;
use pvscsi_ring::vscsiif::{REQ_PROD, RSP_PROD};
use pvscsi_sg::ReactorKind;
use pvscsi_sim::{Hypervisor, LinuxFrontend, SimEvents, Way};
use pvscsi_xen::{DomId, EventChannel, GrantTable, Port};

use crate::raw_guest::{RawGuest, nothing};
use crate::threads::activity;
use crate::vhost::{KINDS, Vhost, lun, ram_disk, wait_until};

/// An event channel that looks at the ring whenever its worker uses it.
struct Watched {
    events: SimEvents,
    ring: SharedPage,
    /// What the guest had asked for when the worker heard the bell that it has not unmasked yet.
    heard: Option<u32>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    rings: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl Watched {
    fn fault(&self, text: String) {
        self.seen.faults.lock().unwrap().push(text);
    }
}

impl EventChannel for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    fn take_pending(&mut self) -> io::Result<bool> {
        let rang = self.events.take_pending()?;
        if rang {
            self.seen.rings.fetch_add(1, Ordering::Relaxed);
            if self.heard.replace(self.ring.load_u32(REQ_PROD, Ordering::Acquire)).is_some() {
                self.fault("a masked port rang".into());
            }
        }
        Ok(rang)
    }

    /// A disk in memory is done with a command in the round that takes it: everything that was there has its answer by now.
    fn unmask(&mut self) -> io::Result<()> {
        let answered = self.ring.load_u32(RSP_PROD, Ordering::Acquire);
        match self.heard.take() {
            None => self.fault("unmasked without a ring".into()),
            Some(asked) if asked.wrapping_sub(answered).cast_signed() > 0 => {
                self.fault(format!("unmasked with {answered} of {asked} answered"));
            }
            Some(_) => {}
        }
        self.events.unmask()
    }

    fn notify(&mut self) -> io::Result<()> {
        self.events.notify()
    }

    fn port(&self) -> Port {
        self.events.port()
    }
}

/// A vhost with a disk, and what its worker does with its event channel. `name` is its thread's.
fn watched(kind: ReactorKind, name: &str) -> (Vhost, Arc<Seen>) {
    let (xen, dom0, guest) = (Hypervisor::new(), DomId(0), DomId(1));
    let frontend = LinuxFrontend::new(&xen, guest, dom0);
    let grants = xen.grant_table(dom0, guest);
    let seen = Arc::<Seen>::default();
    let events = Watched {
        events: xen.bind_interdomain(dom0, guest, frontend.port()).unwrap(),
        ring: frontend.ring_page().share(),
        heard: None,
        seen: Arc::clone(&seen),
    };
    let connection = Connection {
        domid: guest,
        ring: BackRing::attach(grants.map_page(frontend.ring_ref()).unwrap(), 0),
        events: Box::new(events),
        grants: Box::new(grants),
        luns: vec![(lun(0), ram_disk())],
        feature_host: false,
        limits: TimeLimits::default(),
        log_limit: LogLimit::default(),
    };
    let worker = WorkerHandle::start(name, connection, kind, Bell::new().unwrap()).unwrap();
    (Vhost::of(frontend, worker), seen)
}

fn until_asleep(thread: &str) {
    wait_until("the worker sleeps", || {
        let before = activity(thread);
        std::thread::sleep(Duration::from_millis(100));
        activity(thread) == before
    });
}

#[test]
fn the_port_is_unmasked_when_everything_is_answered() {
    for (kind, name) in KINDS.into_iter().zip(["unmask-0", "unmask-1"]) {
        let (mut vhost, seen) = watched(kind, name);
        let mut guest = RawGuest::of(&mut vhost);
        for round in 0..5000 {
            for rqid in 0..1 + round % 16 {
                guest.put(&pvscsi_ring::vscsiif::WireRequest { rqid, ..nothing(lun(0)) });
                // Sometimes each is shown as it is made, so that they come while the worker is at work.
                if round % 3 == 0 {
                    guest.show(guest.req_prod);
                }
            }
            guest.show(guest.req_prod);
            assert!(guest.answers().iter().all(|answer| answer.rslt == 0));
        }
        assert!(seen.rings.load(Ordering::Relaxed) > 1000, "{kind:?}: it was woken all the time");
        assert_eq!(*seen.faults.lock().unwrap(), <[String; 0]>::default(), "{kind:?}");
    }
}

/// An event that comes while the port is masked is one event, however many there are; so a storm wakes the worker no more often
/// than it can look, and not once more when it is over.
#[test]
fn a_storm_of_events_has_a_bound() {
    const STORM: u64 = 200_000;
    for (kind, name) in KINDS.into_iter().zip(["storm-0", "storm-1"]) {
        let (mut vhost, seen) = watched(kind, name);
        let mut guest = RawGuest::of(&mut vhost);
        assert_eq!(guest.ask(&[nothing(lun(0))])[0].rslt, 0);
        until_asleep(name);
        let (copies, notified) = (guest.domain.grant_counts(), guest.port.counts().to_guest);
        let before = seen.rings.load(Ordering::Relaxed);
        (0..STORM).for_each(|_| guest.port.raise_spurious(Way::ToBackend));
        until_asleep(name);
        let woken = seen.rings.load(Ordering::Relaxed) - before;
        println!("figures: {STORM} events without work wake the worker {woken} times, {kind:?}");
        assert!((1..=STORM).contains(&woken), "{kind:?}: {woken}");
        assert_eq!(guest.domain.grant_counts(), copies, "{kind:?}: no memory was looked at");
        assert_eq!(guest.port.counts().to_guest, notified, "{kind:?}: nothing was said");
        assert_eq!(*seen.faults.lock().unwrap(), <[String; 0]>::default(), "{kind:?}");
        assert_eq!(guest.ask(&[nothing(lun(0))])[0].rslt, 0, "{kind:?}");
    }
}
