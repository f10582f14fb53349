//! Data between the guest's pages and private buffers: one ioctl for all that a batch of requests moves one way.

use std::io;

use pvscsi_guestmem::PAGE_SIZE;
use pvscsi_ring::{Direction, Segment, SegmentList};
use pvscsi_sg::{Completion, Tag};
use pvscsi_xen::{CopyBatch, CopyStorage, DomId, GrantRef, GrantTable};

use crate::pending::PendingTable;

/// Bytes of the longest indirect list: 128 entries.
pub const LIST_BYTES: usize = 1024;

/// Segments that one round can move at most: 16 requests with 128 segments each.
const MAX_COPIES: usize = 16 * 128;

/// Moves data by grant copies.
#[derive(Debug)]
pub struct Mover {
    domid: DomId,
    storage: CopyStorage,
    /// Segments that each item of the batch has, in order.
    counts: Vec<(Tag, usize)>,
}

/// The guest named memory that it did not grant to us, or not this way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadGrant;

impl Mover {
    /// A mover for pages of `domid`.
    #[must_use]
    pub fn new(domid: DomId) -> Self {
        Self { domid, storage: CopyStorage::with_capacity(MAX_COPIES), counts: Vec::with_capacity(16) }
    }

    /// Copies the areas of one indirect list, one behind the other. Returns the bytes there are.
    pub fn fetch_list(
        &mut self,
        grants: &dyn GrantTable,
        areas: &[Segment],
        list: &mut [u8; LIST_BYTES],
    ) -> Result<usize, BadGrant> {
        let mut batch = self.storage.batch(self.domid);
        let room = list.len();
        let left = push(&mut batch, Direction::ToDevice, areas, list.as_mut_slice());
        if !batch.is_empty() {
            copy(grants, &mut batch).map_err(|_| BadGrant)?;
        }
        if batch.statuses().all(|status| status == 0) { Ok(room.saturating_sub(left)) } else { Err(BadGrant) }
    }

    /// Copies the data of all requests that are not submitted yet from the guest, and reports those whose memory is not there.
    pub fn fetch(&mut self, grants: &dyn GrantTable, table: &mut PendingTable, mut bad: impl FnMut(Tag)) {
        let mut batch = self.storage.batch(self.domid);
        self.counts.clear();
        for (tag, segments, buffer) in table.unfetched() {
            let before = batch.len();
            push(&mut batch, Direction::ToDevice, segments.as_slice(), buffer.as_mut_slice());
            self.counts.push((tag, batch.len().saturating_sub(before)));
        }
        settle(grants, &mut batch, &self.counts, &mut bad);
    }

    /// Copies what the device delivered to the guest, and reports the commands whose memory is not there.
    pub fn deliver(
        &mut self,
        grants: &dyn GrantTable,
        done: &mut [Completion],
        table: &PendingTable,
        mut bad: impl FnMut(Tag),
    ) {
        let mut batch = self.storage.batch(self.domid);
        self.counts.clear();
        for Completion { tag, outcome, buffer } in done {
            let Some((segments, direction)) = table.segments_if_pending(*tag) else { continue };
            let (Direction::FromDevice | Direction::Bidirectional, Some(buffer)) = (direction, buffer) else {
                continue;
            };
            if !outcome.may_bring_data() {
                continue;
            }
            // Only what the device wrote: the rest is an earlier command's.
            let residual = usize::try_from(outcome.residual).unwrap_or(usize::MAX);
            let delivered = buffer.len().saturating_sub(residual);
            let before = batch.len();
            let bytes = buffer.as_mut_slice().get_mut(..delivered).unwrap_or(&mut []);
            push(&mut batch, Direction::FromDevice, segments.as_slice(), bytes);
            self.counts.push((*tag, batch.len().saturating_sub(before)));
        }
        settle(grants, &mut batch, &self.counts, &mut bad);
    }
}

/// Adds copies between the areas and `bytes`, in order, until either ends. Returns the bytes not used.
fn push<'a>(
    batch: &mut CopyBatch<'a>,
    direction: Direction,
    areas: &[Segment],
    mut bytes: &'a mut [u8],
) -> usize {
    for area in areas {
        let len = usize::from(area.length()).min(bytes.len());
        if len == 0 {
            continue;
        }
        let (piece, rest) = bytes.split_at_mut(len);
        bytes = rest;
        match direction {
            Direction::FromDevice => batch.push_to_guest(GrantRef(area.gref()), area.offset(), piece),
            _ => batch.push_from_guest(GrantRef(area.gref()), area.offset(), piece),
        }
    }
    bytes.len()
}

fn copy(grants: &dyn GrantTable, batch: &mut CopyBatch<'_>) -> io::Result<()> {
    grants.copy(batch).inspect_err(|error| tracing::error!("grant copy as a whole failed: {error}"))
}

/// Copies the batch and tells whose segments failed.
fn settle(
    grants: &dyn GrantTable,
    batch: &mut CopyBatch<'_>,
    counts: &[(Tag, usize)],
    bad: &mut impl FnMut(Tag),
) {
    if batch.is_empty() {
        return;
    }
    // When the ioctl fails as a whole the statuses still say "error".
    let _ = copy(grants, batch);
    let mut statuses = batch.statuses();
    for (tag, count) in counts {
        let failed = statuses.by_ref().take(*count).filter(|status| *status != 0).count();
        if failed > 0 {
            bad(*tag);
        }
    }
}

/// Where in its first page a buffer should start, so that pages of the guest fall on whole pages of ours and each is one copy:
/// at the guest's own offset, if a device can transfer from there.
#[must_use]
pub fn start_of(segments: &SegmentList) -> usize {
    let offset = segments.as_slice().first().map_or(0, |first| usize::from(first.offset()));
    if offset.is_multiple_of(512) && offset < PAGE_SIZE { offset } else { 0 }
}
