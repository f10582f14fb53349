//! The domains of the simulated machine.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use pvscsi_xen::{DomId, Port};

use crate::events::{PortTable, SimEvents};
use crate::grants::{GrantSpace, SimGrants};
use crate::lock;

/// The simulated Xen. Clones are handles on the same one.
#[derive(Clone, Debug, Default)]
pub struct Hypervisor(Arc<Mutex<BTreeMap<DomId, Domain>>>);

/// A domain as its own kernel sees it: it grants pages and owns ports. Clones are handles on the same one.
///
/// A handle outlives [`Hypervisor::destroy_domain`], so that a test can count what the backend still holds; nobody can
/// reach the domain through the hypervisor then.
#[derive(Clone, Debug)]
pub struct Domain(Arc<State>);

#[derive(Debug)]
struct State {
    id: DomId,
    grants: GrantSpace,
    ports: Mutex<PortTable>,
}

impl Domain {
    fn new(id: DomId) -> Self {
        Self(Arc::new(State { id, grants: GrantSpace::default(), ports: Mutex::default() }))
    }

    /// The number of the domain.
    #[must_use]
    pub fn id(&self) -> DomId {
        self.0.id
    }

    pub(crate) fn grants(&self) -> &GrantSpace {
        &self.0.grants
    }

    pub(crate) fn ports(&self) -> &Mutex<PortTable> {
        &self.0.ports
    }
}

impl Hypervisor {
    /// A machine without domains.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The domain of that number; made when there is none.
    #[must_use]
    pub fn domain(&self, id: DomId) -> Domain {
        lock(&self.0).entry(id).or_insert_with(|| Domain::new(id)).clone()
    }

    pub(crate) fn existing_domain(&self, id: DomId) -> Option<Domain> {
        lock(&self.0).get(&id).cloned()
    }

    /// Ends a domain: its grants can no longer be mapped or copied and its ports are closed. Pages that are mapped stay
    /// so until they are unmapped, as on a real Xen.
    ///
    /// # Panics
    ///
    /// When there is no such domain.
    pub fn destroy_domain(&self, id: DomId) {
        let domain = lock(&self.0).remove(&id);
        let Some(domain) = domain else { panic!("there is no domain {id} to destroy") };
        lock(domain.ports()).close_all();
    }

    /// The grants of `foreign` as a process of `local` reaches them: its `/dev/xen/gntdev`.
    #[must_use]
    pub fn grant_table(&self, local: DomId, foreign: DomId) -> SimGrants {
        SimGrants::new(self.clone(), local, foreign)
    }

    /// Binds a new port of `local` to `port` of `remote` (event_channel.h, `EVTCHNOP_bind_interdomain`). The new port
    /// fires at once, for an event may have been lost while the other was unbound.
    ///
    /// # Errors
    ///
    /// `ESRCH` when there is no such domain; `EINVAL` when it has no such port, the port is for another domain, or it is
    /// bound already. Otherwise what making an eventfd gives.
    pub fn bind_interdomain(&self, local: DomId, remote: DomId, port: Port) -> io::Result<SimEvents> {
        SimEvents::bind(self, local, remote, port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_made_once_and_anew_after_its_end() {
        let xen = Hypervisor::new();
        let first = xen.domain(DomId(3));
        assert!(Arc::ptr_eq(&first.0, &xen.clone().domain(DomId(3)).0));
        xen.destroy_domain(DomId(3));
        assert!(xen.existing_domain(DomId(3)).is_none());
        assert!(!Arc::ptr_eq(&first.0, &xen.domain(DomId(3)).0));
    }
}
