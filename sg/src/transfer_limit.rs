//! A disk whose host adapter takes less in one command than a guest would send.

use crate::filtered::{Filter, Filtered, Verdict};
use crate::logical_unit::{Command, Completion, LogicalUnit, deliver};
use crate::scsi::{HostStatus, Outcome, SamStatus};

/// INQUIRY, EVPD, and the pages that are looked at (SPC-5, 6.7; SBC-4, Block Limits VPD page).
const INQUIRY: u8 = 0x12;
const SUPPORTED_PAGES: u8 = 0x00;
const BLOCK_LIMITS: u8 = 0xb0;
/// Bytes of a Block Limits page.
const PAGE: usize = 64;

/// A unit in front of a disk that tells the guest how much fits one command: MAXIMUM TRANSFER LENGTH in the Block Limits page, which
/// is made up where the disk has none. Without that the guest's large commands would fail.
pub type TransferLimit = Filtered<Limits>;

/// The rules of [`TransferLimit`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    device_type: u8,
    /// Blocks in a command.
    blocks: u32,
}

impl TransferLimit {
    /// Puts itself in front of a disk that takes so many blocks in a command.
    #[must_use]
    pub fn new(unit: Box<dyn LogicalUnit>, blocks: u32) -> Self {
        Self::behind(Limits { device_type: unit.device_type(), blocks: blocks.max(1) }, unit)
    }
}

impl Filter for Limits {
    /// A page, and how much of it.
    type Asked = (u8, u16);

    fn look_at(&mut self, command: &Command) -> Verdict<(u8, u16)> {
        match command.cdb.padded() {
            [INQUIRY, evpd, page @ (SUPPORTED_PAGES | BLOCK_LIMITS), high, low, ..] if evpd & 1 != 0 => {
                Verdict::Changed((*page, u16::from_be_bytes([*high, *low])))
            }
            _ => Verdict::Passes,
        }
    }

    fn change(&self, (page, allocated): (u8, u16), answer: &mut Completion) {
        match page {
            SUPPORTED_PAGES => add_page(answer, allocated),
            _ => self.set_limits(answer, allocated),
        }
    }
}

impl Limits {
    fn set_limits(&self, completion: &mut Completion, allocated: u16) {
        let mut page = [0; PAGE];
        let delivered = copy_out(completion, &mut page);
        let is_page = delivered >= 16 && page[1] == BLOCK_LIMITS;
        // INVALID FIELD IN CDB: there is no such page.
        let has_none = completion.outcome.sense.key_asc_ascq() == Some((0x05, 0x24, 0x00));
        if !is_page {
            if !has_none {
                return;
            }
            page = [0; PAGE];
            (page[0], page[1], page[3]) = (self.device_type, BLOCK_LIMITS, 0x3c);
        }
        let field = |page: &[u8; PAGE], at: usize| {
            page.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
        };
        // MAXIMUM TRANSFER LENGTH, of which 0 is none; OPTIMAL TRANSFER LENGTH, of which 0 is unknown.
        let (maximum, optimal) = (field(&page, 8), field(&page, 12));
        let maximum = if maximum == 0 { self.blocks } else { maximum.min(self.blocks) };
        page[8..12].copy_from_slice(&maximum.to_be_bytes());
        page[12..16].copy_from_slice(&optimal.min(maximum).to_be_bytes());
        let length = if is_page { delivered } else { PAGE };
        copy_in(completion, page.get(..length).unwrap_or(&page), allocated);
    }
}

/// Puts [`BLOCK_LIMITS`] into a list of pages that does not have it; pages are in ascending order (SPC-5, Supported VPD Pages).
fn add_page(completion: &mut Completion, allocated: u16) {
    let mut list = [0; 4 + 256];
    let delivered = copy_out(completion, &mut list);
    let pages = usize::from(u16::from_be_bytes([list[2], list[3]])).min(255);
    let whole = delivered == pages.saturating_add(4) && list[1] == SUPPORTED_PAGES;
    let place = list.iter().skip(4).take(pages).position(|page| *page >= BLOCK_LIMITS).unwrap_or(pages);
    let at = place.saturating_add(4);
    if !whole || (place < pages && list.get(at) == Some(&BLOCK_LIMITS)) {
        return;
    }
    let end = delivered.saturating_add(1);
    if let Some(behind) = list.get_mut(at..end) {
        behind.rotate_right(1);
        behind.iter_mut().take(1).for_each(|page| *page = BLOCK_LIMITS);
    }
    let length = u16::try_from(pages.saturating_add(1)).unwrap_or(u16::MAX);
    list[2..4].copy_from_slice(&length.to_be_bytes());
    copy_in(completion, list.get(..end).unwrap_or(&list), allocated);
}

/// What the device delivered, as far as there is room for it; how much that is. Nothing after an error.
fn copy_out(completion: &Completion, to: &mut [u8]) -> usize {
    let Outcome { status, host, residual, .. } = completion.outcome;
    let Some(buffer) = &completion.buffer else { return 0 };
    if status != SamStatus::GOOD || host != HostStatus::OK {
        return 0;
    }
    let delivered =
        buffer.len().saturating_sub(usize::try_from(residual).unwrap_or(usize::MAX)).min(to.len());
    for (to, from) in to.iter_mut().zip(buffer.as_slice()).take(delivered) {
        *to = *from;
    }
    delivered
}

