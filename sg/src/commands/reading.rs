//! Commands that read or position, and change nothing: a read-only unit takes these and no others.
//!
//! The lists say what is allowed, so that an unknown operation code, an unknown service action and whatever a vendor has made
//! up are refused. Commands are cited by standard and name, since clauses moved between drafts; the table of operation codes of
//! each standard leads to them.

use super::{CommandSet, service_action};

/// When a command reads only.
#[derive(Clone, Copy)]
pub(super) enum Reads {
    Always,
    /// By its CDB and the data that goes to the device with it.
    When(fn(cdb: &[u8; 16], data_out: &[u8]) -> bool),
}
use Reads::{Always, When};

/// An operation code, its name, and when it reads only.
pub(super) type Row = (u8, &'static str, Reads);

/// Those of the set's own standard.
pub(super) fn own(set: CommandSet) -> &'static [Row] {
    match set {
        CommandSet::Sbc => SBC,
        CommandSet::Ssc => SSC,
        CommandSet::Mmc => MMC,
        CommandSet::Smc => SMC,
        CommandSet::Printer | CommandSet::Processor | CommandSet::Scanner | CommandSet::Spc => &[],
    }
}

/// When a command with this operation code reads only, if it ever does; the unit's own standard first.
pub(super) fn find(set: CommandSet, opcode: u8) -> Option<Reads> {
    own(set).iter().chain(SPC).find(|(known, ..)| *known == opcode).map(|(_, _, reads)| *reads)
}

/// SPC-5, all device types.
///
/// Not here: RESERVE, RELEASE and PERSISTENT RESERVE OUT, which shut others out; MODE SELECT, LOG SELECT, SEND DIAGNOSTIC,
/// MAINTENANCE OUT and SECURITY PROTOCOL OUT, which change the device for others; WRITE BUFFER (microcode); WRITE ATTRIBUTE;
/// EXTENDED COPY and its kin (83h, 84h), which write to other units as well.
pub(super) const SPC: &[Row] = &[
    (0x00, "TEST UNIT READY", Always),
    (0x03, "REQUEST SENSE", Always),
    (0x12, "INQUIRY", Always),
    (0x1a, "MODE SENSE (6)", Always),
    (0x1c, "RECEIVE DIAGNOSTIC RESULTS", Always),
    (0x3c, "READ BUFFER (10)", When(reads_buffer)),
    (0x4d, "LOG SENSE", Always),
    (0x5a, "MODE SENSE (10)", Always),
    (0x5e, "PERSISTENT RESERVE IN", When(reads_reservation)),
    (0x8c, "READ ATTRIBUTE", Always),
    (0x9b, "READ BUFFER (16)", When(reads_buffer)),
    (0xa0, "REPORT LUNS", Always),
    (0xa2, "SECURITY PROTOCOL IN", Always),
    (0xa3, "MAINTENANCE IN", When(reports)),
    // SERVICE ACTION IN (12): READ MEDIA SERIAL NUMBER (SPC-4).
    (0xab, "SERVICE ACTION IN (12)", When(|cdb, _| service_action(cdb) == 0x01)),
];

/// SBC-4, and what earlier versions had besides.
///
/// Not here, though they move no data: FORMAT UNIT, REASSIGN BLOCKS, UNMAP, SANITIZE; STREAM CONTROL, BACKGROUND CONTROL and
/// REMOVE ELEMENT AND TRUNCATE, which are service actions *in* (9Eh); ZONE ACTIVATE, which is one too (95h). ATA PASS-THROUGH
/// (85h, A1h, 7Fh/1FF0h) carries any ATA command, so it can write.
const SBC: &[Row] = &[
    (0x08, "READ (6)", Always), // SBC-2
    (0x0b, "SEEK (6)", Always), // SBC
    (0x1b, "START STOP UNIT", When(starts_disk)),
    (0x1e, "PREVENT ALLOW MEDIUM REMOVAL", Always),
    (0x25, "READ CAPACITY (10)", Always),
    (0x28, "READ (10)", Always),
    (0x2b, "SEEK (10)", Always), // SBC-2
    (0x2f, "VERIFY (10)", Always),
    (0x34, "PRE-FETCH (10)", Always),
    (0x35, "SYNCHRONIZE CACHE (10)", Always), // what others wrote, where it was to go
    (0x37, "READ DEFECT DATA (10)", Always),
    (0x3e, "READ LONG (10)", Always), // SBC-3
    (0x88, "READ (16)", Always),
    (0x8f, "VERIFY (16)", Always),
    (0x90, "PRE-FETCH (16)", Always),
    (0x91, "SYNCHRONIZE CACHE (16)", Always),
    // ZBC IN (ZBC-2): REPORT ZONES, REPORT REALMS, REPORT ZONE DOMAINS.
    (0x95, "ZBC IN", When(|cdb, _| matches!(service_action(cdb), 0x00 | 0x06 | 0x07))),
    // SERVICE ACTION IN (16): READ CAPACITY (16), READ LONG (16), GET LBA STATUS (16), REPORT REFERRALS, GET STREAM STATUS,
    // GET PHYSICAL ELEMENT STATUS.
    (0x9e, "SERVICE ACTION IN (16)", When(|cdb, _| matches!(service_action(cdb), 0x10..=0x13 | 0x16 | 0x17))),
    (0xa8, "READ (12)", Always),
    (0xaf, "VERIFY (12)", Always),
    (0xb7, "READ DEFECT DATA (12)", Always),
];

