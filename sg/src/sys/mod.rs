//! The kernel's side of this crate: io_uring, `poll`, and the headers of the drivers sg and bsg. All `unsafe` is here.
#![expect(unsafe_code, reason = "system calls that work on memory of ours")]

pub mod bsg;
pub(crate) mod bsg_queue;
pub(crate) mod lent;
mod poller;
pub(crate) mod reactor;
pub mod sg_io;
pub(crate) mod sg_queue;
mod uring;
