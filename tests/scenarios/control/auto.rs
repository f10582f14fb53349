//! Devices that are attached with `auto`: each has a vhost of its own.

use std::os::fd::AsFd;

use nix::sys::eventfd::EventFd;
use pvscsi_backend::toolstack::{Attached, Given, ToolError, Toolstack};
use pvscsi_xen::xenstore::Xenstore;

use super::io::nexus;
use super::machine::DOM0;
use super::shared::Image;
use super::tools::{attach, detach, nodes, run, spec};
use super::{Dev, Machine, check_io};

/// `v-dev`, and what became of it, for each.
fn attach_all(machine: &mut Machine, texts: &[&str]) -> Result<Vec<(String, Attached)>, ToolError> {
    let specs: Vec<_> = texts.iter().copied().map(spec).collect();
    let given = run(machine, |tools, domid| tools.attach_all(domid, &specs))?;
    Ok(given.iter().map(|Given { vdev, attached }| (vdev.to_string(), *attached)).collect())
}

fn attached<const N: usize>(vdevs: [&str; N], how: Attached) -> Vec<(String, Attached)> {
    vdevs.map(|vdev| (vdev.to_owned(), how)).into()
}

fn attach_auto(machine: &mut Machine, text: &str) -> String {
    run(machine, |tools, domid| tools.attach(domid, &spec(text)).unwrap().vdev.to_string())
}

/// The host numbers of the vhosts, by their own.
fn hosts(machine: &mut Machine) -> Vec<u32> {
    run(machine, |tools, domid| tools.vhosts(domid).unwrap().iter().map(|vhost| vhost.host).collect())
}

#[test]
fn each_device_gets_the_lowest_host_that_is_free() {
    let mut machine = Machine::new();
    assert_eq!(attach_auto(&mut machine, "ram:1M,auto"), "0:0:0:0");
    assert_eq!(attach_auto(&mut machine, "ram:1M,auto,ro"), "1:0:0:0");
    assert_eq!(attach(&mut machine, "ram:1M,2:0:3:4").unwrap(), Attached::InUse);
    assert_eq!(attach_auto(&mut machine, "ram:1M,auto,feature-host"), "3:0:0:0");
    assert_eq!(hosts(&mut machine), [0, 1, 2, 3]);
    assert_eq!(machine.value("3/vscsi-devs/dev-0/v-dev"), "3:0:0:0");
    assert_eq!(
        (machine.value("3/libxl_ctrl_index"), machine.value("3/feature-host")),
        ("3".into(), "1".into())
    );
    check_io(machine.guest().host(0), nexus(0));
    check_io(machine.guest().host(3), nexus(0));
    // What was taken away is free again.
    detach(&mut machine, "1:0:0:0").unwrap();
    assert_eq!(attach_auto(&mut machine, "ram:2M,auto"), "1:0:0:0");
    machine.expect_workers(4);
}

/// It calls the vhost by its host.
#[test]
fn the_hosts_of_other_toolstacks_are_kept_clear_of() {
    let mut machine = Machine::new();
    machine.attach(0, &[Dev::disk(0)]);
    machine.until_connected(0);
    assert_eq!(attach_auto(&mut machine, "ram:1M,auto"), "1:0:0:0");
}

#[test]
fn a_configuration_names_hosts_and_leaves_others_open() {
    use Attached::{Before, InUse};
    let mut machine = Machine::new();
    let all = [
        "ram:1M,auto",
        "ram:2M,1:0:0:0",
        "ram:3M,auto,ro",
        "ram:1M,auto",
        "ram:4M,1:0:0:1",
        "ram:5M,0:0:7:0",
    ];
    let vdevs = ["2:0:0:0", "1:0:0:0", "3:0:0:0", "4:0:0:0", "1:0:0:1", "0:0:7:0"];
    assert_eq!(attach_all(&mut machine, &all).unwrap(), attached(vdevs, InUse));
    // Again: nothing new, in this order or another.
    let before = nodes(&machine);
    assert_eq!(attach_all(&mut machine, &all).unwrap(), attached(vdevs, Before));
    let mut backwards = all;
    backwards.reverse();
    assert_eq!(
        attach_all(&mut machine, &backwards).unwrap(),
        attached(["0:0:7:0", "1:0:0:1", "2:0:0:0", "3:0:0:0", "1:0:0:0", "4:0:0:0"], Before)
    );
    assert_eq!(nodes(&machine), before);
    // Those that are missing come again, and one that is new.
    detach(&mut machine, "2:0:0:0").unwrap();
    detach(&mut machine, "3:0:0:0").unwrap();
    let again = attach_all(&mut machine, &[&all[..], &["ram:6M,auto"]].concat()).unwrap();
    let how: Vec<_> = again.iter().map(|(vdev, how)| (vdev.as_str(), *how)).collect();
    assert_eq!(
        how,
        [
            ("4:0:0:0", Before),
            ("1:0:0:0", Before),
            ("2:0:0:0", InUse),
            ("3:0:0:0", InUse),
            ("1:0:0:1", Before),
            ("0:0:7:0", Before),
            ("5:0:0:0", InUse)
        ]
    );
}

