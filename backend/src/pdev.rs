//! The name of a physical device, as it stands in a `p-dev` node: parsed, found, opened.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use pvscsi_sg::disk::{
    DEFAULT_MAX_TRANSFER_BLOCKS, DiskIdentity, EmulatedDisk, Medium, MediumError, ThreadedDisk,
};
use pvscsi_sg::{Hctl, LocateError, Locator, LogicalUnit, OpenError, ReadOnly, SgDevice};

use crate::options::Options;

/// What a guest's logical unit is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PDev {
    /// The SCSI device at this address of the host.
    Address(Hctl),
    /// The SCSI device behind this node or link.
    Node(PathBuf),
    /// An emulated disk on a file.
    File(PathBuf),
    /// An emulated disk in memory, of so many bytes.
    Ram(u64),
}

/// Why a `p-dev` says nothing that we understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PDevError {
    /// None of the forms.
    #[error("{0:?} names no device: write host:channel:target:lun, a path below /dev, file:PATH or ram:SIZE")]
    Form(String),
    /// A LIO target name.
    #[error(
        "{0:?} is a LIO target name, which this version does not resolve: name the device itself, /dev/disk/by-id/…"
    )]
    Naa(String),
    /// `file:` with a path that depends on the working directory.
    #[error("{0:?} needs an absolute path")]
    Relative(String),
    /// `ram:` with a size that is none.
    #[error("{0:?} has no size: write ram:64M, a multiple of 512 bytes, with K, M, G or T")]
    Size(String),
}

impl FromStr for PDev {
    type Err = PDevError;

    fn from_str(text: &str) -> Result<Self, PDevError> {
        // A name that could forge a line of a log is none.
        if text.chars().any(misleads) {
            return Err(PDevError::Form(text.into()));
        }
        if let Ok(hctl) = text.parse() {
            return Ok(Self::Address(hctl));
        }
        if let Some(size) = text.strip_prefix("ram:") {
            let bytes = parse_size(size).filter(|bytes| *bytes > 0 && bytes.is_multiple_of(512));
            return bytes.map(Self::Ram).ok_or_else(|| PDevError::Size(text.into()));
        }
        if let Some(path) = text.strip_prefix("file:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::File(path))
            } else {
                Err(PDevError::Relative(text.into()))
            };
        }
        if text.starts_with("/dev/") {
            return Ok(Self::Node(text.into()));
        }
        Err(if text.starts_with("naa.") { PDevError::Naa(text.into()) } else { PDevError::Form(text.into()) })
    }
}

impl fmt::Display for PDev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(hctl) => hctl.fmt(f),
            Self::Node(path) => path.display().fmt(f),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Ram(bytes) => write!(f, "ram:{bytes}"),
        }
    }
}

/// Control characters, and those that end a line or turn the direction of what follows them (Unicode, UAX #9).
fn misleads(character: char) -> bool {
    let turns = matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || turns
}

/// Bytes from a number with an optional K, M, G or T (powers of 1024).
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => (text.get(..text.len().checked_sub(1)?)?, 10),
        b'M' => (text.get(..text.len().checked_sub(1)?)?, 20),
        b'G' => (text.get(..text.len().checked_sub(1)?)?, 30),
        b'T' => (text.get(..text.len().checked_sub(1)?)?, 40),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1_u64.checked_shl(shift)?)
}

/// Why a device could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PDevOpenError {
    /// The name leads nowhere.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The sg node does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file or the memory is not to be had.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// No thread for the disk.
    #[error("cannot start a thread for the disk: {0}")]
    Thread(io::Error),
}

impl PDev {
    /// The device of the nodes `p-dev` and `p-devname`. Toolstacks put the address that a device had when it was attached into
    /// the first and what the user wrote into the second: a path there names the same device after a renumbering.
    ///
    /// # Errors
    ///
    /// When `p-dev` is no name of a device.
    pub fn from_nodes(p_dev: &str, p_devname: Option<&[u8]>) -> Result<Self, PDevError> {
        let named = p_devname.and_then(|name| str::from_utf8(name).ok()?.parse().ok());
        match (p_dev.parse()?, named) {
            (Self::Address(_), Some(Self::Node(path))) => Ok(Self::Node(path)),
            (p_dev, _) => Ok(p_dev),
        }
    }

    /// Finds and opens the device, in the thread whose credentials the worker will have.
    ///
    /// # Errors
    ///
    /// [`PDevOpenError`] says what and where.
    pub fn open(&self, options: Options) -> Result<Box<dyn LogicalUnit>, PDevOpenError> {
        let unit = self.open_unit(options.read_only)?;
        Ok(if options.read_only { Box::new(ReadOnly::new(unit)) } else { unit })
    }

