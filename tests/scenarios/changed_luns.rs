//! What a guest is told by the units it has when another one of their target comes or goes (SAM-5, 5.14).

use pvscsi_ring::Nexus;
use pvscsi_ring::vscsiif::{DIRECTION_FROM_DEVICE, DIRECTION_NONE};
use pvscsi_sim::frontend::{GuestBuffer, Reply};

use crate::scripted_lun::{COMPLETE, scripted_device, scripted_lun};
use crate::vhost::{KINDS, Vhost, lun, ram_disk};

const TEST_UNIT_READY: [u8; 6] = [0; 6];

fn call(vhost: &mut Vhost, to: Nexus, cdb: &[u8]) -> Reply {
    vhost.call(to, cdb, DIRECTION_FROM_DEVICE, GuestBuffer::contiguous(0, 64))
}

/// Whether a command that needs a unit is told of a change; otherwise it must be good.
#[track_caller]
fn is_told(vhost: &mut Vhost, by: Nexus) -> bool {
    let reply = vhost.call(by, &TEST_UNIT_READY, DIRECTION_NONE, GuestBuffer::default());
    assert!(reply.rslt == 0 || reply.tells_of_changed_luns(), "{reply:?}");
    reply.tells_of_changed_luns()
}

/// Adds a unit and waits until it is served: its first command goes to it, not to the news of itself.
#[track_caller]
fn add(vhost: &mut Vhost, nexus: Nexus) {
    vhost.add(nexus, ram_disk());
    assert!(!is_told(vhost, nexus), "the new one");
}

fn report_luns(select: u8) -> [u8; 12] {
    [0xa0, 0, select, 0, 0, 0, 0, 0, 0, 64, 0, 0]
}

fn with_units(luns: &[Nexus]) -> Vhost {
    Vhost::start(KINDS[0], luns.iter().map(|nexus| (*nexus, ram_disk())).collect())
}

#[test]
fn each_other_unit_of_the_target_is_told_once() {
    for kind in KINDS {
        let elsewhere =
            [Nexus { channel: 0, id: 2, lun: 0 }, Nexus { channel: 1, id: 1, lun: 0 }, lun(0), lun(5)];
        let mut vhost = Vhost::start(kind, elsewhere.map(|nexus| (nexus, ram_disk())).into());
        assert!(!is_told(&mut vhost, lun(0)), "it was there from the start");
        add(&mut vhost, lun(1));
        let told = |vhost: &mut Vhost| elsewhere.map(|nexus| is_told(vhost, nexus));
        assert_eq!(told(&mut vhost), [false, false, true, true]);
        assert_eq!(told(&mut vhost), [false; 4]);
        add(&mut vhost, lun(2));
        add(&mut vhost, lun(3));
        assert_eq!(told(&mut vhost), [false, false, true, true], "once for both");
        assert_eq!(told(&mut vhost), [false; 4]);
        assert!(is_told(&mut vhost, lun(1)), "no news any more");
    }
}

#[test]
fn a_removal_is_told_too_and_not_by_what_is_there_anew() {
    for kind in KINDS {
        let luns = [lun(0), lun(1), lun(2)].map(|nexus| (nexus, ram_disk()));
        let mut vhost = Vhost::start(kind, luns.into());
        vhost.remove(lun(1)).unwrap();
        assert_eq!([lun(0), lun(2)].map(|nexus| is_told(&mut vhost, nexus)), [true, true]);
        assert_eq!([lun(0), lun(2)].map(|nexus| is_told(&mut vhost, nexus)), [false, false]);
        // What was to be told at an address goes with its unit.
        add(&mut vhost, lun(1));
        vhost.remove(lun(2)).unwrap();
        vhost.remove(lun(0)).unwrap();
        add(&mut vhost, lun(0));
        assert!(is_told(&mut vhost, lun(1)));
    }
}

