//! Guests that lie, and guests that want harm.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pvscsi_backend::control::WorkerError;
use pvscsi_guestmem::HeapPage;
use pvscsi_ring::vscsiif::{
    DIRECTION_FROM_DEVICE, DIRECTION_NONE, DIRECTION_TO_DEVICE, REQ_PROD, RING_HEADER, RSP_PROD,
    VSCSIIF_SG_GRANT, WireRequest, WireSegment,
};
use pvscsi_sim::{Access, Way};
use pvscsi_xen::{DomId, GrantRef};
use zerocopy::IntoBytes;

use crate::raw_guest::{RawGuest, abort, assert_refused, indirect, inquiry, nothing, with_segments, write};
use crate::scripted_lun::{HOLD, scripted_lun};
use crate::vhost::{KINDS, Vhost, lun, ram_disk, wait_until};

/// Puts the bad request between two good ones: those have to be done, and it has to be refused.
#[track_caller]
fn refused_among_good(guest: &mut RawGuest, bad: WireRequest, what: &str) {
    let answers = guest.ask(&[nothing(lun(0)), bad, nothing(lun(0))]);
    assert_refused(&answers[1], what);
    assert_eq!([answers[0].rslt, answers[2].rslt], [0, 0], "{what}: its neighbours");
}

/// Requests that make no sense whatever is granted.
pub fn nonsense() -> Vec<(String, WireRequest)> {
    let mut all = Vec::new();
    let mut bad = |what: String, change: &dyn Fn(&mut WireRequest)| {
        let mut request = nothing(lun(0));
        change(&mut request);
        all.push((what, request));
    };
    for act in [0, 4, 5, 255] {
        bad(format!("act {act}"), &|request| request.act = act);
    }
    for direction in [4, 5, 255] {
        bad(format!("direction {direction}"), &|request| request.sc_data_direction = direction);
    }
    for len in [17, 255] {
        bad(format!("cmd_len {len}"), &|request| request.cmd_len = len);
    }
    for count in 27..=127 {
        bad(format!("{count} segments"), &|request| request.nr_segments = count);
        bad(format!("{count} areas"), &|request| request.nr_segments = count | VSCSIIF_SG_GRANT);
    }
    for (offset, length) in [(4096, 0), (4095, 2), (0, 4097), (65535, 65535)] {
        let segment = WireSegment { gref: 8, offset, length };
        bad(format!("{length} bytes at {offset}"), &|request| {
            *request = inquiry(lun(0), &[segment]);
        });
    }
    all
}

#[test]
fn nonsense_is_refused_and_the_rest_of_the_ring_goes_on() {
    for kind in KINDS {
        let mut vhost = Vhost::with_disk(kind);
        let mut guest = RawGuest::of(&mut vhost);
        for (what, request) in nonsense() {
            refused_among_good(&mut guest, request, &what);
        }
    }
}

#[test]
fn memory_that_is_not_granted_is_refused() {
    let mut vhost = Vhost::with_disk(KINDS[0]);
    let mut guest = RawGuest::of(&mut vhost);
    let page = HeapPage::new();
    let good = guest.segment(&page, Access::ReadWrite, 0, 36);
    let read_only = guest.segment(&page, Access::ReadOnly, 0, 36);
    let foreign = guest.domain.grant(&page, DomId(5), Access::ReadWrite).0;
    let revoked = guest.domain.grant(&page, DomId(0), Access::ReadWrite);
    guest.domain.try_revoke(revoked).unwrap();
    refused_among_good(&mut guest, inquiry(lun(0), &[read_only]), "a read-only page for data-in");
    for gref in [0, 7, foreign, revoked.0, 511, 0xffff, u32::MAX] {
        let bad = WireSegment { gref, ..good };
        let long = WireSegment { gref, offset: 0, length: 512 };
        refused_among_good(&mut guest, inquiry(lun(0), &[bad]), &format!("data-in to {gref}"));
        refused_among_good(&mut guest, write(lun(0), 1, &[long]), &format!("data-out from {gref}"));
        refused_among_good(
            &mut guest,
            inquiry(lun(0), &[WireSegment { length: 8, ..good }, bad]),
            "the second",
        );
        let list = WireSegment { gref, offset: 0, length: 8 };
        refused_among_good(&mut guest, indirect(inquiry(lun(0), &[list])), &format!("a list in {gref}"));
    }
    assert_eq!(guest.ask(&[inquiry(lun(0), &[good])])[0].rslt, 0, "and what is granted works");
    let mut data = [0; 8];
    page.share().copy_out(0, &mut data);
    assert_ne!(data, [0; 8], "INQUIRY data");
}

