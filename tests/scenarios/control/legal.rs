//! What is true of every history of a backend's directories.

use std::collections::BTreeMap;

/// Which states may follow a vhost's: by the protocol, whoever writes them. 8 after 4: a frontend in 7 that nobody asked.
const HOST: [(&str, &str); 8] = [
    ("", "1"),
    ("1", "2"),
    ("2", "4 5 6 7"),
    ("4", "2 5 6 7 8"),
    ("5", "2 4 6"),
    ("6", "2 4 5"),
    ("7", "2 4 5 6 8"),
    ("8", "2 4 5 6 7"),
];

/// Which may follow a device's.
const DEV: [(&str, &str); 6] =
    [("", "1"), ("1", "3 5 6"), ("3", "4 5 6"), ("4", "3 5"), ("5", "6"), ("6", "1 5")];

/// A vhost from its making to its removal.
#[derive(Default)]
struct Life {
    state: String,
    devices: BTreeMap<String, String>,
    features: bool,
    announced: bool,
}

/// Checks all that was written below `backend`, the directory of one guest: states follow each other as they may and only
/// when they change; features come before 2, and 2 before 4; nothing comes back after its removal but by the toolstack's 1.
pub fn check(backend: &str, history: &[(String, Option<Vec<u8>>)]) {
    let mut lives: BTreeMap<&str, Life> = BTreeMap::new();
    for (path, value) in history {
        let Some(below) = path.strip_prefix(backend) else { continue };
        let (vhost, node) = below.split_once('/').unwrap_or((below, ""));
        let Some(value) = value else {
            if node.is_empty() {
                lives.remove(vhost);
            } else if let Some((device, life)) = device_of(node).zip(lives.get_mut(vhost)) {
                life.devices.remove(device);
            }
            continue;
        };
        let value = &String::from_utf8_lossy(value);
        let life = lives.entry(vhost).or_default();
        if let Some(device) = device_of(node) {
            let before = life.devices.entry(device.into()).or_default();
            follow(&DEV, path, before, value);
        } else if node == "feature-sg-grant" {
            assert_eq!(value, "128", "{path}");
            life.features = true;
        } else if node == "state" {
            follow(&HOST, path, &mut life.state, value);
            life.announced |= value == "2";
            assert!(life.features || value != "2", "{path}: 2 without features");
            assert!(life.announced || value != "4", "{path}: 4 without 2");
        }
    }
}

/// The device in `vscsi-devs/<device>/state`.
fn device_of(node: &str) -> Option<&str> {
    node.strip_prefix("vscsi-devs/")?.strip_suffix("/state")
}

fn follow(table: &[(&str, &str)], path: &str, before: &mut String, now: &str) {
    let allowed = table.iter().find(|(state, _)| state == before).map_or("", |(_, next)| next);
    assert!(allowed.split(' ').any(|state| state == now), "{path}: {now:?} after {before:?}");
    now.clone_into(before);
}

#[test]
fn a_wrong_order_is_seen() {
    let history = |written: &[(&str, &str)]| -> Vec<_> {
        written.iter().map(|(node, value)| (format!("/b/{node}"), Some(value.as_bytes().to_vec()))).collect()
    };
    let good = [("0/state", "1"), ("0/feature-sg-grant", "128"), ("0/state", "2"), ("0/state", "4")];
    check("/b/", &history(&good));
    let bad: [&[(&str, &str)]; 5] = [
        &[("0/state", "1"), ("0/state", "2")],
        &[("0/state", "1"), ("0/feature-sg-grant", "128"), ("0/state", "4")],
        &[("0/state", "6")],
        &[good[0], good[1], good[2], good[2]],
        &[("0/vscsi-devs/dev-0/state", "1"), ("0/vscsi-devs/dev-0/state", "4")],
    ];
    for written in bad {
        let seen = std::panic::catch_unwind(|| check("/b/", &history(written)));
        assert!(seen.is_err(), "{written:?}");
    }
}
