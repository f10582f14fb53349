//! The devices are in another domain than the toolstack, which may look at next to nothing of the guest.

use pvscsi_backend::toolstack::list::table;
use pvscsi_backend::toolstack::{Attached, ToolError};
use pvscsi_xen::xenstore::Nodes;

use super::io::nexus;
use super::tools::{attach, detach, nodes, run, spec};
use super::{Machine, check_io};

/// The domain has a directory for the guest, as from an earlier device: without one, its server ends.
fn machine() -> Machine {
    let mut machine = Machine::with_driver_domain();
    let directory = machine.backend("");
    machine.toolstack.mkdir(directory.trim_end_matches('/')).unwrap();
    machine
}

fn of(machine: &Machine, device: &str) -> String {
    format!("{device},backend={}", machine.home)
}

#[test]
fn a_driver_domain_serves_a_guest_that_it_may_not_look_at() {
    let mut machine = machine();
    let first = of(&machine, "ram:1M,0:0:0:0");
    assert_eq!(attach(&mut machine, &first).unwrap(), Attached::InUse);
    let second = of(&machine, "ram:2M,0:0:0:1");
    assert_eq!(attach(&mut machine, &second).unwrap(), Attached::InUse, "under the guest");
    check_io(machine.guest().host(0), nexus(1));
    let (vhosts, domid) = run(&mut machine, |tools, domid| (tools.vhosts(domid).unwrap(), domid));
    let home = machine.home;
    assert_eq!(
        table(&[(domid, vhosts)]),
        format!(
            "Dom  Idx  BE   state  ctrl  phy-hctl  vir-hctl  devstate  name\n\
             {domid}  0    {home}  4      0     ram:1M    0:0:0:0   4         ram:1M\n\
             {domid}  0    {home}  4      0     ram:2M    0:0:0:1   4         ram:2M\n"
        )
    );
    assert_eq!(run(&mut machine, |tools, _| tools.guests().unwrap()), [domid]);
    detach(&mut machine, "0:0:0:1").unwrap();
    check_io(machine.guest().host(0), nexus(0));
    // The same device elsewhere is another one.
    let open = ["ram:1M,auto".to_owned(), of(&machine, "ram:1M,auto"), of(&machine, "ram:3M,auto")];
    let open = open.map(|text| spec(&text));
    let given = run(&mut machine, |tools, domid| {
        tools.wait_for_guest = false;
        tools.patience = std::time::Duration::from_millis(500);
        // Nobody serves dom0's here.
        (tools.attach_all(domid, &open[..1]).unwrap_err(), tools.attach_all(domid, &open[1..]).unwrap())
    });
    assert!(matches!(given.0, ToolError::NotServed { .. }), "{}", given.0);
    let vdevs: Vec<_> = given.1.iter().map(|given| (given.vdev.to_string(), given.attached)).collect();
    assert_eq!(vdevs[0], ("0:0:0:0".to_owned(), Attached::Before));
    assert_eq!(vdevs[1].0, "1:0:0:0");
    detach(&mut machine, "1:0:0:0").unwrap();
    // With the last device goes the directory, and with that the server.
    detach(&mut machine, "0:0:0:0").unwrap();
    machine.wait_for_end().unwrap();
    assert_eq!(nodes(&machine), <[String; 0]>::default());
}

#[test]
fn a_driver_domain_cleans_up_after_a_guest_that_is_gone() {
    let mut machine = machine();
    let device = of(&machine, "ram:1M,0:0:0:0");
    attach(&mut machine, &device).unwrap();
    machine.destroy_guest();
    machine.wait_for_end().unwrap();
    machine.assert_everything_given_back();
    let left = nodes(&machine).into_iter().filter(|node| node.starts_with("/local"));
    assert_eq!(left.collect::<Vec<_>>(), <[String; 0]>::default());
    assert!(machine.belongings.lock().unwrap().is_none(), "what is to follow the guest is dom0's to say");
}

/// A guest that takes its own nodes away is still there, and so are its devices.
#[test]
fn a_guest_without_nodes_is_not_gone() {
    let mut machine = machine();
    let device = of(&machine, "ram:1M,0:0:0:0");
    attach(&mut machine, &device).unwrap();
    let state = machine.frontend("0/state");
    machine.remove(&state);
    machine.until_state(0, "6");
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert!(machine.server_is_running());
    assert_eq!(machine.value("0/vscsi-devs/dev-0/v-dev"), "0:0:0:0");
}

#[test]
fn a_vhost_is_in_one_domain() {
    let mut machine = machine();
    let first = of(&machine, "ram:1M,0:0:0:0");
    attach(&mut machine, &first).unwrap();
    let before = nodes(&machine);
    let home = machine.home;
    for (device, words) in [
        (
            "ram:1M,0:0:0:1".to_owned(),
            format!("vhost 0 is in domain {home}, and the device is to be in domain 0"),
        ),
        ("ram:1M,1:0:0:1,backend=nobody".to_owned(), "nobody".to_owned()),
        (format!("ram:2M,0:0:0:0,backend={home}"), "vdev 0:0:0:0 is taken by ram:1M".to_owned()),
    ] {
        let error = attach(&mut machine, &device).unwrap_err().to_string();
        assert!(error.contains(&words), "{device}: {error}");
        assert_eq!(nodes(&machine), before, "{device}");
    }
    // All or none of a configuration, wherever the devices are.
    let items = [first.as_str(), "ram:1M,0:0:0:1"].map(|text| text.parse().unwrap());
    let error = run(&mut machine, |tools, domid| tools.attach_all(domid, &items).unwrap_err());
    assert!(matches!(error, ToolError::OtherBackend { vhost: 0, .. }), "{error}");
    assert_eq!(nodes(&machine), before);
}
