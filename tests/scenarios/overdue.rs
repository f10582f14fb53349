//! Devices that do not come to an end: commands that run out of time, and what is left for the others meanwhile.

use std::time::Duration;

use pvscsi_backend::limits::TimeLimits;
use pvscsi_ring::vscsiif::{DIRECTION_FROM_DEVICE, DIRECTION_NONE};
use pvscsi_sim::frontend::{self, GuestBuffer, Reply, ScsiCall};

use crate::scripted_lun::{COMPLETE, HOLD, Remote, scripted_lun};
use crate::vhost::{KINDS, PATIENCE, Vhost, host, lun, pattern, ram_disk, status, wait_until};

const BUSY: i32 = 0x08;
const TIME_OUT: u8 = 3;

/// A unit that can hang at LUN 0, and a disk at LUN 1. The limit is what the guest says, and not a moment more.
fn vhost(kind: pvscsi_sg::ReactorKind) -> (Vhost, Remote) {
    let (unit, remote) = scripted_lun();
    let limits = TimeLimits { grace: Duration::ZERO, overdue: Duration::ZERO, ..TimeLimits::default() };
    (Vhost::start_with(kind, 0, vec![(lun(0), unit), (lun(1), ram_disk())], limits), remote)
}

/// A command that is held, with a limit in seconds.
fn hold(vhost: &mut Vhost, len: usize, timeout_s: u16) -> u16 {
    let nexus = frontend::Nexus { channel: 0, id: 1, lun: 0 };
    let (direction, buffer) = match len {
        0 => (DIRECTION_NONE, GuestBuffer::default()),
        len => (DIRECTION_FROM_DEVICE, GuestBuffer::contiguous(0, len)),
    };
    let call = ScsiCall { nexus, cdb: HOLD.to_vec(), direction, buffer, timeout_s };
    vhost.frontend.submit(call).expect("room on the ring")
}

#[track_caller]
fn assert_timed_out(reply: &Reply) {
    assert_eq!(host(reply.rslt), TIME_OUT, "{:#x}", reply.rslt);
    assert_ne!(status(reply.rslt), 0, "not success in the low 16 bits");
    assert_eq!(reply.residual as usize, reply.data.len());
}

#[test]
fn an_overdue_command_is_answered_and_its_late_end_is_dropped() {
    for kind in KINDS {
        let (mut vhost, remote) = vhost(kind);
        let page = GuestBuffer::contiguous(0, 4096);
        let overdue = hold(&mut vhost, 9000, 1);
        let patient = hold(&mut vhost, 0, 600);
        wait_until("the unit has them", || remote.held() == 2);
        vhost.write(lun(1), 0, &pattern(1, 4096), &page);
        let reply = vhost.reply();
        assert_eq!(reply.rqid, overdue);
        assert_timed_out(&reply);
        // Its grants were taken back by the guest: whatever the device still does ends in memory of ours.
        assert_eq!(remote.held(), 2, "the device has not let go");
        assert_eq!(vhost.read(lun(1), 0, page), pattern(1, 4096));
        remote.release();
        let reply = vhost.reply();
        assert_eq!((reply.rqid, reply.rslt), (patient, 0), "one that has time left is not touched");
        let reply = vhost.call(lun(0), &COMPLETE, DIRECTION_NONE, GuestBuffer::default());
        assert_eq!(reply.rslt, 0, "the unit works again");
    }
}

/// Sixteen commands that hang leave no room for an abort: the guest's error handling waits for them, and not for ever.
#[test]
fn a_ring_full_of_hung_commands_comes_free_by_itself() {
    let (mut vhost, remote) = vhost(KINDS[0]);
    let mut hung: Vec<_> = (0..16).map(|_| hold(&mut vhost, 512, 1)).collect();
    wait_until("the unit has them", || remote.held() == 16);
    let mut answered = Vec::new();
    for _ in 0..16 {
        let reply = vhost.frontend.wait_reply(PATIENCE).expect("an answer to each");
        assert_timed_out(&reply);
        answered.push(reply.rqid);
    }
    hung.sort_unstable();
    answered.sort_unstable();
    assert_eq!(answered, hung);
    let abort = vhost.frontend.abort(hung[0]).expect("there is room now");
    let reply = vhost.reply();
    assert_eq!((reply.rqid, reply.rslt), (abort, 0x2002));
    remote.release();
    wait_until("it lets go", || remote.held() == 0);
}

#[test]
fn a_unit_that_hangs_is_held_to_its_share_of_the_ring() {
    for kind in KINDS {
        let (mut vhost, remote) = vhost(kind);
        // Its share of two is half of the ring, and what it takes before it is known to hang.
        for _ in 0..8 {
            hold(&mut vhost, 512, 600);
        }
        wait_until("the unit has them", || remote.held() == 8);
        let mut refused = None;
        while refused.is_none() {
            let held = remote.held();
            assert!(held < 16, "it took the whole ring");
            let more = hold(&mut vhost, 512, 600);
            wait_until("it is answered or held", || {
                refused = vhost.frontend.wait_reply(Duration::ZERO);
                refused.is_some() || remote.held() > held
            });
            if let Some(reply) = &refused {
                assert_eq!((reply.rqid, reply.rslt), (more, BUSY));
            }
            std::thread::sleep(Duration::from_millis(700));
        }
        let page = GuestBuffer::contiguous(0, 4096);
        vhost.write(lun(1), 0, &pattern(2, 4096), &page);
        remote.release();
        for _ in 0..vhost.frontend.in_flight() {
            assert_eq!(vhost.reply().rslt, 0);
        }
        let reply = vhost.call(lun(0), &COMPLETE, DIRECTION_NONE, GuestBuffer::default());
        assert_eq!(reply.rslt, 0, "a unit that goes on is not refused");
    }
}
