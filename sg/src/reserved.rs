//! A unit that several guests may have at once, with its reservations among them.
//!
//! To the device all guests are one initiator, so it cannot keep them apart; here each is its own. Commands are looked at by
//! the rules of the generation that the batch began in ([`Shared`]); those about reservations may have to wait for others, so they
//! are carried out in a thread of their own.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use crate::commands::CommandSet;
use crate::conflict::{RESERVE_IN, RESERVE_OUT};
use crate::logical_unit::{Command, Completion, Job, LogicalUnit, Tag, buffer_len, deliver};
use crate::reactor::{Event, Reactor};
use crate::reservations::{Attention, Done, Refusal, Reservations};
use crate::scsi::{Cdb, DataDirection, HostStatus, Outcome, PREVENT_ALLOW, SamStatus, Sense};
use crate::shared::{Before, PATIENCE, Shared, SharedError, after};
use crate::threaded::Threaded;

/// INTERNAL TARGET FAILURE: the reservations cannot be read, so nothing is let through.
const BROKEN: Sense = Sense::fixed(0x04, 0x44, 0x00);
/// INSUFFICIENT RESOURCES: what is to be saved cannot be.
const NO_RESOURCES: Sense = Sense::fixed(0x05, 0x55, 0x03);

/// Marks the thread's events; units mark theirs with small numbers.
const DESK: u32 = u32::MAX;

/// RESERVE and RELEASE, of either length.
const RESERVE: [u8; 2] = [0x16, 0x56];
const RELEASE: [u8; 2] = [0x17, 0x57];
const MODE_SELECT: [u8; 2] = [0x15, 0x55];

/// What the desk is asked to do beside commands about reservations, as CDBs that it gets for nothing else: to tell the guest what it is
/// to be told; to let all others be told what bytes 2 and 3 say; to note who holds the medium (PREVENT ALLOW MEDIUM REMOVAL).
const TELL: u8 = 0x00;
const PASS_ON: u8 = 0x01;

/// Commands that are under way at most; more only cost an allocation.
const COMMANDS: usize = 64;

/// A unit behind the reservations of its guests.
pub struct Reserved {
    unit: Box<dyn LogicalUnit>,
    /// Where commands about reservations are carried out.
    desk: Threaded,
    gate: Gate,
    /// The unit's answers that wait until the others can know of them.
    waiting: Vec<(Tag, Outcome)>,
}

impl std::fmt::Debug for Reserved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reserved").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl Reserved {
    /// Puts itself in front of `unit`.
    ///
    /// # Errors
    ///
    /// When there is no descriptor or no thread left, or the file of reservations is not one.
    pub fn new(unit: Box<dyn LogicalUnit>, shared: Shared) -> Result<Self, SharedError> {
        let at_desk = shared.second()?;
        let (generation, state) = shared.read()?;
        let device_type = unit.device_type();
        let path = shared.path().to_owned();
        let desk =
            Threaded::start("reservations", device_type, DESK, move |command| carry_out(&at_desk, command))
                .map_err(|source| SharedError::File { path, source })?;
        let gate = Gate {
            shared: Arc::new(shared),
            set: CommandSet::of(device_type),
            generation,
            state,
            is_open: false,
            under_way: Vec::with_capacity(COMMANDS),
            telling: None,
            complained: false,
        };
        Ok(Self { unit, desk, gate, waiting: Vec::with_capacity(COMMANDS) })
    }

    /// What the unit has finished: it is under way no more. What others have to know of it they can know before it is answered.
    fn finish(&mut self, done: &mut Vec<Completion>, from: usize) {
        let mut index = from;
        while let Some(completion) = done.get(index) {
            let Some(news) = self.gate.finished(completion) else {
                index = index.saturating_add(1);
                continue;
            };
            let Completion { tag, outcome, buffer } = done.remove(index);
            self.waiting.push((tag, outcome));
            let (cdb, direction) = (Cdb::from_bytes(&news), DataDirection::None);
            self.desk.submit(Command { tag, cdb, direction, buffer, timeout: PATIENCE }, done);
        }
    }

    /// What the desk has finished.
    fn finish_desk(&mut self, done: &mut [Completion]) {
        for completion in done {
            self.gate.telling.take_if(|(tag, _)| *tag == completion.tag);
            if let Some(index) = self.waiting.iter().position(|(tag, _)| *tag == completion.tag) {
                (_, completion.outcome) = self.waiting.swap_remove(index);
            }
        }
    }
}

