//! Configuration files and XML from anywhere: read or refused, and never a panic.

use std::path::Path;

use proptest::prelude::*;
use pvscsi_backend::libvirt;
use pvscsi_backend::toolstack::config::{Config, devices};

/// Pieces of configurations, that they may be nearly right.
const PIECES: [&str; 32] = [
    "vscsi",
    "name",
    "x",
    "=",
    "+=",
    "[",
    "]",
    ",",
    ";",
    "\n",
    " ",
    "\t",
    "#",
    "'",
    "\"",
    "\\",
    "\\x4",
    "'web'",
    "\"a\"",
    "'8:0:0:0,0:0:0:0'",
    "'ram:1M,0:0:0:1,ro'",
    "'/dev/sg0,1:0:0:0 , feature-host'",
    "8:0:0:0,0:0:0:2",
    "0x1f",
    "12",
    "\r",
    "\0",
    "\u{e4}",
    "vscsi = [",
    "]\n",
    "# text\n",
    "vscsi += [ 'ram:1M,0:0:0:3', ]\n",
];

/// The same of XML.
const TAGS: [&str; 24] = [
    "<domain>",
    "</domain>",
    "<devices>",
    "</devices>",
    "<hostdev type='scsi'>",
    "</hostdev>",
    "<source>",
    "</source>",
    "<source protocol='iscsi'/>",
    "<adapter name='scsi_host0'/>",
    "<adapter name='scsi_host",
    "'/>",
    "<address bus='0' target='0' unit='0'/>",
    "<address type='drive' unit='1'/>",
    "<address type='drive'/>",
    "<readonly/>",
    "<shareable/>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "&amp;",
    "&#x41;",
    "\u{e4}\n",
];

fn text(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let pieces = proptest::collection::vec(proptest::sample::select(pieces), 0..40);
    prop_oneof![
        pieces.prop_map(|pieces| pieces.concat().into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..200),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_configuration_is_read_or_refused(text in text(&PIECES), setting in text(&PIECES)) {
        let path = Path::new("guest.cfg");
        let setting = String::from_utf8_lossy(&setting).into_owned();
        for settings in [&[][..], &[setting]] {
            match Config::parse(path, text.clone(), settings) {
                Ok(config) => {
                    let line = libvirt::to_config(&config.devices);
                    prop_assert_eq!(Config::parse(path, line.into(), &[]).unwrap().devices, config.devices);
                }
                Err(error) => {
                    let error = error.to_string();
                    prop_assert!(error.starts_with("guest.cfg:") || error.starts_with("key=value"), "{}", error);
                    prop_assert!(!error.contains(char::is_control), "{:?}", error);
                }
            }
        }
        if let Err(error) = devices(path, text) {
            prop_assert!(error.to_string().starts_with("guest.cfg:"), "{}", error);
        }
    }

    #[test]
    fn any_xml_is_read_or_refused(text in text(&TAGS)) {
        match libvirt::from_xml(&String::from_utf8_lossy(&text)) {
            Ok(devices) => {
                prop_assert_eq!(libvirt::from_xml(&libvirt::to_xml(&devices).unwrap()).unwrap(), devices);
            }
            Err(error) => prop_assert!(!error.to_string().contains(char::is_control), "{:?}", error),
        }
    }
}
