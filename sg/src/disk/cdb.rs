//! What a CDB asks of a disk. Pure: no device, no data, no I/O.

use super::BlockSize;
use crate::scsi::{Cdb, Sense};

/// Blocks in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) lba: u64,
    pub(super) blocks: u32,
}

impl Extent {
    pub(super) fn bytes(self, block: BlockSize) -> u64 {
        block.bytes_of(self.blocks.into())
    }
}

/// What VERIFY compares the medium with (BYTCHK; SBC-4, VERIFY (10) command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Against {
    /// 00b: nothing; the blocks only have to be readable.
    Nothing,
    /// 01b: as much data-out.
    Data,
    /// 11b: one block of data-out, again and again.
    OneBlock,
}

/// A command this disk knows, with its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    TestUnitReady,
    RequestSense { descriptor: bool, allocation: usize },
    Inquiry { vpd: bool, page: u8, allocation: usize },
    ModeSense(ModeSense),
    ModeSelect { ten: bool, list_len: u16 },
    LogSense { page: u8, subpage: u8, allocation: usize },
    StartStopUnit { stop: bool },
    ReadCapacity10,
    ReadCapacity16 { allocation: usize },
    ReportLuns { select: u8, allocation: usize },
    ReportOpcodes(ReportOpcodes),
    ReportTaskManagement { extended: bool, allocation: usize },
    Read { extent: Extent, fua: bool },
    Write { extent: Extent, fua: bool },
    WriteAndVerify { extent: Extent, compare: bool },
    OrWrite { extent: Extent, fua: bool },
    CompareAndWrite { extent: Extent, fua: bool },
    Verify { extent: Extent, against: Against },
    PreFetch { extent: Extent },
    SynchronizeCache { extent: Extent },
    Unmap { list_len: u16 },
    WriteSame { extent: Extent, unmap: bool, no_data: bool },
    GetLbaStatus { lba: u64, allocation: usize },
}

/// MODE SENSE of either length (SPC-5, MODE SENSE (6) and (10) commands).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ModeSense {
    pub(super) ten: bool,
    pub(super) block_descriptor: bool,
    pub(super) control: u8,
    pub(super) page: u8,
    pub(super) subpage: u8,
    pub(super) allocation: usize,
}

/// REPORT SUPPORTED OPERATION CODES (SPC-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReportOpcodes {
    /// RCTD.
    pub(super) timeouts: bool,
    /// REPORTING OPTIONS: 0 to 3.
    pub(super) options: u8,
    pub(super) opcode: u8,
    pub(super) service_action: u16,
    pub(super) allocation: usize,
}

/// Which way data goes for an [`Operation`], and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataPhase {
    None,
    In,
    Out { bytes: u64 },
}

impl Operation {
    /// Every command of this disk is in this table; all others are INVALID COMMAND OPERATION CODE. WRITE ATOMIC (16) (9Ch) is
    /// one of those: half of a write to a file can be on stable storage when the power fails.
    pub(super) fn decode(cdb: &Cdb) -> Result<Self, Sense> {
        let bytes = cdb.padded();
        match cdb.opcode() {
            0x00 => Ok(Self::TestUnitReady),
            0x03 => Ok(request_sense(bytes)),
            0x08 | 0x28 | 0xa8 | 0x88 => read_or_write(bytes).map(|(extent, fua)| Self::Read { extent, fua }),
            0x0a | 0x2a | 0xaa | 0x8a => {
                read_or_write(bytes).map(|(extent, fua)| Self::Write { extent, fua })
            }
            0x12 => inquiry(bytes),
            0x15 | 0x55 => mode_select(bytes),
            0x1a | 0x5a => Ok(Self::ModeSense(mode_sense(bytes))),
            0x1b => start_stop_unit(bytes),
            0x25 => Ok(Self::ReadCapacity10),
            0x2e | 0xae | 0x8e => write_and_verify(bytes),
            0x2f | 0xaf | 0x8f => verify(bytes),
            0x34 | 0x90 => Ok(Self::PreFetch { extent: block_fields(bytes).1 }),
            0x35 | 0x91 => Ok(Self::SynchronizeCache { extent: block_fields(bytes).1 }),
            0x41 | 0x93 => write_same(bytes),
            0x42 => unmap(bytes),
            0x89 => compare_and_write(bytes),
            0x8b => read_or_write(bytes).map(|(extent, fua)| Self::OrWrite { extent, fua }),
            0x4d => log_sense(bytes),
            0x9e => service_action_in(bytes),
            0xa0 => Ok(report_luns(bytes)),
            0xa3 => maintenance_in(bytes),
            _ => Err(Sense::INVALID_OPCODE),
        }
    }

