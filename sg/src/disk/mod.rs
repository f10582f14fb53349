//! Emulated disks.
