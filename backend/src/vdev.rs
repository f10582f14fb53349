//! The address of a device as the guest sees it, and as an administrator asks for it.

use std::fmt;
use std::str::FromStr;

use pvscsi_ring::Nexus;
use pvscsi_sg::Hctl;

/// A `v-dev`: `host:channel:target:lun`. The host says which vhost it is, and plays no part within that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VDev {
    /// The number of the vhost (`libxl_ctrl_index`).
    pub host: u32,
    /// The address within it: 16 bits for each number (Xen's io/vscsiif.h).
    pub nexus: Nexus,
}

/// Why a text is no `v-dev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VDevError {
    /// Other than four numbers.
    #[error("is not of the form host:channel:target:lun, four decimal numbers")]
    Form,
    /// Numbers that a request cannot carry.
    #[error("does not fit the protocol: channel, target and lun are 16 bits each")]
    Range,
}

impl FromStr for VDev {
    type Err = VDevError;

    fn from_str(text: &str) -> Result<Self, VDevError> {
        let hctl: Hctl = text.parse().map_err(|_| VDevError::Form)?;
        let channel = u16::try_from(hctl.channel).map_err(|_| VDevError::Range)?;
        let id = u16::try_from(hctl.target).map_err(|_| VDevError::Range)?;
        let lun = u16::try_from(hctl.lun).map_err(|_| VDevError::Range)?;
        Ok(Self { host: hctl.host, nexus: Nexus { channel, id, lun } })
    }
}

impl fmt::Display for VDev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Nexus { channel, id, lun } = self.nexus;
        write!(f, "{}:{channel}:{id}:{lun}", self.host)
    }
}

/// Where a device is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// At this address.
    At(VDev),
    /// `auto`: in a vhost of its own, with the lowest host number that is free when it is attached.
    Auto,
}

impl Wanted {
    /// The address that is asked for.
    #[must_use]
    pub fn named(self) -> Option<VDev> {
        match self {
            Self::At(vdev) => Some(vdev),
            Self::Auto => None,
        }
    }
}

impl VDev {
    /// Channel, target and LUN 0 of a vhost.
    #[must_use]
    pub fn first_of(host: u32) -> Self {
        Self { host, nexus: Nexus { channel: 0, id: 0, lun: 0 } }
    }
}

impl FromStr for Wanted {
    type Err = VDevError;

    fn from_str(text: &str) -> Result<Self, VDevError> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::At) }
    }
}

/// As it is parsed.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(vdev) => vdev.fmt(f),
            Self::Auto => f.write_str("auto"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_may_be_asked_for_or_left_open() {
        assert_eq!("auto".parse(), Ok(Wanted::Auto));
        assert_eq!("7:0:0:0".parse(), Ok(Wanted::At(VDev::first_of(7))));
        for text in ["auto", "4:0:1:2"] {
            assert_eq!(text.parse::<Wanted>().unwrap().to_string(), text);
        }
        for bad in ["", "Auto", "auto ", "auto:0:0:0", "automatic", "0:0:0"] {
            assert_eq!(bad.parse::<Wanted>(), Err(VDevError::Form), "{bad:?}");
        }
        assert_eq!("auto".parse::<VDev>(), Err(VDevError::Form), "what is attached has an address");
    }

    #[test]
    fn it_is_three_numbers_of_16_bits_behind_the_host() {
        let parse = |text: &str| text.parse::<VDev>().map(|vdev| (vdev.host, vdev.nexus));
        assert_eq!(parse("3:0:65535:7"), Ok((3, Nexus { channel: 0, id: 65535, lun: 7 })));
        assert_eq!(parse("4294967295:1:2:3"), Ok((u32::MAX, Nexus { channel: 1, id: 2, lun: 3 })));
        for bad in ["", "0:0:0", "0:0:0:0:0", "4294967296:0:0:0", "0:0:-1:0", "0:0:0:0 ", "a:b:c:d"] {
            assert_eq!(parse(bad), Err(VDevError::Form), "{bad:?}");
        }
        for bad in ["0:0:0:65536", "0:65536:0:0", "0:0:65536:0"] {
            assert_eq!(parse(bad), Err(VDevError::Range), "{bad:?}");
        }
        assert_eq!("3:0:65535:7".parse::<VDev>().unwrap().to_string(), "3:0:65535:7");
    }
}
