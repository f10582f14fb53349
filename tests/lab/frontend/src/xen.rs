//! The real hypervisor under a hostile guest: `/dev/xen/gntalloc` and `/dev/xen/evtchn`.

use pvscsi_guestmem::SharedPage;
use pvscsi_sim::Access;
use pvscsi_sim::hostile::GuestXen;
use pvscsi_xen::sys::evtchn::Evtchn;
use pvscsi_xen::sys::gntalloc::Gntalloc;
use pvscsi_xen::{DomId, EventChannel, GrantRef};

/// The guest's end of one vhost. Dropping it closes the port.
#[derive(Debug)]
pub struct LinuxXen {
    /// Where pages come from.
    pub gntalloc: Gntalloc,
    /// The port that the backend binds to.
    pub port: Evtchn,
}

impl GuestXen for LinuxXen {
    fn grant(&self, to: DomId, access: Access) -> (GrantRef, SharedPage) {
        match self.gntalloc.grant(to, access == Access::ReadWrite) {
            Ok(granted) => granted,
            Err(error) => panic!("granting a page: {error}"),
        }
    }

    fn revoke(&self, _gref: GrantRef, page: SharedPage) {
        drop(page);
    }

    fn ring_bell(&mut self) {
        if let Err(error) = self.port.notify() {
            panic!("ringing the backend: {error}");
        }
    }
}
