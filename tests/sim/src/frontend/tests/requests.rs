//! What the frontend puts on the ring.

use pvscsi_ring::vscsiif::{DIRECTION_FROM_DEVICE, DIRECTION_NONE};
use pvscsi_xen::CopyStorage;
use pvscsi_xen::sys::grant_copy::{GNTST_GENERAL_ERROR, GNTST_OKAY};

use super::*;

fn read_list_page(backend: &TestBackend, area: WireSegment) -> Vec<u8> {
    let mut bytes = vec![0; area.length.into()];
    let mut storage = CopyStorage::default();
    let mut batch = storage.batch(GUEST);
    batch.push_from_guest(GrantRef(area.gref), area.offset, &mut bytes);
    backend.grants.copy(&mut batch).unwrap();
    assert!(batch.statuses().all(|status| status == GNTST_OKAY));
    bytes
}

fn write_status(backend: &TestBackend, gref: u32) -> i16 {
    let mut byte = [0xee];
    let mut storage = CopyStorage::default();
    let mut batch = storage.batch(GUEST);
    batch.push_to_guest(GrantRef(gref), 0, &mut byte);
    backend.grants.copy(&mut batch).unwrap();
    batch.statuses().next().unwrap()
}

#[test]
fn every_field_is_where_the_header_says() {
    let (mut frontend, mut backend) = connected();
    let buffer = GuestBuffer::scattered(&[(512, 100), (4095, 1)]);
    assert_eq!(frontend.submit(call(&[0x2a; 10], DIRECTION_TO_DEVICE, buffer)), Ok(0));
    let request = backend.take().unwrap();
    assert_eq!((request.rqid, request.act, request.cmd_len), (0, VSCSIIF_ACT_SCSI_CDB, 10));
    assert_eq!(request.cmnd[..10], [0x2a; 10]);
    assert_eq!((request.timeout_per_command, request.ref_rqid), (30, 0));
    assert_eq!((request.channel, request.id, request.lun), (0, 3, 5));
    assert_eq!((request.sc_data_direction, request.nr_segments), (DIRECTION_TO_DEVICE, 2));
    assert_eq!((request.seg[0].offset, request.seg[0].length), (512, 100));
    assert_eq!((request.seg[1].offset, request.seg[1].length), (4095, 1));
    assert_eq!(request.reserved, [0; 3]);
    assert!(backend.take().is_none());
}

#[test]
fn bytes_behind_a_short_cdb_are_what_the_slot_held() {
    let (mut frontend, mut backend) = connected();
    let mut behind_cdb = || {
        let rqid = frontend.submit(call(&[0; 6], DIRECTION_NONE, GuestBuffer::default())).unwrap();
        let request = backend.take().unwrap();
        backend.put(WireResponse { sense_len: 96, sense_buffer: [0xaa; 96], ..good(rqid) });
        backend.push();
        assert_eq!(frontend.poll_responses()[0].sense, [0xaa; 96]);
        assert_eq!((request.cmd_len, &request.cmnd[..6]), (6, &[0; 6][..]));
        request.cmnd[6..].to_vec()
    };
    for _ in 0..RING_SLOTS {
        assert_eq!(behind_cdb(), [0; 10]);
    }
    assert_eq!(behind_cdb(), [0xaa; 10], "slot 0 again: the sense data of the answer in it");
}

#[test]
fn memory_is_writable_unless_it_goes_to_the_device() {
    let (mut frontend, mut backend) = connected();
    let statuses: Vec<i16> = (0..=3)
        .map(|direction| {
            frontend.submit(call(&[0; 6], direction, GuestBuffer::contiguous(0, 8))).unwrap();
            let gref = backend.take().unwrap().seg[0].gref;
            write_status(&backend, gref)
        })
        .collect();
    assert_eq!(statuses, [GNTST_OKAY, GNTST_GENERAL_ERROR, GNTST_OKAY, GNTST_OKAY]);
}

#[test]
fn twenty_six_areas_are_direct_and_one_more_is_a_list() {
    let (mut frontend, mut backend) = connected();
    for (areas, direct) in [(26, true), (27, false)] {
        let buffer = GuestBuffer::scattered(&vec![(0, 16); areas]);
        frontend.submit(call(&[0; 6], DIRECTION_FROM_DEVICE, buffer)).unwrap();
        let request = backend.take().unwrap();
        let expected = if direct { 26 } else { VSCSIIF_SG_GRANT | 1 };
        assert_eq!(request.nr_segments, expected);
    }
    assert_eq!(frontend.domain().live_grants(), 1 + 26 + 27 + 1);
}