    pub(super) fn data_phase(self, block: BlockSize) -> DataPhase {
        match self {
            Self::TestUnitReady
            | Self::StartStopUnit { .. }
            | Self::PreFetch { .. }
            | Self::SynchronizeCache { .. } => DataPhase::None,
            Self::RequestSense { .. }
            | Self::Inquiry { .. }
            | Self::ModeSense(_)
            | Self::LogSense { .. }
            | Self::ReadCapacity10
            | Self::ReadCapacity16 { .. }
            | Self::GetLbaStatus { .. }
            | Self::ReportLuns { .. }
            | Self::ReportOpcodes(_)
            | Self::ReportTaskManagement { .. }
            | Self::Read { .. } => DataPhase::In,
            Self::Write { extent, .. }
            | Self::WriteAndVerify { extent, .. }
            | Self::OrWrite { extent, .. } => DataPhase::Out { bytes: extent.bytes(block) },
            // What the blocks have to be, and behind it what they become.
            Self::CompareAndWrite { extent, .. } => {
                DataPhase::Out { bytes: extent.bytes(block).saturating_mul(2) }
            }
            Self::Verify { extent, against } => match against {
                Against::Nothing => DataPhase::None,
                Against::Data => DataPhase::Out { bytes: extent.bytes(block) },
                Against::OneBlock => DataPhase::Out { bytes: extent.bytes(block).min(block.bytes().into()) },
            },
            Self::ModeSelect { list_len, .. } | Self::Unmap { list_len } => {
                DataPhase::Out { bytes: u64::from(list_len) }
            }
            Self::WriteSame { no_data: true, .. } => DataPhase::None,
            Self::WriteSame { .. } => DataPhase::Out { bytes: block.bytes().into() },
        }
    }

    /// The first block of its range, for the sense data of a failure that comes behind it; 0 without a range.
    pub(super) fn lba(self) -> u64 {
        match self {
            Self::Write { extent, .. }
            | Self::WriteAndVerify { extent, .. }
            | Self::OrWrite { extent, .. }
            | Self::CompareAndWrite { extent, .. }
            | Self::WriteSame { extent, .. } => extent.lba,
            _ => 0,
        }
    }

    /// Whether it asks for its data to be on stable storage when it is answered.
    pub(super) fn fua(self) -> bool {
        matches!(
            self,
            Self::Write { fua: true, .. }
                | Self::OrWrite { fua: true, .. }
                | Self::CompareAndWrite { fua: true, .. }
        )
    }

    /// Whether it changes the medium, which a write-protected disk refuses.
    pub(super) fn writes(self) -> bool {
        matches!(
            self,
            Self::Write { .. }
                | Self::WriteAndVerify { .. }
                | Self::OrWrite { .. }
                | Self::CompareAndWrite { .. }
                | Self::Unmap { .. }
                | Self::WriteSame { .. }
        )
    }
}

