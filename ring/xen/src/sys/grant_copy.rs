//! A batch of grant copies, laid out as the kernel wants it (Linux uapi/xen/gntdev.h,
//! `struct gntdev_grant_copy_segment`), so that a batch goes down in one ioctl without translation.
//!
//! The segments hold raw addresses. They are sound because a [`CopyBatch`] borrows every slice it was given for as long
//! as it lives, and the storage is emptied before the next batch starts.

use std::fmt;
use std::marker::PhantomData;

use crate::{DomId, GrantRef};

/// `GNTCOPY_source_gref` of Xen's grant_table.h: the source is a grant of the guest.
pub const GNTCOPY_SOURCE_GREF: u16 = 1;
/// `GNTCOPY_dest_gref` of Xen's grant_table.h: the destination is a grant of the guest.
pub const GNTCOPY_DEST_GREF: u16 = 2;
/// `GNTST_okay` of Xen's grant_table.h.
pub const GNTST_OKAY: i16 = 0;
/// `GNTST_general_error` of Xen's grant_table.h.
pub const GNTST_GENERAL_ERROR: i16 = -1;
/// `GNTST_bad_gntref` of Xen's grant_table.h.
pub const GNTST_BAD_GNTREF: i16 = -3;
/// `GNTST_permission_denied` of Xen's grant_table.h.
pub const GNTST_PERMISSION_DENIED: i16 = -8;

/// `foreign` member of the union in `struct gntdev_grant_copy_segment`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Foreign {
    /// Grant reference.
    pub gref: u32,
    /// Offset into the granted page.
    pub offset: u16,
    /// The domain that granted it.
    pub domid: u16,
}

/// The union `virt` or `foreign`.
#[repr(C)]
#[derive(Clone, Copy)]
pub union Pointer {
    /// An address of ours.
    pub virt: *mut u8,
    /// A place in a granted page.
    pub foreign: Foreign,
}

/// `struct gntdev_grant_copy_segment`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RawSegment {
    /// Where the bytes come from.
    pub source: Pointer,
    /// Where they go.
    pub dest: Pointer,
    /// Bytes to copy; the foreign side must not leave its page.
    pub len: u16,
    /// Which side is foreign.
    pub flags: u16,
    /// `GNTST_*`, set by the kernel.
    pub status: i16,
}

// SAFETY: a segment at rest holds addresses that nobody follows; they are used only while the CopyBatch lives that
// borrowed the memory behind them.
unsafe impl Send for RawSegment {}

/// Which way a segment's bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Out of the guest's page.
    FromGuest,
    /// Into the guest's page.
    ToGuest,
}

/// The memory of a batch, kept from one batch to the next so that none allocates.
#[derive(Default)]
pub struct CopyStorage(Vec<RawSegment>);

impl fmt::Debug for CopyStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyStorage").field("capacity", &self.0.capacity()).finish()
    }
}

impl CopyStorage {
    /// Room for `segments` segments without allocating.
    #[must_use]
    pub fn with_capacity(segments: usize) -> Self {
        Self(Vec::with_capacity(segments))
    }

    /// Starts an empty batch of copies from and to pages of `domid`.
    pub fn batch(&mut self, domid: DomId) -> CopyBatch<'_> {
        self.0.clear();
        CopyBatch { segments: &mut self.0, domid, _borrows: PhantomData }
    }
}

/// Copies that go to the hypervisor together.
pub struct CopyBatch<'a> {
    segments: &'a mut Vec<RawSegment>,
    domid: DomId,
    _borrows: PhantomData<&'a mut [u8]>,
}

impl fmt::Debug for CopyBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyBatch")
            .field("domid", &self.domid)
            .field("segments", &self.segments.len())
            .finish()
    }
}

/// One segment of a batch, as an implementation of [`crate::GrantTable`] in plain memory sees it.
#[derive(Debug)]
pub struct CopyOp<'a> {
    /// Which way.
    pub direction: Direction,
    /// The domain that granted the page.
    pub domid: DomId,
    /// The page.
    pub gref: GrantRef,
    /// Offset into the page.
    pub offset: u16,
    /// Our side: source or destination by `direction`.
    pub local: &'a mut [u8],
    /// To be set to a `GNTST_*` value.
    pub status: &'a mut i16,
}

