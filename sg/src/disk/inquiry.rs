//! What the disk says about itself: INQUIRY, capacity, LUNs, sense, logs.

use super::provisioning::MAX_UNMAP_DESCRIPTORS;
use super::{DEVICE_TYPE, EmulatedDisk, Medium};
use crate::scsi::Sense;

const VENDOR: &[u8; 8] = b"XEN     ";
const PRODUCT: &[u8; 16] = b"PVSCSI DISK     ";
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));

/// Standard INQUIRY data of 96 bytes (SPC-5, 6.7.2).
pub(super) fn standard() -> Vec<u8> {
    let mut data = vec![
        DEVICE_TYPE,
        0x00,
        0x07, // version: SPC-5
        0x12, // HISUP, response data format 2
        91,   // bytes behind this one
        0x00,
        0x00,
        0x02, // CMDQUE
    ];
    data.extend(VENDOR);
    data.extend(PRODUCT);
    data.extend(format!("{VERSION:<4.4}").bytes());
    data.resize(58, 0);
    // Version descriptors without a claimed version: SAM-5, SPC-5, SBC-4.
    data.extend([0x00, 0xa0, 0x05, 0xc0, 0x06, 0x00]);
    data.resize(96, 0);
    data
}

/// REQUEST SENSE: what is still to be told, if anything; other sense data went out with the command it belongs to (autosense).
/// Fixed or descriptor format (SPC-5, 4.4.2).
pub(super) fn request_sense(sense: &Sense, descriptor: bool) -> Vec<u8> {
    match sense.key_asc_ascq() {
        Some((key, asc, ascq)) if descriptor => vec![0x72, key, asc, ascq, 0, 0, 0, 0],
        _ => sense.as_bytes().to_vec(),
    }
}

/// The last LBA, and the block size; FFFFFFFFh sends the guest to READ CAPACITY (16) (SBC-4, READ CAPACITY (10)).
pub(super) fn capacity_10(medium: &Medium) -> Vec<u8> {
    let last = u32::try_from(medium.blocks().saturating_sub(1)).unwrap_or(u32::MAX);
    [last.to_be_bytes(), medium.block_size().bytes().to_be_bytes()].concat()
}

/// The same for any size, with LBPME and LBPRZ: a thin disk whose unmapped blocks read as zeroes (SBC-4, READ CAPACITY (16)).
pub(super) fn capacity_16(medium: &Medium) -> Vec<u8> {
    let mut data = medium.blocks().saturating_sub(1).to_be_bytes().to_vec();
    data.extend(medium.block_size().bytes().to_be_bytes());
    data.extend([0x00, 0x00, 0xc0, 0x00]);
    data.resize(32, 0);
    data
}

/// This disk alone, as LUN 0, which is also all the disk knows of its neighbours. Of the well known logical units (select
/// 01h) there are none; selections behind 02h are refused (SPC-5, REPORT LUNS command).
pub(super) fn report_luns(select: u8) -> Result<Vec<u8>, Sense> {
    match select {
        0x00 | 0x02 => Ok(vec![0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        0x01 => Ok(vec![0; 8]),
        _ => Err(Sense::INVALID_FIELD_IN_CDB),
    }
}

/// The lists of log pages, without and with subpages, which are all there is (SPC-5, Supported Log Pages and Supported Log
/// Pages and Subpages log pages). Nothing is counted; what a file occupies would be told in threshold sets (SBC-4, Logical
/// Block Provisioning log page), and this disk has no thresholds.
pub(super) fn log_page(page: u8, subpage: u8) -> Result<Vec<u8>, Sense> {
    match (page, subpage) {
        (0x00, 0x00) => Ok(vec![0x00, 0x00, 0, 1, 0x00]),
        // SPF is bit 6.
        (0x00, 0xff) => Ok(vec![0x40, 0xff, 0, 4, 0x00, 0x00, 0x00, 0xff]),
        _ => Err(Sense::INVALID_FIELD_IN_CDB),
    }
}

impl EmulatedDisk {
    /// A page of vital product data (SPC-5, 7.7) with its header.
    pub(super) fn vpd_page(&self, page: u8) -> Result<Vec<u8>, Sense> {
        let body = match page {
            0x00 => vec![0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2],
            0x80 => self.identity.serial().as_bytes().to_vec(),
            0x83 => self.designators(),
            0x86 => extended_inquiry(),
            0xb0 => self.block_limits(),
            0xb1 => characteristics(),
            // No threshold; LBPU, LBPWS, LBPWS10, LBPRZ 001b; thin (SBC-4, Logical Block Provisioning VPD page).
            0xb2 => vec![0x00, 0xe4, 0x02, 0x00],
            _ => return Err(Sense::INVALID_FIELD_IN_CDB),
        };
        let Ok(len) = u16::try_from(body.len()) else { unreachable!("a page of {} bytes", body.len()) };
        let mut data = vec![DEVICE_TYPE, page];
        data.extend(len.to_be_bytes());
        data.extend(body);
        Ok(data)
    }

    /// Two names of the logical unit: T10 vendor ID based (ASCII) and NAA (binary) (SPC-5, Device Identification VPD page).
    fn designators(&self) -> Vec<u8> {
        let t10 = [&VENDOR[..], &PRODUCT[..], self.identity.serial().as_bytes()].concat();
        let Ok(t10_len) = u8::try_from(t10.len()) else { unreachable!("a serial number above SERIAL_MAX") };
        let mut data = vec![0x02, 0x01, 0x00, t10_len];
        data.extend(t10);
        data.extend([0x01, 0x03, 0x00, 8]);
        data.extend(self.identity.naa().to_be_bytes());
        data
    }

    /// SBC-4, Block Limits VPD page: bytes 4 to 63.
    fn block_limits(&self) -> Vec<u8> {
        // WSNZ: WRITE SAME of 0 blocks, meaning all to the end, is refused.
        let mut data = vec![0x01, self.max_compare_and_write_blocks()];
        data.extend(0_u16.to_be_bytes()); // optimal granularity: not reported
        data.extend(self.max_transfer_blocks.to_be_bytes()); // maximum
        data.extend(self.max_transfer_blocks.to_be_bytes()); // optimal
        data.extend(self.max_transfer_blocks.to_be_bytes()); // PRE-FETCH
        data.extend(self.max_unmap_blocks().to_be_bytes());
        data.extend(MAX_UNMAP_DESCRIPTORS.to_be_bytes());
        data.extend(self.unmap_granularity().to_be_bytes());
        data.extend(0x8000_0000_u32.to_be_bytes()); // UGAVALID, alignment 0
        data.extend(u64::from(self.max_write_same_blocks()).to_be_bytes());
        data.resize(60, 0);
        data
    }
}

/// SPC-5, Extended INQUIRY Data VPD page: bytes 4 to 63. SIMPSUP, since a request of the ring has no task attribute, and V_SUP, the
/// page cache.
fn extended_inquiry() -> Vec<u8> {
    let mut data = vec![0x00, 0x01, 0x01];
    data.resize(60, 0);
    data
}

/// SBC-4, Block Device Characteristics VPD page: bytes 4 to 63. Rotation rate 1 is a medium that does not rotate.
fn characteristics() -> Vec<u8> {
    let mut data = vec![0x00, 0x01];
    data.resize(60, 0);
    data
}
