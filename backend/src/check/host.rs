//! Whether a host is ready: Xen, its devices, xenstore, the sg driver, and nobody else at work.

use std::fs::OpenOptions;
use std::io::ErrorKind;

use pvscsi_xen::xenstore::Nodes;
use serde_json::json;

use super::{Fact, Machine, modprobe};
use crate::serve;

const SCSIBACK: &str = "xen-scsiback";

pub(super) fn facts(machine: &mut Machine) -> Vec<Fact> {
    let mut facts = vec![kernel(machine), xen(machine)];
    facts.extend(
        [("evtchn", "xen-evtchn"), ("gntdev", "xen-gntdev")]
            .map(|(name, module)| xen_device(machine, name, module)),
    );
    facts.push(xenstore(machine));
    facts.push(scsiback(machine));
    facts.push(sg(machine));
    facts.extend(allow_dio(machine));
    facts.push(io_uring(machine));
    facts
}

fn release(machine: &Machine) -> String {
    machine.host.read("proc/sys/kernel/osrelease").unwrap_or_default()
}

fn kernel(machine: &Machine) -> Fact {
    let release = release(machine);
    Fact::ok("kernel", format!("Linux {release}")).value(release)
}

fn xen(machine: &Machine) -> Fact {
    const TOPIC: &str = "xen";
    let host = &machine.host;
    let is_xen = host.read("sys/hypervisor/type").is_some_and(|kind| kind == "xen");
    if !is_xen && !host.path("proc/xen/capabilities").exists() {
        return Fact::problem(TOPIC, "this is no Xen domain")
            .remedy("boot Xen with this system as dom0, or run this in a driver domain")
            .value(json!({ "there": false }));
    }
    let read = |part: &str| host.read(&format!("sys/hypervisor/version/{part}")).unwrap_or_default();
    let version = format!("{}.{}{}", read("major"), read("minor"), read("extra"));
    let control = host.read("proc/xen/capabilities").is_some_and(|text| text.contains("control_d"));
    let role = if control { "the control domain" } else { "a domain that is not in control" };
    Fact::ok(TOPIC, format!("Xen {version}; this is {role}"))
        .value(json!({ "there": true, "version": version, "control_domain": control }))
}

fn xen_device(machine: &Machine, name: &'static str, module: &str) -> Fact {
    let path = format!("/dev/xen/{name}");
    let opened =
        OpenOptions::new().read(true).write(true).open(machine.host.path(&format!("dev/xen/{name}")));
    match opened {
        Ok(_) => Fact::ok(name, format!("{path} opens")).value(path),
        Err(error) => {
            let remedy = match error.kind() {
                ErrorKind::NotFound => format!("modprobe {module}"),
                ErrorKind::PermissionDenied => "run this as root".into(),
                _ => format!("modprobe {module}, as root, under Xen"),
            };
            Fact::problem(name, format!("cannot open {path}: {error}")).remedy(remedy)
        }
    }
}

fn xenstore(machine: &mut Machine) -> Fact {
    const TOPIC: &str = "xenstore";
    let store = match &mut machine.store {
        Ok(store) => store,
        Err(why) => return Fact::problem(TOPIC, why.clone()),
    };
    match store.list("/local/domain") {
        Ok(domains) => {
            let count = domains.len();
            Fact::ok(TOPIC, format!("xenstored answers; domains: {count}")).value(count)
        }
        Err(error) if error.is_denied() => {
            Fact::ok(TOPIC, "xenstored answers; other domains are not for this one to see")
        }
        Err(error) => Fact::problem(TOPIC, error.to_string()),
    }
}

fn scsiback(machine: &Machine) -> Fact {
    const TOPIC: &str = "scsiback";
    let host = &machine.host;
    if let Err(error) = serve::refuse_beside_kernel(&host.path("sys")) {
        return Fact::problem(TOPIC, error.to_string()).value("loaded");
    }
    let there = modprobe::exists(host, &release(machine), SCSIBACK);
    if there == Some(false) {
        return Fact::ok(TOPIC, "this kernel has no module xen-scsiback").value("absent");
    }
    if let Some(by) = modprobe::blocked_by(host, SCSIBACK) {
        return Fact::ok(TOPIC, format!("xen-scsiback is kept from loading by {by}")).value("blocked");
    }
    let fact = if there.is_none() {
        Fact::note(TOPIC, "it is not loaded; nothing keeps it from loading, if this kernel has it")
            .value("unknown")
    } else {
        Fact::problem(TOPIC, "the kernel's xen-scsiback would load itself with the first device")
            .value("free")
    };
    fact.remedy("echo blacklist xen-scsiback > /etc/modprobe.d/xen-pvscsi.conf")
}

fn sg(machine: &Machine) -> Fact {
    let host = &machine.host;
    let count = host.names("sys/class/scsi_generic").len();
    if host.path("sys/class/scsi_generic").exists() || host.path("sys/module/sg").exists() {
        return Fact::ok("sg", format!("the sg driver is there; SCSI devices: {count}")).value(count);
    }
    Fact::problem("sg", "the sg driver is not loaded: no SCSI device can be passed through")
        .remedy("modprobe sg")
}

fn allow_dio(machine: &Machine) -> Option<Fact> {
    const TOPIC: &str = "sg-copies";
    let direct = machine.host.read("sys/module/sg/parameters/allow_dio")? != "0";
    let fact = if direct {
        Fact::ok(TOPIC, "the sg driver uses our buffers directly")
    } else {
        Fact::note(TOPIC, "the sg driver copies all data once more")
            .remedy("echo 1 > /sys/module/sg/parameters/allow_dio")
    };
    Some(fact.value(!direct))
}

fn io_uring(machine: &Machine) -> Fact {
    const TOPIC: &str = "io_uring";
    let Err(error) = &machine.io_uring else { return Fact::ok(TOPIC, "it works").value(true) };
    let disabled = machine.host.read("proc/sys/kernel/io_uring_disabled").filter(|value| value != "0");
    let fact =
        Fact::note(TOPIC, format!("it does not work ({error}); poll takes its place, and more of the CPU"));
    let remedy = match disabled {
        Some(_) => "sysctl kernel.io_uring_disabled=0",
        None => "Linux 5.19 or newer with CONFIG_IO_URING, and no seccomp filter against it",
    };
    fact.remedy(remedy).value(false)
}
