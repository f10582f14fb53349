//! All devices of a configuration, or none.

use pvscsi_xen::DomId;

use super::attach::{Attached, check};
use super::spec::DeviceSpec;
use super::tree::{self, Vhost};
use super::{ToolError, Toolstack};
use crate::options::Options;
use crate::xenbus::XenbusState;

impl Toolstack<'_> {
    /// Attaches all devices that are not attached yet; says of each what became of it. After an error, those that this call
    /// attached are detached again.
    ///
    /// # Errors
    ///
    /// [`ToolError`] says what and where; [`ToolError::Left`] when a guest does not let go of one.
    pub fn attach_all(&mut self, domid: DomId, specs: &[DeviceSpec]) -> Result<Vec<Attached>, ToolError> {
        specs.iter().try_for_each(check)?;
        let mut done = Vec::new();
        let failed = self.attach_each(domid, specs, &mut done).err();
        let Some(mut error) = failed else { return Ok(done) };
        for (spec, _) in specs.iter().zip(&done).filter(|(_, done)| **done != Attached::Before).rev() {
            if let Err(why) = self.take_back(|tools| tools.detach(domid, spec.vdev, false)) {
                error = error.and_left(format!("{} stays attached", spec.name), why);
            }
        }
        Err(error)
    }

    /// The same, but those in `done` stay after an error.
    pub(super) fn attach_each(
        &mut self,
        domid: DomId,
        specs: &[DeviceSpec],
        done: &mut Vec<Attached>,
    ) -> Result<(), ToolError> {
        // What can be seen to go wrong is seen before anything is written.
        let vhosts = tree::vhosts(&mut self.store, self.own, domid)?;
        let mut before = Vec::new();
        for spec in specs {
            before.push(is_there(&vhosts, spec, self.home(spec)?)?);
        }
        for (spec, before) in specs.iter().zip(before) {
            done.push(if before { Attached::Before } else { self.attach_once(domid, spec)? });
            self.heed_stop()?;
        }
        Ok(())
    }

    /// A guest that has just come back may be getting its devices from its old server and from the user at the same time.
    pub(super) fn attach_once(&mut self, domid: DomId, spec: &DeviceSpec) -> Result<Attached, ToolError> {
        match self.attach(domid, spec) {
            Err(ToolError::Taken { by, .. }) if by == spec.name => Ok(Attached::Before),
            attached => attached,
        }
    }
}

/// Whether this very device is attached.
fn is_there(vhosts: &[Vhost], spec: &DeviceSpec, home: DomId) -> Result<bool, ToolError> {
    let (vdev, name) = (spec.vdev, spec.name.clone());
    let Some(vhost) = vhosts.iter().find(|vhost| vhost.host == vdev.host) else { return Ok(false) };
    vhost.must_be_in(home)?;
    if vhost.feature_host != spec.options.feature_host {
        return Err(ToolError::FeatureHost(vhost.place.number));
    }
    let Some(device) = vhost.device_at(vdev) else { return Ok(false) };
    let leaves = matches!(device.state, XenbusState::Closing | XenbusState::Closed);
    if device.name != name || leaves {
        return Err(ToolError::Taken { vdev, by: device.name.clone() });
    }
    let options = Options::from_node(&device.options);
    if options == Ok(spec.options.of_device()) {
        Ok(true)
    } else {
        Err(ToolError::OtherOptions { name, vdev })
    }
}
