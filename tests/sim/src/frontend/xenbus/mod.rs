//! A guest in xenstore: Linux's xenbus, with xen-scsifront on each of its vscsi devices.
//!
//! It does what Linux does, in Linux's order, and keeps what is awkward for a backend (drivers/xen/xenbus,
//! drivers/scsi/xen-scsifront.c): a driver is in state 3 before it has looked at the backend for the first time; a backend
//! that it finds in state 6 then is one that has closed, and it closes too; a driver that goes leaves its ring granted
//! until the backend has let go of it.
//!
//! It runs when it is [stepped](LinuxGuest::step). All of it happens in the one thread that xenbus has in Linux, the
//! commands to new devices included.

mod host;

pub use host::Host;

use std::collections::BTreeMap;

use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{Error, Nodes, WatchEvent, Xenstore};

use super::{Complaint, RingGrant};
use crate::Hypervisor;
use crate::store::Store;

/// States of one end (Xen io/xenbus.h), as far as Linux's frontend writes or knows them.
mod state {
    pub(super) const UNKNOWN: u32 = 0;
    pub(super) const INITIALISING: u32 = 1;
    pub(super) const INITIALISED: u32 = 3;
    pub(super) const CONNECTED: u32 = 4;
    pub(super) const CLOSING: u32 = 5;
    pub(super) const CLOSED: u32 = 6;
    pub(super) const RECONFIGURING: u32 = 7;
    pub(super) const RECONFIGURED: u32 = 8;
}

/// Events that one step takes.
const EVENTS_AT_ONCE: usize = 64;

/// What a guest relies on: xenstored is there and allows what it allows to every guest.
const STORE: &str = "the guest's xenstore";

/// A guest's kernel. Dropping it is what a guest does that is destroyed.
#[derive(Debug)]
pub struct LinuxGuest {
    xen: Hypervisor,
    domid: DomId,
    store: Xenstore,
    loaded: bool,
    /// Devices by number, with the driver if it is bound.
    devices: BTreeMap<u32, Option<Host>>,
    deferred: Vec<RingGrant>,
    /// Of drivers that are gone.
    complaints: Vec<Complaint>,
}

