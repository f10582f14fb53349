//! The name of a physical device, as it stands in a `p-dev` node: parsed, found, opened.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use pvscsi_sg::disk::{DEFAULT_MAX_TRANSFER, DiskIdentity, EmulatedDisk, FileDisk, Medium, MediumError};
use pvscsi_sg::{
    Engine, Hctl, LocateError, Locator, LogicalUnit, OpenError, ReadOnly, Reserved, SgDevice, Shared,
    SharedError, Wwn,
};

use crate::lio::saved::{Saved, SavedError};
use crate::lio::{Backing, Export, Lio, LioError};
use crate::options::Options;

/// What a guest's logical unit is made of. A name is looked up anew each time that it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PDev {
    /// The SCSI device at this address of the host.
    Address(Hctl),
    /// The SCSI device behind this node or link.
    Node(PathBuf),
    /// `wwn:HEX`: the SCSI device with this world wide name.
    Wwn(Wwn),
    /// `serial:TEXT`: the SCSI device with this unit serial number.
    Serial(String),
    /// `naa.HEX:LUN`: what LIO exports under this name, or did by its saved configuration; otherwise the SCSI device with this world
    /// wide name and this LUN. A file of LIO's is the same disk as with `file:PATH`, a volume or partition as with `block:PATH`.
    Naa(Export),
    /// An emulated disk on a file.
    File(PathBuf),
    /// An emulated disk on a block device of any kind: a volume, a partition, an array.
    Block(PathBuf),
    /// An emulated disk in memory, of so many bytes.
    Ram(u64),
}

/// Why a `p-dev` says nothing that we understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PDevError {
    /// None of the forms.
    #[error(
        "{0:?} names no device: write host:channel:target:lun, a path below /dev, wwn:HEX, serial:TEXT, naa.HEX:LUN, \
         file:PATH, block:/dev/PATH or ram:SIZE"
    )]
    Form(String),
    /// `wwn:` with what is no world wide name.
    #[error(
        "{0:?} has no world wide name: write wwn: and 16 or 32 hexadecimal digits, with or without 0x, naa. or eui. \
         before them"
    )]
    Wwn(String),
    /// `wwn:` with an identifier that is text.
    #[error(
        "{0:?} has a T10 identifier, which is no number: write serial:TEXT or a path below /dev/disk/by-id"
    )]
    T10(String),
    /// `serial:` with nothing.
    #[error("{0:?} has no serial number: write serial:TEXT")]
    Serial(String),
    /// `naa.` with what is neither an export of LIO nor a device's name and LUN.
    #[error(
        "{0:?} is not of the form naa.HEX:LUN: 1 to 16 or 32 hexadecimal digits and a decimal number; a device \
         whatever its LUN is written wwn:naa.HEX"
    )]
    Naa(String),
    /// `file:` with a path that depends on the working directory.
    #[error("{0:?} needs an absolute path")]
    Relative(String),
    /// `block:` with a path elsewhere.
    #[error("{0:?} needs a path below /dev; a disk on a file is written file:PATH")]
    NotBelowDev(String),
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
        if let Some(path) = text.strip_prefix("block:") {
            return if path.starts_with("/dev/") {
                Ok(Self::Block(path.into()))
            } else {
                Err(PDevError::NotBelowDev(text.into()))
            };
        }
        if text.starts_with("/dev/") {
            return Ok(Self::Node(text.into()));
        }
        if let Some(wwn) = text.strip_prefix("wwn:") {
            let error = if wwn.starts_with("t10.") { PDevError::T10 } else { PDevError::Wwn };
            return wwn.parse().map(Self::Wwn).map_err(|_| error(text.into()));
        }
        if let Some(serial) = text.strip_prefix("serial:") {
            let serial = serial.trim_matches(' ');
            return if serial.is_empty() {
                Err(PDevError::Serial(text.into()))
            } else {
                Ok(Self::Serial(serial.into()))
            };
        }
        if text.starts_with("naa.") {
            return text.parse().map(Self::Naa).map_err(|_| PDevError::Naa(text.into()));
        }
        Err(PDevError::Form(text.into()))
    }
}

