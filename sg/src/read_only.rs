//! A unit through which nothing can be written, whatever its device can do.

use crate::commands::CommandSet;
use crate::filtered::{Filter, Filtered, Verdict};
use crate::logical_unit::{Command, Completion, LogicalUnit};
use crate::scsi::Sense;

#[cfg(test)]
mod tests;

/// WRITE PROTECTED (SPC-5, 4.4; key DATA PROTECT).
const WRITE_PROTECTED: Sense = Sense::fixed(0x07, 0x27, 0x00);

/// WP in the DEVICE-SPECIFIC PARAMETER of a mode parameter header (SBC-4 and SSC-5, Mode parameters).
const WP: u8 = 0x80;

/// A unit in front of another one: it refuses all commands but those that read or position, with CHECK CONDITION, DATA
/// PROTECT, WRITE PROTECTED, and tells the guest of a disk or a tape that the medium is write-protected.
///
/// Reset stays: it is how a guest gets a hung device back, and it writes nothing.
pub type ReadOnly = Filtered<WriteProtection>;

/// The rules of [`ReadOnly`].
#[derive(Clone, Copy, Debug)]
pub struct WriteProtection(CommandSet);

impl ReadOnly {
    /// Puts itself in front of `unit`, whose device type says what its commands mean.
    #[must_use]
    pub fn new(unit: Box<dyn LogicalUnit>) -> Self {
        Self::behind(WriteProtection(CommandSet::of(unit.device_type())), unit)
    }
}

impl Filter for WriteProtection {
    /// Where the answer to a MODE SENSE has [`WP`].
    type Asked = usize;

    fn look_at(&mut self, command: &Command) -> Verdict<usize> {
        let cdb = command.cdb.padded();
        if self.0.only_reads(cdb, command.data_out()) {
            self.0.write_protect_byte(cdb).map_or(Verdict::Passes, Verdict::Changed)
        } else {
            Verdict::Refused(WRITE_PROTECTED)
        }
    }

    /// Where the device delivered less, the byte is stale and stays so.
    fn change(&self, place: usize, answer: &mut Completion) {
        let data = answer.buffer.as_mut();
        if let Some(parameter) = data.and_then(|data| data.as_mut_slice().get_mut(place)) {
            *parameter |= WP;
        }
    }
}
