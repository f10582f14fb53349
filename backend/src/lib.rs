//! xen-pvscsi: a userspace PVSCSI backend for Xen.
//!
//! The data plane is [`worker`], one thread for each vhost; the control plane is `serve`, which owns xenstore. A worker starts
//! from a [`worker::Connection`] and never reads xenstore.
#![forbid(unsafe_code)]
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

mod absent;
pub mod check;
pub mod control;
pub mod cpus;
mod data;
pub mod demo;
mod emulate;
pub mod in_use;
pub mod interrupt;
pub mod libvirt;
pub mod limits;
pub mod lio;
pub mod log_limit;
pub mod measure;
pub mod options;
pub mod pdev;
mod pending;
mod resets;
pub mod serve;
pub mod toolstack;
mod v2p;
pub mod vdev;
pub mod vhost;
pub mod watch;
pub mod worker;
pub mod xenbus;