#[test]
fn a_grant_withdrawn_under_a_command_is_that_commands_trouble() {
    for kind in KINDS {
        let (unit, remote) = scripted_lun();
        let mut vhost = Vhost::start(kind, vec![(lun(0), unit)]);
        let mut guest = RawGuest::of(&mut vhost);
        let page = HeapPage::new();
        let segment = guest.segment(&page, Access::ReadWrite, 0, 4096);
        let mut request = inquiry(lun(0), &[segment]);
        request.cmnd[..6].copy_from_slice(&HOLD);
        guest.put(&request);
        guest.show(guest.req_prod);
        wait_until("the unit has it", || remote.held() == 1);
        guest.domain.force_revoke(GrantRef(segment.gref));
        remote.release();
        assert_refused(&guest.answers()[0], "revoked in flight");
        let mut data = [0xee; 4096];
        page.share().copy_out(0, &mut data);
        assert_eq!(data, [0; 4096], "nothing reaches a page that was taken back");
        assert_eq!(guest.ask(&[nothing(lun(0))])[0].rslt, 0);
    }
}

/// Xen keeps a page for whoever has it mapped, so the guest only loses sight of it: the backend sees the old page, without what
/// the guest has put in its place, and lets go of it at the end.
#[test]
fn a_ring_page_that_is_taken_back_or_replaced_harms_its_guest_only() {
    for kind in KINDS {
        let mut other = Vhost::with_disk(kind);
        let mut vhost = Vhost::with_disk(kind);
        let mut guest = RawGuest::of(&mut vhost);
        assert_eq!(guest.ask(&[nothing(lun(0)); 3]).len(), 3);
        let ring_ref = vhost.frontend.ring_ref();
        guest.domain.force_revoke(ring_ref);
        assert_eq!(guest.ask(&[nothing(lun(0)); 3]).len(), 3, "what is mapped is mapped");
        // Another page under the same name, as if a ring had always been there.
        let replaced = HeapPage::new();
        assert_eq!(guest.domain.grant(&replaced, DomId(0), Access::ReadWrite), ring_ref);
        let old = std::mem::replace(&mut guest.page, replaced.share());
        for _ in 0..16 {
            guest.put(&nothing(lun(0)));
        }
        guest.show(guest.req_prod);
        guest.show(0xdead_beef);
        assert_eq!(RawGuest::of(&mut other).ask(&[nothing(lun(0))])[0].rslt, 0);
        // The worker has heard the bell when it answers what comes in the old page.
        (guest.page, guest.req_prod) = (old, guest.rsp_cons);
        assert_eq!(guest.ask(&[nothing(lun(0)); 16]).len(), 16);
        assert_eq!(replaced.share().load_u32(RSP_PROD, Ordering::Acquire), 0, "nobody has seen the new page");
        assert_eq!((guest.domain.grant_counts().maps, guest.domain.live_mappings()), (1, 1));
        vhost.end(0).unwrap();
    }
}

#[test]
fn bad_indirect_lists_are_refused() {
    let mut vhost = Vhost::with_disk(KINDS[0]);
    let mut guest = RawGuest::of(&mut vhost);
    let (list, data) = (HeapPage::new(), HeapPage::new());
    let entry = guest.segment(&data, Access::ReadWrite, 0, 36);
    let past = WireSegment { offset: 4090, length: 16, ..entry };
    let ungranted = WireSegment { gref: 511, ..entry };
    // Entries 0 and 1 are good together, 2 leaves its page, 3 is not granted; all others are empty.
    for (i, entry) in [
        WireSegment { length: 20, ..entry },
        WireSegment { offset: 20, length: 16, ..entry },
        past,
        ungranted,
    ]
    .iter()
    .enumerate()
    {
        list.share().copy_in(i * 8, entry.as_bytes());
    }
    for i in 4..512 {
        list.share().copy_in(i * 8, WireSegment { length: 0, ..entry }.as_bytes());
    }
    let area = guest.segment(&list, Access::ReadOnly, 0, 16);
    let ask = |areas: &[WireSegment]| indirect(inquiry(lun(0), areas));
    let at = |offset, length| WireSegment { offset, length, ..area };
    for (what, areas) in [
        ("a part of an entry", &[at(0, 12)][..]),
        ("a part of an entry in each", &[at(0, 4), at(4, 4)]),
        ("129 entries", &[at(0, 1032)]),
        ("129 entries in two areas", &[at(0, 1024), at(0, 8)]),
        ("13312 entries", &[at(0, 4096); 26]),
        ("an area past its page", &[at(4088, 16)]),
        ("an area behind its page", &[at(4096, 8)]),
        ("an entry past its page", &[at(16, 8)]),
        ("an entry that is not granted", &[at(24, 8)]),
    ] {
        refused_among_good(&mut guest, ask(areas), what);
    }
    for (what, areas) in
        [("no areas", &[][..]), ("an empty area", &[at(0, 0)]), ("empty entries", &[at(32, 1024)])]
    {
        let answer = guest.ask(&[ask(areas)])[0];
        assert_eq!((answer.rslt, answer.residual_len), (0, 0), "{what} is no data");
    }
    for areas in [&[at(0, 16)][..], &[at(0, 8), at(8, 8)], &[at(0, 16), at(32, 1008)]] {
        let answer = guest.ask(&[ask(areas)])[0];
        assert_eq!((answer.rslt, answer.residual_len), (0, 0), "a good list, in {} areas", areas.len());
    }
}

