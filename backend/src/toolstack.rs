//! The toolstack's half of PVSCSI, which upstream's xl does not have: attach, detach, list, and create around xl's own.
//!
//! The layout of the nodes, the order in which they are written and what is waited for are those of SUSE's libxl, so that both can
//! work on the same guest in turn. All nodes of a step are written in one transaction.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{self, Nodes, Xenstore};

use crate::pdev::PDevOpenError;
use crate::vdev::VDev;
use crate::xenbus::XenbusState;

mod attach;
mod attach_all;
pub mod auto;
pub mod config;
mod create;
mod detach;
pub mod list;
pub mod reboot;
pub mod spec;
mod tree;
mod xl;

pub(crate) use tree::{own, vm};

pub use attach::{Attached, Given};
pub use create::Creation;
pub use tree::{Device, Place, Vhost};
pub use xl::{Xl, XlError};

/// Why something could not be done. Unless it says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// Xenstore failed.
    #[error(transparent)]
    Store(#[from] xenstore::Error),
    /// No such guest.
    #[error("there is no domain {0:?} on this host; xl list shows those that are there")]
    NoDomain(String),
    /// A device that cannot be had.
    #[error("{name}: {source}")]
    Device {
        /// As given.
        name: String,
        /// Why.
        source: PDevOpenError,
    },
    /// Somebody else has the device.
    #[error("{name} is in use: {by}")]
    InUse {
        /// As given.
        name: String,
        /// Who, and what helps.
        by: String,
    },
    /// The address is in use.
    #[error("vdev {vdev} is taken by {by}")]
    Taken {
        /// The address.
        vdev: VDev,
        /// `p-devname` of the other device.
        by: String,
    },
    /// It is there, with other options.
    #[error("{name} is at vdev {vdev} already, with other options; detach it first")]
    OtherOptions {
        /// As given.
        name: String,
        /// The address.
        vdev: VDev,
    },
    /// Two devices of a vhost do not agree.
    #[error("vhost {0} is there with another feature-host; all devices of a vhost have the same")]
    FeatureHost(u32),
    /// `auto` has no more.
    #[error(
        "domain {domid}: auto finds no free host number: all below {hosts} are in use or named in the configuration, and xenstored has no room \
         for many more; give {name} an address in a vhost that is there, for example 0:0:1:0",
        hosts = auto::HOSTS
    )]
    NoHost {
        /// The guest.
        domid: DomId,
        /// As given.
        name: String,
    },
    /// A vhost is in one domain.
    #[error(
        "vhost {vhost} is in domain {home}, and the device is to be in domain {wanted}; take another host number"
    )]
    OtherBackend {
        /// The vhost.
        vhost: u32,
        /// Where it is.
        home: DomId,
        /// Where the device is to be.
        wanted: DomId,
    },
    /// Nothing is attached there.
    #[error("domain {domid} has no device at {vdev}; xen-pvscsi list {domid} shows what it has")]
    NoSuchDevice {
        /// The guest.
        domid: DomId,
        /// The address.
        vdev: VDev,
    },
    /// The vhost is busy with something else.
    #[error(
        "vhost {vhost} of domain {domid} is in state {state} and does not get ready; is its guest at work?"
    )]
    NotReady {
        /// The guest.
        domid: DomId,
        /// The vhost.
        vhost: u32,
        /// Its state.
        state: XenbusState,
    },
    /// Nobody answers.
    #[error("no backend takes up the device: is xen-pvscsi serve --domid {domid} running in domain {home}?")]
    NotServed {
        /// The guest.
        domid: DomId,
        /// The domain that has the device.
        home: DomId,
    },
    /// The backend could not give the device.
    #[error("{name}: the backend says: {why}")]
    Refused {
        /// As given.
        name: String,
        /// The error node.
        why: String,
    },
    /// The guest does not follow.
    #[error(
        "domain {0} does not let go of the device, which stays attached; detach --force takes it away all the same"
    )]
    Held(DomId),
    /// Something failed, and then not all that had been done could be taken back.
    #[error("{error}; and {left}: {why}")]
    Left {
        /// What failed first.
        error: Box<ToolError>,
        /// What stays, and that it does.
        left: String,
        /// Why it stays.
        why: Box<ToolError>,
    },
    /// xl failed, and has said why.
    #[error(transparent)]
    Xl(#[from] XlError),
    /// A guest without a name cannot be found again.
    #[error("no name = \"…\" in the configuration")]
    NoName,
    /// A signal.
    #[error("interrupted")]
    Interrupted,
    /// The system failed.
    #[error("waiting for xenstore: {0}")]
    Poll(nix::Error),
}

