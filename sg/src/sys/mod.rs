//! The kernel's side: io_uring, sg headers.
pub(crate) mod reactor;