/// Delivers these bytes in place of the device's.
fn copy_in(completion: &mut Completion, data: &[u8], allocated: u16) {
    if completion.buffer.is_some() {
        completion.outcome = deliver(data.iter().copied(), allocated.into(), completion.buffer.as_mut());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pvscsi_guestmem::BufferPool;

    use super::*;
    use crate::filtered::fake::Fake;
    use crate::logical_unit::Tag;
    use crate::scsi::{Cdb, DataDirection, Sense};

    /// A disk with one page; all others are an invalid field.
    fn paged(has: Vec<u8>) -> Box<dyn LogicalUnit> {
        let answer = move |command: &mut Command| {
            let cdb = command.cdb.padded();
            let allocated = usize::from(u16::from_be_bytes([cdb[3], cdb[4]]));
            let buffer = command.buffer.as_mut().unwrap();
            if has.get(1) == Some(&cdb[2]) {
                let sent = has.len().min(allocated).min(buffer.len());
                buffer.as_mut_slice()[..sent].copy_from_slice(&has[..sent]);
                Outcome::good((buffer.len() - sent) as u32)
            } else {
                Outcome::check_condition(Sense::fixed(0x05, 0x24, 0), buffer.len() as u32)
            }
        };
        Box::new(Fake { device_type: 0, answer })
    }

    /// What a disk with this page says when it is asked for one, with so much room.
    fn ask(has: &[u8], page: u8, allocated: u8, blocks: u32) -> (Outcome, Vec<u8>) {
        let mut unit = TransferLimit::new(paged(has.to_vec()), blocks);
        let buffer = BufferPool::new(1).unwrap().take(0, 255);
        let cdb = Cdb::from_bytes(&[0x12, 1, page, 0, allocated, 0]);
        let command = Command {
            tag: Tag(3),
            cdb,
            direction: DataDirection::FromDevice,
            buffer,
            timeout: Duration::ZERO,
        };
        let mut done = Vec::new();
        unit.submit(command, &mut done);
        assert!(unit.asked.is_empty());
        let Completion { outcome, buffer, .. } = done.remove(0);
        let delivered = 255 - outcome.residual as usize;
        (outcome, buffer.unwrap().as_slice()[..delivered].to_vec())
    }

    fn limits(maximum: u32, optimal: u32) -> Vec<u8> {
        let mut page = vec![0, 0xb0, 0, 0x3c, 1, 2, 3, 4];
        page.extend([maximum, optimal].map(u32::to_be_bytes).concat());
        page.resize(64, 0xaa);
        page
    }

    #[test]
    fn the_limit_is_the_smaller_one_and_the_rest_of_the_page_stays() {
        for (has, optimal, wanted) in [(0, 0, (240, 0)), (65_535, 1024, (240, 240)), (128, 64, (128, 64))] {
            let (outcome, page) = ask(&limits(has, optimal), 0xb0, 255, 240);
            assert_eq!(outcome.status, SamStatus::GOOD);
            assert_eq!(page, limits(wanted.0, wanted.1), "{has}, {optimal}");
        }
        let (_, page) = ask(&limits(0, 0), 0xb0, 18, 240);
        assert_eq!(page, limits(240, 0)[..18], "as much as was asked for");
        let (_, page) = ask(&limits(0, 0), 0xb0, 10, 240);
        assert_eq!(page, limits(0, 0)[..10], "too little to tell");
    }

    #[test]
    fn a_disk_without_the_page_gets_one() {
        let list = [0, 0x00, 0, 3, 0x00, 0x80, 0xb1];
        let (outcome, page) = ask(&list, 0xb0, 255, 240);
        let mut made_up = vec![0, 0xb0, 0, 0x3c, 0, 0, 0, 0, 0, 0, 0, 240];
        made_up.resize(64, 0);
        assert_eq!((outcome.sense, page), (Sense::NONE, made_up));
        let (_, pages) = ask(&list, 0x00, 255, 240);
        assert_eq!(pages, [0, 0x00, 0, 4, 0x00, 0x80, 0xb0, 0xb1]);
        let (_, pages) = ask(&[0, 0x00, 0, 2, 0x00, 0x83], 0x00, 255, 240);
        assert_eq!(pages, [0, 0x00, 0, 3, 0x00, 0x83, 0xb0]);
        let (_, pages) = ask(&[0, 0x00, 0, 2, 0x00, 0x83], 0x00, 6, 240);
        assert_eq!(pages, [0, 0x00, 0, 3, 0x00, 0x83], "the length says that there is more");
    }

    #[test]
    fn what_has_the_page_or_is_none_stays_as_it_is() {
        for has in [&[0, 0x00, 0, 2, 0x00, 0xb0][..], &[0, 0x00, 0, 9, 0x00, 0x80], &[0, 0x00]] {
            assert_eq!(ask(has, 0x00, 255, 240).1, has, "{has:02x?}");
        }
        let (outcome, page) = ask(&[0, 0x83, 0, 1, 7], 0x83, 255, 240);
        assert_eq!((outcome.residual, page), (250, vec![0, 0x83, 0, 1, 7]), "another page");
        let (outcome, _) = ask(&[0, 0x83, 0, 1, 7], 0x80, 255, 240);
        assert_eq!(outcome.sense.key_asc_ascq(), Some((0x05, 0x24, 0)), "one that it does not have");
    }
}