impl LogicalUnit for Reserved {
    fn submit(&mut self, mut command: Command, done: &mut Vec<Completion>) {
        let begin = done.len();
        match self.gate.look_at(&command) {
            Way::Unit => {
                self.unit.submit(command, done);
                self.finish(done, begin);
            }
            Way::Desk => self.desk.submit(command, done),
            Way::Tell => {
                command.cdb = Cdb::from_bytes(&[TELL, 0, 0, 0, 0, 0]);
                self.desk.submit(command, done);
            }
            Way::Answer(answer) => done.push(refused(command, answer)),
        }
    }

    fn flush(&mut self, reactor: &mut Reactor) {
        self.unit.flush(reactor);
        self.desk.flush(reactor);
        self.gate.close();
    }

    fn on_event(&mut self, event: Event, reactor: &mut Reactor, done: &mut Vec<Completion>) {
        let begin = done.len();
        if event.token.what == DESK {
            self.desk.on_event(event, reactor, done);
            self.finish_desk(done.get_mut(begin..).unwrap_or_default());
        } else {
            self.unit.on_event(event, reactor, done);
            self.finish(done, begin);
        }
    }

    fn attach(&mut self, owner: u32) {
        self.unit.attach(owner);
        self.desk.attach(owner);
    }

    fn resetter(&self) -> Option<Job> {
        let (reset, shared) = (self.unit.resetter(), Arc::clone(&self.gate.shared));
        Some(Box::new(move || {
            reset.map_or(Ok(()), |reset| reset())?;
            let deadline = after(PATIENCE);
            // The gate's locks are another thread's business; those of a third end do not meet them.
            let end = shared.second().map_err(std::io::Error::other)?;
            end.change(deadline, Reservations::reset).map(|_| ()).map_err(std::io::Error::other)
        }))
    }

    fn unlocker(&self) -> Option<Job> {
        let prevented = self.gate.shared.read().map(|(_, state)| state.prevented(self.gate.shared.who()));
        match prevented {
            Ok((true, false)) => self.unit.unlocker(),
            _ => None,
        }
    }

    fn device_type(&self) -> u8 {
        self.unit.device_type()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Err(error) = self.gate.shared.leave() {
            warn!("{error}: what this guest had reserved stays until another one asks for it");
        }
    }
}

/// What a command is to others when it is done.
#[derive(Clone, Copy, Debug)]
enum Effect {
    None,
    /// Mode parameters, which all share, may be others.
    Mode,
    /// It holds the medium, or lets go of it.
    Prevents(bool),
}

/// Where a command goes.
enum Way {
    Unit,
    Desk,
    /// Its answer is what the guest is to be told.
    Tell,
    Answer(Refusal),
}

/// Looks at commands by the rules of one generation for each batch.
#[derive(Debug)]
struct Gate {
    shared: Arc<Shared>,
    set: CommandSet,
    generation: u64,
    state: Reservations,
    /// A batch has begun.
    is_open: bool,
    /// Commands that the unit has, the generation that let them through, and what they are to others when they are done.
    under_way: Vec<(Tag, u64, Effect)>,
    /// The command that is being answered with what the guest is to be told, until the file says that it was told.
    telling: Option<(Tag, Attention)>,
    complained: bool,
}

