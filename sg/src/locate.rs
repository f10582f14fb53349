//! From the name of a SCSI device to its sg node, by way of sysfs.

use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::sys::stat::{major, minor};

mod by_identity;

/// Linux's address of a SCSI device: host, channel, target, LUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hctl {
    /// Host number.
    pub host: u32,
    /// Channel.
    pub channel: u32,
    /// Target.
    pub target: u32,
    /// LUN.
    pub lun: u64,
}

impl fmt::Display for Hctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.host, self.channel, self.target, self.lun)
    }
}

/// Text that is not four decimal numbers with colons between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the form host:channel:target:lun, four decimal numbers")]
pub struct NotHctl;

impl FromStr for Hctl {
    type Err = NotHctl;

    fn from_str(text: &str) -> Result<Self, NotHctl> {
        fn number<T: FromStr>(part: Option<&str>) -> Result<T, NotHctl> {
            let digits = part.filter(|part| part.bytes().all(|byte| byte.is_ascii_digit())).ok_or(NotHctl)?;
            digits.parse().map_err(|_| NotHctl)
        }
        let mut parts = text.split(':');
        let hctl = Self {
            host: number(parts.next())?,
            channel: number(parts.next())?,
            target: number(parts.next())?,
            lun: number(parts.next())?,
        };
        if parts.next().is_some() { Err(NotHctl) } else { Ok(hctl) }
    }
}

/// Why a name leads to no sg node.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// The address is not in sysfs.
    #[error("there is no SCSI device {0} on this host; lsscsi lists those that are there")]
    NoSuchAddress(Hctl),
    /// The path cannot be looked at.
    #[error("cannot find {}: {source}", .path.display())]
    Path {
        /// As given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path is no device node.
    #[error("{} is no device node; a file as a disk is written file:{}", .0.display(), .0.display())]
    NotANode(PathBuf),
    /// The node belongs to no SCSI device.
    #[error("{} is not (the whole of) a SCSI device; a disk on any block device is written block:PATH", .0.display())]
    NotScsi(PathBuf),
    /// The SCSI device has no sg node.
    #[error("SCSI device {} has no sg node; load the sg driver: modprobe sg", .0.display())]
    NoSgNode(PathBuf),
    /// No device says this of itself.
    #[error("no SCSI device of this host has {what}; {where_to_look} what there is")]
    Unknown {
        /// The name.
        what: String,
        /// Where the names of all devices are.
        where_to_look: &'static str,
    },
    /// Several devices say this of themselves: disks that share a serial number, or the paths to one disk.
    #[error(
        "{what} belongs to {} SCSI devices: {}; write the address of the one that is meant, or its path below \
         /dev/disk/by-path or /dev/tape/by-path",
        .addresses.len(),
        list(.addresses)
    )]
    Several {
        /// The name.
        what: String,
        /// Of all of them.
        addresses: Vec<Hctl>,
    },
}

/// The first eight.
fn list(addresses: &[Hctl]) -> String {
    let mut words: Vec<String> = addresses.iter().take(8).map(Hctl::to_string).collect();
    if addresses.len() > words.len() {
        words.push("…".into());
    }
    words.join(", ")
}

/// Major number of `/dev/sgN` (Linux's `SCSI_GENERIC_MAJOR`, uapi/linux/major.h).
const SCSI_GENERIC_MAJOR: u64 = 21;

/// Finds SCSI devices and their sg nodes.
#[derive(Clone, Debug)]
pub struct Locator {
    sys: PathBuf,
    dev: PathBuf,
}

impl Default for Locator {
    fn default() -> Self {
        Self { sys: "/sys".into(), dev: "/dev".into() }
    }
}

impl Locator {
    /// The roots are `/sys` and `/dev`, unless a test imitates them.
    #[must_use]
    pub fn with_roots(sys: impl Into<PathBuf>, dev: impl Into<PathBuf>) -> Self {
        Self { sys: sys.into(), dev: dev.into() }
    }

    /// The sg node of the device with this address.
    ///
    /// # Errors
    ///
    /// [`LocateError::NoSuchAddress`], [`LocateError::NoSgNode`].
    pub fn by_address(&self, hctl: Hctl) -> Result<PathBuf, LocateError> {
        let device = self.device(hctl);
        if !device.exists() {
            return Err(LocateError::NoSuchAddress(hctl));
        }
        self.sg_node_of(&device)
    }

    /// The sg node of the device behind any of its nodes, or behind a link to one: `/dev/sgN`, `sdX`, `srN`, `stN`, `nstN`,
    /// `chN`, `/dev/disk/by-id/…`, `/dev/tape/by-id/…`.
    ///
    /// # Errors
    ///
    /// The other [`LocateError`]s.
    pub fn by_path(&self, path: &Path) -> Result<PathBuf, LocateError> {
        let meta =
            std::fs::metadata(path).map_err(|source| LocateError::Path { path: path.into(), source })?;
        let class = match meta.file_type() {
            kind if kind.is_char_device() => "char",
            kind if kind.is_block_device() => "block",
            _ => return Err(LocateError::NotANode(path.into())),
        };
        let (major, minor) = (major(meta.rdev()), minor(meta.rdev()));
        if class == "char" && major == SCSI_GENERIC_MAJOR {
            return path.canonicalize().map_err(|source| LocateError::Path { path: path.into(), source });
        }
        self.by_number(class, major, minor, path)
    }

