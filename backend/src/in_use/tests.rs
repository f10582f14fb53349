//! A host's trees, imitated as Linux makes them.

use std::os::unix::fs::symlink;

use nix::sys::stat::makedev;
use pvscsi_sim::store::Store;
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::Xenstore;

use super::guests::{Guests, Whose};
use super::*;

/// The disk 3:0:1:2, sdb with two partitions, and whatever a test adds. Opens like a disk that somebody has claimed.
struct Tree(Host);

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0.root);
    }
}

const BUSY: fn(&Path) -> io::Result<()> = |_| Err(io::ErrorKind::ResourceBusy.into());
const DISK: &str = "3:0:1:2";

impl Tree {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("pvscsi-in-use-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let tree = Self(Host { root, open_alone: BUSY });
        for (name, number) in [("sdb", "8:16"), ("sdb/sdb1", "8:17"), ("sdb/sdb2", "8:18")] {
            let real = format!("sys/devices/3:0:1:2/block/{name}");
            tree.file(&format!("{real}/dev"), number);
            if name != "sdb" {
                tree.file(&format!("{real}/partition"), "1");
            }
            tree.link(&real, &format!("sys/class/block/{}", name.rsplit('/').next().unwrap()));
            tree.link(&real, &format!("sys/dev/block/{number}"));
        }
        tree.link("sys/devices/3:0:1:2", "sys/devices/3:0:1:2/block/sdb/device");
        tree.dir("sys/devices/3:0:1:2/scsi_device/3:0:1:2");
        tree.dir("sys/devices/3:0:1:2/scsi_generic/sg4");
        tree.link("sys/devices/3:0:1:2", "sys/class/scsi_device/3:0:1:2/device");
        tree.file("proc/swaps", "Filename\t\t\tType\t\tSize\n");
        tree
    }

    fn dir(&self, below: &str) {
        fs::create_dir_all(self.0.path(below)).unwrap();
    }

    fn file(&self, below: &str, text: &str) {
        let path = self.0.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    fn link(&self, to: &str, at: &str) {
        let at = self.0.path(at);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        symlink(self.0.path(to), at).unwrap();
    }

    /// A device of the device mapper on a block device.
    fn dm(&self, number: u32, below: &str, name: &str, uuid: &str) {
        self.file(&format!("sys/class/block/dm-{number}/dm/name"), name);
        self.file(&format!("sys/class/block/dm-{number}/dm/uuid"), uuid);
        self.file(&format!("sys/class/block/dm-{number}/dev"), &format!("254:{number}"));
        self.dir(&format!("sys/class/block/{below}/holders/dm-{number}"));
    }

    fn found(&self) -> Vec<String> {
        let found = self.0.holders(&Identity::Scsi(DISK.parse().unwrap()));
        found.iter().map(Holder::to_string).collect()
    }

    /// Of the block device 8:MINOR.
    fn found_on(&self, minor: u64) -> Vec<String> {
        self.0.holders(&self.0.block(8, minor)).iter().map(Holder::to_string).collect()
    }

    /// A volume of LVM that is no part of sdb.
    fn volume(&self, number: u32, uuid: &str) {
        let real = format!("sys/devices/virtual/block/dm-{number}");
        self.file(&format!("{real}/dev"), &format!("254:{number}"));
        self.file(&format!("{real}/dm/uuid"), uuid);
        self.link(&real, &format!("sys/class/block/dm-{number}"));
        self.link(&real, &format!("sys/dev/block/254:{number}"));
    }
}

#[test]
fn a_disk_that_opens_alone_is_free_whatever_else_is_said() {
    let mut tree = Tree::new("free");
    tree.file("proc/swaps", "/dev/sdb1 partition 1 0 -2");
    assert_eq!(tree.found(), ["/dev/sdb1 is swap space; to free it: swapoff /dev/sdb1"]);
    tree.0.open_alone = |_| Ok(());
    assert_eq!(tree.found(), <[String; 0]>::default());
}

#[test]
fn a_claim_that_nobody_explains_is_seen_and_a_passing_one_is_not() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static OPENED: AtomicU32 = AtomicU32::new(0);
    let mut tree = Tree::new("claimed");
    let found = tree.found();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("something on this host has claimed /dev/sdb "), "{found:?}");
    // Udev has it open for a moment, or another server that looks as we do.
    tree.0.open_alone = |_| {
        if OPENED.fetch_add(1, Ordering::Relaxed) < 2 { BUSY(Path::new("")) } else { Ok(()) }
    };
    assert_eq!(tree.found(), <[String; 0]>::default());
    assert_eq!(OPENED.load(Ordering::Relaxed), 3);
    // An open that says nothing about other users does not make one up.
    tree.0.open_alone = |_| Err(io::ErrorKind::PermissionDenied.into());
    assert_eq!(tree.found(), <[String; 0]>::default());
}

