//! From the private copy of a slot to a request that makes sense, or to the reason why it does not.

use zerocopy::FromBytes;

use crate::vscsiif::{
    DIRECTION_BIDIRECTIONAL, DIRECTION_FROM_DEVICE, DIRECTION_NONE, DIRECTION_TO_DEVICE, MAX_SEGMENTS,
    VSCSIIF_ACT_SCSI_ABORT, VSCSIIF_ACT_SCSI_CDB, VSCSIIF_ACT_SCSI_RESET, VSCSIIF_MAX_COMMAND_SIZE,
    VSCSIIF_PAGE_SIZE, VSCSIIF_SG_GRANT, VSCSIIF_SG_TABLESIZE, WireRequest, WireSegment,
};

/// Virtual channel, target and LUN: the address of a device within one vhost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nexus {
    /// Channel.
    pub channel: u16,
    /// Target.
    pub id: u16,
    /// LUN.
    pub lun: u16,
}

/// Why a request is refused with a host error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `sc_data_direction` above 3.
    #[error("unknown data direction {0}")]
    Direction(u8),
    /// `cmd_len` above 16.
    #[error("CDB of {0} bytes")]
    CommandLength(u8),
    /// `act` is none of CDB, ABORT, RESET.
    #[error("unknown action {0}")]
    Act(u8),
    /// More segments, or more pages of an indirect list, than a request has room for.
    #[error("{0} segments in the request")]
    SegmentCount(u8),
    /// A segment that leaves its page.
    #[error("segment of {length} bytes at offset {offset} leaves its page")]
    Segment {
        /// Offset into the page.
        offset: u16,
        /// Length.
        length: u16,
    },
    /// An area of an indirect list that is not a whole number of entries.
    #[error("indirect list of {0} bytes")]
    ListLength(u16),
    /// An indirect list with more entries than `feature-sg-grant` allows.
    #[error("indirect list of {0} segments")]
    ListCount(u32),
}

/// Which way the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    Bidirectional,
    /// Guest to device.
    ToDevice,
    /// Device to guest.
    FromDevice,
    /// Nowhere.
    None,
}

/// An area that lies within one granted page, checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    gref: u32,
    offset: u16,
    length: u16,
}

impl Segment {
    fn check(wire: WireSegment) -> Result<Self, Refusal> {
        let WireSegment { gref, offset, length } = wire;
        let end = usize::from(offset).saturating_add(usize::from(length));
        if usize::from(offset) >= VSCSIIF_PAGE_SIZE || end > VSCSIIF_PAGE_SIZE {
            return Err(Refusal::Segment { offset, length });
        }
        Ok(Self { gref, offset, length })
    }

    /// The guest's grant reference; whether it is one, only the hypervisor knows.
    #[must_use]
    pub fn gref(&self) -> u32 {
        self.gref
    }

    /// Offset into the page, in bytes.
    #[must_use]
    pub fn offset(&self) -> u16 {
        self.offset
    }

    /// Length in bytes; may be 0.
    #[must_use]
    pub fn length(&self) -> u16 {
        self.length
    }
}

/// Room for the segments of one request, filled anew for each without allocating.
#[derive(Debug)]
pub struct SegmentList {
    segments: Box<[Segment; MAX_SEGMENTS]>,
    count: usize,
}

impl Default for SegmentList {
    fn default() -> Self {
        Self { segments: Box::new([Segment::default(); MAX_SEGMENTS]), count: 0 }
    }
}

impl SegmentList {
    /// Empties the list.
    pub fn clear(&mut self) {
        self.count = 0;
    }

    fn push(&mut self, segment: Segment) {
        let Some(room) = self.segments.get_mut(self.count) else {
            unreachable!("the count was checked first")
        };
        *room = segment;
        self.count = self.count.saturating_add(1);
    }

    /// Replaces the list by the segments of the request itself.
    pub fn set(&mut self, direct: &[Segment]) {
        self.clear();
        for segment in direct {
            self.push(*segment);
        }
    }

    /// Replaces the list by the entries of an indirect list: the private copy of its bytes.
    ///
    /// # Errors
    ///
    /// [`Refusal::Segment`] when an entry leaves its page, [`Refusal::ListCount`] when there are too many; the list is
    /// then of no use.
    pub fn set_from_table(&mut self, table: &[u8]) -> Result<(), Refusal> {
        self.clear();
        let (entries, _) = table.as_chunks::<{ size_of::<WireSegment>() }>();
        if entries.len() > MAX_SEGMENTS {
            return Err(Refusal::ListCount(u32::try_from(entries.len()).unwrap_or(u32::MAX)));
        }
        for entry in entries {
            let Ok(wire) = WireSegment::read_from_bytes(entry) else { unreachable!("8 bytes are an entry") };
            self.push(Segment::check(wire)?);
        }
        Ok(())
    }