#[test]
fn a_producer_that_jumps_ends_its_worker_and_no_other() {
    for kind in KINDS {
        let mut other = Vhost::with_disk(kind);
        for jump in [17, 1000, u32::MAX] {
            let mut vhost = Vhost::with_disk(kind);
            let mut guest = RawGuest::of(&mut vhost);
            assert_eq!(guest.ask(&[nothing(lun(0)); 3]).len(), 3);
            guest.show(guest.req_prod.wrapping_add(jump));
            let mut ended = None;
            wait_until("the worker ends", || {
                ended = vhost.ended();
                ended.is_some()
            });
            let ended = ended.unwrap();
            assert!(matches!(&ended, WorkerError::Ring(error) if error.req_cons == 3), "{ended}");
            assert!(!guest.port.is_bound(), "its event channel is given back");
            assert_eq!(guest.domain.live_mappings(), 0);
        }
        assert_eq!(RawGuest::of(&mut other).ask(&[nothing(lun(0))])[0].rslt, 0);
    }
}

/// Random bytes, and with them requests that make sense for a moment, change under the worker's eyes.
#[test]
fn memory_that_changes_while_it_is_read_harms_nobody() {
    for (kind, from) in [(KINDS[0], RING_HEADER), (KINDS[1], RING_HEADER), (KINDS[0], 0)] {
        let mut vhost = Vhost::with_disk(kind);
        let mut guest = RawGuest::of(&mut vhost);
        let (list, data) = (HeapPage::new(), HeapPage::new());
        let entry = guest.segment(&data, Access::ReadWrite, 0, 4096);
        let area = guest.segment(&list, Access::ReadOnly, 0, 1024);
        for i in 0..128 {
            list.share().copy_in(i * 8, entry.as_bytes());
        }
        let request = indirect(write(lun(0), 8, &[area]));
        let over = AtomicBool::new(false);
        let ring = vhost.frontend.ring_page().share();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let table = list.share();
                let mut random = 1_u64;
                while !over.load(Ordering::Relaxed) {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let at = (random >> 33) as usize;
                    let byte = [(random >> 56) as u8];
                    ring.copy_in(from + at % (4096 - from), &byte);
                    table.copy_in(at % 1024, &byte);
                }
            });
            let end = Instant::now() + Duration::from_millis(400);
            // Longer on a machine that has no time for it.
            let enough = |guest: &RawGuest| from == 0 || guest.req_prod > 160;
            while (Instant::now() < end || !enough(&guest)) && vhost.ended().is_none() {
                (0..16).for_each(|_| guest.put(&request));
                guest.show(guest.req_prod);
                if from > 0 {
                    guest.wait_all();
                    guest.rsp_cons = guest.req_prod;
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        if from > 0 {
            assert!(vhost.ended().is_none(), "{kind:?}: indices were right all the time");
            // A byte may have made a reset of a request: its unit attentions are told first.
            let served = (0..8).any(|_| guest.ask(&[nothing(lun(0))])[0].rslt == 0);
            assert!(served, "{kind:?}: it still serves");
        }
        // With spoilt indices it may have ended, but by this error only; a panic shows at the end of the vhost.
        match vhost.end(0) {
            Ok(()) => {}
            Err(WorkerError::Ring(_)) => assert_eq!(from, 0),
            Err(error) => panic!("{kind:?}: {error}"),
        }
    }
}

#[test]
fn a_storm_of_events_without_work_is_no_work() {
    for kind in KINDS {
        let mut vhost = Vhost::with_disk(kind);
        let mut guest = RawGuest::of(&mut vhost);
        for _ in 0..100_000 {
            guest.port.raise_spurious(Way::ToBackend);
        }
        assert_eq!(guest.port.counts().to_guest, 0, "nothing to say");
        assert_eq!(guest.ask(&[nothing(lun(0))])[0].rslt, 0);
        std::thread::scope(|scope| {
            let storm = guest.port.clone();
            scope.spawn(move || (0..100_000).for_each(|_| storm.raise_spurious(Way::ToBackend)));
            for _ in 0..500 {
                assert_eq!(guest.ask(&[nothing(lun(0))])[0].rslt, 0);
            }
        });
    }
}

