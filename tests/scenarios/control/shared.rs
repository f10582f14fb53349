//! One device for two: refused, unless both have the option `shared`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use pvscsi_backend::toolstack::{Attached, ToolError};

use super::io::{nexus, read};
use super::tools::{attach, detach, nodes};
use super::{Dev, Machine, check_io};

/// An image that is removed with the value, and a second path to it.
pub struct Image(PathBuf);

impl Image {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pvscsi-shared-{}-{number}", std::process::id()));
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        let image = Self(path);
        std::os::unix::fs::symlink(&image.0, image.link()).unwrap();
        image
    }

    fn link(&self) -> PathBuf {
        self.0.with_extension("link")
    }

    pub fn pdev(&self) -> String {
        format!("file:{}", self.0.display())
    }

    fn pdev_by_link(&self) -> String {
        format!("file:{}", self.link().display())
    }

    fn dev(&self, number: u16) -> Dev {
        Dev::new(&format!("dev-{number}"), &self.pdev(), &format!("0:0:0:{number}"))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.link());
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Both servers end before either machine looks at what the host still holds.
pub fn end(machines: [&mut Machine; 2]) {
    for machine in machines {
        machine.ask_to_stop();
        machine.wait_for_end().unwrap();
    }
}

fn share(machine: &Machine, below: &str) {
    machine.store.write(&machine.backend(&format!("{below}/options")), "shared");
}

#[test]
fn attach_refuses_what_another_guest_has_and_shares_what_both_want_shared() {
    let image = Image::new();
    let (mut one, mut refused) = (Machine::new(), String::new());
    let mut other = one.beside();
    one.store.write(&format!("/local/domain/{}/name", one.domid), "web");
    let (own, shared) =
        (format!("{},0:0:0:0", image.pdev()), format!("{},0:0:0:0,shared", image.pdev_by_link()));
    let mut refuse = |machine: &mut Machine, text: &str, words: &str| {
        let before = nodes(machine);
        let error = attach(machine, text).unwrap_err();
        assert!(matches!(error, ToolError::InUse { .. }), "{error}");
        assert_eq!(nodes(machine), before, "nothing was written");
        refused = error.to_string();
        assert!(refused.contains(words), "{refused}");
    };
    assert_eq!(attach(&mut one, &own).unwrap(), Attached::InUse);
    let has_it = format!("domain {} (web) has it at 0:0:0:0", one.domid);
    refuse(&mut other, &own, &format!("{has_it}; to free it: xen-pvscsi detach {} 0:0:0:0", one.domid));
    refuse(&mut other, &shared, &format!("{has_it} without the option shared; "));
    detach(&mut one, "0:0:0:0").unwrap();

    assert_eq!(attach(&mut one, &shared).unwrap(), Attached::InUse);
    refuse(&mut other, &own, &format!("{has_it}, shared; "));
    assert_eq!(attach(&mut other, &shared).unwrap(), Attached::InUse);
    check_io(one.guest().host(0), nexus(0));
    let seen = other.guest().host(0).execute(read(nexus(0))).unwrap();
    assert!(seen.data.to_vec().iter().any(|byte| *byte != 0), "what the one wrote");
    end([&mut one, &mut other]);
}

/// A guest that is gone has nothing, whatever its nodes say.
#[test]
fn a_device_goes_from_guest_to_guest() {
    let image = Image::new();
    let mut one = Machine::new();
    let mut other = one.beside();
    let text = format!("{},0:0:0:0", image.pdev());
    attach(&mut one, &text).unwrap();
    one.ask_to_stop();
    one.wait_for_end().unwrap();
    attach(&mut other, &text).unwrap_err();
    one.destroy_guest();
    assert_ne!(one.value("0/vscsi-devs/dev-0/p-dev"), "");
    assert_eq!(attach(&mut other, &text).unwrap(), Attached::InUse);
    detach(&mut other, "0:0:0:0").unwrap();
    other.ask_to_stop();
    other.wait_for_end().unwrap();
}

#[test]
fn attach_gives_a_guest_no_device_twice_but_shared() {
    let image = Image::new();
    let mut machine = Machine::new();
    let text = |vdev: &str| format!("{},{vdev}", image.pdev());
    attach(&mut machine, &text("0:0:0:0,shared")).unwrap();
    for vdev in ["0:0:0:1", "1:0:0:0"] {
        let error = attach(&mut machine, &text(vdev)).unwrap_err();
        assert!(matches!(error, ToolError::InUse { .. }), "{error}");
    }
    attach(&mut machine, &text("0:0:0:1,shared")).unwrap();
    attach(&mut machine, &text("1:0:0:0,shared")).unwrap();
    check_io(machine.guest().host(0), nexus(1));
    for vdev in ["0:0:0:0", "0:0:0:1", "1:0:0:0"] {
        detach(&mut machine, vdev).unwrap();
    }
    // Memory is another disk each time.
    attach(&mut machine, "ram:1M,0:0:0:0").unwrap();
    attach(&mut machine, "ram:1M,0:0:0:1").unwrap();
}

