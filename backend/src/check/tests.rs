//! A host's trees, imitated as Linux makes them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use pvscsi_sim::store::Store;
use pvscsi_xen::DomId;

use super::*;

/// A machine below a directory that goes with it.
struct Tree {
    root: PathBuf,
    machine: Machine,
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

impl Tree {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("pvscsi-check-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        let machine =
            Machine { host: Host::at(&root), store: Err("no xenstore here".into()), io_uring: Ok(()) };
        let tree = Self { root, machine };
        tree.file("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
        tree
    }

    fn file(&self, below: &str, content: impl AsRef<[u8]>) {
        let path = self.root.join(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// One with all that is needed.
    fn ready(name: &str, store: &Store) -> Self {
        let mut tree = Self::new(name);
        for (path, content) in [
            ("sys/hypervisor/type", "xen\n"),
            ("sys/hypervisor/version/major", "4\n"),
            ("sys/hypervisor/version/minor", "17\n"),
            ("sys/hypervisor/version/extra", ".4-pre\n"),
            ("proc/xen/capabilities", "control_d\n"),
            ("dev/xen/evtchn", ""),
            ("dev/xen/gntdev", ""),
            ("sys/class/scsi_generic/sg0", ""),
            ("sys/module/sg/parameters/allow_dio", "1\n"),
            ("lib/modules/6.1.0-18-amd64/modules.dep", DEP),
            ("etc/modprobe.d/xen.conf", "# ours\nblacklist xen_scsiback\n"),
        ] {
            tree.file(path, content);
        }
        store.write("/local/domain/0/name", "Domain-0");
        store.write("/local/domain/7/name", "web");
        tree.machine.store = Ok(Xenstore::from_stream(store.connect(DomId(0))).unwrap());
        tree
    }

    /// Disk 3:0:1:2 with one partition.
    fn add_disk(&self, max_hw_sectors_kb: u32) {
        let device = "sys/devices/3:0:1:2";
        for (name, content) in [
            ("vendor", "SEAGATE \n"),
            ("model", "ST1000NM0011    \n"),
            ("rev", "SN03\n"),
            ("type", "0\n"),
            ("wwid", "naa.5000c500a0b1c2d3\n"),
            ("block/sdb/size", "1953525168\n"),
            ("block/sdb/queue/logical_block_size", "512\n"),
            ("block/sdb/sdb1/partition", "1\n"),
            ("scsi_generic/sg4/dev", "21:4\n"),
        ] {
            self.file(&format!("{device}/{name}"), content);
        }
        self.file(&format!("{device}/vpd_pg80"), b"\x00\x80\x00\x0a  Z1N0ABC\x07trailing");
        self.file(&format!("{device}/block/sdb/queue/max_hw_sectors_kb"), format!("{max_hw_sectors_kb}\n"));
        self.file("sys/class/scsi_host/host3/sg_tablesize", "128\n");
        for (at, to) in [
            ("sys/class/scsi_device/3:0:1:2/device", device),
            ("sys/class/block/sdb", "sys/devices/3:0:1:2/block/sdb"),
        ] {
            let at = self.root.join(at);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            symlink(self.root.join(to), at).unwrap();
        }
    }
}

/// Lines of modules.dep(5).
const DEP: &str = "kernel/drivers/xen/xen-gntdev.ko.xz:\nkernel/drivers/xen/xen-scsiback.ko.xz: kernel/drivers/target/target_core_mod.ko.xz\n";

#[test]
fn a_host_that_is_ready_is_said_to_be() {
    let store = Store::new();
    let mut tree = Tree::ready("ready", &store);
    let report = tree.machine.host();
    assert_eq!(
        report.text(),
        "kernel     ok       Linux 6.1.0-18-amd64\n\
         xen        ok       Xen 4.17.4-pre; this is the control domain\n\
         evtchn     ok       /dev/xen/evtchn opens\n\
         gntdev     ok       /dev/xen/gntdev opens\n\
         xenstore   ok       xenstored answers; domains: 2\n\
         scsiback   ok       xen-scsiback is kept from loading by /etc/modprobe.d/xen.conf\n\
         sg         ok       the sg driver is there; SCSI devices: 1\n\
         sg-copies  ok       the sg driver uses our buffers directly\n\
         io_uring   ok       it works\n\
         nothing is in the way\n"
    );
    assert!(report.fits());
    let json = report.json();
    assert_eq!((&json["fits"], json["facts"].as_array().unwrap().len()), (&true.into(), 9));
    assert_eq!(
        json["facts"][1],
        json!({
            "topic": "xen", "verdict": "ok", "text": "Xen 4.17.4-pre; this is the control domain", "remedy": null,
            "value": { "there": true, "version": "4.17.4-pre", "control_domain": true },
        })
    );
}

#[test]
fn a_machine_without_xen_is_told_what_it_lacks() {
    let mut tree = Tree::new("without");
    tree.file("lib/modules/6.1.0-18-amd64/modules.dep", DEP);
    tree.file("proc/sys/kernel/io_uring_disabled", "2\n");
    tree.file("sys/module/sg/parameters/allow_dio", "0\n");
    tree.machine.io_uring = Err(io::ErrorKind::PermissionDenied.into());
    let report = tree.machine.host();
    assert_eq!(
        report.text(),
        "kernel     ok       Linux 6.1.0-18-amd64\n\
         xen        problem  this is no Xen domain\n           \
         \x20        remedy: boot Xen with this system as dom0, or run this in a driver domain\n\
         evtchn     problem  cannot open /dev/xen/evtchn: No such file or directory (os error 2)\n           \
         \x20        remedy: modprobe xen-evtchn\n\
         gntdev     problem  cannot open /dev/xen/gntdev: No such file or directory (os error 2)\n           \
         \x20        remedy: modprobe xen-gntdev\n\
         xenstore   problem  no xenstore here\n\
         scsiback   problem  the kernel's xen-scsiback would load itself with the first device\n           \
         \x20        remedy: echo blacklist xen-scsiback > /etc/modprobe.d/xen-pvscsi.conf\n\
         sg         ok       the sg driver is there; SCSI devices: 0\n\
         sg-copies  note     the sg driver copies all data once more\n           \
         \x20        remedy: echo 1 > /sys/module/sg/parameters/allow_dio\n\
         io_uring   note     it does not work (permission denied); poll takes its place, and more of the CPU\n           \
         \x20        remedy: sysctl kernel.io_uring_disabled=0\n\
         5 problems are in the way\n"
    );
    assert!(!report.fits());
    assert_eq!(report.json()["facts"][5]["value"], "free");
}

#[test]
fn the_kernels_backend_and_a_missing_sg_driver_are_in_the_way() {
    let store = Store::new();
    let mut tree = Tree::ready("scsiback", &store);
    let problems = |tree: &mut Tree| -> Vec<&str> {
        let facts = tree.machine.host().0;
        facts.iter().filter(|fact| fact.verdict == Verdict::Problem).map(|fact| fact.topic).collect()
    };
    assert_eq!(problems(&mut tree), <[&str; 0]>::default());
    // A file of the same name in /etc hides one of the distribution's.
    tree.file("usr/lib/modprobe.d/xen-pvscsi.conf", "install xen-scsiback /bin/false\n");
    tree.file("etc/modprobe.d/xen.conf", "blacklist xen-blkback\n");
    assert_eq!(problems(&mut tree), <[&str; 0]>::default());
    tree.file("etc/modprobe.d/xen-pvscsi.conf", "# nothing\n");
    tree.file("lib/modprobe.d/xen-pvscsi.old", "blacklist xen-scsiback\n");
    assert_eq!(problems(&mut tree), ["scsiback"]);
    tree.file("proc/cmdline", "root=/dev/sda1 modprobe.blacklist=a,xen-scsiback quiet\n");
    assert_eq!(problems(&mut tree), <[&str; 0]>::default());
    tree.file("proc/cmdline", "quiet\n");
    tree.file("lib/modules/6.1.0-18-amd64/modules.dep", "kernel/drivers/xen/xen-gntdev.ko:\n");
    assert_eq!(problems(&mut tree), <[&str; 0]>::default());
    fs::remove_dir_all(tree.root.join("lib/modules")).unwrap();
    assert_eq!(problems(&mut tree), <[&str; 0]>::default());
    assert_eq!(tree.machine.host().0[5].verdict, Verdict::Note, "nobody knows");
    tree.file("sys/module/xen_scsiback/refcnt", "0\n");
    assert_eq!(problems(&mut tree), ["scsiback"]);
    fs::remove_dir_all(tree.root.join("sys/class/scsi_generic")).unwrap();
    fs::remove_dir_all(tree.root.join("sys/module/sg")).unwrap();
    assert_eq!(problems(&mut tree), ["scsiback", "sg"]);
}

#[test]
fn a_disk_is_described() {
    let tree = Tree::new("disk");
    tree.add_disk(1280);
    let hctl = "3:0:1:2".parse().unwrap();
    let report = Report(device::scsi(&tree.machine, "/dev/sdb", hctl));
    assert_eq!(
        report.text(),
        "name      ok       /dev/sdb is SCSI device 3:0:1:2\n\
         nodes     ok       /dev/sdb /dev/sg4 /dev/sdb1\n\
         device    ok       disk: SEAGATE ST1000NM0011, revision SN03\n\
         identity  ok       naa.5000c500a0b1c2d3, serial number Z1N0ABC\\u{7}\n\
         size      ok       1000204886016 bytes (931.5 GiB), in blocks of 512\n\
         engine    ok       the sg driver, by io_uring\n\
         limits    ok       a guest sends at most 512 KiB in a command; the host adapter takes 1.2 MiB, in 128 pieces\n\
         nothing is in the way\n"
    );
    let json = report.json();
    let value = |at: usize| &json["facts"][at]["value"];
    assert_eq!(*value(1), json!(["/dev/sdb", "/dev/sg4", "/dev/sdb1"]));
    assert_eq!((&value(2)["type"], &value(2)["model"]), (&0.into(), &"ST1000NM0011".into()));
    assert_eq!(*value(4), json!({ "bytes": 1_000_204_886_016_u64, "block": 512 }));
    assert_eq!((&value(6)["host_bytes"], &value(6)["guest_bytes"]), (&1_310_720.into(), &524_288.into()));
}

#[test]
fn a_host_adapter_that_takes_less_than_a_guest_sends_is_noted() {
    for (kib, noted) in [(120, true), (507, true), (508, false), (512, false)] {
        let tree = Tree::new(&format!("usb-{kib}"));
        tree.add_disk(kib);
        let report = Report(device::scsi(&tree.machine, "3:0:1:2", "3:0:1:2".parse().unwrap()));
        assert!(report.fits(), "{kib}");
        let limits = report.0.last().unwrap();
        assert_eq!(limits.remedy.as_ref().is_some_and(|it| it.contains("Block Limits page (B0h)")), noted);
        assert_eq!(report.0[0].text, "3:0:1:2 is a SCSI device of this host");
    }
}

/// A tape has no block device, and this one says nothing of itself.
#[test]
fn a_tape_is_described() {
    let mut tree = Tree::new("tape");
    tree.machine.io_uring = Err(io::ErrorKind::Unsupported.into());
    for name in ["type", "scsi_tape/nst0/dev", "scsi_tape/st0/dev", "scsi_generic/sg5/dev"] {
        tree.file(&format!("sys/class/scsi_device/3:0:5:0/device/{name}"), "1\n");
    }
    let report = Report(device::scsi(&tree.machine, "/dev/nst0", "3:0:5:0".parse().unwrap()));
    let text = report.text();
    for line in [
        "nodes     ok       /dev/sg5 /dev/nst0 /dev/st0\n",
        "device    ok       tape: ",
        "identity  ok       says neither a name of its own nor a serial number\n",
        "engine    note     the sg driver, by poll: no io_uring here (unsupported)\n",
        "limits    ok       a guest sends at most 512 KiB in a command; what the host adapter takes is not known\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains("size"), "{text}");
}

#[test]
fn a_device_is_checked_with_its_address_its_options_and_its_guests() {
    let store = Store::new();
    let mut tree = Tree::ready("guests", &store);
    tree.file("disk.img", vec![0; 4096]);
    let image = tree.root.join("disk.img");
    let name = format!("file:{}", image.display());
    let device = "/local/domain/0/backend/vscsi/7/0/vscsi-devs/dev-0";
    let report = tree.machine.device(&format!("{name},0:0:3:1"));
    assert_eq!(
        report.text(),
        format!(
            "name    ok       {name} is an emulated disk on a file\n\
             size    ok       4096 bytes (4 KiB), in blocks of 512\n\
             engine  ok       an emulated disk, with a thread of its own\n\
             open    ok       this process may open it\n\
             host    ok       nothing on this host uses it\n\
             guests  ok       no guest has it\n\
             vdev    ok       channel 0, target 3, LUN 1 of the guest's vhost 0\n\
             nothing is in the way\n"
        )
    );
    for (node, value) in [("p-dev", name.as_str()), ("v-dev", "0:0:0:0"), ("options", "shared")] {
        store.write(&format!("{device}/{node}"), value);
    }
    tree.file("sys/block/loop0/loop/backing_file", image.as_os_str().as_encoded_bytes());
    let report = tree.machine.device(&format!("{name},0:0:3,rw"));
    let problems: Vec<_> = report.0.iter().filter(|fact| fact.verdict == Verdict::Problem).collect();
    let lines: Vec<_> = problems.iter().map(|fact| format!("{}: {}", fact.topic, fact.text)).collect();
    assert_eq!(
        lines,
        [
            "host: it is loop device loop0",
            "guests: domain 7 (web) has it at 0:0:0:0, shared",
            "vdev: \"0:0:3\" is not of the form host:channel:target:lun, four decimal numbers",
            "options: option \"rw\" is not known; there are: feature-host, ro, shared, allow=GROUP (or several, joined by +), \
             reservations=guests or =device, block-size=512 or 4096, backend=DOMAIN",
        ]
    );
    assert_eq!(problems[0].remedy.as_deref(), Some("losetup -d /dev/loop0"));
    fs::remove_dir_all(tree.root.join("sys/block")).unwrap();
    assert!(tree.machine.device(&format!("{name},0:0:0:0,shared")).fits());
    let report = tree.machine.device(&format!("{name},auto,shared"));
    assert!(
        report.fits() && report.text().contains("vdev    ok       a vhost of its own, "),
        "{}",
        report.text()
    );
    // A guest's number stays where xenstore cannot be asked.
    tree.machine.store = Err("no xenstore here".into());
    let report = tree.machine.device(&name);
    assert!(
        report.text().contains("guests  problem  which guests have it cannot be told: no xenstore here\n")
    );
}

#[test]
fn names_that_lead_nowhere_are_problems_and_memory_is_none() {
    let mut tree = Tree::new("names");
    for (text, words) in [
        ("sda", "names no device"),
        ("file:disk.img", "needs an absolute path"),
        ("file:/no/such/file", "cannot open /no/such/file"),
        ("block:/srv/disk.img", "needs a path below /dev"),
        ("block:/dev/null", "/dev/null is not a block device"),
        ("/dev/no-such-disk", "cannot find /dev/no-such-disk"),
        ("", "names no device"),
    ] {
        let report = tree.machine.device(text);
        let [fact] = report.0.as_slice() else { panic!("{text:?}: {report:?}") };
        assert!(!report.fits() && fact.topic == "name" && fact.text.contains(words), "{text:?}: {fact:?}");
    }
    let report = tree.machine.device("ram:64M, 0:0:0:0, ro");
    assert!(report.text().contains("67108864 bytes (64 MiB)"), "{}", report.text());
    // No other guest can have it, so xenstore is not asked.
    assert_eq!(report.0.iter().find(|fact| fact.topic == "guests"), None);
}
