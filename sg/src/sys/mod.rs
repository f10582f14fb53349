//! The kernel's side of this crate: io_uring, `poll`, and the headers of the sg driver. All `unsafe` is here.
#![expect(unsafe_code, reason = "system calls that work on memory of ours")]

pub(crate) mod lent;
mod poller;
pub(crate) mod reactor;
pub mod sg_io;
pub(crate) mod sg_queue;
mod uring;
