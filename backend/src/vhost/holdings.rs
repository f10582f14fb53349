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
    /// Who else has the device: this guest, this host, or another guest; "" for nobody. `others` is read when it is wanted first.
    pub(super) fn who_has(
        &self,
        held: &Held,
        store: &mut Xenstore,
        domid: DomId,
        others: &mut Option<Guests>,
    ) -> Result<String, xenstore::Error> {
        let here = self.here(held, domid);
        if !here.is_empty() {
            return Ok(here);
        }
        let others = match others {
            Some(others) => others,
            None => others.insert(self.others(store, domid)?),
        };
        Ok(held.elsewhere(store, others)?.unwrap_or_default())
    }

    fn here(&self, held: &Held, domid: DomId) -> String {
        let same = |own: &Rc<Held>| own.device == held.device && !(own.shared && held.shared);
        if let Some(own) = self.all.iter().filter_map(Weak::upgrade).find(same) {
            return guests::vscsi("this guest", domid, &own.v_dev, held.shared, own.shared).to_string();
        }
        in_use::list(&self.host.holders(&held.device))
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
