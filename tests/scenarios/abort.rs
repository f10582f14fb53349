//! Task management: bounded for the guest, whatever the device does.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pvscsi_ring::vscsiif::{
    DIRECTION_FROM_DEVICE, DIRECTION_NONE, DIRECTION_TO_DEVICE, RSP_PROD, VSCSIIF_ACT_SCSI_RESET, WireRequest,
};
use pvscsi_sim::frontend::{self, GuestBuffer, Reply};

use crate::raw_guest::{RawGuest, abort, nothing};
use crate::scripted_lun::{COMPLETE, HOLD, Remote, scripted_lun};
use crate::vhost::{KINDS, Vhost, host, lun, pattern, ram_disk, status, wait_until};

const DONE: i32 = 0x2002;
const FAILED: i32 = 0x2003;
const BUSY: i32 = 0x08;
const NO_CONNECT: u8 = 1;
const ABORTED: u8 = 5;
const RESET: u8 = 8;

/// A unit that can hang at LUN 0, and a disk at LUN 1.
fn vhost(kind: pvscsi_sg::ReactorKind) -> (Vhost, Remote) {
    let (unit, remote) = scripted_lun();
    (Vhost::start(kind, vec![(lun(0), unit), (lun(1), ram_disk())]), remote)
}

#[track_caller]
fn assert_ended(reply: &Reply, rqid: u16, host_byte: u8) {
    assert_eq!((reply.rqid, host(reply.rslt)), (rqid, host_byte));
    assert_ne!(status(reply.rslt), 0, "not success in the low 16 bits");
    assert_eq!(reply.residual as usize, reply.data.len());
}

fn disk_goes_on(vhost: &mut Vhost, seed: usize) {
    let page = GuestBuffer::contiguous(0, 4096);
    vhost.write(lun(1), 0, &pattern(seed, 4096), &page);
    assert_eq!(vhost.read(lun(1), 0, page), pattern(seed, 4096));
}

#[test]
fn an_aborted_command_is_answered_before_its_abort() {
    for kind in KINDS {
        let (mut vhost, remote) = vhost(kind);
        for (direction, len) in
            [(DIRECTION_NONE, 0), (DIRECTION_FROM_DEVICE, 9000), (DIRECTION_TO_DEVICE, 9000)]
        {
            let command = vhost.send(lun(0), &HOLD, direction, GuestBuffer::contiguous(0, len));
            wait_until("the unit has it", || remote.held() > 0);
            disk_goes_on(&mut vhost, len);
            let abort = vhost.frontend.abort(command).unwrap();
            assert_ended(&vhost.reply(), command, ABORTED);
            let reply = vhost.reply();
            assert_eq!((reply.rqid, reply.rslt), (abort, DONE));
            remote.release();
            wait_until("it lets go", || remote.held() == 0);
        }
        disk_goes_on(&mut vhost, 1);
    }
}

#[test]
fn a_reset_ends_all_commands_of_its_unit_and_no_other() {
    for kind in KINDS {
        let (mut vhost, remote) = vhost(kind);
        let commands: Vec<_> = (0..5)
            .map(|_| vhost.send(lun(0), &HOLD, DIRECTION_FROM_DEVICE, GuestBuffer::contiguous(0, 100)))
            .collect();
        wait_until("the unit has them", || remote.held() == 5);
        let nexus = |lun| frontend::Nexus { channel: 0, id: 1, lun };
        let other = vhost.frontend.reset(nexus(1)).unwrap();
        let reply = vhost.reply();
        assert_eq!((reply.rqid, reply.rslt), (other, DONE), "the disk has nothing under way");
        let reset = vhost.frontend.reset(nexus(0)).unwrap();
        let mut ended: Vec<_> = (0..5).map(|_| vhost.reply()).collect();
        ended.sort_by_key(|reply| reply.rqid);
        for (reply, rqid) in ended.iter().zip(commands) {
            assert_ended(reply, rqid, RESET);
        }
        let reply = vhost.reply();
        assert_eq!((reply.rqid, reply.rslt), (reset, DONE), "last of all");
    }
}

#[test]
fn an_abort_of_nothing_works() {
    let (mut vhost, _) = vhost(KINDS[0]);
    for rqid in [0, 15, 40_000] {
        vhost.frontend.abort(rqid).unwrap();
        // Never used, so the nexus that Linux repeats is 0:0:0 for all of them: there is no such unit.
        assert_eq!(vhost.reply().rslt, 0x0001_0000);
    }
    vhost.frontend.reset(frontend::Nexus { channel: 0, id: 1, lun: 9 }).unwrap();
    assert_eq!(vhost.reply().rslt, 0x0001_0000, "nor is there a unit to reset");
    let command = vhost.send(lun(0), &COMPLETE, DIRECTION_NONE, GuestBuffer::default());
    assert_eq!(vhost.reply().rslt, 0);
    vhost.frontend.abort(command).unwrap();
    assert_eq!(vhost.reply().rslt, DONE, "it is not running: what the guest wants");
}

