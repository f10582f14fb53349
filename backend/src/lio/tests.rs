//! LIO's configfs and the host's sysfs, imitated as the kernel makes them.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

const STATUS: &str = "Status: ACTIVATED  Max Queue Depth: 0  SectorSize: 512  HwMaxSectors: 16384\n        ";

/// A host with devices, backstores and exports.
pub(crate) struct Imitation {
    root: PathBuf,
}

impl Drop for Imitation {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).unwrap();
    }
}

impl Imitation {
    pub(crate) fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("pvscsi-lio-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("sys/class/scsi_device")).unwrap();
        Self { root: root.canonicalize().unwrap() }
    }

    pub(crate) fn locator(&self) -> Locator {
        Locator::with_roots(self.root.join("sys"), "/dev")
    }

    pub(crate) fn lio(&self) -> Lio {
        Lio::with_root(self.target())
    }

    /// LIO's saved configuration, which exports the LUN 0 of each target as this device.
    pub(crate) fn save(&self, exports: &[(&str, &str)]) {
        let stores = exports
            .iter()
            .enumerate()
            .map(|(n, (_, dev))| serde_json::json!({ "plugin": "pscsi", "name": n.to_string(), "dev": dev }));
        let targets = exports.iter().enumerate().map(|(n, (wwn, _))| {
            let lun = serde_json::json!({ "index": 0, "storage_object": format!("/backstores/pscsi/{n}") });
            serde_json::json!({ "fabric": "xen-pvscsi", "wwn": wwn, "tpgs": [{ "luns": [lun] }] })
        });
        let text = serde_json::json!({
            "storage_objects": stores.collect::<Vec<_>>(), "targets": targets.collect::<Vec<_>>(),
        });
        fs::write(self.saved_path(), text.to_string()).unwrap();
    }

    pub(crate) fn saved_path(&self) -> PathBuf {
        self.root.join("saveconfig.json")
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.root.join("config/target")
    }

    /// A SCSI device with an sg node of this number, and as a disk with the block device 8:(16 × number).
    pub(crate) fn device(&self, hctl: &str, sg: u32, device_type: u8, wwid: &str) {
        let sys = self.root.join("sys");
        let device = sys.join("devices").join(hctl);
        let generic = device.join(format!("scsi_generic/sg{sg}"));
        let classes = [format!("class/scsi_device/{hctl}"), format!("class/scsi_generic/sg{sg}")];
        for dir in [generic, device.join("scsi_device").join(hctl)] {
            fs::create_dir_all(dir).unwrap();
        }
        for class in classes.into_iter().chain([format!("dev/block/8:{}", sg * 16)]) {
            fs::create_dir_all(sys.join(&class)).unwrap();
            symlink(&device, sys.join(class).join("device")).unwrap();
        }
        fs::write(device.join("type"), format!("{device_type}\n")).unwrap();
        fs::write(device.join("wwid"), format!("{wwid}\n")).unwrap();
    }

    /// The device says that this is its serial number.
    pub(crate) fn serial(&self, hctl: &str, serial: &str) {
        let len = u8::try_from(serial.len()).unwrap();
        let page = [&[0, 0x80, 0, len], serial.as_bytes()].concat();
        fs::write(self.root.join("sys/devices").join(hctl).join("vpd_pg80"), page).unwrap();
    }

    /// A backstore such as `pscsi_0/name`.
    pub(crate) fn store(&self, store: &str, info: &str) {
        let store = self.target().join("core").join(store);
        fs::create_dir_all(&store).unwrap();
        fs::write(store.join("info"), info).unwrap();
    }

    pub(crate) fn pscsi(&self, store: &str, [host, channel, target, lun]: [&str; 4]) {
        self.store(
            store,
            &format!(
                "{STATUS}SCSI Device Bus Location: Channel ID: {channel} Target ID: {target} LUN: {lun} Host ID: {host}\n        \
                 Vendor: ATA      Model: LUN: DISK        Rev: 1.0 \n"
            ),
        );
    }

