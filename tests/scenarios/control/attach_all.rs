//! All devices of a configuration file, or none.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::eventfd::EventFd;
use pvscsi_backend::toolstack::spec::DeviceSpec;
use pvscsi_backend::toolstack::{Attached, ToolError, Toolstack};
use pvscsi_xen::xenstore::Xenstore;

use super::io::nexus;
use super::machine::DOM0;
use super::shared::Image;
use super::tools::{attach, nodes, run, spec};
use super::{Machine, check_io};

fn specs(texts: &[&str]) -> Vec<DeviceSpec> {
    texts.iter().copied().map(spec).collect()
}

fn attach_all(machine: &mut Machine, texts: &[&str]) -> Result<Vec<Attached>, ToolError> {
    let specs = specs(texts);
    let given = run(machine, |tools, domid| tools.attach_all(domid, &specs))?;
    Ok(given.iter().map(|given| given.attached).collect())
}

#[test]
fn what_is_there_is_left_alone() {
    use Attached::{Before, InUse};
    let mut machine = Machine::new();
    let all = ["ram:1M,0:0:0:0", "ram:2M,0:0:0:1", "ram:1M,1:0:0:0,feature-host,ro"];
    assert_eq!(attach_all(&mut machine, &[]).unwrap(), []);
    assert_eq!(attach_all(&mut machine, &all).unwrap(), [InUse, InUse, InUse]);
    check_io(machine.guest().host(0), nexus(1));
    let before = nodes(&machine);
    assert_eq!(attach_all(&mut machine, &all).unwrap(), [Before, Before, Before]);
    assert_eq!(nodes(&machine), before);
    let detach = |machine: &mut Machine, vdev: &str| {
        run(machine, |tools, domid| tools.detach(domid, vdev.parse().unwrap(), false)).unwrap();
    };
    detach(&mut machine, "0:0:0:0");
    assert_eq!(attach_all(&mut machine, &all).unwrap(), [InUse, Before, Before]);
    // Something else is there: seen before anything is written.
    let before = nodes(&machine);
    for (other, words) in [
        ("ram:4M,0:0:0:1", "vdev 0:0:0:1 is taken by ram:2M"),
        ("ram:2M,0:0:0:1,ro", "ram:2M is at vdev 0:0:0:1 already, with other options"),
        ("ram:1M,1:0:0:0,feature-host", "ram:1M is at vdev 1:0:0:0 already, with other options"),
        ("ram:1M,1:0:0:0,ro", "vhost 1 is there with another feature-host"),
        ("file:/no/such/file,0:0:0:7", "/no/such/file"),
    ] {
        let error = attach_all(&mut machine, &["ram:1M,2:0:0:0", other]).unwrap_err().to_string();
        assert!(error.contains(words), "{other}: {error}");
        assert_eq!(nodes(&machine), before, "{other}");
    }
    for vdev in ["0:0:0:0", "0:0:0:1", "1:0:0:0"] {
        detach(&mut machine, vdev);
    }
}

/// A disk that others could have too is still the guest's own.
#[test]
fn a_disk_that_the_guest_has_already_is_not_in_use() {
    use Attached::{Before, InUse};
    let image = Image::new();
    let mut machine = Machine::new();
    let disk = format!("{},0:0:0:0", image.pdev());
    assert_eq!(attach_all(&mut machine, &[&disk]).unwrap(), [InUse]);
    assert_eq!(attach_all(&mut machine, &[&disk, "ram:1M,0:0:1:0"]).unwrap(), [Before, InUse]);
    check_io(machine.guest().host(0), nexus(0));
}

