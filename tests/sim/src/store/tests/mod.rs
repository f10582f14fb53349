//! The server, by the client of the project, by hand-made messages, and by a client of other people.

mod events;
mod hostile;
mod independent;
mod nodes;
mod transactions;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{Access, Permission, WatchEvent, Xenstore};

use super::Store;

fn client(store: &Store, domid: u16) -> Xenstore {
    Xenstore::from_stream(store.connect(DomId(domid))).unwrap()
}

fn permission(access: Access, domid: u16) -> Permission {
    Permission { access, domid: DomId(domid) }
}

fn changed(path: &str, token: &str) -> WatchEvent {
    WatchEvent::Changed { path: path.into(), token: token.into() }
}

/// The next event, waited for.
fn event(xs: &mut Xenstore) -> WatchEvent {
    loop {
        if let Some(event) = xs.next_event().unwrap() {
            return event;
        }
        let ready = poll(&mut [PollFd::new(xs.as_fd(), PollFlags::POLLIN)], 10_000_u16);
        assert_eq!(ready, Ok(1), "no event came");
    }
}

/// Waits for what the server's thread does in its own time.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(1));
    }
}