impl LinuxGuest {
    /// Boots a guest with the driver in it. Devices are found when it is stepped.
    ///
    /// # Panics
    ///
    /// When xenstore fails; so do all methods.
    #[must_use]
    pub fn boot(xen: &Hypervisor, store: &Store, domid: DomId) -> Self {
        let mut store = Xenstore::from_stream(store.connect(domid)).expect(STORE);
        store.watch("device/vscsi", "device").expect(STORE);
        Self {
            xen: xen.clone(),
            domid,
            store,
            loaded: true,
            devices: BTreeMap::new(),
            deferred: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// Does what xenstore gives reason for by now, without waiting for more. Of a flood of events it takes a part.
    pub fn step(&mut self) {
        for _ in 0..EVENTS_AT_ONCE {
            let Some(event) = self.store.next_event().expect(STORE) else { break };
            match event {
                WatchEvent::Overflow => {
                    self.look_at_all();
                    for host in self.devices.values_mut().flatten() {
                        host.backend_changed(&mut self.store);
                    }
                }
                WatchEvent::Changed { path, token } if token == "device" => match number_in(&path) {
                    Some(number) => self.look_at(number),
                    None => self.look_at_all(),
                },
                WatchEvent::Changed { token, .. } => {
                    let number = token.strip_prefix("backend/").and_then(|number| number.parse().ok());
                    let number = number.unwrap_or_else(|| panic!("nobody watches with token {token:?}"));
                    // An event may come after the end of its watch.
                    if let Some(Some(host)) = self.devices.get_mut(&number) {
                        host.backend_changed(&mut self.store);
                    }
                }
            }
        }
        self.deferred.retain_mut(|grant| !grant.try_end());
    }

    /// The driver of a device.
    ///
    /// # Panics
    ///
    /// When there is none bound to it.
    pub fn host(&mut self, number: u32) -> &mut Host {
        let Some(Some(host)) = self.devices.get_mut(&number) else {
            panic!("no driver is bound to vscsi {number}")
        };
        host
    }

    /// Whether a driver is bound to the device.
    #[must_use]
    pub fn has_host(&self, number: u32) -> bool {
        matches!(self.devices.get(&number), Some(Some(_)))
    }

    /// Loads the driver (`modprobe`): it takes up all devices there are, whatever state they are in.
    ///
    /// # Panics
    ///
    /// When it is loaded.
    pub fn load(&mut self) {
        assert!(!self.loaded, "the driver is loaded");
        self.loaded = true;
        let numbers: Vec<u32> = self.devices.keys().copied().collect();
        for number in numbers {
            self.probe(number);
        }
    }

    /// Takes the driver away (`rmmod`): units removed, ring given up, then state 6.
    pub fn unload(&mut self) {
        self.loaded = false;
        let numbers: Vec<u32> = self.devices.keys().copied().collect();
        for number in numbers {
            if let Some(mut host) = self.unbind(number) {
                host.remove();
                host.switch_state(&mut self.store, state::CLOSED);
                self.give_up(host);
            }
        }
    }

    /// Comes back from a suspend on the same host: a new ring for the device and state 3, with no 5 or 6 before.
    ///
    /// # Panics
    ///
    /// When no driver is bound to the device.
    pub fn resume(&mut self, number: u32) {
        let Some(host) = self.unbind(number) else { panic!("no driver is bound to vscsi {number}") };
        let resumed = host.resumed(&self.xen, &mut self.store);
        self.give_up(host);
        self.bind(resumed, number);
    }

    /// Ring pages that are still granted because the backend has them mapped, though their driver is gone.
    #[must_use]
    pub fn deferred_grants(&self) -> usize {
        self.deferred.len()
    }

    /// What backends did wrong on the rings there ever were.
    #[must_use]
    pub fn complaints(&self) -> Vec<Complaint> {
        let of_hosts = self.devices.values().flatten().flat_map(|host| host.complaints());
        self.complaints.iter().chain(of_hosts).copied().collect()
    }

    fn look_at_all(&mut self) {
        let there = optional(self.store.list("device/vscsi")).unwrap_or_default();
        let there = there.iter().filter_map(|name| name.parse().ok());
        let all: Vec<u32> = there.chain(self.devices.keys().copied()).collect();
        for number in all {
            self.look_at(number);
        }
    }

    /// A directory that is gone takes its device with it; a new one, in state 1, is a new device.
    fn look_at(&mut self, number: u32) {
        let directory = format!("device/vscsi/{number}");
        if optional(self.store.read(&directory)).is_none() {
            if let Some(mut host) = self.unbind(number) {
                host.remove();
                self.give_up(host);
            }
            self.devices.remove(&number);
        } else if !self.devices.contains_key(&number)
            && state_of(&mut self.store, &format!("{directory}/state")) == state::INITIALISING
        {
            self.devices.insert(number, None);
            if self.loaded {
                self.probe(number);
            }
        }
    }

    fn probe(&mut self, number: u32) {
        if let Some(host) = Host::probe(&self.xen, &mut self.store, self.domid, number) {
            self.bind(host, number);
        }
    }

    fn bind(&mut self, host: Host, number: u32) {
        self.store.watch(&format!("{}/state", host.backend()), &format!("backend/{number}")).expect(STORE);
        self.devices.insert(number, Some(host));
    }

    fn unbind(&mut self, number: u32) -> Option<Host> {
        let host = self.devices.get_mut(&number)?.take()?;
        self.store.unwatch(&format!("{}/state", host.backend()), &format!("backend/{number}")).expect(STORE);
        Some(host)
    }

    fn give_up(&mut self, host: Host) {
        self.complaints.extend(host.complaints());
        self.deferred.push(host.close());
        self.deferred.retain_mut(|grant| !grant.try_end());
    }
}

/// The device in `device/vscsi/<number>/…`.
fn number_in(path: &str) -> Option<u32> {
    path.split('/').nth(2)?.parse().ok()
}

/// `None`: there is no such node, or none for this guest.
fn optional<T>(answer: Result<T, Error>) -> Option<T> {
    match answer {
        Ok(value) => Some(value),
        Err(error) if error.is_not_found() || error.is_denied() => None,
        Err(error) => panic!("{STORE}: {error}"),
    }
}

fn read_number(store: &mut Xenstore, path: &str) -> Option<u32> {
    optional(store.read_str(path))?.parse().ok()
}

/// As `xenbus_read_driver_state`: what cannot be read is unknown.
fn state_of(store: &mut Xenstore, path: &str) -> u32 {
    read_number(store, path).unwrap_or(state::UNKNOWN)
}

#[cfg(test)]
mod tests;
