//! Who else has a device: this host's own storage and LIO here, other guests in [`guests`].

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::libc::{O_EXCL, O_NONBLOCK};
use nix::sys::stat::{major, minor};
use pvscsi_sg::Hctl;
use pvscsi_sg::disk::MediumError;

use crate::pdev::{PDev, PDevOpenError, misleads};

mod backstores;
mod block;
pub mod guests;
mod holders;
#[cfg(test)]
mod tests;

/// What a name leads to now. Two names of one device give the same; of parts, and of one device by two roads, `clashes_with` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The SCSI device at this address.
    Scsi(Hctl),
    /// A file, by whatever path.
    File {
        /// `st_dev`.
        device: u64,
        /// `st_ino`.
        inode: u64,
    },
    /// A block device as such, not as what SCSI commands go to.
    Block {
        /// `st_rdev`.
        device: u64,
        /// The same of the disk that it is a partition of; its own number where it is none.
        disk: u64,
        /// The SCSI device that the disk is.
        scsi: Option<Hctl>,
    },
}

impl Identity {
    /// What the name leads to; `None` for a disk in memory, which is another one each time.
    ///
    /// # Errors
    ///
    /// When it leads nowhere.
    pub fn of(pdev: &PDev) -> Result<Option<Self>, PDevOpenError> {
        match pdev.resolve()? {
            PDev::Address(address) => Ok(Some(Self::Scsi(address))),
            PDev::File(path) => match Self::of_file(&path) {
                Ok(file) => Ok(Some(file)),
                Err(source) => Err(MediumError::Open { path, source }.into()),
            },
            PDev::Block(path) => match fs::metadata(&path) {
                Ok(meta) if meta.file_type().is_block_device() => {
                    Ok(Some(Host::default().block(major(meta.rdev()), minor(meta.rdev()))))
                }
                Ok(_) => Err(MediumError::NotABlockDevice(path).into()),
                Err(source) => Err(MediumError::Open { path, source }.into()),
            },
            _ => Ok(None),
        }
    }

    /// Whether writes to one change the other: the same device, a disk and a partition of it, or a SCSI device and its block device.
    /// Only what is the same can be shared: commands to a SCSI device pass the host's cache of its blocks by.
    pub(crate) fn clashes_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Block { device, disk, .. }, Self::Block { device: other, disk: of_other, .. }) => {
                device == other || device == of_other || disk == other
            }
            (Self::Block { scsi, .. }, Self::Scsi(hctl)) | (Self::Scsi(hctl), Self::Block { scsi, .. }) => {
                *scsi == Some(*hctl)
            }
            _ => self == other,
        }
    }

    fn of_file(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        Ok(Self::File { device: meta.dev(), inode: meta.ino() })
    }
}

/// Somebody who has a device, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who has it, as a sentence.
    pub what: String,
    /// What makes them let go of it: commands for a shell, or a few words.
    pub remedy: String,
}

impl Holder {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: harmless(what), remedy: harmless(remedy) }
    }
}

/// Names of volumes and of directories are anybody's: what could forge a line of a log is shown as its number.
pub(crate) fn harmless(text: impl Into<String>) -> String {
    let text = text.into();
    let shown = |c: char| if misleads(c) { c.escape_unicode().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; to free it: {}", self.what, self.remedy)
    }
}

/// All of them in one text; "" for none.
#[must_use]
pub fn list(holders: &[Holder]) -> String {
    holders.iter().map(Holder::to_string).collect::<Vec<_>>().join("; and ")
}

/// Others, such as udev and ourselves, open a device alone for a moment: so often it is looked at again,
const TRIES: u32 = 5;
/// after so long.
const PAUSE: Duration = Duration::from_millis(20);

/// What this host says of its devices: `/sys`, `/proc`, `/dev`, or a test's imitation of them below another root.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    /// Opens a block device as its only user.
    open_alone: fn(&Path) -> io::Result<()>,
}

impl Default for Host {
    fn default() -> Self {
        Self { root: "/".into(), open_alone }
    }
}

