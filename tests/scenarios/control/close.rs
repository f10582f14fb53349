//! The ends of a connection, and what may follow each of them.

use std::time::{Duration, Instant};

use pvscsi_backend::limits::TimeLimits;
use pvscsi_sim::LinuxFrontend;

use super::io::{nexus, read};
use super::machine::DOM0;
use super::raw::RawFrontend;
use super::{Dev, Machine, check_io, eventually};

/// Nothing is served any more, and the guest has its pages back.
fn is_quiet(machine: &mut Machine) -> bool {
    machine.workers() == 0
        && machine.domain.live_mappings() == 0
        && machine.guest.as_ref().is_none_or(|guest| guest.deferred_grants() == 0)
}

/// Linux's driver is in state 3 before it looks at us, and takes a 6 for the end: it must not find one.
#[test]
fn a_driver_can_be_reloaded() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0), Dev::disk(1)]);
    machine.until_connected(0);
    for _ in 0..5 {
        check_io(machine.guest().host(0), nexus(1));
        machine.guest().unload();
        machine.until("the backend waits for a new ring", |machine| {
            machine.value("0/state") == "2" && is_quiet(machine)
        });
        assert_eq!(machine.frontend_value("0/state"), "6");
        machine.guest().load();
        machine.until_connected(0);
        assert_eq!(machine.guest().host(0).units().len(), 2);
    }
    assert_eq!(machine.written("0/state"), "1 2 4 6 2 4 6 2 4 6 2 4 6 2 4 6 2 4");
    assert_eq!(machine.written("0/vscsi-devs/dev-1/state"), "1 3 4 3 4 3 4 3 4 3 4 3 4");
}

/// kdump and Windows: each of their states is answered by the same of ours, and 1 by 2.
#[test]
fn a_frontend_that_closes_step_by_step_is_followed() {
    let mut machine = Machine::new();
    machine.guest = None;
    machine.attach(0, &[Dev::disk(0)]);
    for _ in 0..2 {
        let mut frontend = RawFrontend::of(&machine, 0);
        frontend.publish_ring();
        for (theirs, ours) in [("3", "4"), ("4", "4"), ("5", "5"), ("6", "6"), ("1", "2")] {
            frontend.write("state", theirs);
            machine.until_state(0, ours);
            assert_eq!(machine.domain.live_mappings(), usize::from(ours == "4"));
        }
        assert!(!frontend.ring.port_control().is_bound());
    }
    assert_eq!(machine.written("0/state"), "1 2 4 5 6 2 4 5 6 2");
}

/// Windows, when its ring cannot be had, looks for our 6 until it sees it; Linux must not find one when it comes back.
#[test]
fn a_frontend_that_closes_because_we_did_finds_us_closed_for_a_second() {
    let mut machine = Machine::new();
    machine.guest = None;
    machine.attach(0, &[Dev::disk(0)]);
    let mut frontend = RawFrontend::of(&machine, 0);
    frontend.publish_ring();
    frontend.write("ring-ref", "none");
    frontend.write("state", "3");
    machine.until_state(0, "5");
    let start = Instant::now();
    frontend.write("state", "6");
    machine.until_state(0, "2");
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(machine.written("0/state"), "1 2 5 6 2");
    assert_ne!(machine.error("0"), "");
    frontend.publish_ring();
    frontend.write("state", "3");
    machine.until_state(0, "4");
    machine.until("what was wrong is over", |machine| machine.error("0").is_empty());
    frontend.write("state", "6");
    machine.until_state(0, "2");
}

#[test]
fn the_toolstack_takes_a_vhost_away() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0)]);
    machine.attach(1, &[Dev::disk(0)]);
    machine.until_connected(0);
    machine.until_connected(1);
    machine.detach(0);
    machine.until_state(0, "6");
    assert_eq!(machine.frontend_value("0/state"), "6");
    assert_eq!(machine.guest().host(0).unanswered(), 0, "the last commands were served");
    machine.delete_until_lost(0);
    machine.until("its ring is not granted any more", |machine| machine.guest().deferred_grants() == 0);
    check_io(machine.guest().host(1), nexus(0));
    assert_eq!(machine.written("0/state"), "1 2 4 5 6 -");
    machine.expect_workers(1);

    machine.attach(0, &[Dev::disk(0)]);
    machine.until_connected(0);
    check_io(machine.guest().host(0), nexus(0));
}

