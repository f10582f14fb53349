//! A device for a guest: with a new vhost, or in one that is there.

use std::time::Duration;

use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{self, Access, Nodes, Permission, Transaction};

use super::spec::DeviceSpec;
use super::tree::{self, Vhost};
use super::{ToolError, Toolstack};
use crate::in_use::guests::{Guests, Whose};
use crate::in_use::{self, Host, Identity};
use crate::pdev::PDev;
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

/// What was written.
#[derive(Clone, Debug)]
struct Written {
    vhost: u32,
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
    pub fn attach(&mut self, domid: DomId, spec: &DeviceSpec) -> Result<Attached, ToolError> {
        // What the backend would find only when the guest comes.
        check(spec)?;
        let device = |source| ToolError::Device { name: spec.name.clone(), source };
        let found = spec.pdev.resolve().map_err(device)?;
        let identity = Identity::of(&found).map_err(device)?;
        let p_dev = match found {
            PDev::Address(hctl) => hctl.to_string(),
            _ => spec.name.clone(),
        };
        if let Some(identity) = &identity {
            self.refuse_held(spec, identity)?;
        }
        self.wait_until_ready(domid, spec.vdev.host)?;
        let own = self.own;
        let written =
            self.store.transaction(|tx| write(tx, own, domid, spec, &p_dev, identity.as_ref()))??;
        let come = self.watch_it_come(domid, &written, &spec.name);
        if come.is_err() {
            self.take_back(|tools| tools.undo(domid, &written))?;
        }
        come
    }

    /// Refuses what this host uses itself, and what is a block device of a guest.
    fn refuse_held(&mut self, spec: &DeviceSpec, device: &Identity) -> Result<(), ToolError> {
        let host = Host::default();
        let mut holders = host.holders(device);
        let mut guests = Guests::default();
        guests.read_block(&mut self.store, &host)?;
        holders.extend(guests.holder(&mut self.store, device, spec.options.shared)?);
        if holders.is_empty() { Ok(()) } else { Err(in_use(spec, &in_use::list(&holders))) }
    }

    /// A vhost that is about to connect, or to change, gets the time for it.
    fn wait_until_ready(&mut self, domid: DomId, host: u32) -> Result<(), ToolError> {
        let mut last = None;
        let ready = self.until(&tree::backends(domid), self.patience, |store| {
            let vhosts = tree::vhosts(store, domid)?;
            last = vhosts.into_iter().find(|vhost| vhost.host == host);
            let ready = last.as_ref().is_none_or(|vhost| is_ready(vhost.own));
            Ok(ready.then_some(()))
        })?;
        match (ready, last) {
            (None, Some(Vhost { number, own, .. })) => {
                Err(ToolError::NotReady { domid, vhost: number, state: own })
            }
            _ => Ok(()),
        }
    }

    fn watch_it_come(&mut self, domid: DomId, written: &Written, name: &str) -> Result<Attached, ToolError> {
        let refused = |why| Err(ToolError::Refused { name: name.to_owned(), why });
        let path = tree::backend(domid, written.vhost);
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
            None if written.new => return Err(ToolError::NotServed(domid)),
            Some(XenbusState::Closing | XenbusState::Closed) => {
                let why = tree::text(&mut self.store, &format!("error/{path}/error"))?;
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
            Some(_) => refused(tree::text(&mut self.store, &format!("error/{device}/error"))?),
            None => Ok(Attached::Waiting),
        }
    }

    /// Takes back what was written. Whoever has come for it already gets the time to let go: a guest would wait for a disk
    /// that is torn away.
    fn undo(&mut self, domid: DomId, written: &Written) -> Result<(), ToolError> {
        let path = tree::backend(domid, written.vhost);
        let device = format!("{path}/vscsi-devs/{}", written.node);
        let served = self.store.transaction(|tx| {
            let own = tree::state(tx, &path)?;
            if written.new {
                let served =
                    !matches!(own, XenbusState::Unknown | XenbusState::Initialising | XenbusState::Closed);
                return if served {
                    Ok(true)
                } else {
                    tree::remove_vhost(tx, domid, written.vhost).map(|()| false)
                };
            }
            match tree::state(tx, &device)? {
                XenbusState::Initialised | XenbusState::Connected => return Ok(true),
                _ => tx.remove(&device)?,
            };
            tx.remove(&format!("error/{device}"))?;
            if own == XenbusState::Reconfiguring {
                tx.write(&format!("{path}/state"), XenbusState::Connected.digit())?;
            }
            Ok(false)
        })?;
        match (served, written.new) {
            (false, _) => Ok(()),
            (true, true) => self.force_vhost(domid, written.vhost),
            (true, false) => self.detach_node(domid, written.vhost, &written.node, self.patience),
        }
    }
}

