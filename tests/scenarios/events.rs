//! The guest's bell: when it is heard, and what it costs.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pvscsi_backend::control::{Bell, Seat, WorkerHandle};
use pvscsi_backend::limits::TimeLimits;
use pvscsi_backend::log_limit::LogLimit;
use pvscsi_backend::worker::Connection;
use pvscsi_guestmem::{HeapPage, SharedPage};
use pvscsi_ring::BackRing;
use pvscsi_ring::vscsiif::{DIRECTION_NONE, REQ_PROD, RSP_PROD};
use pvscsi_sg::{Reactor, ReactorKind};
use pvscsi_sim::frontend::GuestBuffer;
use pvscsi_sim::{Hypervisor, LinuxFrontend, SimEvents, Way};
use pvscsi_xen::{DomId, EventChannel, GrantTable, Port};

use crate::raw_guest::{RawGuest, nothing};
use crate::threads::{activity, reads_and_writes};
use crate::vhost::{KINDS, Vhost, lun, ram_disk, wait_quickly, wait_until};

/// An event channel with a descriptor like that of `/dev/xen/evtchn`, from which a port is read when it fires, and to which it is
/// written to let it fire again. It looks at the ring whenever its worker uses it.
struct Watched {
    /// Read and written by the worker; the other end is with `device`.
    fd: UnixStream,
    events: Arc<Mutex<SimEvents>>,
    ring: SharedPage,
    seen: Arc<Seen>,
    device: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    rings: AtomicU64,
    /// What the guest had asked for when the bell rang that the worker has not unmasked yet, or when it last published answers:
    /// it is to look once more after both.
    asked: Mutex<Option<u32>>,
    faults: Mutex<Vec<String>>,
}

impl Seen {
    fn fault(&self, text: String) {
        self.faults.lock().unwrap().push(text);
    }
}

impl Watched {
    fn new(events: SimEvents, ring: &HeapPage) -> (Self, Arc<Seen>) {
        let seen = Arc::<Seen>::default();
        let (fd, other_end) = UnixStream::pair().unwrap();
        fd.set_nonblocking(true).unwrap();
        let bell = events.as_fd().try_clone_to_owned().unwrap();
        let events = Arc::new(Mutex::new(events));
        let device =
            Device { fd: other_end, bell, events: events.clone(), ring: ring.share(), seen: seen.clone() };
        let device = Some(std::thread::spawn(|| device.run()));
        (Self { fd, events, ring: ring.share(), seen: seen.clone(), device }, seen)
    }
}

impl EventChannel for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A disk in memory is done with a command in the round that takes it: everything that was there has its answer by now.
    fn unmask(&mut self) -> io::Result<Option<[u8; 4]>> {
        let answered = self.ring.load_u32(RSP_PROD, Ordering::Acquire);
        match self.seen.asked.lock().unwrap().take() {
            None => self.seen.fault("unmasked without a ring".into()),
            Some(asked) if asked.wrapping_sub(answered).cast_signed() > 0 => {
                self.seen.fault(format!("unmasked with {answered} of {asked} answered"));
            }
            Some(_) => {}
        }
        Ok(Some(self.port().0.to_ne_bytes()))
    }

    fn notify(&mut self) -> io::Result<()> {
        if let Some(asked) = &mut *self.seen.asked.lock().unwrap() {
            *asked = self.ring.load_u32(REQ_PROD, Ordering::Acquire);
        }
        self.events.lock().unwrap().notify()
    }

    fn port(&self) -> Port {
        self.events.lock().unwrap().port()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.fd.shutdown(Shutdown::Both).unwrap();
        self.device.take().unwrap().join().unwrap();
    }
}

/// What the kernel does behind the descriptor.
struct Device {
    fd: UnixStream,
    bell: OwnedFd,
    events: Arc<Mutex<SimEvents>>,
    ring: SharedPage,
    seen: Arc<Seen>,
}

