//! The checks find what a backend does wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pvscsi_guestmem::SharedPage;
use pvscsi_ring::RingError;
use pvscsi_ring::vscsiif::{REQ_PROD, RSP_PROD, WireRequest, WireResponse, slot_offset};
use pvscsi_xen::{DomId, GrantTable};
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::{Hypervisor, LinuxFrontend};

const BACKEND: DomId = DomId(0);

/// What a backend does with a request.
type Answer = fn(&WireRequest) -> Vec<WireResponse>;

fn good(request: &WireRequest) -> Vec<WireResponse> {
    let mut response = WireResponse::new_zeroed();
    response.rqid = request.rqid;
    vec![response]
}

fn but(request: &WireRequest, change: impl FnOnce(&mut WireResponse)) -> Vec<WireResponse> {
    let mut responses = good(request);
    change(&mut responses[0]);
    responses
}

fn serve(page: &SharedPage, answer: Answer, stop: &AtomicBool) {
    let (mut req_cons, mut rsp_prod) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        while req_cons != page.load_u32(REQ_PROD, Ordering::Acquire) {
            let mut request = WireRequest::new_zeroed();
            page.copy_out(slot_offset(req_cons), request.as_mut_bytes());
            req_cons += 1;
            for response in answer(&request) {
                page.copy_in(slot_offset(rsp_prod), response.as_bytes());
                rsp_prod += 1;
            }
            page.store_u32(RSP_PROD, rsp_prod, Ordering::Release);
        }
        std::thread::yield_now();
    }
}

fn put(rqid: u16) -> Action {
    let Action::Put(harmless) = Action::from_bytes([0; ACTION_BYTES]) else { panic!("zeroes are a command") };
    Action::Put(Put { rqid, ..harmless })
}

/// Runs a list against a backend that answers so; why it was not content.
fn run(actions: &[Action], answer: Answer) -> Option<String> {
    run_with(actions, answer, &mut || None)
}

fn run_with(actions: &[Action], answer: Answer, ended: &mut dyn FnMut() -> Option<End>) -> Option<String> {
    let xen = Hypervisor::new();
    let frontend = LinuxFrontend::new(&xen, DomId(1), BACKEND);
    let page = xen.grant_table(BACKEND, DomId(1)).map_page(frontend.ring_ref()).unwrap();
    let stop = AtomicBool::new(false);
    let mut guest = HostileGuest::take_over(&frontend, BACKEND);
    guest.patience = Duration::from_secs(1);
    let ran = std::thread::scope(|scope| {
        scope.spawn(|| serve(&page, answer, &stop));
        let ran = catch_unwind(AssertUnwindSafe(|| {
            guest.run(actions, &mut Backend { ended, let_go: &mut || () });
        }));
        stop.store(true, Ordering::Relaxed);
        ran
    });
    drop(page);
    if ran.is_ok() {
        guest.check_end(None);
    }
    ran.err().map(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("a text")).to_owned(),
    })
}

fn asked() -> [Action; 4] {
    [put(3), put(4), Action::Show { bell: true }, Action::Await]
}

#[track_caller]
fn assert_found(what: &str, answer: Answer) {
    let found = run(&asked(), answer);
    assert!(found.as_ref().is_some_and(|text| text.contains(what)), "{what}: {found:?}");
}

#[test]
fn a_good_backend_passes() {
    let many: Vec<Action> = (0..100).map(put).collect();
    assert_eq!(run(&many, good), None);
    assert_eq!(run(&[], good), None);
    let rewritten = [put(1), Action::Show { bell: true }, Action::Poke { back: 0, at: 0, value: 9 }];
    assert_eq!(run(&rewritten, good), None);
}

/// One list after the other, on one ring, as long as the guest knows where it is.
#[test]
fn lists_follow_each_other_until_the_indices_are_spoilt() {
    let xen = Hypervisor::new();
    let frontend = LinuxFrontend::new(&xen, DomId(1), BACKEND);
    let page = xen.grant_table(BACKEND, DomId(1)).map_page(frontend.ring_ref()).unwrap();
    let stop = AtomicBool::new(false);
    let mut guest = HostileGuest::take_over(&frontend, BACKEND);
    std::thread::scope(|scope| {
        scope.spawn(|| serve(&page, good, &stop));
        let mut backend = Backend { ended: &mut || None, let_go: &mut || () };
        let rewritten = [put(1), Action::Show { bell: true }, Action::Poke { back: 0, at: 0, value: 9 }];
        let lists: [&[Action]; 3] = [&rewritten, &asked(), &[Action::Skip { by: 17 }]];
        let fit = lists.map(|actions| {
            guest.run(actions, &mut backend);
            guest.start_over()
        });
        assert_eq!(fit, [true, true, false]);
        stop.store(true, Ordering::Relaxed);
    });
}

