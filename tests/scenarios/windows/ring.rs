//! What Windows does to the ring.

use std::sync::atomic::Ordering;

use pvscsi_ring::vscsiif::{
    DIRECTION_FROM_DEVICE, DIRECTION_NONE, DIRECTION_TO_DEVICE, REQ_PROD, RSP_PROD, slot_offset,
};
use pvscsi_sim::frontend::GuestBuffer;
use pvscsi_sim::frontend::windows::SrbStatus;

use super::guest::{Direct, FIRST, Io, at};
use crate::scripted_lun::{COMPLETE, FILLING, HOLD, scripted_lun};
use crate::vhost::{pattern, ram_disk, rw10, wait_until};

#[test]
fn a_thousand_late_revocations_find_no_grant_in_use() {
    let mut windows = Direct::start(vec![(FIRST, ram_disk())]);
    let mut uses = 0;
    for round in 0..64 {
        for n in 0..16 {
            let memory = GuestBuffer::contiguous(512 * (n % 8), 4096 * (1 + (round + n) % 25));
            let (opcode, direction) =
                if n % 2 == 0 { (0x28, DIRECTION_FROM_DEVICE) } else { (0x2a, DIRECTION_TO_DEVICE) };
            windows.send(FIRST, &rw10(opcode, 0, memory.len()), direction, memory).unwrap();
        }
        for _ in 0..16 {
            assert_eq!(windows.completed().status(), SrbStatus::Success);
            uses += 1;
        }
        assert_eq!(windows.guest.complaints(), [], "round {round}");
        assert!(windows.guest.domain().live_grants() <= 1 + 16 * 26, "round {round}");
    }
    assert!(uses > 1000);
    // The end of Direct: after the driver's last revocation, only the ring is granted.
}

/// Bytes 31 on of the slot that the next request would fill: `nr_segments`, then segments.
fn unfinished_slot(windows: &Direct) -> (u8, [u8; 8]) {
    let page = windows.guest.ring_page().share();
    let slot = slot_offset(page.load_u32(REQ_PROD, Ordering::Relaxed));
    let (mut count, mut last) = ([0], [0; 8]);
    page.copy_out(slot + 31, &mut count);
    page.copy_out(slot + 32 + 25 * 8, &mut last);
    (count[0], last)
}

/// The slot's `nr_segments` is what lies there from an earlier answer. Ours are zero behind the sense data, so the command has no
/// data, and reaches neither memory nor medium.
#[test]
fn an_unfinished_slot_is_answered_once_and_does_no_harm() {
    let mut windows = Direct::start(vec![(FIRST, ram_disk())]);
    let memory = || GuestBuffer::contiguous(0, 8 * 4096);
    windows.write(FIRST, 0, &pattern(1, 8 * 4096), &memory());
    let old = memory();
    for round in 0..20 {
        // Its grants are still there for the backend to use, until its name is used again.
        assert_eq!(windows.read(FIRST, 0, old.clone()), pattern(1, 8 * 4096));
        old.write(&[0xee; 8 * 4096]);
        for (unfinished, opcode, direction) in
            [(2 * round, 0x28, DIRECTION_FROM_DEVICE), (2 * round + 1, 0x2a, DIRECTION_TO_DEVICE)]
        {
            windows.guest.fail_grants_after(round % 8);
            let sent = windows.send(FIRST, &rw10(opcode, 0, 8 * 4096), direction, memory());
            assert_eq!(sent, Err(SrbStatus::Busy));
            assert_eq!(unfinished_slot(&windows), (0, [0; 8]), "what our answers leave in a slot");

            // The next command gets the same name, and the first answer is taken for its own.
            windows.send(FIRST, &[0; 6], DIRECTION_NONE, GuestBuffer::default()).unwrap();
            let done = windows.completed();
            let expected =
                if direction == DIRECTION_TO_DEVICE { SrbStatus::Error } else { SrbStatus::Success };
            assert_eq!(
                done.status(),
                expected,
                "a WRITE without data is refused, a READ has nothing to move"
            );
            wait_until("the second answer", || {
                assert_eq!(windows.guest.poll_completed().len(), 0, "answered once");
                windows.guest.unasked().len() == unfinished + 1
            });
        }
        assert_eq!(old.to_vec(), [0xee; 8 * 4096], "no memory was touched");
        assert_eq!(windows.read(FIRST, 0, memory()), pattern(1, 8 * 4096), "nor the medium");
        assert_eq!(windows.guest.complaints(), []);
    }
}

#[test]
fn a_response_index_that_the_guest_writes_means_nothing() {
    let (unit, remote) = scripted_lun();
    let mut windows = Direct::start(vec![(FIRST, unit), (at(1), ram_disk())]);
    let page = windows.guest.ring_page().share();
    let port = windows.guest.port_control();
    let mut answered = 0;
    for nonsense in [1, 3, 16, 17, 0xdead_beef, u32::MAX, 0] {
        for _ in 0..3 {
            windows.send(FIRST, &HOLD, DIRECTION_FROM_DEVICE, GuestBuffer::contiguous(0, 4096)).unwrap();
        }
        wait_until("the unit has them", || remote.held() == 3);
        page.store_u32(RSP_PROD, nonsense.wrapping_add(answered), Ordering::SeqCst);
        let rung = port.counts().to_guest;
        remote.release();
        answered += 3;
        wait_until("the backend's own index", || {
            remote.held() == 0 && page.load_u32(RSP_PROD, Ordering::SeqCst) == answered
        });
        wait_until("the bell, which the index decides about", || port.counts().to_guest == rung + 1);
        for _ in 0..3 {
            let done = windows.completed();
            assert_eq!(
                (done.status(), done.sent.data.to_vec()[..2048] == [FILLING; 2048]),
                (SrbStatus::Success, true)
            );
        }
        assert!(windows.is_ready(at(1)));
        answered += 1;
    }
}

/// Windows stops and goes on with the same ring, as when it does not hibernate after all.
#[test]
fn a_guest_that_answers_itself_goes_on_with_its_ring() {
    let (unit, remote) = scripted_lun();
    let mut windows = Direct::start(vec![(FIRST, unit), (at(1), ram_disk())]);
    let memory = || GuestBuffer::contiguous(0, 4096);
    windows.write(at(1), 0, &pattern(5, 4096), &memory());
    for round in 0..20 {
        assert_eq!(windows.guest.quiesce().len(), 0, "nothing was under way");
        assert_eq!(windows.read(at(1), 0, memory()), pattern(5, 4096));

        let held: Vec<_> = (0..3).map(|_| memory()).collect();
        for memory in &held {
            windows.send(FIRST, &HOLD, DIRECTION_FROM_DEVICE, memory.clone()).unwrap();
        }
        wait_until("the unit has them", || remote.held() == 3);
        let ended = windows.guest.quiesce();
        assert_eq!(ended.iter().map(|done| done.status()).collect::<Vec<_>>(), [SrbStatus::Error; 3]);
        // Its grants are gone, so late data goes nowhere, and late answers are in slots that it takes for answered.
        remote.release();
        wait_until("late answers", || remote.held() == 0);
        assert!(held.iter().all(|memory| memory.to_vec() == [0; 4096]), "round {round}");
        assert_eq!(windows.read(at(1), 0, memory()), pattern(5, 4096));
        assert_eq!(
            windows.call(FIRST, &COMPLETE, DIRECTION_NONE, GuestBuffer::default()).status(),
            SrbStatus::Success
        );
    }
}
