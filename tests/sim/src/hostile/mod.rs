//! A guest that may do anything, as a list of actions, and what has to be true whatever it does.
//!
//! A list runs on the ring of a [`LinuxFrontend`](crate::LinuxFrontend) that a [`HostileGuest`] takes over, or on any other
//! that somebody serves: what a guest needs of its hypervisor is [`GuestXen`]. Where the list comes from is the caller's business: a property test, a fuzzer
//! ([`Action::from_bytes`] makes an action from any bytes), or a bug report.

mod action;
mod expected;
mod guest;
mod pages;
mod slots;
#[cfg(test)]
mod tests;
mod xen;

pub use action::{ACTION_BYTES, Action, Index, Memory, Put};
pub use guest::{Backend, End, HostileGuest};
pub use xen::{GuestXen, SimXen};