impl Device {
    /// Runs until the worker's end is closed.
    fn run(mut self) {
        let port = self.events.lock().unwrap().port().0.to_ne_bytes();
        let mut masked = false;
        loop {
            let mut polled =
                [&self.bell as &dyn AsFd, &self.fd].map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
            poll(&mut polled, PollTimeout::NONE).unwrap();
            let [rang, written] = polled.map(|polled| polled.any().unwrap());
            if written {
                let mut bytes = [0; 64];
                let len = self.fd.read(&mut bytes).unwrap();
                if len == 0 {
                    return;
                }
                if !std::mem::take(&mut masked) || bytes[..len] != port {
                    self.seen.fault(format!("{:?} written", &bytes[..len]));
                }
                assert_eq!(self.events.lock().unwrap().unmask().unwrap(), None);
            }
            if rang && self.events.lock().unwrap().take_pending().unwrap() {
                self.seen.rings.fetch_add(1, Ordering::Relaxed);
                let asked = self.ring.load_u32(REQ_PROD, Ordering::Acquire);
                if std::mem::replace(&mut masked, true)
                    || self.seen.asked.lock().unwrap().replace(asked).is_some()
                {
                    self.seen.fault("a masked port rang".into());
                }
                self.fd.write_all(&port).unwrap();
            }
        }
    }
}

/// A vhost with a disk, and what its worker does with its event channel. `name` is its thread's.
fn watched(kind: ReactorKind, name: &str, polling: Duration) -> (Vhost, Arc<Seen>) {
    let (xen, dom0, guest) = (Hypervisor::new(), DomId(0), DomId(1));
    let frontend = LinuxFrontend::new(&xen, guest, dom0);
    let grants = xen.grant_table(dom0, guest);
    let events = xen.bind_interdomain(dom0, guest, frontend.port()).unwrap();
    let (events, seen) = Watched::new(events, frontend.ring_page());
    let connection = Connection {
        domid: guest,
        ring: BackRing::attach(grants.map_page(frontend.ring_ref()).unwrap(), 0),
        events: Box::new(events),
        grants: Box::new(grants),
        luns: vec![(lun(0), ram_disk())],
        feature_host: false,
        limits: TimeLimits { polling, ..TimeLimits::default() },
        log_limit: LogLimit::default(),
    };
    let worker = WorkerHandle::start(Seat::anywhere(name), connection, kind, Bell::new().unwrap()).unwrap();
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
        let (mut vhost, seen) = watched(kind, name, Duration::ZERO);
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
        let (rings, calls) = (seen.rings.load(Ordering::Relaxed), reads_and_writes(name));
        println!("figures: {rings} events cost {calls} system calls to read and write, {kind:?}");
        if kind != ReactorKind::Poll && Reactor::new(ReactorKind::IoUring).is_ok() {
            assert!(calls < 100, "{calls} calls for {rings} events");
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
        let (mut vhost, seen) = watched(kind, name, Duration::ZERO);
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

/// A guest with one command at a time finds a worker awake: neither rings for the next one. With nothing to do it sleeps.
#[test]
fn a_worker_that_looks_for_requests_needs_no_events() {
    if !Reactor::new(ReactorKind::Auto).unwrap().is_io_uring() {
        assert!(Reactor::new(ReactorKind::IoUring).is_err(), "io_uring of before Linux 5.19");
        return;
    }
    let (mut vhost, seen) = watched(ReactorKind::Auto, "looks", Duration::from_millis(10));
    let asked = |vhost: &Vhost| vhost.frontend.port_control().counts().to_backend;
    // On a machine that is busy with other things the worker does not look for long.
    wait_quickly("a hundred commands without an event", || {
        let before = asked(&vhost);
        for _ in 0..100 {
            vhost.call(lun(0), &[0; 6], DIRECTION_NONE, GuestBuffer::default());
        }
        asked(&vhost) == before
    });
    until_asleep("looks");
    assert_eq!(*seen.faults.lock().unwrap(), <[String; 0]>::default());
}
