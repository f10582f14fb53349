//! What the ring costs for each request, without data, devices or system calls.

mod slots;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use pvscsi_ring::vscsiif::{VSCSIIF_SG_GRANT, WireSegment};
use pvscsi_ring::{Request, SegmentList};
use slots::{Ring, slot};
use zerocopy::IntoBytes;

fn main() {
    divan::main();
}

/// [`Request::parse`] with as many segments in the slot.
#[divan::bench(args = [0, 1, 26], sample_size = 1000)]
fn parse_direct(bencher: Bencher<'_, '_>, segments: u8) {
    let slot = slot(segments, 4096);
    bencher.bench_local(|| Request::parse(black_box(&slot)));
}

/// [`Request::parse`] with a list in as many areas.
#[divan::bench(args = [1, 2], sample_size = 1000)]
fn parse_indirect(bencher: Bencher<'_, '_>, areas: u8) {
    let mut slot = slot(areas, 512);
    slot.nr_segments |= VSCSIIF_SG_GRANT;
    bencher.bench_local(|| Request::parse(black_box(&slot)));
}

/// The copy of an indirect list to checked segments.
#[divan::bench(args = [27, 128], sample_size = 1000)]
fn parse_list(bencher: Bencher<'_, '_>, entries: u32) {
    let table: Vec<u8> = (0..entries)
        .flat_map(|gref| WireSegment { gref, offset: 0, length: 4096 }.as_bytes().to_vec())
        .collect();
    let mut list = SegmentList::default();
    bencher.bench_local(|| list.set_from_table(black_box(&table)).is_ok());
}

/// Takes so many requests, answers all of them, and shows the answers to the guest.
#[divan::bench(args = [1, 16], sample_size = 1000)]
fn take_push_publish(bencher: Bencher<'_, '_>, requests: u32) {
    let mut ring = Ring::new();
    bencher.counter(ItemsCount::new(requests)).bench_local(|| ring.turn(requests));
}
