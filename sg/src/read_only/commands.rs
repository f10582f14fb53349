//! Which commands a read-only unit takes: those that read or position, and no others.
//!
//! The lists say what is allowed, so that an unknown operation code, an unknown service action and whatever a vendor has made
//! up are refused. A command of the unit's own command set comes before one of SPC with the same code: A3h is SEND KEY for a
//! DVD drive and MAINTENANCE IN for all others. Commands are cited by standard and name, since clauses moved between drafts;
//! the table of operation codes of each standard leads to them.

/// Whether a command is taken, by its CDB and the data that goes to the device with it.
type Rule = fn(cdb: &[u8; 16], data_out: &[u8]) -> bool;

/// An operation code and when it is taken.
type Row = (u8, Rule);

/// The standard that says what a unit's operation codes mean, beside SPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandSet {
    /// Disks.
    Sbc,
    /// Tapes.
    Ssc,
    /// CD, DVD and BD drives.
    Mmc,
    /// Medium changers.
    Smc,
    /// Any other, of whose commands only those of SPC are known.
    Spc,
}

impl CommandSet {
    /// Of a peripheral device type (SPC-5, Standard INQUIRY data). Write-once and optical memory (04h, 07h) are types of SBC;
    /// simplified disks (0Eh, RBC) and zoned ones (14h, ZBC) are based on it.
    pub(super) fn of(device_type: u8) -> Self {
        match device_type {
            0x00 | 0x04 | 0x07 | 0x0e | 0x14 => Self::Sbc,
            0x01 => Self::Ssc,
            0x05 => Self::Mmc,
            0x08 => Self::Smc,
            _ => Self::Spc,
        }
    }

    /// Whether a unit that is not to be written takes this command.
    pub(super) fn takes(self, cdb: &[u8; 16], data_out: &[u8]) -> bool {
        let own = match self {
            Self::Sbc => SBC,
            Self::Ssc => SSC,
            Self::Mmc => MMC,
            Self::Smc => SMC,
            Self::Spc => &[],
        };
        let row = own.iter().chain(SPC).find(|(opcode, _)| *opcode == cdb[0]);
        row.is_some_and(|(_, rule)| rule(cdb, data_out))
    }

    /// Where the answer to this command has its WP bit, bit 7 of the DEVICE-SPECIFIC PARAMETER in the mode parameter header
    /// (SPC-5, Mode parameter header formats). SBC-4 and SSC-5 define it; elsewhere the bit is reserved.
    pub(super) fn write_protect_byte(self, cdb: &[u8; 16]) -> Option<usize> {
        match (self, cdb[0]) {
            (Self::Sbc | Self::Ssc, 0x1a) => Some(2),
            (Self::Sbc | Self::Ssc, 0x5a) => Some(3),
            _ => None,
        }
    }
}

const ALWAYS: Rule = |_, _| true;

/// SPC-5, all device types.
///
/// Not here: RESERVE, RELEASE and PERSISTENT RESERVE OUT, which shut others out; MODE SELECT, LOG SELECT, SEND DIAGNOSTIC,
/// MAINTENANCE OUT and SECURITY PROTOCOL OUT, which change the device for others; WRITE BUFFER (microcode); WRITE ATTRIBUTE;
/// EXTENDED COPY and its kin (83h, 84h), which write to other units as well.
const SPC: &[Row] = &[
    (0x00, ALWAYS),            // TEST UNIT READY
    (0x03, ALWAYS),            // REQUEST SENSE
    (0x12, ALWAYS),            // INQUIRY
    (0x1a, ALWAYS),            // MODE SENSE (6)
    (0x1c, ALWAYS),            // RECEIVE DIAGNOSTIC RESULTS
    (0x3c, reads_buffer),      // READ BUFFER (10)
    (0x4d, ALWAYS),            // LOG SENSE
    (0x5a, ALWAYS),            // MODE SENSE (10)
    (0x5e, reads_reservation), // PERSISTENT RESERVE IN
    (0x8c, ALWAYS),            // READ ATTRIBUTE
    (0x9b, reads_buffer),      // READ BUFFER (16)
    (0xa0, ALWAYS),            // REPORT LUNS
    (0xa2, ALWAYS),            // SECURITY PROTOCOL IN
    (0xa3, reports),           // MAINTENANCE IN
    // SERVICE ACTION IN (12): READ MEDIA SERIAL NUMBER (SPC-4).
    (0xab, |cdb, _| service_action(cdb) == 0x01),
];