/// Without a driver in the guest nobody answers the 5; the toolstack waits for the 6 all the same.
#[test]
fn a_vhost_that_no_guest_uses_is_taken_away() {
    let mut machine = Machine::new();
    machine.guest = None;
    machine.attach(0, &[Dev::disk(0)]);
    machine.until_state(0, "2");
    machine.detach(0);
    machine.until_state(0, "6");
    machine.delete(0);
    machine.attach(0, &[Dev::disk(0)]);
    machine.until_state(0, "2");
}

/// The toolstack asks for something while the frontend is about to confirm something else.
#[test]
fn a_confirmation_does_not_undo_what_the_toolstack_asks() {
    let mut machine = Machine::new();
    let mut frontend = RawFrontend::connected(&mut machine);
    let confirmed = |machine: &mut Machine, dev: &str| {
        machine.until("the device is confirmed", |machine| {
            machine.value(&format!("0/vscsi-devs/{dev}/state")) == "4"
        });
    };
    machine.add_device(0, &Dev::disk(1));
    frontend.write("state", "4");
    confirmed(&mut machine, "dev-0");
    frontend.write("state", "7");
    machine.until_state(0, "8");
    machine.detach(0);
    frontend.write("state", "4");
    confirmed(&mut machine, "dev-1");
    frontend.write("state", "6");
    machine.until_state(0, "6");
    assert_eq!(machine.written("0/state"), "1 2 4 7 8 5 6");
}

/// Resume on the same host: state 3 and a new ring, with no 5 or 6 before.
#[test]
fn a_new_ring_takes_the_place_of_the_old_one() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0)]);
    machine.until_connected(0);
    machine.guest().resume(0);
    let port = machine.guest().host(0).frontend().port_control();
    eventually("the new ring is taken up", || port.is_bound());
    machine.until("its unit is served", |machine| machine.written("0/vscsi-devs/dev-0/state") == "1 3 4 3 4");
    machine.until("the old ring is given back", |machine| machine.guest().deferred_grants() == 0);
    assert_eq!(machine.domain.live_mappings(), 1);
    machine.expect_workers(1);
    check_io(machine.guest().host(0), nexus(0));
    assert_eq!(machine.written("0/state"), "1 2 4");
}

/// Our 4 stands while a new ring takes the place of the old one, so a frontend need not wait before it sends commands.
#[test]
fn a_new_ring_finds_its_units() {
    let mut machine = Machine::new();
    let mut frontend = RawFrontend::connected(&mut machine);
    frontend.write("state", "4");
    machine.until("its unit is served", |machine| machine.written("0/vscsi-devs/dev-0/state") == "1 3 4");
    frontend.ring = LinuxFrontend::new(&machine.xen, machine.domid, DOM0);
    frontend.ring.submit(read(nexus(0))).unwrap();
    frontend.publish_ring();
    frontend.write("state", "3");
    let reply = frontend.ring.wait_reply(Duration::from_secs(20)).expect("READ is answered");
    assert_eq!(reply.rslt, 0);
    assert_eq!(machine.written("0/state"), "1 2 4");
}

#[test]
fn a_frontend_directory_that_vanishes_is_a_frontend_that_closes() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0)]);
    machine.until_connected(0);
    let frontend = machine.frontend("0");
    machine.remove(&frontend);
    machine.until_state(0, "6");
    machine.until("everything is given back", is_quiet);
    assert!(!machine.guest().has_host(0));

    machine.attach(0, &[Dev::disk(0)]);
    machine.until_connected(0);
    check_io(machine.guest().host(0), nexus(0));
    assert_eq!(machine.written("0/state"), "1 2 4 6 - 1 2 4");
}

