//! A device that is taken away: alone, or with its vhost when it was the last one.

use std::time::Duration;

use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::Nodes;

use super::tree::{self, Place};
use super::{ToolError, Toolstack};
use crate::vdev::VDev;
use crate::xenbus::XenbusState;

/// A backend takes a device from a guest that does not follow within a minute, and goes back to state 4 in another.
const FORCED: Duration = Duration::from_secs(130);

impl Toolstack<'_> {
    /// Takes a device away, when the guest has let go of it. With `force` it goes even if the guest does not: commands under way
    /// fail, and what the guest has not written yet is lost.
    ///
    /// # Errors
    ///
    /// [`ToolError::NoSuchDevice`], [`ToolError::Held`], and failures of xenstore.
    pub fn detach(&mut self, domid: DomId, vdev: VDev, force: bool) -> Result<(), ToolError> {
        let vhosts = tree::vhosts(&mut self.store, self.own, domid)?;
        let found = vhosts
            .iter()
            .filter(|vhost| vhost.host == vdev.host)
            .find_map(|vhost| Some((vhost, vhost.device_at(vdev)?)));
        let Some((vhost, device)) = found else { return Err(ToolError::NoSuchDevice { domid, vdev }) };
        match (vhost.devices.len(), force) {
            (1, true) => self.force_vhost(vhost.place),
            (1, false) => self.detach_vhost(vhost.place),
            (_, force) => {
                let patience = if force { FORCED } else { self.patience };
                self.detach_node(vhost.place, &device.node, patience)
            }
        }
    }

    /// Asks for one device of several.
    pub(super) fn detach_node(
        &mut self,
        place: Place,
        node: &str,
        patience: Duration,
    ) -> Result<(), ToolError> {
        let path = place.backend();
        let device = format!("{path}/vscsi-devs/{node}");
        let gone = self.store.transaction(|tx| {
            match tree::state(tx, &path)? {
                // Nobody has it yet.
                XenbusState::InitWait | XenbusState::Initialising => {
                    tx.remove(&device)?;
                    return Ok(true);
                }
                XenbusState::Connected => {
                    tx.write(&format!("{path}/state"), XenbusState::Reconfiguring.digit())?;
                }
                // A reconfiguration is under way; it finds this as well.
                _ => {}
            }
            tx.write(&format!("{device}/state"), XenbusState::Closing.digit())?;
            Ok(false)
        })?;
        if gone {
            return Ok(());
        }
        let closed = self.until(&path, patience, |store| {
            let settled = tree::state(store, &path)? == XenbusState::Connected;
            let state = tree::state(store, &device)?;
            Ok((settled && matches!(state, XenbusState::Closed | XenbusState::Unknown)).then_some(()))
        })?;
        if closed.is_none() {
            return Err(ToolError::Held(place.domid));
        }
        self.store.remove(&device)?;
        Ok(())
    }

    /// Asks for a whole vhost.
    fn detach_vhost(&mut self, place: Place) -> Result<(), ToolError> {
        let path = place.backend();
        self.store.transaction(|tx| {
            tx.write(&format!("{path}/online"), "0")?;
            match tree::state(tx, &path)? {
                XenbusState::Closing => Ok(()),
                _ => tx.write(&format!("{path}/state"), XenbusState::Closing.digit()),
            }
        })?;
        let closed = self.until(&path, self.patience, |store| {
            let state = tree::state(store, &path)?;
            Ok(matches!(state, XenbusState::Closed | XenbusState::Unknown).then_some(()))
        })?;
        if closed.is_none() {
            return Err(ToolError::Held(place.domid));
        }
        self.remove_vhost(place)
    }

    /// The same; the vhost goes even if the guest does not let go of it.
    pub(super) fn force_vhost(&mut self, place: Place) -> Result<(), ToolError> {
        match self.detach_vhost(place) {
            // The frontend's directory goes first, as in libxl's forced removal; the backend sees both go.
            Err(ToolError::Held(_)) => self.remove_vhost(place),
            done => done,
        }
    }

    fn remove_vhost(&mut self, place: Place) -> Result<(), ToolError> {
        Ok(self.store.transaction(|tx| tree::remove_vhost(tx, place))?)
    }
}
