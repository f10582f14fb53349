//! A process that has nothing left: no descriptor, no memory for a worker, no thread.

use std::collections::BTreeSet;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::io::nexus;
use super::raw::RawFrontend;
use super::{Dev, Machine, check_io, eventually};
use crate::alone::alone;

/// Runs `body` with a limit of the process that is lower than usual.
fn limited<T>(resource: Resource, limit: u64, body: impl FnOnce() -> T) -> T {
    let (soft, hard) = getrlimit(resource).unwrap();
    setrlimit(resource, limit, hard).unwrap();
    let result = body();
    setrlimit(resource, soft, hard).unwrap();
    result
}

/// A limit that leaves so many descriptors free.
fn descriptors_left(left: usize) -> u64 {
    let listed: Vec<_> = std::fs::read_dir("/proc/self/fd").unwrap().map(|fd| fd.unwrap().path()).collect();
    // The one that the listing itself needed is free again.
    let used = listed.iter().filter(|fd| fd.symlink_metadata().is_ok());
    let used: BTreeSet<u64> =
        used.map(|fd| fd.file_name().unwrap().to_str().unwrap().parse().unwrap()).collect();
    (0..).filter(|number| !used.contains(number)).nth(left).unwrap()
}

/// An honest vhost 0 at work, and a vhost 1 that is ready to connect.
fn with_a_second_vhost() -> (Machine, RawFrontend) {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0)]);
    machine.until_connected(0);
    machine.attach(1, &[Dev::disk(0)]);
    let mut frontend = RawFrontend::of(&machine, 1);
    frontend.write("state", "2");
    machine.until_state(1, "2");
    frontend.publish_ring();
    (machine, frontend)
}

/// Lets vhost 1 connect; whether it could. Vhost 0 works meanwhile.
fn try_to_connect(machine: &mut Machine, frontend: &mut RawFrontend) -> bool {
    frontend.write("state", "3");
    eventually("it is decided", || ["4", "5"].contains(&&*machine.value("1/state")));
    let connected = machine.value("1/state") == "4";
    check_io(machine.guest().host(0), nexus(0));
    assert_eq!(machine.domain.live_mappings(), 1 + usize::from(connected), "the ring was let go of");
    frontend.write("state", "6");
    eventually("it has closed", || ["2", "6"].contains(&&*machine.value("1/state")));
    frontend.write("state", "1");
    eventually("it is waited for", || machine.value("1/state") == "2");
    frontend.write("state", "2");
    connected
}

/// Each descriptor that a connection needs is once the one that is not there.
#[test]
fn a_vhost_without_descriptors_is_closed_and_others_go_on() {
    alone("control::exhausted::a_vhost_without_descriptors_is_closed_and_others_go_on", || {
        let (mut machine, mut frontend) = with_a_second_vhost();
        assert!(try_to_connect(&mut machine, &mut frontend), "with all that it needs");
        let mut refused = 0;
        loop {
            assert!(refused < 20, "it needs more than 20 descriptors");
            let left = descriptors_left(refused);
            let connected =
                limited(Resource::RLIMIT_NOFILE, left, || try_to_connect(&mut machine, &mut frontend));
            if connected {
                break;
            }
            assert!(machine.error("1").contains("Too many open files"), "{}", machine.error("1"));
            refused += 1;
        }
        println!("figures: a connection failed with 0 to {} descriptors left", refused - 1);
        assert!(refused > 1, "{refused}");
        assert!(try_to_connect(&mut machine, &mut frontend), "it works again");
    });
}

/// The memory of a worker's buffers is by far the most that a connection takes.
#[test]
fn a_vhost_without_memory_is_closed_and_others_go_on() {
    alone("control::exhausted::a_vhost_without_memory_is_closed_and_others_go_on", || {
        let (mut machine, mut frontend) = with_a_second_vhost();
        assert!(try_to_connect(&mut machine, &mut frontend), "with all that it needs");
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
        for spare in [12 << 20, 24 << 20] {
            let limit = pages * 4096 + spare;
            assert!(
                !limited(Resource::RLIMIT_AS, limit, || try_to_connect(&mut machine, &mut frontend)),
                "with {spare} bytes left"
            );
            assert!(machine.error("1").contains("cannot start a worker"), "{}", machine.error("1"));
        }
        assert!(try_to_connect(&mut machine, &mut frontend), "it works again");
    });
}