/// SBC-4, and what earlier versions had besides.
///
/// Not here, though they move no data: FORMAT UNIT, REASSIGN BLOCKS, UNMAP, SANITIZE; STREAM CONTROL, BACKGROUND CONTROL and
/// REMOVE ELEMENT AND TRUNCATE, which are service actions *in* (9Eh); ZONE ACTIVATE, which is one too (95h). ATA PASS-THROUGH
/// (85h, A1h, 7Fh/1FF0h) carries any ATA command, so it can write.
const SBC: &[Row] = &[
    (0x08, ALWAYS),      // READ (6) (SBC-2)
    (0x0b, ALWAYS),      // SEEK (6) (SBC)
    (0x1b, starts_disk), // START STOP UNIT
    (0x1e, ALWAYS),      // PREVENT ALLOW MEDIUM REMOVAL
    (0x25, ALWAYS),      // READ CAPACITY (10)
    (0x28, ALWAYS),      // READ (10)
    (0x2b, ALWAYS),      // SEEK (10) (SBC-2)
    (0x2f, ALWAYS),      // VERIFY (10)
    (0x34, ALWAYS),      // PRE-FETCH (10)
    (0x35, ALWAYS),      // SYNCHRONIZE CACHE (10): what others wrote, where it was to go
    (0x37, ALWAYS),      // READ DEFECT DATA (10)
    (0x3e, ALWAYS),      // READ LONG (10) (SBC-3)
    // Variable length: READ (32), VERIFY (32), GET LBA STATUS (32). The ring carries the first half of such a CDB; this half
    // has the service action, and what becomes of it is the device's to say.
    (0x7f, |cdb, _| matches!(u16::from_be_bytes([cdb[8], cdb[9]]), 0x0009 | 0x000a | 0x0012)),
    (0x88, ALWAYS), // READ (16)
    (0x8f, ALWAYS), // VERIFY (16)
    (0x90, ALWAYS), // PRE-FETCH (16)
    (0x91, ALWAYS), // SYNCHRONIZE CACHE (16)
    // ZBC IN (ZBC-2): REPORT ZONES, REPORT REALMS, REPORT ZONE DOMAINS.
    (0x95, |cdb, _| matches!(service_action(cdb), 0x00 | 0x06 | 0x07)),
    // SERVICE ACTION IN (16): READ CAPACITY (16), READ LONG (16), GET LBA STATUS (16), REPORT REFERRALS, GET STREAM STATUS,
    // GET PHYSICAL ELEMENT STATUS.
    (0x9e, |cdb, _| matches!(service_action(cdb), 0x10..=0x13 | 0x16 | 0x17)),
    (0xa8, ALWAYS), // READ (12)
    (0xaf, ALWAYS), // VERIFY (12)
    (0xb7, ALWAYS), // READ DEFECT DATA (12)
];

/// SSC-5.
///
/// A tape has one position, and one user at a time: moving it, and taking it out, is a part of reading it. Not here: WRITE
/// FILEMARKS of any count, ERASE, FORMAT MEDIUM, SET CAPACITY, ALLOW OVERWRITE; RECOVER BUFFERED DATA, which takes what
/// another has written and the tape has not.
const SSC: &[Row] = &[
    (0x01, ALWAYS),            // REWIND
    (0x05, ALWAYS),            // READ BLOCK LIMITS
    (0x08, ALWAYS),            // READ (6)
    (0x0f, ALWAYS),            // READ REVERSE (6)
    (0x11, ALWAYS),            // SPACE (6)
    (0x13, ALWAYS),            // VERIFY (6)
    (0x15, sets_block_length), // MODE SELECT (6)
    (0x1b, ALWAYS),            // LOAD UNLOAD
    (0x1e, ALWAYS),            // PREVENT ALLOW MEDIUM REMOVAL
    (0x2b, ALWAYS),            // LOCATE (10)
    (0x34, ALWAYS),            // READ POSITION
    (0x44, ALWAYS),            // REPORT DENSITY SUPPORT
    (0x55, sets_block_length), // MODE SELECT (10)
    (0x81, ALWAYS),            // READ REVERSE (16)
    (0x88, ALWAYS),            // READ (16)
    (0x8f, ALWAYS),            // VERIFY (16)
    (0x91, ALWAYS),            // SPACE (16)
    (0x92, ALWAYS),            // LOCATE (16)
];

