//! What the control plane and a worker say to each other. A worker never reads xenstore.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use nix::sys::eventfd::{EfdFlags, EventFd};
use pvscsi_ring::{Nexus, RingError};
use pvscsi_sg::{LogicalUnit, Reactor, ReactorKind};

use crate::cpus::Cpu;
use crate::worker::{Connection, Worker};

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

impl WorkerError {
    fn stuck() -> Self {
        Self::System { what: "waiting for the worker", source: io::ErrorKind::TimedOut.into() }
    }
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

    /// Stops ringing; `true` if it rang.
    pub fn silence(&self) -> bool {
        let read = self.0.read();
        assert!(matches!(read, Ok(_) | Err(nix::Error::EAGAIN)), "eventfd: {read:?}");
        read.is_ok()
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
    /// Where news go.
    pub news: Sender<News>,
    /// To be rung after each.
    pub news_bell: Bell,
    /// Guest and vhost, for messages.
    pub name: String,
}

impl WorkerEnd {
    /// Reports to the control plane.
    pub fn tell(&self, news: News) {
        // Without a listener the process is on its way out.
        let _ = self.news.send(news);
        self.news_bell.ring();
    }
}

/// Who a worker is, and where it runs.
#[derive(Debug)]
pub struct Seat {
    /// Guest and vhost, for messages.
    pub name: String,
    /// The thread's name, of which Linux keeps 15 bytes.
    pub thread: String,
    /// The thread's only CPU; `None`: the kernel chooses.
    pub cpu: Option<Cpu>,
}

impl Seat {
    /// For a worker that runs where the kernel likes.
    #[must_use]
    pub fn anywhere(name: &str) -> Self {
        Self { name: name.to_owned(), thread: name.to_owned(), cpu: None }
    }
}

/// The control plane's end of a running worker.
#[derive(Debug)]
pub struct WorkerHandle {
    thread: Option<JoinHandle<()>>,
    orders: Sender<Order>,
    orders_bell: Bell,
    news: Receiver<News>,
}

/// How long the control plane waits for a worker beyond the time that the worker takes to drain.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a thread takes to go when its worker has ended.
const LAST: Duration = Duration::from_secs(1);

impl WorkerHandle {
    /// Starts a thread that serves `connection`. `news_bell` rings when it has something to say.
    ///
    /// # Errors
    ///
    /// When there are no descriptors, no memory or no thread left.
    pub fn start(seat: Seat, connection: Connection, kind: ReactorKind, news_bell: Bell) -> io::Result<Self> {
        let Seat { name, thread, cpu } = seat;
        let (orders, orders_out) = crossbeam_channel::unbounded();
        let (news_in, news) = crossbeam_channel::unbounded();
        let orders_bell = Bell::new()?;
        let end = WorkerEnd {
            name,
            orders: orders_out,
            orders_bell: orders_bell.clone(),
            news: news_in,
            news_bell,
        };
        // An io_uring belongs to the thread that makes it, and memory to where it is first touched, so all of the worker is made there.
        let (ready, started) = crossbeam_channel::bounded(1);
        let thread = std::thread::Builder::new().name(thread).spawn(move || {
            if let Some(Err(error)) = cpu.as_ref().map(Cpu::pin)
                && connection.log_limit.pass(Instant::now()).is_some()
            {
                tracing::warn!("{}: its worker does not stay on its CPU: {error}", end.name);
            }
            match Reactor::new(kind).and_then(|reactor| Worker::new(connection, end, reactor)) {
                Ok(worker) => {
                    let _ = ready.send(Ok(()));
                    worker.run();
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        })?;
        started.recv().unwrap_or_else(|_| Err(io::Error::other("the worker died while it started")))?;
        Ok(Self { thread: Some(thread), orders, orders_bell, news })
    }

    fn order(&self, order: Order) {
        // A worker that has ended has said why; its orders do not matter any more.
        let _ = self.orders.send(order);
        self.orders_bell.ring();
    }

    /// Serves a further unit from now on.
    pub fn add(&self, nexus: Nexus, unit: Box<dyn LogicalUnit>) {
        self.order(Order::Add(nexus, unit));
    }

    /// Removes a unit, and waits until its last command is answered, which the worker does in bounded time. `Err`: the worker
    /// ended meanwhile.
    ///
    /// # Errors
    ///
    /// Why it ended.
    pub fn remove(&self, nexus: Nexus) -> Result<(), WorkerError> {
        self.order(Order::Remove(nexus));
        loop {
            match self.news.recv_timeout(PATIENCE) {
                Ok(News::Removed(removed)) if removed == nexus => return Ok(()),
                Ok(News::Removed(_)) => {}
                Ok(News::Ended(ended)) => return ended,
                Err(_) => return Err(WorkerError::stuck()),
            }
        }
    }

    /// Why the worker ended by itself, if it did.
    pub fn ended(&self) -> Option<WorkerError> {
        self.news.try_iter().find_map(|news| match news {
            News::Ended(ended) => ended.err(),
            News::Removed(_) => None,
        })
    }

    /// Tells the worker to end; [`join`](Self::join) waits for it.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    /// Stops the worker and waits for its end, which comes in bounded time unless the kernel holds its thread.
    ///
    /// # Errors
    ///
    /// Why it ended otherwise than told.
    pub fn join(mut self) -> Result<(), WorkerError> {
        self.stop();
        let ended = loop {
            match self.news.recv_timeout(PATIENCE) {
                Ok(News::Removed(_)) => {}
                Ok(News::Ended(ended)) => break ended,
                Err(RecvTimeoutError::Timeout) => return Err(WorkerError::stuck()),
                // It had ended before, and said so then.
                Err(RecvTimeoutError::Disconnected) => break Ok(()),
            }
        };
        if let Some(thread) = self.thread.take() {
            let start = Instant::now();
            while !thread.is_finished() && start.elapsed() < LAST {
                std::thread::sleep(Duration::from_millis(1));
            }
            // One that waits for a device is left to that.
            if thread.is_finished() {
                let joined = thread.join();
                assert!(joined.is_ok(), "a worker panicked");
            }
        }
        ended
    }
}
