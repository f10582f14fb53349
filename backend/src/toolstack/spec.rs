//! A device as an administrator writes it: `pdev,vdev[,option]…`, the items of `vscsi=` in a domain's configuration.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use crate::options::{OptionError, Options};
use crate::pdev::{PDev, PDevError};
use crate::vdev::{VDev, VDevError, Wanted};

/// Longest name of a device, in bytes; a node of xenstore holds more.
const NAME_MAX: usize = 2048;

/// A device to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// The device as given; kept in `p-devname`.
    pub name: String,
    /// What it means.
    pub pdev: PDev,
    /// Where the guest is to see it.
    pub vdev: Wanted,
    /// The domain that has it, by number or name, when it is another than this one: the option `backend=`.
    pub backend: Option<String>,
    /// What else is asked of it.
    pub options: Options,
}

/// Why a text describes no device. Each says which part is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Not even two parts.
    #[error(
        "{0:?} is not of the form pdev,vdev[,option]: for example /dev/disk/by-id/wwn-0x5000c500a0b1c2d3,0:0:0:0"
    )]
    Parts(String),
    /// The first part.
    #[error("pdev {0}")]
    PDev(PDevError),
    /// The first part is longer than any name.
    #[error("pdev has {0} bytes; {NAME_MAX} are possible")]
    Long(usize),
    /// The second part.
    #[error("vdev {text:?} {why}; or write auto for a vhost of its own")]
    VDev {
        /// As given.
        text: String,
        /// What is wrong with it.
        why: VDevError,
    },
    /// Whose?
    #[error("backend= needs the number or the name of a domain")]
    NoBackend,
    /// One of the others.
    #[error(transparent)]
    Option(#[from] OptionError),
}

impl FromStr for DeviceSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut parts = text.split(',').map(str::trim);
        let (Some(name), Some(vdev)) = (parts.next(), parts.next()) else {
            return Err(SpecError::Parts(text.into()));
        };
        if name.len() > NAME_MAX {
            return Err(SpecError::Long(name.len()));
        }
        let pdev = name.parse().map_err(SpecError::PDev)?;
        let vdev = vdev.parse().map_err(|why| SpecError::VDev { text: vdev.into(), why })?;
        let (backend, options) = asked(parts)?;
        Ok(Self { name: name.into(), pdev, vdev, backend, options })
    }
}

/// What stands behind the address: the domain of `backend=`, and the options of the device.
///
/// # Errors
///
/// [`SpecError`] names the word.
pub(crate) fn asked<'a>(
    words: impl Iterator<Item = &'a str>,
) -> Result<(Option<String>, Options), SpecError> {
    let (mut backend, mut options) = (None, Vec::new());
    for word in words {
        match word.strip_prefix("backend=").map(str::trim) {
            None => options.push(word),
            Some(domain) if domain.is_empty() || domain.contains(char::is_control) => {
                return Err(SpecError::NoBackend);
            }
            Some(domain) if backend.replace(domain.to_owned()).is_none() => {}
            Some(_) => return Err(OptionError::Twice("backend".into()).into()),
        }
    }
    Ok((backend, Options::from_words(options.into_iter())?))
}

/// As it is parsed.
impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.name, self.vdev)?;
        if let Some(backend) = &self.backend {
            write!(f, ",backend={backend}")?;
        }
        if self.options == Options::default() { Ok(()) } else { write!(f, ",{}", self.options) }
    }
}

/// Why a device cannot be attached beside an earlier one of the same guest. Items are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The same address.
    #[error("vdev {vdev} is that of item {other} as well")]
    Address {
        /// Of both.
        vdev: VDev,
        /// The earlier one.
        other: usize,
    },
    /// A vhost is in one domain.
    #[error("backend differs from that of item {other}; all devices of host {host} are in one domain")]
    Backend {
        /// The host of both.
        host: u32,
        /// The earlier one.
        other: usize,
    },
    /// A vhost has `feature-host` or has it not.
    #[error("feature-host differs from that of item {other}; all devices of host {host} have it, or none")]
    FeatureHost {
        /// The host of both.
        host: u32,
        /// The earlier one.
        other: usize,
    },
}

