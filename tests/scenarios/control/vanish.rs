//! Guests, directories and nodes that go at a bad moment.

use std::thread;
use std::time::{Duration, Instant};

use super::io::nexus;
use super::raw::RawFrontend;
use super::{Dev, Machine, check_io, eventually};

/// What a guest does and the toolstack asks for until the guest dies, and the vhost's state by then.
type Life = (&'static str, fn(&mut Machine, &mut RawFrontend), Option<&'static str>);

fn ready(frontend: &mut RawFrontend) {
    frontend.publish_ring();
    frontend.write("state", "3");
}

fn connected(machine: &mut Machine, frontend: &mut RawFrontend) {
    ready(frontend);
    machine.until_state(0, "4");
    frontend.write("state", "4");
    machine.until_connected(0);
}

const LIVES: [Life; 12] = [
    ("it has not looked yet", |_, _| {}, Some("2")),
    ("it waits", |_, frontend| frontend.write("state", "2"), Some("2")),
    ("its ring is no ring", |_, frontend| frontend.write("state", "3"), Some("5")),
    ("it has just become ready", |_, frontend| ready(frontend), None),
    ("it is ready", |_, frontend| ready(frontend), Some("4")),
    ("it is connected", connected, Some("4")),
    (
        "a device is to be added",
        |machine, frontend| {
            connected(machine, frontend);
            machine.add_device(0, &Dev::disk(1));
        },
        Some("7"),
    ),
    (
        "it has let a device go",
        |machine, frontend| {
            connected(machine, frontend);
            machine.remove_device(0, "dev-0");
            frontend.write("state", "7");
        },
        Some("8"),
    ),
    (
        "the vhost is to go",
        |machine, frontend| {
            connected(machine, frontend);
            machine.detach(0);
        },
        Some("5"),
    ),
    (
        "it closes",
        |machine, frontend| {
            connected(machine, frontend);
            frontend.write("state", "5");
        },
        Some("5"),
    ),
    (
        "it has closed",
        |machine, frontend| {
            connected(machine, frontend);
            frontend.write("state", "6");
        },
        Some("2"),
    ),
    (
        "it makes no sense",
        |machine, frontend| {
            connected(machine, frontend);
            frontend.write("state", "x");
        },
        Some("5"),
    ),
];

#[test]
fn a_guest_may_die_in_any_state() {
    for (what, live, state) in LIVES {
        let mut machine = Machine::new();
        machine.guest = None;
        machine.attach(0, &[Dev::disk(0)]);
        let mut frontend = RawFrontend::of(&machine, 0);
        machine.until_state(0, "2");
        live(&mut machine, &mut frontend);
        if let Some(state) = state {
            machine.until_state(0, state);
        }
        machine.destroy_guest();
        machine.wait_for_end().unwrap_or_else(|error| panic!("{what}: {error}"));
        machine.assert_everything_given_back();
        let about_it = format!("backend/vscsi/{}", machine.domid);
        let left: Vec<_> = machine.store.dump().into_keys().filter(|path| path.contains(&about_it)).collect();
        assert_eq!(left, <[String; 0]>::default(), "{what}");
    }
}

/// Between our 2 and our 4, also while the server reads the very nodes that go.
#[test]
fn a_frontend_directory_may_vanish_during_the_handshake() {
    let mut machine = Machine::new();
    machine.guest = None;
    for round in 0..60 {
        machine.attach(0, &[Dev::disk(0)]);
        machine.until_state(0, "2");
        let mut frontend = RawFrontend::of(&machine, 0);
        let directory = machine.frontend("0");
        match round {
            // The server has seen the frontend.
            0 => machine.until_at_rest(Duration::from_millis(50)),
            1 => {
                frontend.write("state", "2");
                machine.until_at_rest(Duration::from_millis(50));
            }
            // It looks at it just now, now a little earlier, now a little later.
            _ => {
                machine.until_at_rest(Duration::from_millis(5));
                ready(&mut frontend);
                thread::sleep(Duration::from_micros(round * 25));
            }
        }
        machine.remove(&directory);
        machine.until_state(0, "6");
        assert!(!frontend.ring.port_control().is_bound());
        assert_eq!(machine.domain.live_mappings(), 0);
    }
}

/// Nodes of the ring that go while it is taken up make it a bad ring, or come too late to matter.
#[test]
fn nodes_may_vanish_during_the_handshake() {
    let mut machine = Machine::new();
    machine.guest = None;
    machine.attach(0, &[Dev::disk(0)]);
    let mut frontend = RawFrontend::of(&machine, 0);
    for node in ["ring-ref", "event-channel", "state"] {
        for round in 0..20 {
            eventually("it is waited for", || machine.value("0/state") == "2");
            ready(&mut frontend);
            thread::sleep(Duration::from_micros(round * 50));
            frontend.remove(node);
            eventually("it is judged", || ["4", "5", "6"].contains(&&*machine.value("0/state")));
            frontend.write("state", "6");
            eventually("it has closed", || ["2", "6"].contains(&&*machine.value("0/state")));
            frontend.write("state", "1");
        }
    }
    machine.until_state(0, "2");
    frontend.publish_ring();
    frontend.write("state", "3");
    machine.until_state(0, "4");
    frontend.write("state", "6");
    machine.until_state(0, "2");
}

/// No end of a frontend leaves anything to look at again and again.
#[test]
fn a_server_rests_when_its_frontend_is_gone() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0)]);
    machine.attach(1, &[Dev::disk(0)]);
    machine.until_connected(0);
    machine.until_connected(1);
    let rest = Duration::from_millis(300);
    machine.until_at_rest(rest);
    let directory = machine.frontend("0");
    machine.remove(&directory);
    machine.until_state(0, "6");
    machine.until_at_rest(rest);
    let directory = machine.backend("1");
    machine.remove(&directory);
    machine.expect_workers(0);
    machine.until_at_rest(rest);
    // And it is not dead.
    machine.attach(2, &[Dev::disk(0)]);
    machine.until_connected(2);
    check_io(machine.guest().host(2), nexus(0));
}

/// On a machine that is slow the first tries may take longer; a server that waits for something fails all of them.
#[test]
fn everything_is_given_back_within_a_second_of_the_removal() {
    let mut machine = Machine::new();
    let mut times = Vec::new();
    while times.len() < 5 && !times.iter().any(|took| *took < Duration::from_secs(1)) {
        machine.guest = None;
        machine.attach(0, &[Dev::disk(0)]);
        machine.until_state(0, "2");
        let mut frontend = RawFrontend::of(&machine, 0);
        connected(&mut machine, &mut frontend);
        let directory = machine.backend("0");
        let start = Instant::now();
        machine.remove(&directory);
        eventually("it is given back", || {
            machine.domain.live_mappings() == 0 && !frontend.ring.port_control().is_bound()
        });
        times.push(start.elapsed());
    }
    assert!(times.iter().any(|took| *took < Duration::from_secs(1)), "{times:?}");
}
