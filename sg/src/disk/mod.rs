//! Emulated disks: SCSI commands answered from a file or from memory.
//!
//! A CDB becomes an `Operation` without looking at anything else (cdb.rs); then it is done: parameter data (inquiry.rs,
//! mode.rs, opcodes.rs), blocks (data.rs), space (provisioning.rs), unless there is something to tell first (attention.rs). Failures are
//! sense data (sense.rs). The standards are SPC-5 and
//! SBC-4; clauses of SBC-4 moved between its drafts, so its commands and pages are cited by name.

mod attention;
mod block_size;
mod cdb;
mod data;
mod direct;
mod file_disk;
mod identity;
mod inquiry;
mod medium;
mod mode;
mod opcodes;
mod provisioning;
mod sense;
#[cfg(test)]
mod tests;

pub use block_size::BlockSize;
pub use file_disk::FileDisk;
pub use identity::DiskIdentity;
pub(crate) use identity::fnv1a;
pub use medium::{Medium, MediumError};

use crate::logical_unit::{Command, Completion, Job, LogicalUnit};
use crate::reactor::{Event, Reactor};
use crate::scsi::{DataDirection, Outcome, SamStatus, Sense};
use attention::Attention;
use cdb::{DataPhase, Extent, Operation};

/// Bytes in the largest transfer a guest can ask for: what 128 segments of a page (feature-sg-grant) carry when the first one
/// starts inside its page.
pub const DEFAULT_MAX_TRANSFER: u32 = 508 * 1024;

/// Peripheral device type of a direct access block device (SPC-5, 6.7.2).
const DEVICE_TYPE: u8 = 0x00;
/// WCE, as long as nobody has chosen.
const WRITE_CACHE: bool = true;

/// A disk made of a [`Medium`].
///
/// Commands are done while they are submitted, one after the other: right for memory. [`FileDisk`] is for media that may block.
#[derive(Debug)]
pub struct EmulatedDisk {
    medium: Medium,
    identity: DiskIdentity,
    max_transfer_blocks: u32,
    /// WCE. Without it every command that writes ends with a sync.
    write_cache: bool,
    attention: Attention,
}

impl EmulatedDisk {
    /// Makes a disk. `max_transfer` is a number of bytes, which is told to the guest as blocks (VPD page B0h); READ, WRITE and
    /// VERIFY of more are refused with INVALID FIELD IN CDB (SBC-4, Block Limits VPD page).
    ///
    /// # Panics
    ///
    /// When `max_transfer` is less than a block: 0 blocks would mean that there is no limit.
    #[must_use]
    pub fn new(medium: Medium, identity: DiskIdentity, max_transfer: u32) -> Self {
        let max_transfer_blocks = medium.block_size().blocks_of(max_transfer);
        assert_ne!(max_transfer_blocks, 0, "a disk that transfers nothing");
        let (write_cache, attention) = (WRITE_CACHE, Attention::new());
        Self { medium, identity, max_transfer_blocks, write_cache, attention }
    }

    /// Does a command; the number of bytes moved between `data` and the disk, or why it was not done.
    fn execute(
        &mut self,
        operation: Operation,
        direction: DataDirection,
        data: &mut [u8],
    ) -> Result<usize, Sense> {
        let usable = self.admit(operation, direction, data.len())?;
        let moved = self.carry_out(operation, data.get_mut(..usable).unwrap_or_default())?;
        if self.is_to_be_saved(operation) {
            self.sync(operation.lba())?;
        }
        Ok(moved)
    }

    /// Whether what the command has written is to be on stable storage before it is answered.
    fn is_to_be_saved(&self, operation: Operation) -> bool {
        operation.fua() || (operation.writes() && !self.write_cache)
    }

    /// Whether a command with a buffer of `room` bytes is allowed, and how many of them it may use.
    fn admit(&self, operation: Operation, direction: DataDirection, room: usize) -> Result<usize, Sense> {
        if operation.writes() && self.medium.is_read_only() {
            return Err(sense::WRITE_PROTECTED);
        }
        agreed(operation.data_phase(self.block()), direction, room)
    }

