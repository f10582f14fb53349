//! Texts that nobody should write into a node: too long, no text at all, or made for the terminal of who reads the log.

use super::io::nexus;
use super::raw::RawFrontend;
use super::{Dev, Machine, check_io};

/// Nearly the most that xenstore can carry.
const LONG: usize = 4000;

/// A line of another making, orders to a terminal in 7 and in 8 bits, a reversal of the reading direction, and what is no UTF-8.
fn nasty() -> Vec<Vec<u8>> {
    let texts = [
        "1\n2026-01-01 ERROR forged",
        "\x1b[2J\x1b[31mred",
        "\x07\x08\r",
        "\u{9b}31m",
        "\u{202e}evil",
        "/dev/\u{202e}evil",
        "\0",
        "\x7f",
    ];
    let mut all: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    all.extend([b"\xff\xfe\x1b[2J".to_vec(), b"0:0:0:\xb2".to_vec(), b"/dev/\xc3".to_vec()]);
    let long = ["\x1b", "\n", "\u{202e}", "8", "x"];
    all.extend(long.map(|text| text.repeat(LONG / text.len()).into_bytes()));
    let behind = ["/dev/", "file:/", "file:", "ram:", "naa.", "0:0:0:", "0:0:"];
    all.extend(behind.map(|text| [text.as_bytes(), "7".repeat(LONG).as_bytes()].concat()[..LONG].to_vec()));
    all.push([b"/dev/\x1b[2J".to_vec(), vec![0xff; LONG]].concat()[..LONG].to_vec());
    all
}

/// Lines of a readable length, and nothing in them that a terminal obeys.
#[track_caller]
fn assert_harmless(text: &str) {
    for line in text.lines() {
        assert!(line.len() < 1500, "{} bytes: {line:?}", line.len());
        let bad = line.chars().find(|c| c.is_control() || *c == '\u{202e}');
        assert_eq!(bad, None, "{line:?}");
    }
}

#[test]
fn texts_of_the_toolstack_are_checked_and_shown_in_a_harmless_form() {
    let mut machine = Machine::new();
    for (vhost, text) in (0..).zip(nasty()) {
        let (bad_p_dev, bad_v_dev) = (Dev::new("dev-1", "", "0:0:0:1"), Dev::new("dev-2", "ram:1M", ""));
        machine.attach(vhost, &[Dev::disk(0), bad_p_dev, bad_v_dev]);
        machine.store.write(&machine.backend(&format!("{vhost}/vscsi-devs/dev-1/p-dev")), &text);
        machine.store.write(&machine.backend(&format!("{vhost}/vscsi-devs/dev-2/v-dev")), &text);
        machine.until_connected(vhost);
        for dev in ["dev-1", "dev-2"] {
            let path = format!("{vhost}/vscsi-devs/{dev}");
            assert_eq!(
                machine.written(&format!("{path}/state")),
                "1 6",
                "{:?}",
                text.escape_ascii().to_string()
            );
            let error = machine.error(&path);
            assert!(error.starts_with(&format!("22 {dev}: ")), "{error:?}");
            assert!(error.lines().count() == 1, "{error:?}");
            assert_harmless(&error);
        }
        let host = machine.guest().host(vhost);
        assert_eq!(host.units().iter().copied().collect::<Vec<_>>(), [nexus(0)]);
        check_io(host, nexus(0));
        assert_eq!(machine.log.lines_with("dev-1: ").len(), vhost as usize + 1, "{}", machine.log.text());
    }
    assert_harmless(&machine.log.text());
}

#[test]
fn texts_of_the_guest_are_checked_and_shown_in_a_harmless_form() {
    let mut machine = Machine::new();
    machine.guest = None;
    for (node, vhosts) in ["ring-ref", "event-channel", "state"].into_iter().zip((0_u32..).step_by(100)) {
        for (vhost, text) in (vhosts..).zip(nasty()) {
            machine.attach(vhost, &[Dev::disk(0)]);
            let mut frontend = RawFrontend::of(&machine, vhost);
            frontend.write("state", "2");
            machine.until_state(vhost, "2");
            frontend.publish_ring();
            machine.store.write(&machine.frontend(&format!("{vhost}/{node}")), &text);
            if node != "state" {
                frontend.write("state", "3");
            }
            machine.until_state(vhost, "5");
            let error = machine.error(&vhost.to_string());
            assert!(error.starts_with("22 "), "{error:?}");
            assert_harmless(&error);
            assert_eq!(
                machine.log.lines_with(&format!("vhost {vhost}: ")).len(),
                1,
                "{}",
                machine.log.text()
            );
        }
    }
    assert_harmless(&machine.log.text());
}
