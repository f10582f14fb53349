//! A device for a guest: with a new vhost, or in one that is there.

use std::time::Duration;

use pvscsi_sg::Engine;
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{self, Access, Nodes, Permission, Transaction};

use super::auto::{self, Open};
use super::spec::DeviceSpec;
use super::tree::{self, Place, Vhost};
use super::{ToolError, Toolstack};
use crate::in_use::guests::{Guests, Whose};
use crate::in_use::{self, Host, Identity};
use crate::pdev::PDev;
use crate::vdev::{VDev, Wanted};
use crate::xenbus::XenbusState;

/// How long a guest may take to come for a device before the user is told that it has not.
const GUEST: Duration = Duration::from_secs(5);

/// What has become of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The guest has it.
    InUse,
    /// It is there; the guest's driver has not come for it yet.
    Waiting,
    /// It was there before.
    Before,
}

/// A device of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// Where the guest sees it.
    pub vdev: VDev,
    /// What has become of it.
    pub attached: Attached,
}

/// What was written.
#[derive(Clone, Debug)]
struct Written {
    place: Place,
    vdev: VDev,
    node: String,
    /// The vhost is new.
    new: bool,
    /// The frontend is connected, and told to look.
    asked: bool,
}

impl Toolstack<'_> {
    /// Attaches a device. After an error nothing of it is left.
    ///
    /// # Errors
    ///
    /// [`ToolError`] says what and where.
    pub fn attach(&mut self, domid: DomId, spec: &DeviceSpec) -> Result<Given, ToolError> {
        self.attach_beside(domid, spec, None)
    }

    /// The same of one device of a configuration, whose other devices have the addresses `others`. One that is there already is
    /// [`ToolError::Taken`] by itself.
    pub(super) fn attach_beside(
        &mut self,
        domid: DomId,
        spec: &DeviceSpec,
        others: Option<&[VDev]>,
    ) -> Result<Given, ToolError> {
        let home = self.home(spec)?;
        // In another domain the device is that one's to look for.
        let (p_dev, identity) = if home == self.own { self.find(spec)? } else { (spec.name.clone(), None) };
        if let Wanted::At(vdev) = spec.vdev {
            self.wait_until_ready(domid, vdev.host)?;
        }
        let own = self.own;
        let device = NewDevice { home, spec, p_dev: &p_dev, identity: identity.as_ref(), others };
        let written = self.store.transaction(|tx| write(tx, own, domid, &device))??;
        let come = self.watch_it_come(&written, &spec.name);
        if come.is_err() {
            self.take_back(|tools| tools.undo(&written))?;
        }
        Ok(Given { vdev: written.vdev, attached: come? })
    }

    /// The domain that has the device.
    pub(super) fn home(&mut self, spec: &DeviceSpec) -> Result<DomId, ToolError> {
        spec.backend.as_deref().map_or(Ok(self.own), |backend| self.domain(backend))
    }

    /// Looks up a device of this host that can be had: its `p-dev`, and what it is.
    fn find(&mut self, spec: &DeviceSpec) -> Result<(String, Option<Identity>), ToolError> {
        let device = |source| ToolError::Device { name: spec.name.clone(), source };
        let found = spec.pdev.resolve().map_err(device)?;
        let identity = Identity::of(&found).map_err(device)?;
        if let Some(identity) = &identity {
            self.refuse_held(spec, identity)?;
        }
        // What the backend would find only when the guest comes.
        open(spec)?;
        Ok((p_dev(spec, &found), identity))
    }

    /// Which device it is in its domain, `home`.
    pub(super) fn p_dev(&self, spec: &DeviceSpec, home: DomId) -> Result<String, ToolError> {
        if home != self.own {
            return Ok(spec.name.clone());
        }
        let device = |source| ToolError::Device { name: spec.name.clone(), source };
        Ok(p_dev(spec, &spec.pdev.resolve().map_err(device)?))
    }

    /// Refuses what is a block device of a guest, and what this host uses itself.
    fn refuse_held(&mut self, spec: &DeviceSpec, device: &Identity) -> Result<(), ToolError> {
        let host = Host::default();
        let mut guests = Guests::default();
        guests.read_block(&mut self.store, &host)?;
        if let Identity::Block { .. } = device {
            // A guest's server claims it, which the host does not say. Of other devices it is looked at when the nodes are written.
            guests.read_vscsi(&mut self.store, Whose::All)?;
        }
        let holders = match guests.holder(&mut self.store, device, spec.options.shared)? {
            Some(holder) => vec![holder],
            None => host.holders(device),
        };
        if holders.is_empty() { Ok(()) } else { Err(in_use(spec, &in_use::list(&holders))) }
    }

    /// A vhost that is about to connect, or to change, gets the time for it.
    fn wait_until_ready(&mut self, domid: DomId, host: u32) -> Result<(), ToolError> {
        let own = self.own;
        let is_it = |vhost: &Vhost| vhost.host == host;
        let mut last = tree::vhosts(&mut self.store, own, domid)?.into_iter().find(is_it);
        let Some(vhost) = &last else { return Ok(()) };
        let ready = self.until(&vhost.place.backend(), self.patience, |store| {
            last = tree::vhosts(store, own, domid)?.into_iter().find(is_it);
            let ready = last.as_ref().is_none_or(|vhost| is_ready(vhost.own));
            Ok(ready.then_some(()))
        })?;
        match (ready, last) {
            (None, Some(Vhost { place, own, .. })) => {
                Err(ToolError::NotReady { domid, vhost: place.number, state: own })
            }
            _ => Ok(()),
        }
    }

    fn watch_it_come(&mut self, written: &Written, name: &str) -> Result<Attached, ToolError> {
        let refused = |why| Err(ToolError::Refused { name: name.to_owned(), why });
        let place = written.place;
        let path = place.backend();
        let device = format!("{path}/vscsi-devs/{}", written.node);
        // First the backend, which takes up the vhost or the device.
        let taken_up = self.until(&path, self.patience, |store| {
            let own = tree::state(store, &path)?;
            let taken_up = match own {
                XenbusState::InitWait | XenbusState::Initialised | XenbusState::Connected => true,
                XenbusState::Closing | XenbusState::Closed => written.new,
                _ => false,
            };
            Ok(taken_up.then_some(own))
        })?;
        match taken_up {
            None if written.new => {
                return Err(ToolError::NotServed { domid: place.domid, home: place.home });
            }
            Some(XenbusState::Closing | XenbusState::Closed) => {
                let why = tree::text(&mut self.store, &format!("{}/error", place.error(&path)))?;
                return refused(why);
            }
            _ => {}
        }
        let comes = written.asked || (written.new && self.wait_for_guest);
        if !comes {
            return Ok(Attached::Waiting);
        }
        // Then the guest.
        let state = self.until(&path, self.patience.min(GUEST), |store| {
            let state = tree::state(store, &device)?;
            Ok(matches!(state, XenbusState::Connected | XenbusState::Closed).then_some(state))
        })?;
        match state {
            Some(XenbusState::Connected) => Ok(Attached::InUse),
            Some(_) => refused(tree::text(&mut self.store, &format!("{}/error", place.error(&device)))?),
            None => Ok(Attached::Waiting),
        }
    }

    /// Takes back what was written. Whoever has come for it already gets the time to let go: a guest would wait for a disk
    /// that is torn away.
    fn undo(&mut self, written: &Written) -> Result<(), ToolError> {
        let place = written.place;
        let path = place.backend();
        let device = format!("{path}/vscsi-devs/{}", written.node);
        let served = self.store.transaction(|tx| {
            let own = tree::state(tx, &path)?;
            if written.new {
                let served =
                    !matches!(own, XenbusState::Unknown | XenbusState::Initialising | XenbusState::Closed);
                return if served { Ok(true) } else { tree::remove_vhost(tx, place).map(|()| false) };
            }
            match tree::state(tx, &device)? {
                XenbusState::Initialised | XenbusState::Connected => return Ok(true),
                _ => tx.remove(&device)?,
            };
            tx.remove(&place.error(&device))?;
            if own == XenbusState::Reconfiguring {
                tx.write(&format!("{path}/state"), XenbusState::Connected.digit())?;
            }
            Ok(false)
        })?;
        match (served, written.new) {
            (false, _) => Ok(()),
            (true, true) => self.force_vhost(place),
            (true, false) => self.detach_node(place, &written.node, self.patience),
        }
    }
}