    pub(crate) fn fileio(&self, store: &str, path: &str) {
        self.store(
            store,
            &format!("{STATUS}TCM FILEIO ID: 0        File: {path}  Size: 1048576  Mode: O_DSYNC Async: 0\n"),
        );
    }

    fn iblock(&self, store: &str, path: &str, minor: u32, exclusive: &str) {
        self.store(
            store,
            &format!(
                "{STATUS}iBlock device: sdb  UDEV PATH: {path}  readonly: 0\n{exclusive}        \
                 Major: 8 Minor: {minor}  CLAIMED: IBLOCK\n"
            ),
        );
    }

    /// `lun`: such as `naa.6001405a1b2c3d4e/tpgt_1/lun/lun_0`.
    pub(crate) fn export(&self, lun: &str, store: &str) {
        let dir = self.target().join("xen-pvscsi").join(lun);
        fs::create_dir_all(dir.join("statistics")).unwrap();
        fs::write(dir.join("alua_tg_pt_gp"), "").unwrap();
        symlink(format!("../../../../../../target/core/{store}"), dir.join("link")).unwrap();
    }

    fn find(&self, export: &str) -> Result<Option<Backing>, LioError> {
        self.lio().find(&export.parse().unwrap(), &self.locator())
    }

    fn refusal(&self, export: &str) -> String {
        self.find(export).unwrap_err().to_string()
    }
}

fn scsi(hctl: &str) -> Option<Backing> {
    Some(Backing::Scsi(hctl.parse().unwrap()))
}

#[test]
fn a_name_is_naa_and_a_lun() {
    for (text, spelt) in [
        ("naa.6001405a1b2c3d4e:0", "naa.6001405a1b2c3d4e:0"),
        ("naa.6001405A1B2C3D4E:07", "naa.6001405a1b2c3d4e:7"),
        ("naa.1:18446744073709551615", "naa.1:18446744073709551615"),
    ] {
        assert_eq!(text.parse::<Export>().unwrap().to_string(), spelt);
    }
    for text in [
        "naa.6001405a1b2c3d4e",
        "naa.6001405a1b2c3d4e:",
        "naa.6001405a1b2c3d4e:+1",
        "naa.6001405a1b2c3d4e:0:0",
        "naa.6001405a1b2c3d4e:0x1",
        "naa.6001405a1b2c3d4e:18446744073709551616",
        "naa.:0",
        "naa.6001405a1b2c3d4ef:0",
        "naa.x:0",
        "6001405a1b2c3d4e:0",
    ] {
        assert_eq!(text.parse::<Export>(), Err(NotWwn), "{text:?}");
    }
}

#[test]
fn without_lio_there_is_no_export() {
    let host = Imitation::new("none");
    assert_eq!(host.find("naa.6001405a1b2c3d4e:0").unwrap(), None);
    host.fileio("fileio_0/a", "/srv/a.img");
    host.export("naa.6001405a1b2c3d4e/tpgt_1/lun/lun_0", "fileio_0/a");
    fs::create_dir_all(host.target().join("xen-pvscsi/naa.6001405a1b2c3d4e/tpgt_1/lun/lun_2")).unwrap();
    for other in ["naa.6001405a1b2c3d4e:1", "naa.6001405a1b2c3d4f:0", "naa.6001405a1b2c3d4e:2"] {
        assert_eq!(host.find(other).unwrap(), None, "{other}");
    }
    assert!(host.find("naa.6001405A1B2C3D4E:0").unwrap().is_some());
}

