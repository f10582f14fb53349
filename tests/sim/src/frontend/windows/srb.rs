//! What Windows asks and hears: SRBs, and the answers to them.

use pvscsi_guestmem::PAGE_SIZE;
use pvscsi_ring::vscsiif::VSCSIIF_SG_TABLESIZE;

use crate::frontend::Reply;

/// Bytes of the largest command: the driver tells Windows one page more, and refuses that itself.
pub const MAX_TRANSFER: usize = (VSCSIIF_SG_TABLESIZE - 1) * PAGE_SIZE;

/// What Windows is told of an SRB (`SRB_STATUS_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SrbStatus {
    /// It is done, and the data is right.
    Success,
    /// It failed. Sense data was copied, but nothing says that it is valid.
    Error,
    /// Windows tries again.
    Busy,
    /// The table of devices has nothing there.
    NoDevice,
    /// The driver does not pass this on.
    InvalidRequest,
}

/// A command that came back.
#[derive(Clone, Debug)]
pub struct Completed {
    /// All that the driver keeps of `rslt`.
    pub word: u16,
    /// What the backend sent, for the test. Windows sees its sense and data.
    pub sent: Reply,
}

impl Completed {
    /// What Windows is told.
    #[must_use]
    pub fn status(&self) -> SrbStatus {
        if self.word == 0 { SrbStatus::Success } else { SrbStatus::Error }
    }
}

/// REPORT LUNS, PREVENT ALLOW MEDIUM REMOVAL, and MODE SENSE (6) but for all pages and for page 00h.
pub(super) fn is_refused_in_the_driver(cdb: &[u8]) -> bool {
    match cdb {
        [0xa0 | 0x1e, ..] => true,
        [0x1a, _, page, ..] => !matches!(page & 0x3f, 0x00 | 0x3f),
        _ => false,
    }
}
