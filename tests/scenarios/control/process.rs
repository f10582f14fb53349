//! The server as a process: its start, its end, and what it leaves behind.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use pvscsi_backend::limits::TimeLimits;
use pvscsi_backend::serve::{ServeError, Server};
use pvscsi_sim::Hypervisor;
use pvscsi_sim::store::{Counts, Store};
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::Xenstore;

use super::io::nexus;
use super::machine::{DOM0, platform};
use super::raw::RawFrontend;
use super::{Dev, Machine, check_io};
use crate::alone::{alone, count};
use crate::places::Reservations;

/// How long a server that is told to end waits for a guest that is connected.
const FAREWELL: Duration = Duration::from_secs(3);

#[test]
fn a_server_that_is_told_to_end_lets_the_guest_go_first() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0)]);
    machine.attach(1, &[Dev::disk(0), Dev::disk(1)]);
    machine.until_connected(0);
    machine.until_connected(1);
    let start = Instant::now();
    machine.ask_to_stop();
    machine.wait_for_end().unwrap();
    assert!(start.elapsed() < FAREWELL, "{:?}", start.elapsed());
    for vhost in 0..2 {
        assert_eq!(machine.written(&format!("{vhost}/state")), "1 2 4 5 6");
        assert_eq!(machine.frontend_value(&format!("{vhost}/state")), "6");
        assert_eq!(machine.guest().host(vhost).unanswered(), 0, "caches were written back");
    }
    machine.guest().unload();
}

/// A machine with a vhost whose frontend is connected and looks at nothing.
fn with_a_deaf_frontend() -> (Machine, RawFrontend) {
    let mut machine = Machine::new();
    let mut frontend = RawFrontend::connected(&mut machine);
    frontend.write("state", "4");
    (machine, frontend)
}

#[test]
fn a_guest_that_does_not_let_go_is_not_waited_for_for_ever() {
    let (mut machine, frontend) = with_a_deaf_frontend();
    let start = Instant::now();
    machine.ask_to_stop();
    machine.wait_for_end().unwrap();
    let took = start.elapsed();
    assert!(took >= FAREWELL && took < 3 * FAREWELL, "{took:?}");
    assert_eq!(machine.written("0/state"), "1 2 4 5 6");
    assert!(!frontend.ring.port_control().is_bound());
}

/// A second word ends the wait; each word is told apart from the one before.
#[test]
fn a_server_that_is_told_twice_does_not_wait() {
    let (mut machine, _frontend) = with_a_deaf_frontend();
    machine.ask_to_stop();
    machine.until_state(0, "5");
    let start = Instant::now();
    machine.ask_to_stop();
    machine.wait_for_end().unwrap();
    assert!(start.elapsed() < FAREWELL, "{:?}", start.elapsed());
    assert_eq!(machine.written("0/state"), "1 2 4 5 6");
}

#[test]
fn an_idle_server_ends_at_once() {
    let mut machine = Machine::new();
    machine.guest = None;
    machine.attach(0, &[Dev::disk(0)]);
    machine.until_state(0, "2");
    let start = Instant::now();
    machine.ask_to_stop();
    machine.wait_for_end().unwrap();
    assert!(start.elapsed() < FAREWELL, "{:?}", start.elapsed());
    assert_eq!(machine.written("0/state"), "1 2 6");
}

/// Nobody serves the ring that the nodes speak of, so the guest is told to close; its driver, reloaded, connects again.
#[test]
fn a_server_that_crashed_is_followed_by_one_that_starts_over() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0)]);
    machine.until_connected(0);
    machine.crash_server();
    assert_eq!(machine.written("0/state"), "1 2 4");
    machine.assert_everything_given_back();
    machine.start();
    machine.until("the guest has closed", |machine| machine.frontend_value("0/state") == "6");
    machine.until_state(0, "2");
    assert_eq!(machine.written("0/state"), "1 2 4 5 6 2");
    machine.guest().unload();
    machine.guest().load();
    machine.until_connected(0);
    check_io(machine.guest().host(0), nexus(0));
}

