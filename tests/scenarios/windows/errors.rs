//! A command that failed is never success in 16 bits. There is one exception, and Windows's driver never gets to it.

use pvscsi_ring::vscsiif::{DIRECTION_FROM_DEVICE, DIRECTION_NONE, DIRECTION_TO_DEVICE};
use pvscsi_sg::{Command, Completion, Event, HostStatus, Job, LogicalUnit, Outcome, Reactor, SamStatus};
use pvscsi_sim::frontend::windows::{Completed, SrbStatus};
use pvscsi_sim::frontend::{Complaint, GuestBuffer};
use pvscsi_sim::{Errno, GrantFault};

use super::guest::{Direct, FIRST, Io, at, to_frontend};
use crate::scripted_lun::{COMPLETE, FAIL, HOLD, scripted_lun};
use crate::vhost::{host, pattern, ram_disk, rw10, status, wait_until};

/// A unit whose commands fail with the host byte in byte 1 of the CDB or, when that is 0, with the status in byte 2.
struct FailingLun;

impl LogicalUnit for FailingLun {
    fn submit(&mut self, command: Command, done: &mut Vec<Completion>) {
        let Command { tag, cdb, mut buffer, .. } = command;
        let len = buffer.as_ref().map_or(0, |buffer| buffer.len().try_into().unwrap());
        // What a device may have left in the buffer before it failed.
        if let Some(buffer) = &mut buffer {
            buffer.as_mut_slice().fill(0xbd);
        }
        let outcome = match cdb.padded()[1] {
            0 => Outcome { status: SamStatus(cdb.padded()[2]), ..Outcome::good(len) },
            host => Outcome::host_error(HostStatus(host), len),
        };
        done.push(Completion { tag, outcome, buffer });
    }

    fn flush(&mut self, _: &mut Reactor) {}

    fn on_event(&mut self, event: Event, _: &mut Reactor, _: &mut Vec<Completion>) {
        unreachable!("{event:?}: nothing was put on the reactor");
    }

    fn attach(&mut self, _: u32) {}

    fn resetter(&self) -> Option<Job> {
        None
    }

    fn device_type(&self) -> u8 {
        0
    }
}

fn page() -> GuestBuffer {
    GuestBuffer::contiguous(0, 4096)
}

#[track_caller]
fn assert_failed(done: &Completed, host_byte: u8) {
    let rslt = done.sent.rslt;
    assert_eq!((done.status(), host(rslt)), (SrbStatus::Error, host_byte), "{rslt:#010x}");
    assert_eq!(done.sent.residual as usize, done.sent.data.len());
}

#[test]
fn no_host_byte_is_success() {
    let mut windows = Direct::start(vec![(FIRST, Box::new(FailingLun))]);
    for host_byte in 1..=255 {
        let memory = page();
        let done = windows.call(FIRST, &[0xc0, host_byte, 0, 0, 0, 0], DIRECTION_FROM_DEVICE, memory.clone());
        // The protocol knows 0 to 15 and 20.
        assert_failed(&done, if matches!(host_byte, 1..=15 | 20) { host_byte } else { 7 });
        assert!(done.sent.sense.len() >= 14);
        assert_eq!(memory.to_vec(), [0; 4096], "nothing of a failed READ arrives");
    }
}

#[test]
fn every_status_of_a_device_arrives() {
    let mut windows = Direct::start(vec![(FIRST, Box::new(FailingLun))]);
    for byte in [0x02, 0x08, 0x18, 0x28, 0x30, 0x40] {
        let done = windows.call(FIRST, &[0xc0, 0, byte, 0, 0, 0], DIRECTION_FROM_DEVICE, page());
        assert_failed(&done, 0);
        assert_eq!(done.word, u16::from(byte));
    }
}

#[test]
fn sense_data_arrives() {
    let (unit, _remote) = scripted_lun();
    let mut windows = Direct::start(vec![(FIRST, unit)]);
    let done = windows.call(FIRST, &FAIL, DIRECTION_FROM_DEVICE, page());
    assert_failed(&done, 0);
    assert_eq!((done.sent.sense[2], done.sent.sense[12]), (4, 0x44));
}

