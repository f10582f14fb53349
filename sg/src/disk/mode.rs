//! MODE SENSE and MODE SELECT: what is settled about the disk. Only the write cache can be changed; nothing is saved.

use super::cdb::ModeSense;
use super::{EmulatedDisk, sense};
use crate::scsi::Sense;

/// Asks for all pages, or all subpages.
const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;

/// Page control (SPC-5, MODE SENSE (6) command).
const CURRENT: u8 = 0;
const CHANGEABLE: u8 = 1;
const SAVED: u8 = 3;

/// WCE, in byte 2 of the Caching page (SBC-4, Caching mode page).
const WCE: u8 = 0x04;
/// SPF, in byte 0 of a page that has subpages.
const SPF: u8 = 0x40;

/// A mode page: its default values, and which bits of them can be changed.
struct Page {
    code: u8,
    default: &'static [u8],
    changeable: &'static [u8],
}

/// Caching page: WCE, since writes stay in the page cache until a sync.
const CACHING: Page = Page {
    code: 0x08,
    default: &[WCE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    changeable: &[WCE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
};
/// Control page: fixed format sense, commands may be reordered (SPC-5, Control mode page).
const CONTROL: Page =
    Page { code: 0x0a, default: &[0x00, 0x10, 0, 0, 0, 0, 0, 0, 0, 0], changeable: &[0; 10] };

/// In ascending order of page code, as [`ALL_PAGES`] gives them.
const PAGES: [Page; 2] = [CACHING, CONTROL];

impl EmulatedDisk {
    /// Header, block descriptor and pages.
    pub(super) fn mode_sense(&self, asked: ModeSense) -> Result<Vec<u8>, Sense> {
        if asked.control == SAVED {
            return Err(sense::SAVING_NOT_SUPPORTED);
        }
        let pages = self.pages(asked)?;
        let descriptor = if asked.block_descriptor { self.block_descriptor().to_vec() } else { Vec::new() };
        let mut data = self.header(asked.ten, descriptor.len(), pages.len());
        data.extend(descriptor);
        data.extend(pages);
        Ok(data)
    }

    /// SPC-5, Mode parameter header; DPOFUA and WP are SBC-4's device specific parameter. The length counts what comes
    /// behind the length itself.
    fn header(&self, ten: bool, descriptor: usize, pages: usize) -> Vec<u8> {
        let device_specific = if self.medium.is_read_only() { 0x90 } else { 0x10 };
        let head: usize = if ten { 6 } else { 3 };
        let sum = head.saturating_add(descriptor).saturating_add(pages);
        let (Ok(len), Ok(descriptor)) = (u8::try_from(sum), u8::try_from(descriptor)) else {
            unreachable!("mode data of {sum} bytes")
        };
        if ten {
            vec![0, len, 0, device_specific, 0, 0, 0, descriptor]
        } else {
            vec![len, 0, device_specific, descriptor]
        }
    }

    /// Short LBA mode parameter block descriptor; FFFFFFFFh when there are more blocks (SBC-4).
    fn block_descriptor(&self) -> [u8; 8] {
        let blocks = u32::try_from(self.medium.blocks()).unwrap_or(u32::MAX);
        let ([a, b, c, d], [_, x, y, z]) = (blocks.to_be_bytes(), self.block().bytes().to_be_bytes());
        [a, b, c, d, 0, x, y, z]
    }

    /// The pages that were asked for. None has subpages, so "all subpages" gives subpage 0, and any other is unknown.
    fn pages(&self, asked: ModeSense) -> Result<Vec<u8>, Sense> {
        let mut data = Vec::new();
        for page in PAGES.iter().filter(|page| asked.page == page.code || asked.page == ALL_PAGES) {
            let values = self.values(page, asked.control);
            data.extend([page.code, page.len()]);
            data.extend(values);
        }
        if data.is_empty() || !matches!(asked.subpage, 0x00 | ALL_SUBPAGES) {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        Ok(data)
    }

    /// What stands behind the head of a page.
    fn values(&self, page: &Page, control: u8) -> Vec<u8> {
        if control == CHANGEABLE {
            return page.changeable.to_vec();
        }
        let mut values = page.default.to_vec();
        if control == CURRENT && page.code == CACHING.code && !self.write_cache {
            values.iter_mut().take(1).for_each(|byte| *byte &= !WCE);
        }
        values
    }

    /// MODE SELECT. The whole list is checked before anything is changed; a list of no bytes changes nothing. What is in the
    /// cache is saved before there is none any more (SBC-4, Caching mode page, WCE).
    pub(super) fn mode_select(&mut self, ten: bool, list: &[u8]) -> Result<usize, Sense> {
        let write_cache = self.selected(ten, list)?;
        if self.write_cache && !write_cache {
            self.sync(0)?;
        }
        self.write_cache = write_cache;
        Ok(list.len())
    }

    /// WCE as a parameter list wants it (SPC-5, Mode parameter list format). DEVICE-SPECIFIC PARAMETER is not looked at: WP
    /// and DPOFUA cannot be selected (SBC-4).
    fn selected(&self, ten: bool, list: &[u8]) -> Result<bool, Sense> {
        let mut write_cache = self.write_cache;
        let (medium_type, long_lba, descriptor_len, rest) = match (ten, list) {
            (_, []) => return Ok(write_cache),
            (false, [_, medium_type, _, len, rest @ ..]) => (*medium_type, 0, u16::from(*len), rest),
            (true, [_, _, medium_type, _, long_lba, _, high, low, rest @ ..]) => {
                (*medium_type, *long_lba & 0x01, u16::from_be_bytes([*high, *low]), rest)
            }
            _ => return Err(Sense::PARAMETER_LIST_LENGTH_ERROR),
        };
        if medium_type != 0 || long_lba != 0 || !matches!(descriptor_len, 0 | 8) {
            return Err(Sense::INVALID_FIELD_IN_LIST);
        }
        let cut_off = Sense::PARAMETER_LIST_LENGTH_ERROR;
        let (descriptor, mut pages) = rest.split_at_checked(descriptor_len.into()).ok_or(cut_off)?;
        self.check_block_descriptor(descriptor)?;
        while let [code, rest @ ..] = pages {
            let [len, rest @ ..] = rest else { return Err(cut_off) };
            // PS, the upper bit, is reserved here.
            let page = PAGES.iter().find(|page| *code & SPF == 0 && *code & ALL_PAGES == page.code);
            let page = page.filter(|page| *len == page.len()).ok_or(Sense::INVALID_FIELD_IN_LIST)?;
            let (values, rest) = rest.split_at_checked((*len).into()).ok_or(cut_off)?;
            let current = self.values(page, CURRENT);
            let unchanged = |((new, old), mask): ((&u8, &u8), &u8)| (new ^ old) & !mask == 0;
            if !values.iter().zip(&current).zip(page.changeable).all(unchanged) {
                return Err(Sense::INVALID_FIELD_IN_LIST);
            }
            if page.code == CACHING.code {
                write_cache = values.first().is_some_and(|byte| byte & WCE != 0);
            }
            pages = rest;
        }
        Ok(write_cache)
    }

    /// Neither size nor blocks can be changed; 0 stands for the number of blocks as it is, FFFFFFFFh for as many as there can be
    /// (SBC-4, Short LBA mode parameter block descriptor).
    fn check_block_descriptor(&self, descriptor: &[u8]) -> Result<(), Sense> {
        let own = self.block_descriptor();
        let blocks_may_be = [&own[..4], &[0; 4], &[0xff; 4]];
        let is_own = descriptor
            .split_at_checked(4)
            .is_some_and(|(blocks, rest)| blocks_may_be.contains(&blocks) && rest == &own[4..]);
        if descriptor.is_empty() || is_own { Ok(()) } else { Err(Sense::INVALID_FIELD_IN_LIST) }
    }
}

impl Page {
    /// PAGE LENGTH.
    fn len(&self) -> u8 {
        let Ok(len) = u8::try_from(self.default.len()) else { unreachable!("pages of 18 bytes at most") };
        len
    }
}