#[test]
fn a_server_that_was_stopped_can_be_started_again() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0)]);
    machine.until_connected(0);
    machine.ask_to_stop();
    machine.wait_for_end().unwrap();
    machine.guest().unload();
    machine.start();
    machine.until_state(0, "2");
    machine.guest().load();
    machine.until_connected(0);
    check_io(machine.guest().host(0), nexus(0));
    assert_eq!(machine.written("0/state"), "1 2 4 5 6 2 4");
}

#[test]
fn a_domain_that_does_not_exist_is_not_served() {
    let store = Store::new();
    store.write("/local/domain/7/name", "another");
    let client = Xenstore::from_stream(store.connect(DOM0)).unwrap();
    let refused = Server::new(
        DomId(8),
        client,
        platform(&Hypervisor::new(), DOM0, TimeLimits::default(), Reservations::default().directories()),
    )
    .unwrap_err();
    assert!(matches!(refused, ServeError::NoDomain(DomId(8))), "{refused}");
    assert!(refused.to_string().contains("no domain 8"), "{refused}");
}

/// As after a crash of the server, when the guest did not wait for the next one: nobody else would clean up.
#[test]
fn what_a_guest_without_a_server_left_is_removed() {
    let store = Store::new();
    store.write("/local/domain/0/backend/vscsi/8/0/state", "4");
    store.write("/local/domain/0/error/backend/vscsi/8/0/error", "2 something");
    store.write("/local/domain/0/backend/vscsi/9/0/state", "4");
    let client = Xenstore::from_stream(store.connect(DOM0)).unwrap();
    let mut server = Server::new(
        DomId(8),
        client,
        platform(&Hypervisor::new(), DOM0, TimeLimits::default(), Reservations::default().directories()),
    )
    .unwrap();
    let nobody = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
    server.run(nobody.as_fd()).unwrap();
    assert_eq!(store.history("/local/domain/0/backend/vscsi/8/0/state").len(), 2, "written once, removed");
    assert!(!store.dump().keys().any(|path| path.contains("/vscsi/8")), "{:?}", store.dump());
    assert!(store.read("/local/domain/0/backend/vscsi/9/0/state").is_some(), "and nothing else");
}

#[test]
fn a_xenstored_that_goes_away_ends_the_server() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0)]);
    machine.until_connected(0);
    machine.store = Arc::new(Store::new());
    let guest = machine.guest.take();
    let error = machine.wait_for_end().unwrap_err();
    assert!(matches!(error, ServeError::Store(_)), "{error}");
    machine.assert_everything_given_back();
    drop(guest);
}

#[test]
fn nothing_grows_with_connections_and_vhosts() {
    alone("control::process::nothing_grows_with_connections_and_vhosts", || {
        let mut machine = Machine::new();
        machine.attach(0, &[Dev::disk(0)]);
        machine.until_connected(0);
        let mut before = None;
        for round in 0..30 {
            machine.attach(1, &[Dev::disk(0), Dev::disk(1)]);
            machine.until_connected(1);
            machine.detach(1);
            machine.until_state(1, "6");
            machine.delete(1);
            machine.until("the guest has lost vhost 1", |machine| !machine.guest().has_host(1));
            machine.guest().unload();
            machine.until_state(0, "2");
            machine.guest().load();
            machine.until_connected(0);
            machine.until("only vhost 0 is served", |machine| {
                machine.workers() == 1 && machine.guest().deferred_grants() == 0
            });
            let Counts { nodes, connections, watches, .. } = machine.store.counts();
            let held = (
                count("/proc/self/fd"),
                count("/proc/self/task"),
                (nodes, connections, watches),
                machine.domain.live_grants(),
                machine.domain.open_ports(),
            );
            assert_eq!(*before.get_or_insert(held), held, "after round {round}");
        }
    });
}
