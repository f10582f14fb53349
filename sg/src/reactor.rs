//! Waiting and submitting for one worker: operations on descriptors that complete later.
//!
//! Two forms behind one face: an io_uring, where one system call submits everything and waits, and `poll` with plain
//! system calls, where io_uring is missing or forbidden.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::sys;

/// Names an operation: who asked for it, and what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Who gets the event.
    pub owner: u32,
    /// The owner's own number for the operation.
    pub what: u32,
}

/// A finished operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// As given with the operation.
    pub token: Token,
    /// Bytes moved or poll events; a negative value is `-errno`.
    pub result: i32,
}

/// Which form a [`Reactor`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReactorKind {
    /// io_uring where it works, else poll.
    Auto,
    /// io_uring, or an error.
    IoUring,
    /// poll and plain system calls.
    Poll,
}

/// Operations on descriptors, for one thread.
#[derive(Debug)]
pub struct Reactor(pub(crate) sys::reactor::Form);

impl Reactor {
    /// Makes a reactor.
    ///
    /// # Errors
    ///
    /// With [`ReactorKind::IoUring`]: what `io_uring_setup` said. The other kinds do not fail for want of io_uring.
    pub fn new(kind: ReactorKind) -> io::Result<Self> {
        sys::reactor::Form::new(kind).map(Self)
    }

    /// Whether this is an io_uring.
    #[must_use]
    pub fn is_io_uring(&self) -> bool {
        matches!(self.0, sys::reactor::Form::IoUring(_))
    }

    /// Asks for one event when `fd` becomes readable (now, if it is). Must be asked for again after each event.
    ///
    /// # Panics
    ///
    /// When more operations are asked for than the reactor has room for; see [`CAPACITY`](Self::CAPACITY).
    pub fn watch(&mut self, fd: BorrowedFd<'_>, token: Token) {
        self.0.watch(fd, token);
    }

    /// Takes back everything that `owner` asked for and was not told of: no event for it follows.
    pub fn cancel(&mut self, owner: u32) {
        self.0.cancel(owner);
    }

    /// Submits what was asked for, waits until something is finished or `timeout` has passed (`None`: no limit;
    /// zero: does not wait), and adds what is finished to `events`.
    ///
    /// # Errors
    ///
    /// What the system call says; an interrupting signal is not an error.
    pub fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.0.wait(timeout, events)
    }

    /// Operations that can be under way at once.
    pub const CAPACITY: usize = 4096;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::time::Instant;

    const FORMS: [ReactorKind; 2] = [ReactorKind::Auto, ReactorKind::Poll];

    fn token(owner: u32, what: u32) -> Token {
        Token { owner, what }
    }

    #[test]
    fn a_watch_fires_once_and_only_when_readable() {
        for kind in FORMS {
            let mut reactor = Reactor::new(kind).unwrap();
            let (reader, mut writer) = std::io::pipe().unwrap();
            let mut events = Vec::new();
            reactor.watch(reader.as_fd(), token(7, 9));
            reactor.wait(Some(Duration::from_millis(10)), &mut events).unwrap();
            assert!(events.is_empty(), "{kind:?}: nothing to read yet");
            writer.write_all(b"x").unwrap();
            reactor.wait(None, &mut events).unwrap();
            assert_eq!(events.len(), 1, "{kind:?}");
            assert_eq!(events[0].token, token(7, 9));
            assert!(events[0].result > 0);
            events.clear();
            reactor.wait(Some(Duration::from_millis(10)), &mut events).unwrap();
            assert!(events.is_empty(), "{kind:?}: asked once, told once");
        }
    }

    #[test]
    fn a_wait_ends_with_its_time() {
        for kind in FORMS {
            let mut reactor = Reactor::new(kind).unwrap();
            let start = Instant::now();
            reactor.wait(Some(Duration::from_millis(20)), &mut Vec::new()).unwrap();
            assert!(start.elapsed() >= Duration::from_millis(19), "{kind:?}");
            reactor.wait(Some(Duration::ZERO), &mut Vec::new()).unwrap();
        }
    }

    #[test]
    fn a_cancelled_owner_hears_nothing_and_others_do() {
        for kind in FORMS {
            let mut reactor = Reactor::new(kind).unwrap();
            let (reader, mut writer) = std::io::pipe().unwrap();
            reactor.watch(reader.as_fd(), token(1, 0));
            reactor.watch(reader.as_fd(), token(2, 0));
            reactor.cancel(1);
            writer.write_all(b"x").unwrap();
            let mut events = Vec::new();
            while events.is_empty() {
                reactor.wait(None, &mut events).unwrap();
            }
            reactor.wait(Some(Duration::from_millis(10)), &mut events).unwrap();
            assert_eq!(events.iter().map(|event| event.token).collect::<Vec<_>>(), [token(2, 0)], "{kind:?}");
        }
    }

    /// More operations than the io_uring has submission slots, with a reactor that is dropped while they wait.
    #[test]
    fn many_operations_fit_and_are_dropped_in_good_order() {
        for kind in FORMS {
            let mut reactor = Reactor::new(kind).unwrap();
            let pipes: Vec<_> = (0..300).map(|_| std::io::pipe().unwrap()).collect();
            for (i, (reader, _)) in pipes.iter().enumerate() {
                reactor.watch(reader.as_fd(), token(i as u32, 0));
            }
            let mut events = Vec::new();
            (&pipes[299].1).write_all(b"x").unwrap();
            while events.is_empty() {
                reactor.wait(None, &mut events).unwrap();
            }
            assert_eq!(events[0].token, token(299, 0), "{kind:?}");
            drop(reactor);
        }
    }
}
