//! What the ring costs for each request, without data, devices or system calls.

use std::sync::atomic::Ordering;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use pvscsi_guestmem::HeapPage;
use pvscsi_ring::vscsiif::{
    DIRECTION_FROM_DEVICE, REQ_PROD, VSCSIIF_ACT_SCSI_CDB, VSCSIIF_SG_GRANT, WireRequest, WireSegment,
};
use pvscsi_ring::{Answer, BackRing, Request, SegmentList};
use zerocopy::{FromZeros, IntoBytes};

fn main() {
    divan::main();
}

/// A READ (10) with so many entries of `seg` used.
fn slot(count: u8, length: u16) -> WireRequest {
    let mut slot = WireRequest::new_zeroed();
    slot.act = VSCSIIF_ACT_SCSI_CDB;
    slot.cmd_len = 10;
    slot.cmnd[0] = 0x28;
    slot.sc_data_direction = DIRECTION_FROM_DEVICE;
    slot.nr_segments = count;
    for (gref, segment) in (8..).zip(&mut slot.seg) {
        *segment = WireSegment { gref, offset: 0, length };
    }
    slot
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
    let page = HeapPage::new();
    let guest = page.share();
    let mut ring = BackRing::attach(page.share(), 0);
    let mut tickets = Vec::with_capacity(16);
    let mut req_prod = 0_u32;
    bencher.counter(ItemsCount::new(requests)).bench_local(|| {
        req_prod = req_prod.wrapping_add(requests);
        guest.store_u32(REQ_PROD, req_prod, Ordering::Release);
        while let Some((ticket, slot)) = ring.take().expect("an honest index") {
            black_box(&slot);
            tickets.push(ticket);
        }
        for ticket in tickets.drain(..) {
            ring.push(ticket, &Answer::command(0, 0, &[], 0));
        }
        ring.publish()
    });
}
