//! Event channels: a guest's port, and the backend's end of it as `/dev/xen/evtchn` shows it.
//!
//! Linux masks a port of evtchn as it fires, and lets it fire again when the process writes it back. An event that comes
//! meanwhile stays pending in Xen, once, however often it was raised.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use pvscsi_xen::{DomId, EventChannel, Port};

use crate::faults::Faults;
use crate::hypervisor::{Domain, Hypervisor};
use crate::lock;

/// Where an event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the guest to the backend.
    ToBackend,
    /// From the backend to the guest.
    ToGuest,
}

/// What can be made to go wrong with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFault {
    /// It never arrives.
    Lost,
    /// It arrives once more after it was taken.
    Doubled,
}

/// How often each end rang the other, lost events among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Notifications of the guest.
    pub to_backend: u64,
    /// Notifications of the backend.
    pub to_guest: u64,
}

/// Both ends of one channel.
#[derive(Debug)]
struct Channel {
    backend: DomId,
    state: Mutex<State>,
    rang: Condvar,
}

#[derive(Debug, Default)]
struct State {
    guest_closed: bool,
    /// Events that wait for the guest: at most 1, or 2 when one was doubled.
    guest_pending: u32,
    bound: Option<Bound>,
    counts: EventCounts,
    faults_to_backend: Faults<EventFault>,
    faults_to_guest: Faults<EventFault>,
}

/// The backend's end.
#[derive(Debug)]
struct Bound {
    bell: Arc<EventFd>,
    masked: bool,
    pending: bool,
}

impl Bound {
    fn deliver(&mut self) {
        if self.masked {
            self.pending = true;
        } else {
            self.masked = true;
            self.bell.write(1).expect("an eventfd takes far more events than one at a time");
        }
    }
}

impl State {
    fn deliver_to_backend(&mut self) {
        // An event for an unbound port is dropped without a word (Xen); binding makes up for it.
        if let Some(bound) = &mut self.bound {
            bound.deliver();
        }
    }
}

impl Channel {
    fn deliver_to_guest(&self, state: &mut State, times: u32) {
        state.guest_pending = state.guest_pending.max(times);
        self.rang.notify_all();
    }

    fn close_guest_end(&self) {
        lock(&self.state).guest_closed = true;
        self.rang.notify_all();
    }
}

#[derive(Debug)]
enum PortUse {
    Guest(Arc<Channel>),
    Backend,
}

/// The ports of one domain.
#[derive(Debug, Default)]
pub(crate) struct PortTable(BTreeMap<u32, PortUse>);

impl PortTable {
    fn insert(&mut self, usage: PortUse) -> Port {
        let Some(lowest) = (1..).find(|port| !self.0.contains_key(port)) else { unreachable!("2^32 ports") };
        self.0.insert(lowest, usage);
        Port(lowest)
    }

    fn guest_channel(&self, port: Port) -> Option<Arc<Channel>> {
        match self.0.get(&port.0)? {
            PortUse::Guest(channel) => Some(Arc::clone(channel)),
            PortUse::Backend => None,
        }
    }

    pub(crate) fn close_all(&self) {
        for usage in self.0.values() {
            if let PortUse::Guest(channel) = usage {
                channel.close_guest_end();
            }
        }
    }
}

impl Domain {
    /// Makes a port that `backend` may bind to (event_channel.h, `EVTCHNOP_alloc_unbound`): the lowest one free.
    #[must_use]
    pub fn alloc_unbound(&self, backend: DomId) -> GuestPort {
        let channel = Arc::new(Channel { backend, state: Mutex::default(), rang: Condvar::new() });
        let port = lock(self.ports()).insert(PortUse::Guest(Arc::clone(&channel)));
        GuestPort { domain: self.clone(), port, channel }
    }

    /// How many ports the domain has, its ends of the channels of other domains among them.
    #[must_use]
    pub fn open_ports(&self) -> usize {
        lock(self.ports()).0.len()
    }
}

/// The guest's end of a channel. Dropping it closes the port.
#[derive(Debug)]
pub struct GuestPort {
    domain: Domain,
    port: Port,
    channel: Arc<Channel>,
}

impl GuestPort {
    /// Its number, as the guest writes it to xenstore.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }

    /// Rings the backend. Nothing happens when no backend has bound the port.
    pub fn notify(&self) {
        let mut state = lock(&self.channel.state);
        state.counts.to_backend += 1;
        match state.faults_to_backend.next() {
            None => state.deliver_to_backend(),
            Some(EventFault::Lost) => {}
            Some(EventFault::Doubled) => {
                state.deliver_to_backend();
                state.deliver_to_backend();
            }
        }
    }

