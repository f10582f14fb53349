//! Devices found by what they say of themselves. The kernel asked them when it found them and keeps the answers in sysfs.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Hctl, LocateError, Locator};
use crate::vpd;
use crate::wwn::Wwn;

impl Locator {
    /// The address of the device with this name, and with this LUN where one is given. Each of its names counts: the one in
    /// `wwid`, which the kernel takes for the best, and all of the page `vpd_pg83`.
    ///
    /// # Errors
    ///
    /// [`LocateError::Unknown`], [`LocateError::Several`].
    pub fn by_wwn(&self, wwn: &Wwn, lun: Option<u64>) -> Result<Hctl, LocateError> {
        let only_lun = lun.map_or_else(String::new, |lun| format!(" and LUN {lun}"));
        let what = format!("the world wide name {wwn}{only_lun}");
        self.only(what, "lsscsi --wwn and /sys/class/scsi_device/*/device/wwid show", |hctl, device| {
            lun.is_none_or(|lun| lun == hctl.lun) && wwns(device).iter().any(|own| wwn.means(own))
        })
    }

    /// The address of the device with this unit serial number, which is compared to the letter.
    ///
    /// # Errors
    ///
    /// [`LocateError::Unknown`], [`LocateError::Several`].
    pub fn by_serial(&self, serial: &str) -> Result<Hctl, LocateError> {
        let what = format!("the serial number {serial:?}");
        self.only(what, "/sys/class/scsi_device/*/device/vpd_pg80 shows", |_, device| {
            let page = read(&device.join("vpd_pg80"));
            vpd::unit_serial(&page) == Some(serial.as_bytes())
        })
    }

    /// A world wide name that means this device and no other.
    #[must_use]
    pub fn wwn_of(&self, hctl: Hctl) -> Option<Wwn> {
        wwns(&self.device(hctl)).into_iter().find(|wwn| self.by_wwn(wwn, None).is_ok())
    }

    /// The unit serial number of the device, in which what is no UTF-8 is replaced; `None` when it tells none.
    #[must_use]
    pub fn serial_of(&self, hctl: Hctl) -> Option<String> {
        let page = read(&self.device(hctl).join("vpd_pg80"));
        vpd::unit_serial(&page).map(|serial| String::from_utf8_lossy(serial).into_owned())
    }

    /// The peripheral device type of the device (SPC-5, 6.6.2): 0 is a disk.
    ///
    /// # Errors
    ///
    /// [`LocateError::NoSuchAddress`].
    pub fn device_type(&self, hctl: Hctl) -> Result<u8, LocateError> {
        let text = read(&self.device(hctl).join("type"));
        let number = str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        number.ok_or(LocateError::NoSuchAddress(hctl))
    }

    fn only(
        &self,
        what: String,
        where_to_look: &'static str,
        is_it: impl Fn(&Hctl, &Path) -> bool,
    ) -> Result<Hctl, LocateError> {
        // Without the directory there is no SCSI device at all.
        let devices = std::fs::read_dir(self.sys.join("class/scsi_device")).into_iter().flatten().flatten();
        let mut addresses: Vec<Hctl> = devices
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|hctl| is_it(hctl, &self.device(*hctl)))
            .collect();
        addresses.sort_unstable();
        match addresses.as_slice() {
            [] => Err(LocateError::Unknown { what, where_to_look }),
            [hctl] => Ok(*hctl),
            _ => Err(LocateError::Several { what, addresses }),
        }
    }
}

/// All names of the logical unit, the best one first.
fn wwns(device: &Path) -> Vec<Wwn> {
    let best = read(&device.join("wwid"));
    // It may be of a kind that is no number: t10.…, iqn.…
    let best = str::from_utf8(&best).ok().and_then(|text| text.trim().to_ascii_lowercase().parse().ok());
    best.into_iter().chain(vpd::wwns(&read(&device.join("vpd_pg83")))).collect()
}