    /// The segments.
    #[must_use]
    pub fn as_slice(&self) -> &[Segment] {
        self.segments.get(..self.count).unwrap_or(&[])
    }

    /// Sum of the lengths: the size of the command's buffer, at most 512 KiB.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.as_slice().iter().fold(0_u32, |sum, segment| sum.saturating_add(u32::from(segment.length)))
    }
}

/// A CDB with its data.
#[derive(Clone, Debug)]
pub struct ScsiRequest {
    /// The CDB; bytes behind `cdb_len` are whatever the guest's slot held.
    pub cdb: [u8; VSCSIIF_MAX_COMMAND_SIZE],
    /// Valid bytes, at most 16.
    pub cdb_len: u8,
    /// Which way the data goes.
    pub direction: Direction,
    /// The guest's own time limit in seconds; 0: none given.
    pub timeout_s: u16,
    /// Whether [`areas`](Self::areas) hold lists of segments instead of data.
    pub indirect: bool,
    areas: [Segment; VSCSIIF_SG_TABLESIZE],
    count: u8,
}

impl ScsiRequest {
    /// The data areas, or with [`indirect`](Self::indirect) the areas that hold the list of them: each a whole number
    /// of 8-byte entries, at most [`MAX_SEGMENTS`] in all.
    #[must_use]
    pub fn areas(&self) -> &[Segment] {
        self.areas.get(..usize::from(self.count)).unwrap_or(&[])
    }
}

/// What the guest wants done.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for each command")]
pub enum Action {
    /// Execute a CDB.
    Command(ScsiRequest),
    /// Abort the request of this name.
    Abort {
        /// Its `rqid`.
        ref_rqid: u16,
    },
    /// Reset the device.
    Reset,
}

/// A request that makes sense.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which device.
    pub nexus: Nexus,
    /// What to do with it.
    pub action: Action,
}

impl Request {
    /// Checks the private copy of a slot. Fields that the action does not use are not looked at: honest frontends leave
    /// old bytes there.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] that the guest is to be answered with.
    pub fn parse(wire: &WireRequest) -> Result<Self, Refusal> {
        let nexus = Nexus { channel: wire.channel, id: wire.id, lun: wire.lun };
        let action = match wire.act {
            VSCSIIF_ACT_SCSI_CDB => Action::Command(parse_command(wire)?),
            VSCSIIF_ACT_SCSI_ABORT => Action::Abort { ref_rqid: wire.ref_rqid },
            VSCSIIF_ACT_SCSI_RESET => Action::Reset,
            other => return Err(Refusal::Act(other)),
        };
        Ok(Self { nexus, action })
    }
}