    /// Waits until the backend rings, and takes the event; `false` when it did not in time or the port is closed.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        let (mut state, _) = self
            .channel
            .rang
            .wait_timeout_while(lock(&self.channel.state), timeout, |state| {
                state.guest_pending == 0 && !state.guest_closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        let rang = state.guest_pending > 0;
        state.guest_pending = state.guest_pending.saturating_sub(1);
        rang
    }

    /// A handle to watch and disturb the channel from elsewhere.
    #[must_use]
    pub fn control(&self) -> PortControl {
        PortControl(Arc::clone(&self.channel))
    }
}

impl Drop for GuestPort {
    fn drop(&mut self) {
        self.channel.close_guest_end();
        lock(self.domain.ports()).0.remove(&self.port.0);
    }
}

/// What a test may ask of a channel and do to it. Clones are handles on the same channel.
#[derive(Clone, Debug)]
pub struct PortControl(Arc<Channel>);

impl PortControl {
    /// Lets the `nth` notification from now go wrong, once; 1 is the next.
    pub fn inject(&self, way: Way, nth: u64, fault: EventFault) {
        let mut state = lock(&self.0.state);
        match way {
            Way::ToBackend => state.faults_to_backend.arm(nth, fault),
            Way::ToGuest => state.faults_to_guest.arm(nth, fault),
        }
    }

    /// Raises an event that nobody sent. It is not counted.
    pub fn raise_spurious(&self, way: Way) {
        let mut state = lock(&self.0.state);
        match way {
            Way::ToBackend => state.deliver_to_backend(),
            Way::ToGuest => self.0.deliver_to_guest(&mut state, 1),
        }
    }

    /// How often each end rang up to now.
    #[must_use]
    pub fn counts(&self) -> EventCounts {
        lock(&self.0.state).counts
    }

    /// Whether a backend has bound the port.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        lock(&self.0.state).bound.is_some()
    }
}

/// The backend's end of a channel, in place of a descriptor on `/dev/xen/evtchn`. Dropping it unbinds: the guest's port
/// can be bound again.
#[derive(Debug)]
pub struct SimEvents {
    local: Domain,
    port: Port,
    bell: Arc<EventFd>,
    channel: Arc<Channel>,
}

impl SimEvents {
    pub(crate) fn bind(xen: &Hypervisor, local: DomId, remote: DomId, port: Port) -> io::Result<Self> {
        let remote = xen.existing_domain(remote).ok_or(Errno::ESRCH)?;
        let channel = lock(remote.ports()).guest_channel(port).ok_or(Errno::EINVAL)?;
        let bell =
            Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        {
            let mut state = lock(&channel.state);
            if channel.backend != local || state.guest_closed || state.bound.is_some() {
                return Err(Errno::EINVAL.into());
            }
            let mut bound = Bound { bell: Arc::clone(&bell), masked: false, pending: false };
            bound.deliver();
            state.bound = Some(bound);
        }
        let local = xen.domain(local);
        let port = lock(local.ports()).insert(PortUse::Backend);
        Ok(Self { local, port, bell, channel })
    }

    /// Takes the pending event, if there is one: a read of the descriptor.
    ///
    /// # Errors
    ///
    /// Whatever the read gives, except "nothing there", which is `Ok(false)`.
    pub fn take_pending(&mut self) -> io::Result<bool> {
        match self.bell.read() {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl EventChannel for SimEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    fn unmask(&mut self) -> io::Result<Option<[u8; 4]>> {
        let mut state = lock(&self.channel.state);
        let Some(bound) = &mut state.bound else { unreachable!("bound until the drop of this end") };
        bound.masked = false;
        if std::mem::take(&mut bound.pending) {
            bound.deliver();
        }
        Ok(None)
    }

    /// `EINVAL` when the guest has closed its end. (Linux is milder: it does not pass on what the hypervisor said.)
    fn notify(&mut self) -> io::Result<()> {
        let mut state = lock(&self.channel.state);
        if state.guest_closed {
            return Err(Errno::EINVAL.into());
        }
        state.counts.to_guest += 1;
        match state.faults_to_guest.next() {
            None => self.channel.deliver_to_guest(&mut state, 1),
            Some(EventFault::Lost) => {}
            Some(EventFault::Doubled) => self.channel.deliver_to_guest(&mut state, 2),
        }
        Ok(())
    }

    fn port(&self) -> Port {
        self.port
    }
}

impl Drop for SimEvents {
    fn drop(&mut self) {
        lock(&self.channel.state).bound = None;
        lock(self.local.ports()).0.remove(&self.port.0);
    }
}

#[cfg(test)]
mod tests;
