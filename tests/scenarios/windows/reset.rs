//! RESET, for whose answer the driver waits without limit.

use std::time::{Duration, Instant};

use pvscsi_ring::vscsiif::DIRECTION_FROM_DEVICE;
use pvscsi_sim::frontend::GuestBuffer;
use pvscsi_sim::frontend::windows::SrbStatus;

use super::guest::{Direct, FIRST, Io, at, to_frontend};
use crate::scripted_lun::{HOLD, scripted_lun};
use crate::vhost::{PATIENCE, ram_disk, wait_until};

/// Windows resets a unit that does not answer, and gives up on nothing else.
#[test]
fn a_reset_of_a_hung_unit_is_answered() {
    let (unit, remote) = scripted_lun();
    let mut windows = Direct::start(vec![(FIRST, unit), (at(1), ram_disk())]);
    for round in 1..=5 {
        for _ in 0..3 {
            windows.send(FIRST, &HOLD, DIRECTION_FROM_DEVICE, GuestBuffer::contiguous(0, 4096)).unwrap();
        }
        wait_until("the unit has them", || remote.held() == 3 * round);
        assert_eq!(windows.guest.reset(to_frontend(FIRST), PATIENCE), Ok(Some(SrbStatus::Success)));
        let ended = windows.guest.poll_completed();
        assert_eq!(ended.len(), 3, "answered before the reset");
        for done in ended {
            assert_eq!(done.status(), SrbStatus::Error, "{:#010x}", done.sent.rslt);
        }
        assert!(windows.is_ready(at(1)));
    }
    remote.release();
    wait_until("it lets go", || remote.held() == 0);
}

#[test]
fn the_result_of_a_reset_does_not_matter() {
    let (unit, remote) = scripted_lun();
    remote.make_resettable();
    let mut windows = Direct::start(vec![(FIRST, unit)]);
    for works in [true, false] {
        remote.end_reset(works);
        assert_eq!(windows.guest.reset(to_frontend(FIRST), PATIENCE), Ok(Some(SrbStatus::Success)));
    }
    assert_eq!(remote.resets(), 2);
}

/// Takes half a minute, which is the backend's limit: less would give up on real devices that recover.
#[test]
fn a_reset_that_never_ends_is_answered_all_the_same() {
    let (unit, remote) = scripted_lun();
    remote.make_resettable();
    let mut windows = Direct::start(vec![(FIRST, unit), (at(1), ram_disk())]);
    windows.send(FIRST, &HOLD, DIRECTION_FROM_DEVICE, GuestBuffer::contiguous(0, 4096)).unwrap();
    wait_until("the unit has it", || remote.held() == 1);
    let start = Instant::now();
    let limit = Duration::from_secs(45);
    assert_eq!(windows.guest.reset(to_frontend(FIRST), limit), Ok(Some(SrbStatus::Success)));
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(29), "{took:?}: nothing was hung");
    assert_eq!(windows.completed().status(), SrbStatus::Error);
    assert!(windows.is_ready(at(1)));
    remote.end_reset(true);
    remote.release();
    wait_until("it lets go", || remote.held() == 0);
}
