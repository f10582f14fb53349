//! The driver's habits on the wire, and each complaint by its name. The backend is a test's hand on the ring page.

use std::sync::atomic::Ordering;

use pvscsi_guestmem::SharedPage;
use pvscsi_ring::vscsiif::{
    DIRECTION_BIDIRECTIONAL, DIRECTION_FROM_DEVICE, REQ_PROD, RSP_PROD, SLOT_SIZE, slot_offset,
};
use pvscsi_xen::GrantTable;

use super::*;

const GUEST: DomId = DomId(7);
const DEVICE: Nexus = Nexus { channel: 0, id: 0, lun: 0 };
const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];

struct Hand {
    page: SharedPage,
    answered: u32,
}

impl Hand {
    fn requests(&self) -> u32 {
        self.page.load_u32(REQ_PROD, Ordering::Acquire)
    }

    fn request(&self, index: u32) -> WireRequest {
        let mut request = WireRequest::new_zeroed();
        self.page.copy_out(slot_offset(index), request.as_mut_bytes());
        request
    }

    fn answer(&mut self, rqid: Rqid, rslt: i32) {
        self.put(&WireResponse { rqid, rslt, ..WireResponse::new_zeroed() });
    }

    fn put(&mut self, response: &WireResponse) {
        self.page.copy_in(slot_offset(self.answered), response.as_bytes());
        self.answered += 1;
        self.page.store_u32(RSP_PROD, self.answered, Ordering::Release);
    }
}

fn guest() -> (Hypervisor, WindowsFrontend, Hand) {
    let xen = Hypervisor::new();
    let mut guest = WindowsFrontend::new(&xen, GUEST, DomId(0));
    guest.devices().add(DEVICE);
    let hand = Hand { page: guest.ring_page().share(), answered: 0 };
    (xen, guest, hand)
}

fn call(cdb: &[u8], len: usize) -> ScsiCall {
    let buffer = GuestBuffer::contiguous(0, len);
    ScsiCall { nexus: DEVICE, cdb: cdb.to_vec(), direction: DIRECTION_FROM_DEVICE, buffer, timeout_s: 10 }
}

#[test]
fn a_request_is_the_driver_s() {
    let (_xen, mut guest, hand) = guest();
    hand.page.copy_in(slot_offset(0), &[0xee; SLOT_SIZE]);
    let buffer = GuestBuffer::scattered(&[(512, 3584), (0, 4096), (0, 512)]);
    let rqid = guest.start_io(ScsiCall { buffer, direction: DIRECTION_BIDIRECTIONAL, ..call(&READ, 0) });
    let request = hand.request(0);
    assert_eq!((rqid, request.rqid, request.act, request.cmd_len), (Ok(0), 0, VSCSIIF_ACT_SCSI_CDB, 10));
    assert_eq!((&request.cmnd[..10], &request.cmnd[10..]), (&READ[..], &[0xee; 6][..]), "the rest is stale");
    assert_eq!((request.timeout_per_command, request.ref_rqid), (10, 0xeeee), "not in the driver's header");
    assert_eq!((request.sc_data_direction, request.nr_segments), (DIRECTION_BIDIRECTIONAL, 3));
    let shape = |segment: &WireSegment| (segment.offset, segment.length);
    assert_eq!(request.seg[..3].iter().map(shape).collect::<Vec<_>>(), [(512, 3584), (0, 4096), (0, 512)]);
    assert_eq!(request.seg[3].gref, 0xeeee_eeee);

    guest.start_io(call(&[], 0)).unwrap();
    let request = hand.request(1);
    assert_eq!((request.cmd_len, request.cmnd, request.nr_segments), (0, [0; 16], 0));
    assert_eq!(request.sc_data_direction, DIRECTION_NONE, "without data, whatever was asked");
}

