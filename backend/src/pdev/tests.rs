//! Names and where they lead.

use super::*;
use crate::lio::tests::Imitation;
use pvscsi_sg::disk::BlockSize;

#[test]
fn all_forms_are_understood() {
    let parse = |text: &str| text.parse::<PDev>().unwrap();
    assert_eq!(parse("8:0:2:1"), PDev::Address("8:0:2:1".parse().unwrap()));
    for path in ["/dev/sg3", "/dev/sda", "/dev/sr0", "/dev/nst0", "/dev/ch0", "/dev/disk/by-id/wwn-0x5000"] {
        assert_eq!(parse(path), PDev::Node(path.into()));
    }
    // The kernel's backend cuts names at 31 bytes.
    let long = format!("/dev/disk/by-id/scsi-{}", "3".repeat(200));
    assert_eq!(parse(&long).to_string(), long);
    assert_eq!(parse("file:/srv/disk.img"), PDev::File("/srv/disk.img".into()));
    assert_eq!(parse("block:/dev/vg/disk"), PDev::Block("/dev/vg/disk".into()));
    assert_eq!(parse("ram:64M"), PDev::Ram(64 << 20));
    assert_eq!(parse("ram:512"), PDev::Ram(512));
    let wwn = "naa.5000c500a0b1c2d3";
    assert_eq!(parse(&format!("wwn:{wwn}")), PDev::Wwn(wwn.parse().unwrap()));
    assert_eq!(parse("wwn:0x5000C500A0B1C2D3").to_string(), "wwn:5000c500a0b1c2d3");
    assert_eq!(parse("serial:  WD-WX11 A2 "), PDev::Serial("WD-WX11 A2".into()));
    let export = Export { wwn: Wwn::naa("6001405a1b2c3d4e").unwrap(), lun: 3 };
    assert_eq!(parse("naa.6001405A1B2C3D4E:3"), PDev::Naa(export));
    for text in [
        "8:0:2:1",
        "/dev/sg3",
        "wwn:eui.0025385b71b0c1d2",
        "serial:WD-WX11 A2",
        "naa.6001405a1b2c3d4e:3",
        "file:/srv/disk.img",
        "block:/dev/vg/disk",
        "ram:512",
    ] {
        assert_eq!(parse(text).to_string(), text);
    }
}

#[test]
fn the_users_own_path_outlives_an_address() {
    let node = PDev::Node("/dev/disk/by-id/wwn-0x5".into());
    let address = PDev::Address("8:0:2:1".parse().unwrap());
    for (p_dev, name, expected) in [
        ("8:0:2:1", Some("/dev/disk/by-id/wwn-0x5"), &node),
        ("8:0:2:1", Some("8:0:2:1"), &address),
        ("8:0:2:1", Some("sda"), &address),
        ("8:0:2:1", None, &address),
        ("/dev/disk/by-id/wwn-0x5", Some("/dev/sda"), &node),
    ] {
        assert_eq!(&PDev::from_nodes(p_dev, name.map(str::as_bytes)).unwrap(), expected);
    }
    for name in ["wwn:5000c500a0b1c2d3", "serial:WD-WX11", "naa.6001405a1b2c3d4e:0"] {
        let named = PDev::from_nodes("8:0:2:1", Some(name.as_bytes())).unwrap();
        assert_eq!(named.to_string(), name);
        // What is no address was not made from the other node.
        assert_eq!(PDev::from_nodes(name, Some(b"/dev/sda")).unwrap(), named);
    }
    assert!(PDev::from_nodes("sda", Some(b"/dev/sda")).is_err());
    assert_eq!(PDev::from_nodes("8:0:2:1", Some(b"/dev/\xff")).unwrap(), address);
}

#[test]
fn what_is_no_device_is_refused_with_the_remedy() {
    let refuse = |text: &str| text.parse::<PDev>().unwrap_err();
    for text in [
        "",
        "sda",
        "8:0:2",
        "disk.img",
        "../dev/sda",
        "/etc/passwd",
        "ram",
        "\u{1F4BE}",
        "/dev/sda\nroot",
        "file:/a\u{7}",
        "/dev/\u{202e}ads",
    ] {
        assert_eq!(refuse(text), PDevError::Form(text.into()));
    }
    for text in [
        "ram:",
        "ram:0",
        "ram:513",
        "ram:-1",
        "ram:64X",
        "ram:99999999999999999999",
        "ram:99999999T",
        "ram:M",
    ] {
        assert_eq!(refuse(text), PDevError::Size(text.into()));
    }
    for text in ["block:", "block:sda", "block:/srv/disk.img", "block:dev/sda"] {
        assert_eq!(refuse(text), PDevError::NotBelowDev(text.into()));
    }
    assert_eq!(refuse("file:disk.img"), PDevError::Relative("file:disk.img".into()));
    for text in ["naa.", "naa.:0", "naa.6001405", "naa.60014051234567890:0", "naa.6001405:x"] {
        assert_eq!(refuse(text), PDevError::Naa(text.into()));
    }
    for text in ["wwn:", "wwn:5000", "wwn:wwn-0x5000c500a0b1c2d3", "wwn: 5000c500a0b1c2d3"] {
        assert_eq!(refuse(text), PDevError::Wwn(text.into()));
    }
    assert_eq!(refuse("wwn:t10.ATA     DISK"), PDevError::T10("wwn:t10.ATA     DISK".into()));
    for text in ["serial:", "serial:   "] {
        assert_eq!(refuse(text), PDevError::Serial(text.into()));
    }
    assert!(refuse("a\nb\u{7}").to_string().contains(r"a\nb\u{7}"), "control characters never reach a log");
}