#[test]
fn an_abort_finds_requests_of_its_own_unit_only() {
    let (mut vhost, remote) = vhost(KINDS[0]);
    let mut guest = RawGuest::of(&mut vhost);
    let mut command = nothing(lun(0));
    command.cmnd[..6].copy_from_slice(&HOLD);
    guest.put(&command);
    guest.show(1);
    wait_until("the unit has it", || remote.held() == 1);
    guest.put(&WireRequest { rqid: 1, ..abort(lun(1), 0) });
    guest.show(2);
    wait_until("the abort is answered", || guest.response(0).rslt == DONE);
    assert_eq!(guest.response(0).rqid, 1);
    assert_eq!(remote.held(), 1, "the other unit's request goes on");
    remote.release();
    let answers = guest.answers();
    assert_eq!((answers[1].rqid, answers[1].rslt), (0, 0), "and is answered when it is done");
}

#[test]
fn a_command_aborted_in_its_own_batch_never_reaches_the_device() {
    let (mut vhost, remote) = vhost(KINDS[0]);
    let mut guest = RawGuest::of(&mut vhost);
    let mut command = nothing(lun(0));
    command.cmnd[..6].copy_from_slice(&HOLD);
    let answers = guest.ask(&[command, abort(lun(0), 0)]);
    assert_eq!((host(answers[0].rslt), answers[1].rslt), (ABORTED, DONE));
    assert_eq!(remote.submitted(), 0);
}

/// The guest aborts and tries again, a hundred times. A unit keeps what a ring holds, no more, so others have room.
#[test]
fn a_hung_unit_gets_busy_and_takes_nothing_from_others() {
    for kind in KINDS {
        let (mut vhost, remote) = vhost(kind);
        let memory = GuestBuffer::contiguous(0, 4096);
        for round in 0..100 {
            let command = vhost.send(lun(0), &HOLD, DIRECTION_FROM_DEVICE, memory.clone());
            if round < 16 {
                wait_until("the unit has it", || remote.held() == round + 1);
                vhost.frontend.abort(command).unwrap();
                assert_ended(&vhost.reply(), command, ABORTED);
            } else {
                let reply = vhost.reply();
                assert_eq!((reply.rqid, reply.rslt), (command, BUSY), "round {round}");
                vhost.frontend.abort(command).unwrap();
            }
            assert_eq!(vhost.reply().rslt, DONE);
            disk_goes_on(&mut vhost, round);
        }
        assert_eq!(remote.held(), 16);
        remote.release();
        wait_until("it lets go", || remote.held() == 0);
        // A late completion is nobody's: neither an answer nor a byte of data.
        disk_goes_on(&mut vhost, 7);
        assert_eq!(memory.to_vec(), [0; 4096]);
        // Slots and buffers came back: far more than there are.
        for _ in 0..100 {
            let reply =
                vhost.call(lun(0), &COMPLETE, DIRECTION_FROM_DEVICE, GuestBuffer::contiguous(0, 4096));
            assert_eq!(reply.rslt, 0);
        }
    }
}

/// A ring full of commands is aborted, filled again, and so on: the most that can be under way at once.
#[test]
fn full_rings_of_hung_commands_are_answered_too() {
    let (mut vhost, remote) = vhost(KINDS[0]);
    for round in 0..10 {
        for _ in 0..15 {
            vhost.send(lun(0), &HOLD, DIRECTION_FROM_DEVICE, GuestBuffer::contiguous(0, 4096));
        }
        wait_until("the unit has what it gets", || remote.held() == 16.min(15 * (round + 1)));
        let reset = vhost.frontend.reset(frontend::Nexus { channel: 0, id: 1, lun: 0 }).unwrap();
        let replies: Vec<_> = (0..16).map(|_| vhost.reply()).collect();
        let done: Vec<_> =
            replies.iter().filter(|reply| reply.rslt == DONE).map(|reply| reply.rqid).collect();
        assert_eq!(done, [reset], "round {round}");
        assert!(
            replies.iter().all(|reply| reply.rslt == DONE || reply.rslt == BUSY || host(reply.rslt) == RESET)
        );
        disk_goes_on(&mut vhost, round);
    }
}

/// Four units that hang take all slots between them: then everybody gets BUSY, until one lets go.
#[test]
fn when_all_slots_are_orphaned_the_answer_is_busy() {
    let (units, remotes): (Vec<_>, Vec<_>) =
        (10..14).map(|n| (n, scripted_lun())).map(|(n, (unit, remote))| ((lun(n), unit), remote)).unzip();
    let mut vhost = Vhost::start(KINDS[0], units.into_iter().chain([(lun(1), ram_disk())]).collect());
    for (n, remote) in (10..).zip(&remotes) {
        disk_goes_on(&mut vhost, n.into());
        for _ in 0..16 {
            let held = remote.held();
            let command = vhost.send(lun(n), &HOLD, DIRECTION_FROM_DEVICE, GuestBuffer::contiguous(0, 512));
            wait_until("the unit has it", || remote.held() > held);
            vhost.frontend.abort(command).unwrap();
            assert_ended(&vhost.reply(), command, ABORTED);
            assert_eq!(vhost.reply().rslt, DONE);
        }
    }
    for n in [1, 10] {
        let reply = vhost.call(lun(n), &[0; 6], DIRECTION_NONE, GuestBuffer::default());
        assert_eq!(reply.rslt, BUSY, "LUN {n}");
    }
    remotes[2].release();
    wait_until("it lets go", || remotes[2].held() == 0);
    disk_goes_on(&mut vhost, 1);
    let reply = vhost.call(lun(12), &COMPLETE, DIRECTION_NONE, GuestBuffer::default());
    assert_eq!(reply.rslt, 0);
}