#[test]
fn some_commands_never_leave_the_driver() {
    let (_xen, mut guest, hand) = guest();
    for cdb in [[0xa0, 0, 0, 0], [0x1e, 0, 0, 0], [0x1a, 0, 0x08, 0], [0x1a, 0, 0x5c, 0]] {
        assert_eq!(guest.start_io(call(&cdb, 512)), Err(SrbStatus::InvalidRequest), "{cdb:02x?}");
    }
    assert_eq!(guest.flush(), SrbStatus::Success);
    let elsewhere = Nexus { channel: 0, id: 0, lun: 1 };
    assert_eq!(guest.start_io(ScsiCall { nexus: elsewhere, ..call(&READ, 512) }), Err(SrbStatus::NoDevice));
    assert_eq!(guest.reset(elsewhere, Duration::ZERO), Err(SrbStatus::NoDevice));
    assert_eq!(hand.requests(), 0);
    for cdb in [[0x1a, 0, 0x3f, 0], [0x1a, 0, 0x80, 0]] {
        guest.start_io(call(&cdb, 512)).unwrap();
    }
    assert_eq!(hand.requests(), 2);
    for _ in 2..RING_SLOTS {
        guest.start_io(call(&READ, 512)).unwrap();
    }
    assert_eq!(guest.start_io(call(&READ, 512)), Err(SrbStatus::Busy), "the ring is full");
}

#[test]
fn windows_sees_16_bits() {
    for (rslt, word, status) in [
        (0, 0, SrbStatus::Success),
        (2, 2, SrbStatus::Error),
        (0x0007_0002, 2, SrbStatus::Error),
        (0x0007_0000, 0, SrbStatus::Success),
        (0x0001_0000, 0, SrbStatus::Success),
    ] {
        let (_xen, mut guest, mut hand) = guest();
        let rqid = guest.start_io(call(&READ, 512)).unwrap();
        hand.answer(rqid, rslt);
        let completed = guest.poll_completed().remove(0);
        assert_eq!((completed.word, completed.status()), (word, status), "{rslt:#010x}");
        let wrong = rslt != 0 && status == SrbStatus::Success;
        let complaint = wrong.then_some(Complaint::SilentCorruption { rqid, rslt });
        assert_eq!(guest.complaints(), complaint.as_slice(), "{rslt:#010x}");
    }
}

#[test]
fn grants_live_until_their_name_is_used_again() {
    let (xen, mut guest, mut hand) = guest();
    let rqid = guest.start_io(call(&READ, 8192)).unwrap();
    hand.answer(rqid, 0);
    guest.poll_completed();
    assert_eq!(guest.domain().live_grants(), 3, "the ring and two pages");
    assert_eq!(guest.start_io(call(&READ, 512)), Ok(rqid), "the name that was freed last");
    assert_eq!(guest.domain().live_grants(), 2);
    assert_eq!(guest.complaints(), []);

    let gref = hand.request(1).seg[0].gref;
    hand.answer(rqid, 0);
    let mapped = xen.grant_table(DomId(0), GUEST).map_page(GrantRef(gref)).unwrap();
    guest.poll_completed();
    assert_eq!(guest.complaints(), [], "the driver does not look at the answer");
    guest.start_io(call(&READ, 512)).unwrap();
    assert_eq!(guest.complaints(), [Complaint::GrantStillInUse { rqid, gref }]);
    drop(mapped);
}

#[test]
fn a_failed_grant_leaves_a_slot_that_goes_out_with_the_next() {
    let (_xen, mut guest, mut hand) = guest();
    hand.page.copy_in(slot_offset(0), &[0xee; SLOT_SIZE]);
    guest.fail_grants_after(1);
    assert_eq!(guest.start_io(call(&READ, 8192)), Err(SrbStatus::Busy));
    assert_eq!(hand.requests(), 0, "not pushed");
    let rqid = guest.start_io(call(&[0; 6], 0)).unwrap();
    assert_eq!(hand.requests(), 2);
    let stale = hand.request(0);
    assert_eq!((stale.rqid, rqid), (0, 0), "both have the same name");
    assert_eq!((stale.cmnd[0], stale.sc_data_direction), (0x28, DIRECTION_FROM_DEVICE));
    assert_eq!((stale.nr_segments, stale.seg[0].length, stale.seg[1].length), (0xee, 4096, 0xeeee));

    hand.answer(0, 2);
    hand.answer(0, 0);
    let completed = guest.poll_completed();
    assert_eq!(
        completed.iter().map(|c| c.word).collect::<Vec<_>>(),
        [2],
        "the first answer is taken for its own"
    );
    assert_eq!(guest.unasked().len(), 1);
    assert_eq!(guest.complaints(), []);
    hand.answer(0, 0);
    guest.poll_completed();
    assert_eq!(guest.complaints(), [Complaint::NotInFlight { rqid: 0 }]);
}