#[test]
fn a_name_gives_the_same_disk_each_time() {
    let open = || PDev::Ram(1 << 20).open(Options::default(), Engine::Auto, None).unwrap();
    assert_eq!(open().device_type(), 0);
    assert!(PDev::File("/no/such/file".into()).open(Options::default(), Engine::Auto, None).is_err());
    let error = PDev::Block("/dev/null".into())
        .open(Options::default(), Engine::Auto, None)
        .err()
        .unwrap()
        .to_string();
    assert_eq!(error, "/dev/null is not a block device; a disk on a file is written file:/dev/null");
}

#[test]
fn emulated_disks_have_blocks_of_two_sizes() {
    let of = |size| Options { block_size: Some(size), ..Options::default() };
    for size in BlockSize::ALL {
        assert!(PDev::Ram(1 << 20).open(of(size), Engine::Auto, None).is_ok());
    }
    assert!(PDev::Ram(4096 + 512).open(of(BlockSize::B512), Engine::Auto, None).is_ok());
    let error = PDev::Ram(4096 + 512).open(of(BlockSize::B4096), Engine::Auto, None).err().unwrap();
    assert_eq!(error.to_string(), "a size of 4608 bytes is not a positive multiple of 4096");
    let file = std::env::temp_dir().join(format!("pvscsi-blocks-{}", std::process::id()));
    std::fs::write(&file, [0; 8192]).unwrap();
    assert!(PDev::File(file.clone()).open(of(BlockSize::B4096), Engine::Auto, None).is_ok());
    std::fs::write(&file, [0; 512]).unwrap();
    assert!(PDev::File(file.clone()).open(Options::default(), Engine::Auto, None).is_ok());
    assert!(PDev::File(file.clone()).open(of(BlockSize::B4096), Engine::Auto, None).is_err());
    std::fs::remove_file(&file).unwrap();

    let found = || Found::Sg("/no/such/sg".into());
    for size in BlockSize::ALL {
        let error = PDev::Node("/dev/sda".into())
            .open_found(found(), of(size), Engine::Auto)
            .err()
            .unwrap()
            .to_string();
        let expected = "block-size= is for file:, block: and ram: only; the blocks of /dev/sda are as the device has them";
        assert_eq!(error, expected);
    }
    let error =
        PDev::Node("/dev/sda".into()).open_found(found(), Options::default(), Engine::Auto).err().unwrap();
    assert!(matches!(error, PDevOpenError::Open(_)), "{error}");
}

/// What a name leads to on an imitated host, and the address that it gives `p-dev`.
fn look_up(host: &Imitation, text: &str) -> Result<(Found, Option<String>), String> {
    let host =
        Host { locator: host.locator(), lio: host.lio(), saved: Saved::in_files(vec![host.saved_path()]) };
    let p_dev: PDev = text.parse().unwrap();
    let found = p_dev.find(&host).map_err(|error| error.to_string())?;
    let address = match p_dev.resolve_on(&host).unwrap() {
        PDev::Address(hctl) => Some(hctl.to_string()),
        _ => None,
    };
    Ok((found, address))
}

