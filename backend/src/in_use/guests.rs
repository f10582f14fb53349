//! What guests have: vscsi devices, and block devices of `xl`.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::stat::{major, minor};
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{Error, Nodes};

use super::{Holder, Host, Identity};
use crate::options::Options;
use crate::pdev::PDev;
use crate::vhost::{children, read_optional};
use crate::xenbus::XenbusState;

/// Backends of block devices that may have a device beside the host's knowledge: blkback does not claim it, and QEMU is a program
/// like others.
const BLOCK_BACKENDS: [&str; 2] = ["vbd", "qdisk"];

/// What guests had when it was read: which devices, and where in xenstore.
#[derive(Debug, Default)]
pub struct Guests(Vec<(Identity, Place)>);

#[derive(Debug)]
struct Place {
    domid: DomId,
    /// Of the device, in the backend's directory.
    path: String,
    vscsi: bool,
}

/// Whose vscsi devices count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's that is written down.
    All,
    /// Those of other guests than this one that their server has opened: states 3 and 4.
    ServedToOthersThan(DomId),
}

impl Guests {
    /// Adds the vscsi devices of domains that exist. In a transaction, only nodes that never change are read with
    /// [`Whose::All`], so that it meets no conflict but with another attach or detach.
    ///
    /// # Errors
    ///
    /// Failures of xenstore. A device that names nothing (any more) is nobody's.
    pub fn read_vscsi(&mut self, store: &mut impl Nodes, whose: Whose) -> Result<(), Error> {
        for domid in guests(store, "vscsi")? {
            if whose == Whose::ServedToOthersThan(domid) {
                continue;
            }
            let backends = format!("backend/vscsi/{domid}");
            for vhost in children(store, &backends)? {
                let devices = format!("{backends}/{vhost}/vscsi-devs");
                for name in children(store, &devices)? {
                    let path = format!("{devices}/{name}");
                    if whose != Whose::All && !is_served(store, &path)? {
                        continue;
                    }
                    let Some(p_dev) = text(store, &format!("{path}/p-dev"))? else { continue };
                    let name = text(store, &format!("{path}/p-devname"))?;
                    let pdev = PDev::from_nodes(&p_dev, name.as_deref().map(str::as_bytes)).ok();
                    let device = pdev.and_then(|pdev| Identity::of(&pdev).ok().flatten());
                    self.0.extend(device.map(|device| (device, Place { domid, path, vscsi: true })));
                }
            }
        }
        Ok(())
    }

    /// Adds the block devices of domains that exist.
    ///
    /// # Errors
    ///
    /// Failures of xenstore.
    pub fn read_block(&mut self, store: &mut impl Nodes, host: &Host) -> Result<(), Error> {
        for kind in BLOCK_BACKENDS {
            for domid in guests(store, kind)? {
                let devices = format!("backend/{kind}/{domid}");
                for number in children(store, &devices)? {
                    let path = format!("{devices}/{number}");
                    let physical = text(store, &format!("{path}/physical-device"))?;
                    let device = match physical.as_deref().and_then(number_of) {
                        Some((major, minor)) => Some(host.block(major, minor)),
                        None => text(store, &format!("{path}/params"))?.and_then(|text| params(&text, host)),
                    };
                    self.0.extend(device.map(|device| (device, Place { domid, path, vscsi: false })));
                }
            }
        }
        Ok(())
    }

    /// Who stands in the way of a guest that is to have the device; two that share it do not.
    ///
    /// # Errors
    ///
    /// Failures of xenstore.
    pub fn holder(
        &self,
        store: &mut impl Nodes,
        device: &Identity,
        shared: bool,
    ) -> Result<Option<Holder>, Error> {
        for (other, place) in self.0.iter().filter(|(other, _)| other.clashes_with(device)) {
            let theirs = place.vscsi && is_shared(store, &place.path)?;
            let same = other == device;
            if !(same && shared && theirs) {
                return Ok(Some(place.describe(store, same.then_some((shared, theirs)))?));
            }
        }
        Ok(None)
    }
}

