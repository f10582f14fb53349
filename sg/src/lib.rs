//! SCSI commands on host devices and on emulated disks.
//!
//! Nothing here knows Xen: a [`LogicalUnit`] takes a [`Command`] with its memory, and a [`Completion`] brings the
//! outcome and the memory back. [`SgDevice`] passes commands to a SCSI device of the host; [`disk::EmulatedDisk`] answers
//! them from memory, and [`disk::FileDisk`] from a file; [`ReadOnly`] lets nothing be written through either, and [`Policed`] nothing that harms others. All of them work on one [`Reactor`] per
//! worker.
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

/// Counts what a test asks of it.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: assert_no_alloc::AllocDisabler = assert_no_alloc::AllocDisabler;

pub mod commands;
mod conflict;
mod device;
pub mod disk;
mod engine;
mod filtered;
mod locate;
mod logical_unit;
mod policy;
mod reactor;
mod read_only;
mod reservations;
mod reserved;
mod results;
pub mod scsi;
mod shared;
pub mod sys;
mod threaded;
mod transfer_limit;
mod vpd;
mod wwn;

pub use commands::{CommandSet, Group, Groups};
pub use device::{OpenError, SgDevice, check_bsg};
pub use engine::Engine;
pub use filtered::{Filter, Filtered, Verdict};
pub use locate::{Hctl, LocateError, Locator, NotHctl};
pub use logical_unit::{Command, Completion, Job, LogicalUnit, Tag, buffer_len, deliver};
pub use policy::{OnRefusal, Policed, Refusal};
pub use reactor::{Event, Reactor, ReactorKind, Token};
pub use read_only::ReadOnly;
pub use reservations::Initiator;
pub use reserved::Reserved;
pub use scsi::{Cdb, DataDirection, HostStatus, Outcome, SamStatus, Sense};
pub use shared::{Directories, Shared, SharedError};
pub use transfer_limit::TransferLimit;
pub use wwn::{NotWwn, Wwn};
