//! What stands between a guest and a unit: one that answers some commands itself, and changes some answers.

use crate::logical_unit::{Command, Completion, Job, LogicalUnit, Tag, buffer_len};
use crate::reactor::{Event, Reactor};
use crate::scsi::{Outcome, Sense};

/// Commands that a unit has at most: as many as a ring has slots. More only cost an allocation.
const COMMANDS: usize = 16;

/// What becomes of a command.
pub enum Verdict<T> {
    /// It goes to the unit, and so does its answer to the guest.
    Passes,
    /// CHECK CONDITION; it goes no further.
    Refused(Sense),
    /// It goes to the unit, and its answer to [`Filter::change`].
    Changed(T),
}

/// The rules.
pub trait Filter: Send {
    /// What has to be known of a command when its answer is changed.
    type Asked: Copy + Send;

    /// Looks at a command.
    fn look_at(&mut self, command: &Command) -> Verdict<Self::Asked>;

    /// Changes the answer to a command.
    fn change(&self, asked: Self::Asked, answer: &mut Completion);
}

/// A unit behind a filter.
pub struct Filtered<F: Filter> {
    unit: Box<dyn LogicalUnit>,
    filter: F,
    /// Commands under way whose answers are to be changed.
    pub(crate) asked: Vec<(Tag, F::Asked)>,
}

impl<F: Filter + std::fmt::Debug> std::fmt::Debug for Filtered<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filtered").field("filter", &self.filter).finish_non_exhaustive()
    }
}

impl<F: Filter> Filtered<F> {
    /// Puts a filter in front of `unit`.
    pub(crate) fn behind(filter: F, unit: Box<dyn LogicalUnit>) -> Self {
        Self { unit, filter, asked: Vec::with_capacity(COMMANDS) }
    }

    fn change(&mut self, done: &mut [Completion]) {
        if self.asked.is_empty() {
            return;
        }
        for completion in done {
            let Some(index) = self.asked.iter().position(|(tag, _)| *tag == completion.tag) else { continue };
            let (_, asked) = self.asked.swap_remove(index);
            self.filter.change(asked, completion);
        }
    }
}

impl<F: Filter> LogicalUnit for Filtered<F> {
    fn submit(&mut self, command: Command, done: &mut Vec<Completion>) {
        match self.filter.look_at(&command) {
            Verdict::Passes => {}
            Verdict::Refused(sense) => {
                let outcome = Outcome::check_condition(sense, buffer_len(command.buffer.as_ref()));
                return done.push(Completion { tag: command.tag, outcome, buffer: command.buffer });
            }
            Verdict::Changed(asked) => self.asked.push((command.tag, asked)),
        }
        self.unit.submit(command, done);
        self.change(done);
    }

    fn flush(&mut self, reactor: &mut Reactor) {
        self.unit.flush(reactor);
    }

    fn on_event(&mut self, event: Event, reactor: &mut Reactor, done: &mut Vec<Completion>) {
        self.unit.on_event(event, reactor, done);
        self.change(done);
    }

    fn attach(&mut self, owner: u32) {
        self.unit.attach(owner);
    }

    fn resetter(&self) -> Option<Job> {
        self.unit.resetter()
    }

    fn unlocker(&self) -> Option<Job> {
        self.unit.unlocker()
    }

    fn device_type(&self) -> u8 {
        self.unit.device_type()
    }
}

/// A unit for the tests of filters: what it does with each command is given.
#[cfg(test)]
pub(crate) mod fake {
    use super::*;

    pub(crate) struct Fake<F> {
        pub(crate) device_type: u8,
        pub(crate) answer: F,
    }

    impl<F: FnMut(&mut Command) -> Outcome + Send> LogicalUnit for Fake<F> {
        fn submit(&mut self, mut command: Command, done: &mut Vec<Completion>) {
            let outcome = (self.answer)(&mut command);
            done.push(Completion { tag: command.tag, outcome, buffer: command.buffer });
        }

        fn flush(&mut self, _: &mut Reactor) {}

        fn on_event(&mut self, _: Event, _: &mut Reactor, _: &mut Vec<Completion>) {}

        fn attach(&mut self, _: u32) {}

        fn resetter(&self) -> Option<Job> {
            None
        }

        fn device_type(&self) -> u8 {
            self.device_type
        }
    }
}
