//! The refusals and failures of an emulated disk as sense data: sense key, additional sense code, qualifier (SPC-5, 4.4).

use std::io;

use crate::scsi::Sense;

const MEDIUM_ERROR: u8 = 0x03;
const ILLEGAL_REQUEST: u8 = 0x05;
const UNIT_ATTENTION: u8 = 0x06;
const DATA_PROTECT: u8 = 0x07;
const MISCOMPARE: u8 = 0x0e;

pub(super) const NO_SENSE: Sense = Sense::fixed(0, 0, 0);
pub(super) const LBA_OUT_OF_RANGE: Sense = Sense::fixed(ILLEGAL_REQUEST, 0x21, 0x00);
pub(super) const SAVING_NOT_SUPPORTED: Sense = Sense::fixed(ILLEGAL_REQUEST, 0x39, 0x00);
/// BUS DEVICE RESET FUNCTION OCCURRED.
pub(super) const RESET: Sense = Sense::fixed(UNIT_ATTENTION, 0x29, 0x03);
pub(super) const CAPACITY_CHANGED: Sense = Sense::fixed(UNIT_ATTENTION, 0x2a, 0x09);
pub(super) const WRITE_PROTECTED: Sense = Sense::fixed(DATA_PROTECT, 0x27, 0x00);

/// The first byte that differs, counted from the first byte that was compared.
pub(super) fn miscompare(offset: u64) -> Sense {
    with_information(MISCOMPARE, 0x1d, 0x00, offset)
}

/// Reading failed somewhere from block `lba` on: UNRECOVERED READ ERROR.
pub(super) fn read_failed(lba: u64) -> Sense {
    with_information(MEDIUM_ERROR, 0x11, 0x00, lba)
}

/// Writing or syncing failed somewhere from block `lba` on: WRITE ERROR, or, where a thin medium has no room left,
/// SPACE ALLOCATION FAILED WRITE PROTECT (SBC-4, 4.7).
pub(super) fn write_failed(error: &io::Error, lba: u64) -> Sense {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded => with_information(DATA_PROTECT, 0x27, 0x07, lba),
        _ => with_information(MEDIUM_ERROR, 0x0c, 0x00, lba),
    }
}

/// Fixed format has 32 bits for INFORMATION, and VALID stays 0 when they are too few (SPC-5, 4.4.3).
fn with_information(key: u8, asc: u8, ascq: u8, information: u64) -> Sense {
    match u32::try_from(information) {
        Ok(information) => Sense::fixed_with_information(key, asc, ascq, information),
        Err(_) => Sense::fixed(key, asc, ascq),
    }
}
