//! libvirt's own examples, and what has no form on the other side.

use super::*;

fn texts(devices: &[DeviceSpec]) -> Vec<String> {
    devices.iter().map(DeviceSpec::to_string).collect()
}

fn hostdev(inner: &str) -> String {
    format!("<hostdev mode='subsystem' type='scsi' managed='no'>{inner}</hostdev>")
}

/// The example of libvirt's "Domain XML format", in the middle of what else a domain has.
const DOMAIN: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<!-- virsh dumpxml -->
<domain type='xen' id='3' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>a &amp; b</name>
  <metadata><x:y xmlns:x='urn:x'><hostdev type='scsi'/></x:y></metadata>
  <devices>
    <disk type='block' device='lun'><source dev='/dev/sda'/><target dev='sda' bus='scsi'/></disk>
    <hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/></source><boot order='2'/></hostdev>
    <hostdev mode='subsystem' type='scsi' sgio='filtered' rawio='yes'>
      <source>
        <adapter name='scsi_host0'/>
        <address bus='0' target='0' unit='0'/>
      </source>
      <readonly/>
      <address type='drive' controller='0' bus='0' target='0' unit='0'/>
    </hostdev>
    <hostdev mode="subsystem" type="scsi" managed="yes">
      <source protocol="adapter">
        <adapter name="scsi_host12"/>
        <address unit="18446744073709551615" bus="1" target="4294967295"/>
      </source>
      <shareable/>
      <alias name='hostdev1'/>
      <address type='drive' controller='1' unit='7'/>
    </hostdev>
  </devices>
</domain>
"#;

#[test]
fn a_domain_of_libvirts_becomes_a_line() {
    let devices = from_xml(DOMAIN).unwrap();
    let line =
        "vscsi = [ \"0:0:0:0,0:0:0:0,ro\", \"12:1:4294967295:18446744073709551615,1:0:0:7,shared\" ]\n";
    assert_eq!(to_config(&devices), line);
    // What is written is what xl reads.
    let config = crate::toolstack::config::Config::parse("x".as_ref(), line.into(), &[]).unwrap();
    assert_eq!(config.devices, devices);
}

/// The first device is that of libvirt's documentation.
#[test]
fn what_is_written_is_read_again() {
    for (text, xml) in [
        (
            "0:0:0:0,0:0:0:0,ro",
            "<hostdev mode='subsystem' type='scsi'>\n  <source>\n    <adapter name='scsi_host0'/>\n    \
             <address bus='0' target='0' unit='0'/>\n  </source>\n  <readonly/>\n  \
             <address type='drive' controller='0' bus='0' target='0' unit='0'/>\n</hostdev>\n",
        ),
        (
            "8:1:2:3,4:5:6:7,ro,shared",
            "<hostdev mode='subsystem' type='scsi'>\n  <source>\n    <adapter name='scsi_host8'/>\n    \
             <address bus='1' target='2' unit='3'/>\n  </source>\n  <readonly/>\n  <shareable/>\n  \
             <address type='drive' controller='4' bus='5' target='6' unit='7'/>\n</hostdev>\n",
        ),
    ] {
        let device: DeviceSpec = text.parse().unwrap();
        assert_eq!(to_xml(std::slice::from_ref(&device)).unwrap(), xml);
        assert_eq!(from_xml(xml).unwrap(), [device]);
    }
    let many =
        ["0:0:0:0,0:0:0:0,ro", "4294967295:9:8:7,4294967295:65535:65535:65535", "1:0:0:1,0:0:0:1,shared"];
    let devices: Vec<DeviceSpec> = many.iter().map(|text| text.parse().unwrap()).collect();
    let xml = to_xml(&devices).unwrap();
    assert_eq!(texts(&from_xml(&xml).unwrap()), many, "elements without a root");
    assert_eq!(from_xml(&format!("<!-- a -->\n{xml}<!-- b -->")).unwrap(), devices);
    assert_eq!(from_xml(&format!("<devices>{xml}</devices>")).unwrap(), devices);
    assert_eq!(from_xml(&format!("<domain><devices>{xml}</devices></domain>")).unwrap(), devices);
    assert_eq!(to_xml(&[]).unwrap(), "");
    let open: Vec<DeviceSpec> =
        ["1:0:0:0,auto", "2:0:0:0,0:0:0:3", "3:0:0:0,auto,ro"].map(|t| t.parse().unwrap()).into();
    let as_given = ["1:0:0:0,1:0:0:0", "2:0:0:0,0:0:0:3", "3:0:0:0,2:0:0:0,ro"];
    assert_eq!(texts(&from_xml(&to_xml(&open).unwrap()).unwrap()), as_given, "as in a new guest");
    assert_eq!(to_config(&open), "vscsi = [ \"1:0:0:0,auto\", \"2:0:0:0,0:0:0:3\", \"3:0:0:0,auto,ro\" ]\n");
}

