//! Giving blocks back, filling many with one, and which take space: UNMAP, WRITE SAME, GET LBA STATUS.

use super::cdb::Extent;
use super::medium::CHUNK;
use super::{EmulatedDisk, sense};
use crate::scsi::Sense;

/// Bytes of all descriptors of an UNMAP together, so that no command keeps the worker for long.
const MAX_UNMAP: u32 = 1 << 30;
/// Descriptors of an UNMAP.
pub(super) const MAX_UNMAP_DESCRIPTORS: u32 = 256;
/// Bytes that are freed together: a page.
const UNMAP_GRANULARITY: u32 = 4096;
/// Bytes of a WRITE SAME, which may all have to be written.
const MAX_WRITE_SAME: u32 = 32 << 20;
/// Descriptors in the answer to a GET LBA STATUS.
const MAX_STATUS_DESCRIPTORS: usize = 64;
/// Bytes in front of them, and of each.
const STATUS_HEADER: usize = 8;
const STATUS_DESCRIPTOR: usize = 16;

impl EmulatedDisk {
    pub(super) fn max_unmap_blocks(&self) -> u32 {
        self.block().blocks_of(MAX_UNMAP)
    }

    pub(super) fn unmap_granularity(&self) -> u32 {
        self.block().blocks_of(UNMAP_GRANULARITY)
    }

    pub(super) fn max_write_same_blocks(&self) -> u32 {
        self.block().blocks_of(MAX_WRITE_SAME)
    }

    /// UNMAP. The whole list is checked before anything is done. Where the file system knows no holes the blocks stay as
    /// they are, for UNMAP is a wish and not an order (SBC-4, 4.7).
    pub(super) fn unmap(&self, list: &[u8]) -> Result<usize, Sense> {
        let mut blocks = 0_u64;
        let mut count = 0_u32;
        for extent in descriptors(list)? {
            // No blocks are no error, wherever they are.
            if extent.blocks > 0 {
                self.locate(extent, u32::MAX)?;
            }
            blocks = blocks.saturating_add(extent.blocks.into());
            count = count.saturating_add(1);
        }
        if count > MAX_UNMAP_DESCRIPTORS || blocks > self.max_unmap_blocks().into() {
            return Err(Sense::INVALID_FIELD_IN_LIST);
        }
        for extent in descriptors(list)?.filter(|extent| extent.blocks > 0) {
            let offset = self.locate(extent, u32::MAX)?;
            self.medium
                .punch_hole(offset, extent.bytes(self.block()))
                .map_err(|error| sense::write_failed(&error, extent.lba))?;
        }
        Ok(list.len())
    }

    /// WRITE SAME of one block; an empty `block` stands for zeroes (NDOB). Zeroes with UNMAP become a hole; other data with
    /// UNMAP has to be written all the same, since a hole would not read as it (SBC-4, WRITE SAME (10)).
    pub(super) fn write_same(&self, extent: Extent, unmap: bool, block: &[u8]) -> Result<usize, Sense> {
        if extent.blocks == 0 {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        let offset = self.locate(extent, self.max_write_same_blocks())?;
        let (medium, len) = (&self.medium, extent.bytes(self.block()));
        let zeroes = block.iter().all(|byte| *byte == 0);
        let filled = match (zeroes, unmap) {
            (true, true) => medium
                .punch_hole(offset, len)
                .and_then(|done| if done { Ok(()) } else { medium.zero(offset, len) }),
            (true, false) => medium.zero(offset, len),
            (false, _) => {
                let times = CHUNK.checked_div(block.len()).unwrap_or(0);
                medium.fill(offset, len, &block.repeat(times))
            }
        };
        filled.map_err(|error| sense::write_failed(&error, extent.lba))?;
        Ok(block.len())
    }

    /// GET LBA STATUS: from `lba` on, as many descriptors as there is room for, at least one (SBC-4, GET LBA STATUS parameter
    /// data). RTP is 0, and the completion condition is not told.
    pub(super) fn lba_status(&self, lba: u64, allocation: usize) -> Result<Vec<u8>, Sense> {
        self.locate(Extent { lba, blocks: 0 }, 0)?;
        let room = allocation.saturating_sub(STATUS_HEADER) / STATUS_DESCRIPTOR;
        let mut descriptors = Vec::new();
        let mut lba = lba;
        for _ in 0..room.clamp(1, MAX_STATUS_DESCRIPTORS) {
            if lba >= self.medium.blocks() {
                break;
            }
            let (extent, deallocated) = self.status_at(lba)?;
            descriptors.extend(extent.lba.to_be_bytes());
            descriptors.extend(extent.blocks.to_be_bytes());
            descriptors.extend([u8::from(deallocated), 0, 0, 0]);
            lba = lba.saturating_add(extent.blocks.into());
        }
        let Ok(len) = u32::try_from(descriptors.len().saturating_add(4)) else {
            unreachable!("64 descriptors")
        };
        let mut data = len.to_be_bytes().to_vec();
        data.resize(STATUS_HEADER, 0);
        data.extend(descriptors);
        Ok(data)
    }

    /// Blocks from `lba` on that are alike, and whether they are deallocated: those that lie in a hole with every byte.
    fn status_at(&self, lba: u64) -> Result<(Extent, bool), Sense> {
        let end = self.medium.blocks();
        let block = self.block();
        // The last byte of a block decides where data ends, the first one where it begins.
        let last = u64::from(block.bytes()).saturating_sub(1);
        let data = self.medium.next_data(block.bytes_of(lba)).map_err(|_| sense::read_failed(lba))?;
        let data =
            data.map(|data| block.blocks_in(data.start)..block.blocks_in(data.end.saturating_add(last)));
        let (until, deallocated) = match data {
            None => (end, true),
            Some(data) if data.start > lba => (data.start, true),
            Some(data) => (data.end, false),
        };
        // The file may have changed between two looks at it, and the field has 32 bits.
        let blocks = until.min(end).saturating_sub(lba).clamp(1, u32::MAX.into());
        let Ok(blocks) = u32::try_from(blocks) else { unreachable!("clamped") };
        Ok((Extent { lba, blocks }, deallocated))
    }
}

/// The block descriptors of an UNMAP parameter list. One that is cut off, by either length in the list or by its end, is
/// left out; an empty list is fine, and one shorter than its header is not (SBC-4, UNMAP parameter list).
fn descriptors(list: &[u8]) -> Result<impl Iterator<Item = Extent>, Sense> {
    let body = match list {
        [] => &[][..],
        [l0, l1, d0, d1, _, _, _, _, rest @ ..] => {
            // The first length also counts the six bytes between it and the descriptors.
            let list_says = usize::from(u16::from_be_bytes([*l0, *l1])).saturating_sub(6);
            let descriptors_say = usize::from(u16::from_be_bytes([*d0, *d1]));
            rest.get(..list_says.min(descriptors_say)).unwrap_or(rest)
        }
        _ => return Err(Sense::PARAMETER_LIST_LENGTH_ERROR),
    };
    let (whole, _cut_off) = body.as_chunks::<16>();
    Ok(whole.iter().map(|[a, b, c, d, e, f, g, h, k, l, m, n, ..]| Extent {
        lba: u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
        blocks: u32::from_be_bytes([*k, *l, *m, *n]),
    }))
}
