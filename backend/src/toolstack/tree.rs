//! What is in xenstore about the vscsi devices of a guest.

use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{Error, Nodes};

use crate::vdev::VDev;
use crate::xenbus::XenbusState;

/// The node that tells who made a vhost, in the backend's directory, and what it says of ours.
pub(super) const TOOLSTACK: &str = "toolstack";
pub(super) const OURS: &str = "xen-pvscsi";

/// The backend's directory of all vhosts of a guest, relative to our own domain.
pub(super) fn backends(domid: DomId) -> String {
    format!("backend/vscsi/{domid}")
}

/// Of one vhost.
pub(super) fn backend(domid: DomId, vhost: u32) -> String {
    format!("backend/vscsi/{domid}/{vhost}")
}

/// The frontend's directory of one vhost.
pub(super) fn frontend(domid: DomId, vhost: u32) -> String {
    format!("/local/domain/{domid}/device/vscsi/{vhost}")
}

/// The toolstack's own copy of a vhost's nodes.
pub(super) fn copy(domid: DomId, vhost: u32) -> String {
    format!("/libxl/{domid}/device/vscsi/{vhost}")
}

/// The number of the next `dev-N`, which is never used again.
pub(super) fn counter(domid: DomId, vhost: u32) -> String {
    format!("{}/next_vscsidev_id", numbering(domid, vhost))
}

/// The guest's UUID, behind "/vm/": the same when it comes back as another domain.
pub fn vm(domid: DomId) -> String {
    format!("/local/domain/{domid}/vm")
}

fn numbering(domid: DomId, vhost: u32) -> String {
    format!("/libxl/{domid}/vscsi/{vhost}")
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// `dev-N`.
    pub node: String,
    /// `p-devname`: as the user wrote it.
    pub name: String,
    /// `p-dev`.
    pub p_dev: String,
    /// `v-dev`.
    pub v_dev: String,
    /// `options`.
    pub options: String,
    /// Its state.
    pub state: XenbusState,
}

/// One vhost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vhost {
    /// Its number in xenstore.
    pub number: u32,
    /// The host number that the guest's addresses begin with (`libxl_ctrl_index`).
    pub host: u32,
    /// `feature-host`.
    pub feature_host: bool,
    /// Our own attach has made it.
    pub ours: bool,
    /// The backend's state.
    pub own: XenbusState,
    /// The frontend's.
    pub frontend: XenbusState,
    /// Its devices, by the number in their name.
    pub devices: Vec<Device>,
}

impl Vhost {
    /// The device that the guest sees at this address; the host's number is not looked at.
    pub(super) fn device_at(&self, vdev: VDev) -> Option<&Device> {
        let is_it = |device: &&Device| device.v_dev.parse().is_ok_and(|v: VDev| v.nexus == vdev.nexus);
        self.devices.iter().find(is_it)
    }
}

/// All vhosts of a guest, by number.
pub(super) fn vhosts(store: &mut impl Nodes, domid: DomId) -> Result<Vec<Vhost>, Error> {
    let mut numbers: Vec<u32> =
        children(store, &backends(domid))?.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    let mut vhosts = Vec::new();
    for number in numbers {
        vhosts.push(vhost(store, domid, number)?);
    }
    Ok(vhosts)
}

fn vhost(store: &mut impl Nodes, domid: DomId, number: u32) -> Result<Vhost, Error> {
    let path = backend(domid, number);
    let mut devices = Vec::new();
    for node in children(store, &format!("{path}/vscsi-devs"))? {
        let mut read = |what: &str| text(store, &format!("{path}/vscsi-devs/{node}/{what}"));
        devices.push(Device {
            name: read("p-devname")?,
            p_dev: read("p-dev")?,
            v_dev: read("v-dev")?,
            options: read("options")?,
            state: state_of(&read("state")?),
            node,
        });
    }
    let age = |device: &Device| device.node.strip_prefix("dev-").and_then(|n| n.parse::<u64>().ok());
    devices.sort_by_key(age);
    Ok(Vhost {
        number,
        // Older toolstacks have no such node, and call the vhost by its host.
        host: text(store, &format!("{path}/libxl_ctrl_index"))?.parse().unwrap_or(number),
        ours: text(store, &format!("{path}/{TOOLSTACK}"))? == OURS,
        feature_host: text(store, &format!("{path}/feature-host"))? == "1",
        own: state(store, &path)?,
        frontend: state(store, &frontend(domid, number))?,
        devices,
    })
}

/// The state of a directory; [`XenbusState::Unknown`] where there is none.
pub(super) fn state(store: &mut impl Nodes, path: &str) -> Result<XenbusState, Error> {
    Ok(state_of(&text(store, &format!("{path}/state"))?))
}

fn state_of(text: &str) -> XenbusState {
    XenbusState::parse(text.as_bytes()).unwrap_or(XenbusState::Unknown)
}

/// A node as text that can be shown; "" where there is none.
pub(super) fn text(store: &mut impl Nodes, path: &str) -> Result<String, Error> {
    match store.read(path) {
        Ok(value) => Ok(String::from_utf8_lossy(&value).chars().filter(|c| !c.is_control()).collect()),
        Err(error) if error.is_not_found() => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn children(store: &mut impl Nodes, path: &str) -> Result<Vec<String>, Error> {
    match store.list(path) {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        names => names,
    }
}

/// Removes a vhost, the frontend's side first, and the guest's directories of vhosts with the last one, as libxl does.
pub(super) fn remove_vhost(store: &mut impl Nodes, domid: DomId, vhost: u32) -> Result<(), Error> {
    let backend = backend(domid, vhost);
    let errors = format!("error/{backend}");
    for path in [&frontend(domid, vhost), &backend, &errors, &copy(domid, vhost), &numbering(domid, vhost)] {
        store.remove(path)?;
        if let Some((parent, _)) = path.rsplit_once('/')
            && children(store, parent)?.is_empty()
        {
            store.remove(parent)?;
        }
    }
    Ok(())
}

/// Removes all vhosts of a guest that is gone, and the directories that held them.
pub(super) fn remove_all(store: &mut impl Nodes, domid: DomId) -> Result<(), Error> {
    for vhost in vhosts(store, domid)? {
        remove_vhost(store, domid, vhost.number)?;
    }
    let backends = backends(domid);
    store.remove(&format!("error/{backends}"))?;
    store.remove(&backends)?;
    Ok(())
}

/// The guests with vhosts.
pub(super) fn guests(store: &mut impl Nodes) -> Result<Vec<DomId>, Error> {
    let mut guests = Vec::new();
    for id in children(store, "backend/vscsi")? {
        let Ok(id) = id.parse() else { continue };
        if !children(store, &backends(DomId(id)))?.is_empty() {
            guests.push(DomId(id));
        }
    }
    Ok(guests)
}