#[test]
fn a_reset_is_answered_when_the_device_has_done_it() {
    for kind in KINDS {
        let (mut vhost, remote) = vhost(kind);
        remote.make_resettable();
        for (works, rslt) in [(true, DONE), (false, FAILED)] {
            let started = remote.resets();
            let nexus = frontend::Nexus { channel: 0, id: 1, lun: 0 };
            let resets = [(); 2].map(|()| vhost.frontend.reset(nexus).unwrap());
            wait_until("it is under way", || remote.resets() > started);
            let page = GuestBuffer::contiguous(0, 4096);
            assert_eq!(vhost.read(lun(1), 0, page), [0; 4096], "others go on, and it is not answered yet");
            assert_eq!(vhost.call(lun(0), &COMPLETE, DIRECTION_NONE, GuestBuffer::default()).rslt, 0);
            remote.end_reset(works);
            let replies = [(); 2].map(|()| vhost.reply()).map(|reply| (reply.rqid, reply.rslt));
            assert_eq!(replies, resets.map(|rqid| (rqid, rslt)), "{kind:?}");
            assert_eq!(remote.resets(), started + 1, "the second joins the first");
        }
    }
}

/// The device is reset once for all of them, by one thread; other vhosts go on.
#[test]
fn a_ring_full_of_resets_is_one_reset_of_the_device() {
    for kind in KINDS {
        let mut other = Vhost::with_disk(kind);
        let (mut vhost, remote) = vhost(kind);
        remote.make_resettable();
        let mut guest = RawGuest::of(&mut vhost);
        for (round, rslt) in [DONE, FAILED, DONE].into_iter().enumerate() {
            for rqid in 0..16 {
                guest.put(&WireRequest { rqid, act: VSCSIIF_ACT_SCSI_RESET, ..nothing(lun(0)) });
            }
            guest.show(guest.req_prod);
            wait_until("it is under way", || remote.resets() == round + 1);
            assert_eq!(other.call(lun(0), &[0; 6], DIRECTION_NONE, GuestBuffer::default()).rslt, 0);
            assert_eq!(
                guest.page.load_u32(RSP_PROD, Ordering::Acquire),
                guest.rsp_cons,
                "none is answered yet"
            );
            remote.end_reset(rslt == DONE);
            let answers: Vec<_> = guest.answers().iter().map(|answer| (answer.rqid, answer.rslt)).collect();
            assert_eq!(answers, (0..16).map(|rqid| (rqid, rslt)).collect::<Vec<_>>());
            assert_eq!(remote.resets(), round + 1);
        }
        assert_eq!(guest.ask(&[nothing(lun(1))])[0].rslt, 0);
    }
}

/// The guest has no room to ask for an abort or a reset. The removal of the unit gives it its answers and its ring back.
#[test]
fn a_ring_full_of_hung_commands_is_freed_by_the_units_removal() {
    for kind in KINDS {
        let mut other = Vhost::with_disk(kind);
        let (mut vhost, remote) = vhost(kind);
        for _ in 0..16 {
            vhost.send(lun(0), &HOLD, DIRECTION_FROM_DEVICE, GuestBuffer::contiguous(0, 4096));
        }
        wait_until("the unit has them", || remote.held() == 16);
        assert!(vhost.frontend.abort(0).is_err(), "no room");
        assert_eq!(other.call(lun(0), &[0; 6], DIRECTION_NONE, GuestBuffer::default()).rslt, 0);
        vhost.remove(lun(0)).unwrap();
        for rqid in 0..16 {
            assert_ended(&vhost.reply(), rqid, NO_CONNECT);
        }
        let told = vhost.call(lun(1), &[0; 6], DIRECTION_NONE, GuestBuffer::default());
        assert!(told.tells_of_changed_luns(), "{told:?}");
        disk_goes_on(&mut vhost, 3);
        remote.release();
        wait_until("dropped", || !remote.is_alive());
        disk_goes_on(&mut vhost, 4);
    }
}

#[test]
fn a_reset_that_hangs_keeps_no_worker_from_its_end() {
    let (mut vhost, remote) = vhost(KINDS[0]);
    remote.make_resettable();
    vhost.frontend.reset(frontend::Nexus { channel: 0, id: 1, lun: 0 }).unwrap();
    wait_until("it is under way", || remote.resets() == 1);
    vhost.remove(lun(0)).unwrap();
    let start = Instant::now();
    vhost.end(1).unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    remote.end_reset(true);
    wait_until("its thread ends", || !remote.is_alive());
}