/// Byte 1, address and number of blocks of a command on blocks. The places depend on the length of the CDB only
/// (SPC-5, 4.2.5), and the group of the operation code says which length it is.
fn block_fields(cdb: &[u8; 16]) -> (u8, Extent) {
    match *cdb {
        // The upper bits of byte 1 belong to the address here, so there are no flags; 0 means 256 blocks (SBC-2, READ (6)).
        [0x00..=0x1f, b1, b2, b3, count, ..] => {
            let lba = u32::from_be_bytes([0, b1 & 0x1f, b2, b3]);
            (0, Extent { lba: lba.into(), blocks: if count == 0 { 256 } else { count.into() } })
        }
        [0x20..=0x5f, flags, a, b, c, d, _, m, n, ..] => (
            flags,
            Extent {
                lba: u32::from_be_bytes([a, b, c, d]).into(),
                blocks: u16::from_be_bytes([m, n]).into(),
            },
        ),
        [0xa0..=0xbf, flags, a, b, c, d, k, l, m, n, ..] => (
            flags,
            Extent { lba: u32::from_be_bytes([a, b, c, d]).into(), blocks: u32::from_be_bytes([k, l, m, n]) },
        ),
        [_, flags, a, b, c, d, e, f, g, h, k, l, m, n, ..] => (
            flags,
            Extent {
                lba: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
                blocks: u32::from_be_bytes([k, l, m, n]),
            },
        ),
    }
}

/// RDPROTECT, WRPROTECT, VRPROTECT: without protection information every value but 0 is refused (SBC-4, READ (10)).
const PROTECT: u8 = 0xe0;

