//! Reads and writes that others carry out for the disk: it says which, and where.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::cdb::Operation;
use super::{EmulatedDisk, sense};
use crate::scsi::{Cdb, DataDirection, Sense};
use crate::sys::reactor::Way;

/// Data of a command that goes between its buffer and the medium's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) way: Way,
    /// Where in the file.
    pub(super) offset: u64,
    /// How much; never 0.
    pub(super) bytes: u32,
    /// A sync has to follow.
    pub(super) sync: bool,
    lba: u64,
}

impl Transfer {
    /// What to tell when the sync failed.
    pub(super) fn not_synced(&self, error: &io::Error) -> Sense {
        sense::write_failed(error, self.lba)
    }
}

impl EmulatedDisk {
    /// The file with the data.
    pub(super) fn file(&self) -> Arc<File> {
        self.medium.file()
    }

    /// What is left to do of a READ or WRITE that nothing speaks against. `None`: it has to be [performed](Self::perform), since it is
    /// another command, asks for more than its data, will be refused, or the file is to be looked at first. Does no I/O.
    pub(super) fn transfer(&self, cdb: &Cdb, direction: DataDirection, room: usize) -> Option<Transfer> {
        if self.is_to_tell_or_look() {
            return None;
        }
        let operation = Operation::decode(cdb).ok()?;
        let (way, extent) = match operation {
            Operation::Read { extent, fua: false } => (Way::Read, extent),
            Operation::Write { extent, .. } => (Way::Write, extent),
            _ => return None,
        };
        let usable = self.admit(operation, direction, room).ok()?;
        let (offset, len) = self.span(extent, usable).ok()?;
        let bytes = u32::try_from(len).ok().filter(|bytes| *bytes != 0)?;
        let sync = self.is_to_be_saved(operation);
        Some(Transfer { way, offset, bytes, sync, lba: extent.lba })
    }
}