#[test]
fn what_vscsi_cannot_express_is_an_error() {
    let source = "<source><adapter name='scsi_host0'/><address bus='0' target='0' unit='0'/></source>";
    let address = "<address type='drive' controller='0' bus='0' target='0' unit='0'/>";
    let with = |from: &str, to: &str| hostdev(&format!("{source}{address}").replace(from, to));
    assert_eq!(texts(&from_xml(&with("", "")).unwrap()), ["0:0:0:0,0:0:0:0"]);
    let iscsi = "\n<source protocol='iscsi' name='iqn.2014-08.com.example:iscsi-nopool/1'>\n\
                 <host name='example.com' port='3260'/></source>";
    let cases = [
        (hostdev(&format!("{iscsi}{address}")), "line 2: <hostdev>: protocol \"iscsi\""),
        (
            "<hostdev mode='subsystem' type='scsi_host'>\n <source protocol='vhost' wwpn='naa.50014057667280d8'/></hostdev>".into(),
            "line 2: <hostdev>: protocol \"vhost\"",
        ),
        (hostdev(address), "line 1: <hostdev>: there is no <source>"),
        (hostdev(source), "so libvirt chooses where the guest sees the device"),
        (with("<adapter name='scsi_host0'/>", ""), "there is no <adapter> in <source>"),
        (with(" name='scsi_host0'", ""), "there is no name of the <adapter>"),
        (with("scsi_host0", "fc_host0"), "adapter \"fc_host0\" is not of the form scsi_hostN"),
        (with("scsi_host0", "scsi_host"), "\":0:0:0\" is no address of a SCSI device"),
        (with("scsi_host0", "scsi_host0&quot;&#10;"), r#""0\"\n:0:0:0" is no address"#),
        (with("<address bus='0' target='0' unit='0'/>", ""), "there is no <address> in <source>"),
        (with("<address bus='0' target='0'", "<address bus='0'"), "there is no bus, target or unit"),
        (with("<address bus='0'", "<address bus='0x1'"), "\"0:0x1:0:0\" is no address"),
        (with("controller='0'", "controller='-1'"), "the guest's address \"-1:0:0:0\" is not of the form"),
        (with("controller='0' bus='0'", "bus='65536'"), "the guest's address \"0:65536:0:0\" does not fit"),
        (with("'drive'", "'pci'"), "the guest's address is of type \"pci\""),
        (with("type='drive'", ""), "the guest's address is of type \"\""),
        (with("<source>", "<boot order='1'/><source>"), "<boot> has no form in vscsi"),
        (with("<source>", "<driver name='vfio'/><source>"), "<driver> has no form in vscsi"),
        (format!("{}\n{0}", with("", "")), "line 2: <hostdev>: vdev 0:0:0:0 is that of item 1 as well"),
        (String::new(), "there is no <hostdev"),
        ("vscsi = [ '8:0:0:0,0:0:0:0' ]".into(), "there is no <hostdev"),
        ("a < b".into(), "this is no XML"),
        ("<hostdev type='scsi'>".into(), "this is no XML"),
        ("<network/>".into(), "this is a <network>, not a <domain>"),
        ("<domain/>".into(), "there is no <hostdev mode='subsystem' type='scsi'>"),
        ("<hostdev mode='subsystem' type='pci'/>".into(), "there is no <hostdev"),
        ("<hostdev mode='capabilities' type='scsi'/>".into(), "there is no <hostdev"),
        (
            format!("<!DOCTYPE d [<!ENTITY a 'aaaa'>]>{}", hostdev(&format!("{source}{address}&a;"))),
            "this is no XML",
        ),
    ];
    for (xml, words) in cases {
        let error = match from_xml(&xml) {
            Ok(devices) => panic!("{xml} is {devices:?}"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(words), "{xml}: {words:?} is not in {error:?}");
        assert!(!error.contains(char::is_control), "{error:?}");
    }
    let deep = "<a>".repeat(100_000);
    assert!(matches!(from_xml(&deep), Err(FromError::Xml(_))));
    let deep = format!("<hostdev>{deep}{}</hostdev>", "</a>".repeat(100_000));
    assert!(matches!(from_xml(&deep), Err(FromError::Nothing | FromError::Xml(_))));
}

#[test]
fn what_libvirt_cannot_express_is_an_error() {
    let device = |text: &str| text.parse::<DeviceSpec>().unwrap();
    for (text, words) in [
        ("8:0:0:0,0:0:0:0,feature-host", "8:0:0:0: libvirt has no form for feature-host"),
        ("file:/srv/a.img,0:0:0:0", "file:/srv/a.img: libvirt's <hostdev> is a SCSI device of this host"),
        ("ram:64M,0:0:0:0,ro", "ram:64M: libvirt's <hostdev> is a SCSI device of this host"),
        ("/dev/no/such,0:0:0:0", "/dev/no/such: libvirt wants the device's address, which can be found only"),
        ("/dev/null,0:0:0:0", "/dev/null: libvirt wants the device's address"),
    ] {
        let error = to_xml(&[device("1:0:0:0,0:0:0:1"), device(text)]).unwrap_err().to_string();
        assert!(error.starts_with(words), "{text}: {error}");
    }
}