fn read_or_write(cdb: &[u8; 16]) -> Result<(Extent, bool), Sense> {
    let (flags, extent) = block_fields(cdb);
    if flags & PROTECT != 0 {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    Ok((extent, flags & 0x08 != 0))
}

/// Its number of blocks has one byte, byte 13 (SBC-4, COMPARE AND WRITE command).
fn compare_and_write(cdb: &[u8; 16]) -> Result<Operation, Sense> {
    let (Extent { lba, .. }, fua) = read_or_write(cdb)?;
    Ok(Operation::CompareAndWrite { extent: Extent { lba, blocks: cdb[13].into() }, fua })
}

fn verify(cdb: &[u8; 16]) -> Result<Operation, Sense> {
    let (flags, extent) = block_fields(cdb);
    let against = match flags & (PROTECT | 0x06) {
        0x00 => Against::Nothing,
        0x02 => Against::Data,
        0x06 => Against::OneBlock,
        _ => return Err(Sense::INVALID_FIELD_IN_CDB),
    };
    Ok(Operation::Verify { extent, against })
}

/// BYTCHK 00b only reads what was written, 01b compares it with the data too (SBC-4, WRITE AND VERIFY (10) command).
fn write_and_verify(cdb: &[u8; 16]) -> Result<Operation, Sense> {
    let (flags, extent) = block_fields(cdb);
    let compare = match flags & (PROTECT | 0x06) {
        0x00 => false,
        0x02 => true,
        _ => return Err(Sense::INVALID_FIELD_IN_CDB),
    };
    Ok(Operation::WriteAndVerify { extent, compare })
}

/// UNMAP is bit 3 and, with 16 bytes, NDOB bit 0. ANCHOR (VPD page B2h: not supported), the obsolete LBDATA and PBDATA, and
/// bit 0 of the short form all mean something this disk does not do.
fn write_same(cdb: &[u8; 16]) -> Result<Operation, Sense> {
    let (flags, extent) = block_fields(cdb);
    let known = if cdb[0] == 0x93 { 0x09 } else { 0x08 };
    if flags & !known != 0 {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    Ok(Operation::WriteSame { extent, unmap: flags & 0x08 != 0, no_data: flags & 0x01 != 0 })
}

fn unmap(cdb: &[u8; 16]) -> Result<Operation, Sense> {
    let anchor = cdb[1] & 0x01 != 0;
    if anchor {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    Ok(Operation::Unmap { list_len: u16::from_be_bytes([cdb[7], cdb[8]]) })
}

/// LOEJ and power conditions other than START_VALID are refused: nothing here ejects or saves power.
fn start_stop_unit(cdb: &[u8; 16]) -> Result<Operation, Sense> {
    if cdb[4] & 0xf2 != 0 {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    Ok(Operation::StartStopUnit { stop: cdb[4] & 0x01 == 0 })
}

fn request_sense(cdb: &[u8; 16]) -> Operation {
    Operation::RequestSense { descriptor: cdb[1] & 0x01 != 0, allocation: cdb[4].into() }
}

/// A page code without EVPD, and the obsolete CMDDT, are refused (SPC-5, INQUIRY command).
fn inquiry(cdb: &[u8; 16]) -> Result<Operation, Sense> {
    let (vpd, page) = (cdb[1] & 0x01 != 0, cdb[2]);
    if cdb[1] & 0x02 != 0 || (!vpd && page != 0) {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    Ok(Operation::Inquiry { vpd, page, allocation: u16::from_be_bytes([cdb[3], cdb[4]]).into() })
}

fn mode_sense(cdb: &[u8; 16]) -> ModeSense {
    let ten = cdb[0] == 0x5a;
    ModeSense {
        ten,
        block_descriptor: cdb[1] & 0x08 == 0,
        control: cdb[2] >> 6,
        page: cdb[2] & 0x3f,
        subpage: cdb[3],
        allocation: if ten { u16::from_be_bytes([cdb[7], cdb[8]]).into() } else { cdb[4].into() },
    }
}

/// PF is needed, since there are pages behind the header; SP and RTD are refused, since nothing is saved (SPC-5, MODE SELECT (6)
/// command).
fn mode_select(cdb: &[u8; 16]) -> Result<Operation, Sense> {
    if cdb[1] & 0x13 != 0x10 {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    let ten = cdb[0] == 0x55;
    let list_len = if ten { u16::from_be_bytes([cdb[7], cdb[8]]) } else { cdb[4].into() };
    Ok(Operation::ModeSelect { ten, list_len })
}

/// SP is refused, since nothing is saved, and a parameter pointer, since there are no parameters (SPC-5, LOG SENSE command).
fn log_sense(cdb: &[u8; 16]) -> Result<Operation, Sense> {
    if cdb[1] & 0x01 != 0 || cdb[5] != 0 || cdb[6] != 0 {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    let allocation = u16::from_be_bytes([cdb[7], cdb[8]]).into();
    Ok(Operation::LogSense { page: cdb[2] & 0x3f, subpage: cdb[3], allocation })
}

/// SERVICE ACTION IN (16): READ CAPACITY (16), and GET LBA STATUS (16) with the report type "all" (SBC-4).
fn service_action_in(cdb: &[u8; 16]) -> Result<Operation, Sense> {
    let allocation = allocation([cdb[10], cdb[11], cdb[12], cdb[13]]);
    match (cdb[1] & 0x1f, cdb[14]) {
        (0x10, _) => Ok(Operation::ReadCapacity16 { allocation }),
        (0x12, 0x00) => Ok(Operation::GetLbaStatus { lba: block_fields(cdb).1.lba, allocation }),
        _ => Err(Sense::INVALID_FIELD_IN_CDB),
    }
}

fn report_luns(cdb: &[u8; 16]) -> Operation {
    Operation::ReportLuns { select: cdb[2], allocation: allocation([cdb[6], cdb[7], cdb[8], cdb[9]]) }
}

/// MAINTENANCE IN: REPORT SUPPORTED OPERATION CODES and REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-5). Reporting options
/// above 3 are reserved.
fn maintenance_in(cdb: &[u8; 16]) -> Result<Operation, Sense> {
    let allocation = allocation([cdb[6], cdb[7], cdb[8], cdb[9]]);
    let (upper, options) = (cdb[2] & 0x80 != 0, cdb[2] & 0x07);
    match (cdb[1] & 0x1f, options) {
        (0x0c, 0..=3) => Ok(Operation::ReportOpcodes(ReportOpcodes {
            timeouts: upper,
            options,
            opcode: cdb[3],
            service_action: u16::from_be_bytes([cdb[4], cdb[5]]),
            allocation,
        })),
        (0x0d, _) => Ok(Operation::ReportTaskManagement { extended: upper, allocation }),
        _ => Err(Sense::INVALID_FIELD_IN_CDB),
    }
}

fn allocation(field: [u8; 4]) -> usize {
    usize::try_from(u32::from_be_bytes(field)).unwrap_or(usize::MAX)
}
