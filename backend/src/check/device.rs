//! What a device is, whether it opens, what it can take, and who has it.

use nix::sys::stat::{major, minor};
use pvscsi_guestmem::PAGE_SIZE;
use pvscsi_ring::Nexus;
use pvscsi_ring::vscsiif::MAX_SEGMENTS;
use pvscsi_sg::{Engine, Hctl, Locator, check_bsg};
use serde_json::json;

use super::{Fact, Machine, names};
use crate::in_use::guests::{Guests, Whose};
use crate::in_use::{Holder, Host, Identity, device};
use crate::options::Options;
use crate::pdev::PDev;
use crate::toolstack::spec::asked;
use crate::vdev::{VDev, Wanted};
use crate::vhost::GUEST_MAX;

/// Linux's frontend leaves one segment out (drivers/scsi/xen-scsifront.c, `max_sectors`).
const LINUX_MAX: u64 = ((MAX_SEGMENTS - 1) * PAGE_SIZE) as u64;

pub(super) fn facts(machine: &mut Machine, text: &str) -> Vec<Fact> {
    let mut words = text.split(',').map(str::trim);
    let (name, vdev) = (words.next().unwrap_or_default(), words.next());
    let asked = asked(words);
    let mut facts = match (name.parse::<PDev>(), &asked) {
        (Ok(_), Ok((Some(home), _))) => vec![
            Fact::note("name", format!("the device is in domain {home}"))
                .remedy("run xen-pvscsi check there, without backend="),
        ],
        (Ok(pdev), asked) => {
            of_pdev(machine, name, &pdev, asked.as_ref().map(|asked| asked.1).unwrap_or_default())
        }
        (Err(error), _) => vec![Fact::problem("name", error.to_string())],
    };
    facts.extend(vdev.map(address));
    facts.extend(asked.err().map(|error| Fact::problem("options", error.to_string())));
    facts
}

fn of_pdev(machine: &mut Machine, name: &str, pdev: &PDev, options: Options) -> Vec<Fact> {
    let identity = match Identity::of(pdev) {
        Ok(identity) => identity,
        Err(error) => return vec![Fact::problem("name", error.to_string())],
    };
    let block = options.block_size.unwrap_or_default().bytes();
    let mut facts = match (identity, pdev) {
        (Some(Identity::Scsi(hctl)), _) => scsi(machine, name, hctl),
        (_, PDev::Ram(bytes)) => vec![
            Fact::ok("name", format!("{name} is a disk in memory; its content goes with the process")),
            size(*bytes, block.into()),
            Fact::ok("engine", "an emulated disk, in the worker").value("ram"),
        ],
        (Some(Identity::Block { device, .. }), _) => block_device(machine, name, device, options),
        (_, pdev) => file(pdev, name, block),
    };
    facts.push(match pdev.open(options, Engine::Auto, None) {
        Ok(_) => Fact::ok("open", "this process may open it"),
        Err(error) => Fact::problem("open", error.to_string()),
    });
    if let Some(identity) = identity {
        facts.extend(holders("host", &machine.host.holders(&identity), "nothing on this host uses it"));
        facts.extend(of_guests(machine, &identity, options.shared));
    }
    facts
}

fn file(pdev: &PDev, name: &str, block: u32) -> Vec<Fact> {
    let mut facts = vec![Fact::ok("name", format!("{name} is an emulated disk on a file"))];
    if let PDev::File(path) = pdev
        && let Ok(meta) = std::fs::metadata(path)
    {
        facts.push(size(meta.len(), block.into()));
    }
    facts.push(Fact::ok("engine", "an emulated disk, with a thread of its own").value("file"));
    facts
}

fn block_device(machine: &Machine, name: &str, device: u64, options: Options) -> Vec<Fact> {
    let own = format!("sys/dev/block/{}:{}", major(device), minor(device));
    let number = |what: &str| machine.host.read(&format!("{own}/{what}")).and_then(|text| text.parse().ok());
    // Sectors of 512 bytes; a partition has the queue of its disk.
    let bytes = number("size").unwrap_or(0_u64).saturating_mul(512);
    let device_block = number("queue/logical_block_size").or_else(|| number("../queue/logical_block_size"));
    let block = options.block_size.map_or(device_block, |size| Some(size.bytes().into()));
    vec![
        Fact::ok("name", format!("{name} is an emulated disk on a block device")),
        size(bytes, block.unwrap_or(512)),
        Fact::ok("engine", "an emulated disk, with a thread of its own").value("block"),
    ]
}