fn p_dev(spec: &DeviceSpec, found: &PDev) -> String {
    match found {
        PDev::Address(hctl) => hctl.to_string(),
        _ => spec.name.clone(),
    }
}

fn in_use(spec: &DeviceSpec, by: &str) -> ToolError {
    ToolError::InUse { name: spec.name.clone(), by: by.to_owned() }
}

/// Whether the device can be had, as far as can be seen from here: one with `backend=` may be in another domain.
pub(super) fn check(spec: &DeviceSpec) -> Result<(), ToolError> {
    if spec.backend.is_none() { open(spec) } else { Ok(()) }
}

/// Opens the device, and closes it.
fn open(spec: &DeviceSpec) -> Result<(), ToolError> {
    let opened = spec.pdev.open(spec.options, Engine::Auto, None);
    drop(opened.map_err(|source| ToolError::Device { name: spec.name.clone(), source })?);
    Ok(())
}

/// States in which a vhost can be given a device.
fn is_ready(own: XenbusState) -> bool {
    matches!(own, XenbusState::Connected | XenbusState::InitWait)
}

/// A device to write.
#[derive(Clone, Copy, Debug)]
struct NewDevice<'a> {
    /// The domain that has it.
    home: DomId,
    spec: &'a DeviceSpec,
    p_dev: &'a str,
    identity: Option<&'a Identity>,
    /// Where the other devices of its configuration are, if it is from one.
    others: Option<&'a [VDev]>,
}

