//! Words of SCSI: CDB, status, sense, and the outcome of a command.

/// Bytes of sense data that fit a vscsiif response (vscsiif.h, `VSCSIIF_SENSE_BUFFERSIZE`), and the sg driver's limit.
pub const SENSE_MAX: usize = 96;

/// REQUEST SENSE.
pub(crate) const REQUEST_SENSE: u8 = 0x03;
/// INQUIRY.
pub(crate) const INQUIRY: u8 = 0x12;
/// REPORT LUNS.
pub const REPORT_LUNS: u8 = 0xa0;
/// PREVENT ALLOW MEDIUM REMOVAL, of all devices whose medium can be removed.
pub(crate) const PREVENT_ALLOW: u8 = 0x1e;

/// A command descriptor block of at most 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cdb {
    bytes: [u8; 16],
    len: u8,
}

impl Cdb {
    /// Takes the first `len` of the 16 bytes; those behind them become 0. `None` when `len` is above 16.
    #[must_use]
    pub fn new(mut bytes: [u8; 16], len: u8) -> Option<Self> {
        bytes.get_mut(usize::from(len)..)?.fill(0);
        Some(Self { bytes, len })
    }

    /// A CDB for tests and for commands of our own.
    ///
    /// # Panics
    ///
    /// When there are more than 16 bytes.
    #[must_use]
    pub fn from_bytes(cdb: &[u8]) -> Self {
        let mut bytes = [0; 16];
        let Some(room) = bytes.get_mut(..cdb.len()) else { unreachable!("a CDB of {} bytes", cdb.len()) };
        room.copy_from_slice(cdb);
        let Ok(len) = u8::try_from(cdb.len()) else { unreachable!("16 fits a byte") };
        Self { bytes, len }
    }

    /// The operation code; 0 (TEST UNIT READY) for a CDB of no bytes.
    #[must_use]
    pub fn opcode(&self) -> u8 {
        self.bytes[0]
    }

    /// All 16 bytes, with zeroes behind the valid ones.
    #[must_use]
    pub fn padded(&self) -> &[u8; 16] {
        &self.bytes
    }

    /// INQUIRY, REPORT LUNS and REQUEST SENSE, which a unit attention does not stop (SAM-5, 5.14).
    #[must_use]
    pub fn passes_attentions(&self) -> bool {
        matches!(self.opcode(), INQUIRY | REPORT_LUNS | REQUEST_SENSE)
    }

    /// PREVENT of PREVENT ALLOW MEDIUM REMOVAL (SPC-4; MMC-6 has a persistent prevention besides).
    pub(crate) fn prevents_removal(&self) -> bool {
        self.bytes[4] & 0x03 != 0
    }

    /// How many bytes the guest gave.
    #[must_use]
    pub fn given_len(&self) -> u8 {
        self.len
    }

    /// How many bytes the operation code's group calls for: 6, 10, 12 or 16 (SAM-5, 5.2.1; SPC-5, 4.2.5.1). For reserved
    /// and vendor specific groups it is what the guest gave, at least 6.
    #[must_use]
    pub fn command_len(&self) -> u8 {
        match self.bytes[0] >> 5 {
            0 => 6,
            1 | 2 => 10,
            4 => 16,
            5 => 12,
            _ => self.len.max(6),
        }
    }
}

/// Which way data goes, as in vscsiif's `sc_data_direction` (Linux's `enum dma_data_direction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataDirection {
    /// Both ways (0).
    Bidirectional,
    /// Data-out: from the guest to the device (1).
    ToDevice,
    /// Data-in: from the device to the guest (2).
    FromDevice,
    /// No data (3).
    None,
}

/// SCSI status byte (SAM-5, 5.3.1). An open number: a device may send any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamStatus(pub u8);

impl SamStatus {
    /// GOOD.
    pub const GOOD: Self = Self(0x00);
    /// CHECK CONDITION: sense data says what.
    pub const CHECK_CONDITION: Self = Self(0x02);
    /// CONDITION MET: what PRE-FETCH was asked for is in the cache (SBC-4).
    pub const CONDITION_MET: Self = Self(0x04);
    /// BUSY: try again later.
    pub const BUSY: Self = Self(0x08);
    /// RESERVATION CONFLICT.
    pub const RESERVATION_CONFLICT: Self = Self(0x18);
    /// TASK SET FULL.
    pub const TASK_SET_FULL: Self = Self(0x28);
    /// TASK ABORTED.
    pub const TASK_ABORTED: Self = Self(0x40);
}

/// Host byte of a result (vscsiif.h, `XEN_VSCSIIF_RSLT_HOST_*`; the same numbers as Linux's `DID_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostStatus(pub u8);

