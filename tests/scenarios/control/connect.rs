//! From a new directory to a connected vhost.

use super::io::nexus;
use super::{Dev, Machine, check_io};

#[test]
fn a_vhost_announces_itself_then_opens_its_units_then_connects() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0), Dev::disk(1)]);
    machine.until_connected(0);
    assert_eq!(machine.written("0/state"), "1 2 4");
    let place = |node: &str, value: &str| machine.place(&format!("0/{node}"), value);
    assert!(place("feature-sg-grant", "128") < place("state", "2"));
    for dev in ["vscsi-devs/dev-0/state", "vscsi-devs/dev-1/state"] {
        assert_eq!(machine.written(&format!("0/{dev}")), "1 3 4");
        assert!(place("state", "2") < place(dev, "3"));
        assert!(place(dev, "3") < place("state", "4"));
        assert!(place("state", "4") < place(dev, "4"));
        assert_eq!(machine.frontend_value(&format!("0/{dev}")), "4", "the guest has the unit");
    }
    machine.expect_workers(1);
    let host = machine.guest().host(0);
    assert_eq!(host.sg_tablesize(), 128);
    assert_eq!(host.units().iter().copied().collect::<Vec<_>>(), [nexus(0), nexus(1)]);
    check_io(host, nexus(0));
    check_io(host, nexus(1));
}

/// The guest was faster than whoever starts the server.
#[test]
fn a_frontend_that_is_ready_first_still_sees_the_announcement() {
    let mut machine = Machine::new();
    machine.ask_to_stop();
    machine.wait_for_end().unwrap();
    machine.attach(0, &[Dev::disk(0)]);
    machine.until("the frontend is ready", |machine| machine.frontend_value("0/state") == "3");
    assert_eq!(machine.written("0/state"), "1");
    machine.start();
    machine.until_connected(0);
    assert_eq!(machine.written("0/state"), "1 2 4");
    check_io(machine.guest().host(0), nexus(0));
}

#[test]
fn vhosts_of_a_guest_do_not_know_each_other() {
    let mut machine = Machine::new();
    for vhost in [0, 1, 12] {
        machine.attach(vhost, &[Dev::disk(3)]);
    }
    for vhost in [0, 1, 12] {
        machine.until_connected(vhost);
        check_io(machine.guest().host(vhost), nexus(3));
    }
    machine.expect_workers(3);
    machine.detach(1);
    machine.until_state(1, "6");
    for vhost in [0, 12] {
        check_io(machine.guest().host(vhost), nexus(3));
        assert_eq!(machine.written(&format!("{vhost}/state")), "1 2 4");
    }
}

#[test]
fn names_may_be_sparse_and_units_many() {
    let mut machine = Machine::new();
    let name = |lun: u16| format!("dev-{}", u32::from(lun) * 17 + 3);
    let devs: Vec<Dev> = (0..120).map(|lun| Dev { name: name(lun), ..Dev::disk(lun) }).collect();
    machine.attach(0, &devs);
    machine.until_connected(0);
    for lun in 0..120 {
        assert_eq!(machine.written(&format!("0/vscsi-devs/{}/state", name(lun))), "1 3 4");
    }
    let host = machine.guest().host(0);
    assert_eq!(host.units().len(), 120);
    for lun in [0, 63, 119] {
        check_io(host, nexus(lun));
    }
}

#[test]
fn a_device_that_cannot_be_had_stops_no_other() {
    let mut machine = Machine::new();
    let bad = |name: &str, p_dev: Option<&str>, v_dev: Option<&str>| Dev {
        name: name.into(),
        p_dev: p_dev.map(str::to_owned),
        v_dev: v_dev.map(str::to_owned),
    };
    let (disk, free) = (Some("ram:1M"), Some("0:0:5:0"));
    let refused = [
        (bad("dev-1", None, free), "p-dev is missing"),
        (bad("dev-2", Some(""), free), "names no device"),
        (bad("dev-3", Some("the tape drive"), free), "names no device"),
        (bad("dev-4", Some("naa.6001405:0"), free), "LIO"),
        (bad("dev-5", Some("ram:0"), free), "size"),
        (bad("dev-6", Some("4000000:7:7:7"), free), "4000000:7:7:7"),
        (bad("dev-7", Some("/dev/pvscsi-has-no-such-device"), free), "pvscsi-has-no-such-device"),
        (bad("dev-8", Some("file:/pvscsi/no/such/file"), free), "/pvscsi/no/such/file"),
        (bad("dev-11", disk, None), "v-dev is missing"),
        (bad("dev-12", disk, Some("")), "host:channel:target:lun"),
        (bad("dev-13", disk, Some("0:0:0")), "host:channel:target:lun"),
        (bad("dev-14", disk, Some("0:0:0:0:0")), "host:channel:target:lun"),
        (bad("dev-15", disk, Some("a:b:c:d")), "host:channel:target:lun"),
        (bad("dev-16", disk, Some("0:0:0:65536")), "16 bits"),
        // The host number plays no part.
        (bad("dev-17", disk, Some("9:0:0:0")), "taken by dev-0"),
    ];
    let mut devs = vec![Dev::disk(0)];
    devs.extend(refused.iter().map(|(dev, _)| dev.clone()));
    devs.push(Dev { name: "dev-99".into(), ..Dev::disk(9) });
    machine.attach(0, &devs);
    machine.until_connected(0);
    for (dev, why) in &refused {
        let path = format!("0/vscsi-devs/{}", dev.name);
        assert_eq!(machine.written(&format!("{path}/state")), "1 6", "{dev:?}");
        assert!(machine.place(&format!("{path}/state"), "6") < machine.place("0/state", "4"), "{dev:?}");
        let error = machine.error(&path);
        assert!(error.starts_with("22 ") && error.contains(why), "{dev:?}: {error:?}");
    }
    assert_eq!(machine.error("0"), "", "the vhost itself is well");
    let host = machine.guest().host(0);
    assert_eq!(host.units().iter().copied().collect::<Vec<_>>(), [nexus(0), nexus(9)]);
    check_io(host, nexus(0));
    check_io(host, nexus(9));
}

/// What the frontend and the toolstack may say of themselves changes nothing: devices are always assigned one by one, and the
/// layout of the ring is the same for all guests.
#[test]
fn feature_host_and_protocol_make_no_difference() {
    let mut machine = Machine::new();
    let protocols = [
        None,
        Some("x86_64-abi"),
        Some("x86_32-abi"),
        Some("vax-abi"),
        Some(""),
        Some("4"),
        Some("\u{1b}[2J"),
    ];
    let hosts = [Some("0"), Some("1"), None, Some("yes")];
    for (vhost, (protocol, host)) in (0..).zip(protocols.iter().zip(hosts.iter().cycle())) {
        machine.attach(vhost, &[Dev::disk(0), Dev::disk(5)]);
        let node = machine.backend(&format!("{vhost}/feature-host"));
        match host {
            Some(host) => machine.store.write(&node, host),
            None => machine.remove(&node),
        }
        if let Some(protocol) = protocol {
            machine.store.write(&machine.frontend(&format!("{vhost}/protocol")), protocol);
        }
        machine.until_connected(vhost);
        let host = machine.guest().host(vhost);
        assert_eq!(host.units().iter().copied().collect::<Vec<_>>(), [nexus(0), nexus(5)]);
        check_io(host, nexus(0));
        check_io(host, nexus(5));
        assert_eq!(machine.written(&format!("{vhost}/state")), "1 2 4");
    }
}
