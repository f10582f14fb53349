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
