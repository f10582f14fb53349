//! Bad requests in very large numbers: they cost time, and nothing that stays.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use pvscsi_guestmem::HeapPage;
use pvscsi_ring::vscsiif::{WireRequest, WireSegment};
use pvscsi_sim::Access;
use zerocopy::IntoBytes;

use crate::alone::{alone, count, resident_kib};
use crate::hostile::nonsense;
use crate::raw_guest::{RawGuest, assert_refused, indirect, inquiry, nothing, write};
use crate::vhost::{KINDS, Vhost, lun};

/// How many requests there are unless PVSCSI_BAD_REQUESTS says otherwise.
const REQUESTS: u64 = 1_000_000;
/// Sent before anything is measured, so that every buffer has its size.
const WARM_UP: u64 = 20_000;
/// By how much the process may have grown at the end: a request that leaves a single byte behind is twice that.
const GROWTH_KIB: u64 = 512;

/// Counts what goes to the log.
#[derive(Clone, Default)]
struct Lines(Arc<AtomicU64>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(bytes.iter().filter(|byte| **byte == b'\n').count() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Each kind of request that is refused: by its fields, by its list of segments, by its grants.
fn bad_requests(guest: &RawGuest, list: &HeapPage) -> Vec<WireRequest> {
    let ungranted = WireSegment { gref: 511, offset: 0, length: 512 };
    let area = guest.segment(list, Access::ReadOnly, 0, 8);
    let past_its_page = WireSegment { gref: area.gref, offset: 4090, length: 16 };
    list.share().copy_in(0, past_its_page.as_bytes());
    list.share().copy_in(8, ungranted.as_bytes());
    let mut all: Vec<_> = nonsense().into_iter().map(|(_, request)| request).collect();
    let lists = [
        ungranted,
        area,
        WireSegment { offset: 8, ..area },
        WireSegment { length: 7, ..area },
        WireSegment { length: 1032, ..area },
    ];
    all.extend(lists.map(|list| indirect(inquiry(lun(0), &[list]))));
    all.extend([1, 26].map(|segments| inquiry(lun(0), &vec![ungranted; segments])));
    all.extend([1, 26].map(|segments| write(lun(0), 1, &vec![ungranted; segments])));
    all
}

fn send(guest: &mut RawGuest, bad: &[WireRequest], requests: u64) -> u64 {
    let mut sent = 0;
    for batch in bad.chunks(16).cycle() {
        if sent >= requests {
            break;
        }
        for answer in guest.ask(batch) {
            assert_refused(&answer, "bad request");
        }
        sent += batch.len() as u64;
    }
    sent
}

#[test]
fn a_million_bad_requests_cost_nothing_that_stays() {
    alone("bad_requests::a_million_bad_requests_cost_nothing_that_stays", || {
        let requests = std::env::var("PVSCSI_BAD_REQUESTS").map_or(REQUESTS, |text| text.parse().unwrap());
        let lines = Lines::default();
        let log = lines.clone();
        tracing_subscriber::fmt().with_writer(move || log.clone()).init();
        let mut vhost = Vhost::with_disk(KINDS[0]);
        let mut guest = RawGuest::of(&mut vhost);
        let list = HeapPage::new();
        let bad = bad_requests(&guest, &list);
        send(&mut guest, &bad, WARM_UP);
        let held = |guest: &RawGuest| {
            (count("/proc/self/fd"), count("/proc/self/task"), guest.domain.live_mappings())
        };
        let (memory, before, start) = (resident_kib(), held(&guest), Instant::now());
        let sent = send(&mut guest, &bad, requests);
        let (took, after, lines) = (start.elapsed(), held(&guest), lines.0.load(Ordering::Relaxed));
        let grown = resident_kib().saturating_sub(memory);
        println!(
            "figures: {sent} bad requests of {} kinds in {:.1} s: memory {memory} KiB, then {grown} KiB more; descriptors, \
             threads and mappings {before:?}, then {after:?}; {lines} log lines",
            bad.len(),
            took.as_secs_f64(),
        );
        assert!(sent >= requests);
        assert!(grown < GROWTH_KIB, "{grown} KiB more than the {memory} KiB before");
        assert_eq!(before, after, "descriptors, threads, mappings");
        // Ten in a minute, and the first in the minute that had begun.
        let allowed = 10 * (took.as_secs() / 60 + 2);
        assert!((1..=allowed).contains(&lines), "{lines} lines in {took:?}");
        assert_eq!(guest.ask(&[nothing(lun(0))])[0].rslt, 0, "and it serves on");
    });
}
