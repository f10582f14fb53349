//! The program's own toolstack: attach, detach and list, against the server and Linux in the guest.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::EventFd;
use pvscsi_backend::limits::TimeLimits;
use pvscsi_backend::toolstack::list::{json, table};
use pvscsi_backend::toolstack::spec::DeviceSpec;
use pvscsi_backend::toolstack::{Attached, ToolError, Toolstack};
use pvscsi_xen::xenstore::{Nodes, Xenstore};

use super::io::{nexus, read, read_result, report_luns, write};
use super::machine::DOM0;
use super::{Dev, Machine, check_io};

pub fn spec(text: &str) -> DeviceSpec {
    text.parse().unwrap()
}

/// Lets an administrator do something while the guest runs.
pub fn run<T: Send>(
    machine: &mut Machine,
    work: impl FnOnce(&mut Toolstack<'_>, pvscsi_xen::DomId) -> T + Send,
) -> T {
    run_until(machine, &EventFd::new().unwrap(), work)
}

/// The same, until Ctrl-C.
pub fn run_until<T: Send>(
    machine: &mut Machine,
    stop: &EventFd,
    work: impl FnOnce(&mut Toolstack<'_>, pvscsi_xen::DomId) -> T + Send,
) -> T {
    let (store, domid) = (Xenstore::from_stream(machine.store.connect(DOM0)).unwrap(), machine.domid);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut tools = Toolstack::new(store, stop.as_fd()).unwrap();
            work(&mut tools, domid)
        });
        machine.until("the tool is done", |_| thread.is_finished());
        thread.join().unwrap()
    })
}

pub fn attach(machine: &mut Machine, text: &str) -> Result<Attached, ToolError> {
    run(machine, |tools, domid| tools.attach(domid, &spec(text))).map(|given| given.attached)
}

pub(super) fn detach(machine: &mut Machine, vdev: &str) -> Result<(), ToolError> {
    run(machine, |tools, domid| tools.detach(domid, vdev.parse().unwrap(), false))
}

/// All nodes of a guest's vscsi devices, with "D" for its number.
pub fn nodes(machine: &Machine) -> Vec<String> {
    let domid = machine.domid.to_string();
    let about = |path: &String| path.contains("vscsi") && path.contains(&format!("/{domid}"));
    let dump = machine.store.dump().into_iter().filter(|(path, _)| about(path));
    dump.map(|(path, value)| format!("{path} {}", String::from_utf8_lossy(&value)))
        .map(|line| line.replace(&format!("/{domid}"), "/D").replace(&format!(" {domid}"), " D"))
        .filter(|line| !line.ends_with(' '))
        .collect()
}

/// SUSE's layout, node by node.
#[test]
fn the_nodes_are_those_of_suses_toolstack() {
    let mut machine = Machine::new();
    machine.guest = None;
    assert_eq!(attach(&mut machine, "ram:1M,3:0:1:2,feature-host").unwrap(), Attached::Waiting);
    assert_eq!(
        nodes(&machine),
        [
            "/libxl/D/device/vscsi/0/backend /local/domain/0/backend/vscsi/D/0",
            "/libxl/D/device/vscsi/0/feature-host 1",
            "/libxl/D/device/vscsi/0/frontend /local/domain/D/device/vscsi/0",
            "/libxl/D/device/vscsi/0/frontend-id D",
            "/libxl/D/device/vscsi/0/libxl_ctrl_index 3",
            "/libxl/D/device/vscsi/0/online 1",
            "/libxl/D/device/vscsi/0/state 1",
            "/libxl/D/vscsi/0/next_vscsidev_id 1",
            "/local/domain/0/backend/vscsi/D/0/feature-host 1",
            "/local/domain/0/backend/vscsi/D/0/feature-sg-grant 128",
            "/local/domain/0/backend/vscsi/D/0/frontend /local/domain/D/device/vscsi/0",
            "/local/domain/0/backend/vscsi/D/0/frontend-id D",
            "/local/domain/0/backend/vscsi/D/0/libxl_ctrl_index 3",
            "/local/domain/0/backend/vscsi/D/0/online 1",
            "/local/domain/0/backend/vscsi/D/0/state 2",
            // Ours alone.
            "/local/domain/0/backend/vscsi/D/0/toolstack xen-pvscsi",
            "/local/domain/0/backend/vscsi/D/0/vscsi-devs/dev-0/p-dev ram:1M",
            "/local/domain/0/backend/vscsi/D/0/vscsi-devs/dev-0/p-devname ram:1M",
            "/local/domain/0/backend/vscsi/D/0/vscsi-devs/dev-0/state 1",
            "/local/domain/0/backend/vscsi/D/0/vscsi-devs/dev-0/v-dev 3:0:1:2",
            "/local/domain/D/device/vscsi/0/backend /local/domain/0/backend/vscsi/D/0",
            "/local/domain/D/device/vscsi/0/backend-id 0",
            "/local/domain/D/device/vscsi/0/state 1",
        ]
    );
    detach(&mut machine, "3:0:1:2").unwrap();
    assert_eq!(nodes(&machine), <[String; 0]>::default());
}