fn parse_command(wire: &WireRequest) -> Result<ScsiRequest, Refusal> {
    let direction = match wire.sc_data_direction {
        DIRECTION_BIDIRECTIONAL => Direction::Bidirectional,
        DIRECTION_TO_DEVICE => Direction::ToDevice,
        DIRECTION_FROM_DEVICE => Direction::FromDevice,
        DIRECTION_NONE => Direction::None,
        other => return Err(Refusal::Direction(other)),
    };
    if usize::from(wire.cmd_len) > VSCSIIF_MAX_COMMAND_SIZE {
        return Err(Refusal::CommandLength(wire.cmd_len));
    }
    let indirect = wire.nr_segments & VSCSIIF_SG_GRANT != 0;
    let count = wire.nr_segments & !VSCSIIF_SG_GRANT;
    let Some(given) = wire.seg.get(..usize::from(count)) else { return Err(Refusal::SegmentCount(count)) };
    let mut areas = [Segment::default(); VSCSIIF_SG_TABLESIZE];
    let mut list_bytes = 0_u32;
    for (area, wire) in areas.iter_mut().zip(given) {
        *area = Segment::check(*wire)?;
        if indirect && !usize::from(wire.length).is_multiple_of(size_of::<WireSegment>()) {
            return Err(Refusal::ListLength(wire.length));
        }
        list_bytes = list_bytes.saturating_add(u32::from(wire.length));
    }
    let entries = list_bytes / 8;
    if indirect && usize::try_from(entries).is_ok_and(|entries| entries > MAX_SEGMENTS) {
        return Err(Refusal::ListCount(entries));
    }
    Ok(ScsiRequest {
        cdb: wire.cmnd,
        cdb_len: wire.cmd_len,
        direction,
        timeout_s: wire.timeout_per_command,
        indirect,
        areas,
        count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromZeros, IntoBytes};

    fn wire(act: u8) -> WireRequest {
        let mut wire = WireRequest::new_zeroed();
        wire.act = act;
        wire.cmd_len = 6;
        wire
    }

    fn seg(gref: u32, offset: u16, length: u16) -> WireSegment {
        WireSegment { gref, offset, length }
    }

    fn refusal(wire: &WireRequest) -> Refusal {
        Request::parse(wire).expect_err("to be refused")
    }

    #[test]
    fn unknown_actions_directions_and_lengths_are_refused() {
        for act in [0, 4, 5, 255] {
            assert_eq!(refusal(&wire(act)), Refusal::Act(act));
        }
        for direction in [4, 5, 128, 255] {
            let mut w = wire(1);
            w.sc_data_direction = direction;
            assert_eq!(refusal(&w), Refusal::Direction(direction));
        }
        for len in [17, 18, 255] {
            let mut w = wire(1);
            w.cmd_len = len;
            assert_eq!(refusal(&w), Refusal::CommandLength(len));
        }
        for len in [0, 16] {
            let mut w = wire(1);
            w.cmd_len = len;
            assert!(Request::parse(&w).is_ok(), "cmd_len {len}");
        }
    }

    #[test]
    fn more_than_26_segments_are_refused() {
        for n in 27..=127 {
            for flag in [0, VSCSIIF_SG_GRANT] {
                let mut w = wire(1);
                w.nr_segments = n | flag;
                assert_eq!(refusal(&w), Refusal::SegmentCount(n));
            }
        }
    }

    #[test]
    fn a_segment_stays_in_its_page() {
        for (offset, length, ok) in [
            (0, 4096, true),
            (4095, 1, true),
            (512, 3584, true),
            (0, 0, true),
            (4095, 0, true),
            (4096, 0, false),
            (4095, 2, false),
            (0, 4097, false),
            (1, 4096, false),
            (65535, 65535, false),
        ] {
            let mut w = wire(1);
            w.nr_segments = 1;
            w.seg[0] = seg(1, offset, length);
            assert_eq!(Request::parse(&w).is_ok(), ok, "offset {offset} length {length}");
            let mut list = SegmentList::default();
            assert_eq!(list.set_from_table(seg(1, offset, length).as_bytes()).is_ok(), ok);
        }
    }

    #[test]
    fn indirect_lists_are_whole_entries_and_at_most_128() {
        let indirect = |lengths: &[u16]| {
            let mut w = wire(1);
            w.nr_segments = VSCSIIF_SG_GRANT | lengths.len() as u8;
            for (s, length) in w.seg.iter_mut().zip(lengths) {
                *s = seg(9, 0, *length);
            }
            Request::parse(&w)
        };
        assert!(indirect(&[1024]).is_ok());
        assert!(indirect(&[512, 512]).is_ok());
        assert!(indirect(&[]).is_ok(), "0x80 is no data");
        assert!(indirect(&[0, 0]).is_ok(), "an empty list is no data");
        assert_eq!(indirect(&[1032]).unwrap_err(), Refusal::ListCount(129));
        assert_eq!(indirect(&[4096; 26]).unwrap_err(), Refusal::ListCount(13312));
        assert_eq!(indirect(&[12]).unwrap_err(), Refusal::ListLength(12));
    }

    #[test]
    fn the_total_is_the_sum_of_the_lengths() {
        let mut list = SegmentList::default();
        let table: Vec<u8> = (0..128).flat_map(|i| seg(i, 0, 4096).as_bytes().to_vec()).collect();
        list.set_from_table(&table).unwrap();
        assert_eq!(list.total(), 512 * 1024);
        assert_eq!(list.as_slice()[127].gref(), 127);
        list.set_from_table(seg(1, 100, 7).as_bytes()).unwrap();
        assert_eq!((list.total(), list.as_slice().len()), (7, 1), "a new list replaces the old one");
        let long: Vec<u8> = table.iter().chain(&table).copied().collect();
        assert_eq!(list.set_from_table(&long), Err(Refusal::ListCount(256)));
    }

    #[test]
    fn task_management_ignores_what_it_does_not_use() {
        let mut w = wire(2);
        w.ref_rqid = 77;
        w.sc_data_direction = 200;
        w.cmd_len = 99;
        w.nr_segments = 0x7f;
        assert!(matches!(Request::parse(&w).unwrap().action, Action::Abort { ref_rqid: 77 }));
        w.act = 3;
        assert!(matches!(Request::parse(&w).unwrap().action, Action::Reset));
    }
}
