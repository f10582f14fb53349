//! Scenarios over the simulated Xen: a guest, honest or not, against the real worker.
//!
//! Each ends with the invariants of [`vhost::Vhost`]: every request answered exactly once and in a form that Linux accepts, no
//! page mapped, no port bound, and no panic.

mod abort;
mod actions;
mod alone;
mod bad_requests;
mod changed_luns;
mod config;
mod control;
mod events;
mod hostile;
mod io;
mod lifecycle;
mod overdue;
mod places;
mod raw_guest;
mod read_only;
mod scripted_lun;
mod threads;
mod vhost;
mod windows;