/// Its driver would wait with the open until the kernel is through.
#[test]
fn a_disk_whose_host_recovers_is_not_opened() {
    let mut tree = Tree::new("recovers");
    tree.0.open_alone = |_| panic!("opened");
    tree.file("sys/class/scsi_host/host3/state", "recovery");
    assert_eq!(tree.found(), <[String; 0]>::default());
}

#[test]
fn a_look_makes_no_node() {
    let error = open_alone(Path::new("/dev/no-such-disk")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let path = std::env::temp_dir().join(format!("pvscsi-in-use-real-{}", std::process::id()));
    assert!(open_alone(&path).is_err() && !path.exists());
}

#[test]
fn mounts_are_found_by_number_and_by_name() {
    let tree = Tree::new("mounts");
    tree.file(
        "proc/self/mountinfo",
        "21 1 8:17 / /srv/a\\040b rw,relatime shared:1 - ext4 /dev/sdb1 rw\n\
         22 1 8:17 /x /mnt rw - ext4 /dev/sdb1 rw\n\
         23 1 8:33 / /other rw - ext4 /dev/sdc1 rw\n\
         24 1 0:40 / /pool rw - btrfs /dev/sdz rw\n\
         nonsense\n",
    );
    assert_eq!(
        tree.found(),
        ["/dev/sdb1 is mounted at /srv/a b and /mnt; to free it: umount '/srv/a b' /mnt"]
    );
    // The mount names another device of the same btrfs.
    tree.dir("sys/fs/btrfs/c0ffee/devices/sdb2");
    tree.dir("sys/fs/btrfs/c0ffee/devices/sdz");
    tree.dir("sys/fs/btrfs/features");
    assert_eq!(tree.found()[1], "/dev/sdb2 is mounted at /pool; to free it: umount /pool");
}

#[test]
fn what_has_to_end_first_comes_first() {
    let tree = Tree::new("order");
    tree.file("proc/self/mountinfo", "21 1 254:3 / / rw - ext4 /dev/mapper/my--vg-root rw\n");
    tree.file("proc/swaps", "Filename Type Size\n/dev/dm-4 partition 1 0 -2");
    tree.dm(3, "sdb2", "my--vg-root", "LVM-abc");
    tree.dm(4, "sdb2", "my--vg-swap", "LVM-def");
    assert_eq!(
        tree.found(),
        [
            "/dev/dm-3 is mounted at /; to free it: umount /",
            "/dev/dm-4 is swap space; to free it: swapoff /dev/dm-4",
            "/dev/sdb2 belongs to LVM volume group my-vg (dm-3 is its volume my--vg-root); to free it: vgchange -an my-vg",
        ]
    );
}

#[test]
fn each_kind_of_holder_has_its_remedy() {
    for (uuid, name, words) in [
        (
            "CRYPT-LUKS2-1",
            "secret",
            "/dev/sdb is open as encrypted device secret (dm-0); to free it: cryptsetup close secret",
        ),
        (
            "mpath-3600",
            "mpatha",
            "/dev/sdb is a path of multipath device mpatha (dm-0); to free it: multipath -f mpatha",
        ),
        (
            "",
            "a b",
            "/dev/sdb is a part of device-mapper device a b (dm-0); to free it: dmsetup remove 'a b'",
        ),
    ] {
        let tree = Tree::new(&format!("dm-{}", name.len()));
        tree.dm(0, "sdb", name, uuid);
        let found = tree.found();
        assert!(found.len() == 1 && found[0].starts_with(words), "{found:?}");
    }
    let tree = Tree::new("others");
    tree.dir("sys/class/block/sdb1/holders/md0");
    tree.dir("sys/class/block/md0/md");
    tree.dir("sys/class/block/sdb2/holders/bcache0");
    tree.dir("sys/class/block/bcache0/bcache");
    tree.dir("sys/class/block/sdb/holders/drbd1");
    tree.dir("sys/class/block/sdb/bcache/set");
    assert_eq!(
        tree.found(),
        [
            "/dev/sdb1 is a member of RAID array md0; to free it: mdadm --stop /dev/md0",
            "/dev/sdb2 is the backing device of bcache0; to free it: echo 1 > /sys/class/block/bcache0/bcache/stop",
            "/dev/sdb is a part of /dev/drbd1; to free it: stop /dev/drbd1",
            "/dev/sdb is a cache of bcache; to free it: echo 1 > /sys/class/block/sdb/bcache/set/stop",
        ]
    );
}

#[test]
fn a_name_that_forges_a_line_is_shown_as_it_is() {
    let tree = Tree::new("forged");
    tree.file("proc/self/mountinfo", "21 1 8:16 / /a\\012b rw - ext4 /dev/sdb rw\n");
    assert_eq!(tree.found(), [r"/dev/sdb is mounted at /a\u{a}b; to free it: umount '/a\u{a}b'"]);
}

/// A tape too, which nobody can claim.
#[test]
fn backstores_of_lio_are_named() {
    const CORE: &str = "sys/kernel/config/target/core";
    let tree = Tree::new("lio");
    tree.dir("dev/disk/by-id");
    tree.file("dev/sdb", "");
    tree.link("dev/sdb", "dev/disk/by-id/wwn-0x5");
    for (store, path, info) in [
        ("iblock_0/disk1", "/dev/disk/by-id/wwn-0x5", "Status: ACTIVATED"),
        ("iblock_0/disk2", "/dev/sdc", "Status: ACTIVATED"),
        (
            "pscsi_1/tape",
            "",
            "Status: ACTIVATED\nSCSI Device Bus Location: Channel ID: 0 Target ID: 5 LUN: 0 Host ID: 3",
        ),
        ("pscsi_1/near", "", "SCSI Device Bus Location: Channel ID: 0 Target ID: 5 LUN: 0 Host ID: 33"),
    ] {
        tree.file(&format!("{CORE}/{store}/info"), info);
        tree.file(&format!("{CORE}/{store}/udev_path"), path);
    }
    tree.file(&format!("{CORE}/iblock_0/hba_mode"), "0");
    assert_eq!(
        tree.found(),
        ["LIO has it as backstore iblock_0/disk1; to free it: targetcli /backstores/block delete disk1"]
    );
    let of_tape = tree.0.holders(&Identity::Scsi("3:0:5:0".parse().unwrap()));
    assert_eq!(
        list(&of_tape),
        "LIO has it as backstore pscsi_1/tape; to free it: targetcli /backstores/pscsi delete tape"
    );
}

#[test]
fn a_file_is_found_behind_loop_devices_and_backstores() {
    let tree = Tree::new("file");
    tree.file("disk.img", "");
    tree.link("disk.img", "link.img");
    let (disk, link) = (tree.0.path("disk.img"), tree.0.path("link.img"));
    tree.file("sys/block/loop3/loop/backing_file", &link.to_string_lossy());
    tree.file("sys/block/loop4/loop/backing_file", "/no/such/file");
    tree.dir("sys/block/loop5");
    tree.file("sys/kernel/config/target/core/fileio_0/a b/info", "");
    tree.file("sys/kernel/config/target/core/fileio_0/a b/udev_path", &disk.to_string_lossy());
    let file = Identity::of(&PDev::File(disk)).unwrap().unwrap();
    assert_eq!(
        list(&tree.0.holders(&file)),
        "it is loop device loop3; to free it: losetup -d /dev/loop3; and LIO has it as backstore fileio_0/a b; \
         to free it: targetcli /backstores/fileio delete 'a b'"
    );
    assert_eq!(Identity::of(&PDev::Ram(512)).unwrap(), None);
    assert!(Identity::of(&PDev::File("/no/such/file".into())).is_err());
}

/// Guest 7 exists, guest 8 is gone.
#[test]
fn devices_of_other_guests_are_found_in_xenstore() {
    let store = Store::new();
    let mut client = Xenstore::from_stream(store.connect(DomId(0))).unwrap();
    store.write("/local/domain/7/name", "web");
    let vscsi = |domid: u32, node: &str, value: &str| {
        store.write(&format!("/local/domain/0/backend/vscsi/{domid}/0/vscsi-devs/dev-0/{node}"), value);
    };
    for domid in [7, 8] {
        for (node, value) in [("p-dev", DISK), ("p-devname", DISK), ("v-dev", "0:0:4:0"), ("state", "1")] {
            vscsi(domid, node, value);
        }
    }
    let disk = Identity::Scsi(DISK.parse().unwrap());
    let mut look = |whose, shared| {
        let mut guests = Guests::default();
        guests.read_vscsi(&mut client, whose).unwrap();
        let found = guests.holder(&mut client, &disk, shared).unwrap();
        found.map(|holder| holder.to_string())
    };
    let expected = "domain 7 (web) has it at 0:0:4:0; to free it: xen-pvscsi detach 7 0:0:4:0, or give both the option shared";
    assert_eq!(look(Whose::All, false).as_deref(), Some(expected));
    // Their server has not opened it, and we are first.
    assert_eq!(look(Whose::ServedToOthersThan(DomId(9)), false), None);
    vscsi(7, "state", "4");
    assert_eq!(look(Whose::ServedToOthersThan(DomId(9)), false).as_deref(), Some(expected));
    assert_eq!(look(Whose::ServedToOthersThan(DomId(7)), false), None);
    let without = look(Whose::All, true).unwrap();
    assert!(without.contains("at 0:0:4:0 without the option shared"), "{without}");
    vscsi(7, "options", "ro,shared");
    assert_eq!(look(Whose::All, true), None);
    let shared = look(Whose::All, false).unwrap();
    assert!(shared.contains("at 0:0:4:0, shared; ") && shared.ends_with("shared here too"), "{shared}");
    vscsi(7, "p-dev", "3:0:1:3");
    assert_eq!(look(Whose::All, false), None);
    vscsi(7, "p-dev", "nonsense");
    assert_eq!(look(Whose::All, false), None);
}

#[test]
fn block_devices_of_guests_count_by_number_and_by_path() {
    let tree = Tree::new("vbd");
    tree.file("disk.img", "");
    let image = tree.0.path("disk.img");
    let store = Store::new();
    let mut client = Xenstore::from_stream(store.connect(DomId(0))).unwrap();
    store.write("/local/domain/7/name", "db");
    let mut look = |device: &Identity| {
        let mut guests = Guests::default();
        guests.read_block(&mut client, &tree.0).unwrap();
        // That we would share it is not known to them.
        let found = guests.holder(&mut client, device, true).unwrap();
        found.map(|holder| holder.to_string())
    };
    let disk = Identity::Scsi(DISK.parse().unwrap());
    assert_eq!(look(&disk), None);
    store.write("/local/domain/0/backend/vbd/7/51712/dev", "xvda");
    for number in ["8:10", "8:12"] {
        store.write("/local/domain/0/backend/vbd/7/51712/physical-device", number);
        let expected = "domain 7 (db) has it as block device xvda; to free it: xl block-detach 7 xvda";
        assert_eq!(look(&disk).as_deref(), Some(expected), "the disk and a part of it");
    }
    store.write("/local/domain/0/backend/vbd/7/51712/physical-device", "8:20");
    assert_eq!(look(&disk), None);
    let file = Identity::of_file(&image).unwrap();
    assert_eq!(look(&file), None);
    store.write("/local/domain/0/backend/qdisk/7/51728/params", format!("aio:{}", image.display()));
    assert!(look(&file).unwrap().contains("domain 7 (db) has it as block device"));
}

#[test]
fn a_disk_clashes_with_its_parts_and_with_itself_by_another_road() {
    let tree = Tree::new("clashes");
    tree.volume(3, "LVM-abc");
    let scsi = Identity::Scsi(DISK.parse().unwrap());
    let [disk, one, two] = [16, 17, 18].map(|minor| tree.0.block(8, minor));
    let (volume, unknown) = (tree.0.block(254, 3), tree.0.block(254, 9));
    for (left, right, clash) in [
        (disk, disk, true),
        (disk, one, true),
        (one, two, false),
        (disk, scsi, true),
        (two, scsi, true),
        (volume, scsi, false),
        (volume, disk, false),
        (volume, volume, true),
        (volume, unknown, false),
        (unknown, unknown, true),
        (scsi, Identity::Scsi("3:0:1:3".parse().unwrap()), false),
    ] {
        assert_eq!(left.clashes_with(&right), clash, "{left:?} {right:?}");
        assert_eq!(right.clashes_with(&left), clash, "{right:?} {left:?}");
    }
}

#[test]
fn a_block_device_is_held_by_what_is_on_it_and_around_it() {
    let mut tree = Tree::new("block");
    tree.file("proc/swaps", "Filename Type Size\n/dev/sdb2 partition 1 0 -2");
    assert_eq!(tree.found_on(18), ["/dev/sdb2 is swap space; to free it: swapoff /dev/sdb2"]);
    assert_eq!(tree.found_on(16), tree.found_on(18), "a part of the disk");
    let unknown = tree.found_on(17);
    assert!(unknown[0].starts_with("something on this host has claimed /dev/sdb1 "), "{unknown:?}");
    tree.dir("sys/class/block/sdb/holders/md0");
    tree.dir("sys/class/block/md0/md");
    assert_eq!(
        tree.found_on(17),
        ["/dev/sdb is a member of RAID array md0; to free it: mdadm --stop /dev/md0"]
    );
    tree.volume(3, "LVM-abc");
    tree.file("proc/self/mountinfo", "21 1 254:3 / /srv rw - ext4 /dev/mapper/vg-srv rw\n");
    tree.file("sys/kernel/config/target/core/iblock_0/vol/info", "Status: ACTIVATED");
    tree.file("sys/kernel/config/target/core/iblock_0/vol/udev_path", "/dev/dm-3");
    let volume = tree.0.block(254, 3);
    assert_eq!(
        list(&tree.0.holders(&volume)),
        "/dev/dm-3 is mounted at /srv; to free it: umount /srv; and LIO has it as backstore iblock_0/vol; \
         to free it: targetcli /backstores/block delete vol"
    );
    tree.0.open_alone = |node| if node.ends_with("dev/dm-3") { Ok(()) } else { BUSY(node) };
    assert_eq!(tree.0.holders(&volume), []);
    assert_eq!(tree.0.holders(&tree.0.block(254, 9)), [], "gone");
}

#[test]
fn a_block_device_keeps_its_name_when_its_number_goes_to_another() {
    let tree = Tree::new("names");
    let name = |major, minor| tree.0.lasting_name(makedev(major, minor));
    tree.volume(3, "LVM-abc");
    assert_eq!(name(254, 3), "LVM-abc");
    tree.file("proc/sys/kernel/random/boot_id", "c0ffee");
    tree.file("sys/devices/3:0:1:2/block/sdb/diskseq", "7");
    tree.file("sys/devices/3:0:1:2/block/sdb/sdb2/partition", "2");
    assert_eq!(name(8, 16), "c0ffee 8:16 7");
    assert_eq!(name(8, 18), "c0ffee 8:18 7 2");
    tree.file("sys/devices/3:0:1:2/wwid", "naa.5000c500a0b1c2d3");
    assert_eq!([name(8, 16), name(8, 18)], ["naa.5000c500a0b1c2d3", "naa.5000c500a0b1c2d3 2"]);
}

/// Through the host's cache and past it: the one would not see what the other writes.
#[test]
fn what_goes_by_two_roads_is_not_shared() {
    let tree = Tree::new("roads");
    tree.volume(3, "LVM-abc");
    let store = Store::new();
    let mut client = Xenstore::from_stream(store.connect(DomId(0))).unwrap();
    store.write("/local/domain/7/name", "web");
    for (node, value) in [("p-dev", DISK), ("v-dev", "0:0:4:0"), ("options", "shared")] {
        store.write(&format!("/local/domain/0/backend/vscsi/7/0/vscsi-devs/dev-0/{node}"), value);
    }
    store.write("/local/domain/0/backend/vbd/7/51712/physical-device", "fe:3");
    store.write("/local/domain/0/backend/vbd/7/51712/dev", "xvda");
    let mut guests = Guests::default();
    guests.read_vscsi(&mut client, Whose::All).unwrap();
    guests.read_block(&mut client, &tree.0).unwrap();
    let mut look = |device: Identity| {
        let found = guests.holder(&mut client, &device, true).unwrap();
        found.map(|holder| holder.to_string())
    };
    assert_eq!(look(Identity::Scsi(DISK.parse().unwrap())), None);
    assert_eq!(
        look(tree.0.block(8, 16)).as_deref(),
        Some(
            "domain 7 (web) has it at 0:0:4:0 as a SCSI device, as a block device or in part, which cannot be shared \
             with this; to free it: xen-pvscsi detach 7 0:0:4:0"
        )
    );
    let volume = look(tree.0.block(254, 3)).unwrap();
    assert_eq!(volume, "domain 7 (web) has it as block device xvda; to free it: xl block-detach 7 xvda");
    assert_eq!(look(tree.0.block(254, 4)), None);
}
