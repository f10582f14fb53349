//! A unit whose commands may take their time.
//!
//! A file system can block for as long as it likes, so what asks one is done in a thread: one command after the other, and no other unit
//! waits for them.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::logical_unit::{Command, Completion, Job, LogicalUnit, buffer_len};
use crate::reactor::{Event, Reactor, Token};
use crate::scsi::{HostStatus, Outcome, SamStatus, Sense};

/// Commands that can wait; more are answered TASK SET FULL.
pub(crate) const QUEUE: usize = 64;

/// A unit with a thread of its own.
pub(crate) struct Threaded {
    device_type: u8,
    /// Tells its events from those of others with the same owner.
    what: u32,
    /// `None` only while it is dropped.
    commands: Option<Sender<Command>>,
    finished: Receiver<Completion>,
    /// Rings when something is finished.
    bell: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
    owner: u32,
    watched: bool,
    under_way: usize,
}

impl fmt::Debug for Threaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threaded").field("under_way", &self.under_way).finish_non_exhaustive()
    }
}

impl Threaded {
    /// Whatever carries out commands, in a thread of this name.
    ///
    /// # Errors
    ///
    /// When there is no descriptor or no thread left.
    pub(crate) fn start(
        name: &str,
        device_type: u8,
        what: u32,
        mut perform: impl FnMut(Command) -> Completion + Send + 'static,
    ) -> io::Result<Self> {
        let (commands, to_do) = bounded(QUEUE);
        let (report, finished) = bounded(QUEUE);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let ringer = Arc::clone(&bell);
        let thread = Builder::new().name(name.into()).spawn(move || {
            for command in &to_do {
                if report.send(perform(command)).is_err() {
                    // The unit was given up with commands under way.
                    return;
                }
                let rung = ringer.write(1);
                assert!(matches!(rung, Ok(_) | Err(nix::Error::EAGAIN)), "eventfd: {rung:?}");
            }
        })?;
        Ok(Self {
            device_type,
            what,
            commands: Some(commands),
            finished,
            bell,
            thread: Some(thread),
            owner: 0,
            watched: false,
            under_way: 0,
        })
    }

    /// Commands that were taken and not answered yet.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }
}

/// The answer to a command for which there is no room.
pub(crate) fn task_set_full(Command { tag, buffer, .. }: Command) -> Completion {
    let residual = buffer_len(buffer.as_ref());
    let (host, status) = (HostStatus::OK, SamStatus::TASK_SET_FULL);
    Completion { tag, outcome: Outcome { host, status, sense: Sense::NONE, residual }, buffer }
}

impl LogicalUnit for Threaded {
    fn submit(&mut self, command: Command, done: &mut Vec<Completion>) {
        // Never more than the channel for results has room for, so the thread never waits for us.
        let sent = match &self.commands {
            Some(commands) if self.under_way < QUEUE => commands.try_send(command),
            _ => Err(TrySendError::Full(command)),
        };
        match sent {
            Ok(()) => self.under_way = self.under_way.saturating_add(1),
            Err(TrySendError::Full(command)) => done.push(task_set_full(command)),
            Err(TrySendError::Disconnected(_)) => unreachable!("the thread ends after its commands"),
        }
    }

    fn flush(&mut self, reactor: &mut Reactor) {
        if !std::mem::replace(&mut self.watched, true) {
            reactor.watch(self.bell.as_fd(), Token { owner: self.owner, what: self.what });
        }
    }

    fn on_event(&mut self, event: Event, reactor: &mut Reactor, done: &mut Vec<Completion>) {
        let read = self.bell.read();
        assert!(matches!(read, Ok(_) | Err(nix::Error::EAGAIN)), "eventfd: {read:?}");
        reactor.watch(self.bell.as_fd(), event.token);
        for completion in self.finished.try_iter() {
            self.under_way = self.under_way.saturating_sub(1);
            done.push(completion);
        }
    }

    fn attach(&mut self, owner: u32) {
        self.owner = owner;
    }

    fn resetter(&self) -> Option<Job> {
        None
    }

    fn device_type(&self) -> u8 {
        self.device_type
    }
}

impl Drop for Threaded {
    fn drop(&mut self) {
        self.commands = None;
        // An idle thread ends at once, and the file is closed when we return. One that hangs is left behind.
        if self.under_way == 0
            && let Some(thread) = self.thread.take()
        {
            let joined = thread.join();
            assert!(joined.is_ok(), "the thread of a unit panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Cdb, DataDirection, ReactorKind, Tag};

    fn command(tag: u32) -> Command {
        let cdb = Cdb::new([0; 16], 6).unwrap();
        Command {
            tag: Tag(tag),
            cdb,
            direction: DataDirection::None,
            buffer: None,
            timeout: Duration::from_secs(60),
        }
    }

    fn finish(command: Command) -> Completion {
        Completion { tag: command.tag, outcome: Outcome::good(0), buffer: command.buffer }
    }

    #[test]
    fn a_slow_medium_holds_up_nobody_who_submits() {
        for kind in [ReactorKind::Auto, ReactorKind::Poll] {
            let mut reactor = Reactor::new(kind).unwrap();
            let (go, going) = bounded::<()>(0);
            let mut disk = Threaded::start("test", 0, 0, move |command| {
                going.recv().unwrap();
                finish(command)
            })
            .unwrap();
            disk.attach(7);
            let (mut done, mut events) = (Vec::new(), Vec::new());
            for tag in 0..70 {
                disk.submit(command(tag), &mut done);
            }
            disk.flush(&mut reactor);
            let full: Vec<_> = done.drain(..).map(|c| (c.tag.0, c.outcome.status)).collect();
            let expected: Vec<_> = (64..70).map(|tag| (tag, SamStatus::TASK_SET_FULL)).collect();
            assert_eq!(full, expected);
            reactor.wait(Some(Duration::from_millis(10)), &mut events).unwrap();
            assert!(events.is_empty(), "nothing is finished yet");
            for _ in 0..64 {
                go.send(()).unwrap();
            }
            while done.len() < 64 {
                reactor.wait(None, &mut events).unwrap();
                for event in events.drain(..) {
                    disk.on_event(event, &mut reactor, &mut done);
                }
            }
            assert_eq!(done.iter().map(|c| c.tag.0).collect::<Vec<_>>(), (0..64).collect::<Vec<_>>());
            reactor.cancel(7);
        }
    }

    #[test]
    fn a_unit_that_hangs_can_be_dropped_and_one_that_is_idle_ends_its_thread() {
        let (go, going) = bounded::<()>(0);
        let alive = Arc::new(());
        let witness = Arc::clone(&alive);
        let make = move || {
            let (going, witness) = (going.clone(), Arc::clone(&witness));
            Threaded::start("test", 0, 0, move |command| {
                let _here = &witness;
                going.recv().unwrap();
                finish(command)
            })
            .unwrap()
        };
        let idle = make();
        let before = Arc::strong_count(&alive);
        drop(idle);
        assert_eq!(Arc::strong_count(&alive), before - 1, "its thread has ended");
        let mut hanging = make();
        hanging.submit(command(1), &mut Vec::new());
        drop(hanging);
        assert_eq!(Arc::strong_count(&alive), before, "its thread is still there");
        go.send(()).unwrap();
        while Arc::strong_count(&alive) == before {
            std::thread::yield_now();
        }
    }
}