    /// The bare unit. Only a file can be opened for reading only: the sg driver takes commands, reads too, by write(2).
    fn open_unit(&self, read_only: bool) -> Result<Box<dyn LogicalUnit>, PDevOpenError> {
        let locator = Locator::default();
        match self {
            Self::Address(hctl) => Ok(Box::new(SgDevice::open(&locator.by_address(*hctl)?)?)),
            Self::Node(path) => Ok(Box::new(SgDevice::open(&locator.by_path(path)?)?)),
            Self::File(path) => {
                let disk = self.disk(Medium::open_file(path, read_only)?);
                Ok(Box::new(ThreadedDisk::start(disk).map_err(PDevOpenError::Thread)?))
            }
            Self::Ram(bytes) => Ok(Box::new(self.disk(Medium::ram(*bytes)?))),
        }
    }

    /// The address that a SCSI device has now; `None` for an emulated disk.
    ///
    /// # Errors
    ///
    /// [`PDevOpenError`] says what and where.
    pub fn address(&self) -> Result<Option<Hctl>, PDevOpenError> {
        let locator = Locator::default();
        Ok(match self {
            Self::Address(hctl) => Some(*hctl),
            Self::Node(path) => Some(locator.address_of(&locator.by_path(path)?)?),
            Self::File(_) | Self::Ram(_) => None,
        })
    }

    fn disk(&self, medium: Medium) -> EmulatedDisk {
        // The same name is the same disk to the guest, whenever and wherever it is opened.
        let identity = DiskIdentity::from_name(&self.to_string());
        EmulatedDisk::new(medium, identity, DEFAULT_MAX_TRANSFER_BLOCKS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_understood() {
        let parse = |text: &str| text.parse::<PDev>().unwrap();
        assert_eq!(parse("8:0:2:1"), PDev::Address("8:0:2:1".parse().unwrap()));
        for path in
            ["/dev/sg3", "/dev/sda", "/dev/sr0", "/dev/nst0", "/dev/ch0", "/dev/disk/by-id/wwn-0x5000"]
        {
            assert_eq!(parse(path), PDev::Node(path.into()));
        }
        // The kernel's backend cuts names at 31 bytes.
        let long = format!("/dev/disk/by-id/scsi-{}", "3".repeat(200));
        assert_eq!(parse(&long).to_string(), long);
        assert_eq!(parse("file:/srv/disk.img"), PDev::File("/srv/disk.img".into()));
        assert_eq!(parse("ram:64M"), PDev::Ram(64 << 20));
        assert_eq!(parse("ram:512"), PDev::Ram(512));
        for text in ["8:0:2:1", "/dev/sg3", "file:/srv/disk.img", "ram:512"] {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn the_users_own_path_outlives_an_address() {
        let node = PDev::Node("/dev/disk/by-id/wwn-0x5".into());
        let address = PDev::Address("8:0:2:1".parse().unwrap());
        for (p_dev, name, expected) in [
            ("8:0:2:1", Some("/dev/disk/by-id/wwn-0x5"), &node),
            ("8:0:2:1", Some("8:0:2:1"), &address),
            ("8:0:2:1", Some("sda"), &address),
            ("8:0:2:1", None, &address),
            ("/dev/disk/by-id/wwn-0x5", Some("/dev/sda"), &node),
        ] {
            assert_eq!(&PDev::from_nodes(p_dev, name.map(str::as_bytes)).unwrap(), expected);
        }
        assert!(PDev::from_nodes("sda", Some(b"/dev/sda")).is_err());
        assert_eq!(PDev::from_nodes("8:0:2:1", Some(b"/dev/\xff")).unwrap(), address);
    }

    #[test]
    fn what_is_no_device_is_refused_with_the_remedy() {
        let refuse = |text: &str| text.parse::<PDev>().unwrap_err();
        for text in [
            "",
            "sda",
            "8:0:2",
            "disk.img",
            "../dev/sda",
            "/etc/passwd",
            "ram",
            "\u{1F4BE}",
            "/dev/sda\nroot",
            "file:/a\u{7}",
            "/dev/\u{202e}ads",
        ] {
            assert_eq!(refuse(text), PDevError::Form(text.into()));
        }
        for text in [
            "ram:",
            "ram:0",
            "ram:513",
            "ram:-1",
            "ram:64X",
            "ram:99999999999999999999",
            "ram:99999999T",
            "ram:M",
        ] {
            assert_eq!(refuse(text), PDevError::Size(text.into()));
        }
        assert_eq!(refuse("file:disk.img"), PDevError::Relative("file:disk.img".into()));
        assert!(refuse("naa.6001405:0").to_string().contains("/dev/disk/by-id"));
        assert!(
            refuse("a\nb\u{7}").to_string().contains(r"a\nb\u{7}"),
            "control characters never reach a log"
        );
    }

    #[test]
    fn a_name_gives_the_same_disk_each_time() {
        let open = || PDev::Ram(1 << 20).open(Options::default()).unwrap();
        assert_eq!(open().device_type(), 0);
        assert!(PDev::File("/no/such/file".into()).open(Options::default()).is_err());
    }
}