impl fmt::Display for PDev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(hctl) => hctl.fmt(f),
            Self::Node(path) => path.display().fmt(f),
            Self::Wwn(wwn) => write!(f, "wwn:{wwn}"),
            Self::Serial(serial) => write!(f, "serial:{serial}"),
            Self::Naa(export) => export.fmt(f),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Block(path) => write!(f, "block:{}", path.display()),
            Self::Ram(bytes) => write!(f, "ram:{bytes}"),
        }
    }
}

/// Control characters, and those that end a line or turn the direction of what follows them (Unicode, UAX #9).
pub(crate) fn misleads(character: char) -> bool {
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
    /// LIO has something of this name, which cannot be used.
    #[error(transparent)]
    Lio(#[from] LioError),
    /// LIO's saved configuration has something of this name, which cannot be used.
    #[error(transparent)]
    Saved(#[from] SavedError),
    /// LIO's saved configuration has something of this name that is no name of a device.
    #[error("LIO's saved configuration has {export} as {source}")]
    SavedName {
        /// As given.
        export: Export,
        /// About the name.
        source: PDevError,
    },
    /// LIO has nothing of this name, and no device, or no single one, has it.
    #[error("LIO's xen-pvscsi exports no {export}, and {source}")]
    Naa {
        /// As given.
        export: Export,
        /// About the devices.
        source: LocateError,
    },
    /// The sg node does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file, the block device or the memory is not to be had.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// A block size for a device that has its own.
    #[error("block-size= is for file:, block: and ram: only; the blocks of {0} are as the device has them")]
    BlockSize(String),
    /// No thread for the disk.
    #[error("cannot start a thread for the disk: {0}")]
    Thread(io::Error),
    /// No place for reservations.
    #[error("reservations: {0}")]
    Shared(#[from] SharedError),
}

/// Where names are looked up.
#[derive(Debug, Default)]
struct Host {
    locator: Locator,
    lio: Lio,
    saved: Saved,
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// The sg node of a SCSI device.
    Sg(PathBuf),
    File(PathBuf),
    Block(PathBuf),
    Ram(u64),
}

impl PDev {
    /// The device of the nodes `p-dev` and `p-devname`. Toolstacks put the address that a device had when it was attached into
    /// the first and what the user wrote into the second: a name there means the same device after a renumbering.
    ///
    /// # Errors
    ///
    /// When `p-dev` is no name of a device.
    pub fn from_nodes(p_dev: &str, p_devname: Option<&[u8]>) -> Result<Self, PDevError> {
        let named = p_devname.and_then(|name| str::from_utf8(name).ok()?.parse().ok());
        match (p_dev.parse()?, named) {
            (
                Self::Address(_),
                Some(name @ (Self::Node(_) | Self::Wwn(_) | Self::Serial(_) | Self::Naa(_))),
            ) => Ok(name),
            (p_dev, _) => Ok(p_dev),
        }
    }

    /// Finds and opens the device, in the thread whose credentials the worker will have. With `shared`, its guests' reservations
    /// are kept there. The engine is that of a SCSI device.
    ///
    /// # Errors
    ///
    /// [`PDevOpenError`] says what and where.
    pub fn open(
        &self,
        options: Options,
        engine: Engine,
        shared: Option<Shared>,
    ) -> Result<Box<dyn LogicalUnit>, PDevOpenError> {
        let mut unit = self.open_found(self.find(&Host::default())?, options, engine)?;
        if let Some(shared) = shared {
            unit = Box::new(Reserved::new(unit, shared)?);
        }
        // In front of them: who may not write may not shut others out.
        Ok(if options.read_only { Box::new(ReadOnly::new(unit)) } else { unit })
    }

    /// The bare unit. Only files and block devices can be opened for reading only: the sg driver takes commands, reads too, by
    /// write(2).
    fn open_found(
        &self,
        found: Found,
        options: Options,
        engine: Engine,
    ) -> Result<Box<dyn LogicalUnit>, PDevOpenError> {
        let sized = |medium: Medium| match options.block_size {
            Some(size) => medium.with_block_size(size),
            None => Ok(medium),
        };
        // File systems and devices may block.
        let on_file = |name: Self, medium| match FileDisk::new(disk(&name, medium)) {
            Ok(disk) => Ok(Box::new(disk) as Box<dyn LogicalUnit>),
            Err(error) => Err(PDevOpenError::Thread(error)),
        };
        match found {
            Found::Sg(_) if options.block_size.is_some() => Err(PDevOpenError::BlockSize(self.to_string())),
            Found::Sg(node) => Ok(Box::new(SgDevice::open(&node, engine)?)),
            Found::File(path) => {
                let medium = sized(Medium::open_file(&path, options.read_only)?)?;
                on_file(Self::File(path), medium)
            }
            Found::Block(path) => {
                let medium = sized(Medium::open_block(&path, options.read_only, options.shared)?)?;
                on_file(Self::Block(path), medium)
            }
            Found::Ram(bytes) => Ok(Box::new(disk(self, sized(Medium::ram(bytes)?)?))),
        }
    }

    /// What the name stands for now: an address, a file, a block device or memory. An address is itself, whether anything is there or not.
    ///
    /// # Errors
    ///
    /// [`PDevOpenError`] says what and where.
    pub fn resolve(&self) -> Result<Self, PDevOpenError> {
        self.resolve_on(&Host::default())
    }

    fn resolve_on(&self, host: &Host) -> Result<Self, PDevOpenError> {
        if let Self::Address(_) = self {
            return Ok(self.clone());
        }
        Ok(match self.find(host)? {
            Found::Sg(node) => Self::Address(host.locator.address_of(&node)?),
            Found::File(path) => Self::File(path),
            Found::Block(path) => Self::Block(path),
            Found::Ram(bytes) => Self::Ram(bytes),
        })
    }

    fn find(&self, host: &Host) -> Result<Found, PDevOpenError> {
        let Host { locator, lio, saved } = host;
        let address = match self {
            Self::Node(path) => return Ok(Found::Sg(locator.by_path(path)?)),
            Self::File(path) => return Ok(Found::File(path.clone())),
            Self::Block(path) => return Ok(Found::Block(path.clone())),
            Self::Ram(bytes) => return Ok(Found::Ram(*bytes)),
            Self::Address(hctl) => *hctl,
            Self::Wwn(wwn) => locator.by_wwn(wwn, None)?,
            Self::Serial(serial) => locator.by_serial(serial)?,
            Self::Naa(export) => match lio.find(export, locator)? {
                Some(Backing::Scsi(hctl)) => hctl,
                Some(Backing::File(path)) => return Ok(Found::File(path)),
                Some(Backing::Block(path)) => return Ok(Found::Block(path)),
                None => match saved.find(export)? {
                    Some(name) => return Self::saved(export, &name)?.find_saved(host),
                    None => locator
                        .by_wwn(&export.wwn, Some(export.lun))
                        .map_err(|source| PDevOpenError::Naa { export: export.clone(), source })?,
                },
            },
        };
        Ok(Found::Sg(locator.by_address(address)?))
    }

    /// LIO serves block devices of all kinds by their paths.
    fn find_saved(&self, host: &Host) -> Result<Found, PDevOpenError> {
        match (self, self.find(host)) {
            (Self::Node(path), Err(PDevOpenError::Locate(LocateError::NotScsi(_)))) => {
                Ok(Found::Block(path.clone()))
            }
            (_, found) => found,
        }
    }

    /// The device of a saved configuration, which is none that leads there again.
    fn saved(export: &Export, name: &str) -> Result<Self, PDevOpenError> {
        match name.parse() {
            Ok(pdev @ (Self::Address(_) | Self::Node(_) | Self::File(_))) => Ok(pdev),
            Ok(other) => Err(PDevOpenError::SavedName {
                export: export.clone(),
                source: PDevError::Form(other.to_string()),
            }),
            Err(source) => Err(PDevOpenError::SavedName { export: export.clone(), source }),
        }
    }
}

/// The same name is the same disk to the guest, whenever and wherever it is opened.
fn disk(name: &PDev, medium: Medium) -> EmulatedDisk {
    EmulatedDisk::new(medium, DiskIdentity::from_name(&name.to_string()), DEFAULT_MAX_TRANSFER)
}

#[cfg(test)]
mod tests;