/// Nobody reads the answers; the worker goes on writing them, since the guest goes on asking.
#[test]
fn answers_that_nobody_takes_do_not_stop_the_ring() {
    let mut vhost = Vhost::with_disk(KINDS[0]);
    let mut guest = RawGuest::of(&mut vhost);
    for round in 0..100 {
        for i in 0..16 {
            guest.put(&WireRequest { rqid: round * 16 + i, ..nothing(lun(0)) });
        }
        guest.show(guest.req_prod);
        guest.wait_all();
        guest.rsp_cons = guest.req_prod;
    }
    assert_eq!(guest.page.load_u32(REQ_PROD, Ordering::Relaxed), 1600);
    let last: Vec<_> = (1584..1600).map(|index| guest.response(index)).collect();
    assert!(last.iter().all(|answer| answer.rslt == 0));
    assert!(last.iter().map(|answer| answer.rqid).eq(1584..1600));
}

#[test]
fn names_of_requests_are_echoed_whatever_they_are() {
    let (unit, remote) = scripted_lun();
    let mut vhost = Vhost::start(KINDS[0], vec![(lun(0), unit)]);
    let mut guest = RawGuest::of(&mut vhost);
    let mut held = with_segments(nothing(lun(0)), &[]);
    held.cmnd[..6].copy_from_slice(&HOLD);
    for rqid in [0xffff, 7, 7, 0xffff, 7] {
        guest.put(&WireRequest { rqid, ..held });
    }
    guest.show(guest.req_prod);
    wait_until("the unit has all", || remote.held() == 5);
    // One of the three is aborted; which one is nobody's business.
    guest.put(&WireRequest { rqid: 40_000, ..abort(lun(0), 7) });
    guest.show(guest.req_prod);
    wait_until("two answers", || guest.page.load_u32(RSP_PROD, Ordering::Acquire) == 2);
    remote.release();
    let answers = guest.answers();
    let mut names: Vec<_> = answers.iter().map(|answer| answer.rqid).collect();
    assert_eq!(names[..2], [7, 40_000], "the command, then the abort");
    names.sort_unstable();
    assert_eq!(names, [7, 7, 7, 40_000, 0xffff, 0xffff]);
}

/// The guest's memory is used the way that it said, and a disk does not do what that does not allow.
#[test]
fn a_direction_that_is_not_the_cdbs_moves_no_byte() {
    for kind in KINDS {
        let mut vhost = Vhost::with_disk(kind);
        let mut guest = RawGuest::of(&mut vhost);
        let page = HeapPage::new();
        page.share().copy_in(0, &[0xee; 4096]);
        let segment = guest.segment(&page, Access::ReadWrite, 0, 512);
        for (opcode, direction) in [
            (0x28, DIRECTION_TO_DEVICE),
            (0x28, DIRECTION_NONE),
            (0x2a, DIRECTION_FROM_DEVICE),
            (0x2a, DIRECTION_NONE),
        ] {
            let mut request = write(lun(0), 1, &[segment]);
            (request.cmnd[0], request.sc_data_direction) = (opcode, direction);
            let answer = guest.ask(&[request])[0];
            assert_eq!(
                (answer.rslt, answer.residual_len),
                (2, 512),
                "{opcode:#x} {direction}: refused by the disk"
            );
            let mut data = [0; 4096];
            page.share().copy_out(0, &mut data);
            assert_eq!(data, [0xee; 4096], "{opcode:#x} {direction}");
        }
        let mut read = write(lun(0), 1, &[segment]);
        (read.cmnd[0], read.sc_data_direction) = (0x28, DIRECTION_FROM_DEVICE);
        assert_eq!(guest.ask(&[read])[0].rslt, 0);
        let mut data = [0xff; 512];
        page.share().copy_out(0, &mut data);
        assert_eq!(data, [0; 512], "nothing was written to the disk");
    }
}

/// A direction of "none" is believed, whatever the CDB and the grants would allow.
#[test]
fn memory_of_a_command_without_data_is_not_written() {
    let mut vhost = Vhost::start(KINDS[0], vec![(lun(0), ram_disk())]);
    let mut guest = RawGuest::of(&mut vhost);
    let page = HeapPage::new();
    page.share().copy_in(0, &[0xee; 4096]);
    let segment = guest.segment(&page, Access::ReadWrite, 0, 4096);
    let mut request = inquiry(lun(0), &[segment]);
    request.sc_data_direction = DIRECTION_NONE;
    let answers = guest.ask(&[request, nothing(lun(0))]);
    assert_ne!(answers[0].rslt, 0, "INQUIRY without a way for its data");
    assert_eq!((answers[1].rslt, answers[1].sense_len), (0, 0), "a good answer has no sense data");
    let mut bytes = [0; 4096];
    page.share().copy_out(0, &mut bytes);
    assert_eq!(bytes, [0xee; 4096]);
    guest.domain.try_revoke(GrantRef(segment.gref)).unwrap();
}
