//! Each way to answer wrongly is noticed, by its name, and ends the use of the device.

use pvscsi_ring::vscsiif::{DIRECTION_FROM_DEVICE, DIRECTION_NONE};

use super::*;

/// Two requests of 100 bytes are in flight as rqid 0 and 1; `answer` does what the backend should not.
fn complaints_about(answer: impl FnOnce(&mut TestBackend)) -> Vec<Complaint> {
    let (mut frontend, mut backend) = connected();
    for rqid in 0..2 {
        let buffer = GuestBuffer::contiguous(0, 100);
        assert_eq!(frontend.submit(call(&[0x28; 10], DIRECTION_FROM_DEVICE, buffer)), Ok(rqid));
        backend.take().unwrap();
    }
    answer(&mut backend);
    backend.push();
    frontend.poll_responses();
    assert_eq!(frontend.is_disabled(), !frontend.complaints().is_empty());
    if frontend.is_disabled() {
        assert_eq!(frontend.submit(ScsiCall::default()), Err(HostBusy), "disabled for good");
        assert!(frontend.wait_reply(Duration::from_secs(30)).is_none(), "and does not wait");
    }
    frontend.complaints().to_vec()
}

fn complaints_about_response(response: WireResponse) -> Vec<Complaint> {
    complaints_about(|backend| backend.put(response))
}

#[test]
fn a_right_answer_is_accepted() {
    assert_eq!(complaints_about_response(good(1)), []);
    let mut full = good(0);
    full.rslt = 2;
    full.sense_len = 96;
    full.sense_buffer = [0xff; 96];
    full.residual_len = 100;
    assert_eq!(complaints_about_response(full), []);
}

#[test]
fn an_rqid_answered_twice() {
    let twice = complaints_about(|backend| {
        backend.put(good(1));
        backend.put(good(1));
    });
    assert_eq!(twice, [Complaint::NotInFlight { rqid: 1 }]);
}

#[test]
fn an_rqid_that_was_never_sent() {
    assert_eq!(complaints_about_response(good(2)), [Complaint::NotInFlight { rqid: 2 }]);
    assert_eq!(complaints_about_response(good(16)), [Complaint::ForeignRqid { rqid: 16 }]);
    assert_eq!(complaints_about_response(good(u16::MAX)), [Complaint::ForeignRqid { rqid: u16::MAX }]);
}

#[test]
fn more_responses_than_the_ring_has_slots() {
    let too_many = complaints_about(|backend| backend.rsp_prod = backend.rsp_prod.wrapping_add(17));
    assert_eq!(too_many, [Complaint::TooManyResponses { unread: 17 }]);
    let behind = complaints_about(|backend| backend.rsp_prod = backend.rsp_prod.wrapping_sub(1));
    assert_eq!(behind, [Complaint::TooManyResponses { unread: u32::MAX }]);
}

#[test]
fn sense_data_longer_than_its_field() {
    let mut response = good(0);
    response.sense_len = 97;
    assert_eq!(complaints_about_response(response), [Complaint::SenseTooLong { rqid: 0, len: 97 }]);
}

#[test]
fn a_residual_longer_than_the_buffer() {
    let mut response = good(0);
    response.residual_len = 101;
    assert_eq!(complaints_about_response(response), [Complaint::ResidualTooLong { rqid: 0, residual: 101 }]);
}

#[test]
fn any_unused_byte_that_is_set() {
    let clean = good(1);
    // act; the sense byte behind sense_len 0; the last one; both ends of reserved.
    for offset in [2, 4, 99, 108, 251] {
        let mut response = clean;
        response.as_mut_bytes()[offset] = 1;
        let complaints = complaints_about_response(response);
        assert_eq!(complaints, [Complaint::UnusedBytesSet { rqid: 1 }], "byte {offset}");
    }
}

#[test]
fn a_page_that_is_still_mapped() {
    let (mut frontend, mut backend) = connected();
    let buffer = GuestBuffer::scattered(&[(0, 512), (0, 512), (0, 512)]);
    frontend.submit(call(&[0x28; 10], DIRECTION_FROM_DEVICE, buffer)).unwrap();
    let gref = backend.take().unwrap().seg[1].gref;
    let mapped = backend.grants.map_page(GrantRef(gref)).unwrap();
    backend.put(good(0));
    backend.push();
    assert!(frontend.poll_responses().is_empty());
    assert_eq!(frontend.complaints(), [Complaint::GrantStillInUse { rqid: 0, gref }]);
    let guest = frontend.domain().clone();
    drop((frontend, backend));
    assert_eq!((guest.live_grants(), guest.live_mappings()), (0, 1), "the leak can be counted");
    drop(mapped);
    assert_eq!(guest.live_mappings(), 0);
}

#[test]
fn answers_before_the_wrong_one_count() {
    let (mut frontend, mut backend) = connected();
    let rqid = frontend.submit(call(&[0; 6], DIRECTION_NONE, GuestBuffer::default())).unwrap();
    backend.put(good(rqid));
    backend.put(good(rqid));
    backend.push();
    assert_eq!(frontend.poll_responses().len(), 1);
    assert_eq!(frontend.complaints().len(), 1);
}