#[test]
fn a_list_that_crosses_a_page_is_two_read_only_areas() {
    let (mut frontend, mut backend) = connected();
    frontend.set_list_offset(4096 - 10 * 8);
    let buffer = GuestBuffer::scattered(&(0..128).map(|i| (i, 16 + i)).collect::<Vec<_>>());
    frontend.submit(call(&[0; 6], DIRECTION_FROM_DEVICE, buffer)).unwrap();
    let request = backend.take().unwrap();
    assert_eq!(request.nr_segments, VSCSIIF_SG_GRANT | 2);
    let areas = &request.seg[..2];
    assert_eq!((areas[0].offset, areas[0].length), (4016, 80));
    assert_eq!((areas[1].offset, areas[1].length), (0, 118 * 8));
    let list: Vec<u8> = areas.iter().flat_map(|&area| read_list_page(&backend, area)).collect();
    let segments = list.as_chunks::<8>().0;
    assert_eq!(segments.len(), 128);
    for (i, segment) in (0_u16..).zip(segments) {
        assert_eq!(segment[4..6], i.to_le_bytes());
        assert_eq!(segment[6..8], (16 + i).to_le_bytes());
    }
    for area in areas {
        assert_eq!(write_status(&backend, area.gref), GNTST_GENERAL_ERROR);
    }
    backend.put(good(0));
    backend.push();
    assert_eq!(frontend.poll_responses()[0].data.pieces().len(), 128);
    assert_eq!(frontend.domain().live_grants(), 1, "the ring page");
    assert!(frontend.complaints().is_empty());
}

#[test]
fn task_management_repeats_the_request_it_is_about() {
    let (mut frontend, mut backend) = connected();
    let buffer = GuestBuffer::contiguous(0, 8);
    frontend.submit(call(&[0x28; 10], DIRECTION_FROM_DEVICE, buffer)).unwrap();
    let original = backend.take().unwrap();
    assert_eq!(frontend.abort(0), Ok(1));
    let abort = backend.take().unwrap();
    assert_eq!((abort.act, abort.rqid, abort.ref_rqid), (VSCSIIF_ACT_SCSI_ABORT, 1, 0));
    assert_eq!((abort.cmnd, abort.cmd_len), (original.cmnd, 10));
    assert_eq!((abort.channel, abort.id, abort.lun), (0, 3, 5));
    assert_eq!((abort.sc_data_direction, abort.nr_segments), (DIRECTION_FROM_DEVICE, 0));

    assert_eq!(frontend.abort(65535), Ok(2), "a test may ask for nonsense");
    assert_eq!(backend.take().unwrap().ref_rqid, 65535);
    assert_eq!(frontend.reset(Nexus { channel: 1, id: 2, lun: 3 }), Ok(3));
    let reset = backend.take().unwrap();
    assert_eq!((reset.act, reset.nr_segments), (VSCSIIF_ACT_SCSI_RESET, 0));
    assert_eq!((reset.channel, reset.id, reset.lun), (1, 2, 3));

    for (rqid, rslt) in [(0, 0x0005_0000), (1, 0x2002)] {
        backend.put(WireResponse { rslt, ..good(rqid) });
    }
    backend.push();
    let replies = frontend.poll_responses();
    assert_eq!(replies.iter().map(|r| (r.rqid, r.rslt)).collect::<Vec<_>>(), [(0, 0x0005_0000), (1, 0x2002)]);
    assert_eq!(frontend.abort(0), Ok(0), "the answered request can still be named");
    let late = backend.take().unwrap();
    assert_eq!((late.ref_rqid, late.cmnd, late.nr_segments), (0, original.cmnd, 0));
}

#[test]
fn the_lowest_free_rqid_is_taken_and_a_full_ring_says_so() {
    let (mut frontend, mut backend) = connected();
    let nothing = || call(&[0; 6], DIRECTION_NONE, GuestBuffer::default());
    for rqid in 0..16 {
        assert_eq!(frontend.submit(nothing()), Ok(rqid));
    }
    assert_eq!(frontend.submit(nothing()), Err(HostBusy));
    assert_eq!(frontend.abort(3), Err(HostBusy));
    assert!(!frontend.has_room());
    for rqid in [9, 4] {
        backend.take().unwrap();
        backend.put(good(rqid));
    }
    backend.push();
    assert_eq!(frontend.poll_responses().len(), 2);
    assert_eq!(frontend.in_flight(), 14);
    assert_eq!([frontend.submit(nothing()), frontend.submit(nothing())], [Ok(4), Ok(9)]);
    assert!(frontend.complaints().is_empty());
}

#[test]
fn an_answer_without_a_ring_is_not_seen_by_a_guest_that_waits() {
    let (mut frontend, mut backend) = connected();
    frontend.port_control().inject(crate::Way::ToGuest, 1, crate::EventFault::Lost);
    frontend.submit(call(&[0; 6], DIRECTION_NONE, GuestBuffer::default())).unwrap();
    assert!(frontend.poll_responses().is_empty());
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| frontend.wait_reply(Duration::from_millis(600)).is_none());
        std::thread::sleep(Duration::from_millis(200));
        backend.put(good(0));
        backend.push();
        assert!(waiter.join().unwrap());
    });
    assert_eq!(frontend.poll_responses().len(), 1, "it was there");
}

#[test]
fn a_frontend_that_goes_leaves_nothing_behind() {
    let (mut frontend, backend) = connected();
    let guest = frontend.domain().clone();
    frontend.submit(call(&[0; 6], DIRECTION_FROM_DEVICE, GuestBuffer::contiguous(100, 200_000))).unwrap();
    assert_eq!((guest.live_grants(), guest.open_ports()), (1 + 49 + 1, 1));
    drop(frontend);
    assert_eq!((guest.live_grants(), guest.open_ports()), (0, 0));
    assert_eq!(guest.live_mappings(), 1, "the ring, until the backend lets go");
    drop(backend);
    assert_eq!(guest.live_mappings(), 0);
}