#[test]
fn every_form_of_a_name_leads_to_its_device() {
    let host = Imitation::new("forms");
    host.device("8:0:2:1", 1, 0, "naa.5000c500a0b1c2d3");
    host.device("9:0:0:0", 2, 1, "naa.5000c500a0b1c2d4");
    host.serial("9:0:0:0", "  HU19 ");
    host.pscsi("pscsi_0/tape", ["9", "0", "0", "0"]);
    host.fileio("fileio_0/disk", "/srv/disk.img");
    host.export("naa.6001405a1b2c3d4e/tpgt_1/lun/lun_0", "pscsi_0/tape");
    host.export("naa.6001405a1b2c3d4e/tpgt_1/lun/lun_1", "fileio_0/disk");
    // An export of LIO comes before the device whose own name it borrows.
    host.export("naa.5000c500a0b1c2d3/tpgt_1/lun/lun_1", "pscsi_0/tape");
    host.fileio("fileio_0/volume", "/dev/vg/volume");
    host.export("naa.6001405a1b2c3d4e/tpgt_1/lun/lun_2", "fileio_0/volume");
    host.save(&[
        ("naa.6001405a1b2c3d4e", "1:1:1:1"),
        ("naa.6001405a1b2c3d4f", "8:0:2:1"),
        // There on every host, and no SCSI device.
        ("naa.6001405a1b2c3d50", "/dev/null"),
    ]);
    let sg = |node: &str, address: &str| (Found::Sg(node.into()), Some(address.into()));
    for (text, expected) in [
        ("8:0:2:1", sg("/dev/sg1", "8:0:2:1")),
        ("wwn:0x5000C500A0B1C2D3", sg("/dev/sg1", "8:0:2:1")),
        ("serial:HU19", sg("/dev/sg2", "9:0:0:0")),
        ("naa.6001405a1b2c3d4e:0", sg("/dev/sg2", "9:0:0:0")),
        ("naa.6001405a1b2c3d4f:0", sg("/dev/sg1", "8:0:2:1")),
        ("naa.6001405a1b2c3d4e:1", (Found::File("/srv/disk.img".into()), None)),
        ("naa.6001405a1b2c3d4e:2", (Found::Block("/dev/vg/volume".into()), None)),
        ("naa.6001405a1b2c3d50:0", (Found::Block("/dev/null".into()), None)),
        ("naa.5000c500a0b1c2d3:1", sg("/dev/sg2", "9:0:0:0")),
        ("naa.5000c500a0b1c2d4:0", sg("/dev/sg2", "9:0:0:0")),
        ("file:/srv/disk.img", (Found::File("/srv/disk.img".into()), None)),
        ("block:/dev/vg/volume", (Found::Block("/dev/vg/volume".into()), None)),
        ("ram:512", (Found::Ram(512), None)),
    ] {
        assert_eq!(look_up(&host, text), Ok(expected), "{text}");
    }
}

#[test]
fn a_name_that_leads_nowhere_says_where_to_look() {
    let host = Imitation::new("nowhere");
    host.device("8:0:2:1", 1, 0, "naa.5000c500a0b1c2d3");
    host.device("9:0:0:1", 2, 0, "naa.5000c500a0b1c2d3");
    host.pscsi("pscsi_0/disk", ["8", "0", "2", "1"]);
    host.export("naa.6001405a1b2c3d4e/tpgt_1/lun/lun_0", "pscsi_0/disk");
    host.save(&[("naa.6001405a1b2c3d40", "naa.6001405a1b2c3d40:0"), ("naa.6001405a1b2c3d41", "tape")]);
    for (text, error) in [
        ("1:0:0:0", "there is no SCSI device 1:0:0:0 on this host"),
        (
            "wwn:5000c500a0b1c2d4",
            "no SCSI device of this host has the world wide name 5000c500a0b1c2d4; lsscsi",
        ),
        ("wwn:5000c500a0b1c2d3", "belongs to 2 SCSI devices: 8:0:2:1, 9:0:0:1; write"),
        ("serial:X", "no SCSI device of this host has the serial number \"X\"; /sys/class"),
        (
            "naa.6001405a1b2c3d4e:0",
            "naa.6001405a1b2c3d4e:0 is LIO's backstore pscsi_0/disk, which holds 8:0:2:1",
        ),
        ("naa.6001405a1b2c3d40:0", "LIO's saved configuration has naa.6001405a1b2c3d40:0 as \"naa.6001405"),
        (
            "naa.6001405a1b2c3d41:0",
            "LIO's saved configuration has naa.6001405a1b2c3d41:0 as \"tape\" names no device",
        ),
        (
            "naa.6001405:0",
            "LIO's xen-pvscsi exports no naa.6001405:0, and no SCSI device of this host has the world wide name \
             naa.6001405 and LUN 0; lsscsi --wwn",
        ),
        (
            "naa.5000c500a0b1c2d3:1",
            "LIO's xen-pvscsi exports no naa.5000c500a0b1c2d3:1, and the world wide name naa.5000c500a0b1c2d3 and LUN 1 \
             belongs to 2 SCSI devices: 8:0:2:1, 9:0:0:1; write",
        ),
    ] {
        let said = look_up(&host, text).unwrap_err();
        assert!(said.contains(error), "{text}: {said}");
    }
}