impl Gate {
    fn look_at(&mut self, command: &Command) -> Way {
        let opcode = command.cdb.opcode();
        if let Err(error) = self.open() {
            if !std::mem::replace(&mut self.complained, true) {
                warn!("{error}: nothing of this unit is let through");
            }
            return Way::Answer(Refusal::Sense(BROKEN));
        }
        self.complained = false;
        if !command.cdb.passes_attentions()
            && let Some(attention) = self.state.attention(self.shared.who())
            && self.telling.is_none_or(|(_, telling)| telling != attention)
        {
            self.telling = Some((command.tag, attention));
            return Way::Tell;
        }
        let is_about_reservations = matches!(opcode, RESERVE_IN | RESERVE_OUT);
        if is_about_reservations || RESERVE.contains(&opcode) || RELEASE.contains(&opcode) {
            return Way::Desk;
        }
        let (who, cdb) = (self.shared.who(), command.cdb.padded());
        if self.state.conflicts(who, self.set, cdb, command.data_out()) {
            return Way::Answer(Refusal::Conflict);
        }
        let effect = match opcode {
            PREVENT_ALLOW => Effect::Prevents(command.cdb.prevents_removal()),
            _ if MODE_SELECT.contains(&opcode) => Effect::Mode,
            _ => Effect::None,
        };
        if let (Effect::Prevents(false), (_, true)) = (effect, self.state.prevented(who)) {
            // The device knows one initiator only: as long as another guest holds the medium, it does.
            return Way::Desk;
        }
        self.under_way.push((command.tag, self.generation, effect));
        Way::Unit
    }

    /// Begins a batch: from here on until the batch is with the unit, and until its commands are finished, whoever takes something
    /// away waits for us.
    fn open(&mut self) -> Result<(), SharedError> {
        if self.is_open {
            return Ok(());
        }
        loop {
            self.mark()?;
            let newest = self.shared.generation();
            if newest.as_ref().is_ok_and(|newest| *newest == self.generation) {
                self.is_open = true;
                return Ok(());
            }
            self.unmark(self.generation);
            newest?;
            (self.generation, self.state) = self.shared.read()?;
        }
    }

    fn close(&mut self) {
        if std::mem::replace(&mut self.is_open, false) {
            self.unmark(self.generation);
        }
    }

    /// Takes note of a command that is done. What it means to others is a command for the desk.
    fn finished(&mut self, completion: &Completion) -> Option<[u8; 6]> {
        let index = self.under_way.iter().position(|(tag, ..)| *tag == completion.tag)?;
        let (_, generation, effect) = self.under_way.swap_remove(index);
        if !(self.is_open && generation == self.generation) {
            self.unmark(generation);
        }
        let Outcome { host, status, sense, .. } = &completion.outcome;
        let is_good = *host == HostStatus::OK && *status == SamStatus::GOOD;
        let attention = match effect {
            Effect::Prevents(prevents) if is_good => {
                return Some([PREVENT_ALLOW, 0, 0, 0, u8::from(prevents), 0]);
            }
            Effect::Mode if is_good => Some(Attention::MODE_CHANGED),
            _ => Attention::of(sense),
        };
        let Attention(asc, ascq) = attention.filter(|_| self.state.has_others(self.shared.who()))?;
        Some([PASS_ON, 0, asc, ascq, 0, 0])
    }

    fn mark(&self) -> Result<(), SharedError> {
        if self.has_under_way(self.generation) { Ok(()) } else { self.shared.mark(self.generation, true) }
    }

    fn unmark(&self, generation: u64) {
        if !self.has_under_way(generation) {
            let unmarked = self.shared.mark(generation, false);
            assert!(unmarked.is_ok(), "an unlock needs nothing: {unmarked:?}");
        }
    }

    fn has_under_way(&self, generation: u64) -> bool {
        self.under_way.iter().any(|(_, of, _)| *of == generation)
    }
}

