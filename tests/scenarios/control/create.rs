//! A guest that is made with its devices. The guest is there from the start; a script in place of xl says what it was called with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use pvscsi_backend::toolstack::config::Config;
use pvscsi_backend::toolstack::{Creation, ToolError, Xl, XlError};
use pvscsi_sim::LinuxGuest;
use pvscsi_xen::DomId;

use super::io::nexus;
use super::tools::{nodes, run_until};
use super::{Machine, check_io};

/// A directory with a configuration and an xl.
struct Host {
    directory: PathBuf,
    machine: Machine,
    /// Not running yet.
    guest: Option<LinuxGuest>,
    stop: Arc<EventFd>,
}

impl Host {
    /// `answers`: what xl does for some of its verbs; all others it does at once.
    fn new(test: &str, devices: &[&str], answers: &str) -> Self {
        let mut machine = Machine::new();
        let guest = machine.guest.take();
        let directory = std::env::temp_dir().join(format!("pvscsi-create-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let list: String = devices.iter().map(|device| format!("'{device}',\n")).collect();
        fs::write(directory.join("a=guest.cfg"), format!("name = 'web 1'\nvscsi = [ {list} ]\n")).unwrap();
        let script = format!(
            "#!/bin/sh\ncd '{}'\nprintf '%s|' \"$@\" >> called\necho >> called\n\
             case $1 in {answers} domid) echo {};; esac\n",
            directory.display(),
            machine.domid
        );
        fs::write(directory.join("script"), script).unwrap();
        // A process that another test starts just now would hold a program of ours open for writing, and keep it from running.
        let install =
            Command::new("install").current_dir(&directory).args(["-m", "755", "script", "xl"]).status();
        assert!(install.unwrap().success());
        Self { directory, machine, guest, stop: Arc::new(EventFd::new().unwrap()) }
    }

    fn create(&mut self, settings: &[&str], paused: bool) -> Result<DomId, ToolError> {
        let settings: Vec<String> = settings.iter().copied().map(String::from).collect();
        let file = self.directory.join("a=guest.cfg");
        let config = Config::read(&file, &settings).unwrap();
        let xl = Xl { program: self.directory.join("xl").into() };
        let creation = Creation { file: &file, settings: &settings, config: &config, paused };
        run_until(&mut self.machine, &self.stop, |tools, _| {
            tools.patience = Duration::from_secs(2);
            tools.create(&xl, &creation)
        })
    }

    /// The calls of xl, with "D" for the guest's number and "FILE" for its configuration.
    fn called(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.join("called")).unwrap_or_default();
        let file = self.directory.join("a=guest.cfg").display().to_string();
        let domid = format!("|{}|", self.machine.domid);
        text.lines().map(|line| line.replace(&file, "FILE").replace(&domid, "|D|")).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

const NOTHING: [String; 0] = [];

#[test]
fn a_guest_begins_to_run_with_all_of_its_devices() {
    let devices = ["ram:1M,0:0:0:0", "ram:2M,0:0:0:1,ro", "ram:1M,1:0:0:0"];
    let mut host = Host::new("whole", &devices, "");
    let start = Instant::now();
    assert_eq!(host.create(&["memory=512", "vscsi+=['ram:4M,1:0:0:1']"], false).unwrap(), host.machine.domid);
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "nobody waits for a paused guest: {:?}",
        start.elapsed()
    );
    let file = "create|-p|-q|-f|FILE|memory=512|vscsi+=['ram:4M,1:0:0:1']|";
    assert_eq!(host.called(), [file, "domid|web 1|", "unpause|D|"]);
    assert_eq!(host.machine.written("0/state"), "1 2");
    assert_eq!(host.machine.written("1/state"), "1 2");
    assert_eq!(host.machine.value("0/vscsi-devs/dev-1/options"), "ro");
    host.machine.guest = host.guest.take();
    host.machine.until_connected(0);
    host.machine.until_connected(1);
    check_io(host.machine.guest().host(0), nexus(0));
    check_io(host.machine.guest().host(1), nexus(1));
    for (vhost, dev) in [("0", "dev-0"), ("0", "dev-1"), ("1", "dev-0"), ("1", "dev-1")] {
        assert_eq!(host.machine.value(&format!("{vhost}/vscsi-devs/{dev}/state")), "4");
    }
}

#[test]
fn a_new_guest_has_each_device_where_its_configuration_puts_it() {
    let mut host = Host::new("auto", &["ram:1M,auto", "ram:2M,0:0:0:0", "ram:3M,auto"], "");
    host.create(&["vscsi+=['ram:4M,1:0:0:0']"], false).unwrap();
    let v_dev = |vhost: &str| host.machine.value(&format!("{vhost}/vscsi-devs/dev-0/v-dev"));
    assert_eq!(["0", "1", "2", "3"].map(v_dev), ["2:0:0:0", "0:0:0:0", "3:0:0:0", "1:0:0:0"]);
}

#[test]
fn a_guest_stays_paused_when_asked_and_needs_no_devices() {
    let mut host = Host::new("paused", &["ram:1M,0:0:0:0"], "");
    host.create(&[], true).unwrap();
    assert_eq!(host.called(), ["create|-p|-q|-f|FILE|", "domid|web 1|"]);
    assert_eq!(host.machine.value("0/state"), "2");
    let mut host = Host::new("bare", &[], "");
    host.create(&["name='db'"], false).unwrap();
    assert_eq!(host.called(), ["create|-p|-q|-f|FILE|name='db'|", "domid|db|", "unpause|D|"]);
    assert_eq!(nodes(&host.machine), NOTHING);
}

/// Only a guest that was made is destroyed.
#[test]
fn what_is_wrong_before_makes_no_guest() {
    let mut host = Host::new("absent", &["ram:1M,0:0:0:0", "file:/no/such/file,0:0:0:1"], "");
    let error = host.create(&[], false).unwrap_err();
    assert!(error.to_string().contains("/no/such/file"), "{error}");
    assert_eq!(host.called(), NOTHING);

    let mut host = Host::new("refused", &["ram:1M,0:0:0:0"], "create) exit 3;;");
    let error = host.create(&[], false).unwrap_err();
    assert_eq!(error.to_string(), "xl create has failed (exit status: 3)");
    assert_eq!(host.called(), ["create|-p|-q|-f|FILE|"]);
    assert_eq!(nodes(&host.machine), NOTHING);

    let mut host = Host::new("no-xl", &[], "");
    fs::remove_file(host.directory.join("xl")).unwrap();
    let error = host.create(&[], false).unwrap_err();
    assert!(matches!(error, ToolError::Xl(XlError::Run { .. })), "{error}");
    assert!(error.to_string().contains("xl\" cannot be run: No such file"), "{error}");

    let mut host = Host::new("nameless", &[], "");
    fs::write(host.directory.join("a=guest.cfg"), "memory=1").unwrap();
    assert!(matches!(host.create(&[], false).unwrap_err(), ToolError::NoName));
    assert_eq!(host.called(), NOTHING);
}

#[test]
fn a_guest_that_cannot_be_equipped_is_destroyed() {
    let absent = |path: &Path| format!("create) rm -f '{}';;", path.display());
    let image = std::env::temp_dir().join(format!("pvscsi-create-image-{}", std::process::id()));
    let last = format!("file:{},1:0:0:0", image.display());
    fs::write(&image, vec![0; 4096]).unwrap();
    let mut host = Host::new("gone", &["ram:1M,0:0:0:0", "ram:1M,0:0:0:1", &last], &absent(&image));
    let error = host.create(&[], false).unwrap_err();
    assert!(matches!(error, ToolError::Device { .. }), "{error}");
    assert_eq!(host.called(), ["create|-p|-q|-f|FILE|", "domid|web 1|", "destroy|D|"]);
    assert_eq!(nodes(&host.machine), NOTHING);
    let directory = host.machine.backend("");
    assert!(!host.machine.store.dump().contains_key(directory.trim_end_matches('/')), "not even a directory");

    let mut host = Host::new("unpause", &["ram:1M,0:0:0:0"], "unpause) exit 1;;");
    let error = host.create(&[], false).unwrap_err();
    assert_eq!(error.to_string(), "xl unpause has failed (exit status: 1)");
    assert_eq!(host.called(), ["create|-p|-q|-f|FILE|", "domid|web 1|", "unpause|D|", "destroy|D|"]);
    assert_eq!(nodes(&host.machine), NOTHING);

    let mut host = Host::new("unserved", &["ram:1M,0:0:0:0"], "");
    host.machine.ask_to_stop();
    host.machine.wait_for_end().unwrap();
    let error = host.create(&[], false).unwrap_err();
    assert!(matches!(error, ToolError::NotServed { .. }), "{error}");
    assert_eq!(host.called().last().unwrap(), "destroy|D|");
    assert_eq!(nodes(&host.machine), NOTHING);
    host.machine.start();
}

#[test]
fn ctrl_c_destroys_the_guest() {
    // While xl is at work, which it is left to end.
    let mut host = Host::new("early", &["ram:1M,0:0:0:0"], "");
    host.stop.write(1).unwrap();
    let error = host.create(&[], false).unwrap_err();
    assert!(matches!(error, ToolError::Interrupted), "{error}");
    assert_eq!(host.called(), ["create|-p|-q|-f|FILE|", "domid|web 1|", "destroy|D|"]);
    assert_eq!(nodes(&host.machine), NOTHING);

    // While it waits for a backend.
    let mut host = Host::new("late", &["ram:1M,0:0:0:0"], "");
    host.machine.ask_to_stop();
    host.machine.wait_for_end().unwrap();
    let (store, stop) = (host.machine.store.clone(), Arc::clone(&host.stop));
    let vhost = host.machine.backend("0/state");
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            while store.read(&vhost).is_none() {
                std::thread::yield_now();
            }
            stop.write(1).unwrap();
        });
        host.create(&[], false).unwrap_err()
    });
    assert!(matches!(error, ToolError::Interrupted), "{error}");
    assert_eq!(host.called(), ["create|-p|-q|-f|FILE|", "domid|web 1|", "destroy|D|"]);
    assert_eq!(nodes(&host.machine), NOTHING);
    host.machine.start();
}

#[test]
fn a_guest_that_stays_is_named() {
    let mut host = Host::new("stays", &[], "unpause) exit 1;; destroy) exit 2;;");
    let error = host.create(&[], false).unwrap_err().to_string();
    let domid = host.machine.domid;
    let expected = format!(
        "xl unpause has failed (exit status: 1); and domain {domid} stays, paused: xl destroy has failed (exit status: 2)"
    );
    assert_eq!(error, expected);

    let mut host = Host::new("unknown", &[], "domid) echo many; exit 0;;");
    let error = host.create(&[], false).unwrap_err().to_string();
    assert_eq!(error, "xl domid says \"many\", which is no number of a domain");
    assert_eq!(host.called().len(), 2, "nobody knows what to destroy");
}
