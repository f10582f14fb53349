//! The sg driver's interface (glibc's `scsi/sg.h`, Linux's `include/scsi/sg.h`), version 3.

/// `struct sg_io_hdr`: a command on its way in, its result on the way out.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SgIoHdr {
    /// `'S'`.
    pub interface_id: i32,
    /// `SG_DXFER_*`.
    pub dxfer_direction: i32,
    /// Bytes of the CDB.
    pub cmd_len: u8,
    /// Room for sense data.
    pub mx_sb_len: u8,
    /// 0: `dxferp` is the data itself.
    pub iovec_count: u16,
    /// Bytes of data.
    pub dxfer_len: u32,
    /// The data.
    pub dxferp: *mut u8,
    /// The CDB.
    pub cmdp: *mut u8,
    /// Sense data goes here.
    pub sbp: *mut u8,
    /// Milliseconds.
    pub timeout: u32,
    /// `SG_FLAG_*`.
    pub flags: u32,
    /// Ours to choose.
    pub pack_id: i32,
    /// Ours to choose; comes back.
    pub usr_ptr: usize,
    /// SCSI status.
    pub status: u8,
    /// The same, shifted.
    pub masked_status: u8,
    /// Not used.
    pub msg_status: u8,
    /// Bytes of sense data written.
    pub sb_len_wr: u8,
    /// `DID_*`.
    pub host_status: u16,
    /// `DRIVER_*`.
    pub driver_status: u16,
    /// Bytes not transferred.
    pub resid: i32,
    /// Milliseconds it took.
    pub duration: u32,
    /// `SG_INFO_*`.
    pub info: u32,
}

/// No data.
pub const SG_DXFER_NONE: i32 = -1;
/// Data to the device.
pub const SG_DXFER_TO_DEV: i32 = -2;
/// Data from the device.
pub const SG_DXFER_FROM_DEV: i32 = -3;
/// Data from the device into a buffer whose old content is kept where nothing arrives.
pub const SG_DXFER_TO_FROM_DEV: i32 = -4;
/// Use the caller's pages for the device's transfer, if the driver's parameter `allow_dio` permits.
pub const SG_FLAG_DIRECT_IO: u32 = 1;
/// Queue behind earlier commands; the driver's default is in front of them (Linux's `include/scsi/sg.h`; glibc lacks it).
pub const SG_FLAG_Q_AT_TAIL: u32 = 0x10;
/// Bits of `info` that say how data went.
pub const SG_INFO_DIRECT_IO_MASK: u32 = 0x6;
/// Data went directly.
pub const SG_INFO_DIRECT_IO: u32 = 0x2;
/// The device's address and type.
pub const SG_GET_SCSI_ID: u64 = 0x2276;
/// The driver's version, times 10000.
pub const SG_GET_VERSION_NUM: u64 = 0x2282;

/// Commands that one open descriptor takes at once (Linux's `include/scsi/sg.h`, `SG_MAX_QUEUE`).
pub const SG_MAX_QUEUE: usize = 16;

/// `struct sg_scsi_id`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SgScsiId {
    /// Host number.
    pub host_no: i32,
    /// Channel.
    pub channel: i32,
    /// Target.
    pub scsi_id: i32,
    /// LUN, as far as it fits.
    pub lun: i32,
    /// Peripheral device type.
    pub scsi_type: i32,
    /// Commands that the host takes for each LUN.
    pub h_cmd_per_lun: i16,
    /// Queue depth of the device.
    pub d_queue_depth: i16,
    /// Not used.
    pub unused: [i32; 2],
}

/// Do a command and wait for it (Linux's `include/scsi/sg.h`).
pub const SG_IO: u64 = 0x2285;
/// Reset something (Linux's `include/scsi/sg.h`); the argument says what.
pub const SG_SCSI_RESET: u64 = 0x2284;
/// Reset the device.
pub const SG_SCSI_RESET_DEVICE: i32 = 1;
/// Added to the above: nothing larger when that fails (Linux's `include/scsi/sg.h`; glibc lacks it).
pub const SG_SCSI_RESET_NO_ESCALATE: i32 = 0x100;
