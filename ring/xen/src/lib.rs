//! The seam to the hypervisor: grants, event channels, xenstore.
//!
//! [`GrantTable`] and [`EventChannel`] are traits, for a simulated Xen implements them too; [`sys`] holds their Linux
//! form (`/dev/xen/gntdev`, `/dev/xen/gntalloc`, `/dev/xen/evtchn`). Xenstore is a wire protocol over a
//! socket, so one client ([`xenstore::Xenstore`]) serves the real daemon and the simulated one alike.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::cast_possible_truncation
    )
)]

mod evtchn;
mod grant;
pub mod sys;
pub mod xenstore;

pub use evtchn::EventChannel;
pub use grant::{GrantError, GrantRef, GrantTable};
pub use sys::grant_copy::{CopyBatch, CopyOp, CopyStorage, Direction};

use std::fmt;

/// A domain's number (xen.h, `domid_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomId(pub u16);

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An event channel port of the domain it belongs to (event_channel.h, `evtchn_port_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port(pub u32);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