/// Where it was attached by hand before, under whatever address.
#[test]
fn a_device_that_the_guest_has_already_is_that_device() {
    use Attached::{Before, InUse};
    let (image, other) = (Image::new(), Image::new());
    let mut machine = Machine::new();
    attach(&mut machine, &format!("{},4:0:1:2,shared", image.pdev())).unwrap();
    let open = format!("{},auto,shared", image.pdev());
    let new = format!("{},auto", other.pdev());
    let given = attach_all(&mut machine, &[&new, &open]).unwrap();
    assert_eq!(given, [("0:0:0:0".into(), InUse), ("4:0:1:2".into(), Before)]);
    // A user who names it wants it once more.
    assert_eq!(attach_auto(&mut machine, &open), "1:0:0:0");
    let before = nodes(&machine);
    for (texts, words) in [
        // It has other options.
        (vec![format!("{},auto,ro,shared", image.pdev())], "is at vdev 4:0:1:2 already, with other options"),
        // One device for two entries.
        (vec![new.clone(), new.clone()], "has it at 0:0:0:0"),
        // Somebody else's address is not given up for it.
        (vec![new.clone(), "ram:1M,0:0:0:0".into()], "vdev 0:0:0:0 is taken by file:"),
        (vec!["ram:1M,auto".into(), "file:/no/such/file,auto".into()], "/no/such/file"),
    ] {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let error = attach_all(&mut machine, &texts).unwrap_err().to_string();
        assert!(error.contains(words), "{texts:?}: {error}");
        assert_eq!(nodes(&machine), before, "{texts:?}");
    }
}

/// The same device cannot be attached twice, and what was attached before the second goes again.
#[test]
fn one_device_twice_is_refused() {
    let image = Image::new();
    let mut machine = Machine::new();
    let open = format!("{},auto", image.pdev());
    let error = attach_all(&mut machine, &["ram:1M,auto", &open, &open]).unwrap_err();
    assert!(matches!(error, ToolError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("has it at 1:0:0:0"), "{error}");
    assert_eq!(nodes(&machine), <[String; 0]>::default());
    machine.expect_workers(0);
    // Shared, it can.
    let shared = format!("{open},shared");
    for how in [Attached::InUse, Attached::Before] {
        assert_eq!(
            attach_all(&mut machine, &[&shared, &shared]).unwrap(),
            attached(["0:0:0:0", "1:0:0:0"], how)
        );
    }
}

#[test]
fn two_at_once_do_not_choose_the_same() {
    let mut machine = Machine::new();
    for _ in 0..5 {
        let tool = |store| {
            let (stop, domid) = (EventFd::new().unwrap(), machine.domid);
            move || {
                let mut tools = Toolstack::new(store, stop.as_fd()).unwrap();
                tools.attach(domid, &spec("ram:1M,auto")).unwrap().vdev.to_string()
            }
        };
        let connect = || Xenstore::from_stream(machine.store.connect(DOM0)).unwrap();
        let tools = [0; 4].map(|_| tool(connect()));
        let mut vdevs = std::thread::scope(|scope| {
            let tools = tools.map(|tool| scope.spawn(tool));
            machine.until("the tools are done", |_| tools.iter().all(|tool| tool.is_finished()));
            tools.map(|tool| tool.join().unwrap())
        });
        vdevs.sort();
        assert_eq!(vdevs, ["0:0:0:0", "1:0:0:0", "2:0:0:0", "3:0:0:0"]);
        for vdev in vdevs {
            detach(&mut machine, &vdev).unwrap();
        }
    }
}

#[test]
fn a_configuration_that_needs_too_many_hosts_is_refused_at_once() {
    let mut machine = Machine::new();
    assert_eq!(attach_auto(&mut machine, "ram:1M,auto"), "0:0:0:0");
    let before = nodes(&machine);
    let all = [&["ram:3M,auto"; 99][..], &["ram:2M,0:0:0:1", "ram:4M,auto"]].concat();
    let error = attach_all(&mut machine, &all).unwrap_err().to_string();
    assert!(error.contains("auto finds no free host number: all below 100 are in use"), "{error}");
    assert!(error.contains("give ram:4M an address in a vhost that is there"), "{error}");
    assert_eq!(nodes(&machine), before);
}

/// What the guest may own in xenstore is what bounds the number of vhosts (`toolstack::auto::HOSTS`).
#[test]
fn a_vhost_takes_nine_nodes_of_the_guests() {
    let mut machine = Machine::new();
    attach_auto(&mut machine, "ram:1M,auto");
    let directory = format!("/local/domain/{}/device/vscsi/0", machine.domid);
    machine.until("the guest has told of the unit", |machine| {
        machine.store.read(&format!("{directory}/vscsi-devs/dev-0/state")).is_some_and(|state| state == b"4")
    });
    let own =
        machine.store.dump().into_keys().filter(|path| path.starts_with(&directory)).collect::<Vec<_>>();
    assert_eq!(own.len(), 9, "{own:?}");
}