/// The last device goes when the first is being attached.
#[test]
fn an_error_takes_back_what_was_attached() {
    let mut machine = Machine::new();
    attach(&mut machine, "ram:1M,0:0:0:9").unwrap();
    let before = nodes(&machine);
    let path = std::env::temp_dir().join(format!("pvscsi-all-{}", std::process::id()));
    std::fs::write(&path, vec![0; 4096]).unwrap();
    let last = format!("file:{},0:0:0:2", path.display());
    let specs = specs(&["ram:1M,0:0:0:1", "ram:1M,0:0:0:9", "ram:1M,1:0:0:0", &last]);
    let first = machine.backend("0/vscsi-devs/dev-1/state");
    let store = machine.store.clone();
    // The guest stands still until the file is gone, and so does the tool.
    let guest = machine.guest.take();
    let error = std::thread::scope(|scope| {
        let domid = machine.domid;
        let client = Xenstore::from_stream(machine.store.connect(DOM0)).unwrap();
        let tool = scope.spawn(move || {
            let stop = EventFd::new().unwrap();
            let mut tools = Toolstack::new(client, stop.as_fd()).unwrap();
            tools.attach_all(domid, &specs).unwrap_err()
        });
        machine.until("the first device is written", |_| store.read(&first).is_some());
        std::fs::remove_file(&path).unwrap();
        machine.guest = guest;
        machine.until("the tool is done", |_| tool.is_finished());
        tool.join().unwrap()
    });
    assert!(matches!(error, ToolError::Device { .. }), "{error}");
    // Numbers are not used again, and the guest keeps its own record.
    let of_toolstack = |nodes: Vec<String>| {
        let kept = |node: &String| node.contains("next_vscsidev_id") || node.starts_with("/local/domain/D/");
        nodes.into_iter().filter(|node| !kept(node)).collect::<Vec<_>>()
    };
    assert_eq!(of_toolstack(nodes(&machine)), of_toolstack(before));
    check_io(machine.guest().host(0), nexus(9));
    run(&mut machine, |tools, domid| tools.detach(domid, "0:0:0:9".parse().unwrap(), false)).unwrap();
}

/// The signal that asks for it does not cut it short.
#[test]
fn ctrl_c_takes_back_what_was_attached() {
    // The guest is anywhere on its way to the last one.
    for _ in 0..10 {
        let mut machine = Machine::new();
        let texts = ["ram:1M,0:0:0:0", "ram:1M,0:0:0:1", "ram:1M,1:0:0:0"];
        let error = interrupted(&mut machine, &texts, |_| {});
        assert!(matches!(error, ToolError::Interrupted), "{error}");
        assert_eq!(nodes(&machine), <[String; 0]>::default());
        machine.expect_workers(0);
    }
}

/// Ctrl-C when vhost 1 is made, before the guest can have come for it.
fn interrupted(machine: &mut Machine, texts: &[&str], also: impl FnOnce(&mut Machine)) -> ToolError {
    let (specs, stop) = (specs(texts), EventFd::new().unwrap());
    let client = Xenstore::from_stream(machine.store.connect(DOM0)).unwrap();
    let (domid, last) = (machine.domid, machine.backend("1/state"));
    std::thread::scope(|scope| {
        let tool = scope.spawn(|| {
            let mut tools = Toolstack::new(client, stop.as_fd()).unwrap();
            tools.patience = Duration::from_secs(2);
            tools.attach_all(domid, &specs).unwrap_err()
        });
        machine.until("the last vhost is made", |machine| machine.store.read(&last).is_some());
        stop.write(1).unwrap();
        also(machine);
        machine.until("the tool is done", |_| tool.is_finished());
        tool.join().unwrap()
    })
}

/// A guest that has a device and is paused then cannot give it back.
#[test]
fn what_cannot_be_taken_back_is_named() {
    let mut machine = Machine::new();
    let mut guest = None;
    let pause = |machine: &mut Machine| guest = machine.guest.take();
    let text = interrupted(&mut machine, &["ram:1M,0:0:0:0", "ram:1M,1:0:0:0"], pause).to_string();
    assert!(text.starts_with("interrupted; and ram:1M stays attached: "), "{text}");
    machine.guest = guest;
    machine.until("the guest has let go", |machine| machine.value("0/state") == "6");
}
