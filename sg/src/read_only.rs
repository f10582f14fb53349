//! A unit through which nothing can be written, whatever its device can do.

use crate::commands::CommandSet;
use crate::logical_unit::{Command, Completion, LogicalUnit, ResetJob, Tag, buffer_len};
use crate::reactor::{Event, Reactor};
use crate::scsi::{DataDirection, Outcome, Sense};

#[cfg(test)]
mod tests;

/// WRITE PROTECTED (SPC-5, 4.4; key DATA PROTECT).
const WRITE_PROTECTED: Sense = Sense::fixed(0x07, 0x27, 0x00);

/// WP in the DEVICE-SPECIFIC PARAMETER of a mode parameter header (SBC-4 and SSC-5, Mode parameters).
const WP: u8 = 0x80;

/// Commands that a unit has at most: as many as a ring has slots. More only cost an allocation.
const COMMANDS: usize = 16;

/// A unit in front of another one: it refuses all commands but those that read or position, with CHECK CONDITION, DATA
/// PROTECT, WRITE PROTECTED, and tells the guest of a disk or a tape that the medium is write-protected.
///
/// Reset stays: it is how a guest gets a hung device back, and it writes nothing.
pub struct ReadOnly {
    unit: Box<dyn LogicalUnit>,
    command_set: CommandSet,
    /// MODE SENSE commands under way, and where their answers have [`WP`].
    mode_senses: Vec<(Tag, usize)>,
}

impl std::fmt::Debug for ReadOnly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadOnly").field("command_set", &self.command_set).finish_non_exhaustive()
    }
}

impl ReadOnly {
    /// Puts itself in front of `unit`, whose device type says what its commands mean.
    #[must_use]
    pub fn new(unit: Box<dyn LogicalUnit>) -> Self {
        let command_set = CommandSet::of(unit.device_type());
        Self { unit, command_set, mode_senses: Vec::with_capacity(COMMANDS) }
    }

    /// Sets [`WP`] in the mode data among what is finished. Where the device delivered less, the byte is stale and stays so.
    fn show_protection(&mut self, done: &mut [Completion]) {
        if self.mode_senses.is_empty() {
            return;
        }
        for Completion { tag, buffer, .. } in done {
            let Some(index) = self.mode_senses.iter().position(|(asked, _)| asked == tag) else { continue };
            let (_, place) = self.mode_senses.swap_remove(index);
            if let Some(parameter) = buffer.as_mut().and_then(|data| data.as_mut_slice().get_mut(place)) {
                *parameter |= WP;
            }
        }
    }
}

impl LogicalUnit for ReadOnly {
    fn submit(&mut self, command: Command, done: &mut Vec<Completion>) {
        let Command { tag, cdb, direction, buffer, .. } = &command;
        let data_out = match (direction, buffer) {
            (DataDirection::ToDevice, Some(buffer)) => buffer.as_slice(),
            _ => &[],
        };
        if !self.command_set.only_reads(cdb.padded(), data_out) {
            let outcome = Outcome::check_condition(WRITE_PROTECTED, buffer_len(buffer.as_ref()));
            return done.push(Completion { tag: *tag, outcome, buffer: command.buffer });
        }
        if let Some(place) = self.command_set.write_protect_byte(cdb.padded()) {
            self.mode_senses.push((*tag, place));
        }
        self.unit.submit(command, done);
        self.show_protection(done);
    }

    fn flush(&mut self, reactor: &mut Reactor) {
        self.unit.flush(reactor);
    }

    fn on_event(&mut self, event: Event, reactor: &mut Reactor, done: &mut Vec<Completion>) {
        self.unit.on_event(event, reactor, done);
        self.show_protection(done);
    }

    fn attach(&mut self, owner: u32) {
        self.unit.attach(owner);
    }

    fn resetter(&self) -> Option<ResetJob> {
        self.unit.resetter()
    }

    fn device_type(&self) -> u8 {
        self.unit.device_type()
    }
}