impl HostStatus {
    /// The command reached the device and came back.
    pub const OK: Self = Self(0);
    /// No such device.
    pub const NO_CONNECT: Self = Self(1);
    /// The bus stayed busy.
    pub const BUS_BUSY: Self = Self(2);
    /// The device did not answer in time.
    pub const TIME_OUT: Self = Self(3);
    /// Aborted on request.
    pub const ABORT: Self = Self(5);
    /// Anything else.
    pub const ERROR: Self = Self(7);
    /// The device was reset under the command.
    pub const RESET: Self = Self(8);
    /// Transport disrupted: the guest may retry.
    pub const TRANSPORT_DISRUPTED: Self = Self(14);
}

/// Sense data, of at most [`SENSE_MAX`] bytes.
#[derive(Clone, Copy)]
pub struct Sense {
    bytes: [u8; SENSE_MAX],
    len: u8,
}

impl std::fmt::Debug for Sense {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sense({:02x?})", self.as_bytes())
    }
}

impl PartialEq for Sense {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Sense {}

impl Sense {
    /// PARAMETER LIST LENGTH ERROR (SPC-5, 4.4, as the others here; key ILLEGAL REQUEST).
    pub const PARAMETER_LIST_LENGTH_ERROR: Self = Self::fixed(0x05, 0x1a, 0x00);
    /// INVALID COMMAND OPERATION CODE.
    pub const INVALID_OPCODE: Self = Self::fixed(0x05, 0x20, 0x00);
    /// INVALID FIELD IN CDB.
    pub const INVALID_FIELD_IN_CDB: Self = Self::fixed(0x05, 0x24, 0x00);
    /// INVALID FIELD IN PARAMETER LIST.
    pub const INVALID_FIELD_IN_LIST: Self = Self::fixed(0x05, 0x26, 0x00);
    /// No sense data.
    pub const NONE: Self = Self { bytes: [0; SENSE_MAX], len: 0 };

    /// Current error in fixed format, 18 bytes (SPC-5, 4.4.3).
    #[must_use]
    pub const fn fixed(key: u8, asc: u8, ascq: u8) -> Self {
        let mut bytes = [0; SENSE_MAX];
        bytes[0] = 0x70;
        bytes[2] = key;
        bytes[7] = 10;
        bytes[12] = asc;
        bytes[13] = ascq;
        Self { bytes, len: 18 }
    }

    /// The same with the VALID bit and the INFORMATION field (the LBA of a medium error or a miscompare's offset).
    #[must_use]
    pub const fn fixed_with_information(key: u8, asc: u8, ascq: u8, information: u32) -> Self {
        let mut sense = Self::fixed(key, asc, ascq);
        let info = information.to_be_bytes();
        sense.bytes[0] = 0xf0;
        sense.bytes[3] = info[0];
        sense.bytes[4] = info[1];
        sense.bytes[5] = info[2];
        sense.bytes[6] = info[3];
        sense
    }

    /// What a device wrote: as long as it says itself (8 + byte 7, SPC-5, 4.4), at most what there is. Bytes that are no
    /// sense data (response code not 70h to 73h) give [`Sense::NONE`].
    #[must_use]
    pub fn from_device(written: &[u8]) -> Self {
        let mut sense = Self::NONE;
        let is_sense = written.first().is_some_and(|first| matches!(first & 0x7f, 0x70..=0x73));
        if !is_sense {
            return sense;
        }
        let said = written.get(7).map_or(8, |additional| usize::from(*additional).saturating_add(8));
        let len = said.min(written.len()).min(SENSE_MAX);
        if let (Some(to), Some(from)) = (sense.bytes.get_mut(..len), written.get(..len)) {
            to.copy_from_slice(from);
        }
        sense.len = u8::try_from(len).unwrap_or(0);
        sense
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// Sense key, additional sense code and qualifier, from fixed or descriptor format; `None` without sense.
    #[must_use]
    pub fn key_asc_ascq(&self) -> Option<(u8, u8, u8)> {
        let at = |i: usize| self.as_bytes().get(i).copied();
        match at(0)? & 0x7f {
            0x70 | 0x71 => Some((at(2)? & 0xf, at(12).unwrap_or(0), at(13).unwrap_or(0))),
            0x72 | 0x73 => Some((at(1)? & 0xf, at(2)?, at(3)?)),
            _ => None,
        }
    }
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it reached the device at all.
    pub host: HostStatus,
    /// The device's status; only meaningful when it did.
    pub status: SamStatus,
    /// The device's sense data.
    pub sense: Sense,
    /// Bytes of the buffer that were not transferred.
    pub residual: u32,
}

impl Outcome {
    /// GOOD, with this many bytes of the buffer not used.
    #[must_use]
    pub const fn good(residual: u32) -> Self {
        Self { host: HostStatus::OK, status: SamStatus::GOOD, sense: Sense::NONE, residual }
    }

    /// BUSY; nothing of the `buffer_len` bytes was transferred.
    #[must_use]
    pub const fn busy(buffer_len: u32) -> Self {
        Self { host: HostStatus::OK, status: SamStatus::BUSY, sense: Sense::NONE, residual: buffer_len }
    }

