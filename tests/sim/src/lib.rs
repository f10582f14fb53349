//! A simulated Xen.
#![forbid(unsafe_code)]

pub mod store;