/// Nodes that another toolstack wrote, which does not look.
#[test]
fn the_server_opens_a_device_for_one_guest() {
    let image = Image::new();
    let mut one = Machine::new();
    let mut other = one.beside();
    one.attach(0, &[image.dev(0)]);
    one.until_connected(0);
    other.attach(0, &[image.dev(0), Dev::disk(1)]);
    other.until_connected(0);
    assert_eq!(other.written("0/vscsi-devs/dev-0/state"), "1 6");
    let error = other.error("0/vscsi-devs/dev-0");
    let words = format!("22 dev-0: {} is in use: domain {} has it at 0:0:0:0; ", image.pdev(), one.domid);
    assert!(error.starts_with(&words), "{error}");
    check_io(other.guest().host(0), nexus(1));
    check_io(one.guest().host(0), nexus(0));

    // Who had it first has it again, though the other's nodes name it still.
    one.guest().unload();
    one.until_state(0, "2");
    one.guest().load();
    one.until_connected(0);
    check_io(one.guest().host(0), nexus(0));
    assert_eq!(one.error("0/vscsi-devs/dev-0"), "");
    end([&mut one, &mut other]);
}

#[test]
fn the_server_opens_a_shared_device_for_all() {
    let image = Image::new();
    let mut one = Machine::new();
    let mut other = one.beside();
    for machine in [&mut one, &mut other] {
        machine.attach(0, &[image.dev(0)]);
        share(machine, "0/vscsi-devs/dev-0");
        machine.until_connected(0);
        assert_eq!(machine.written("0/vscsi-devs/dev-0/state"), "1 3 4");
        check_io(machine.guest().host(0), nexus(0));
    }
    end([&mut one, &mut other]);
}

#[test]
fn the_server_opens_a_device_once_for_a_guest() {
    let image = Image::new();
    let mut machine = Machine::new();
    machine.attach(0, &[image.dev(0), image.dev(1)]);
    machine.attach(1, &[image.dev(0)]);
    machine.until_connected(0);
    machine.until_connected(1);
    let states = ["0/vscsi-devs/dev-0", "0/vscsi-devs/dev-1", "1/vscsi-devs/dev-0"]
        .map(|device| (device, machine.value(&format!("{device}/state"))));
    let served: Vec<_> = states.iter().filter(|(_, state)| state == "4").collect();
    assert_eq!(served.len(), 1, "{states:?}");
    for (device, _) in states.iter().filter(|(_, state)| state == "6") {
        let error = machine.error(device);
        assert!(error.contains("is in use: this guest has it at 0:0:0:0; "), "{error}");
    }
    // Once it is free, it can be had again.
    for vhost in [0, 1] {
        machine.detach(vhost);
        machine.until_state(vhost, "6");
        machine.delete(vhost);
        machine.until("the guest has lost it", |machine| !machine.guest().has_host(vhost));
    }
    machine.attach(0, &[image.dev(0)]);
    machine.until_connected(0);
    check_io(machine.guest().host(0), nexus(0));
}

/// Two servers that look at the same time never both serve it, and neither comes to harm.
#[test]
fn of_two_guests_that_come_at_once_one_at_most_has_the_device() {
    let image = Image::new();
    let mut one = Machine::new();
    let mut other = one.beside();
    let mut served = [0; 3];
    for round in 0..60 {
        for machine in [&mut one, &mut other] {
            machine.attach(0, &[image.dev(0), Dev::disk(1)]);
        }
        let settled = |machine: &mut Machine| {
            machine.guest().step();
            machine.value("0/state") == "4" && machine.value("0/vscsi-devs/dev-1/state") == "4"
        };
        super::eventually("both are connected", || settled(&mut one) & settled(&mut other));
        let states = [&one, &other].map(|machine| machine.value("0/vscsi-devs/dev-0/state"));
        let have_it = states.iter().filter(|state| ["3", "4"].contains(&state.as_str())).count();
        assert!(have_it < 2, "round {round}: {states:?}");
        served[have_it] += 1;
        for machine in [&mut one, &mut other] {
            machine.detach(0);
            machine.until_state(0, "6");
            machine.delete_until_lost(0);
        }
    }
    println!("figures: {} times one of two had it, {} times none", served[1], served[0]);
    end([&mut one, &mut other]);
}
