//! A unit that does what its CDBs say: completes, fails, or holds a command until it is told to let go.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pvscsi_backend::control::Bell;
use pvscsi_sg::{
    Command, Completion, DataDirection, Event, Job, LogicalUnit, Outcome, Reactor, Sense, Token,
};

/// Completes at once, and fills half of the buffer.
pub const COMPLETE: [u8; 6] = [0xc0, 0, 0, 0, 0, 0];
/// Fails with sense HARDWARE ERROR, INTERNAL TARGET FAILURE.
pub const FAIL: [u8; 6] = [0xc1, 0, 0, 0, 0, 0];
/// Fails with sense MEDIUM ERROR, UNRECOVERED READ ERROR, with half of the buffer filled.
pub const FAIL_HALFWAY: [u8; 6] = [0xc3, 0, 0, 0, 0, 0];
/// Is refused, ILLEGAL REQUEST, by a driver that says that all data came.
pub const REFUSE: [u8; 6] = [0xc4, 0, 0, 0, 0, 0];
/// Is held.
pub const HOLD: [u8; 6] = [0xc2, 0, 0, 0, 0, 0];

/// What the unit fills buffers with. Bit 7 is not set, so that a write protection shows.
pub const FILLING: u8 = 0x5d;

/// What both ends know.
#[derive(Default)]
struct Shared {
    submitted: usize,
    held: usize,
    to_release: usize,
    resettable: bool,
    resets: usize,
    verdict: Option<bool>,
    holds_medium: bool,
    unlocked: usize,
}

/// The test's hold on the unit.
#[derive(Clone)]
pub struct Remote {
    shared: Arc<Mutex<Shared>>,
    bell: Bell,
}

impl Remote {
    /// Commands that the unit was ever given.
    pub fn submitted(&self) -> usize {
        self.shared.lock().unwrap().submitted
    }

    /// Commands that it holds.
    pub fn held(&self) -> usize {
        self.shared.lock().unwrap().held
    }

    /// Lets it complete all that it holds now.
    pub fn release(&self) {
        let mut shared = self.shared.lock().unwrap();
        shared.to_release = shared.held;
        self.bell.ring();
    }

    /// Gives it something to reset: from now on a reset goes on until [`end_reset`](Self::end_reset).
    pub fn make_resettable(&self) {
        self.shared.lock().unwrap().resettable = true;
    }

    /// Resets that were started.
    pub fn resets(&self) -> usize {
        self.shared.lock().unwrap().resets
    }

    /// Lets the reset under way, or the next one, work or fail.
    pub fn end_reset(&self, works: bool) {
        self.shared.lock().unwrap().verdict = Some(works);
    }

    /// It has been told to prevent the removal of its medium.
    pub fn hold_medium(&self) {
        self.shared.lock().unwrap().holds_medium = true;
    }

    /// How often it was told to let go of it, for a guest that had gone.
    pub fn unlocked(&self) -> usize {
        self.shared.lock().unwrap().unlocked
    }

    /// Whether the unit still exists.
    pub fn is_alive(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }
}

struct ScriptedLun {
    device_type: u8,
    shared: Arc<Mutex<Shared>>,
    bell: Bell,
    owner: u32,
    listening: bool,
    held: VecDeque<Command>,
}

/// Makes one that is a disk.
pub fn scripted_lun() -> (Box<dyn LogicalUnit>, Remote) {
    scripted_device(0x00)
}

/// Makes one of a peripheral device type.
pub fn scripted_device(device_type: u8) -> (Box<dyn LogicalUnit>, Remote) {
    let (shared, bell) = (Arc::default(), Bell::new().unwrap());
    let remote = Remote { shared: Arc::clone(&shared), bell: bell.clone() };
    let held = VecDeque::new();
    (Box::new(ScriptedLun { device_type, shared, bell, owner: 0, listening: false, held }), remote)
}

/// GOOD, with the first half of the buffer filled.
fn complete(command: Command) -> Completion {
    let Command { tag, direction, mut buffer, .. } = command;
    let mut residual = 0;
    if let (Some(buffer), DataDirection::FromDevice) = (&mut buffer, direction) {
        let half = buffer.len() / 2;
        let (filled, rest) = buffer.as_mut_slice().split_at_mut(half);
        filled.fill(FILLING);
        // What an earlier command might have left here.
        rest.fill(0x5e);
        residual = u32::try_from(rest.len()).unwrap();
    }
    Completion { tag, outcome: Outcome::good(residual), buffer }
}

impl LogicalUnit for ScriptedLun {
    fn submit(&mut self, command: Command, done: &mut Vec<Completion>) {
        let mut shared = self.shared.lock().unwrap();
        shared.submitted += 1;
        match command.cdb.opcode() {
            0xc1 => {
                let len = command.buffer.as_ref().map_or(0, |buffer| buffer.len());
                let outcome = Outcome::check_condition(Sense::fixed(4, 0x44, 0), len.try_into().unwrap());
                done.push(Completion { tag: command.tag, outcome, buffer: command.buffer });
            }
            0xc3 => {
                let Completion { tag, outcome, buffer } = complete(command);
                let outcome = Outcome::check_condition(Sense::fixed(3, 0x11, 0), outcome.residual);
                done.push(Completion { tag, outcome, buffer });
            }
            0xc4 => {
                let Completion { tag, buffer, .. } = complete(command);
                done.push(Completion {
                    tag,
                    outcome: Outcome::check_condition(Sense::fixed(5, 0x20, 0), 0),
                    buffer,
                });
            }
            0xc2 => {
                shared.held += 1;
                self.held.push_back(command);
            }
            _ => done.push(complete(command)),
        }
    }

    fn flush(&mut self, reactor: &mut Reactor) {
        if !self.listening {
            self.listening = true;
            reactor.watch(self.bell.as_fd(), Token { owner: self.owner, what: 0 });
        }
    }

    fn on_event(&mut self, event: Event, reactor: &mut Reactor, done: &mut Vec<Completion>) {
        assert_eq!(event.token.owner, self.owner);
        self.bell.silence();
        reactor.watch(self.bell.as_fd(), event.token);
        let mut shared = self.shared.lock().unwrap();
        let count = std::mem::take(&mut shared.to_release);
        shared.held -= count;
        done.extend(self.held.drain(..count).map(complete));
    }

    fn attach(&mut self, owner: u32) {
        self.owner = owner;
    }

    fn resetter(&self) -> Option<Job> {
        let shared = Arc::clone(&self.shared);
        if !shared.lock().unwrap().resettable {
            return None;
        }
        Some(Box::new(move || {
            shared.lock().unwrap().resets += 1;
            loop {
                match shared.lock().unwrap().verdict.take() {
                    Some(true) => return Ok(()),
                    Some(false) => return Err(io::ErrorKind::TimedOut.into()),
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        }))
    }

    fn unlocker(&self) -> Option<Job> {
        let shared = Arc::clone(&self.shared);
        let holds = shared.lock().unwrap().holds_medium;
        holds.then(|| -> Job {
            Box::new(move || {
                // Longer than the worker would need to end.
                std::thread::sleep(Duration::from_millis(50));
                shared.lock().unwrap().unlocked += 1;
                Ok(())
            })
        })
    }

    fn device_type(&self) -> u8 {
        self.device_type
    }
}