#[test]
fn the_command_that_is_told_goes_no_further() {
    let (unit, remote) = scripted_lun();
    let mut vhost = Vhost::start(KINDS[0], vec![(lun(0), unit)]);
    add(&mut vhost, lun(1));
    let reply = call(&mut vhost, lun(0), &COMPLETE);
    assert!(reply.tells_of_changed_luns(), "{reply:?}");
    assert_eq!((reply.residual, reply.data.to_vec()), (64, vec![0; 64]));
    assert_eq!(remote.submitted(), 0);
    assert_eq!(call(&mut vhost, lun(0), &COMPLETE).rslt, 0);
    assert_eq!(remote.submitted(), 1);
}

#[test]
fn inquiry_and_request_sense_are_answered_and_take_nothing_back() {
    let mut vhost = with_units(&[lun(0)]);
    add(&mut vhost, lun(1));
    for cdb in [[0x12, 0, 0, 0, 36, 0], [0x12, 1, 0x83, 0, 64, 0], [0x03, 0, 0, 0, 18, 0]] {
        assert_eq!(call(&mut vhost, lun(0), &cdb).rslt, 0, "{cdb:02x?}");
    }
    assert!(is_told(&mut vhost, lun(0)));
}

#[test]
fn report_luns_to_any_unit_takes_it_back_from_all() {
    let mut vhost = with_units(&[lun(0), lun(5)]);
    for (new, asked) in [(lun(1), lun(0)), (lun(2), lun(5)), (lun(3), lun(3))] {
        add(&mut vhost, new);
        let list = call(&mut vhost, asked, &report_luns(0));
        assert_eq!(list.rslt, 0);
        assert!(
            list.data.to_vec()[8..].chunks(8).any(|entry| u16::from(entry[1]) == new.lun),
            "it is listed"
        );
        for told in [lun(0), lun(5)] {
            assert!(!is_told(&mut vhost, told), "{told:?}: the guest has just read it");
        }
    }
    // One that is refused tells nothing.
    assert!(!is_told(&mut vhost, lun(1)));
    add(&mut vhost, lun(4));
    assert_eq!(call(&mut vhost, lun(0), &report_luns(3)).rslt, 2);
    assert!(is_told(&mut vhost, lun(0)));
    // Nor does one to another target.
    let mut vhost = with_units(&[lun(0), Nexus { id: 2, ..lun(0) }]);
    add(&mut vhost, lun(1));
    assert_eq!(call(&mut vhost, Nexus { id: 2, ..lun(0) }, &report_luns(0)).rslt, 0);
    assert!(is_told(&mut vhost, lun(0)));
}

/// The one that stands for LUN 0 is the same for all targets.
#[test]
fn an_absent_lun_0_is_told_nothing_and_lists_what_is_new() {
    let at = |lun| Nexus { channel: 0, id: 0, lun };
    let mut vhost = with_units(&[at(5)]);
    for _ in 0..2 {
        add(&mut vhost, at(6));
        let absent = call(&mut vhost, at(0), &TEST_UNIT_READY);
        assert_eq!((absent.rslt, absent.sense.get(12..14)), (2, Some(&[0x25, 0x00][..])), "not supported");
        assert!(is_told(&mut vhost, at(5)));
        vhost.remove(at(6)).unwrap();
        assert_eq!(call(&mut vhost, at(0), &report_luns(0)).rslt, 0);
        assert!(!is_told(&mut vhost, at(5)), "REPORT LUNS of LUN 0");
    }
}

/// Their drivers would fail the command.
#[test]
fn tapes_changers_and_cd_drives_are_left_alone() {
    for (device_type, told) in [(0x00, true), (0x14, true), (0x01, false), (0x05, false), (0x08, false)] {
        let (unit, remote) = scripted_device(device_type);
        let mut vhost = Vhost::start(KINDS[0], vec![(lun(0), unit)]);
        add(&mut vhost, lun(1));
        let reply = call(&mut vhost, lun(0), &COMPLETE);
        assert_eq!(
            (reply.tells_of_changed_luns(), remote.submitted()),
            (told, usize::from(!told)),
            "{device_type:#x}"
        );
    }
}
