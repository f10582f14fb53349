//! All devices of a configuration, or none.

use pvscsi_xen::DomId;

use super::attach::{Attached, Given, check};
use super::auto::{self, Open};
use super::spec::DeviceSpec;
use super::tree::{self, Vhost};
use super::{ToolError, Toolstack};
use crate::options::Options;
use crate::vdev::{VDev, Wanted};
use crate::xenbus::XenbusState;

impl Toolstack<'_> {
    /// Attaches all devices that are not attached yet; says of each what became of it. After an error, those that this call
    /// attached are detached again.
    ///
    /// # Errors
    ///
    /// [`ToolError`] says what and where; [`ToolError::Left`] when a guest does not let go of one.
    pub fn attach_all(&mut self, domid: DomId, specs: &[DeviceSpec]) -> Result<Vec<Given>, ToolError> {
        specs.iter().try_for_each(check)?;
        let mut done = Vec::new();
        let failed = self.attach_each(domid, specs, &mut done).err();
        let Some(mut error) = failed else { return Ok(done) };
        let ours = |(_, given): &(&DeviceSpec, &Given)| given.attached != Attached::Before;
        for (spec, given) in specs.iter().zip(&done).filter(ours).rev() {
            if let Err(why) = self.take_back(|tools| tools.detach(domid, given.vdev, false)) {
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
        done: &mut Vec<Given>,
    ) -> Result<(), ToolError> {
        let before = self.look_before(domid, specs)?;
        let mut others = auto::named(specs);
        others.extend(before.iter().flatten());
        for (spec, before) in specs.iter().zip(before) {
            let given = match before {
                Some(vdev) => Given { vdev, attached: Attached::Before },
                None => self.attach_once(domid, spec, &others)?,
            };
            others.push(given.vdev);
            done.push(given);
            self.heed_stop()?;
        }
        Ok(())
    }

    /// What can be seen to go wrong is seen before anything is written: where each is that is there.
    fn look_before(&mut self, domid: DomId, specs: &[DeviceSpec]) -> Result<Vec<Option<VDev>>, ToolError> {
        let vhosts = tree::vhosts(&mut self.store, self.own, domid)?;
        // What is there for one entry is not there for another.
        let mut others = auto::named(specs);
        let mut before = Vec::new();
        for spec in specs {
            let home = self.home(spec)?;
            let there = match spec.vdev {
                Wanted::At(vdev) => is_there(&vhosts, spec, vdev, home)?.then_some(vdev),
                Wanted::Auto => {
                    let p_dev = self.p_dev(spec, home)?;
                    let there = Open { spec, p_dev: &p_dev, home }.is_there(&vhosts, &others);
                    others.extend(there);
                    there
                }
            };
            before.push(there);
        }
        let is_new =
            |(spec, there): &(&DeviceSpec, &Option<VDev>)| spec.vdev == Wanted::Auto && there.is_none();
        for (spec, _) in specs.iter().zip(&before).filter(is_new) {
            let (home, name) = (self.home(spec)?, || spec.name.clone());
            let p_dev = self.p_dev(spec, home)?;
            if let Some(vdev) = (Open { spec, p_dev: &p_dev, home }).is_there_otherwise(&vhosts, &others) {
                return Err(ToolError::OtherOptions { name: name(), vdev });
            }
            let is_used =
                |host| vhosts.iter().any(|vhost| vhost.host == host) || auto::is_among(&others, host);
            let vdev = auto::first_free(is_used);
            others.push(vdev.ok_or_else(|| ToolError::NoHost { domid, name: name() })?);
        }
        Ok(before)
    }

    /// A guest that has just come back may be getting its devices from its old server and from the user at the same time.
    pub(super) fn attach_once(
        &mut self,
        domid: DomId,
        spec: &DeviceSpec,
        others: &[VDev],
    ) -> Result<Given, ToolError> {
        match self.attach_beside(domid, spec, Some(others)) {
            Err(ToolError::Taken { by, vdev }) if by == spec.name => {
                Ok(Given { vdev, attached: Attached::Before })
            }
            attached => attached,
        }
    }
}

/// Whether this very device is attached.
fn is_there(vhosts: &[Vhost], spec: &DeviceSpec, vdev: VDev, home: DomId) -> Result<bool, ToolError> {
    let name = spec.name.clone();
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