    /// The address of the device with this sg node, as [`by_path`](Self::by_path) gives it.
    ///
    /// # Errors
    ///
    /// [`LocateError::NotScsi`].
    pub fn address_of(&self, sg_node: &Path) -> Result<Hctl, LocateError> {
        let not_scsi = || LocateError::NotScsi(sg_node.into());
        let name = sg_node.file_name().ok_or_else(not_scsi)?;
        let device = std::fs::read_link(self.sys.join("class/scsi_generic").join(name).join("device"));
        let device = device.map_err(|_| not_scsi())?;
        device.file_name().and_then(|name| name.to_str()?.parse().ok()).ok_or_else(not_scsi)
    }

    /// The sg node of the disk with these numbers of a block device; `path` is for errors.
    ///
    /// # Errors
    ///
    /// [`LocateError::NotScsi`], [`LocateError::NoSgNode`].
    pub fn by_block_number(&self, major: u64, minor: u64, path: &Path) -> Result<PathBuf, LocateError> {
        self.by_number("block", major, minor, path)
    }

    fn by_number(&self, class: &str, major: u64, minor: u64, path: &Path) -> Result<PathBuf, LocateError> {
        let device = self.sys.join("dev").join(class).join(format!("{major}:{minor}")).join("device");
        // A disk of another kind has a `device` too, but no SCSI address in it; a partition has none.
        if !device.join("scsi_device").exists() {
            return Err(LocateError::NotScsi(path.into()));
        }
        self.sg_node_of(&device)
    }

    fn device(&self, hctl: Hctl) -> PathBuf {
        self.sys.join("class/scsi_device").join(hctl.to_string()).join("device")
    }

    fn sg_node_of(&self, device: &Path) -> Result<PathBuf, LocateError> {
        let none = || LocateError::NoSgNode(device.into());
        let entry = std::fs::read_dir(device.join("scsi_generic")).map_err(|_| none())?.flatten().next();
        Ok(self.dev.join(entry.ok_or_else(none)?.file_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn addresses_are_four_plain_numbers() {
        assert_eq!(
            "8:0:2:18446744073709551615".parse(),
            Ok(Hctl { host: 8, channel: 0, target: 2, lun: u64::MAX })
        );
        for bad in [
            "",
            "1",
            "1:2:3",
            "1:2:3:4:5",
            "1:2:3:x",
            "+1:2:3:4",
            " 1:2:3:4",
            "1:2:3:4 ",
            "1::3:4",
            "1:2:3:99999999999999999999",
        ] {
            assert_eq!(bad.parse::<Hctl>(), Err(NotHctl), "{bad:?}");
        }
    }

    /// A sysfs as Linux makes it: one disk with an sg node, one device without.
    fn host(name: &str) -> (PathBuf, Locator) {
        let root = std::env::temp_dir().join(format!("pvscsi-locate-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for dir in [
            "sys/class/scsi_device/3:0:0:0/device/scsi_generic/sg4",
            "sys/class/scsi_device/3:0:1:0/device",
            "sys/dev/block/8:16/device/scsi_generic/sg4",
            "sys/dev/block/8:16/device/scsi_device/3:0:0:0",
            "sys/dev/block/254:0/device",
        ] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        let locator = Locator::with_roots(root.join("sys"), "/dev");
        (root, locator)
    }

    #[test]
    fn an_address_leads_to_the_sg_node() {
        let (root, locator) = host("address");
        assert_eq!(locator.by_address("3:0:0:0".parse().unwrap()).unwrap(), Path::new("/dev/sg4"));
        assert!(matches!(locator.by_address("3:0:1:0".parse().unwrap()), Err(LocateError::NoSgNode(_))));
        assert!(matches!(locator.by_address("9:0:0:0".parse().unwrap()), Err(LocateError::NoSuchAddress(_))));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_node_leads_to_the_sg_node() {
        let (root, locator) = host("node");
        let disk = Path::new("/dev/sdb");
        assert_eq!(locator.by_block_number(8, 16, disk).unwrap(), Path::new("/dev/sg4"));
        assert!(matches!(locator.by_block_number(8, 17, disk), Err(LocateError::NotScsi(_))), "a partition");
        assert!(
            matches!(locator.by_block_number(254, 0, disk), Err(LocateError::NotScsi(_))),
            "a virtio disk"
        );
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_is_no_node_is_said_so() {
        let locator = Locator::default();
        let error = locator.by_path(Path::new("/etc/passwd")).unwrap_err().to_string();
        assert_eq!(error, "/etc/passwd is no device node; a file as a disk is written file:/etc/passwd");
        let error = locator.by_path(Path::new("/dev/no-such-disk")).unwrap_err().to_string();
        assert!(error.starts_with("cannot find /dev/no-such-disk:"), "{error}");
        assert!(matches!(locator.by_path(Path::new("/dev/null")), Err(LocateError::NotScsi(_))));
    }
}
