//! What a hostile guest stands on: a domain of the simulated Xen, or of a real one.

use pvscsi_guestmem::{HeapPage, SharedPage};
use pvscsi_xen::{DomId, GrantRef};

use crate::{Access, Domain, PortControl, Way};

/// A guest's end of the hypervisor.
///
/// # Panics
///
/// All methods do when the hypervisor refuses: a guest that cannot even grant a page proves nothing.
pub trait GuestXen {
    /// Grants a new page of zeroes.
    fn grant(&self, to: DomId, access: Access) -> (GrantRef, SharedPage);

    /// Takes it back, whoever uses it.
    fn revoke(&self, gref: GrantRef, page: SharedPage);

    /// Rings the backend.
    fn ring_bell(&mut self);
}

/// A domain of the simulated Xen.
#[derive(Debug)]
pub struct SimXen {
    pub(super) domain: Domain,
    pub(super) port: PortControl,
}

impl GuestXen for SimXen {
    fn grant(&self, to: DomId, access: Access) -> (GrantRef, SharedPage) {
        let page = HeapPage::new();
        (self.domain.grant(&page, to, access), page.share())
    }

    fn revoke(&self, gref: GrantRef, _page: SharedPage) {
        self.domain.force_revoke(gref);
    }

    fn ring_bell(&mut self) {
        self.port.raise_spurious(Way::ToBackend);
    }
}