#[test]
fn a_backend_directory_that_vanishes_stays_away() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0)]);
    machine.attach(1, &[Dev::disk(0)]);
    machine.until_connected(0);
    machine.until_connected(1);
    let backend = machine.backend("0");
    machine.remove(&backend);
    machine.until("the ring is given back", |machine| machine.workers() == 1);
    assert_eq!(machine.domain.live_mappings(), 1);
    // The guest, which does not know yet, goes on as it likes.
    machine.guest().unload();
    machine.until_state(1, "2");
    machine.guest().load();
    machine.until_connected(1);
    check_io(machine.guest().host(1), nexus(0));
    assert_eq!(machine.store.read(&backend), None);
    assert_eq!(machine.written("0/state"), "1 2 4 -");
}

/// The toolstack removed the directory and made another before anybody looked.
#[test]
fn a_backend_directory_that_is_made_anew_starts_anew() {
    let mut machine = Machine::new();
    machine.guest = None;
    machine.attach(0, &[Dev::disk(0)]);
    let mut old = RawFrontend::of(&machine, 0);
    old.publish_ring();
    old.write("state", "3");
    machine.until_state(0, "4");
    machine.attach(0, &[Dev::disk(0)]);
    machine.until_state(0, "2");
    assert!(is_quiet(&mut machine), "the old ring is given back first");
    let mut new = RawFrontend::of(&machine, 0);
    new.publish_ring();
    new.write("state", "3");
    machine.until_state(0, "4");
    assert!(new.ring.port_control().is_bound());
    assert_eq!(machine.written("0/state"), "1 2 4 - 1 2 4");
    new.write("state", "6");
    machine.until_state(0, "2");
}

#[test]
fn a_guest_that_is_destroyed_takes_its_server_and_its_directories_along() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0), Dev::new("dev-1", "no device", "0:0:0:1")]);
    machine.attach(1, &[Dev::disk(0)]);
    machine.until_connected(0);
    machine.until_connected(1);
    assert_ne!(machine.error("0/vscsi-devs/dev-1"), "");
    for _ in 0..8 {
        machine.guest().host(0).frontend().submit(super::io::read(nexus(0))).unwrap();
    }
    machine.destroy_guest();
    machine.wait_for_end().unwrap();
    machine.assert_everything_given_back();
    let about_it = format!("backend/vscsi/{}", machine.domid);
    let left: Vec<_> = machine.store.dump().into_keys().filter(|path| path.contains(&about_it)).collect();
    assert_eq!(left, <[String; 0]>::default());
}

/// A frontend that hangs, or was paused: the toolstack's 7 and 5 come to an end without it.
#[test]
fn a_frontend_that_never_follows_is_not_waited_for_for_ever() {
    let patience = Duration::from_millis(300);
    let mut machine = Machine::with_limits(TimeLimits { frontend: patience, ..TimeLimits::default() });
    let mut frontend = RawFrontend::connected(&mut machine);
    frontend.write("state", "4");
    eventually("dev-0 is confirmed", || machine.value("0/vscsi-devs/dev-0/state") == "4");

    let start = Instant::now();
    machine.add_device(0, &Dev::disk(1));
    machine.until_state(0, "8");
    assert!(start.elapsed() >= patience, "it has its time first: {:?}", start.elapsed());
    assert_eq!(machine.value("0/vscsi-devs/dev-1/state"), "3");
    machine.until_state(0, "4");
    assert_eq!(machine.value("0/vscsi-devs/dev-1/state"), "3", "the frontend has not said that it has it");
    machine.remove_device(0, "dev-1");
    machine.until_state(0, "4");
    assert_eq!(machine.value("0/vscsi-devs/dev-1/state"), "6");
    // One that comes round after all finds its way.
    machine.add_device(0, &Dev { name: "dev-2".into(), ..Dev::disk(1) });
    frontend.write("state", "7");
    machine.until_state(0, "8");
    frontend.write("state", "4");
    machine.until_state(0, "4");

    let start = Instant::now();
    machine.detach(0);
    machine.until_state(0, "6");
    assert!(start.elapsed() >= patience, "it has its time first: {:?}", start.elapsed());
    machine.assert_everything_given_back();
    assert!(!frontend.ring.port_control().is_bound());
    assert_eq!(machine.written("0/state"), "1 2 4 7 8 4 7 8 4 7 8 4 5 6");
}
