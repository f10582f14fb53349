//! The guest against nodes written by hand, and a page mapped by hand.

use pvscsi_xen::GrantTable;
use pvscsi_xen::xenstore::{Access, Permission};

use super::*;

const GUEST: DomId = DomId(7);
const BACKEND: DomId = DomId(0);
const B: &str = "/local/domain/0/backend/vscsi/7/0";
const F: &str = "/local/domain/7/device/vscsi/0";

struct Setup {
    xen: Hypervisor,
    store: Store,
    guest: LinuxGuest,
}

impl Setup {
    fn new() -> Self {
        let (xen, store) = (Hypervisor::new(), Store::new());
        let mut toolstack = Xenstore::from_stream(store.connect(BACKEND)).unwrap();
        let home = "/local/domain/7";
        for (path, owner, reader) in [(home, BACKEND, GUEST), (B, BACKEND, GUEST), (F, GUEST, BACKEND)] {
            toolstack.mkdir(path).unwrap();
            let owner = Permission { access: Access::None, domid: owner };
            let reader = Permission { access: Access::Read, domid: reader };
            toolstack.set_permissions(path, &[owner, reader]).unwrap();
        }
        store.write(&format!("{F}/backend"), B);
        store.write(&format!("{F}/backend-id"), "0");
        store.write(&format!("{F}/state"), "1");
        store.write(&format!("{B}/vscsi-devs/dev-5/v-dev"), "0:0:1:2");
        let guest = LinuxGuest::boot(&xen, &store, GUEST);
        Self { xen, store, guest }
    }

    /// Writes the backend's state and lets the guest see it.
    fn backend(&mut self, state: &str) {
        self.store.write(&format!("{B}/state"), state);
        self.settle();
    }

    /// Steps until nothing changes any more.
    fn settle(&mut self) {
        let mut before = None;
        while before != Some(self.store.dump()) {
            before = Some(self.store.dump());
            std::thread::sleep(std::time::Duration::from_millis(20));
            self.guest.step();
        }
    }

    fn state(&self) -> String {
        String::from_utf8(self.store.read(&format!("{F}/state")).unwrap()).unwrap()
    }
}

#[test]
fn a_driver_is_ready_before_the_backend_and_connects_after_it() {
    let mut setup = Setup::new();
    setup.settle();
    assert_eq!(setup.state(), "3");
    let host = setup.guest.host(0);
    let (ring_ref, port) = (host.frontend().ring_ref().0.to_string(), host.frontend().port().to_string());
    assert_eq!(setup.store.read(&format!("{F}/ring-ref")), Some(ring_ref.into_bytes()));
    assert_eq!(setup.store.read(&format!("{F}/event-channel")), Some(port.into_bytes()));
    setup.backend("2");
    assert_eq!(setup.state(), "3");
    setup.store.write(&format!("{B}/feature-sg-grant"), "64");
    setup.backend("4");
    assert_eq!(setup.state(), "4");
    assert_eq!(setup.guest.host(0).sg_tablesize(), 64);
}

#[test]
fn a_backend_that_is_found_closed_is_taken_at_its_word() {
    let mut setup = Setup::new();
    setup.backend("6");
    assert_eq!(setup.state(), "6");
    setup.backend("2");
    assert_eq!(setup.state(), "6", "only a new driver would try again");
    setup.guest.unload();
    setup.guest.load();
    setup.settle();
    assert_eq!(setup.state(), "3");
}

#[test]
fn a_ring_stays_granted_until_the_backend_lets_go() {
    let mut setup = Setup::new();
    setup.settle();
    let gref = setup.guest.host(0).frontend().ring_ref();
    let page = setup.xen.grant_table(BACKEND, GUEST).map_page(gref).unwrap();
    setup.guest.unload();
    assert_eq!((setup.state().as_str(), setup.guest.deferred_grants()), ("6", 1));
    setup.guest.load();
    assert_ne!(setup.guest.host(0).frontend().ring_ref(), gref);
    drop(page);
    setup.guest.step();
    assert_eq!(setup.guest.deferred_grants(), 0);
    assert_eq!(setup.xen.domain(GUEST).live_grants(), 1);
}

#[test]
fn a_unit_that_does_not_answer_is_not_there() {
    let mut setup = Setup::new();
    setup.settle();
    setup.store.write(&format!("{B}/vscsi-devs/dev-5/state"), "3");
    setup.backend("4");
    assert_eq!(setup.store.read(&format!("{F}/vscsi-devs/dev-5/state")), Some(b"6".to_vec()));
    let host = setup.guest.host(0);
    assert!(host.units().is_empty());
    assert_eq!(host.unanswered(), 1);
    assert_eq!(setup.state(), "4");
    setup.backend("7");
    assert_eq!(setup.state(), "7");
}

#[test]
fn a_directory_that_is_gone_takes_the_device_along() {
    let mut setup = Setup::new();
    setup.settle();
    assert!(setup.guest.has_host(0));
    Xenstore::from_stream(setup.store.connect(BACKEND)).unwrap().remove(F).unwrap();
    setup.settle();
    assert!(!setup.guest.has_host(0));
    assert_eq!(setup.store.read(&format!("{F}/state")), None, "nothing is written into it");
    assert_eq!(setup.xen.domain(GUEST).open_ports(), 0);
}