#[test]
fn memory_that_is_not_there_is_no_success() {
    const GENERAL_ERROR: i16 = -1;
    let mut windows = Direct::start(vec![(FIRST, ram_disk())]);
    windows.write(FIRST, 0, &pattern(1, 8192), &GuestBuffer::contiguous(0, 8192));
    let read = rw10(0x28, 0, 8192);
    let write = rw10(0x2a, 0, 8192);
    for fault in [GrantFault::Copy(GENERAL_ERROR), GrantFault::CopyBatch(Errno::EFAULT)] {
        for nth in [1, 2] {
            for (cdb, direction) in [(&read, DIRECTION_FROM_DEVICE), (&write, DIRECTION_TO_DEVICE)] {
                if nth == 2 && matches!(fault, GrantFault::CopyBatch(_)) {
                    continue;
                }
                windows.guest.domain().inject_grant_fault(nth, fault);
                let done = windows.call(FIRST, cdb, direction, GuestBuffer::contiguous(0, 8192));
                assert_eq!((done.status(), host(done.sent.rslt)), (SrbStatus::Error, 7), "{fault:?} {nth}");
            }
        }
    }
    assert_eq!(windows.read(FIRST, 0, GuestBuffer::contiguous(0, 8192)), pattern(1, 8192));
}

#[test]
fn a_unit_that_hangs_and_goes_is_no_success() {
    let (unit, remote) = scripted_lun();
    let mut windows = Direct::start(vec![(FIRST, unit), (at(1), ram_disk())]);
    for _ in 0..3 {
        windows.send(FIRST, &HOLD, DIRECTION_FROM_DEVICE, page()).unwrap();
    }
    wait_until("the unit has them", || remote.held() == 3);
    windows.worker().remove(FIRST).unwrap();
    for _ in 0..3 {
        // NO_CONNECT, but not the bare word: these commands were for a unit that was there.
        assert_failed(&windows.completed(), 1);
    }
    remote.release();
    wait_until("dropped", || !remote.is_alive());
    let told = windows.call(at(1), &[0; 6], DIRECTION_NONE, GuestBuffer::default());
    assert_eq!((told.status(), told.sent.tells_of_changed_luns()), (SrbStatus::Error, true));
    assert!(windows.is_ready(at(1)));
}

/// A unit that keeps its commands after resets is answered BUSY for, and that is no success either.
#[test]
fn a_unit_that_never_lets_go_is_no_success() {
    let (unit, remote) = scripted_lun();
    let mut windows = Direct::start(vec![(FIRST, unit)]);
    for round in 0..20 {
        windows.send(FIRST, &HOLD, DIRECTION_FROM_DEVICE, page()).unwrap();
        if round < 16 {
            wait_until("the unit has it", || remote.held() == round + 1);
            assert_eq!(
                windows.guest.reset(to_frontend(FIRST), crate::vhost::PATIENCE),
                Ok(Some(SrbStatus::Success))
            );
        }
        let done = windows.completed();
        assert_eq!(done.status(), SrbStatus::Error, "{:#010x}", done.sent.rslt);
        assert_eq!(status(done.sent.rslt), if round < 16 { 0x40 } else { 0x08 });
    }
    remote.release();
    wait_until("it lets go", || remote.held() == 0);
    let done = windows.call(FIRST, &COMPLETE, DIRECTION_FROM_DEVICE, page());
    assert_eq!(done.status(), SrbStatus::Success);
}

/// The exception: 0x00010000, as every backend has always answered for an address without a unit. Windows takes it for success.
/// Here its table has a unit that the worker does not serve; devices.rs shows that the toolstack's nodes never lead there.
#[test]
fn an_address_without_a_unit_is_success_to_windows() {
    let mut windows = Direct::start(vec![(FIRST, ram_disk())]);
    assert!(windows.guest.devices().add(to_frontend(at(1))));
    let memory = page();
    let call = windows.send(at(1), &rw10(0x28, 0, 4096), DIRECTION_FROM_DEVICE, memory.clone()).unwrap();
    let done = windows.completed();
    assert_eq!((done.sent.rslt, done.word, done.status()), (0x0001_0000, 0, SrbStatus::Success));
    assert_eq!(memory.to_vec(), [0; 4096], "READ without data");
    let silent = Complaint::SilentCorruption { rqid: call, rslt: 0x0001_0000 };
    assert_eq!(windows.guest.take_complaints(), [silent]);
}
