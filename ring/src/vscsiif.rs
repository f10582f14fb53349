//! The wire format of Xen's `io/vscsiif.h` and the ring header of `io/ring.h`.
//!
//! Values from the guest stay plain numbers with named constants: an unknown one is data. Sizes are asserted here, and
//! every offset and constant is compared with the C headers by `cargo lab headers`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Execute a CDB.
pub const VSCSIIF_ACT_SCSI_CDB: u8 = 1;
/// Abort the request that `ref_rqid` names.
pub const VSCSIIF_ACT_SCSI_ABORT: u8 = 2;
/// Reset the device.
pub const VSCSIIF_ACT_SCSI_RESET: u8 = 3;
/// Deprecated; refused.
pub const VSCSIIF_ACT_SCSI_SG_PRESET: u8 = 4;
/// Segments in a request; also the most pages of an indirect list.
pub const VSCSIIF_SG_TABLESIZE: usize = 26;
/// Bytes of a CDB.
pub const VSCSIIF_MAX_COMMAND_SIZE: usize = 16;
/// Bytes of sense data in a response.
pub const VSCSIIF_SENSE_BUFFERSIZE: usize = 96;
/// Bytes of a page, whatever the guest's own page size.
pub const VSCSIIF_PAGE_SIZE: usize = 4096;
/// Bit of `nr_segments`: the segments are in granted pages.
pub const VSCSIIF_SG_GRANT: u8 = 0x80;

/// `sc_data_direction`: both ways (Linux's `DMA_BIDIRECTIONAL`; not named in the header).
pub const DIRECTION_BIDIRECTIONAL: u8 = 0;
/// `sc_data_direction`: to the device.
pub const DIRECTION_TO_DEVICE: u8 = 1;
/// `sc_data_direction`: from the device.
pub const DIRECTION_FROM_DEVICE: u8 = 2;
/// `sc_data_direction`: no data.
pub const DIRECTION_NONE: u8 = 3;

/// `rslt` of a task management request that worked (`XEN_VSCSIIF_RSLT_RESET_SUCCESS`).
pub const XEN_VSCSIIF_RSLT_RESET_SUCCESS: i32 = 0x2002;
/// `rslt` of a task management request that did not (`XEN_VSCSIIF_RSLT_RESET_FAILED`).
pub const XEN_VSCSIIF_RSLT_RESET_FAILED: i32 = 0x2003;

/// The most data segments of a request, written as `feature-sg-grant`: what Linux's frontend uses at most
/// (`SG_ALL`), and what one buffer of the pool holds.
pub const MAX_SEGMENTS: usize = 128;

/// Slots of the one-page ring: `(4096 - 64) / 252` rounded down to a power of two.
pub const RING_SLOTS: u32 = 16;
/// Where the slots start (io/ring.h: four indices and padding to 64 bytes).
pub const RING_HEADER: usize = 64;
/// Bytes of a slot: a request or a response.
pub const SLOT_SIZE: usize = 252;
/// Offset of `req_prod`.
pub const REQ_PROD: usize = 0;
/// Offset of `req_event`.
pub const REQ_EVENT: usize = 4;
/// Offset of `rsp_prod`.
pub const RSP_PROD: usize = 8;
/// Offset of `rsp_event`.
pub const RSP_EVENT: usize = 12;

/// Offset in the page of the slot that ring index `index` falls on.
#[must_use]
pub fn slot_offset(index: u32) -> usize {
    let Ok(slot) = usize::try_from(index % RING_SLOTS) else { unreachable!("below 16") };
    // At most 64 + 15 * 252.
    #[expect(clippy::arithmetic_side_effects, reason = "bounded by the modulo above")]
    let offset = RING_HEADER + slot * SLOT_SIZE;
    offset
}

/// `struct scsiif_request_segment`: an area in one granted page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WireSegment {
    /// Grant reference.
    pub gref: u32,
    /// Offset into the page, in bytes.
    pub offset: u16,
    /// Length, in bytes.
    pub length: u16,
}

/// `struct vscsiif_request`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WireRequest {
    /// The guest's name for the request; echoed, never interpreted.
    pub rqid: u16,
    /// `VSCSIIF_ACT_*`.
    pub act: u8,
    /// Valid bytes of `cmnd`.
    pub cmd_len: u8,
    /// The CDB. Bytes behind `cmd_len` are whatever the slot held before.
    pub cmnd: [u8; VSCSIIF_MAX_COMMAND_SIZE],
    /// Seconds; 0 asks for the backend's default. Marked deprecated, and still filled in by both live frontends.
    pub timeout_per_command: u16,
    /// Virtual channel.
    pub channel: u16,
    /// Virtual target.
    pub id: u16,
    /// Virtual LUN.
    pub lun: u16,
    /// For an abort: the `rqid` to abort.
    pub ref_rqid: u16,
    /// `DIRECTION_*`.
    pub sc_data_direction: u8,
    /// Number of valid entries of `seg`, with [`VSCSIIF_SG_GRANT`].
    pub nr_segments: u8,
    /// Data areas, or the pages that hold a list of them.
    pub seg: [WireSegment; VSCSIIF_SG_TABLESIZE],
    /// Not used.
    pub reserved: [u32; 3],
}

/// `struct vscsiif_response`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WireResponse {
    /// `rqid` of the request.
    pub rqid: u16,
    /// `act` in the Xen header, padding in Linux's: always 0.
    pub act: u8,
    /// Valid bytes of `sense_buffer`.
    pub sense_len: u8,
    /// Sense data.
    pub sense_buffer: [u8; VSCSIIF_SENSE_BUFFERSIZE],
    /// SCSI status in bits 0 to 7, host byte in bits 16 to 23.
    pub rslt: i32,
    /// Bytes of the buffer that were not transferred.
    pub residual_len: u32,
    /// Not used, always 0 (XSA-216: no bytes of ours leak).
    pub reserved: [u32; 36],
}

const _: () = assert!(size_of::<WireSegment>() == 8);
const _: () = assert!(size_of::<WireRequest>() == SLOT_SIZE);
const _: () = assert!(size_of::<WireResponse>() == SLOT_SIZE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_slots_fill_the_page() {
        assert_eq!(slot_offset(0), 64);
        assert_eq!(slot_offset(15) + SLOT_SIZE, VSCSIIF_PAGE_SIZE);
        assert_eq!(slot_offset(16), 64);
        assert_eq!(slot_offset(u32::MAX), slot_offset(15), "indices wrap modulo 2^32");
    }

    /// Every field is naturally aligned, so a 32-bit guest has the same layout.
    #[test]
    fn no_field_needs_more_than_four_byte_alignment() {
        assert_eq!(align_of::<WireRequest>(), 4);
        assert_eq!(align_of::<WireResponse>(), 4);
        assert_eq!(RING_HEADER % 4, 0);
        assert_eq!(SLOT_SIZE % 4, 0);
    }
}
