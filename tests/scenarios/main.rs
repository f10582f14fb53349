//! Scenarios over the simulated Xen.