/// SSC-5.
///
/// A tape has one position, and one user at a time: moving it, and taking it out, is a part of reading it. Not here: WRITE
/// FILEMARKS of any count, ERASE, FORMAT MEDIUM, SET CAPACITY, ALLOW OVERWRITE; RECOVER BUFFERED DATA, which takes what
/// another has written and the tape has not.
const SSC: &[Row] = &[
    (0x01, "REWIND", Always),
    (0x05, "READ BLOCK LIMITS", Always),
    (0x08, "READ (6)", Always),
    (0x0f, "READ REVERSE (6)", Always),
    (0x11, "SPACE (6)", Always),
    (0x13, "VERIFY (6)", Always),
    (0x15, "MODE SELECT (6)", When(sets_block_length)),
    (0x1b, "LOAD UNLOAD", Always),
    (0x1e, "PREVENT ALLOW MEDIUM REMOVAL", Always),
    (0x2b, "LOCATE (10)", Always),
    (0x34, "READ POSITION", Always),
    (0x44, "REPORT DENSITY SUPPORT", Always),
    (0x55, "MODE SELECT (10)", When(sets_block_length)),
    (0x81, "READ REVERSE (16)", Always),
    (0x88, "READ (16)", Always),
    (0x8f, "VERIFY (16)", Always),
    (0x91, "SPACE (16)", Always),
    (0x92, "LOCATE (16)", Always),
];

/// MMC-6, and what earlier versions had besides.
///
/// A drive has one user at a time as well: playing, speed and ejecting are its reader's. Not here: BLANK, CLOSE
/// TRACK/SESSION, RESERVE TRACK, REPAIR TRACK, SEND OPC INFORMATION, SEND CUE SHEET, SEND DISC STRUCTURE; SYNCHRONIZE CACHE,
/// which can end a recording of another's; MODE SELECT.
const MMC: &[Row] = &[
    (0x1b, "START STOP UNIT", When(keeps_power)),
    (0x1e, "PREVENT ALLOW MEDIUM REMOVAL", Always),
    (0x23, "READ FORMAT CAPACITIES", Always),
    (0x25, "READ CAPACITY", Always),
    (0x28, "READ (10)", Always),
    (0x2b, "SEEK (10)", Always),
    (0x2f, "VERIFY (10)", Always),
    (0x42, "READ SUB-CHANNEL", Always), // MMC-4
    (0x43, "READ TOC/PMA/ATIP", Always),
    (0x44, "READ HEADER", Always),     // MMC-2
    (0x45, "PLAY AUDIO (10)", Always), // MMC-4
    (0x46, "GET CONFIGURATION", Always),
    (0x47, "PLAY AUDIO MSF", Always),         // MMC-4
    (0x48, "PLAY AUDIO TRACK INDEX", Always), // SCSI-2
    (0x4a, "GET EVENT STATUS NOTIFICATION", Always),
    (0x4b, "PAUSE/RESUME", Always),   // MMC-4
    (0x4e, "STOP PLAY/SCAN", Always), // MMC-4
    (0x51, "READ DISC INFORMATION", Always),
    (0x52, "READ TRACK INFORMATION", Always),
    (0x5c, "READ BUFFER CAPACITY", Always),
    (0xa3, "SEND KEY", When(authenticates)),
    (0xa4, "REPORT KEY", Always),
    (0xa5, "PLAY AUDIO (12)", Always), // MMC-4
    (0xa6, "LOAD/UNLOAD MEDIUM", Always),
    (0xa7, "SET READ AHEAD", Always),
    (0xa8, "READ (12)", Always),
    (0xac, "GET PERFORMANCE", Always),
    (0xad, "READ DISC STRUCTURE", Always),
    // SET STREAMING of a performance descriptor; other types set aside parts of the medium.
    (0xb6, "SET STREAMING", When(|cdb, _| cdb[8] == 0)),
    (0xb9, "READ CD MSF", Always),
    (0xba, "SCAN", Always), // MMC-4
    (0xbb, "SET CD SPEED", Always),
    (0xbd, "MECHANISM STATUS", Always),
    (0xbe, "READ CD", Always),
];

/// SMC-3. Taking stock moves the arm only; what moves a medium (MOVE MEDIUM, EXCHANGE MEDIUM, OPEN/CLOSE IMPORT/EXPORT
/// ELEMENT) or a label (SEND VOLUME TAG) is not here.
const SMC: &[Row] = &[
    (0x07, "INITIALIZE ELEMENT STATUS", Always),
    (0x1e, "PREVENT ALLOW MEDIUM REMOVAL", Always),
    (0x2b, "POSITION TO ELEMENT", Always),
    (0x37, "INITIALIZE ELEMENT STATUS WITH RANGE", Always),
    (0xb8, "READ ELEMENT STATUS", Always),
];

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