impl<'a> CopyBatch<'a> {
    fn push(&mut self, direction: Direction, gref: GrantRef, offset: u16, virt: *mut u8, len: usize) {
        let end = len.checked_add(usize::from(offset)).filter(|&end| end <= pvscsi_guestmem::PAGE_SIZE);
        assert!(end.is_some(), "{len} bytes at {offset} leave the guest's page: checked by the caller");
        let Ok(len) = u16::try_from(len) else { unreachable!("a page has fewer than 65536 bytes") };
        let foreign = Pointer { foreign: Foreign { gref: gref.0, offset, domid: self.domid.0 } };
        let local = Pointer { virt };
        let (source, dest, flags) = match direction {
            Direction::FromGuest => (foreign, local, GNTCOPY_SOURCE_GREF),
            Direction::ToGuest => (local, foreign, GNTCOPY_DEST_GREF),
        };
        self.segments.push(RawSegment { source, dest, len, flags, status: GNTST_GENERAL_ERROR });
    }

    /// Adds a copy of `to.len()` bytes from `offset` in the guest's page to `to`.
    ///
    /// # Panics
    ///
    /// When the bytes leave the guest's page: one such segment would fail the whole batch (gntdev answers EINVAL), so
    /// the caller checks the guest's values first.
    pub fn push_from_guest(&mut self, gref: GrantRef, offset: u16, to: &'a mut [u8]) {
        self.push(Direction::FromGuest, gref, offset, to.as_mut_ptr(), to.len());
    }

    /// Adds a copy of `from` to `offset` in the guest's page.
    ///
    /// # Panics
    ///
    /// As [`push_from_guest`](Self::push_from_guest).
    pub fn push_to_guest(&mut self, gref: GrantRef, offset: u16, from: &'a mut [u8]) {
        self.push(Direction::ToGuest, gref, offset, from.as_mut_ptr(), from.len());
    }

    /// How many segments there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether there is nothing to copy.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The status of each segment, in the order they were added; `GNTST_general_error` until the batch was copied.
    pub fn statuses(&self) -> impl Iterator<Item = i16> + '_ {
        self.segments.iter().map(|segment| segment.status)
    }

    /// The segments for an implementation in plain memory.
    pub fn ops(&mut self) -> impl Iterator<Item = CopyOp<'_>> {
        self.segments.iter_mut().map(|segment| {
            let from_guest = segment.flags == GNTCOPY_SOURCE_GREF;
            let (foreign, local) =
                if from_guest { (segment.source, segment.dest) } else { (segment.dest, segment.source) };
            // SAFETY: `push` set `foreign` on the side that `flags` names.
            let foreign = unsafe { foreign.foreign };
            // SAFETY: `push` set `virt` on the other side.
            let virt = unsafe { local.virt };
            // SAFETY: address and length come from a `&'a mut [u8]` that the batch still borrows, and each segment has
            // its own slice.
            let local = unsafe { std::slice::from_raw_parts_mut(virt, usize::from(segment.len)) };
            CopyOp {
                direction: if from_guest { Direction::FromGuest } else { Direction::ToGuest },
                domid: DomId(foreign.domid),
                gref: GrantRef(foreign.gref),
                offset: foreign.offset,
                local,
                status: &mut segment.status,
            }
        })
    }

    pub(crate) fn raw(&mut self) -> &mut [RawSegment] {
        self.segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_keeps_its_segments_apart() {
        let mut storage = CopyStorage::with_capacity(4);
        let (mut a, mut b) = ([1_u8; 8], [2_u8; 16]);
        {
            let mut batch = storage.batch(DomId(5));
            batch.push_from_guest(GrantRef(7), 100, &mut a);
            batch.push_to_guest(GrantRef(9), 4080, &mut b);
            let seen: Vec<_> =
                batch.ops().map(|op| (op.direction, op.domid, op.gref, op.offset, op.local.len())).collect();
            assert_eq!(
                seen,
                [
                    (Direction::FromGuest, DomId(5), GrantRef(7), 100, 8),
                    (Direction::ToGuest, DomId(5), GrantRef(9), 4080, 16)
                ]
            );
            for op in batch.ops() {
                if op.direction == Direction::FromGuest {
                    op.local.fill(3);
                }
                *op.status = GNTST_OKAY;
            }
            assert!(batch.statuses().all(|s| s == GNTST_OKAY));
        }
        assert_eq!(a, [3; 8]);
        assert!(storage.batch(DomId(5)).is_empty(), "a new batch starts empty");
    }

    #[test]
    #[should_panic(expected = "leave the guest's page")]
    fn a_foreign_page_crossing_never_reaches_the_kernel() {
        let mut bytes = [0; 8];
        CopyStorage::default().batch(DomId(1)).push_from_guest(GrantRef(1), 4092, &mut bytes);
    }
}
