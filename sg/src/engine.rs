//! How commands come to the SCSI devices of the host.

use std::fmt;

use crate::reactor::ReactorKind;

/// How commands come to the SCSI devices of the host. Emulated disks have none: with [`SgEpoll`](Self::SgEpoll) they do without
/// io_uring too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The first of the others that this kernel has, for each device.
    #[default]
    Auto,
    /// The bsg driver, by one operation of io_uring's for each command (Linux 7.1).
    BsgUring,
    /// The sg driver, by io_uring (Linux 5.19).
    SgUring,
    /// The sg driver, by poll and plain system calls.
    SgEpoll,
}

impl Engine {
    /// The reactor that it needs.
    #[must_use]
    pub fn reactor(self) -> ReactorKind {
        match self {
            Self::Auto => ReactorKind::Auto,
            Self::BsgUring | Self::SgUring => ReactorKind::IoUring,
            Self::SgEpoll => ReactorKind::Poll,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::BsgUring => "bsg-uring",
            Self::SgUring => "sg-uring",
            Self::SgEpoll => "sg-epoll",
        })
    }
}