impl NewDevice<'_> {
    /// Where the guest is to see it. Decided in the transaction, so that two that attach at the same time do not choose the same.
    fn vdev(&self, domid: DomId, vhosts: &[Vhost]) -> Result<VDev, ToolError> {
        let Self { home, spec, p_dev, others, .. } = *self;
        if let Wanted::At(vdev) = spec.vdev {
            return Ok(vdev);
        }
        let name = || spec.name.clone();
        let there = others.and_then(|others| Open { spec, p_dev, home }.is_there(vhosts, others));
        if let Some(vdev) = there {
            return Err(ToolError::Taken { vdev, by: name() });
        }
        let is_used = |host| {
            vhosts.iter().any(|vhost| vhost.host == host) || auto::is_among(others.unwrap_or_default(), host)
        };
        auto::first_free(is_used).ok_or_else(|| ToolError::NoHost { domid, name: name() })
    }
}

/// Writes the nodes of the device, and those of its vhost where there is none yet. The inner error: nothing was written.
fn write(
    tx: &mut Transaction<'_>,
    own: DomId,
    domid: DomId,
    device: &NewDevice<'_>,
) -> Result<Result<Written, ToolError>, xenstore::Error> {
    let NewDevice { home, spec, p_dev, identity, .. } = *device;
    let vhosts = tree::vhosts(tx, own, domid)?;
    let vdev = match device.vdev(domid, &vhosts) {
        Ok(vdev) => vdev,
        Err(error) => return Ok(Err(error)),
    };
    let (number, new, asked) = match vhosts.iter().find(|vhost| vhost.host == vdev.host) {
        Some(vhost) => {
            if let Err(error) = vhost.must_be_in(home) {
                return Ok(Err(error));
            }
            if let Some(other) = vhost.device_at(vdev) {
                return Ok(Err(ToolError::Taken { vdev, by: other.name.clone() }));
            }
            if vhost.feature_host != spec.options.feature_host {
                return Ok(Err(ToolError::FeatureHost(vhost.place.number)));
            }
            if !is_ready(vhost.own) {
                let (vhost, state) = (vhost.place.number, vhost.own);
                return Ok(Err(ToolError::NotReady { domid, vhost, state }));
            }
            (vhost.place.number, false, vhost.own == XenbusState::Connected)
        }
        None => {
            let free = (0..=u32::MAX).find(|number| vhosts.iter().all(|vhost| vhost.place.number != *number));
            (free.unwrap_or_default(), true, false)
        }
    };
    if let Some(identity) = identity {
        // In the transaction, so that of two that attach it at the same time one sees the other.
        let mut guests = Guests::default();
        guests.read_vscsi(tx, Whose::All)?;
        if let Some(holder) = guests.holder(tx, identity, spec.options.shared)? {
            return Ok(Err(in_use(spec, &holder.to_string())));
        }
    }
    let place = Place { home, domid, number };
    if new {
        write_vhost(tx, own, place, vdev.host, spec.options.feature_host)?;
    }
    let counter = place.counter();
    let number = tree::text(tx, &counter)?.parse().unwrap_or(0_u64);
    // What other tools have attached counts as well.
    let taken = |number: u64| {
        let node = format!("dev-{number}");
        vhosts.iter().any(|v| v.place == place && v.devices.iter().any(|device| device.node == node))
    };
    let number = (number..).find(|number| !taken(*number)).unwrap_or(number);
    tx.write(&counter, number.saturating_add(1).to_string())?;
    let node = format!("dev-{number}");
    let path = format!("{}/vscsi-devs/{node}", place.backend());
    let v_dev = vdev.to_string();
    for (name, value) in
        [("p-devname", spec.name.as_str()), ("p-dev", p_dev), ("v-dev", &v_dev), ("state", "1")]
    {
        tx.write(&format!("{path}/{name}"), value)?;
    }
    let options = spec.options.of_device().to_string();
    if !options.is_empty() {
        tx.write(&format!("{path}/options"), options)?;
    }
    if new || asked {
        // Last of all: it starts both ends, or has the frontend look.
        let state = if new { XenbusState::Initialising } else { XenbusState::Reconfiguring };
        tx.write(&format!("{}/state", place.backend()), state.digit())?;
    }
    Ok(Ok(Written { place, vdev, node, new, asked }))
}