fn in_use(spec: &DeviceSpec, by: &str) -> ToolError {
    ToolError::InUse { name: spec.name.clone(), by: by.to_owned() }
}

/// Opens the device, and closes it.
pub(super) fn check(spec: &DeviceSpec) -> Result<(), ToolError> {
    let opened = spec.pdev.open(spec.options);
    drop(opened.map_err(|source| ToolError::Device { name: spec.name.clone(), source })?);
    Ok(())
}

/// States in which a vhost can be given a device.
fn is_ready(own: XenbusState) -> bool {
    matches!(own, XenbusState::Connected | XenbusState::InitWait)
}

/// Writes the nodes of the device, and those of its vhost where there is none yet. The inner error: nothing was written.
fn write(
    tx: &mut Transaction<'_>,
    own: DomId,
    domid: DomId,
    spec: &DeviceSpec,
    p_dev: &str,
    identity: Option<&Identity>,
) -> Result<Result<Written, ToolError>, xenstore::Error> {
    let vhosts = tree::vhosts(tx, domid)?;
    let (vhost, new, asked) = match vhosts.iter().find(|vhost| vhost.host == spec.vdev.host) {
        Some(vhost) => {
            if let Some(other) = vhost.device_at(spec.vdev) {
                return Ok(Err(ToolError::Taken { vdev: spec.vdev, by: other.name.clone() }));
            }
            if vhost.feature_host != spec.options.feature_host {
                return Ok(Err(ToolError::FeatureHost(vhost.number)));
            }
            if !is_ready(vhost.own) {
                let (vhost, state) = (vhost.number, vhost.own);
                return Ok(Err(ToolError::NotReady { domid, vhost, state }));
            }
            (vhost.number, false, vhost.own == XenbusState::Connected)
        }
        None => {
            let free = (0..=u32::MAX).find(|number| vhosts.iter().all(|vhost| vhost.number != *number));
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
    if new {
        write_vhost(tx, own, domid, vhost, spec)?;
    }
    let counter = tree::counter(domid, vhost);
    let number = tree::text(tx, &counter)?.parse().unwrap_or(0_u64);
    // What other tools have attached counts as well.
    let taken = |number: u64| {
        let node = format!("dev-{number}");
        vhosts.iter().any(|v| v.number == vhost && v.devices.iter().any(|device| device.node == node))
    };
    let number = (number..).find(|number| !taken(*number)).unwrap_or(number);
    tx.write(&counter, number.saturating_add(1).to_string())?;
    let node = format!("dev-{number}");
    let path = format!("{}/vscsi-devs/{node}", tree::backend(domid, vhost));
    let v_dev = spec.vdev.to_string();
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
        tx.write(&format!("{}/state", tree::backend(domid, vhost)), state.digit())?;
    }
    Ok(Ok(Written { vhost, node, new, asked }))
}

fn write_vhost(
    tx: &mut Transaction<'_>,
    own: DomId,
    domid: DomId,
    vhost: u32,
    spec: &DeviceSpec,
) -> Result<(), xenstore::Error> {
    let permission = |access, domid| Permission { access, domid };
    let frontend = tree::frontend(domid, vhost);
    let backend = format!("/local/domain/{own}/{}", tree::backend(domid, vhost));
    let (own_id, guest_id, host) = (own.to_string(), domid.to_string(), spec.vdev.host.to_string());
    let feature_host = if spec.options.feature_host { "1" } else { "0" };
    let of_frontend = [("backend", backend.as_str()), ("backend-id", &own_id), ("state", "1")];
    let of_backend = [
        ("frontend", frontend.as_str()),
        ("frontend-id", &guest_id),
        ("online", "1"),
        ("libxl_ctrl_index", &host),
        ("feature-host", feature_host),
    ];
    let copy = tree::copy(domid, vhost);
    for (directory, owner, reader, nodes) in
        [(&frontend, domid, own, &of_frontend[..]), (&backend, own, domid, &of_backend)]
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