    /// Does what is allowed and has its data.
    fn carry_out(&mut self, operation: Operation, data: &mut [u8]) -> Result<usize, Sense> {
        match operation {
            Operation::TestUnitReady => Ok(0),
            Operation::RequestSense { descriptor, allocation } => {
                let sense = self.take_attention().unwrap_or(sense::NO_SENSE);
                Ok(give(&inquiry::request_sense(&sense, descriptor), allocation, data))
            }
            Operation::Inquiry { vpd: false, allocation, .. } => {
                Ok(give(&inquiry::standard(), allocation, data))
            }
            Operation::Inquiry { page, allocation, .. } => Ok(give(&self.vpd_page(page)?, allocation, data)),
            Operation::ModeSense(asked) => Ok(give(&self.mode_sense(asked)?, asked.allocation, data)),
            Operation::ModeSelect { ten, .. } => self.mode_select(ten, data),
            Operation::LogSense { page, subpage, allocation } => {
                Ok(give(&inquiry::log_page(page, subpage)?, allocation, data))
            }
            Operation::StartStopUnit { stop } => self.start_stop(stop),
            Operation::ReadCapacity10 => Ok(give(&inquiry::capacity_10(&self.medium), usize::MAX, data)),
            Operation::ReadCapacity16 { allocation } => {
                Ok(give(&inquiry::capacity_16(&self.medium), allocation, data))
            }
            Operation::ReportLuns { select, allocation } => {
                Ok(give(&inquiry::report_luns(select)?, allocation, data))
            }
            Operation::ReportOpcodes(asked) => Ok(give(&opcodes::report(asked)?, asked.allocation, data)),
            Operation::ReportTaskManagement { extended, allocation } => {
                Ok(give(&opcodes::task_management(extended), allocation, data))
            }
            Operation::Read { extent, fua } => self.read(extent, fua, data),
            Operation::Write { extent, .. } => self.write(extent, data),
            Operation::WriteAndVerify { extent, compare } => self.write_and_verify(extent, compare, data),
            Operation::OrWrite { extent, .. } => self.or_write(extent, data),
            Operation::CompareAndWrite { extent, .. } => self.compare_and_write(extent, data),
            Operation::Verify { extent, against } => self.verify(extent, against, data),
            Operation::PreFetch { extent } => self.pre_fetch(extent),
            Operation::SynchronizeCache { extent } => self.synchronize_cache(extent),
            Operation::GetLbaStatus { lba, allocation } => {
                Ok(give(&self.lba_status(lba, allocation)?, allocation, data))
            }
            Operation::Unmap { .. } => self.unmap(data),
            Operation::WriteSame { extent, unmap, .. } => self.write_same(extent, unmap, data),
        }
    }

    fn block(&self) -> BlockSize {
        self.medium.block_size()
    }

    /// Where an extent of at most `limit` blocks lies on the medium, in bytes.
    fn locate(&self, extent: Extent, limit: u32) -> Result<u64, Sense> {
        if extent.blocks > limit {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        let end = extent.lba.checked_add(extent.blocks.into());
        // The address itself has to exist even when no block is asked for.
        if extent.lba >= self.medium.blocks() || end.is_none_or(|end| end > self.medium.blocks()) {
            return Err(sense::LBA_OUT_OF_RANGE);
        }
        Ok(self.block().bytes_of(extent.lba))
    }
}

/// How much of its buffer of `room` bytes a command may use. A direction that contradicts the CDB and data-out that is too short
/// are refused before anything is done.
fn agreed(phase: DataPhase, direction: DataDirection, room: usize) -> Result<usize, Sense> {
    let may_be = |wanted| {
        direction == wanted
            || direction == DataDirection::Bidirectional
            || (direction == DataDirection::None && room == 0)
    };
    let usable = match phase {
        DataPhase::None => Some(0),
        DataPhase::In if may_be(DataDirection::FromDevice) => Some(room),
        DataPhase::Out { bytes } if may_be(DataDirection::ToDevice) => usize::try_from(bytes).ok(),
        DataPhase::In | DataPhase::Out { .. } => None,
    };
    usable.filter(|usable| *usable <= room).ok_or(Sense::INVALID_FIELD_IN_CDB)
}

/// Puts parameter data into the buffer: as much as is there, was asked for, and fits.
fn give(answer: &[u8], allocation: usize, data: &mut [u8]) -> usize {
    let given = answer.iter().take(allocation).zip(data.iter_mut());
    given.map(|(from, to)| *to = *from).count()
}

impl EmulatedDisk {
    /// Does a command from beginning to end.
    pub(crate) fn perform(&mut self, command: Command) -> Completion {
        let Command { tag, cdb, direction, mut buffer, .. } = command;
        let data = buffer.as_mut().map_or(&mut [][..], |buffer| buffer.as_mut_slice());
        let Ok(len) = u32::try_from(data.len()) else { unreachable!("a buffer of {} bytes", data.len()) };
        let done = self
            .interrupt(&cdb)
            .and_then(|()| Operation::decode(&cdb))
            .and_then(|operation| Ok((operation, self.execute(operation, direction, data)?)))
            .map_err(|sense| self.reason(sense));
        let outcome = match done {
            Ok((operation, moved)) => {
                let residual = u32::try_from(moved).ok().and_then(|moved| len.checked_sub(moved));
                let Some(residual) = residual else { unreachable!("{moved} of {len} bytes moved") };
                // All of a range fits the page cache, as far as a guest can tell (SBC-4, PRE-FETCH (10) command).
                let status = match operation {
                    Operation::PreFetch { .. } => SamStatus::CONDITION_MET,
                    _ => SamStatus::GOOD,
                };
                Outcome { status, ..Outcome::good(residual) }
            }
            Err(sense) => Outcome::check_condition(sense, len),
        };
        Completion { tag, outcome, buffer }
    }
}

impl LogicalUnit for EmulatedDisk {
    fn submit(&mut self, command: Command, done: &mut Vec<Completion>) {
        done.push(self.perform(command));
    }

    fn flush(&mut self, _reactor: &mut Reactor) {}

    fn on_event(&mut self, event: Event, _reactor: &mut Reactor, _done: &mut Vec<Completion>) {
        unreachable!("a disk that puts nothing on the reactor got {event:?}")
    }

    fn attach(&mut self, _owner: u32) {}

    fn resetter(&self) -> Option<Job> {
        Some(self.reset_flag().job())
    }

    fn device_type(&self) -> u8 {
        DEVICE_TYPE
    }
}
