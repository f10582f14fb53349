//! Which devices the vhosts of a guest have, and who else has one of them.

use std::rc::{Rc, Weak};

use pvscsi_ring::Nexus;
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{self, Xenstore};

use crate::in_use::guests::{self, Guests, Whose};
use crate::in_use::{self, Host, Identity};

/// What all vhosts of a guest have.
#[derive(Debug, Default)]
pub struct Holdings {
    host: Host,
    all: Vec<Weak<Held>>,
}

/// A device that is this guest's as long as the value lives.
#[derive(Debug)]
pub(super) struct Held {
    device: Identity,
    shared: bool,
    v_dev: String,
}

/// A unit that is served.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) nexus: Nexus,
    /// `None`: a disk in memory, which nobody else can have.
    pub(super) held: Option<Rc<Held>>,
}

impl Held {
    pub(super) fn new(device: Identity, shared: bool, v_dev: &str) -> Self {
        Self { device, shared, v_dev: v_dev.to_owned() }
    }

    fn excludes(&self, other: &Self) -> bool {
        let both = self.device == other.device && self.shared && other.shared;
        self.device.clashes_with(&other.device) && !both
    }

    /// Another guest that has it, by xenstore as it was read.
    pub(super) fn elsewhere(
        &self,
        store: &mut Xenstore,
        others: &Guests,
    ) -> Result<Option<String>, xenstore::Error> {
        let holder = others.holder(store, &self.device, self.shared)?;
        Ok(holder.map(|holder| holder.to_string()))
    }
}

impl Holdings {
    /// Who else has the device: this guest, another guest, or this host; "" for nobody. `others` is read when it is wanted first.
    pub(super) fn who_has(
        &self,
        held: &Held,
        store: &mut Xenstore,
        domid: DomId,
        others: &mut Option<Guests>,
    ) -> Result<String, xenstore::Error> {
        if let Some(here) = self.here(held, domid) {
            return Ok(here);
        }
        let others = match others {
            Some(others) => others,
            None => others.insert(self.others(store, domid)?),
        };
        // A guest's server may have claimed it, which the host does not say.
        let elsewhere = held.elsewhere(store, others)?;
        Ok(elsewhere.unwrap_or_else(|| in_use::list(&self.host.holders(&held.device))))
    }

    fn here(&self, held: &Held, domid: DomId) -> Option<String> {
        let own = self.all.iter().filter_map(Weak::upgrade).find(|own| own.excludes(held))?;
        let shared = (own.device == held.device).then_some((held.shared, own.shared));
        Some(guests::vscsi("this guest", domid, &own.v_dev, shared).to_string())
    }

    /// It is this guest's from now on.
    pub(super) fn take(&mut self, held: Held) -> Rc<Held> {
        self.all.retain(|own| own.strong_count() > 0);
        let held = Rc::new(held);
        self.all.push(Rc::downgrade(&held));
        held
    }

    /// What other guests have by now. A device that is offered to nobody yet is not theirs: whoever opens it first has it.
    pub(super) fn others(&self, store: &mut Xenstore, domid: DomId) -> Result<Guests, xenstore::Error> {
        let mut guests = Guests::default();
        guests.read_vscsi(store, Whose::ServedToOthersThan(domid))?;
        guests.read_block(store, &self.host)?;
        Ok(guests)
    }
}
