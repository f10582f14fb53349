//! A guest that reboots is a new domain, and upstream's xl makes it without its vscsi devices: they have to follow it.

use std::time::Duration;

use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{self, Nodes};
use tracing::{info, warn};

use super::attach::{Attached, Given};
use super::spec::DeviceSpec;
use super::tree::{self, Device, Vhost};
use super::{ToolError, Toolstack};
use crate::options::Options;
use crate::vdev::Wanted;

/// What a guest that is gone had from us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belongings {
    /// `vm` of the guest's directory, which holds its UUID: the same after a reboot.
    vm: String,
    devices: Vec<DeviceSpec>,
}

impl Belongings {
    /// Those of a domain that is about to be forgotten: the devices of the vhosts that our own attach has made. Other toolstacks
    /// bring back what is theirs. `None` when there are none.
    ///
    /// # Errors
    ///
    /// Failures of xenstore.
    pub fn of(
        store: &mut impl Nodes,
        domid: DomId,
        vm: Option<&str>,
    ) -> Result<Option<Self>, xenstore::Error> {
        let Some(vm) = vm else { return Ok(None) };
        let own = tree::own(store)?;
        let vhosts = tree::vhosts(store, own, domid)?;
        let ours = vhosts.iter().filter(|vhost| vhost.ours && vhost.place.home == own);
        let devices: Vec<DeviceSpec> =
            ours.flat_map(|vhost| vhost.devices.iter().filter_map(|device| spec_of(vhost, device))).collect();
        Ok((!devices.is_empty()).then(|| Self { vm: vm.to_owned(), devices }))
    }
}

/// What a device was attached with; `None` if its nodes make no sense.
fn spec_of(vhost: &Vhost, device: &Device) -> Option<DeviceSpec> {
    Some(DeviceSpec {
        name: device.name.clone(),
        pdev: device.name.parse().ok()?,
        // As it was, also when that was left open at first: it does not change with a reboot.
        vdev: Wanted::At(device.v_dev.parse().ok()?),
        backend: None,
        options: Options { feature_host: vhost.feature_host, ..Options::from_node(&device.options).ok()? },
    })
}

impl Toolstack<'_> {
    /// Waits for the guest to come back as another domain (xl rests for two seconds first), and attaches its devices to that. A device that cannot be had is
    /// logged and left out. `None` when the guest does not come, or comes with vhosts of its own.
    ///
    /// # Errors
    ///
    /// Failures of xenstore, and [`ToolError::Interrupted`].
    pub fn follow(
        &mut self,
        gone: DomId,
        belongings: &Belongings,
        patience: Duration,
    ) -> Result<Option<DomId>, ToolError> {
        let back = self.until("@introduceDomain", patience, |store| {
            for id in store.list("/local/domain")? {
                let Ok(id) = id.parse() else { continue };
                if DomId(id) != gone && tree::text(store, &tree::vm(DomId(id)))? == belongings.vm {
                    return Ok(Some(DomId(id)));
                }
            }
            Ok(None)
        })?;
        let Some(domid) = back else { return Ok(None) };
        if !self.vhosts(domid)?.is_empty() {
            return Ok(None);
        }
        info!("domain {gone} is back as domain {domid}: its devices follow");
        for device in &belongings.devices {
            match self.attach_once(domid, device, &[]) {
                Ok(Given { attached: Attached::Before, .. }) => {}
                Ok(Given { vdev, .. }) => {
                    info!("domain {domid}: {} is attached again as {vdev}", device.name)
                }
                Err(ToolError::Interrupted) => return Err(ToolError::Interrupted),
                Err(error) => warn!("domain {domid}: {} at {}: {error}", device.name, device.vdev),
            }
        }
        Ok(Some(domid))
    }
}