/// Looks whether all these can be attached to one guest.
///
/// # Errors
///
/// The index of the first that cannot, and why.
pub fn agree(specs: &[DeviceSpec]) -> Result<(), (usize, Conflict)> {
    let (mut by_address, mut by_host) = (HashMap::new(), HashMap::new());
    for (index, spec) in specs.iter().enumerate() {
        // One that is left open gets a host number that none of these names.
        let Wanted::At(vdev) = spec.vdev else { continue };
        let number = index.saturating_add(1);
        if let Some(other) = by_address.insert((vdev.host, vdev.nexus), number) {
            return Err((index, Conflict::Address { vdev, other }));
        }
        let (other, feature_host, backend) =
            *by_host.entry(vdev.host).or_insert((number, spec.options.feature_host, &spec.backend));
        if *backend != spec.backend {
            return Err((index, Conflict::Backend { host: vdev.host, other }));
        }
        if feature_host != spec.options.feature_host {
            return Err((index, Conflict::FeatureHost { host: vdev.host, other }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DeviceSpec, SpecError> {
        text.parse()
    }

    #[test]
    fn all_that_the_design_note_shows_is_understood() {
        for (text, name, vdev, options) in [
            ("/dev/sda,0:0:0:0", "/dev/sda", "0:0:0:0", ""),
            (" /dev/sg3 , 1:0:2:3 ", "/dev/sg3", "1:0:2:3", ""),
            ("8:0:2:1,0:0:0:0,feature-host", "8:0:2:1", "0:0:0:0", "feature-host"),
            ("8:0:2:1,0:0:0:0, shared,ro", "8:0:2:1", "0:0:0:0", "ro,shared"),
            (
                "/dev/disk/by-id/scsi-35000c50,0:1:2:3 ,  feature-host ",
                "/dev/disk/by-id/scsi-35000c50",
                "0:1:2:3",
                "feature-host",
            ),
            (
                "/dev/tape/by-path/pci-0000:00:1f.2-nst,0:0:1:0",
                "/dev/tape/by-path/pci-0000:00:1f.2-nst",
                "0:0:1:0",
                "",
            ),
            ("file:/srv/a disk.img,0:0:0:1", "file:/srv/a disk.img", "0:0:0:1", ""),
            ("block:/dev/vg/disk,0:0:0:1", "block:/dev/vg/disk", "0:0:0:1", ""),
            ("ram:64M,0:0:0:1", "ram:64M", "0:0:0:1", ""),
            ("wwn:0x5000c500a0b1c2d3,0:0:0:1", "wwn:0x5000c500a0b1c2d3", "0:0:0:1", ""),
            ("serial: WD-WX11 A2 ,0:0:0:1,ro", "serial: WD-WX11 A2", "0:0:0:1", "ro"),
            ("naa.6001405a1b2c3d4e:0,0:0:0:1", "naa.6001405a1b2c3d4e:0", "0:0:0:1", ""),
            ("/dev/sda,auto", "/dev/sda", "auto", ""),
            ("ram:64M , auto , ro", "ram:64M", "auto", "ro"),
        ] {
            let spec = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!((spec.name.as_str(), spec.vdev.to_string().as_str()), (name, vdev), "{text:?}");
            assert_eq!(spec.options.to_string(), options, "{text:?}");
        }
    }

    #[test]
    fn a_device_of_another_domain_says_which() {
        let spec = parse("/dev/sda,0:0:0:0,ro,backend= storage ,shared").unwrap();
        assert_eq!(
            (spec.backend.as_deref(), spec.options.to_string().as_str()),
            (Some("storage"), "ro,shared")
        );
        assert_eq!(spec.to_string(), "/dev/sda,0:0:0:0,backend=storage,ro,shared");
        assert_eq!(parse(&spec.to_string()), Ok(spec.clone()));
        let local = parse("/dev/sdb,0:0:0:1").unwrap();
        let elsewhere = parse("/dev/sdb,1:0:0:1").unwrap();
        assert_eq!(agree(&[spec.clone(), elsewhere]), Ok(()));
        assert_eq!(agree(&[spec, local]), Err((1, Conflict::Backend { host: 0, other: 1 })));
    }

    /// They are not together in a vhost, so they need not agree.
    #[test]
    fn what_is_left_open_is_in_nobodys_way() {
        let texts = [
            "/dev/sda,auto",
            "/dev/sdb,0:0:0:0,feature-host",
            "/dev/sda,auto",
            "/dev/sdc,auto,backend=storage",
            "/dev/sdd,auto,feature-host",
        ];
        let specs: Vec<DeviceSpec> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(agree(&specs), Ok(()));
        assert_eq!(specs.iter().map(DeviceSpec::to_string).collect::<Vec<_>>(), texts);
    }

    /// Each is one line that names the part at fault.
    #[test]
    fn what_is_wrong_is_named() {
        let cases: &[(&str, &str)] = &[
            ("", "\"\" is not of the form"),
            ("/dev/sda", "is not of the form"),
            ("0:0:0:0", "is not of the form"),
            ("/dev/sda;0:0:0:0", "is not of the form"),
            (",", "pdev \"\" names no device"),
            (",0:0:0:0", "pdev \"\" names no device"),
            ("sda,0:0:0:0", "pdev \"sda\" names no device"),
            ("dev/sda,0:0:0:0", "pdev"),
            ("./disk,0:0:0:0", "pdev"),
            ("~/disk.img,0:0:0:0", "pdev"),
            ("/etc/passwd,0:0:0:0", "pdev"),
            ("8:0:2,0:0:0:0", "pdev \"8:0:2\""),
            ("8:0:2:1:0,0:0:0:0", "pdev"),
            ("8:0:2:-1,0:0:0:0", "pdev"),
            ("8:0:2:x,0:0:0:0", "pdev"),
            ("+8:0:2:1,0:0:0:0", "pdev"),
            ("8 :0:2:1,0:0:0:0", "pdev"),
            ("4294967296:0:0:0,0:0:0:0", "pdev"),
            ("0:0:0:18446744073709551616,0:0:0:0", "pdev"),
            ("/dev/s\nda,0:0:0:0", "pdev"),
            ("/dev/s\u{1b}[31mda,0:0:0:0", "pdev"),
            ("\"/dev/sda\",0:0:0:0", "pdev"),
            ("'/dev/sda',0:0:0:0", "pdev"),
            ("file:,0:0:0:0", "pdev"),
            ("file:disk.img,0:0:0:0", "needs an absolute path"),
            ("file:/disk.img ,0:0:0", "vdev"),
            ("FILE:/disk.img,0:0:0:0", "pdev"),
            ("block:/srv/disk.img,0:0:0:0", "needs a path below /dev"),
            ("ram:,0:0:0:0", "has no size"),
            ("ram:0,0:0:0:0", "has no size"),
            ("ram:1,0:0:0:0", "has no size"),
            ("ram:-1,0:0:0:0", "has no size"),
            ("ram:1.5G,0:0:0:0", "has no size"),
            ("ram:64 M,0:0:0:0", "has no size"),
            ("ram:64MiB,0:0:0:0", "has no size"),
            ("ram:99999999999999999999,0:0:0:0", "has no size"),
            ("naa.,0:0:0:0", "pdev \"naa.\" is not of the form naa.HEX:LUN"),
            ("naa.:0,0:0:0:0", "is not of the form naa.HEX:LUN"),
            ("naa.6001405a1b2c3d4e,0:0:0:0", "is not of the form naa.HEX:LUN"),
            ("naa.6001405a1b2c3d4e:,0:0:0:0", "is not of the form naa.HEX:LUN"),
            ("naa.6001405a1b2c3d4e:-1,0:0:0:0", "is not of the form naa.HEX:LUN"),
            ("naa.6001405a1b2c3d4e:0x1,0:0:0:0", "is not of the form naa.HEX:LUN"),
            ("naa.6001405a1b2c3d4e:18446744073709551616,0:0:0:0", "is not of the form naa.HEX:LUN"),
            ("naa.6001405a1b2c3d4e0:0,0:0:0:0", "is not of the form naa.HEX:LUN"),
            ("naa.0x6001405a1b2c3d:0,0:0:0:0", "is not of the form naa.HEX:LUN"),
            ("naa.6001405a1b2c3d4g:0,0:0:0:0", "is not of the form naa.HEX:LUN"),
            ("NAA.6001405a1b2c3d4e:0,0:0:0:0", "names no device"),
            ("eui.0025385b71b0c1d2,0:0:0:0", "names no device"),
            ("0x5000c500a0b1c2d3,0:0:0:0", "names no device"),
            ("wwn:,0:0:0:0", "pdev \"wwn:\" has no world wide name"),
            ("wwn:0x,0:0:0:0", "has no world wide name"),
            ("wwn:naa.,0:0:0:0", "has no world wide name"),
            ("wwn:5000c500a0b1c2d,0:0:0:0", "has no world wide name"),
            ("wwn:5000c500a0b1c2d34,0:0:0:0", "has no world wide name"),
            ("wwn:5000c500a0b1c2dg,0:0:0:0", "has no world wide name"),
            ("wwn:wwn-0x5000c500a0b1c2d3,0:0:0:0", "has no world wide name"),
            ("wwn:naa.5000c500a0b1c2d3:0,0:0:0:0", "has no world wide name"),
            ("wwn:t10.ATA     DISK,0:0:0:0", "has a T10 identifier"),
            ("WWN:5000c500a0b1c2d3,0:0:0:0", "names no device"),
            ("serial:,0:0:0:0", "pdev \"serial:\" has no serial number"),
            ("serial: ,0:0:0:0", "has no serial number"),
            ("serial:Z1\u{7},0:0:0:0", "names no device"),
            ("Serial:Z1,0:0:0:0", "names no device"),
            ("serial,0:0:0:0", "names no device"),
            ("/dev/sda,", "vdev \"\" is not of the form"),
            ("/dev/sda,,feature-host", "vdev \"\""),
            ("/dev/sda,0", "vdev \"0\""),
            ("/dev/sda,0:0", "vdev \"0:0\""),
            ("/dev/sda,0:0:0", "vdev \"0:0:0\""),
            ("/dev/sda,0:0:0:0:0", "vdev"),
            ("/dev/sda,0:0:0:", "vdev"),
            ("/dev/sda,:0:0:0", "vdev"),
            ("/dev/sda,0:0:0:0x1", "vdev"),
            ("/dev/sda,0:0:0:-1", "vdev"),
            ("/dev/sda,0:0:0:+1", "vdev"),
            ("/dev/sda,0:0: 0:0", "vdev"),
            ("/dev/sda,0.0.0.0", "vdev"),
            ("/dev/sda,a:b:c:d", "vdev \"a:b:c:d\""),
            ("/dev/sda,host", "vdev \"host\""),
            ("/dev/sda,Auto", "vdev \"Auto\" is not of the form host:channel:target:lun"),
            ("/dev/sda,automatic", "or write auto for a vhost of its own"),
            ("/dev/sda,auto:0:0:0", "vdev"),
            ("/dev/sda,ro,auto", "vdev \"ro\""),
            ("/dev/sda,auto,auto", "option \"auto\" is not known"),
            ("/dev/sda,0:65536:0:0", "16 bits each"),
            ("/dev/sda,0:0:65536:0", "16 bits each"),
            ("/dev/sda,0:0:0:65536", "16 bits each"),
            ("/dev/sda,4294967296:0:0:0", "vdev"),
            ("/dev/sda,0:0:0:0,", "option \"\" is not known"),
            ("/dev/sda,0:0:0:0,rw", "option \"rw\" is not known"),
            ("/dev/sda,0:0:0:0,Feature-Host", "option \"Feature-Host\""),
            ("/dev/sda,0:0:0:0,feature_host", "option"),
            ("/dev/sda,0:0:0:0,feature-host=1", "option"),
            ("/dev/sda,0:0:0:0,feature-host,feature-host", "feature-host is there twice"),
            ("/dev/sda,0:0:0:0,backend", "option \"backend\" is not known"),
            ("/dev/sda,0:0:0:0,backend=", "backend= needs the number or the name of a domain"),
            ("/dev/sda,0:0:0:0,backend= ,ro", "backend= needs the number or the name of a domain"),
            ("/dev/sda,0:0:0:0,backend=a\nb", "backend= needs the number or the name of a domain"),
            ("/dev/sda,0:0:0:0,backend=1,backend=2", "option backend is there twice"),
            ("/dev/sda,0:0:0:0,Backend=1", "option \"Backend=1\""),
            ("/dev/sda,0:0:0:0 feature-host", "vdev"),
        ];
        assert!(cases.len() >= 60, "{}", cases.len());
        for (text, part) in cases {
            let error = match parse(text) {
                Ok(spec) => panic!("{text:?} is {spec:?}"),
                Err(error) => error.to_string(),
            };
            assert!(error.contains(part), "{text:?}: {part:?} is not in {error:?}");
            assert!(!error.contains(char::is_control), "{text:?}: {error:?}");
        }
        let long = parse(&format!("/dev/{},0:0:0:0", "a".repeat(5000))).unwrap_err();
        assert_eq!(long, SpecError::Long(5005));
    }
}
