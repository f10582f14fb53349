//! SCSI commands by io_uring on `/dev/bsg/H:C:T:L`: Linux's `include/uapi/linux/bsg.h` and `drivers/scsi/scsi_bsg.c`, as of Linux 7.1.

use std::mem::offset_of;

use zerocopy::{Immutable, IntoBytes};

/// Bytes of a command in a submission entry of 128 bytes.
pub const COMMAND_LEN: usize = 80;

/// `struct bsg_uring_cmd`: what `IORING_OP_URING_CMD` carries. Zeroes in `protocol` and `subprotocol` are SCSI commands
/// (`BSG_PROTOCOL_SCSI`, `BSG_SUB_PROTOCOL_SCSI_CMD`); data is in one piece, and goes one way.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, IntoBytes, Immutable)]
pub struct BsgUringCmd {
    /// Address of the CDB.
    pub request: u64,
    /// Bytes of the CDB.
    pub request_len: u32,
    /// 0.
    pub protocol: u32,
    /// 0.
    pub subprotocol: u32,
    /// Room for sense data.
    pub max_response_len: u32,
    /// Sense data goes here.
    pub response: u64,
    /// Data to the device.
    pub dout_xferp: u64,
    /// Bytes of it.
    pub dout_xfer_len: u32,
    /// 0: in one piece.
    pub dout_iovec_count: u32,
    /// Room for data from the device.
    pub din_xferp: u64,
    /// Bytes of it.
    pub din_xfer_len: u32,
    /// 0: in one piece.
    pub din_iovec_count: u32,
    /// Milliseconds; 0 would be a minute.
    pub timeout_ms: u32,
    /// 0.
    pub reserved: [u8; 12],
}

// Debian 12 has no header with this structure, so that the lab cannot compare it: offsets as in Linux 7.1.
const _: () = {
    assert!(size_of::<BsgUringCmd>() == COMMAND_LEN);
    assert!(offset_of!(BsgUringCmd, request_len) == 8);
    assert!(offset_of!(BsgUringCmd, protocol) == 12);
    assert!(offset_of!(BsgUringCmd, subprotocol) == 16);
    assert!(offset_of!(BsgUringCmd, max_response_len) == 20);
    assert!(offset_of!(BsgUringCmd, response) == 24);
    assert!(offset_of!(BsgUringCmd, dout_xferp) == 32);
    assert!(offset_of!(BsgUringCmd, dout_xfer_len) == 40);
    assert!(offset_of!(BsgUringCmd, dout_iovec_count) == 44);
    assert!(offset_of!(BsgUringCmd, din_xferp) == 48);
    assert!(offset_of!(BsgUringCmd, din_xfer_len) == 56);
    assert!(offset_of!(BsgUringCmd, din_iovec_count) == 60);
    assert!(offset_of!(BsgUringCmd, timeout_ms) == 64);
    assert!(offset_of!(BsgUringCmd, reserved) == 68);
};

/// The second word of a completion (`bsg_scsi_res2_build` of the same header).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BsgResult {
    /// SCSI status.
    pub status: u8,
    /// `DRIVER_*`.
    pub driver_status: u8,
    /// `DID_*`.
    pub host_status: u8,
    /// Bytes of sense data written.
    pub sense_len: u8,
    /// Bytes not transferred.
    pub resid: i32,
}

impl BsgResult {
    /// Takes the word apart.
    #[must_use]
    pub fn from_word(word: u64) -> Self {
        let [status, driver_status, host_status, sense_len, a, b, c, d] = word.to_le_bytes();
        let resid = i32::from_le_bytes([a, b, c, d]);
        Self { status, driver_status, host_status, sense_len, resid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_word_is_taken_apart() {
        let word = 0x02 | 0x08 << 8 | 0x07 << 16 | 18 << 24 | 512 << 32;
        let result = BsgResult { status: 2, driver_status: 8, host_status: 7, sense_len: 18, resid: 512 };
        assert_eq!(BsgResult::from_word(word), result);
        assert_eq!(BsgResult::from_word(0xffff_fffc << 32).resid, -4, "an overrun");
    }
}
