//! Who keeps the reservations of a device, and where.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use pvscsi_sg::disk::{DiskIdentity, MediumError};
use pvscsi_sg::{Hctl, Initiator, Locator, Shared, SharedError};

use super::{Context, Vhost};
use crate::in_use::Host;
use crate::options::{Keeper, Options};
use crate::pdev::{PDev, PDevOpenError};

/// Whether reservations are kept here. An emulated disk has nobody else; a SCSI device can do it itself as long as one guest has it,
/// and does so for other hosts too; with `feature-host` it gets every command.
pub(super) fn keeps_reservations(device: &PDev, options: Options, feature_host: bool) -> bool {
    match (device, options.reservations) {
        (PDev::Address(_), _) if feature_host => false,
        (PDev::Address(_), Some(keeper)) => keeper == Keeper::Guests,
        (PDev::Address(_), None) => options.shared,
        _ => true,
    }
}

impl Vhost {
    /// Takes part in the reservations of a device. Each address of a vhost is an initiator of its own, as a port is.
    pub(super) fn join(
        &self,
        context: &Context,
        device: &PDev,
        options: Options,
        v_dev: &str,
    ) -> Result<Shared, PDevOpenError> {
        let initiator = Initiator::named(&format!("{} vhost {} {v_dev}", context.guest, self.number));
        let directories = &context.platform.reservations;
        let name = match device {
            PDev::Address(hctl) => of_device(&Locator::default(), *hctl),
            PDev::File(path) => of_file(path, options.shared)
                .map_err(|source| MediumError::Open { path: path.clone(), source })?,
            PDev::Block(path) => {
                let meta =
                    fs::metadata(path).map_err(|source| MediumError::Open { path: path.clone(), source })?;
                if !meta.file_type().is_block_device() {
                    return Err(MediumError::NotABlockDevice(path.clone()).into());
                }
                of_block(&Host::default(), meta.rdev())
            }
            // Nobody else has it, and what was reserved went with the last one.
            _ => {
                let name = format!("ram-{initiator}");
                let path = directories.run.join(&name);
                match fs::remove_file(&path) {
                    Err(source) if source.kind() != io::ErrorKind::NotFound => {
                        return Err(SharedError::File { path, source }.into());
                    }
                    _ => name,
                }
            }
        };
        Ok(Shared::join(directories, &name, initiator)?)
    }
}

/// By its world wide name, which outlasts a reboot; one that has none is itself only until then.
fn of_device(locator: &Locator, hctl: Hctl) -> String {
    locator.wwn_of(hctl).map_or_else(|| hctl.to_string(), |wwn| wwn.to_string())
}

/// By its path without links. Two paths of one file would have two sets of reservations, and a guest shut out of one could write by the
/// other.
fn of_file(path: &Path, shared: bool) -> io::Result<String> {
    let whole = fs::canonicalize(path)?;
    let names = fs::metadata(&whole)?.nlink();
    if shared && names > 1 {
        return Err(io::Error::other(format!(
            "the file has {names} names (hard links), and reservations cannot be kept for them together: leave one of them"
        )));
    }
    Ok(format!("file-{}", DiskIdentity::from_name(&whole.to_string_lossy()).serial()))
}

/// By what it is called for good: its path may lead to another device after a reboot.
fn of_block(host: &Host, device: u64) -> String {
    format!("block-{}", DiskIdentity::from_name(&host.lasting_name(device)).serial())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_them() {
        let of = |device: &str, options: &str, feature_host| {
            keeps_reservations(&device.parse().unwrap(), Options::from_node(options).unwrap(), feature_host)
        };
        for (device, options, kept) in [
            ("0:0:0:0", "", false),
            ("0:0:0:0", "shared", true),
            ("0:0:0:0", "shared,reservations=device", false),
            ("0:0:0:0", "reservations=guests", true),
            ("file:/disk.img", "", true),
            ("file:/disk.img", "shared", true),
            ("block:/dev/vg/disk", "", true),
            ("block:/dev/vg/disk", "shared", true),
            ("ram:1M", "", true),
        ] {
            assert_eq!(of(device, options, false), kept, "{device} {options}");
        }
        assert!(!of("0:0:0:0", "shared", true));
        assert!(of("file:/disk.img", "shared", true), "there is nobody else to ask");
    }

    #[test]
    fn a_file_is_the_same_by_its_links_and_refused_by_a_second_name() {
        let dir = std::env::temp_dir().join(format!("pvscsi-names-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let [file, link, second] = ["file", "link", "second"].map(|name| dir.join(name));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(of_file(&file, true).unwrap(), of_file(&link, true).unwrap());
        fs::hard_link(&file, &second).unwrap();
        let refused = of_file(&file, true).unwrap_err().to_string();
        assert!(refused.starts_with("the file has 2 names"), "{refused}");
        assert_ne!(of_file(&file, false).unwrap(), of_file(&second, false).unwrap());
        fs::remove_dir_all(&dir).unwrap();
    }
}