/// Whoever builds something on a block device claims it, and keeps others that do so away: open(2), `O_EXCL` without `O_CREAT`.
/// Read-only, for udev looks anew at a disk that somebody could have written to.
fn open_alone(node: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).custom_flags(O_EXCL | O_NONBLOCK).open(node).map(drop)
}

impl Host {
    /// Of the trees below `root`.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), ..Self::default() }
    }

    /// Who on this host has the device. Empty: nobody; a tape or a changer that a program has open is not noticed, for the
    /// kernel does not tell.
    #[must_use]
    pub fn holders(&self, device: &Identity) -> Vec<Holder> {
        match device {
            Identity::Scsi(hctl) => match self.disk(*hctl) {
                Some(disk) => self.holders_of_disk(&disk, Some(*hctl), &self.nodes(*hctl)),
                None => self.backstores(&self.nodes(*hctl), Some(*hctl)),
            },
            Identity::Block { device, scsi, .. } => match self.block_name(*device) {
                Some(name) => self.holders_of_disk(&name, *scsi, &self.family(&name)),
                None => Vec::new(),
            },
            Identity::File { .. } => {
                let mut found = self.loop_devices(device);
                found.extend(self.backstores_of_file(device));
                found
            }
        }
    }

    /// Of a block device with this name, whose `nodes` LIO may have.
    fn holders_of_disk(&self, disk: &str, scsi: Option<Hctl>, nodes: &[String]) -> Vec<Holder> {
        for _ in 0..TRIES {
            let error = match self.open_disk(scsi, disk) {
                // Nobody has claimed it, so there is nothing to look for.
                Ok(()) => return Vec::new(),
                Err(error) => error,
            };
            let mut found = self.block_holders(disk);
            found.extend(self.backstores(nodes, scsi));
            if !found.is_empty() || error.kind() != io::ErrorKind::ResourceBusy {
                return found;
            }
            thread::sleep(PAUSE);
        }
        let disk = disk.replace('!', "/");
        vec![Holder::new(
            format!(
                "something on this host has claimed /dev/{disk} and does not say what it is (a guest's server, ZFS, another container's mount?)"
            ),
            format!("find it with lsblk /dev/{disk} or fuser -v /dev/{disk}, and stop it"),
        )]
    }

    fn open_disk(&self, scsi: Option<Hctl>, disk: &str) -> io::Result<()> {
        let state = scsi.and_then(|hctl| self.read(&format!("sys/class/scsi_host/host{}/state", hctl.host)));
        // The disk's driver would let us wait for the end of the kernel's error handling, which may take minutes.
        if state.is_some_and(|state| state.contains("recovery")) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // Sysfs writes the slash of a name as an exclamation mark.
        (self.open_alone)(&self.path(&format!("dev/{}", disk.replace('!', "/"))))
    }

    /// The name of the block device: sda, sr0.
    pub(crate) fn disk(&self, hctl: Hctl) -> Option<String> {
        self.names(&format!("{}/block", device(hctl))).into_iter().next()
    }

    /// How much a disk's host adapter takes in a command, and the disk's blocks, in bytes: the sg driver refuses more. `None` for what
    /// is no disk.
    pub(crate) fn transfer_limit(&self, hctl: Hctl) -> Option<(u64, u64)> {
        let queue = format!("sys/class/block/{}/queue", self.disk(hctl)?);
        let number = |what: &str| self.read(&format!("{queue}/{what}"))?.parse::<u64>().ok();
        Some((number("max_hw_sectors_kb")?.saturating_mul(1024), number("logical_block_size")?))
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// The text of a file without the line's end.
    pub(crate) fn read(&self, below: &str) -> Option<String> {
        let bytes = fs::read(self.path(below)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    /// What is in a directory, in order.
    pub(crate) fn names(&self, below: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(below)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }
}

/// The directory of a SCSI device.
pub(crate) fn device(hctl: Hctl) -> String {
    format!("sys/class/scsi_device/{hctl}/device")
}

/// A word for a shell: as it is, or in quotes.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
