//! Reading and writing, as Windows does it.

use pvscsi_ring::vscsiif::{
    DIRECTION_BIDIRECTIONAL, DIRECTION_FROM_DEVICE, DIRECTION_NONE, DIRECTION_TO_DEVICE,
};
use pvscsi_sim::frontend::GuestBuffer;
use pvscsi_sim::frontend::windows::{MAX_TRANSFER, SrbStatus};

use super::guest::{Direct, FIRST, Io};
use crate::vhost::{pattern, ram_disk, rw10};

#[test]
fn up_to_25_pages_are_written_read_and_verified() {
    let mut windows = Direct::start(vec![(FIRST, ram_disk())]);
    for pages in 1..=25 {
        // Windows's memory starts at a block in a page; 25 pages are 26 areas then.
        for start in [0, 512, 3584] {
            let bytes = pattern(pages + start, pages * 4096);
            let memory = GuestBuffer::contiguous(start, bytes.len());
            windows.write(FIRST, 7, &bytes, &memory);
            assert_eq!(
                windows.read(FIRST, 7, GuestBuffer::contiguous(4096 - start % 4096 - 512, bytes.len())),
                bytes
            );
            let mut verify = rw10(0x2f, 7, bytes.len());
            verify[1] = 0b010;
            let done = windows.call(FIRST, &verify, DIRECTION_TO_DEVICE, memory.clone());
            assert_eq!(done.status(), SrbStatus::Success);
            memory.write(&pattern(99, bytes.len()));
            let done = windows.call(FIRST, &verify, DIRECTION_TO_DEVICE, memory);
            assert_eq!((done.word, done.sent.sense[2] & 0xf), (2, 0x0e), "MISCOMPARE");
        }
    }
}

#[test]
fn the_ring_is_filled_again_and_again() {
    let mut windows = Direct::start(vec![(FIRST, ram_disk())]);
    let memory = || GuestBuffer::contiguous(0, 4096);
    for block in 0..16 {
        windows.write(FIRST, 8 * block, &pattern(block as usize, 4096), &memory());
    }
    for _ in 0..20 {
        let sent: Vec<_> = (0..16)
            .map(|block| {
                windows.send(FIRST, &rw10(0x28, 8 * block, 4096), DIRECTION_FROM_DEVICE, memory()).unwrap()
            })
            .collect();
        assert_eq!(windows.send(FIRST, &[0; 6], DIRECTION_NONE, memory()), Err(SrbStatus::Busy));
        for _ in 0..16 {
            let done = windows.completed();
            let block = sent.iter().position(|rqid| *rqid == done.sent.rqid).unwrap();
            assert_eq!((done.status(), done.sent.data.to_vec()), (SrbStatus::Success, pattern(block, 4096)));
        }
    }
}

/// Windows ignores the residual: what is behind the data must be as it was, not what the buffer held before.
#[test]
fn what_is_not_transferred_is_not_touched() {
    let mut windows = Direct::start(vec![(FIRST, ram_disk())]);
    windows.write(FIRST, 0, &[0x77; 4096], &GuestBuffer::contiguous(0, 4096));
    for direction in [DIRECTION_FROM_DEVICE, DIRECTION_BIDIRECTIONAL] {
        let memory = GuestBuffer::contiguous(512, 255);
        memory.write(&[0x11; 255]);
        let done = windows.call(FIRST, &[0x12, 0, 0, 0, 36, 0], direction, memory);
        let data = done.sent.data.to_vec();
        assert_eq!((done.status(), data[4]), (SrbStatus::Success, 91));
        assert_eq!(
            (done.sent.residual, &data[36..]),
            (255 - 36, &[0x11; 255 - 36][..]),
            "direction {direction}"
        );
    }
}

/// Windows asks for 26 pages, for the driver allows them, and gets BUSY until it asks for less.
#[test]
fn the_26th_page_fails_in_the_guest_and_leaves_a_slot() {
    let mut windows = Direct::start(vec![(FIRST, ram_disk())]);
    let bytes = pattern(3, MAX_TRANSFER);
    windows.write(FIRST, 0, &bytes, &GuestBuffer::contiguous(0, MAX_TRANSFER));
    let memory = GuestBuffer::contiguous(0, MAX_TRANSFER + 4096);
    let sent = windows.send(FIRST, &rw10(0x2a, 0, MAX_TRANSFER + 4096), DIRECTION_TO_DEVICE, memory);
    assert_eq!(sent, Err(SrbStatus::Busy));
    // The slot goes out with the next command, which is taken for failed: see the scenarios of the ring.
    windows.send(FIRST, &[0; 6], DIRECTION_NONE, GuestBuffer::default()).unwrap();
    assert_eq!(windows.completed().status(), SrbStatus::Error);
    assert_eq!(windows.read(FIRST, 0, GuestBuffer::contiguous(0, MAX_TRANSFER)), bytes);
    assert_eq!(windows.guest.unasked().len(), 1);
}
