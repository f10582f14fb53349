//! Workers and units come and go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pvscsi_ring::vscsiif::{DIRECTION_FROM_DEVICE, DIRECTION_NONE};
use pvscsi_sim::frontend::GuestBuffer;

use crate::scripted_lun::{COMPLETE, HOLD, scripted_lun};
use crate::vhost::{KINDS, Vhost, host, lun, pattern, ram_disk, rw10, status, wait_until};

const NO_CONNECT: i32 = 0x0001_0000;

fn memory() -> GuestBuffer {
    GuestBuffer::contiguous(0, 4096)
}

#[test]
fn an_idle_worker_stops_at_once() {
    for kind in KINDS {
        let mut vhost = Vhost::with_disk(kind);
        assert_eq!(vhost.read(lun(0), 0, memory()), [0; 4096]);
        let start = Instant::now();
        vhost.end(0).unwrap();
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn a_worker_with_hung_commands_stops_in_time() {
    for kind in KINDS {
        let (unit, remote) = scripted_lun();
        let mut vhost = Vhost::start(kind, vec![(lun(0), unit)]);
        for _ in 0..5 {
            vhost.send(lun(0), &HOLD, DIRECTION_FROM_DEVICE, memory());
        }
        wait_until("the unit has them", || remote.held() == 5);
        let start = Instant::now();
        vhost.end(5).unwrap();
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(!remote.is_alive());
    }
}

#[test]
fn a_stop_waits_for_commands_that_end_soon() {
    for kind in KINDS {
        let (unit, remote) = scripted_lun();
        let mut vhost = Vhost::start(kind, vec![(lun(0), unit)]);
        let command = vhost.send(lun(0), &HOLD, DIRECTION_FROM_DEVICE, memory());
        wait_until("the unit has it", || remote.held() == 1);
        vhost.stop();
        std::thread::sleep(Duration::from_millis(100));
        remote.release();
        let reply = vhost.reply();
        assert_eq!((reply.rqid, reply.rslt), (command, 0));
    }
}

#[test]
fn units_come_and_go_under_io() {
    for kind in KINDS {
        let mut vhost = Vhost::with_disk(kind);
        let over = AtomicBool::new(false);
        let (mut there, mut gone, mut told) = (0, 0, 0);
        vhost.write(lun(0), 0, &pattern(3, 4096), &memory());
        // The worker's handle belongs to the vhost; the other thread plays the control plane with it.
        let worker = vhost.take_worker();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..50 {
                    worker.add(lun(1), ram_disk());
                    std::thread::sleep(Duration::from_millis(1));
                    worker.remove(lun(1)).unwrap();
                }
                over.store(true, Ordering::Relaxed);
            });
            while !over.load(Ordering::Relaxed) {
                let reply = vhost.call(lun(0), &rw10(0x28, 0, 4096), DIRECTION_FROM_DEVICE, memory());
                // A guest repeats what was only told that the other one has come or gone.
                if reply.tells_of_changed_luns() {
                    told += 1;
                } else {
                    assert_eq!((reply.rslt, reply.data.to_vec()), (0, pattern(3, 4096)));
                }
                match vhost.call(lun(1), &[0; 6], DIRECTION_NONE, GuestBuffer::default()).rslt {
                    0 => there += 1,
                    NO_CONNECT => gone += 1,
                    other => panic!("{other:#010x}"),
                }
            }
        });
        vhost.give_back(worker);
        assert!(there > 0, "never seen; {gone} times not there");
        assert!((1..=100).contains(&told), "told {told} times of 100 changes");
        assert_eq!(vhost.call(lun(1), &[0; 6], DIRECTION_NONE, GuestBuffer::default()).rslt, NO_CONNECT);
    }
}

#[test]
fn a_removed_unit_finishes_first_and_is_dropped() {
    for kind in KINDS {
        let (unit, remote) = scripted_lun();
        let mut vhost = Vhost::start(kind, vec![(lun(0), unit)]);
        let command = vhost.send(lun(0), &HOLD, DIRECTION_FROM_DEVICE, memory());
        wait_until("the unit has it", || remote.held() == 1);
        let worker = vhost.take_worker();
        std::thread::scope(|scope| {
            let removal = scope.spawn(|| worker.remove(lun(0)));
            wait_until("hidden", || {
                vhost.send(lun(0), &COMPLETE, DIRECTION_NONE, GuestBuffer::default());
                vhost.reply().rslt == NO_CONNECT
            });
            assert!(!removal.is_finished(), "a command is under way");
            remote.release();
            let reply = vhost.reply();
            assert_eq!((reply.rqid, reply.rslt), (command, 0), "as if nothing was");
            removal.join().unwrap().unwrap();
        });
        vhost.give_back(worker);
        wait_until("dropped", || !remote.is_alive());
    }
}

#[test]
fn the_removal_of_a_hung_unit_is_bounded() {
    for kind in KINDS {
        let (unit, remote) = scripted_lun();
        let mut vhost = Vhost::start(kind, vec![(lun(0), unit)]);
        let command = vhost.send(lun(0), &HOLD, DIRECTION_FROM_DEVICE, memory());
        wait_until("the unit has it", || remote.held() == 1);
        let start = Instant::now();
        vhost.remove(lun(0)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        let reply = vhost.reply();
        assert_eq!((reply.rqid, host(reply.rslt)), (command, 1), "no connection any more");
        assert_ne!(status(reply.rslt), 0);
        assert!(remote.is_alive(), "the device has not let go");
        vhost.add(lun(0), ram_disk());
        vhost.write(lun(0), 0, &pattern(1, 4096), &memory());
        assert_eq!(vhost.read(lun(0), 0, memory()), pattern(1, 4096), "its address is free");
        remote.release();
        wait_until("dropped", || !remote.is_alive());
        assert_eq!(vhost.read(lun(0), 0, memory()), pattern(1, 4096));
    }
}

/// A tape that a guest has locked into its drive is not lost to the host when the guest is.
#[test]
fn a_guest_that_goes_lets_go_of_its_media() {
    for kind in KINDS {
        let [(first, one), (second, other), (third, idle)] = [scripted_lun(), scripted_lun(), scripted_lun()];
        let vhost = Vhost::start(kind, vec![(lun(0), first), (lun(1), second), (lun(2), third)]);
        one.hold_medium();
        other.hold_medium();
        vhost.remove(lun(0)).unwrap();
        wait_until("it is let go of", || one.unlocked() == 1);
        assert_eq!(other.unlocked(), 0);
        vhost.end(0).unwrap();
        assert_eq!(
            [one, other, idle].map(|unit| unit.unlocked()),
            [1, 1, 0],
            "before the worker says that it has ended"
        );
    }
}
