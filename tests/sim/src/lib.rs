//! A simulated Xen: domains with grants and event channels, and guests in them, in one process.
//!
//! It needs no root, no device and no hypervisor. [`Hypervisor`] is the root of it; [`SimGrants`] and [`SimEvents`] are
//! what a backend gets in place of `/dev/xen/gntdev` and `/dev/xen/evtchn`; [`LinuxFrontend`] is a ring that behaves, and
//! complains, as that of Linux's xen-scsifront does, and [`LinuxGuest`] a guest with that driver in xenstore. What a test
//! must be able to provoke (a lost event, a grant that cannot be copied) is a fault armed in advance; what it must be able
//! to check is a counter.
#![forbid(unsafe_code)]

mod events;
mod faults;
pub mod frontend;
mod grants;
pub mod hostile;
mod hypervisor;
pub mod store;

pub use events::{EventCounts, EventFault, GuestPort, PortControl, SimEvents, Way};
pub use frontend::LinuxFrontend;
pub use frontend::xenbus::LinuxGuest;
pub use grants::{Access, GrantCounts, GrantFault, SimGrants, StillInUse};
pub use hypervisor::{Domain, Hypervisor};
pub use nix::errno::Errno;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic elsewhere: one failed test thread must not hide its reason behind a second panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
