//! What the control plane and a worker say to each other. A worker never reads xenstore.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use nix::sys::eventfd::{EfdFlags, EventFd};
use pvscsi_ring::{Nexus, RingError};
use pvscsi_sg::LogicalUnit;

/// An order to a worker.
pub enum Order {
    /// Serve a further logical unit.
    Add(Nexus, Box<dyn LogicalUnit>),
    /// Serve this one no more. Told by [`News::Removed`] when its commands are answered.
    Remove(Nexus),
    /// Let running commands finish for a bounded time, then end.
    Stop,
}

/// What a worker reports.
#[derive(Debug)]
pub enum News {
    /// The unit takes no commands any more, and all that it had were answered.
    Removed(Nexus),
    /// The worker has ended; ring and event channel are given back.
    Ended(Result<(), WorkerError>),
}

/// Why a worker ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The guest's producer index is impossible.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The event channel or the reactor failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A bell that a poll hears.
#[derive(Clone)]
pub struct Bell(Arc<EventFd>);

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bell")
    }
}

impl Bell {
    /// Makes a bell.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(Arc::new(EventFd::from_value_and_flags(0, flags)?)))
    }

    /// Rings.
    pub fn ring(&self) {
        let rung = self.0.write(1);
        // A full counter rings as well.
        assert!(matches!(rung, Ok(_) | Err(nix::Error::EAGAIN)), "eventfd: {rung:?}");
    }

    /// Stops ringing.
    pub fn silence(&self) {
        let read = self.0.read();
        assert!(matches!(read, Ok(_) | Err(nix::Error::EAGAIN)), "eventfd: {read:?}");
    }

    /// Readable while it rings.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The worker's end.
#[derive(Debug)]
pub struct WorkerEnd {
    /// Orders to come.
    pub orders: Receiver<Order>,
    /// Rings when there are some.
    pub orders_bell: Bell,
    /// Where news go, with the name of the vhost.
    pub news: Sender<(u32, News)>,
    /// To be rung after each.
    pub news_bell: Bell,
    /// The vhost's number.
    pub vhost: u32,
}

impl WorkerEnd {
    /// Reports to the control plane.
    pub fn tell(&self, news: News) {
        // Without a listener the process is on its way out.
        let _ = self.news.send((self.vhost, news));
        self.news_bell.ring();
    }
}
