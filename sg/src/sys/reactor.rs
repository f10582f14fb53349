//! The two forms of a reactor, and the operations they have in common.

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pvscsi_guestmem::{Buffer, Span};

use crate::reactor::{Event, ReactorKind, Token};
use crate::sys::bsg::COMMAND_LEN;
use crate::sys::poller::Poller;
use crate::sys::uring::Uring;

/// Memory that an operation uses, kept alive by the reactor until the operation is finished.
pub(crate) type Keep = Arc<dyn Any + Send + Sync>;

/// An array of iovecs that an operation of the kernel will read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoVecs {
    pub(crate) first: *const libc::iovec,
    pub(crate) count: u32,
}

/// What an operation does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// Wait for the descriptor to become readable.
    Watch,
    /// Read up to 8 bytes into memory of the reactor, as soon as there is something.
    ReadWord,
    /// Write these bytes; when all of them are written, go on as a `ReadWord`.
    WriteAndReadWord([u8; 4]),
    /// Gather-write.
    Writev(IoVecs),
    /// Scatter-read, waiting until there is something.
    Readv(IoVecs),
    /// Read or write a part of a file; by io_uring only.
    File { way: Way, first: *mut u8, bytes: u32, offset: u64 },
    /// Wait until what was written to a file is on stable storage; by io_uring only.
    Sync,
    /// `IORING_OP_URING_CMD` with this command; with `again` the kernel may wait for what it needs. `registered`: its data lies in
    /// memory for which [`Form::has_registered`] was true. By io_uring only.
    Command { command: *const [u8; COMMAND_LEN], again: bool, registered: bool },
}

/// Which way data goes between memory and a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the file.
    Read,
    /// To the file.
    Write,
}

/// An operation under way.
pub(crate) struct Operation {
    pub(crate) fd: RawFd,
    pub(crate) what: What,
    /// `None`: its owner is gone, and nobody is told.
    pub(crate) token: Option<Token>,
    /// Dropped with the operation, never read.
    pub(crate) _keep: Option<Keep>,
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation")
            .field("fd", &self.fd)
            .field("what", &self.what)
            .field("token", &self.token)
            .finish()
    }
}

// SAFETY: the pointers lead into memory that `_keep` owns; it is Send + Sync, and they are followed by the kernel
// (or by the thread that has the reactor) only.
unsafe impl Send for Operation {}

#[derive(Debug)]
pub(crate) enum Form {
    IoUring(Box<Uring>),
    Poll(Poller),
}

impl Form {
    pub(crate) fn new(kind: ReactorKind) -> io::Result<Self> {
        let uring = |_| Uring::new().map(|uring| Self::IoUring(Box::new(uring)));
        match kind {
            ReactorKind::IoUring => uring(()),
            ReactorKind::Poll => Ok(Self::Poll(Poller::default())),
            ReactorKind::Auto => Ok(uring(()).unwrap_or_else(|error| {
                tracing::info!("no io_uring here ({error}): using poll");
                Self::Poll(Poller::default())
            })),
        }
    }

    pub(crate) fn offer(&mut self, memory: Span) {
        if let Self::IoUring(uring) = self {
            uring.offer(memory);
        }
    }

    /// Whether the kernel has the memory of this buffer pinned for us.
    pub(crate) fn has_registered(&mut self, buffer: &Buffer) -> bool {
        match self {
            Self::IoUring(uring) => uring.has_registered(buffer),
            Self::Poll(_) => false,
        }
    }

    pub(crate) fn watch(&mut self, fd: BorrowedFd<'_>, token: Token) {
        self.start_alone(fd, What::Watch, token);
    }

    pub(crate) fn read_word(&mut self, fd: BorrowedFd<'_>, token: Token) {
        self.start_alone(fd, What::ReadWord, token);
    }

    pub(crate) fn write_and_read_word(&mut self, fd: BorrowedFd<'_>, bytes: [u8; 4], token: Token) {
        self.start_alone(fd, What::WriteAndReadWord(bytes), token);
    }

    /// Starts what needs no memory of others.
    fn start_alone(&mut self, fd: BorrowedFd<'_>, what: What, token: Token) {
        self.start(Operation { fd: fd.as_raw_fd(), what, token: Some(token), _keep: None });
    }

    /// Starts a read, a write, a sync or a command.
    ///
    /// # Safety
    ///
    /// The descriptor, the iovecs or the command, and all they point to stay valid as long as `keep` lives, and nobody but the kernel touches them until
    /// the event of this operation was returned by [`wait`](Self::wait).
    pub(crate) unsafe fn transfer(&mut self, fd: BorrowedFd<'_>, what: What, token: Token, keep: Keep) {
        self.start(Operation { fd: fd.as_raw_fd(), what, token: Some(token), _keep: Some(keep) });
    }

    fn start(&mut self, operation: Operation) {
        match self {
            Self::IoUring(uring) => uring.start(operation),
            Self::Poll(poller) => poller.start(operation),
        }
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        match self {
            Self::IoUring(uring) => uring.wait(timeout, events),
            Self::Poll(poller) => poller.wait(timeout, events),
        }
    }

    pub(crate) fn hand_over(&mut self) -> io::Result<()> {
        match self {
            Self::IoUring(uring) => uring.hand_over(),
            Self::Poll(_) => Ok(()),
        }
    }

    pub(crate) fn has_news(&mut self) -> bool {
        match self {
            Self::IoUring(uring) => uring.has_news(),
            Self::Poll(poller) => poller.has_news(),
        }
    }

    pub(crate) fn settle(&mut self, limit: Instant) -> bool {
        match self {
            Self::IoUring(uring) => uring.settle(Some(limit)),
            // It has no commands of drivers, and the system has nothing of the others.
            Self::Poll(_) => true,
        }
    }

    pub(crate) fn cancel(&mut self, owner: u32) {
        match self {
            Self::IoUring(uring) => uring.cancel(owner),
            Self::Poll(poller) => poller.cancel(owner),
        }
    }
}