/// MMC-6, and what earlier versions had besides.
///
/// A drive has one user at a time as well: playing, speed and ejecting are its reader's. Not here: BLANK, CLOSE
/// TRACK/SESSION, RESERVE TRACK, REPAIR TRACK, SEND OPC INFORMATION, SEND CUE SHEET, SEND DISC STRUCTURE; SYNCHRONIZE CACHE,
/// which can end a recording of another's; MODE SELECT.
const MMC: &[Row] = &[
    (0x1b, keeps_power),   // START STOP UNIT
    (0x1e, ALWAYS),        // PREVENT ALLOW MEDIUM REMOVAL
    (0x23, ALWAYS),        // READ FORMAT CAPACITIES
    (0x25, ALWAYS),        // READ CAPACITY
    (0x28, ALWAYS),        // READ (10)
    (0x2b, ALWAYS),        // SEEK (10)
    (0x2f, ALWAYS),        // VERIFY (10)
    (0x42, ALWAYS),        // READ SUB-CHANNEL (MMC-4)
    (0x43, ALWAYS),        // READ TOC/PMA/ATIP
    (0x44, ALWAYS),        // READ HEADER (MMC-2)
    (0x45, ALWAYS),        // PLAY AUDIO (10) (MMC-4)
    (0x46, ALWAYS),        // GET CONFIGURATION
    (0x47, ALWAYS),        // PLAY AUDIO MSF (MMC-4)
    (0x48, ALWAYS),        // PLAY AUDIO TRACK INDEX (SCSI-2)
    (0x4a, ALWAYS),        // GET EVENT STATUS NOTIFICATION
    (0x4b, ALWAYS),        // PAUSE/RESUME (MMC-4)
    (0x4e, ALWAYS),        // STOP PLAY/SCAN (MMC-4)
    (0x51, ALWAYS),        // READ DISC INFORMATION
    (0x52, ALWAYS),        // READ TRACK INFORMATION
    (0x5c, ALWAYS),        // READ BUFFER CAPACITY
    (0xa3, authenticates), // SEND KEY
    (0xa4, ALWAYS),        // REPORT KEY
    (0xa5, ALWAYS),        // PLAY AUDIO (12) (MMC-4)
    (0xa6, ALWAYS),        // LOAD/UNLOAD MEDIUM
    (0xa7, ALWAYS),        // SET READ AHEAD
    (0xa8, ALWAYS),        // READ (12)
    (0xac, ALWAYS),        // GET PERFORMANCE
    (0xad, ALWAYS),        // READ DISC STRUCTURE
    // SET STREAMING of a performance descriptor; other types set aside parts of the medium.
    (0xb6, |cdb, _| cdb[8] == 0),
    (0xb9, ALWAYS), // READ CD MSF
    (0xba, ALWAYS), // SCAN (MMC-4)
    (0xbb, ALWAYS), // SET CD SPEED
    (0xbd, ALWAYS), // MECHANISM STATUS
    (0xbe, ALWAYS), // READ CD
];

/// SMC-3. Taking stock moves the arm only; what moves a medium (MOVE MEDIUM, EXCHANGE MEDIUM, OPEN/CLOSE IMPORT/EXPORT
/// ELEMENT) or a label (SEND VOLUME TAG) is not here.
const SMC: &[Row] = &[
    (0x07, ALWAYS), // INITIALIZE ELEMENT STATUS
    (0x1e, ALWAYS), // PREVENT ALLOW MEDIUM REMOVAL
    (0x2b, ALWAYS), // POSITION TO ELEMENT
    (0x37, ALWAYS), // INITIALIZE ELEMENT STATUS WITH RANGE
    (0xb8, ALWAYS), // READ ELEMENT STATUS
];

