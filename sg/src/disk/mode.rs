//! MODE SENSE: what is settled about the disk. Nothing can be changed, so there is no MODE SELECT.

use super::cdb::ModeSense;
use super::{BLOCK_SIZE, EmulatedDisk, sense};
use crate::scsi::Sense;

/// Asks for all pages, or all subpages.
const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;

/// Page control (SPC-5, MODE SENSE (6) command).
const CHANGEABLE: u8 = 1;
const SAVED: u8 = 3;

/// Caching page: WCE, since writes stay in the page cache until a sync (SBC-4, Caching mode page).
const CACHING: [u8; 20] = [0x08, 18, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Control page: fixed format sense, commands may be reordered (SPC-5, Control mode page).
const CONTROL: [u8; 12] = [0x0a, 10, 0x00, 0x10, 0, 0, 0, 0, 0, 0, 0, 0];

/// In ascending order of page code, as [`ALL_PAGES`] gives them.
const PAGES: [&[u8]; 2] = [&CACHING, &CONTROL];

impl EmulatedDisk {
    /// Header, block descriptor and pages.
    pub(super) fn mode_sense(&self, asked: ModeSense) -> Result<Vec<u8>, Sense> {
        if asked.control == SAVED {
            return Err(sense::SAVING_NOT_SUPPORTED);
        }
        let pages = pages(asked)?;
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
        let ([a, b, c, d], [_, x, y, z]) = (blocks.to_be_bytes(), BLOCK_SIZE.to_be_bytes());
        [a, b, c, d, 0, x, y, z]
    }
}

/// The pages that were asked for. None has subpages, so "all subpages" gives subpage 0, and any other is unknown.
fn pages(asked: ModeSense) -> Result<Vec<u8>, Sense> {
    let mut data = Vec::new();
    for page in PAGES {
        let [code, len, values @ ..] = page else { unreachable!("a page without a head") };
        if asked.page != *code && asked.page != ALL_PAGES {
            continue;
        }
        data.extend([*code, *len]);
        if asked.control == CHANGEABLE {
            data.extend(values.iter().map(|_| 0));
        } else {
            data.extend(values);
        }
    }
    if data.is_empty() || !matches!(asked.subpage, 0x00 | ALL_SUBPAGES) {
        return Err(sense::INVALID_FIELD_IN_CDB);
    }
    Ok(data)
}