#[test]
fn devices_are_attached_listed_and_detached_under_a_guest() {
    let mut machine = Machine::new();
    for round in 0..3 {
        assert_eq!(attach(&mut machine, "ram:1M,0:0:0:0").unwrap(), Attached::InUse);
        assert_eq!(attach(&mut machine, "ram:2M,0:0:0:1").unwrap(), Attached::InUse, "the second of a vhost");
        assert_eq!(attach(&mut machine, "ram:1M,1:0:0:0").unwrap(), Attached::InUse, "another vhost");
        check_io(machine.guest().host(0), nexus(1));
        let (vhosts, domid) = run(&mut machine, |tools, domid| (tools.vhosts(domid).unwrap(), domid));
        let guests = [(domid, vhosts)];
        let expected = format!(
            "Dom  Idx  BE  state  ctrl  phy-hctl  vir-hctl  devstate  name\n\
             {domid}  0    0   4      0     ram:1M    0:0:0:0   4         ram:1M\n\
             {domid}  0    0   4      0     ram:2M    0:0:0:1   4         ram:2M\n\
             {domid}  1    0   4      1     ram:1M    1:0:0:0   4         ram:1M\n"
        );
        assert_eq!(table(&guests), expected);
        let devices = json(&guests);
        assert_eq!(devices.as_array().unwrap().len(), 3);
        assert_eq!((&devices[1]["v_dev"], &devices[1]["state"]), (&"0:0:0:1".into(), &4.into()));
        assert_eq!(devices[1]["node"], "dev-1", "round {round}");
        detach(&mut machine, "0:0:0:0").unwrap();
        check_io(machine.guest().host(0), nexus(1));
        let gone = detach(&mut machine, "0:0:0:0").unwrap_err();
        assert!(matches!(gone, ToolError::NoSuchDevice { .. }), "{gone}");
        detach(&mut machine, "0:0:0:1").unwrap();
        detach(&mut machine, "1:0:0:0").unwrap();
        assert_eq!(nodes(&machine), <[String; 0]>::default(), "round {round}");
        machine.expect_workers(0);
    }
    assert_eq!(run(&mut machine, |tools, _| tools.guests().unwrap()), []);
}

