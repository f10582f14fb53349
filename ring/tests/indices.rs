//! The arithmetic of the indices, tried out in full: a ring of 16 slots at every distance from the wrap that matters, against the
//! same rules with numbers that do not wrap.

use std::sync::atomic::Ordering::Relaxed;

use pvscsi_guestmem::{HeapPage, SharedPage};
use pvscsi_ring::vscsiif::{REQ_PROD, RING_SLOTS, RSP_EVENT, RSP_PROD};
use pvscsi_ring::{Answer, BackRing, RingError};

const SLOTS: u64 = RING_SLOTS as u64;

/// Where rings start: two ringfuls before the wrap to just behind it, and far from it. The numbers are high enough to go back from.
fn starts() -> impl Iterator<Item = u64> {
    let wrap = 2_u64 << 32;
    (wrap - 40..wrap + 8).chain([wrap + (1 << 31) - 8, wrap + (1 << 31)])
}

/// The guest's jumps from `req_cons`: everything near, and the ends of 32 bits.
fn jumps() -> impl Iterator<Item = i64> {
    (-40..=40).chain([i64::from(i32::MIN), i64::from(i32::MAX), 1000, -1000])
}

/// An index as it is on the wire.
fn wire(index: u64) -> u32 {
    (index & 0xffff_ffff) as u32
}

/// A ring on which `taken` requests were taken since `start`, and `answered` of them were answered and published.
fn ring(start: u64, taken: u64, answered: u64) -> (SharedPage, BackRing) {
    let page = HeapPage::new();
    let guest = page.share();
    let mut ring = BackRing::attach(page.share(), wire(start));
    guest.store_u32(REQ_PROD, wire(start + taken), Relaxed);
    let mut tickets = Vec::new();
    while let Some((ticket, _)) = ring.take().unwrap() {
        tickets.push(ticket);
    }
    assert_eq!(tickets.len() as u64, taken);
    for ticket in tickets.drain(..answered as usize) {
        ring.push(ticket, &Answer::TASK_DONE);
    }
    ring.publish();
    tickets.into_iter().for_each(pvscsi_ring::Ticket::abandon);
    (guest, ring)
}

/// A producer index is taken if it claims requests that there is room for, else it is an error that names all three indices.
#[test]
fn every_jump_of_the_producer_is_judged_as_without_wrap() {
    let (mut accepted, mut refused) = (0, 0);
    for start in starts() {
        for taken in 0..=SLOTS {
            for answered in 0..=taken {
                let (guest, mut ring) = ring(start, taken, answered);
                assert_eq!(u64::from(ring.outstanding()), taken - answered);
                for jump in jumps() {
                    let (req_cons, req_prod) =
                        (start + taken, (start + taken).checked_add_signed(jump).unwrap());
                    guest.store_u32(REQ_PROD, wire(req_prod), Relaxed);
                    let possible = req_prod >= req_cons && req_prod - (start + answered) <= SLOTS;
                    let expected = if possible {
                        accepted += 1;
                        Ok(jump > 0)
                    } else {
                        refused += 1;
                        let answered = wire(start + answered);
                        Err(RingError { req_prod: wire(req_prod), req_cons: wire(req_cons), answered })
                    };
                    let found = ring.final_check();
                    assert_eq!(found, expected, "{start:#x} + {taken}, {answered} answered, jump {jump}");
                }
            }
        }
    }
    assert!(
        accepted > 10_000 && refused > 10_000,
        "{accepted} accepted and {refused} refused: both are tried"
    );
}

/// As many can be taken as were shown, and once more when those are answered.
#[test]
fn a_possible_jump_brings_as_many_requests() {
    for start in starts() {
        for taken in 0..=SLOTS {
            for answered in 0..=taken {
                for more in 0..=SLOTS - (taken - answered) {
                    let (guest, mut ring) = ring(start, taken, answered);
                    guest.store_u32(REQ_PROD, wire(start + taken + more), Relaxed);
                    let mut count = 0;
                    while let Some((ticket, _)) = ring.take().unwrap() {
                        count += 1;
                        ticket.abandon();
                    }
                    assert_eq!(count, more, "{start:#x} + {taken}, {answered} answered");
                    assert_eq!(u64::from(ring.outstanding()), taken - answered + more);
                }
            }
        }
    }
}

/// The guest is rung when what is published passes its threshold, and only then.
#[test]
fn every_threshold_is_judged_as_without_wrap() {
    for start in starts() {
        for count in 1..=SLOTS {
            for threshold in -20..=20 {
                let (guest, mut ring) = ring(start, 0, 0);
                guest.store_u32(REQ_PROD, wire(start + count), Relaxed);
                while let Some((ticket, _)) = ring.take().unwrap() {
                    ring.push(ticket, &Answer::TASK_DONE);
                }
                let event = start.checked_add_signed(threshold).unwrap();
                guest.store_u32(RSP_EVENT, wire(event), Relaxed);
                let passed = start < event && event <= start + count;
                assert_eq!(ring.publish(), passed, "{count} from {start:#x}, threshold at {threshold}");
                assert_eq!(guest.load_u32(RSP_PROD, Relaxed), wire(start + count));
            }
        }
    }
}
