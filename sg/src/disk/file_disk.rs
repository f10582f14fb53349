//! An emulated disk on a file, which may take its time.
//!
//! READ and WRITE move their data by io_uring, many at once. All other commands, and those that the disk will not simply do
//! ([`EmulatedDisk::transfer`]), go to a thread, one after the other; so does everything where there is no io_uring.
//!
//! Order: a command goes to the thread when all transfers before it are finished, and transfers wait for the thread. So the disk is
//! never looked at here while the thread works on it, and its lock is always free.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::EmulatedDisk;
use super::attention::ResetFlag;
use super::direct::Transfer;
use crate::logical_unit::{Command, Completion, Job, LogicalUnit};
use crate::reactor::{Event, Reactor, Token};
use crate::scsi::Outcome;
use crate::sys::lent::Lent;
use crate::threaded::{QUEUE, Threaded, task_set_full};

/// [`Token::what`] of the thread; a transfer has the number of its slot.
const THREAD: u32 = 1 << 16;

/// An [`EmulatedDisk`] whose medium may block: no other unit waits for it.
pub struct FileDisk {
    disk: Arc<Mutex<EmulatedDisk>>,
    thread: Threaded,
    reset: ResetFlag,
    device_type: u8,
    owner: u32,
    waiting: VecDeque<Waiting>,
    moving: Vec<Option<Moving>>,
    /// For transfers to come: as many as there can be.
    idle: Vec<Lent>,
}

struct Waiting {
    command: Command,
    /// Its transfer has failed: the disk does it once more, and says why.
    for_thread: bool,
}

/// A READ or WRITE that was started.
struct Moving {
    /// Without its buffer.
    command: Command,
    lent: Lent,
    transfer: Transfer,
    moved: u32,
    room: u32,
}

/// What an event means for its transfer.
enum Next {
    Continue,
    Answer(Outcome),
    /// There is less in the file, or something is wrong with it.
    Repeat,
}

impl fmt::Debug for FileDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileDisk")
            .field("waiting", &self.waiting.len())
            .field("moving", &self.moving())
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}

impl FileDisk {
    /// Starts the thread of a disk.
    ///
    /// # Errors
    ///
    /// When there is no descriptor or no thread left.
    pub fn new(disk: EmulatedDisk) -> io::Result<Self> {
        let (file, reset, device_type) = (disk.file(), disk.reset_flag(), disk.device_type());
        let disk = Arc::new(Mutex::new(disk));
        let in_thread = Arc::clone(&disk);
        let thread = Threaded::start("file disk", device_type, THREAD, move |command| {
            in_thread.lock().unwrap_or_else(PoisonError::into_inner).perform(command)
        })?;
        let (waiting, moving) = (VecDeque::with_capacity(QUEUE), Vec::with_capacity(QUEUE));
        let idle = (0..QUEUE).map(|_| Lent::new(Arc::clone(&file))).collect();
        Ok(Self { disk, thread, reset, device_type, owner: 0, waiting, moving, idle })
    }

    fn moving(&self) -> usize {
        self.moving.iter().flatten().count()
    }

    /// Starts what may be started, in the order of submission.
    fn start(&mut self, reactor: &mut Reactor) {
        let by_io_uring = reactor.is_io_uring();
        while !(by_io_uring && self.thread.under_way() > 0) {
            let Some(next) = self.waiting.pop_front() else { return };
            let transfer = if by_io_uring && !next.for_thread { self.transfer(&next.command) } else { None };
            match transfer {
                Some(transfer) => self.begin(next.command, transfer, reactor),
                None if self.moving() == 0 => self.pass(next.command),
                None => {
                    self.waiting.push_front(next);
                    return;
                }
            }
        }
    }

    fn transfer(&self, command: &Command) -> Option<Transfer> {
        let room = command.buffer.as_ref()?.len();
        let Ok(disk) = self.disk.try_lock() else { unreachable!("the thread has nothing to do") };
        disk.transfer(&command.cdb, command.direction, room)
    }

    fn pass(&mut self, command: Command) {
        let mut refused = Vec::new();
        self.thread.submit(command, &mut refused);
        assert!(refused.is_empty(), "the thread has room for all: {refused:?}");
    }