fn refused(command: Command, refusal: Refusal) -> Completion {
    let outcome = refusal_outcome(refusal, buffer_len(command.buffer.as_ref()));
    Completion { tag: command.tag, outcome, buffer: command.buffer }
}

fn refusal_outcome(refusal: Refusal, buffer_len: u32) -> Outcome {
    match refusal {
        Refusal::Sense(sense) => Outcome::check_condition(sense, buffer_len),
        Refusal::Conflict => Outcome {
            host: HostStatus::OK,
            status: SamStatus::RESERVATION_CONFLICT,
            sense: Sense::NONE,
            residual: buffer_len,
        },
    }
}

/// Carries out what the gate has sent to the desk.
fn carry_out(shared: &Shared, mut command: Command) -> Completion {
    let outcome = match desk(shared, &mut command) {
        Ok(outcome) => outcome,
        Err(error) => {
            let len = buffer_len(command.buffer.as_ref());
            match error {
                // Somebody whose commands do not end cannot be shut out: the guest must know.
                SharedError::Slow(_) => Outcome::host_error(HostStatus::TIME_OUT, len),
                SharedError::File { .. } => {
                    warn!("{error}");
                    Outcome::check_condition(NO_RESOURCES, len)
                }
                SharedError::Broken { .. } | SharedError::Full(_) => Outcome::check_condition(BROKEN, len),
            }
        }
    };
    Completion { tag: command.tag, outcome, buffer: command.buffer }
}

fn desk(shared: &Shared, command: &mut Command) -> Result<Outcome, SharedError> {
    let (who, cdb) = (shared.who(), *command.cdb.padded());
    let len = buffer_len(command.buffer.as_ref());
    let deadline = after(command.timeout);
    let answer = match cdb[0] {
        TELL => {
            let told = shared.change(deadline, |state| state.tell(who))?;
            // Nothing: another server of this guest's has told it, so the command may be tried again.
            return Ok(told
                .value
                .map_or(Outcome::busy(len), |attention| Outcome::check_condition(attention.sense(), len)));
        }
        PASS_ON => {
            shared.change(deadline, |state| state.pass_on(who, Attention(cdb[2], cdb[3])))?;
            Ok(())
        }
        PREVENT_ALLOW => {
            shared.change(deadline, |state| state.prevent(who, command.cdb.prevents_removal()))?;
            Ok(())
        }
        RESERVE_IN => match shared.read()?.1.report(who, &cdb) {
            Ok(data) => {
                let allocated = u16::from_be_bytes([cdb[7], cdb[8]]).into();
                return Ok(deliver(data, allocated, command.buffer.as_mut()));
            }
            Err(refusal) => Err(refusal),
        },
        RESERVE_OUT => {
            let changed = shared.change(deadline, |state| state.out(who, &cdb, command.data_out()))?;
            settle(shared, changed.value, changed.before, deadline)?
        }
        // Third parties and extents (SPC-2).
        _ if cdb[1] & 0x1f != 0 => Err(Refusal::Sense(Sense::INVALID_FIELD_IN_CDB)),
        opcode if RELEASE.contains(&opcode) => shared.change(deadline, |state| state.release(who))?.value,
        _ => {
            let changed = shared.change(deadline, |state| state.reserve(who).map(|()| Done::Taken))?;
            settle(shared, changed.value, changed.before, deadline)?
        }
    };
    Ok(match answer {
        // The list was taken.
        Ok(()) => Outcome::good(0),
        Err(refusal) => refusal_outcome(refusal, len),
    })
}

/// What was taken away is gone when the answer says so.
fn settle(
    shared: &Shared,
    answer: Result<Done, Refusal>,
    before: Before,
    deadline: Instant,
) -> Result<Result<(), Refusal>, SharedError> {
    if answer == Ok(Done::Taken) {
        shared.drain(before, deadline)?;
    }
    Ok(answer.map(|_| ()))
}

#[cfg(test)]
mod tests;