/// The lower five bits of byte 1, where all CDBs but those of variable length have their service action or mode.
fn service_action(cdb: &[u8; 16]) -> u8 {
    cdb[1] & 0x1f
}

/// Data, descriptor, echo buffer and its descriptor, microcode status (SPC-5, READ BUFFER (10), MODE field). The others are a
/// vendor's, or take and release the error history.
fn reads_buffer(cdb: &[u8; 16], _: &[u8]) -> bool {
    matches!(service_action(cdb), 0x02 | 0x03 | 0x0a | 0x0b | 0x0f)
}

/// READ KEYS, READ RESERVATION, REPORT CAPABILITIES, READ FULL STATUS (SPC-5).
fn reads_reservation(cdb: &[u8; 16], _: &[u8]) -> bool {
    service_action(cdb) <= 0x03
}

/// REPORT IDENTIFYING INFORMATION, TARGET PORT GROUPS, ALIASES, SUPPORTED OPERATION CODES, SUPPORTED TASK MANAGEMENT
/// FUNCTIONS, PRIORITY, TIMESTAMP (SPC-5); REPORT PROVISIONING INITIALIZATION PATTERN (SBC-4) and RECEIVE RECOMMENDED ACCESS
/// ORDER (SSC-5), which share a code; READ DYNAMIC RUNTIME ATTRIBUTE (SSC-5).
fn reports(cdb: &[u8; 16], _: &[u8]) -> bool {
    matches!(service_action(cdb), 0x05 | 0x0a..=0x0f | 0x1d | 0x1e)
}

/// START STOP UNIT of a disk that only starts it, as a disk that came up without spinning needs. A stop, a power condition or
/// an eject (LOEJ) would take the disk from all who share it.
fn starts_disk(cdb: &[u8; 16], _: &[u8]) -> bool {
    // POWER CONDITION, LOEJ and START; NO_FLUSH means something in a stop only.
    cdb[4] & 0xf3 == 0x01
}

/// START STOP UNIT of a drive: starts, stops, loads and ejects, but sets no power condition. Out of SLEEP only a reset leads.
fn keeps_power(cdb: &[u8; 16], _: &[u8]) -> bool {
    cdb[4] & 0xf0 == 0
}

/// SEND KEY that a player needs: challenge and key of CSS (key class 00h) and of AACS (02h), and giving the grant back. Key
/// format 06h sets the region of a drive, which it can do five times in its life.
fn authenticates(cdb: &[u8; 16], _: &[u8]) -> bool {
    matches!((cdb[7], cdb[10] & 0x3f), (0x00 | 0x02, 0x01 | 0x02 | 0x03 | 0x3f))
}

/// MODE SELECT of a tape that sets the block length, without which a tape of fixed blocks cannot be read: a header with or
/// without one block descriptor, and no page. Medium Partition pages repartition the tape, many drives do so at once; others
/// set how it is written. SP, which saves for good, and RTD, which resets all pages, are not for a reader (SPC-5, MODE SELECT
/// (6)).
fn sets_block_length(cdb: &[u8; 16], data_out: &[u8]) -> bool {
    let (list, header, descriptors) = match (cdb[0], data_out) {
        (0x15, [_, _, _, descriptors, ..]) => (u16::from(cdb[4]), 4, u16::from(*descriptors)),
        (0x55, [_, _, _, _, _, _, high, low, ..]) => {
            (u16::from_be_bytes([cdb[7], cdb[8]]), 8, u16::from_be_bytes([*high, *low]))
        }
        _ => return false,
    };
    let is_whole = usize::from(list) <= data_out.len();
    let has_no_page = list.checked_sub(header) == Some(descriptors) && descriptors <= 8;
    cdb[1] & 0x0f == 0 && is_whole && has_no_page
}
