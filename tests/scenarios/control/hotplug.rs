//! Units that come and go while the vhost is connected.

use super::io::{Reads, nexus, read, read_result};
use super::{Dev, Machine, check_io};

/// NO_CONNECT (Xen io/vscsiif.h), and no status.
const NO_CONNECT: i32 = 0x0001_0000;

/// Lets the guest read all the time until the toolstack sees what it waits for.
fn meanwhile(machine: &mut Machine, reads: &mut Reads, dev: &str, state: &str) {
    machine.until(&format!("{dev} is in state {state}"), |machine| {
        reads.go_on(machine.guest().host(0));
        machine.value("0/state") == "4" && machine.value(&format!("0/vscsi-devs/{dev}/state")) == state
    });
}

#[test]
fn units_come_and_go_while_others_work() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0)]);
    machine.until_connected(0);
    let mut reads = Reads::of(nexus(0));

    machine.add_device(0, &Dev::disk(1));
    meanwhile(&mut machine, &mut reads, "dev-1", "4");
    assert_eq!(machine.written("0/state"), "1 2 4 7 8 4");
    assert_eq!(machine.written("0/vscsi-devs/dev-1/state"), "1 3 4");
    assert_eq!(machine.frontend_value("0/vscsi-devs/dev-1/state"), "4");
    check_io(machine.guest().host(0), nexus(1));

    machine.remove_device(0, "dev-1");
    meanwhile(&mut machine, &mut reads, "dev-1", "6");
    assert_eq!(machine.written("0/state"), "1 2 4 7 8 4 7 8 4");
    assert_eq!(machine.written("0/vscsi-devs/dev-1/state"), "1 3 4 5 6");
    assert_eq!(
        machine.guest().host(0).flushed(),
        [0],
        "its cache was written back: SYNCHRONIZE CACHE ended well"
    );
    assert_eq!(machine.frontend_value("0/vscsi-devs/dev-1/state"), "6");
    assert_eq!(read_result(machine.guest().host(0), nexus(1)), NO_CONNECT);
    let gone = machine.backend("0/vscsi-devs/dev-1");
    machine.remove(&gone);

    // The address is free again.
    machine.add_device(0, &Dev { name: "dev-2".into(), ..Dev::disk(1) });
    meanwhile(&mut machine, &mut reads, "dev-2", "4");
    check_io(machine.guest().host(0), nexus(1));
    assert!(
        (1..=3).contains(&reads.told),
        "two have come and one has gone, it was told {} times",
        reads.told
    );
    let host = machine.guest().host(0);
    assert!(reads.finish(host) > 16, "the guest has read all the time");
    assert_eq!(host.unanswered(), 0);
    machine.expect_workers(1);
}

/// A guest that still uses a unit when it agrees to its removal gets all its answers.
#[test]
fn a_removal_answers_what_is_in_flight() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0), Dev::disk(1)]);
    machine.until_connected(0);
    machine.remove_device(0, "dev-1");
    let mut sent = 0;
    machine.until("dev-1 is removed", |machine| {
        let host = machine.guest().host(0);
        while sent < 1000 && host.frontend().in_flight() < 12 {
            host.frontend().submit(super::io::read(nexus(1))).unwrap();
            sent += 1;
        }
        for reply in host.replies() {
            assert!([0, NO_CONNECT].contains(&reply.rslt), "{:#x}", reply.rslt);
        }
        machine.value("0/vscsi-devs/dev-1/state") == "6"
    });
    machine.until("all reads are answered", |machine| {
        machine.guest().host(0).replies();
        machine.guest().host(0).frontend().in_flight() == 0
    });
    assert_eq!(read_result(machine.guest().host(0), nexus(1)), NO_CONNECT);
    machine.until_connected(0);
    check_io(machine.guest().host(0), nexus(0));
}

/// The toolstack waits for the 6 and leaves the nodes otherwise.
#[test]
fn a_device_that_was_never_served_can_be_removed() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0), Dev::new("dev-1", "no device", "0:0:0:1")]);
    machine.until_connected(0);
    assert_eq!(machine.written("0/vscsi-devs/dev-1/state"), "1 6");
    machine.remove_device(0, "dev-1");
    machine.until_connected(0);
    assert_eq!(machine.written("0/vscsi-devs/dev-1/state"), "1 6 5 6");
    check_io(machine.guest().host(0), nexus(0));
}

#[test]
fn a_bad_device_is_added_in_vain_and_harms_nobody() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0)]);
    machine.until_connected(0);
    machine.add_device(0, &Dev::new("dev-1", "ram:1M", "0:0:0:0"));
    machine.until_connected(0);
    assert_eq!(machine.written("0/state"), "1 2 4 7 8 4");
    assert_eq!(machine.written("0/vscsi-devs/dev-1/state"), "1 6");
    assert!(machine.error("0/vscsi-devs/dev-1").contains("taken by dev-0"));
    check_io(machine.guest().host(0), nexus(0));
}

/// Their names never come again, so what was said of them would pile up.
#[test]
fn errors_go_with_their_reason() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0), Dev::new("dev-1", "no device", "0:0:0:1")]);
    machine.until_connected(0);
    for number in 2..5 {
        let name = format!("dev-{number}");
        machine.add_device(0, &Dev::new(&name, "no device", "0:0:0:1"));
        machine.until_connected(0);
        assert_ne!(machine.error(&format!("0/vscsi-devs/{name}")), "");
        let gone = machine.backend(&format!("0/vscsi-devs/{name}"));
        machine.remove(&gone);
    }
    assert_ne!(machine.error("0/vscsi-devs/dev-1"), "", "its reason is still there");
    machine.add_device(0, &Dev { name: "dev-5".into(), ..Dev::disk(1) });
    machine.until_connected(0);
    let errors = format!("/local/domain/0/error/backend/vscsi/{}/0/vscsi-devs/", machine.domid);
    let told: Vec<_> = machine
        .store
        .dump()
        .into_keys()
        .filter_map(|path| Some(path.strip_prefix(&errors)?.to_owned()))
        .collect();
    assert_eq!(told, ["dev-1", "dev-1/error"]);
}

/// With feature-host a guest is told what the device tells, and nothing else.
#[test]
fn feature_host_tells_nothing_of_other_units() {
    let mut machine = Machine::new();
    for (number, feature_host) in [(0, "0"), (1, "1")] {
        machine.attach(number, &[Dev::disk(0)]);
        let node = machine.backend(&format!("{number}/feature-host"));
        machine.store.write(&node, feature_host);
        machine.until_connected(number);
        machine.add_device(number, &Dev::disk(1));
        machine.until_connected(number);
        let host = machine.guest().host(number);
        let first = host.frontend().submit(read(nexus(0))).unwrap();
        let reply = host.frontend().wait_reply(crate::vhost::PATIENCE).expect("READ is answered");
        assert_eq!(reply.rqid, first);
        assert_eq!(reply.tells_of_changed_luns(), number == 0, "{reply:?}");
        check_io(host, nexus(0));
    }
}
