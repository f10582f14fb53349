//! A unit that lets only those commands through that do no harm beyond it.

use std::convert::Infallible;

use crate::commands::{CommandSet, Group, Groups, Rule};
use crate::filtered::{Filter, Filtered, Verdict};
use crate::logical_unit::{Command, Completion, LogicalUnit};
use crate::scsi::Sense;

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
pub type Policed = Filtered<Policy>;

/// The rules of [`Policed`].
pub struct Policy {
    set: CommandSet,
    allowed: Groups,
    entries: Box<[Entry; 256]>,
    on_refusal: OnRefusal,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy")
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
        Self::behind(Policy { set, allowed, entries, on_refusal }, unit)
    }
}

impl Policy {
    /// The group that would have to be allowed; `None` when the command passes.
    fn risk(&self, command: &Command) -> Option<Group> {
        match self.entries.get(usize::from(command.cdb.opcode())) {
            Some(Entry::Passes) => None,
            Some(Entry::Refused(group)) => Some(*group),
            Some(Entry::Ask) | None => {
                let risk = self.set.risk(command.cdb.padded(), command.data_out());
                risk.filter(|group| !self.allowed.has(*group))
            }
        }
    }
}

impl Filter for Policy {
    type Asked = Infallible;

    fn look_at(&mut self, command: &Command) -> Verdict<Infallible> {
        let Some(group) = self.risk(command) else { return Verdict::Passes };
        let opcode = command.cdb.opcode();
        (self.on_refusal)(Refusal { opcode, name: self.set.known(opcode).map(|known| known.name), group });
        // What a device says of a command that it does not have.
        Verdict::Refused(Sense::INVALID_OPCODE)
    }

    fn change(&self, asked: Infallible, _: &mut Completion) {
        match asked {}
    }
}

#[cfg(test)]
mod tests;