#[test]
fn what_is_not_held_is_used() {
    let host = Imitation::new("used");
    host.device("8:0:2:1", 1, 1, "naa.5000c500a0b1c2d3");
    host.device("9:0:0:0", 2, 0, "naa.5000c500a0b1c2d4");
    host.pscsi("pscsi_0/tape", ["8", "0", "2", "1"]);
    host.pscsi("pscsi_8/tape", ["PHBA Mode", "0", "2", "1"]);
    host.fileio("fileio_3/image", "/srv/a disk  Size: 1.img");
    host.iblock("iblock_0/shared", "/dev/sdc", 32, "  exclusive: 0\n");
    host.iblock("iblock_0/volume", "/dev/vg/volume", 4, "  exclusive: 0\n");
    let on_volume = STATUS.replace("512", "4096");
    host.store("fileio_0/volume", &format!("{on_volume}File: /dev/vg/volume  Size: 4096  "));
    let volume = || Some(Backing::Block("/dev/vg/volume".into()));
    for (lun, store, backing) in [
        (0, "pscsi_0/tape", scsi("8:0:2:1")),
        (1, "pscsi_8/tape", scsi("8:0:2:1")),
        (2, "fileio_3/image", Some(Backing::File("/srv/a disk  Size: 1.img".into()))),
        (3, "iblock_0/shared", scsi("9:0:0:0")),
        (4, "iblock_0/volume", volume()),
        (5, "fileio_0/volume", volume()),
    ] {
        host.export(&format!("naa.6001405a1b2c3d4e/tpgt_1/lun/lun_{lun}"), store);
        assert_eq!(host.find(&format!("naa.6001405a1b2c3d4e:{lun}")).unwrap(), backing, "{store}");
    }
}

#[test]
fn a_disk_that_lio_holds_is_refused_with_the_remedy() {
    let host = Imitation::new("held");
    host.device("8:0:2:1", 1, 0, "naa.5000c500a0b1c2d3");
    host.device("9:0:0:0", 2, 0x14, "t10.without a number");
    host.pscsi("pscsi_0/lab", ["8", "0", "2", "1"]);
    host.pscsi("pscsi_9/zones", ["PHBA Mode", "0", "0", "0"]);
    host.iblock("iblock_0/vol", "/dev/disk/by-id/wwn-0x5000c500a0b1c2d3", 16, "");
    host.iblock("iblock_1/vol", "/dev/sdb", 16, "  exclusive: 1\n");
    host.iblock("iblock_2/vol", "/dev/vg/volume", 4, "");
    let config = host.target();
    let config = config.display();
    for (lun, store, why) in [
        (0, "pscsi_0/lab", "8:0:2:1|pscsi delete lab|wwn:naa.5000c500a0b1c2d3"),
        (1, "pscsi_9/zones", "9:0:0:0|pscsi delete zones|9:0:0:0"),
        (
            2,
            "iblock_0/vol",
            "/dev/disk/by-id/wwn-0x5000c500a0b1c2d3|block delete vol|wwn:naa.5000c500a0b1c2d3",
        ),
        (3, "iblock_1/vol", "/dev/sdb|block delete vol|wwn:naa.5000c500a0b1c2d3"),
        (4, "iblock_2/vol", "/dev/vg/volume|block delete vol|block:/dev/vg/volume"),
    ] {
        let [disk, delete, instead] = why.split('|').collect::<Vec<_>>()[..] else { panic!("{why}") };
        let dir = format!("naa.6001405a1b2c3d4e/tpgt_1/lun/lun_{lun}");
        host.export(&dir, store);
        assert_eq!(
            host.refusal(&format!("naa.6001405a1b2c3d4e:{lun}")),
            format!(
                "naa.6001405a1b2c3d4e:{lun} is LIO's backstore {store}, which holds {disk} as long as it exists: \
                 delete it with targetcli /backstores/{delete}, or with rm {config}/xen-pvscsi/{dir}/link and \
                 rmdir {config}/core/{store}, and write {instead} in its place"
            )
        );
    }
}