    /// Whether data can have come with it. A device that refuses a command before it begins (NOT READY, ILLEGAL REQUEST, UNIT ATTENTION,
    /// DATA PROTECT; SPC-5, 4.4.8) sends none; a driver that then says that all of it came, as some do, does not count.
    #[must_use]
    pub fn may_bring_data(&self) -> bool {
        let refused =
            self.sense.key_asc_ascq().is_some_and(|(key, ..)| matches!(key, 0x02 | 0x05 | 0x06 | 0x07));
        !(self.status == SamStatus::CHECK_CONDITION && self.residual == 0 && refused)
    }

    /// CHECK CONDITION; nothing of the `buffer_len` bytes was transferred.
    #[must_use]
    pub const fn check_condition(sense: Sense, buffer_len: u32) -> Self {
        Self { host: HostStatus::OK, status: SamStatus::CHECK_CONDITION, sense, residual: buffer_len }
    }

    /// A failure outside the device. The status is CHECK CONDITION with sense ABORTED COMMAND, so that a frontend which
    /// sees only the low 16 bits of `rslt` does not take it for success.
    #[must_use]
    pub const fn host_error(host: HostStatus, buffer_len: u32) -> Self {
        Self {
            host,
            status: SamStatus::CHECK_CONDITION,
            // ABORTED COMMAND, no additional sense information.
            sense: Sense::fixed(0x0b, 0, 0),
            residual: buffer_len,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_behind_a_cdb_are_zero() {
        let cdb = Cdb::new([0xff; 16], 6).unwrap();
        assert_eq!(cdb.padded(), &[255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Cdb::new([1; 16], 0).unwrap().opcode(), 0);
        assert!(Cdb::new([0; 16], 17).is_none());
        assert_eq!(Cdb::new([7; 16], 16).unwrap().padded(), &[7; 16]);
    }

    /// SPC-5, 4.2.5.1, table 23: group 0 six bytes, 1 and 2 ten, 3 reserved, 4 sixteen, 5 twelve, 6 and 7 vendor specific.
    #[test]
    fn command_lengths_follow_the_group() {
        for (opcode, len) in
            [(0x00, 6), (0x1f, 6), (0x28, 10), (0x5f, 10), (0x88, 16), (0x9f, 16), (0xa0, 12), (0xbf, 12)]
        {
            let mut bytes = [0; 16];
            bytes[0] = opcode;
            assert_eq!(Cdb::new(bytes, 1).unwrap().command_len(), len, "opcode {opcode:#04x}");
        }
        let vendor = [0xc1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Cdb::new(vendor, 12).unwrap().command_len(), 12);
        assert_eq!(Cdb::new(vendor, 2).unwrap().command_len(), 6);
    }

    #[test]
    fn sense_is_as_long_as_it_says() {
        let mut written = [0_u8; 96];
        written[0] = 0x70;
        written[2] = 5;
        written[7] = 10;
        written[12] = 0x20;
        assert_eq!(Sense::from_device(&written).as_bytes().len(), 18);
        assert_eq!(Sense::from_device(&written).key_asc_ascq(), Some((5, 0x20, 0)));
        written[7] = 255;
        assert_eq!(Sense::from_device(&written).as_bytes().len(), 96, "never more than there is room for");
        assert_eq!(Sense::from_device(&written[..20]).as_bytes().len(), 20, "never more than was written");
        written[0] = 0x00;
        assert_eq!(Sense::from_device(&written), Sense::NONE, "zeroes are no sense");
        assert_eq!(Sense::from_device(&[]), Sense::NONE);
        let descriptor = [0x72, 0x03, 0x11, 0x04, 0, 0, 0, 0];
        assert_eq!(Sense::from_device(&descriptor).key_asc_ascq(), Some((3, 0x11, 4)));
    }

    #[test]
    fn a_host_error_is_never_success_in_16_bits() {
        let outcome = Outcome::host_error(HostStatus::ERROR, 512);
        assert_ne!(outcome.status, SamStatus::GOOD);
        assert_eq!(outcome.residual, 512);
        assert_eq!(outcome.sense.key_asc_ascq(), Some((0x0b, 0, 0)));
    }

    #[test]
    fn a_refusal_brings_no_data_whatever_the_driver_says() {
        for (key, brings) in
            [(0, true), (1, true), (2, false), (3, true), (5, false), (6, false), (7, false), (8, true)]
        {
            let all_came = Outcome { residual: 0, ..Outcome::check_condition(Sense::fixed(key, 0, 0), 0) };
            assert_eq!(all_came.may_bring_data(), brings, "key {key}");
            assert!(Outcome { residual: 1, ..all_came }.may_bring_data(), "the driver knows better");
        }
        assert!(Outcome::good(0).may_bring_data());
    }
}
