//! What is in xenstore about the vscsi devices of a guest.

use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{Error, Nodes};

use super::ToolError;
use crate::vdev::VDev;
use crate::vhost::children;
use crate::xenbus::XenbusState;

/// The node that tells who made a vhost, in the backend's directory, and what it says of ours.
pub(super) const TOOLSTACK: &str = "toolstack";
pub(super) const OURS: &str = "xen-pvscsi";

/// The domain that we are in.
///
/// # Errors
///
/// Failures of xenstore.
pub fn own(store: &mut impl Nodes) -> Result<DomId, Error> {
    // Not every xenstored gives dom0 this node.
    Ok(DomId(text(store, "domid")?.parse().unwrap_or(0)))
}

/// The backends of a domain: a directory for each guest.
pub(super) fn backends_in(home: DomId) -> String {
    format!("/local/domain/{home}/backend/vscsi")
}

/// The directory in which this domain has its vhosts of a guest.
pub(super) fn backends(home: DomId, domid: DomId) -> String {
    format!("{}/{domid}", backends_in(home))
}

/// The toolstack's own directory of a guest's vhosts.
fn copies(domid: DomId) -> String {
    format!("/libxl/{domid}/device/vscsi")
}

/// Which vhost, and where its nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The domain that has the devices.
    pub home: DomId,
    /// The guest.
    pub domid: DomId,
    /// Its number, which no other vhost of the guest has, wherever its devices are.
    pub number: u32,
}

impl Place {
    /// The backend's directory.
    pub(super) fn backend(self) -> String {
        format!("{}/{}", backends(self.home, self.domid), self.number)
    }

    /// The frontend's directory.
    pub(super) fn frontend(self) -> String {
        format!("/local/domain/{}/device/vscsi/{}", self.domid, self.number)
    }

    /// What the backend says of something that is wrong: in its own directory, by the path of what it is about.
    pub(super) fn error(self, of: &str) -> String {
        let home = format!("/local/domain/{}/", self.home);
        format!("{home}error/{}", of.strip_prefix(&home).unwrap_or(of))
    }

    /// The toolstack's own copy of a vhost's nodes.
    pub(super) fn copy(self) -> String {
        format!("{}/{}", copies(self.domid), self.number)
    }

    /// The number of the next `dev-N`, which is never used again.
    pub(super) fn counter(self) -> String {
        format!("{}/next_vscsidev_id", self.numbering())
    }

    fn numbering(self) -> String {
        format!("/libxl/{}/vscsi/{}", self.domid, self.number)
    }
}

/// The guest's UUID, behind "/vm/": the same when it comes back as another domain.
pub fn vm(domid: DomId) -> String {
    format!("/local/domain/{domid}/vm")
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
    /// Which it is.
    pub place: Place,
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
    /// Fails when its devices are in another domain.
    pub(super) fn must_be_in(&self, wanted: DomId) -> Result<(), ToolError> {
        let Place { home, number, .. } = self.place;
        if home == wanted { Ok(()) } else { Err(ToolError::OtherBackend { vhost: number, home, wanted }) }
    }

    /// The device that the guest sees at this address; the host's number is not looked at.
    pub(super) fn device_at(&self, vdev: VDev) -> Option<&Device> {
        let is_it = |device: &&Device| device.v_dev.parse().is_ok_and(|v: VDev| v.nexus == vdev.nexus);
        self.devices.iter().find(is_it)
    }
}

/// All vhosts of a guest, by number: those of our own domain `own`, and those that a toolstack here has made for other domains.
pub(super) fn vhosts(store: &mut impl Nodes, own: DomId, domid: DomId) -> Result<Vec<Vhost>, Error> {
    let numbers = children(store, &backends(own, domid))?;
    let mut places: Vec<Place> = numbers
        .iter()
        .filter_map(|name| Some(Place { home: own, domid, number: name.parse().ok()? }))
        .chain(elsewhere(store, own, domid)?)
        .collect();
    places.sort_unstable_by_key(|place| place.number);
    places.dedup_by_key(|place| place.number);
    places.into_iter().map(|place| vhost(store, place)).collect()
}

/// The vhosts that other domains have for a guest, as the toolstack's own nodes say; the guest cannot write these. One whose
/// backend's directory is gone, perhaps with its domain, does not count.
fn elsewhere(store: &mut impl Nodes, own: DomId, domid: DomId) -> Result<Vec<Place>, Error> {
    let mut places = Vec::new();
    for name in children(store, &copies(domid))? {
        let Ok(number) = name.parse() else { continue };
        let backend = text(store, &format!("{}/{name}/backend", copies(domid)))?;
        let home =
            backend.strip_prefix("/local/domain/").and_then(|rest| rest.split('/').next()?.parse().ok());
        let Some(home) = home.map(DomId).filter(|home| *home != own) else { continue };
        let place = Place { home, domid, number };
        if backend == place.backend() && state(store, &backend)? != XenbusState::Unknown {
            places.push(place);
        }
    }
    Ok(places)
}

fn vhost(store: &mut impl Nodes, place: Place) -> Result<Vhost, Error> {
    let path = place.backend();
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
        place,
        // Older toolstacks have no such node, and call the vhost by its host.
        host: text(store, &format!("{path}/libxl_ctrl_index"))?.parse().unwrap_or(place.number),
        ours: text(store, &format!("{path}/{TOOLSTACK}"))? == OURS,
        feature_host: text(store, &format!("{path}/feature-host"))? == "1",
        own: state(store, &path)?,
        frontend: state(store, &place.frontend())?,
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

/// Removes a vhost, the frontend's side first, and the guest's directories of vhosts with the last one, as libxl does.
pub(super) fn remove_vhost(store: &mut impl Nodes, place: Place) -> Result<(), Error> {
    let backend = place.backend();
    let errors = place.error(&backend);
    for path in [&place.frontend(), &backend, &errors, &place.copy(), &place.numbering()] {
        store.remove(path)?;
        if let Some((parent, _)) = path.rsplit_once('/')
            && children(store, parent)?.is_empty()
        {
            store.remove(parent)?;
        }
    }
    Ok(())
}

/// Removes all vhosts of a guest that is gone.
pub(super) fn remove_all(store: &mut impl Nodes, own: DomId, domid: DomId) -> Result<(), Error> {
    vhosts(store, own, domid)?.iter().try_for_each(|vhost| remove_vhost(store, vhost.place))
}

/// The guests with vhosts.
pub(super) fn guests(store: &mut impl Nodes, own: DomId) -> Result<Vec<DomId>, Error> {
    let mut guests: Vec<DomId> = Vec::new();
    let names = [children(store, &backends_in(own))?, children(store, "/libxl")?];
    for domid in names.iter().flatten().filter_map(|name| name.parse().ok()).map(DomId) {
        let has_some =
            !children(store, &backends(own, domid))?.is_empty() || !elsewhere(store, own, domid)?.is_empty();
        if has_some && !guests.contains(&domid) {
            guests.push(domid);
        }
    }
    Ok(guests)
}