/// An attribute, as far as a page can be long. Nothing where there is none: a device need not have any of them.
fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(vpd::PAGE_MAX).read_to_end(&mut bytes)) {
        Ok(_) => bytes,
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vpd::pages::{designator, page};
    use std::fs;
    use std::path::PathBuf;

    const NAA: [u8; 8] = [0x50, 0, 0xc5, 0, 0xa0, 0xb1, 0xc2, 0xd3];

    /// A sysfs with such attributes.
    fn host(name: &str, attributes: &[(&str, &str, &[u8])]) -> (PathBuf, Locator) {
        let root = std::env::temp_dir().join(format!("pvscsi-identity-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for (address, attribute, bytes) in attributes {
            let device = root.join("class/scsi_device").join(address).join("device");
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join(attribute), bytes).unwrap();
        }
        (root.clone(), Locator::with_roots(root, "/dev"))
    }

    fn hctl(text: &str) -> Hctl {
        text.parse().unwrap()
    }

    #[test]
    fn a_world_wide_name_is_in_wwid_or_in_page_83() {
        let (root, locator) = host(
            "wwn",
            &[
                ("1:0:0:0", "wwid", b"naa.5000C500A0B1C2D3\n"),
                ("2:0:0:0", "vpd_pg83", &page(0x83, &designator(3, &[0x60; 16]))),
                ("3:0:0:0", "wwid", b"t10.ATA     DISK  Z1\n"),
                ("3:0:0:0", "vpd_pg83", &page(0x83, &designator(2, &[0xab; 8]))),
                ("4:0:0:0", "wwid", b"\xff\xfe"),
                ("5:0:0:0", "model", b"without any\n"),
                ("not:an:address", "wwid", b"naa.5000c500a0b1c2d3\n"),
            ],
        );
        let find = |text: &str| locator.by_wwn(&text.parse().unwrap(), None);
        let long = "60".repeat(16);
        for (text, address) in [
            ("5000c500a0b1c2d3", "1:0:0:0"),
            ("0x5000C500A0B1C2D3", "1:0:0:0"),
            ("naa.5000c500a0b1c2d3", "1:0:0:0"),
            (&long, "2:0:0:0"),
            ("eui.abababababababab", "3:0:0:0"),
        ] {
            assert_eq!(find(text).unwrap(), hctl(address), "{text}");
        }
        assert_eq!(
            find("eui.5000c500a0b1c2d3").unwrap_err().to_string(),
            "no SCSI device of this host has the world wide name eui.5000c500a0b1c2d3; \
             lsscsi --wwn and /sys/class/scsi_device/*/device/wwid show what there is"
        );
        assert_eq!(locator.wwn_of(hctl("1:0:0:0")).unwrap().to_string(), "naa.5000c500a0b1c2d3");
        assert_eq!(locator.wwn_of(hctl("3:0:0:0")).unwrap().to_string(), "eui.abababababababab");
        assert_eq!(locator.wwn_of(hctl("5:0:0:0")), None);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_lun_chooses_among_devices_of_one_name() {
        let name = page(0x83, &designator(3, &NAA));
        let (root, locator) = host("lun", &[("1:0:0:0", "vpd_pg83", &name), ("1:0:0:7", "vpd_pg83", &name)]);
        let wwn = Wwn::naa("5000c500a0b1c2d3").unwrap();
        assert_eq!(locator.by_wwn(&wwn, Some(7)).unwrap(), hctl("1:0:0:7"));
        let error = locator.by_wwn(&wwn, Some(8)).unwrap_err().to_string();
        assert!(error.contains("the world wide name naa.5000c500a0b1c2d3 and LUN 8;"), "{error}");
        assert_eq!(locator.wwn_of(hctl("1:0:0:7")), None, "it means the other as well");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_serial_number_is_in_page_80() {
        let (root, locator) = host(
            "serial",
            &[
                ("1:0:0:0", "vpd_pg80", &page(0x80, b"    WD-1 A")),
                ("2:0:0:0", "vpd_pg80", &page(0x80, b"        ")),
                ("3:0:0:0", "vpd_pg80", b"\0\x80"),
            ],
        );
        assert_eq!(locator.by_serial("WD-1 A").unwrap(), hctl("1:0:0:0"));
        assert_eq!(locator.serial_of(hctl("1:0:0:0")).as_deref(), Some("WD-1 A"));
        assert_eq!(locator.serial_of(hctl("2:0:0:0")), None);
        for other in ["wd-1 a", "WD-1", ""] {
            assert!(matches!(locator.by_serial(other), Err(LocateError::Unknown { .. })), "{other:?}");
        }
        assert_eq!(
            locator.by_serial("X\"1").unwrap_err().to_string(),
            r#"no SCSI device of this host has the serial number "X\"1"; /sys/class/scsi_device/*/device/vpd_pg80 shows what there is"#
        );
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_name_of_several_devices_lists_them() {
        let wwid: &[u8] = b"naa.5000c500a0b1c2d3\n";
        let (root, locator) = host("two", &[("10:0:0:0", "wwid", wwid), ("9:0:0:0", "wwid", wwid)]);
        let wwn = "5000c500a0b1c2d3".parse().unwrap();
        assert_eq!(
            locator.by_wwn(&wwn, None).unwrap_err().to_string(),
            "the world wide name 5000c500a0b1c2d3 belongs to 2 SCSI devices: 9:0:0:0, 10:0:0:0; \
             write the address of the one that is meant, or its path below /dev/disk/by-path or /dev/tape/by-path"
        );
        fs::remove_dir_all(root).unwrap();

        let serial = page(0x80, b"0000");
        let many: Vec<String> = (0..9).map(|target| format!("4:0:{target}:0")).collect();
        let many: Vec<_> =
            many.iter().map(|address| (address.as_str(), "vpd_pg80", serial.as_slice())).collect();
        let (root, locator) = host("many", &many);
        let error = locator.by_serial("0000").unwrap_err().to_string();
        assert!(error.contains("9 SCSI devices: 4:0:0:0, ") && error.contains(", 4:0:7:0, …; "), "{error}");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn reads_have_a_bound() {
        let mut endless = page(0x80, b"Z1");
        endless.resize(200_000, b' ');
        let (root, locator) =
            host("bound", &[("1:0:0:0", "vpd_pg80", &endless), ("1:0:0:0", "type", b"5\n")]);
        assert_eq!(read(&locator.device(hctl("1:0:0:0")).join("vpd_pg80")).len(), 65_539);
        assert_eq!(locator.by_serial("Z1").unwrap(), hctl("1:0:0:0"));
        assert_eq!(locator.device_type(hctl("1:0:0:0")).unwrap(), 5);
        assert!(matches!(locator.device_type(hctl("2:0:0:0")), Err(LocateError::NoSuchAddress(_))));
        fs::remove_dir_all(root).unwrap();
    }
}
