//! A simulated Xen.
#![forbid(unsafe_code)]