fn write_vhost(
    tx: &mut Transaction<'_>,
    own: DomId,
    place: Place,
    host: u32,
    feature_host: bool,
) -> Result<(), xenstore::Error> {
    let permission = |access, domid| Permission { access, domid };
    let Place { home, domid, .. } = place;
    let (frontend, backend, copy) = (place.frontend(), place.backend(), place.copy());
    if home != own {
        // The other domain is to remove what is left of a guest that is gone.
        for directory in [tree::backends_in(home), tree::backends(home, domid)] {
            tx.mkdir(&directory)?;
            tx.set_permissions(&directory, &[permission(Access::None, home)])?;
        }
    }
    let (home_id, guest_id, host) = (home.to_string(), domid.to_string(), host.to_string());
    let feature_host = if feature_host { "1" } else { "0" };
    let of_frontend = [("backend", backend.as_str()), ("backend-id", &home_id), ("state", "1")];
    let of_backend = [
        ("frontend", frontend.as_str()),
        ("frontend-id", &guest_id),
        ("online", "1"),
        ("libxl_ctrl_index", &host),
        ("feature-host", feature_host),
    ];
    for (directory, owner, reader, nodes) in
        [(&frontend, domid, home, &of_frontend[..]), (&backend, home, domid, &of_backend)]
    {
        // What an earlier vhost of this number left.
        tx.remove(directory)?;
        tx.mkdir(directory)?;
        // Nodes made later inherit it.
        tx.set_permissions(directory, &[permission(Access::None, owner), permission(Access::Read, reader)])?;
        for (name, value) in nodes {
            tx.write(&format!("{directory}/{name}"), value)?;
        }
    }
    tx.remove(&copy)?;
    tx.write(&format!("{copy}/backend"), &backend)?;
    tx.write(&format!("{copy}/state"), XenbusState::Initialising.digit())?;
    of_backend.iter().try_for_each(|(name, value)| tx.write(&format!("{copy}/{name}"), value))?;
    tx.write(&format!("{backend}/{}", tree::TOOLSTACK), tree::OURS)
}