/// What is wrong is said before anything is written.
#[test]
fn a_device_that_cannot_be_had_leaves_nothing() {
    let mut machine = Machine::new();
    attach(&mut machine, "ram:1M,0:0:0:0").unwrap();
    let before = nodes(&machine);
    for (text, words) in [
        ("ram:1M,0:0:0:0", "vdev 0:0:0:0 is taken by ram:1M"),
        ("ram:1M,0:0:0:1,feature-host", "another feature-host"),
        ("file:/no/such/file,0:0:0:1", "/no/such/file"),
        ("/dev/null,0:0:0:1", "/dev/null"),
        ("99:0:0:0,0:0:0:1", "99:0:0:0"),
    ] {
        let error = attach(&mut machine, text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
        assert_eq!(nodes(&machine), before, "{text}");
    }
    let error = run(&mut machine, |tools, _| tools.domain("no-such-guest").unwrap_err().to_string());
    assert!(error.contains("no-such-guest"), "{error}");
    detach(&mut machine, "0:0:0:0").unwrap();
}

#[test]
fn a_guest_is_known_by_its_name_and_its_number() {
    let mut machine = Machine::new();
    let (name, domid) = (format!("/local/domain/{}/name", machine.domid), machine.domid);
    machine.store.write(&name, "web 1");
    for text in ["web 1".to_owned(), domid.to_string()] {
        assert_eq!(run(&mut machine, |tools, _| tools.domain(&text).unwrap()), domid);
    }
}

/// The file goes between the look of the tool and that of the server.
#[test]
fn what_the_backend_refuses_is_taken_back() {
    let mut machine = Machine::new();
    let path = std::env::temp_dir().join(format!("pvscsi-refused-{}", std::process::id()));
    for first in [true, false] {
        if !first {
            attach(&mut machine, "ram:1M,0:0:0:9").unwrap();
        }
        let before = nodes(&machine);
        std::fs::write(&path, vec![0; 4096]).unwrap();
        let text = format!("file:{},0:0:0:0", path.display());
        let device =
            machine.backend(if first { "0/vscsi-devs/dev-0/state" } else { "0/vscsi-devs/dev-1/state" });
        let store = machine.store.clone();
        let remove = || {
            while store.read(&device).is_none() {
                std::thread::yield_now();
            }
            std::fs::remove_file(&path).unwrap();
        };
        // The guest stands still until the file is gone.
        let guest = machine.guest.take();
        let error = std::thread::scope(|scope| {
            scope.spawn(remove);
            let stop = EventFd::new().unwrap();
            let tools = Xenstore::from_stream(machine.store.connect(DOM0)).unwrap();
            let (domid, text) = (machine.domid, text.clone());
            let thread = scope.spawn(move || {
                Toolstack::new(tools, stop.as_fd()).unwrap().attach(domid, &spec(&text)).unwrap_err()
            });
            machine.until("the file is gone", |_| !path.exists());
            machine.guest = guest;
            machine.until("the tool is done", |_| thread.is_finished());
            thread.join().unwrap().to_string()
        });
        assert!(error.contains("the backend says") && error.contains(&*path.to_string_lossy()), "{error}");
        let counters = |nodes: Vec<String>| {
            nodes.into_iter().filter(|n| !n.contains("next_vscsidev_id")).collect::<Vec<_>>()
        };
        assert_eq!(counters(nodes(&machine)), counters(before));
    }
    check_io(machine.guest().host(0), nexus(9));
    detach(&mut machine, "0:0:0:9").unwrap();
}

#[test]
fn without_a_server_or_after_ctrl_c_nothing_is_left() {
    let mut machine = Machine::new();
    machine.ask_to_stop();
    machine.wait_for_end().unwrap();
    let error = run(&mut machine, |tools, domid| {
        tools.patience = Duration::from_millis(200);
        tools.attach(domid, &spec("ram:1M,0:0:0:0")).unwrap_err()
    });
    assert!(matches!(error, ToolError::NotServed { .. }), "{error}");
    assert_eq!(nodes(&machine), <[String; 0]>::default());

    let stop = EventFd::new().unwrap();
    stop.write(1).unwrap();
    let store = Xenstore::from_stream(machine.store.connect(DOM0)).unwrap();
    let mut tools = Toolstack::new(store, stop.as_fd()).unwrap();
    let error = tools.attach(machine.domid, &spec("ram:1M,0:0:0:0")).unwrap_err();
    assert!(matches!(error, ToolError::Interrupted), "{error}");
    assert_eq!(nodes(&machine), <[String; 0]>::default());
    drop(tools);
    machine.start();
}

/// With feature-host the device is asked, which knows its own LUN; without it the vhost answers, and has a LUN 0.
#[test]
fn feature_host_leaves_every_command_to_the_device() {
    let mut machine = Machine::new();
    attach(&mut machine, "ram:1M,0:0:0:5").unwrap();
    attach(&mut machine, "ram:1M,1:0:0:5,feature-host").unwrap();
    let own = [0, 5, 0, 0, 0, 0, 0, 0];
    let device = [0; 8];
    for (host, luns, inquiry) in [(0, own, 0), (1, device, 0x0001_0000)] {
        let host = machine.guest().host(host);
        let reply = host.execute(report_luns(nexus(5))).expect("REPORT LUNS is answered");
        assert_eq!((reply.rslt, &reply.data.to_vec()[8..16]), (0, &luns[..]));
        let absent = host.execute(report_luns(nexus(0))).expect("REPORT LUNS is answered");
        assert_eq!(absent.rslt, inquiry, "LUN 0");
    }
}

/// A guest that is paused, or whose driver hangs.
#[test]
fn a_guest_that_does_not_let_go_keeps_its_device_unless_forced() {
    let mut machine = Machine::new();
    attach(&mut machine, "ram:1M,0:0:0:0").unwrap();
    let guest = machine.guest.take();
    let detach = |machine: &mut Machine, force| {
        run(machine, |tools, domid| {
            tools.patience = Duration::from_millis(200);
            tools.detach(domid, "0:0:0:0".parse().unwrap(), force)
        })
    };
    let held = detach(&mut machine, false).unwrap_err();
    assert!(matches!(held, ToolError::Held(_)), "{held}");
    assert_eq!(machine.workers(), 1, "it is still served");
    detach(&mut machine, true).unwrap();
    assert_eq!(nodes(&machine), <[String; 0]>::default());
    machine.expect_workers(0);
    machine.guest = guest;
}

/// libxl looks at the state when it hears of a change, and goes on only when that is the number it waits for.
#[test]
fn suses_toolstack_attaches_a_hundred_times() {
    let mut machine =
        Machine::with_limits(TimeLimits { announced: Duration::from_millis(250), ..TimeLimits::default() });
    let wait_for = |store: &mut Xenstore, node: &str, wanted: &str| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            let mut changed = false;
            while store.next_event().unwrap().is_some() {
                changed = true;
            }
            // It has other things to do as well.
            std::thread::sleep(Duration::from_millis(5));
            if changed && store.read_str(node).is_ok_and(|state| state == wanted) {
                return true;
            }
            let mut fd = [PollFd::new(store.as_fd(), PollFlags::POLLIN)];
            poll(&mut fd, 100_u16).unwrap();
        }
        false
    };
    for round in 0..100 {
        let state = machine.backend("0/state");
        let mut store = Xenstore::from_stream(machine.store.connect(DOM0)).unwrap();
        store.watch(&state, "libxl").unwrap();
        let mut attached = |machine: &mut Machine, wanted: &str| {
            let seen = std::thread::scope(|scope| {
                let thread = scope.spawn(|| wait_for(&mut store, &state, wanted));
                machine.until("the toolstack is done", |_| thread.is_finished());
                thread.join().unwrap()
            });
            assert!(seen, "round {round}: the toolstack has not seen a {wanted}");
        };
        machine.attach(0, &[Dev::disk(0)]);
        attached(&mut machine, "2");
        machine.until_connected(0);
        machine.detach(0);
        attached(&mut machine, "6");
        machine.delete_until_lost(0);
    }
}

#[test]
fn a_device_attached_with_ro_is_read_and_not_written() {
    let mut machine = Machine::new();
    assert_eq!(attach(&mut machine, "ram:1M,0:0:0:0,ro").unwrap(), Attached::InUse);
    assert_eq!(attach(&mut machine, "ram:1M,0:0:0:1,shared").unwrap(), Attached::InUse);
    assert_eq!(machine.value("0/vscsi-devs/dev-0/options"), "ro");
    check_io(machine.guest().host(0), nexus(1));
    let host = machine.guest().host(0);
    assert_eq!(read_result(host, nexus(0)), 0);
    let refused = host.execute(write(nexus(0))).expect("WRITE is answered");
    // CHECK CONDITION; DATA PROTECT, WRITE PROTECTED.
    assert_eq!((refused.rslt, refused.residual), (2, 4096));
    assert_eq!((refused.sense[2], refused.sense[12], refused.sense[13]), (0x07, 0x27, 0x00));
    assert_eq!(host.execute(read(nexus(0))).expect("READ is answered").data.to_vec(), [0; 4096]);
}
