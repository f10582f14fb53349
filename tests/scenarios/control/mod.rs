//! The control plane: the real `Server` between a simulated xenstore, a simulated hypervisor and Linux's xenbus.
//!
//! Each test has a [`Machine`] of its own and ends with its invariants.

mod attach_all;
mod auto;
mod close;
mod connect;
mod create;
mod driver_domain;
mod exhausted;
mod hostile;
mod hotplug;
mod io;
mod legal;
mod machine;
mod neighbours;
mod process;
mod raw;
mod reboot;
mod reservations;
mod shared;
mod texts;
mod tools;
mod toolstack;
mod vanish;

use io::check_io;
use machine::{Machine, eventually};
use toolstack::Dev;
