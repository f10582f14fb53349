//! A unit that lets only those commands through that do no harm beyond it.

use crate::commands::{CommandSet, Group, Groups, Rule};
use crate::logical_unit::{Command, Completion, LogicalUnit, ResetJob, buffer_len};
use crate::reactor::{Event, Reactor};
use crate::scsi::{DataDirection, Outcome, Sense};

/// INVALID COMMAND OPERATION CODE (SPC-5, 4.4; key ILLEGAL REQUEST): what a device says of a command that it does not have.
const REFUSED: Sense = Sense::fixed(0x05, 0x20, 0x00);

/// A command that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its operation code.
    pub opcode: u8,
    /// The code's name; `None` when it is not known.
    pub name: Option<&'static str>,
    /// What would have to be allowed.
    pub group: Group,
}

/// Hears of each refused command; it must not log without a limit.
pub type OnRefusal = Box<dyn FnMut(Refusal) + Send>;

/// What is said of an operation code when some groups are allowed.
#[derive(Clone, Copy)]
enum Entry {
    Passes,
    Refused(Group),
    /// The rest of the command decides.
    Ask,
}

/// A unit in front of another one that refuses what [`CommandSet::risk`] finds risky, but for the groups that are allowed.
pub struct Policed {
    unit: Box<dyn LogicalUnit>,
    set: CommandSet,
    allowed: Groups,
    entries: Box<[Entry; 256]>,
    on_refusal: OnRefusal,
}

impl std::fmt::Debug for Policed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policed")
            .field("set", &self.set)
            .field("allowed", &self.allowed)
            .finish_non_exhaustive()
    }
}

impl Policed {
    /// Puts itself in front of `unit`, whose device type says what its commands mean.
    #[must_use]
    pub fn new(unit: Box<dyn LogicalUnit>, allowed: Groups, on_refusal: OnRefusal) -> Self {
        let set = CommandSet::of(unit.device_type());
        let mut entries = Box::new([Entry::Passes; 256]);
        for (opcode, entry) in (0..=u8::MAX).zip(entries.iter_mut()) {
            *entry = match set.rule(opcode) {
                Rule::Passes => Entry::Passes,
                Rule::Refused(group) if allowed.has(group) => Entry::Passes,
                Rule::Refused(group) => Entry::Refused(group),
                Rule::By(_) | Rule::IfItReads => Entry::Ask,
            };
        }
        Self { unit, set, allowed, entries, on_refusal }
    }

    /// The group that would have to be allowed; `None` when the command passes.
    fn risk(&self, command: &Command) -> Option<Group> {
        match self.entries.get(usize::from(command.cdb.opcode())) {
            Some(Entry::Passes) => None,
            Some(Entry::Refused(group)) => Some(*group),
            Some(Entry::Ask) | None => {
                let data_out = match (command.direction, &command.buffer) {
                    (DataDirection::ToDevice, Some(buffer)) => buffer.as_slice(),
                    _ => &[],
                };
                self.set.risk(command.cdb.padded(), data_out).filter(|group| !self.allowed.has(*group))
            }
        }
    }
}

impl LogicalUnit for Policed {
    fn submit(&mut self, command: Command, done: &mut Vec<Completion>) {
        let Some(group) = self.risk(&command) else { return self.unit.submit(command, done) };
        let opcode = command.cdb.opcode();
        (self.on_refusal)(Refusal { opcode, name: self.set.known(opcode).map(|known| known.name), group });
        let outcome = Outcome::check_condition(REFUSED, buffer_len(command.buffer.as_ref()));
        done.push(Completion { tag: command.tag, outcome, buffer: command.buffer });
    }

    fn flush(&mut self, reactor: &mut Reactor) {
        self.unit.flush(reactor);
    }

    fn on_event(&mut self, event: Event, reactor: &mut Reactor, done: &mut Vec<Completion>) {
        self.unit.on_event(event, reactor, done);
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

#[cfg(test)]
mod tests;
