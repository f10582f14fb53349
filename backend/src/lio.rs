//! What Linux's own backend, xen-scsiback, exports through LIO: `naa.HEX:LUN` in its configurations leads here.
//!
//! An export is a link in LIO's configfs from `xen-pvscsi/naa.HEX/tpgt_N/lun/lun_LUN/` to a backstore `core/KIND_N/NAME`, whose
//! file `info` says what is behind it (`show_configfs_dev_params` in the kernel's drivers/target/target_core_{pscsi,iblock,file}.c);
//! its `control` can only be written. The directory `xen-pvscsi` is there as long as the module xen-scsiback is, beside which
//! nobody serves ([`refuse_beside_kernel`](crate::serve::refuse_beside_kernel)). So an export is seen by what looks a name up
//! before the change from one backend to the other; afterwards LIO's saved configuration still tells what it was ([`saved`]).
//!
//! A backstore that is exported is always enabled: LIO links no other, refuses any write to `enable` but 1, and a link keeps its
//! target from being removed. An enabled backstore of kind pscsi on a disk, or of kind iblock, holds the disk for itself. Our
//! commands would pass it by, so such a disk is refused until the backstore is deleted. Tapes, changers and files are not held.

use std::fmt;
use std::fs::DirEntry;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use pvscsi_sg::{Hctl, LocateError, Locator, NotWwn, Wwn};

/// Most bytes of a file of configfs (`SIMPLE_ATTR_SIZE`, fs/configfs/file.c).
const ATTRIBUTE_MAX: u64 = 4096;

/// The name of an export, `naa.HEX:LUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The target's name, which need not be that of any device.
    pub wwn: Wwn,
    /// The LUN.
    pub lun: u64,
}

impl FromStr for Export {
    type Err = NotWwn;

    fn from_str(text: &str) -> Result<Self, NotWwn> {
        let (digits, lun) = text.strip_prefix("naa.").and_then(|rest| rest.split_once(':')).ok_or(NotWwn)?;
        let plain = lun.bytes().all(|byte| byte.is_ascii_digit());
        let lun = lun.parse().ok().filter(|_| plain).ok_or(NotWwn)?;
        Ok(Self { wwn: Wwn::naa(digits)?, lun })
    }
}

impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.wwn, self.lun)
    }
}

/// What is behind an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A SCSI device.
    Scsi(Hctl),
    /// A file with the blocks of a disk.
    File(PathBuf),
    /// A block device that is no SCSI device, or that LIO serves as a file.
    Block(PathBuf),
}

/// Why an export cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LioError {
    /// Configfs cannot be looked at.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The target has the LUN in several groups.
    #[error("{export} leads to several of LIO's backstores: {stores}; write the device itself")]
    Several {
        /// As given.
        export: String,
        /// All of them.
        stores: String,
    },
    /// It leads to a backstore that cannot be used.
    #[error("{export} is LIO's backstore {store}, {why}")]
    Backstore {
        /// As given.
        export: String,
        /// Kind, number and name.
        store: String,
        /// What is wrong with it.
        why: Box<Unusable>,
    },
}

/// Why a backstore cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// LIO keeps the disk for itself.
    #[error(
        "which holds {disk} as long as it exists: delete it with targetcli /backstores/{shelf} delete {}, or with rm {} and \
         rmdir {}, and write {instead} in its place",
        .store.file_name().unwrap_or_default().display(),
        .link.display(),
        .store.display()
    )]
    Held {
        /// As the backstore names it.
        disk: String,
        /// Kind of the backstore, as targetcli calls it.
        shelf: &'static str,
        /// The export's link to the backstore.
        link: PathBuf,
        /// The backstore's directory.
        store: PathBuf,
        /// What means the disk, and no LIO.
        instead: String,
    },
    /// The device is gone, or is none.
    #[error("but {0}")]
    Device(#[from] LocateError),
    /// An emulated disk would look different.
    #[error("whose blocks have {0} bytes; those of file: have 512, or 4096 with block-size=4096")]
    BlockSize(String),
    /// Memory of the kernel, another program, or something newer than this version.
    #[error("of a kind that nobody but LIO can serve; there are file:PATH, block:/dev/PATH and ram:SIZE")]
    Kind,
    /// `info` is not what we know.
    #[error("whose {}/info is not understood", .0.display())]
    Info(PathBuf),
}

/// LIO's configfs: `/sys/kernel/config/target`, or a test's imitation of it.
#[derive(Clone, Debug)]
pub struct Lio {
    root: PathBuf,
}

impl Default for Lio {
    fn default() -> Self {
        Self::with_root("/sys/kernel/config/target")
    }
}

/// A link to a backstore, and where it leads.
struct Link {
    link: PathBuf,
    store: PathBuf,
}