    fn begin(&mut self, mut command: Command, transfer: Transfer, reactor: &mut Reactor) {
        let Some(buffer) = command.buffer.take() else { unreachable!("a transfer has a buffer") };
        let Ok(room) = u32::try_from(buffer.len()) else { unreachable!("a buffer of {}", buffer.len()) };
        let Some(mut lent) = self.idle.pop() else { unreachable!("more than {QUEUE} commands") };
        lent.lend(buffer);
        let moving = Moving { command, lent, transfer, moved: 0, room };
        let index = self.moving.iter().position(Option::is_none).unwrap_or_else(|| {
            self.moving.push(None);
            self.moving.len().saturating_sub(1)
        });
        self.go_on(index, moving, reactor);
    }

    /// Puts the next operation of a transfer on the reactor.
    fn go_on(&mut self, index: usize, moving: Moving, reactor: &mut Reactor) {
        let Ok(what) = u32::try_from(index) else { unreachable!("slot {index} of {QUEUE}") };
        let token = Token { owner: self.owner, what };
        let Transfer { way, offset, bytes, .. } = moving.transfer;
        match bytes.saturating_sub(moving.moved) {
            0 => moving.lent.sync(token, reactor),
            left => {
                let at = offset.saturating_add(moving.moved.into());
                moving.lent.transfer(way, (moving.moved, left), at, token, reactor);
            }
        }
        if let Some(slot) = self.moving.get_mut(index) {
            *slot = Some(moving);
        }
    }

    fn on_moved(&mut self, event: Event, reactor: &mut Reactor, done: &mut Vec<Completion>) {
        let index = usize::try_from(event.token.what).unwrap_or(usize::MAX);
        let Some(mut moving) = self.moving.get_mut(index).and_then(Option::take) else {
            unreachable!("an event for slot {index}, which is free")
        };
        match moving.next(event.result) {
            Next::Continue => self.go_on(index, moving, reactor),
            Next::Answer(outcome) => {
                let Command { tag, buffer, .. } = self.end(moving);
                done.push(Completion { tag, outcome, buffer });
            }
            Next::Repeat => {
                let command = self.end(moving);
                // Before all that came after it.
                self.waiting.push_front(Waiting { command, for_thread: true });
            }
        }
    }

    /// The command of a transfer, with its buffer.
    fn end(&mut self, moving: Moving) -> Command {
        let Moving { command, mut lent, .. } = moving;
        let buffer = Some(lent.give_back());
        self.idle.push(lent);
        Command { buffer, ..command }
    }
}

impl Moving {
    fn next(&mut self, result: i32) -> Next {
        let Transfer { bytes, sync, .. } = self.transfer;
        let good = Next::Answer(Outcome::good(self.room.saturating_sub(bytes)));
        if self.moved == bytes {
            // Not to be repeated: the kernel tells an error of writing back once, and then a sync goes well.
            let error = io::Error::from_raw_os_error(result.saturating_neg());
            let failed = || Outcome::check_condition(self.transfer.not_synced(&error), self.room);
            return if result < 0 { Next::Answer(failed()) } else { good };
        }
        match u32::try_from(result) {
            Ok(0) | Err(_) => return Next::Repeat,
            Ok(moved) => self.moved = self.moved.saturating_add(moved),
        }
        if self.moved == bytes && !sync { good } else { Next::Continue }
    }
}

impl LogicalUnit for FileDisk {
    fn submit(&mut self, command: Command, done: &mut Vec<Completion>) {
        let taken = self.waiting.len().saturating_add(self.moving()).saturating_add(self.thread.under_way());
        if taken < QUEUE {
            self.waiting.push_back(Waiting { command, for_thread: false });
        } else {
            done.push(task_set_full(command));
        }
    }

    fn flush(&mut self, reactor: &mut Reactor) {
        self.start(reactor);
        self.thread.flush(reactor);
    }

    fn on_event(&mut self, event: Event, reactor: &mut Reactor, done: &mut Vec<Completion>) {
        match event.token.what {
            THREAD => self.thread.on_event(event, reactor, done),
            _ => self.on_moved(event, reactor, done),
        }
        self.start(reactor);
    }

    fn attach(&mut self, owner: u32) {
        self.owner = owner;
        self.thread.attach(owner);
    }

    fn resetter(&self) -> Option<Job> {
        Some(self.reset.job())
    }

    fn device_type(&self) -> u8 {
        self.device_type
    }
}