impl Place {
    fn describe(&self, store: &mut impl Nodes, shared: Option<(bool, bool)>) -> Result<Holder, Error> {
        let domid = self.domid;
        let name = text(store, &format!("/local/domain/{domid}/name"))?;
        let name = name.map_or_else(String::new, |name| format!(" ({name})"));
        if !self.vscsi {
            let dev = text(store, &format!("{}/dev", self.path))?.unwrap_or_default();
            return Ok(Holder::new(
                format!("domain {domid}{name} has it as block device {dev}"),
                format!("xl block-detach {domid} {dev}"),
            ));
        }
        let vdev = text(store, &format!("{}/v-dev", self.path))?.unwrap_or_default();
        Ok(vscsi(&format!("domain {domid}{name}"), domid, &vdev, shared))
    }
}

/// A guest with the device at `vdev`, and what helps: both must have the option `shared`, and not both (we, they) have it; `None`
/// where they have it in another way.
pub(crate) fn vscsi(who: &str, domid: DomId, vdev: &str, shared: Option<(bool, bool)>) -> Holder {
    let detach = format!("xen-pvscsi detach {domid} {vdev}");
    let Some(shared) = shared else {
        let how = "as a SCSI device, as a block device or in part, which cannot be shared with this";
        return Holder::new(format!("{who} has it at {vdev} {how}"), detach);
    };
    let (how, share) = match shared {
        (_, true) => (", shared", "give it the option shared here too"),
        (true, false) => (" without the option shared", "attach it there again with that option"),
        (false, false) => ("", "give both the option shared"),
    };
    Holder::new(format!("{who} has it at {vdev}{how}"), format!("{detach}, or {share}"))
}

/// The domains with devices of this kind that are still there. One that is gone may have left its nodes.
fn guests(store: &mut impl Nodes, kind: &str) -> Result<Vec<DomId>, Error> {
    let mut guests = Vec::new();
    for id in children(store, &format!("backend/{kind}"))? {
        let Ok(id) = id.parse() else { continue };
        match store.read(&format!("/local/domain/{id}")) {
            Err(error) if error.is_not_found() => {}
            // A driver domain may not look.
            Err(error) if !error.is_denied() => return Err(error),
            _ => guests.push(DomId(id)),
        }
    }
    Ok(guests)
}

fn is_served(store: &mut impl Nodes, device: &str) -> Result<bool, Error> {
    let state = text(store, &format!("{device}/state"))?.and_then(|text| XenbusState::parse(text.as_bytes()));
    Ok(matches!(state, Some(XenbusState::Initialised | XenbusState::Connected)))
}

fn is_shared(store: &mut impl Nodes, device: &str) -> Result<bool, Error> {
    let options = text(store, &format!("{device}/options"))?.unwrap_or_default();
    Ok(Options::from_node(&options).is_ok_and(|options| options.shared))
}

/// Major and minor in hexadecimal digits, as the block script writes them (Xen's tools/hotplug/Linux/block-common.sh).
fn number_of(physical: &str) -> Option<(u64, u64)> {
    let (major, minor) = physical.split_once(':')?;
    Some((u64::from_str_radix(major, 16).ok()?, u64::from_str_radix(minor, 16).ok()?))
}

/// The device or file of a block device that has no number: a path, perhaps behind a format, `aio:/srv/disk.img`.
fn params(text: &str, host: &Host) -> Option<Identity> {
    let path = Path::new(text.get(text.find('/')?..)?);
    let meta = fs::metadata(path).ok()?;
    if meta.file_type().is_block_device() {
        return Some(host.block(major(meta.rdev()), minor(meta.rdev())));
    }
    Identity::of_file(path).ok()
}

/// A node's text; `None` for one that is not there, or that we may not read.
fn text(store: &mut impl Nodes, path: &str) -> Result<Option<String>, Error> {
    let value = read_optional(store, path)?;
    Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
}
