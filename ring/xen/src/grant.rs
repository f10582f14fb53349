//! Grants: pages that a guest lets us see.

use std::io;

use pvscsi_guestmem::SharedPage;

use crate::sys::grant_copy::CopyBatch;

/// A grant reference: an index into the guest's grant table, chosen by the guest, so never trusted
/// (grant_table.h, `grant_ref_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GrantRef(pub u32);

/// Why a page of the guest could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The hypervisor refused: no such grant, wrong domain, or it does not allow writing.
    #[error("grant reference {} of the guest cannot be mapped: {source}", .gref.0)]
    Refused {
        /// What the guest named.
        gref: GrantRef,
        /// What the system said.
        source: io::Error,
    },
}

/// The grants of one guest.
pub trait GrantTable: Send {
    /// Maps one page, readable and writable. Dropping the page unmaps it.
    ///
    /// # Errors
    ///
    /// [`GrantError`] when the hypervisor does not allow it.
    fn map_page(&self, gref: GrantRef) -> Result<SharedPage, GrantError>;

    /// Copies every segment of the batch; afterwards each has its own status. Segments succeed and fail
    /// one by one.
    ///
    /// # Errors
    ///
    /// When the batch as a whole could not be tried; no segment may then be relied on.
    fn copy(&self, batch: &mut CopyBatch<'_>) -> io::Result<()>;
}
