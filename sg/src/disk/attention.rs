//! What a guest is told before its next command (unit attention, SPC-5 and SAM-5): that the disk was reset, and that its file or
//! block device has another size.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{EmulatedDisk, WRITE_CACHE, sense};
use crate::logical_unit::Job;
use crate::scsi::{Cdb, Sense};

/// How often the file is asked for its size when nobody asks the disk.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is not told yet.
#[derive(Debug)]
pub(super) struct Attention {
    reset: ResetFlag,
    resized: bool,
    looked: Instant,
}

/// Where a reset of the disk is left until its next command.
#[derive(Clone, Debug, Default)]
pub(super) struct ResetFlag(Arc<AtomicBool>);

impl ResetFlag {
    pub(super) fn job(&self) -> Job {
        let flag = self.clone();
        Box::new(move || -> io::Result<()> {
            flag.0.store(true, Ordering::Relaxed);
            Ok(())
        })
    }
}

impl Attention {
    pub(super) fn new() -> Self {
        Self { reset: ResetFlag::default(), resized: false, looked: Instant::now() }
    }
}

impl EmulatedDisk {
    /// Its next command finds a disk that was reset.
    pub(super) fn reset_flag(&self) -> ResetFlag {
        self.attention.reset.clone()
    }

    /// What keeps a command from being done; the next one finds it told. INQUIRY and REPORT LUNS are answered all the same, and
    /// REQUEST SENSE tells it in its own way (SPC-5, 5.14 and the commands).
    pub(super) fn interrupt(&mut self, cdb: &Cdb) -> Result<(), Sense> {
        let opcode = cdb.opcode();
        // READ CAPACITY (10) and (16): somebody wants to know it now.
        if matches!(opcode, 0x25 | 0x9e) || self.is_time_to_look() {
            self.look_at_size();
        }
        if cdb.passes_attentions() {
            return Ok(());
        }
        self.take_attention().map_or(Ok(()), Err)
    }

    /// Whether the next command finds more to do than what it asks for.
    pub(super) fn is_to_tell_or_look(&self) -> bool {
        let Attention { reset, resized, .. } = &self.attention;
        reset.0.load(Ordering::Relaxed) || *resized || self.is_time_to_look()
    }

    fn is_time_to_look(&self) -> bool {
        self.attention.looked.elapsed() >= LOOK_EVERY
    }

    /// What is to be told first. A reset gives the mode pages their default values.
    pub(super) fn take_attention(&mut self) -> Option<Sense> {
        if self.attention.reset.0.swap(false, Ordering::Relaxed) {
            self.write_cache = WRITE_CACHE;
            return Some(sense::RESET);
        }
        mem::take(&mut self.attention.resized).then_some(sense::CAPACITY_CHANGED)
    }

    /// Why a command failed. When it found no block where there is one now, or no file where a block was, that is to be told:
    /// nothing was done that it may not do again.
    pub(super) fn reason(&mut self, sense: Sense) -> Sense {
        let reached_out =
            sense == sense::LBA_OUT_OF_RANGE || sense.key_asc_ascq() == Some((0x03, 0x11, 0x00));
        if reached_out && self.look_at_size() {
            return self.take_attention().unwrap_or(sense);
        }
        sense
    }

    /// Whether the size has changed.
    fn look_at_size(&mut self) -> bool {
        self.attention.looked = Instant::now();
        let changed = self.medium.follow_size();
        self.attention.resized |= changed;
        changed
    }
}