#[test]
fn more_than_25_pages_fail_in_the_driver() {
    let (_xen, mut guest, hand) = guest();
    assert_eq!(guest.start_io(call(&READ, MAX_TRANSFER + 512)), Err(SrbStatus::Busy));
    let buffer = GuestBuffer::contiguous(512, MAX_TRANSFER);
    guest.start_io(ScsiCall { buffer, ..call(&READ, 0) }).unwrap();
    assert_eq!((hand.requests(), hand.request(0).nr_segments, hand.request(1).nr_segments), (2, 0, 26));
}

#[test]
fn a_reset_waits_and_does_not_look_at_the_result() {
    for (rslt, done) in
        [(None, None), (Some(0x2002), Some(SrbStatus::Success)), (Some(0x2003), Some(SrbStatus::Success))]
    {
        let (xen, mut guest, mut hand) = guest();
        let mut events = xen.bind_interdomain(DomId(0), GUEST, guest.port()).unwrap();
        let waiting = std::thread::spawn(move || {
            let done = guest.reset(DEVICE, Duration::from_millis(if rslt.is_some() { 20_000 } else { 20 }));
            (guest.in_flight(), guest.complaints().to_vec(), done)
        });
        if let Some(rslt) = rslt {
            while hand.requests() == 0 {
                std::thread::yield_now();
            }
            assert_eq!(hand.request(0).act, VSCSIIF_ACT_SCSI_RESET);
            hand.answer(0, rslt);
            pvscsi_xen::EventChannel::notify(&mut events).unwrap();
        }
        let in_flight = usize::from(rslt.is_none());
        assert_eq!(waiting.join().unwrap(), (in_flight, vec![], Ok(done)), "{rslt:x?}");
    }
}

#[test]
fn it_stops_by_answering_itself() {
    let (_xen, mut guest, mut hand) = guest();
    let names = [(); 3].map(|()| guest.start_io(call(&READ, 4096)).unwrap());
    hand.answer(names[1], 0);
    assert_eq!(guest.poll_completed().len(), 1);
    let ended = guest.quiesce();
    assert_eq!(hand.page.load_u32(RSP_PROD, Ordering::Relaxed), 3);
    assert_eq!(ended.iter().map(|c| (c.sent.rqid, c.word)).collect::<Vec<_>>(), [(0, 2), (2, 2)]);
    assert_eq!((guest.in_flight(), guest.domain().live_grants()), (0, 1), "the ring is left");
    assert_eq!(guest.complaints(), []);
    guest.close_port();
    assert_eq!(guest.take_back_ring(), Ok(()));
    assert_eq!((guest.domain().live_grants(), guest.domain().open_ports()), (0, 0));
}

#[test]
fn wrong_answers_are_noticed_and_do_not_stop_the_guest() {
    let complaints_about = |response: WireResponse| {
        let (_xen, mut guest, mut hand) = guest();
        guest.start_io(call(&READ, 512)).unwrap();
        hand.put(&response);
        guest.poll_completed();
        assert!(guest.start_io(call(&READ, 512)).is_ok());
        guest.complaints().to_vec()
    };
    let right = WireResponse::new_zeroed();
    assert_eq!(complaints_about(right), []);
    assert_eq!(complaints_about(WireResponse { rqid: 1, ..right }), [Complaint::NotInFlight { rqid: 1 }]);
    assert_eq!(complaints_about(WireResponse { rqid: 16, ..right }), [Complaint::ForeignRqid { rqid: 16 }]);
    let long = WireResponse { residual_len: 513, ..right };
    assert_eq!(complaints_about(long), [Complaint::ResidualTooLong { rqid: 0, residual: 513 }]);
    let long = WireResponse { sense_len: 97, ..right };
    assert_eq!(complaints_about(long), [Complaint::SenseTooLong { rqid: 0, len: 97 }]);

    let (_xen, mut guest, mut hand) = guest();
    hand.answered = 16;
    hand.answer(0, 0);
    assert_eq!(guest.poll_completed().len(), 0);
    assert_eq!(guest.complaints(), [Complaint::TooManyResponses { unread: 17 }]);
}
