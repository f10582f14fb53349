//! Block devices by number: what they are, and what they are called.

use std::fs;
use std::path::PathBuf;

use nix::sys::stat::{major, makedev, minor};
use pvscsi_sg::Hctl;

use super::{Host, Identity};

/// Where the kernel has what outlasts a reboot and tells one device from all others: the device mapper's name (LVM's among them),
/// RAID arrays', NVMe's, that of SCSI.
const NAMES: [&str; 4] = ["dm/uuid", "md/uuid", "wwid", "device/wwid"];

impl Host {
    /// The disk or partition of this number. One that sysfs does not have is a disk.
    pub(crate) fn block(&self, major: u64, minor: u64) -> Identity {
        let device = makedev(major, minor);
        let Some(disk) = self.disk_of(device) else {
            return Identity::Block { device, disk: device, scsi: None };
        };
        let text = fs::read_to_string(disk.join("dev")).unwrap_or_default();
        let number = text
            .trim_end()
            .split_once(':')
            .and_then(|(major, minor)| Some(makedev(major.parse().ok()?, minor.parse().ok()?)));
        let scsi = || -> Option<Hctl> {
            let entry = fs::read_dir(disk.join("device/scsi_device")).ok()?.flatten().next()?;
            entry.file_name().to_str()?.parse().ok()
        };
        Identity::Block { device, disk: number.unwrap_or(device), scsi: scsi() }
    }

    /// What the kernel calls it: dm-3, sdb1.
    pub(super) fn block_name(&self, device: u64) -> Option<String> {
        self.block_directory(device)?.file_name()?.to_str().map(str::to_owned)
    }

    /// Its partitions and itself; of a partition, its disk and itself.
    pub(super) fn family(&self, name: &str) -> Vec<String> {
        let mut family = self.parts(name);
        family.push(name.to_owned());
        family.extend(self.disk_around(name));
        family
    }

    /// The partitions of a disk.
    pub(super) fn parts(&self, disk: &str) -> Vec<String> {
        let block = format!("sys/class/block/{disk}");
        let mut names = self.names(&block);
        names.retain(|name| self.path(&format!("{block}/{name}/partition")).exists());
        names
    }

    /// The disk of a partition.
    pub(super) fn disk_around(&self, part: &str) -> Option<String> {
        let directory = fs::canonicalize(self.path(&format!("sys/class/block/{part}"))).ok()?;
        let disk = directory.join("partition").exists().then(|| directory.parent())??;
        disk.file_name()?.to_str().map(str::to_owned)
    }

    /// A name that no other block device of this host has or will have. Where the device has none that lasts, it is of this boot,
    /// and of what has the number now (Linux's Documentation/ABI/testing/sysfs-block, `diskseq`).
    pub(crate) fn lasting_name(&self, device: u64) -> String {
        let disk = self.disk_of(device);
        let read = |what: &str| {
            let text = fs::read_to_string(disk.as_ref()?.join(what)).ok()?;
            Some(text.trim_end().to_owned()).filter(|text| !text.is_empty())
        };
        let name = NAMES.iter().find_map(|what| read(what)).unwrap_or_else(|| {
            let boot = self.read("proc/sys/kernel/random/boot_id").unwrap_or_default();
            format!("{boot} {}:{} {}", major(device), minor(device), read("diskseq").unwrap_or_default())
        });
        let part = self.block_directory(device).and_then(|it| fs::read_to_string(it.join("partition")).ok());
        part.map_or(name.clone(), |part| format!("{name} {}", part.trim_end()))
    }

    fn disk_of(&self, device: u64) -> Option<PathBuf> {
        let mut directory = self.block_directory(device)?;
        if directory.join("partition").exists() {
            directory.pop();
        }
        Some(directory)
    }

    fn block_directory(&self, device: u64) -> Option<PathBuf> {
        let link = format!("sys/dev/block/{}:{}", major(device), minor(device));
        fs::canonicalize(self.path(&link)).ok()
    }
}
