//! What stands on a block device: file systems, swap space, LVM, RAID, encryption, bcache, loop devices.

use std::path::Path;

use super::{Holder, Host, Identity, shell};

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
struct Mount {
    /// major:minor.
    number: String,
    point: String,
    source: String,
}

/// What is in use, and what was said of it.
struct Search {
    mounts: Vec<Mount>,
    /// Paths of swap space.
    swaps: Vec<String>,
    /// Names of block devices that were looked at.
    seen: Vec<String>,
    found: Vec<Holder>,
}

impl Search {
    /// What the same remedy ends is said once: a volume group with hundreds of volumes.
    fn say(&mut self, what: String, remedy: String) {
        let holder = Holder::new(what, remedy);
        if !self.found.iter().any(|other| other.remedy == holder.remedy) {
            self.found.push(holder);
        }
    }
}

impl Host {
    /// Who has a disk or a part of it; what has to end first comes first.
    pub(super) fn block_holders(&self, disk: &str) -> Vec<Holder> {
        let mounts = self.read("proc/self/mountinfo").unwrap_or_default();
        let swaps = self.read("proc/swaps").unwrap_or_default();
        let mut search = Search {
            mounts: mounts.lines().filter_map(mount).collect(),
            swaps: swaps.lines().filter_map(|line| Some(plain(line.split_whitespace().next()?))).collect(),
            seen: Vec::new(),
            found: Vec::new(),
        };
        self.search(disk, &mut search);
        // Who has a disk has its parts, and the other parts are none of theirs.
        if let Some(around) = self.disk_around(disk) {
            search.seen.extend(self.parts(&around));
            self.search(&around, &mut search);
        }
        search.found
    }

    fn search(&self, name: &str, search: &mut Search) {
        if search.seen.iter().any(|seen| seen == name) {
            return;
        }
        search.seen.push(name.to_owned());
        let block = format!("sys/class/block/{name}");
        self.parts(name).iter().for_each(|part| self.search(part, search));
        let holders = self.names(&format!("{block}/holders"));
        holders.iter().for_each(|holder| self.search(holder, search));
        for holder in &holders {
            let (what, remedy) = self.holder(name, holder);
            search.say(what, remedy);
        }
        if self.path(&format!("{block}/bcache/set")).exists() {
            let stop = format!("echo 1 > /sys/class/block/{name}/bcache/set/stop");
            search.say(format!("/dev/{name} is a cache of bcache"), stop);
        }
        let points = self.mount_points(name, &search.mounts);
        if !points.is_empty() {
            let words: Vec<String> = points.iter().map(|point| shell(point)).collect();
            let what = format!("/dev/{name} is mounted at {}", points.join(" and "));
            search.say(what, format!("umount {}", words.join(" ")));
        }
        if search.swaps.iter().any(|swap| *swap == format!("/dev/{name}")) {
            search.say(format!("/dev/{name} is swap space"), format!("swapoff /dev/{name}"));
        }
    }

    fn mount_points(&self, name: &str, mounts: &[Mount]) -> Vec<String> {
        let number = self.read(&format!("sys/class/block/{name}/dev"));
        let of_btrfs = self.btrfs_with(name);
        let is_it = |mount: &&Mount| {
            let source = mount.source.strip_prefix("/dev/");
            Some(&mount.number) == number.as_ref()
                || source.is_some_and(|source| source == name || of_btrfs.iter().any(|other| other == source))
        };
        let mut points: Vec<String> = mounts.iter().filter(is_it).map(|mount| mount.point.clone()).collect();
        points.dedup();
        points
    }

    /// All devices of the mounted btrfs that has this one. Such a file system has a number of its own, and names one of its
    /// devices as its source.
    fn btrfs_with(&self, name: &str) -> Vec<String> {
        let systems = self.names("sys/fs/btrfs").into_iter();
        let mut members = systems.map(|uuid| self.names(&format!("sys/fs/btrfs/{uuid}/devices")));
        members.find(|members| members.iter().any(|member| member == name)).unwrap_or_default()
    }

    /// What a block device made of others is, and how it ends.
    fn holder(&self, name: &str, holder: &str) -> (String, String) {
        let read = |what: &str| self.read(&format!("sys/class/block/{holder}/{what}")).unwrap_or_default();
        if self.path(&format!("sys/class/block/{holder}/md")).exists() {
            let what = format!("/dev/{name} is a member of RAID array {holder}");
            return (what, format!("mdadm --stop /dev/{holder}"));
        }
        if self.path(&format!("sys/class/block/{holder}/bcache")).exists() {
            let stop = format!("echo 1 > /sys/class/block/{holder}/bcache/stop");
            return (format!("/dev/{name} is the backing device of {holder}"), stop);
        }
        let (dm, uuid) = (read("dm/name"), read("dm/uuid"));
        let word = shell(&dm);
        match uuid.split('-').next() {
            _ if dm.is_empty() => {
                (format!("/dev/{name} is a part of /dev/{holder}"), format!("stop /dev/{holder}"))
            }
            Some("LVM") => {
                let group = volume_group(&dm);
                let what =
                    format!("/dev/{name} belongs to LVM volume group {group} ({holder} is its volume {dm})");
                (what, format!("vgchange -an {}", shell(&group)))
            }
            Some("CRYPT") => (
                format!("/dev/{name} is open as encrypted device {dm} ({holder})"),
                format!("cryptsetup close {word}"),
            ),
            Some("mpath") => {
                let what = format!("/dev/{name} is a path of multipath device {dm} ({holder})");
                (what, format!("multipath -f {word}, and blacklist it in /etc/multipath.conf"))
            }
            _ => (
                format!("/dev/{name} is a part of device-mapper device {dm} ({holder})"),
                format!("dmsetup remove {word}"),
            ),
        }
    }

    /// The loop devices on a file.
    pub(super) fn loop_devices(&self, file: &Identity) -> Vec<Holder> {
        let loops = self.names("sys/block").into_iter().filter(|name| name.starts_with("loop"));
        let on_it = loops.filter(|name| {
            let path = self.read(&format!("sys/block/{name}/loop/backing_file"));
            path.is_some_and(|path| Identity::of_file(Path::new(&path)).is_ok_and(|other| other == *file))
        });
        on_it
            .map(|name| Holder::new(format!("it is loop device {name}"), format!("losetup -d /dev/{name}")))
            .collect()
    }
}

fn mount(line: &str) -> Option<Mount> {
    let (of_mount, of_system) = line.split_once(" - ")?;
    let mut fields = of_mount.split(' ').skip(2);
    let (number, _root, point) = (fields.next()?, fields.next()?, fields.next()?);
    let source = of_system.split(' ').nth(1)?;
    Some(Mount { number: number.to_owned(), point: plain(point), source: plain(source) })
}

/// Blanks and the like are octal numbers behind backslashes (proc_pid_mountinfo(5)).
fn plain(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) => {
                bytes.push(code);
                bytes.extend(rest.bytes());
            }
            _ => {
                bytes.push(b'\\');
                bytes.extend(part.bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The group in a volume's name of the device mapper, `group-volume`: a hyphen within either is doubled (lvm(8), NAMES).
fn volume_group(dm: &str) -> String {
    const HYPHEN: &str = "\0";
    let single = dm.replace("--", HYPHEN);
    single.split('-').next().unwrap_or_default().replace(HYPHEN, "-")
}