/// The answer of one request, whatever went before.
#[test]
fn a_guest_that_asks_gets_its_answer() {
    let xen = Hypervisor::new();
    let frontend = LinuxFrontend::new(&xen, DomId(1), BACKEND);
    let page = xen.grant_table(BACKEND, DomId(1)).map_page(frontend.ring_ref()).unwrap();
    let stop = AtomicBool::new(false);
    let mut guest = HostileGuest::take_over(&frontend, BACKEND);
    let status: Answer = |request| but(request, |answer| answer.rslt = request.rqid.into());
    std::thread::scope(|scope| {
        scope.spawn(|| serve(&page, status, &stop));
        let mut backend = Backend { ended: &mut || None, let_go: &mut || () };
        for rqid in [8, 2, 8] {
            let Action::Put(put) = put(rqid) else { unreachable!("a put") };
            assert_eq!(guest.ask(put, &mut backend), i32::from(rqid));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn every_fault_is_found() {
    assert_found("no answer", |_| Vec::new());
    // Which of the two shows first is a matter of time.
    let twice = run(&asked(), |request| [good(request), good(request)].concat());
    assert!(twice.is_some_and(|text| text.contains("rsp_prod is") || text.contains("0x0 for request")));
    assert_found("for request 5", |request| but(request, |answer| answer.rqid = 5));
    assert_found("0x70000 for request 3", |request| but(request, |answer| answer.rslt = 0x0007_0000));
    assert_found("0x2002 for request 3", |request| but(request, |answer| answer.rslt = 0x2002));
    assert_found("0x6000002", |request| but(request, |answer| answer.rslt = 0x0600_0002));
    assert_found("sense of 96 bytes", |request| but(request, |answer| answer.sense_len = 97));
    assert_found("behind the sense", |request| but(request, |answer| answer.sense_buffer[0] = 1));
    assert_found("unused bytes", |request| but(request, |answer| answer.reserved[35] = 1));
    assert_found("left over", |request| but(request, |answer| answer.residual_len = u32::MAX));
}

/// Two answers to one request and none to the other are as many as there should be.
#[test]
fn an_answer_in_the_name_of_another_is_found() {
    assert_found("for request 3", |request| match request.rqid {
        4 => but(request, |answer| answer.rqid = 3),
        _ => good(request),
    });
}

/// A backend that has lost something and is busy for ever.
#[test]
fn a_backend_that_wears_out_is_found() {
    let found = run(&[], |request| but(request, |answer| answer.rslt = 8));
    assert!(found.is_some_and(|text| text.contains("0x8 for a good request")));
}

/// Names are the guest's business, and a LUN that is not there answers commands and task management alike.
#[test]
fn one_name_for_all_is_no_fault() {
    let abort = |ref_rqid| Action::Manage { act: 2, lun: 0, rqid: 3, ref_rqid };
    let actions = [put(3), abort(1), put(3), abort(2), put(3), Action::Show { bell: true }, Action::Await];
    let answer: Answer = |request| match (request.act, request.ref_rqid) {
        (2, 1) => but(request, |answer| answer.rslt = 0x0001_0000),
        (2, _) => but(request, |answer| answer.rslt = 0x2002),
        _ => good(request),
    };
    for order in 0..5 {
        let mut actions = actions;
        actions[..5].rotate_left(order);
        assert_eq!(run(&actions, answer), None);
    }
    let absent: Answer = |request| match request.cmnd[0] {
        0x12 => good(request),
        _ => but(request, |answer| answer.rslt = 0x0001_0000),
    };
    assert_eq!(run(&actions, absent), None);
    let found = run(&actions, |request| but(request, |answer| answer.rslt = 0x2002));
    assert!(found.is_some_and(|text| text.contains("0x2002 for request 3")));
}

/// A backend may give up a ring whose producer index is impossible, and no other.
#[test]
fn a_ring_is_not_given_up_for_nothing() {
    let jump = Action::Jump { by: 17 };
    let right = RingError { req_prod: 17, req_cons: 0, answered: 0 };
    let wrong = RingError { req_prod: 16, ..right };
    let idle: Answer = |_| Vec::new();
    assert_eq!(run_with(&[jump], idle, &mut || Some(End::Ring(right))), None);
    let found = run_with(&[jump], idle, &mut || Some(End::Ring(wrong)));
    assert!(found.is_some_and(|text| text.contains("is possible")));
    let found = run_with(&[put(0)], idle, &mut || Some(End::Ring(right)));
    assert!(found.is_some_and(|text| text.contains("given up for nothing")));
    let found = run_with(&[jump], idle, &mut || None);
    assert!(found.is_some_and(|text| text.contains("neither serves nor ends")));
}

#[test]
#[should_panic(expected = "pages mapped")]
fn a_ring_that_is_kept_is_found() {
    let xen = Hypervisor::new();
    let frontend = LinuxFrontend::new(&xen, DomId(1), BACKEND);
    let _page = xen.grant_table(BACKEND, DomId(1)).map_page(frontend.ring_ref()).unwrap();
    HostileGuest::take_over(&frontend, BACKEND).check_end(None);
}

/// Every kind of action comes from some bytes.
#[test]
fn bytes_make_all_actions() {
    let mut kinds = std::collections::BTreeSet::new();
    for kind in 0..=255 {
        for a in 0..=255 {
            let text = format!("{:?}", Action::from_bytes([kind, a, 1, 2, 3, 4, 5, 6]));
            let end = text.find([' ', '(']).unwrap_or(text.len());
            kinds.insert(text[..end].to_owned());
        }
    }
    assert_eq!(kinds.len(), 16, "{kinds:?}");
}
