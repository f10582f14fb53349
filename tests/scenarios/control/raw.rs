//! A frontend that writes what it likes: nodes with the guest's own rights, and a ring.

use pvscsi_sim::LinuxFrontend;
use pvscsi_xen::xenstore::{Nodes, Xenstore};

use super::Dev;
use super::machine::{DOM0, Machine};

pub struct RawFrontend {
    pub ring: LinuxFrontend,
    store: Xenstore,
    directory: String,
}

impl RawFrontend {
    /// Takes the place of Linux in a vhost that Linux has not seen: it must not run before this has left state 1.
    pub fn of(machine: &Machine, vhost: u32) -> Self {
        Self {
            ring: LinuxFrontend::new(&machine.xen, machine.domid, DOM0),
            store: Xenstore::from_stream(machine.store.connect(machine.domid)).unwrap(),
            directory: machine.frontend(&vhost.to_string()),
        }
    }

    /// Vhost 0 of a machine without Linux, with one disk, connected as far as our 4.
    pub fn connected(machine: &mut Machine) -> Self {
        machine.guest = None;
        machine.attach(0, &[Dev::disk(0)]);
        let mut frontend = Self::of(machine, 0);
        frontend.publish_ring();
        frontend.write("state", "3");
        machine.until_state(0, "4");
        frontend
    }

    pub fn write(&mut self, node: &str, value: impl AsRef<[u8]>) {
        self.store.write(&format!("{}/{node}", self.directory), value).unwrap();
    }

    /// As [`write`](Self::write); `false` when xenstored has had enough of the guest.
    pub fn try_write(&mut self, node: &str, value: impl AsRef<[u8]>) -> bool {
        self.store.write(&format!("{}/{node}", self.directory), value).is_ok()
    }

    pub fn remove(&mut self, node: &str) {
        self.store.remove(&format!("{}/{node}", self.directory)).unwrap();
    }

    /// Writes the nodes of the ring as they should be.
    pub fn publish_ring(&mut self) {
        let (ring_ref, port) = (self.ring.ring_ref().0, self.ring.port());
        self.write("ring-ref", ring_ref.to_string());
        self.write("event-channel", port.to_string());
    }
}
