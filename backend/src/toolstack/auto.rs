//! `auto` in place of an address: a vhost for the device alone, with the lowest host number that is free.
//!
//! A ring has 16 slots, which the devices of a vhost share; so this is the layout for speed.

use pvscsi_xen::DomId;

use super::spec::DeviceSpec;
use super::tree::{Device, Vhost};
use crate::options::Options;
use crate::vdev::{VDev, Wanted};
use crate::xenbus::XenbusState;

/// `auto` takes host numbers below this. Neither the protocol nor Linux's frontend has a limit that matters, but xenstored lets a guest
/// have 1000 nodes (its option `--entry-nb`), and a vhost with one device takes 9 of them: with more, one of them all would
/// not connect, nor perhaps the guest's other devices.
pub const HOSTS: u32 = 100;

/// The address at the lowest host number that is not in use; `None` when `auto` has no more of them.
pub(super) fn first_free(is_used: impl Fn(u32) -> bool) -> Option<VDev> {
    (0..HOSTS).find(|host| !is_used(*host)).map(VDev::first_of)
}

/// The addresses that these devices get in a guest that has none yet; `None` when `auto` has no more.
#[must_use]
pub fn in_a_new_guest(specs: &[DeviceSpec]) -> Option<Vec<VDev>> {
    let mut known: Vec<VDev> = named(specs);
    let give = |spec: &DeviceSpec| {
        let vdev = match spec.vdev {
            Wanted::At(vdev) => vdev,
            Wanted::Auto => first_free(|host| is_among(&known, host))?,
        };
        known.push(vdev);
        Some(vdev)
    };
    specs.iter().map(give).collect()
}

/// The addresses that are asked for.
pub(super) fn named(specs: &[DeviceSpec]) -> Vec<VDev> {
    specs.iter().filter_map(|spec| spec.vdev.named()).collect()
}

pub(super) fn is_among(vdevs: &[VDev], host: u32) -> bool {
    vdevs.iter().any(|vdev| vdev.host == host)
}

/// A device that a configuration leaves an address to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open<'a> {
    pub(super) spec: &'a DeviceSpec,
    /// Which device it is in the domain that has it.
    pub(super) p_dev: &'a str,
    pub(super) home: DomId,
}

impl Open<'_> {
    /// Where the guest has it with the same options already; `others` are the addresses of the configuration's other devices.
    pub(super) fn is_there(self, vhosts: &[Vhost], others: &[VDev]) -> Option<VDev> {
        self.find(vhosts, others, |vhost, device| {
            vhost.feature_host == self.spec.options.feature_host
                && Options::from_node(&device.options) == Ok(self.spec.options.of_device())
        })
    }

    /// The same, whatever its options are.
    pub(super) fn is_there_otherwise(self, vhosts: &[Vhost], others: &[VDev]) -> Option<VDev> {
        self.find(vhosts, others, |_, _| true)
    }

    fn find(
        self,
        vhosts: &[Vhost],
        others: &[VDev],
        suits: impl Fn(&Vhost, &Device) -> bool,
    ) -> Option<VDev> {
        let Open { spec, p_dev, home } = self;
        let stays = |device: &Device| !matches!(device.state, XenbusState::Closing | XenbusState::Closed);
        let is_it = |device: &Device| device.name == spec.name || device.p_dev == p_dev;
        vhosts.iter().filter(|vhost| vhost.place.home == home).find_map(|vhost| {
            let devices = vhost.devices.iter().filter(|device| is_it(device) && stays(device));
            devices.filter(|device| suits(vhost, device)).find_map(|device| {
                // The guest's address begins with the vhost's number, whatever the device's own node says.
                let vdev = VDev { host: vhost.host, ..device.v_dev.parse().ok()? };
                (!others.contains(&vdev)).then_some(vdev)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(texts: &[&str]) -> Option<Vec<String>> {
        let specs: Vec<DeviceSpec> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Some(in_a_new_guest(&specs)?.iter().map(VDev::to_string).collect())
    }

    #[test]
    fn each_has_a_host_that_no_other_has_or_names() {
        for (texts, vdevs) in [
            (&["ram:1M,auto", "ram:1M,auto"][..], &["0:0:0:0", "1:0:0:0"][..]),
            (&["ram:1M,auto", "ram:1M,0:0:0:1"], &["1:0:0:0", "0:0:0:1"]),
            (
                &[
                    "ram:1M,auto",
                    "ram:1M,1:0:0:0",
                    "ram:1M,auto",
                    "ram:1M,1:0:3:0",
                    "ram:1M,auto",
                    "ram:1M,0:0:9:0",
                ],
                &["2:0:0:0", "1:0:0:0", "3:0:0:0", "1:0:3:0", "4:0:0:0", "0:0:9:0"],
            ),
            (&["ram:1M,4294967295:0:0:0", "ram:1M,auto,feature-host"], &["4294967295:0:0:0", "0:0:0:0"]),
            (&[], &[]),
        ] {
            assert_eq!(given(texts).unwrap(), vdevs, "{texts:?}");
        }
    }

    #[test]
    fn the_numbers_end() {
        let all = vec!["ram:1M,auto"; 100];
        assert_eq!(given(&all).unwrap().last().unwrap(), "99:0:0:0");
        assert_eq!(given(&[&all[..], &["ram:1M,auto"]].concat()), None);
        assert_eq!(given(&[&all[..], &["ram:1M,50:0:0:0"]].concat()), None);
        assert!(given(&[&all[..], &["ram:1M,100:0:0:0"]].concat()).is_some(), "named, there may be more");
        assert_eq!(first_free(|host| host != 40), Some(VDev::first_of(40)));
    }
}