#[test]
fn what_nobody_else_can_serve_is_refused() {
    let host = Imitation::new("refused");
    host.store("user_1/vm", STATUS);
    host.store("rd_mcp_0/ram", STATUS);
    host.pscsi("pscsi_0/gone", ["8", "0", "2", "1"]);
    host.store("fileio_0/large", &format!("{}File: /srv/a  Size: 4096  ", STATUS.replace("512", "4096")));
    host.store("fileio_0/relative", &format!("{STATUS}File: a.img  Size: 512  "));
    host.pscsi("pscsi_0/negative", ["8", "0", "-1", "1"]);
    host.store("iblock_0/new", "what a newer kernel says");
    host.store("fileio_0/empty", "");
    let info = |store: &str| format!("whose {}/core/{store}/info is not understood", host.target().display());
    for (lun, (store, why)) in (0..).zip([
        (
            "user_1/vm",
            "of a kind that nobody but LIO can serve; there are file:PATH, block:/dev/PATH and ram:SIZE"
                .into(),
        ),
        (
            "rd_mcp_0/ram",
            "of a kind that nobody but LIO can serve; there are file:PATH, block:/dev/PATH and ram:SIZE"
                .into(),
        ),
        (
            "pscsi_0/gone",
            "but there is no SCSI device 8:0:2:1 on this host; lsscsi lists those that are there".into(),
        ),
        (
            "fileio_0/large",
            "whose blocks have 4096 bytes; those of file: have 512, or 4096 with block-size=4096".into(),
        ),
        ("fileio_0/relative", info("fileio_0/relative")),
        ("pscsi_0/negative", info("pscsi_0/negative")),
        ("iblock_0/new", info("iblock_0/new")),
        ("fileio_0/empty", info("fileio_0/empty")),
    ]) {
        host.export(&format!("naa.6001405a1b2c3d4e/tpgt_1/lun/lun_{lun}"), store);
        let name = format!("naa.6001405a1b2c3d4e:{lun}");
        assert_eq!(host.refusal(&name), format!("{name} is LIO's backstore {store}, {why}"));
    }
}

#[test]
fn groups_that_lead_to_one_backstore_are_no_trouble() {
    let host = Imitation::new("groups");
    host.fileio("fileio_0/a", "/srv/a.img");
    host.fileio("fileio_0/b", "/srv/b.img");
    host.export("naa.6001405a1b2c3d4e/tpgt_1/lun/lun_0", "fileio_0/a");
    host.export("naa.6001405a1b2c3d4e/tpgt_2/lun/lun_0", "fileio_0/a");
    assert_eq!(host.find("naa.6001405a1b2c3d4e:0").unwrap(), Some(Backing::File("/srv/a.img".into())));
    host.export("naa.6001405a1b2c3d4e/tpgt_3/lun/lun_0", "fileio_0/b");
    assert_eq!(
        host.refusal("naa.6001405a1b2c3d4e:0"),
        "naa.6001405a1b2c3d4e:0 leads to several of LIO's backstores: fileio_0/a, fileio_0/b; write the device itself"
    );
}

#[test]
fn what_cannot_be_read_is_said_so() {
    let host = Imitation::new("unreadable");
    host.store("fileio_0/a", STATUS);
    host.export("naa.6001405a1b2c3d4e/tpgt_1/lun/lun_0", "fileio_0/a");
    let info = host.target().join("core/fileio_0/a/info");
    fs::write(&info, b"File: /\xff  Size: 1").unwrap();
    assert!(host.refusal("naa.6001405a1b2c3d4e:0").starts_with(&format!("cannot read {}: ", info.display())));
    host.export("naa.6001405a1b2c3d4e/tpgt_1/lun/lun_1", "fileio_0/missing");
    assert!(host.refusal("naa.6001405a1b2c3d4e:1").contains("lun_1/link: No such file or directory"));
    fs::write(host.target().join("xen-pvscsi/naa.1"), "").unwrap();
    assert!(host.refusal("naa.1:0").contains("xen-pvscsi/naa.1: Not a directory"));
}
