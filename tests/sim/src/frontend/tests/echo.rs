//! A whole round: a guest and a backend in a thread of its own, which keeps what was written and gives it back.

use std::sync::atomic::AtomicBool;

use nix::poll::{PollFd, PollFlags, poll};
use pvscsi_ring::vscsiif::{DIRECTION_FROM_DEVICE, DIRECTION_NONE, VSCSIIF_SG_GRANT};
use pvscsi_xen::sys::grant_copy::GNTST_OKAY;
use pvscsi_xen::{CopyStorage, Direction};

use super::*;

const SOON: Duration = Duration::from_secs(20);

impl TestBackend {
    fn copy(&self, direction: Direction, segments: &[WireSegment], mut bytes: &mut [u8]) {
        let mut storage = CopyStorage::default();
        let mut batch = storage.batch(GUEST);
        for segment in segments {
            let here;
            (here, bytes) = std::mem::take(&mut bytes).split_at_mut(segment.length.into());
            match direction {
                Direction::FromGuest => batch.push_from_guest(GrantRef(segment.gref), segment.offset, here),
                Direction::ToGuest => batch.push_to_guest(GrantRef(segment.gref), segment.offset, here),
            }
        }
        self.grants.copy(&mut batch).unwrap();
        assert!(batch.statuses().all(|status| status == GNTST_OKAY));
    }

    fn segments(&self, request: &WireRequest) -> Vec<WireSegment> {
        let inline = &request.seg[..usize::from(request.nr_segments & !VSCSIIF_SG_GRANT)];
        if request.nr_segments & VSCSIIF_SG_GRANT == 0 {
            return inline.to_vec();
        }
        let bytes: usize = inline.iter().map(|area| usize::from(area.length)).sum();
        let mut list = vec![WireSegment::default(); bytes / 8];
        self.copy(Direction::FromGuest, inline, list.as_mut_bytes());
        list
    }

    fn serve(&mut self, stop: &AtomicBool) {
        let mut kept = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let timeout = 100_u16;
            poll(&mut [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)], timeout).unwrap();
            if !self.events.take_pending().unwrap() {
                continue;
            }
            loop {
                while let Some(request) = self.take() {
                    let segments = self.segments(&request);
                    let bytes: usize = segments.iter().map(|segment| usize::from(segment.length)).sum();
                    if request.sc_data_direction == DIRECTION_TO_DEVICE {
                        kept.resize(bytes, 0);
                        self.copy(Direction::FromGuest, &segments, &mut kept);
                    } else {
                        self.copy(Direction::ToGuest, &segments, &mut kept[..bytes]);
                    }
                    self.put(good(request.rqid));
                    self.push();
                }
                if !self.final_check() {
                    break;
                }
            }
            self.events.unmask().unwrap();
        }
    }
}

/// Ends the backend's thread also when the guest's side panics.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `guest` against an echoing backend; afterwards there is no complaint and nothing is left over.
fn with_echo(index: u32, guest: impl FnOnce(&mut LinuxFrontend)) {
    let xen = Hypervisor::new();
    let mut frontend = LinuxFrontend::with_start_index(&xen, GUEST, BACKEND, index);
    let mut backend = TestBackend::connect(&xen, &frontend);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| backend.serve(&stop));
        guest(&mut frontend);
    });
    assert_eq!(frontend.complaints(), []);
    assert_eq!(frontend.in_flight(), 0);
    assert_eq!((frontend.domain().live_grants(), frontend.domain().live_mappings()), (1, 1), "the ring");
}

fn write_and_read_back(frontend: &mut LinuxFrontend, buffer: GuestBuffer) {
    let len = buffer.len();
    let bytes: Vec<u8> = (0..len).map(|i| (i * 7 % 253) as u8).collect();
    buffer.write(&bytes);
    frontend.submit(call(&[0x2a; 10], DIRECTION_TO_DEVICE, buffer)).unwrap();
    let buffer = frontend.wait_reply(SOON).expect("an answer to the write").data;
    assert_eq!(buffer.to_vec(), bytes, "a write changes nothing in the guest");
    buffer.write(&vec![0xee; len]);
    frontend.submit(call(&[0x28; 10], DIRECTION_FROM_DEVICE, buffer)).unwrap();
    let reply = frontend.wait_reply(SOON).expect("an answer to the read");
    assert_eq!(reply.data.to_vec(), bytes, "{len} bytes");
}

#[test]
fn data_of_any_size_and_alignment_comes_back() {
    with_echo(0, |frontend| {
        for (start, len) in [(0, 0), (0, 1), (511, 4096), (4095, 2), (0, 26 * 4096), (1, 26 * 4096)] {
            write_and_read_back(frontend, GuestBuffer::contiguous(start, len));
        }
        for list_offset in [0, 2048, 4088] {
            frontend.set_list_offset(list_offset);
            write_and_read_back(frontend, GuestBuffer::contiguous(0, 128 * 4096));
            write_and_read_back(frontend, GuestBuffer::contiguous(4093, 127 * 4096));
        }
        write_and_read_back(frontend, GuestBuffer::scattered(&[(0, 1), (5, 0), (4000, 96), (3, 333)]));
    });
}

#[test]
fn indices_wrap_at_2_to_the_32_with_the_ring_full() {
    with_echo(u32::MAX - 20, |frontend| {
        let mut answered = 0;
        while answered < 200 {
            while frontend.has_room() {
                frontend.submit(call(&[0; 6], DIRECTION_NONE, GuestBuffer::default())).unwrap();
            }
            assert!(frontend.wait_reply(SOON).is_some());
            answered += 1 + frontend.poll_responses().len();
        }
        while frontend.in_flight() > 0 {
            assert!(frontend.wait_reply(SOON).is_some());
        }
    });
}

#[test]
fn no_wakeup_is_lost_with_one_request_at_a_time() {
    with_echo(0, |frontend| {
        for round in 0..10_000 {
            frontend.submit(call(&[0; 6], DIRECTION_NONE, GuestBuffer::default())).unwrap();
            assert!(frontend.wait_reply(SOON).is_some(), "round {round}");
        }
        let counts = frontend.port_control().counts();
        assert!(counts.to_guest <= 10_000 && counts.to_backend <= 10_000, "{counts:?}");
    });
}
