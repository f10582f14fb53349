//! What goes into slots.

use pvscsi_ring::vscsiif::{
    DIRECTION_FROM_DEVICE, DIRECTION_NONE, DIRECTION_TO_DEVICE, VSCSIIF_ACT_SCSI_CDB, VSCSIIF_SG_GRANT,
    VSCSIIF_SG_TABLESIZE, WireRequest, WireSegment,
};
use zerocopy::{FromZeros, IntoBytes};

use super::{Memory, Put};

/// Target of all commands; the channel is 0.
const TARGET: u16 = 1;

/// A command on memory of this grant reference.
pub(super) fn command(put: &Put, gref: u32) -> WireRequest {
    let mut request = nothing(put.lun);
    let Put { opcode, operand, rqid, nr_segments, offset, length, .. } = *put;
    (request.rqid, request.nr_segments) = (rqid, nr_segments);
    let segment = WireSegment { gref, offset, length };
    let count = usize::from(nr_segments & !VSCSIIF_SG_GRANT).min(VSCSIIF_SG_TABLESIZE);
    request.seg[..count].fill(segment);
    // Blocks of a direct request; of an indirect one as long as its list is as it was made.
    let unit = if nr_segments & VSCSIIF_SG_GRANT != 0 { size_of::<WireSegment>() } else { 512 };
    let [blocks, ..] = (count * usize::from(length) / unit).to_le_bytes();
    request.cmnd[0] = opcode;
    let (len, address, amount) = match opcode >> 5 {
        1 | 2 => (10, 5, 8),
        4 => (16, 9, 13),
        5 => (12, 5, 9),
        _ => (6, 3, 4),
    };
    request.cmd_len = len;
    let on_blocks = matches!(opcode & 0x1f, 0x08 | 0x0a | 0x0f);
    (request.cmnd[address], request.cmnd[amount]) = if on_blocks { (operand, blocks) } else { (0, operand) };
    request.sc_data_direction = match opcode {
        _ if count == 0 => DIRECTION_NONE,
        0x0a | 0x2a | 0x8a | 0xaa | 0x41 | 0x42 | 0x93 => DIRECTION_TO_DEVICE,
        _ => DIRECTION_FROM_DEVICE,
    };
    request
}

/// TEST UNIT READY.
pub(super) fn nothing(lun: u16) -> WireRequest {
    let mut request = WireRequest::new_zeroed();
    (request.id, request.lun) = (TARGET, lun);
    (request.act, request.cmd_len) = (VSCSIIF_ACT_SCSI_CDB, 6);
    request.sc_data_direction = DIRECTION_NONE;
    request
}

/// INQUIRY of 36 bytes to LUN 0.
pub(super) fn inquiry(rqid: u16, gref: u32) -> WireRequest {
    let memory = Memory::Number(gref);
    let put = Put {
        opcode: 0x12,
        operand: 36,
        lun: 0,
        rqid,
        nr_segments: 1,
        memory,
        offset: 0,
        length: 36,
        times: 1,
    };
    command(&put, gref)
}

/// Bytes without sense, half of them zero.
pub(super) fn noise(seed: u32) -> WireRequest {
    let mut request = WireRequest::new_zeroed();
    let mut random = u64::from(seed) << 1 | 1;
    for byte in request.as_mut_bytes() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let [.., low, high] = random.to_le_bytes();
        *byte = if low & 1 == 0 { high } else { 0 };
    }
    request
}
