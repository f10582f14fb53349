//! Any slot and any list of segments, against the rules of the protocol told once more.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use pvscsi_ring::vscsiif::{
    MAX_SEGMENTS, SLOT_SIZE, VSCSIIF_SG_GRANT, VSCSIIF_SG_TABLESIZE, WireRequest, WireSegment,
};
use pvscsi_ring::{Action, Refusal, Request, Segment, SegmentList};
use zerocopy::FromBytes;

#[derive(Arbitrary, Debug)]
struct Input {
    slot: [u8; SLOT_SIZE],
    /// Mostly in place of those in the slot: random segments would nearly all leave their page.
    segments: Option<Vec<(u8, u16, u16)>>,
    table: Vec<u8>,
}

fn fits(offset: u16, length: u16) -> bool {
    offset < 4096 && u32::from(offset) + u32::from(length) <= 4096
}

fn checked(list: &SegmentList, wanted: impl Iterator<Item = (u32, u16, u16)>) {
    let found =
        list.as_slice().iter().map(|segment: &Segment| (segment.gref(), segment.offset(), segment.length()));
    assert!(found.eq(wanted), "the segments, in order");
    let total: u64 = list.as_slice().iter().map(|segment| u64::from(segment.length())).sum();
    assert_eq!(u64::from(list.total()), total);
    assert!(list.as_slice().len() <= MAX_SEGMENTS && total <= 512 * 1024);
}

fn wire(segment: &WireSegment) -> (u32, u16, u16) {
    (segment.gref, segment.offset, segment.length)
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(input) = Input::arbitrary(&mut Unstructured::new(bytes)) else { return };
    let mut slot = WireRequest::read_from_bytes(&input.slot).expect("252 bytes");
    for (to, (gref, offset, length)) in slot.seg.iter_mut().zip(input.segments.iter().flatten()) {
        *to = WireSegment { gref: (*gref).into(), offset: *offset, length: *length };
    }
    let mut list = SegmentList::default();
    check_request(&slot, &mut list);
    check_table(&input.table, &mut list);
});

fn check_request(slot: &WireRequest, list: &mut SegmentList) {
    let count = usize::from(slot.nr_segments & !VSCSIIF_SG_GRANT);
    let indirect = slot.nr_segments & VSCSIIF_SG_GRANT != 0;
    let given = slot.seg.get(..count);
    let list_bytes: u32 = given.into_iter().flatten().map(|segment| u32::from(segment.length)).sum();
    let good = slot.sc_data_direction <= 3
        && slot.cmd_len <= 16
        && given.is_some_and(|given| {
            given.iter().all(|area| fits(area.offset, area.length) && (!indirect || area.length % 8 == 0))
        })
        && (!indirect || list_bytes <= 1024);
    let parsed = Request::parse(slot);
    match (slot.act, &parsed) {
        (1, Ok(Request { nexus, action: Action::Command(command) })) => {
            assert!(good, "{parsed:?}");
            assert_eq!((nexus.channel, nexus.id, nexus.lun), (slot.channel, slot.id, slot.lun));
            assert_eq!((command.cdb, command.cdb_len), (slot.cmnd, slot.cmd_len));
            assert_eq!((command.timeout_s, command.indirect), (slot.timeout_per_command, indirect));
            assert!(command.areas().len() <= VSCSIIF_SG_TABLESIZE);
            list.set(command.areas());
            checked(list, slot.seg[..count].iter().map(wire));
        }
        (1, Err(refusal)) => assert!(!good, "{refusal:?}"),
        (2, Ok(Request { action: Action::Abort { ref_rqid }, .. })) => assert_eq!(*ref_rqid, slot.ref_rqid),
        (3, Ok(Request { action: Action::Reset, .. })) => {}
        (act, Err(refusal)) => assert_eq!(*refusal, Refusal::Act(act)),
        (act, Ok(request)) => panic!("act {act} is {request:?}"),
    }
}

fn check_table(table: &[u8], list: &mut SegmentList) {
    let entries: Vec<_> = table
        .as_chunks::<8>()
        .0
        .iter()
        .map(|entry| WireSegment::read_from_bytes(entry).expect("8 bytes"))
        .collect();
    let good = entries.len() <= MAX_SEGMENTS && entries.iter().all(|entry| fits(entry.offset, entry.length));
    let set = list.set_from_table(table);
    assert_eq!(set.is_ok(), good, "{set:?}");
    if good {
        checked(list, entries.iter().map(wire));
    }
}