impl Lio {
    /// The root is the directory `target`.
    #[must_use]
    pub fn with_root(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// What is behind an export; `None` when LIO has none of this name, or is not there.
    ///
    /// # Errors
    ///
    /// [`LioError`] says which backstore cannot be used, and what to write instead.
    pub fn find(&self, export: &Export, locator: &Locator) -> Result<Option<Backing>, LioError> {
        let mut links = self.links(export)?;
        links.sort_by(|one, other| one.store.cmp(&other.store));
        links.dedup_by(|one, other| one.store == other.store);
        let link = match links.as_slice() {
            [] => return Ok(None),
            [link] => link,
            several => {
                let stores: Vec<String> = several.iter().map(Link::to_string).collect();
                return Err(LioError::Several { export: export.to_string(), stores: stores.join(", ") });
            }
        };
        let path = link.store.join("info");
        let info = read(&path).map_err(|source| LioError::Read { path, source })?;
        link.backing(&info, locator).map(Some).map_err(|why| LioError::Backstore {
            export: export.to_string(),
            store: link.to_string(),
            why: Box::new(why),
        })
    }

    fn links(&self, export: &Export) -> Result<Vec<Link>, LioError> {
        let mut links = Vec::new();
        let target = export.wwn.to_string();
        let lun = format!("lun/lun_{}", export.lun);
        for target in entries(&self.root.join("xen-pvscsi"), |name| name.eq_ignore_ascii_case(&target))? {
            for group in entries(&target.path(), |name| name.starts_with("tpgt_"))? {
                // Beside the link there are attributes, and a directory with statistics.
                for entry in entries(&group.path().join(&lun), |_| true)? {
                    let link = entry.path();
                    if link.is_symlink() {
                        let store = link
                            .canonicalize()
                            .map_err(|source| LioError::Read { path: link.clone(), source })?;
                        links.push(Link { link, store });
                    }
                }
            }
        }
        Ok(links)
    }
}

impl Link {
    /// Kind and number of the backstore's group, such as `pscsi_0`.
    fn group(&self) -> &str {
        self.store.parent().and_then(|group| group.file_name()?.to_str()).unwrap_or_default()
    }

    fn backing(&self, info: &str, locator: &Locator) -> Result<Backing, Unusable> {
        let unknown = || Unusable::Info(self.store.clone());
        let (kind, number) = self.group().rsplit_once('_').unwrap_or_default();
        match kind {
            "pscsi" => {
                let hctl = pscsi(info, number).ok_or_else(unknown)?;
                // Disks, and zoned ones (SPC-5, 6.6.2).
                if matches!(locator.device_type(hctl)?, 0 | 0x14) {
                    return Err(self.held(hctl.to_string(), "pscsi", name_of(hctl, locator)));
                }
                Ok(Backing::Scsi(hctl))
            }
            "iblock" => {
                let (path, major, minor) = iblock(info).ok_or_else(unknown)?;
                let (backing, instead) = match locator.by_block_number(major, minor, Path::new(path)) {
                    Ok(node) => {
                        let hctl = locator.address_of(&node)?;
                        (Backing::Scsi(hctl), name_of(hctl, locator))
                    }
                    Err(LocateError::NotScsi(_)) => (Backing::Block(path.into()), format!("block:{path}")),
                    Err(error) => return Err(error.into()),
                };
                // Newer kernels can be told to share it.
                if info.contains("exclusive: 0\n") {
                    return Ok(backing);
                }
                Err(self.held(path.into(), "block", instead))
            }
            "fileio" => {
                let (path, block_size) = fileio(info).ok_or_else(unknown)?;
                if path.starts_with("/dev/") {
                    return Ok(Backing::Block(path.into()));
                }
                if block_size != "512" {
                    return Err(Unusable::BlockSize(block_size.into()));
                }
                Ok(Backing::File(path.into()))
            }
            _ => Err(Unusable::Kind),
        }
    }

    fn held(&self, disk: String, shelf: &'static str, instead: String) -> Unusable {
        Unusable::Held { disk, shelf, link: self.link.clone(), store: self.store.clone(), instead }
    }
}

/// What means a SCSI device.
fn name_of(hctl: Hctl, locator: &Locator) -> String {
    locator.wwn_of(hctl).map_or_else(|| hctl.to_string(), |wwn| format!("wwn:{wwn}"))
}

/// The backstore, as `pscsi_0/name`.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group(), self.store.file_name().unwrap_or_default().display())
    }
}

/// `SCSI Device Bus Location: Channel ID: 0 Target ID: 2 LUN: 1 Host ID: 8`. In place of the host stands `PHBA Mode` when the
/// group belongs to one host, whose number it then has.
pub(crate) fn pscsi(info: &str, group: &str) -> Option<Hctl> {
    let channel = between(info, "Channel ID: ", " ")?;
    let target = between(info, "Target ID: ", " ")?;
    let lun = between(info, "LUN: ", " ")?;
    let host = match info.split_once("Host ID: ")?.1.lines().next()?.trim_end() {
        "PHBA Mode" => group,
        host => host,
    };
    format!("{host}:{channel}:{target}:{lun}").parse().ok()
}

/// `iBlock device: sdb  UDEV PATH: /dev/sdb  readonly: 0`, and on a line of its own `Major: 8 Minor: 16  CLAIMED: IBLOCK`.
fn iblock(info: &str) -> Option<(&str, u64, u64)> {
    let path = between(info, "UDEV PATH: ", "  readonly: ")?;
    let number = |label, end| between(info, label, end)?.trim().parse().ok();
    Some((path, number("Major: ", " ")?, number("Minor: ", "CLAIMED")?))
}

/// `SectorSize: 512  HwMaxSectors: 16384`, and behind it `File: /srv/disk.img  Size: 1048576  Mode: O_DSYNC`.
fn fileio(info: &str) -> Option<(&str, &str)> {
    let block_size = between(info, "SectorSize: ", " ")?;
    let (path, _) = info.split_once("File: ")?.1.rsplit_once("  Size: ")?;
    path.starts_with('/').then_some((path, block_size))
}

fn between<'a>(text: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    Some(text.split_once(before)?.1.split_once(behind)?.0)
}

/// The entries of a directory with such names; none where it is not there.
fn entries(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<DirEntry>, LioError> {
    let listed = std::fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    match listed {
        Ok(mut entries) => {
            entries.retain(|entry| entry.file_name().to_str().is_some_and(&wanted));
            Ok(entries)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(LioError::Read { path: path.into(), source }),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(ATTRIBUTE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

pub mod saved;
#[cfg(test)]
pub(crate) mod tests;