/// What sysfs says of a SCSI device.
pub(super) fn scsi(machine: &Machine, name: &str, hctl: Hctl) -> Vec<Fact> {
    let (host, directory) = (&machine.host, device(hctl));
    let locator = Locator::with_roots(host.path("sys"), host.path("dev"));
    let read = |what: &str| host.read(&format!("{directory}/{what}")).unwrap_or_default().trim().to_owned();
    let address = hctl.to_string();
    let found = if name == address {
        format!("{name} is a SCSI device of this host")
    } else {
        format!("{name} is SCSI device {address}")
    };
    let nodes: Vec<String> = host.nodes(hctl).iter().map(|node| format!("/dev/{node}")).collect();
    let (vendor, model, revision) = (read("vendor"), read("model"), read("rev"));
    let device_type = read("type").parse().unwrap_or(0x1f);
    let kind = names::device_type(device_type);
    let (wwid, serial) = (read("wwid"), locator.serial_of(hctl).unwrap_or_default());
    let identity = match (wwid.as_str(), serial.as_str()) {
        ("", "") => "says neither a name of its own nor a serial number".to_owned(),
        (wwid, "") => wwid.to_owned(),
        ("", serial) => format!("serial number {serial}"),
        (wwid, serial) => format!("{wwid}, serial number {serial}"),
    };
    let mut facts = vec![
        Fact::ok("name", found).value(address),
        Fact::ok("nodes", nodes.join(" ")).value(nodes),
        Fact::ok("device", format!("{kind}: {vendor} {model}, revision {revision}")).value(
            json!({ "type": device_type, "kind": kind, "vendor": vendor, "model": model, "revision": revision }),
        ),
        Fact::ok("identity", identity).value(json!({ "wwid": wwid, "serial": serial })),
    ];
    let disk = host.disk(hctl).map(|disk| format!("sys/class/block/{disk}"));
    if let Some(disk) = &disk {
        let number = |what: &str| host.read(&format!("{disk}/{what}")).and_then(|text| text.parse().ok());
        // Sectors of 512 bytes, whatever the device's blocks are (Linux's Documentation/ABI/stable/sysfs-block).
        let bytes = number("size").unwrap_or(0_u64).saturating_mul(512);
        facts.push(size(bytes, number("queue/logical_block_size").unwrap_or(512)));
    }
    facts.push(engine(machine, hctl));
    facts.push(limits(host, hctl));
    facts
}

fn size(bytes: u64, block: u64) -> Fact {
    let text = if bytes == 0 {
        "no medium, or an empty one".into()
    } else {
        format!("{bytes} bytes ({}), in blocks of {block}", names::bytes(bytes))
    };
    Fact::ok("size", text).value(json!({ "bytes": bytes, "block": block }))
}

/// What `serve --engine auto` takes.
fn engine(machine: &Machine, hctl: Hctl) -> Fact {
    let fact = |text, engine: Engine| Fact::ok("engine", text).value(engine.to_string());
    match &machine.io_uring {
        Ok(()) if check_bsg(&machine.host.path("dev"), hctl).is_ok() => {
            fact("the bsg driver, by io_uring", Engine::BsgUring)
        }
        Ok(()) => fact("the sg driver, by io_uring", Engine::SgUring),
        Err(error) => Fact::note("engine", format!("the sg driver, by poll: no io_uring here ({error})"))
            .remedy("xen-pvscsi check says what helps")
            .value(Engine::SgEpoll.to_string()),
    }
}

/// The sg driver refuses a command that moves more than the device's queue takes. The guest is told by [`TransferLimit`].
///
/// [`TransferLimit`]: pvscsi_sg::TransferLimit
fn limits(host: &Host, hctl: Hctl) -> Fact {
    let number = |path: String| host.read(&path).and_then(|text| text.parse::<u64>().ok());
    let queue = host.transfer_limit(hctl).map(|(bytes, _)| bytes);
    let table = number(format!("sys/class/scsi_host/host{}/sg_tablesize", hctl.host));
    let guest = format!("a guest sends at most {} in a command", names::bytes(GUEST_MAX));
    let pieces = table.map_or(String::new(), |table| format!(", in {table} pieces"));
    let fact = match queue {
        Some(queue) if queue < LINUX_MAX => {
            let text = format!(
                "the host adapter takes {} in a command, and refuses more{pieces}",
                names::bytes(queue)
            );
            Fact::note("limits", format!("{guest}, {} if it is Linux; {text}", names::bytes(LINUX_MAX)))
                .remedy("nothing without feature-host: the guest is told in its Block Limits page (B0h)")
        }
        Some(queue) => {
            Fact::ok("limits", format!("{guest}; the host adapter takes {}{pieces}", names::bytes(queue)))
        }
        None => Fact::ok("limits", format!("{guest}; what the host adapter takes is not known{pieces}")),
    };
    fact.value(json!({
        "guest_bytes": GUEST_MAX, "linux_guest_bytes": LINUX_MAX, "host_bytes": queue, "host_pieces": table,
    }))
}

fn holders(topic: &'static str, holders: &[Holder], nobody: &str) -> Vec<Fact> {
    if holders.is_empty() {
        return vec![Fact::ok(topic, nobody)];
    }
    holders.iter().map(|holder| Fact::problem(topic, &holder.what).remedy(&holder.remedy)).collect()
}

fn of_guests(machine: &mut Machine, identity: &Identity, shared: bool) -> Vec<Fact> {
    const TOPIC: &str = "guests";
    let unknown = |why: String| {
        vec![
            Fact::problem(TOPIC, format!("which guests have it cannot be told: {why}"))
                .remedy("xen-pvscsi check says what is missing"),
        ]
    };
    let store = match &mut machine.store {
        Ok(store) => store,
        Err(why) => return unknown(why.clone()),
    };
    let mut guests = Guests::default();
    let read = guests.read_vscsi(store, Whose::All).and_then(|()| guests.read_block(store, &machine.host));
    match read.and_then(|()| guests.holder(store, identity, shared)) {
        Ok(holder) => {
            let free = if shared { "no guest has it that does not share it" } else { "no guest has it" };
            holders(TOPIC, holder.as_slice(), free)
        }
        Err(error) => unknown(error.to_string()),
    }
}

fn address(vdev: &str) -> Fact {
    const TOPIC: &str = "vdev";
    match vdev.parse() {
        Err(why) => Fact::problem(TOPIC, format!("{vdev:?} {why}")),
        Ok(Wanted::Auto) => {
            Fact::ok(TOPIC, "a vhost of its own, with the lowest host number that the guest does not use")
                .value(vdev)
        }
        Ok(Wanted::At(VDev { host, nexus: Nexus { channel, id, lun } })) => {
            Fact::ok(TOPIC, format!("channel {channel}, target {id}, LUN {lun} of the guest's vhost {host}"))
                .value(vdev)
        }
    }
}