/// Changes and shows the vscsi devices of guests.
#[derive(Debug)]
pub struct Toolstack<'a> {
    store: Xenstore,
    /// Readable when the user has had enough; `None` while something is taken back.
    stop: Option<BorrowedFd<'a>>,
    /// This domain, which has the devices unless they name another.
    own: DomId,
    /// How long each step of the other ends may take: ten seconds, as in libxl (`LIBXL_INIT_TIMEOUT`, `LIBXL_DESTROY_TIMEOUT`).
    pub patience: Duration,
    /// Whether a new vhost is given a few seconds in which the guest may come for it. A paused guest does not.
    pub wait_for_guest: bool,
}

impl ToolError {
    /// The same, when `why` prevents that `left` is taken back.
    fn and_left(self, left: String, why: impl Into<Self>) -> Self {
        Self::Left { error: Box::new(self), left, why: Box::new(why.into()) }
    }
}

impl<'a> Toolstack<'a> {
    /// `stop`: a signalfd or an eventfd; waiting ends when it is readable.
    ///
    /// # Errors
    ///
    /// Failures of xenstore.
    pub fn new(mut store: Xenstore, stop: BorrowedFd<'a>) -> Result<Self, ToolError> {
        let own = tree::own(&mut store)?;
        Ok(Self { store, stop: Some(stop), own, patience: Duration::from_secs(10), wait_for_guest: true })
    }

    /// The guest of this number or name.
    ///
    /// # Errors
    ///
    /// [`ToolError::NoDomain`].
    pub fn domain(&mut self, text: &str) -> Result<DomId, ToolError> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let known = self.store.list("/local/domain")?;
        for id in known {
            let found = if is_number {
                id == text
            } else {
                let name = self.store.read(&format!("/local/domain/{id}/name"));
                name.is_ok_and(|name| name == text.as_bytes())
            };
            if found && let Ok(id) = id.parse() {
                return Ok(DomId(id));
            }
        }
        Err(ToolError::NoDomain(text.into()))
    }

    /// Looks again each time that something below `directory` changes, until there is something to see or the time is over.
    fn until<T>(
        &mut self,
        directory: &str,
        patience: Duration,
        mut look: impl FnMut(&mut Xenstore) -> Result<Option<T>, xenstore::Error>,
    ) -> Result<Option<T>, ToolError> {
        const TOKEN: &str = "toolstack";
        self.store.watch(directory, TOKEN)?;
        let seen = self.watched(patience, &mut look);
        self.store.unwatch(directory, TOKEN)?;
        seen
    }

    fn watched<T>(
        &mut self,
        patience: Duration,
        look: &mut impl FnMut(&mut Xenstore) -> Result<Option<T>, xenstore::Error>,
    ) -> Result<Option<T>, ToolError> {
        let start = Instant::now();
        loop {
            while self.store.next_event()?.is_some() {}
            if let Some(seen) = look(&mut self.store)? {
                return Ok(Some(seen));
            }
            let left = patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            let timeout =
                PollTimeout::try_from(left.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX);
            let fds = [Some(self.store.as_fd()), self.stop];
            let mut fds: Vec<_> =
                fds.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(ToolError::Poll(error)),
            }
            self.heed_stop()?;
        }
    }

    /// Fails when the user has had enough.
    fn heed_stop(&self) -> Result<(), ToolError> {
        let Some(stop) = self.stop else { return Ok(()) };
        let mut fds = [PollFd::new(stop, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(0) | Err(nix::Error::EINTR) => Ok(()),
            Ok(_) => Err(ToolError::Interrupted),
            Err(error) => Err(ToolError::Poll(error)),
        }
    }

    /// Takes something back, to its end: the signal that asked for it does not stop it.
    fn take_back<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let stop = self.stop.take();
        let done = work(self);
        self.stop = stop;
        done
    }
}
