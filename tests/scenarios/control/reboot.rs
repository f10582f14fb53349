//! A guest that reboots is another domain with the same UUID, and has its devices again.

use std::os::fd::AsFd;

use nix::sys::eventfd::EventFd;
use pvscsi_backend::toolstack::reboot::Belongings;
use pvscsi_backend::toolstack::{Attached, ToolError, Toolstack};
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{Nodes, Xenstore};

use super::io::{check_io, nexus};
use super::machine::{DOM0, TIME_LIMIT};
use super::tools::{attach, detach, run, spec};
use super::{Dev, Machine};

/// The guest goes, and its server with it.
fn end(machine: &mut Machine) -> Option<Belongings> {
    machine.destroy_guest();
    machine.wait_for_end().unwrap();
    machine.assert_everything_given_back();
    machine.belongings.lock().unwrap().take()
}

/// The domain that the toolstack makes of it.
fn come_back(gone: &Machine) -> Machine {
    let mut back = gone.beside();
    let vm = format!("/vm/uuid-{}", gone.domid);
    back.toolstack.write(&format!("/local/domain/{}/vm", back.domid), vm).unwrap();
    back
}

fn follow(back: &mut Machine, gone: DomId, belongings: &Belongings) -> Option<DomId> {
    run(back, |tools, _| tools.follow(gone, belongings, TIME_LIMIT)).unwrap()
}

#[test]
fn a_guest_that_reboots_has_its_devices_again() {
    let mut machine = Machine::new();
    attach(&mut machine, "ram:1M,0:0:0:0").unwrap();
    attach(&mut machine, "ram:2M,0:0:0:7,shared").unwrap();
    attach(&mut machine, "ram:3M,4:0:1:2,feature-host").unwrap();
    let belongings = end(&mut machine).expect("it had devices");
    let mut back = come_back(&machine);
    assert_eq!(follow(&mut back, machine.domid, &belongings), Some(back.domid));
    let vhosts = run(&mut back, |tools, domid| tools.vhosts(domid)).unwrap();
    let devices: Vec<_> = vhosts
        .iter()
        .flat_map(|vhost| {
            let of = |d: &pvscsi_backend::toolstack::Device| {
                format!("{} {} {:?} {}", d.name, d.v_dev, d.options, vhost.feature_host)
            };
            vhost.devices.iter().map(of).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(
        devices,
        ["ram:1M 0:0:0:0 \"\" false", "ram:2M 0:0:0:7 \"shared\" false", "ram:3M 4:0:1:2 \"\" true",]
    );
    for unit in [0, 7] {
        check_io(back.guest().host(0), nexus(unit));
    }
}

/// Devices came and went before, so that a new choice would be another one.
#[test]
fn what_was_attached_with_auto_is_where_it_was() {
    let mut machine = Machine::new();
    for text in ["ram:1M,auto", "ram:2M,auto", "ram:3M,auto", "ram:4M,auto"] {
        attach(&mut machine, text).unwrap();
    }
    detach(&mut machine, "0:0:0:0").unwrap();
    detach(&mut machine, "2:0:0:0").unwrap();
    let belongings = end(&mut machine).expect("it had devices");
    let mut back = come_back(&machine);
    assert_eq!(follow(&mut back, machine.domid, &belongings), Some(back.domid));
    let config: Vec<_> = ["ram:2M,auto", "ram:4M,auto", "ram:5M,auto"].map(spec).into();
    let given = run(&mut back, |tools, domid| tools.attach_all(domid, &config)).unwrap();
    let given = given.iter().map(|given| (given.vdev.to_string(), given.attached)).collect::<Vec<_>>();
    let (before, new) = (Attached::Before, Attached::InUse);
    let expected = [("1:0:0:0", before), ("3:0:0:0", before), ("0:0:0:0", new)];
    assert_eq!(given, expected.map(|(vdev, how)| (vdev.to_owned(), how)));
    check_io(back.guest().host(0), nexus(0));
}

#[test]
fn what_other_toolstacks_attach_is_theirs_to_bring_back() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0)]);
    machine.until_connected(0);
    assert_eq!(end(&mut machine), None);

    let mut machine = Machine::new();
    attach(&mut machine, "ram:1M,0:0:0:0").unwrap();
    let belongings = end(&mut machine).expect("it had a device");
    let mut back = come_back(&machine);
    back.attach(3, &[Dev::disk(0)]);
    assert_eq!(follow(&mut back, machine.domid, &belongings), None, "it has vhosts of its own");
    assert_eq!(back.value("0/state"), "");
}

#[test]
fn a_guest_that_stays_away_is_waited_for_until_somebody_says_stop() {
    let mut machine = Machine::new();
    attach(&mut machine, "ram:1M,0:0:0:0").unwrap();
    let belongings = end(&mut machine).expect("it had a device");
    let other = machine.beside();
    let stop = EventFd::new().unwrap();
    stop.write(1).unwrap();
    let store = Xenstore::from_stream(machine.store.connect(DOM0)).unwrap();
    let ended = Toolstack::new(store, stop.as_fd()).unwrap().follow(machine.domid, &belongings, TIME_LIMIT);
    assert!(matches!(ended, Err(ToolError::Interrupted)), "{ended:?}");
    assert_eq!(other.value("0/state"), "", "another guest is not it");
}
