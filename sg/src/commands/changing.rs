//! Commands that do more than read, and what they risk.
//!
//! What a device of its kind needs in daily work passes, all writing included. A command is refused when it reaches beyond the
//! unit, or changes the device for good or for others that use it. Reserving passes: it is how clusters work.

use super::{CommandSet, Group, Known, Rule, service_action};

const fn known(opcode: u8, name: &'static str, rule: Rule, note: &'static str) -> Known {
    Known { opcode, name, rule, note }
}

/// Those of the set's own standard.
pub(super) fn own(set: CommandSet) -> &'static [Known] {
    match set {
        CommandSet::Sbc => SBC,
        CommandSet::Ssc => SSC,
        CommandSet::Mmc => MMC,
        CommandSet::Smc => SMC,
        CommandSet::Printer => PRINTER,
        CommandSet::Processor => PROCESSOR,
        CommandSet::Scanner => SCANNER,
        CommandSet::Spc => &[],
    }
}

/// SPC-5 and earlier versions. MODE SELECT and LOG SELECT pass, SP and all: what they set is the user's to set, as on a host.
pub(super) const SPC: &[Known] = &[
    known(0x15, "MODE SELECT (6)", Rule::Passes, ""),
    known(0x16, "RESERVE (6)", Rule::By(third_party), "all but for a third party passes"),
    known(0x17, "RELEASE (6)", Rule::By(third_party), "all but for a third party passes"),
    known(0x18, "COPY", Rule::Refused(Group::ThirdParty), ""),
    known(
        0x1d,
        "SEND DIAGNOSTIC",
        Rule::By(diagnostic),
        "self-tests of this unit and pages but Download Microcode pass",
    ),
    known(0x39, "COMPARE", Rule::Refused(Group::ThirdParty), ""),
    known(0x3a, "COPY AND VERIFY", Rule::Refused(Group::ThirdParty), ""),
    known(0x3b, "WRITE BUFFER", Rule::By(write_buffer), "data and echo buffer pass"),
    known(0x3c, "READ BUFFER (10)", Rule::By(read_buffer), "all but vendors' modes pass"),
    known(0x40, "CHANGE DEFINITION", Rule::Refused(Group::Settings), ""),
    known(0x4c, "LOG SELECT", Rule::Passes, ""),
    known(0x55, "MODE SELECT (10)", Rule::Passes, ""),
    known(0x56, "RESERVE (10)", Rule::By(third_party), "all but for a third party passes"),
    known(0x57, "RELEASE (10)", Rule::By(third_party), "all but for a third party passes"),
    known(0x5f, "PERSISTENT RESERVE OUT", Rule::By(reserve_out), "service actions 00h to 08h pass"),
    known(0x83, "EXTENDED COPY", Rule::Refused(Group::ThirdParty), ""),
    known(0x84, "RECEIVE COPY RESULTS", Rule::Refused(Group::ThirdParty), ""),
    known(
        0x85,
        "ATA PASS-THROUGH (16)",
        Rule::By(ata_16),
        "identification, SMART that does not write logs, logs, power modes and cache flushes pass",
    ),
    known(0x86, "ACCESS CONTROL IN", Rule::Refused(Group::Settings), ""),
    known(0x87, "ACCESS CONTROL OUT", Rule::Refused(Group::Settings), ""),
    known(0x8d, "WRITE ATTRIBUTE", Rule::Passes, ""),
    known(0x9b, "READ BUFFER (16)", Rule::By(read_buffer), "all but vendors' modes pass"),
    known(0xa4, "MAINTENANCE OUT", Rule::By(maintenance_out), "SET TIMESTAMP passes"),
    known(0xb5, "SECURITY PROTOCOL OUT", Rule::Refused(Group::Security), ""),
];

/// SBC-4, ZBC-2, SAT-4, and earlier versions. REASSIGN BLOCKS and WRITE LONG change blocks of the unit alone. Of a CDB of
/// variable length the ring carries the first half only.
const SBC: &[Known] = &[
    known(0x01, "REZERO UNIT", Rule::Passes, ""),
    known(0x04, "FORMAT UNIT", Rule::Refused(Group::Format), ""),
    known(0x07, "REASSIGN BLOCKS", Rule::Passes, ""),
    known(0x0a, "WRITE (6)", Rule::Passes, ""),
    known(0x1b, "START STOP UNIT", Rule::Passes, ""),
    known(0x2a, "WRITE (10)", Rule::Passes, ""),
    known(0x2c, "ERASE (10)", Rule::Passes, ""),
    known(0x2e, "WRITE AND VERIFY (10)", Rule::Passes, ""),
    known(0x36, "LOCK UNLOCK CACHE (10)", Rule::Passes, ""),
    known(0x38, "FORMAT WITH PRESET", Rule::Refused(Group::Format), ""),
    known(0x3f, "WRITE LONG (10)", Rule::Passes, ""),
    known(0x41, "WRITE SAME (10)", Rule::Passes, ""),
    known(0x42, "UNMAP", Rule::Passes, ""),
    known(0x48, "SANITIZE", Rule::Refused(Group::Format), ""),
    known(0x7f, "variable length", Rule::Refused(Group::Unknown), ""),
    known(0x89, "COMPARE AND WRITE", Rule::Passes, ""),
    known(0x8a, "WRITE (16)", Rule::Passes, ""),
    known(0x8b, "ORWRITE (16)", Rule::Passes, ""),
    known(0x8e, "WRITE AND VERIFY (16)", Rule::Passes, ""),
    known(0x92, "LOCK UNLOCK CACHE (16)", Rule::Passes, ""),
    known(0x93, "WRITE SAME (16)", Rule::Passes, ""),
    known(0x94, "ZBC OUT", Rule::Passes, ""),
    known(0x95, "ZBC IN", Rule::Passes, ""),
    known(0x9a, "WRITE STREAM (16)", Rule::Passes, ""),
    known(0x9c, "WRITE ATOMIC (16)", Rule::Passes, ""),
    known(0x9e, "SERVICE ACTION IN (16)", Rule::By(action_in_16), "10h to 17h pass"),
    known(0x9f, "SERVICE ACTION OUT (16)", Rule::By(action_out_16), "WRITE LONG and WRITE SCATTERED pass"),
    known(0xa1, "ATA PASS-THROUGH (12)", Rule::By(ata_12), "as ATA PASS-THROUGH (16)"),
    known(0xaa, "WRITE (12)", Rule::Passes, ""),
    known(0xac, "ERASE (12)", Rule::Passes, ""),
    known(0xae, "WRITE AND VERIFY (12)", Rule::Passes, ""),
];

/// SSC-5. A tape is formatted and partitioned in daily work (LTFS).
const SSC: &[Known] = &[
    known(0x04, "FORMAT MEDIUM", Rule::Passes, ""),
    known(0x0a, "WRITE (6)", Rule::Passes, ""),
    known(0x0b, "SET CAPACITY", Rule::Passes, ""),
    known(0x10, "WRITE FILEMARKS (6)", Rule::Passes, ""),
    known(0x14, "RECOVER BUFFERED DATA", Rule::Passes, ""),
    known(0x15, "MODE SELECT (6)", Rule::Passes, ""),
    known(0x19, "ERASE (6)", Rule::Passes, ""),
    known(0x55, "MODE SELECT (10)", Rule::Passes, ""),
    known(0x80, "WRITE FILEMARKS (16)", Rule::Passes, ""),
    known(0x82, "ALLOW OVERWRITE", Rule::Passes, ""),
    known(0x8a, "WRITE (16)", Rule::Passes, ""),
    known(0x93, "ERASE (16)", Rule::Passes, ""),
    known(
        0xa4,
        "MAINTENANCE OUT",
        Rule::By(maintenance_out_of_tape),
        "SET TIMESTAMP, GENERATE RECOMMENDED ACCESS ORDER and WRITE DYNAMIC RUNTIME ATTRIBUTE pass",
    ),
    known(0xa7, "MOVE MEDIUM ATTACHED", Rule::Passes, ""),
    known(0xb4, "READ ELEMENT STATUS ATTACHED", Rule::Passes, ""),
    known(
        0xb5,
        "SECURITY PROTOCOL OUT",
        Rule::By(security_of_tape),
        "tape data encryption (protocol 20h) passes",
    ),
];

/// MMC-6, and what earlier versions had besides. Rewritable discs are formatted and blanked in daily work.
const MMC: &[Known] = &[
    known(0x04, "FORMAT UNIT", Rule::Passes, ""),
    known(0x1b, "START STOP UNIT", Rule::Passes, ""),
    known(0x2a, "WRITE (10)", Rule::Passes, ""),
    known(0x2c, "ERASE (10)", Rule::Passes, ""),
    known(0x2e, "WRITE AND VERIFY (10)", Rule::Passes, ""),
    known(0x35, "SYNCHRONIZE CACHE", Rule::Passes, ""),
    known(0x49, "PLAY TRACK RELATIVE (10)", Rule::Passes, ""),
    known(0x53, "RESERVE TRACK", Rule::Passes, ""),
    known(0x54, "SEND OPC INFORMATION", Rule::Passes, ""),
    known(0x58, "REPAIR TRACK", Rule::Passes, ""),
    known(0x5b, "CLOSE TRACK/SESSION", Rule::Passes, ""),
    known(0x5d, "SEND CUE SHEET", Rule::Passes, ""),
    known(0xa1, "BLANK", Rule::Passes, ""),
    known(0xa3, "SEND KEY", Rule::By(send_key), "all but the region of the drive passes"),
    known(0xa9, "PLAY TRACK RELATIVE (12)", Rule::Passes, ""),
    known(0xaa, "WRITE (12)", Rule::Passes, ""),
    known(0xb6, "SET STREAMING", Rule::Passes, ""),
    known(0xbf, "SEND DISC STRUCTURE", Rule::Passes, ""),
];

/// SMC-3. B5h and B6h have other meanings here than in SPC.
const SMC: &[Known] = &[
    known(0x1b, "OPEN/CLOSE IMPORT/EXPORT ELEMENT", Rule::Passes, ""),
    known(0x44, "REPORT VOLUME TYPES SUPPORTED", Rule::Passes, ""),
    known(0xa5, "MOVE MEDIUM", Rule::Passes, ""),
    known(0xa6, "EXCHANGE MEDIUM", Rule::Passes, ""),
    known(0x9e, "SERVICE ACTION IN (16)", Rule::By(element_information), "10h passes"),
    known(0xb5, "REQUEST VOLUME ELEMENT ADDRESS", Rule::Passes, ""),
    known(0xb6, "SEND VOLUME TAG", Rule::Passes, ""),
    known(0xe7, "INITIALIZE ELEMENT STATUS WITH RANGE", Rule::Passes, ""), // 37h in the standard
];

/// SCSI-2, clause 11.
const PRINTER: &[Known] = &[
    known(0x04, "FORMAT", Rule::Passes, ""),
    known(0x0a, "PRINT", Rule::Passes, ""),
    known(0x0b, "SLEW AND PRINT", Rule::Passes, ""),
    known(0x10, "SYNCHRONIZE BUFFER", Rule::Passes, ""),
    known(0x14, "RECOVER BUFFERED DATA", Rule::Passes, ""),
    known(0x1b, "STOP PRINT", Rule::Passes, ""),
];

/// SCSI-2, clause 12.
const PROCESSOR: &[Known] =
    &[known(0x08, "RECEIVE", Rule::Passes, ""), known(0x0a, "SEND (6)", Rule::Passes, "")];

/// SCSI-2, clause 15.
const SCANNER: &[Known] = &[
    known(0x1b, "SCAN", Rule::Passes, ""),
    known(0x24, "SET WINDOW", Rule::Passes, ""),
    known(0x25, "GET WINDOW", Rule::Passes, ""),
    known(0x28, "READ (10)", Rule::Passes, ""),
    known(0x2a, "SEND (10)", Rule::Passes, ""),
    known(0x31, "OBJECT POSITION", Rule::Passes, ""),
    known(0x34, "GET DATA BUFFER STATUS", Rule::Passes, ""),
];

/// RESERVE and RELEASE, 3RDPTY (SPC-2): in the name of another initiator.
fn third_party(cdb: &[u8; 16], _: &[u8]) -> Option<Group> {
    (cdb[1] & 0x10 != 0).then_some(Group::ThirdParty)
}

/// SEND DIAGNOSTIC (SPC-5): DEVOFFL lets a test take the device's other units away; without PF, a list is a vendor's; a page of code
/// 0Eh is an enclosure's Download Microcode (SES-3). Pages that cannot be looked at may be that one.
fn diagnostic(cdb: &[u8; 16], data_out: &[u8]) -> Option<Group> {
    const PF: u8 = 0x10;
    const DEVOFFL: u8 = 0x02;
    let list = usize::from(u16::from_be_bytes([cdb[3], cdb[4]]));
    if cdb[1] & DEVOFFL != 0 {
        Some(Group::Settings)
    } else if list == 0 {
        None
    } else if cdb[1] & PF == 0 {
        Some(Group::Unknown)
    } else {
        let harmless = data_out.get(..list).is_some_and(harmless_pages);
        (!harmless).then_some(Group::Firmware)
    }
}

/// Whether a list of diagnostic pages is whole, and none of them is Download Microcode.
fn harmless_pages(mut pages: &[u8]) -> bool {
    while let [code, _, high, low, rest @ ..] = pages {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        match rest.get(length..) {
            Some(more) if *code != 0x0e => pages = more,
            _ => return false,
        }
    }
    pages.is_empty()
}

/// WRITE BUFFER, MODE field (SPC-5): combined header and data, data, echo buffer; 01h is a vendor's; what is left loads microcode,
/// or is not known.
fn write_buffer(cdb: &[u8; 16], _: &[u8]) -> Option<Group> {
    match service_action(cdb) {
        0x00 | 0x02 | 0x0a => None,
        0x01 => Some(Group::Unknown),
        _ => Some(Group::Firmware),
    }
}

/// READ BUFFER, MODE field (SPC-5): 01h is a vendor's.
fn read_buffer(cdb: &[u8; 16], _: &[u8]) -> Option<Group> {
    (service_action(cdb) == 0x01).then_some(Group::Unknown)
}

/// PERSISTENT RESERVE OUT (SPC-5): REGISTER to REPLACE LOST RESERVATION.
fn reserve_out(cdb: &[u8; 16], _: &[u8]) -> Option<Group> {
    (service_action(cdb) > 0x08).then_some(Group::Unknown)
}

/// MAINTENANCE OUT (SPC-5). SET TARGET PORT GROUPS, SET IDENTIFYING INFORMATION, REMOVE I_T NEXUS and the others are for whoever
/// has charge of the device.
fn maintenance_out(cdb: &[u8; 16], _: &[u8]) -> Option<Group> {
    (service_action(cdb) != 0x0f).then_some(Group::Settings)
}

/// The same, with GENERATE RECOMMENDED ACCESS ORDER and WRITE DYNAMIC RUNTIME ATTRIBUTE of SSC-5.
fn maintenance_out_of_tape(cdb: &[u8; 16], _: &[u8]) -> Option<Group> {
    (!matches!(service_action(cdb), 0x0f | 0x1d | 0x1e)).then_some(Group::Settings)
}

/// SECURITY PROTOCOL OUT (SPC-5), protocol 20h: tape data encryption (SSC-5).
fn security_of_tape(cdb: &[u8; 16], _: &[u8]) -> Option<Group> {
    (cdb[1] != 0x20).then_some(Group::Security)
}

/// SERVICE ACTION IN (16) (SBC-4, ZBC-2): READ CAPACITY to GET PHYSICAL ELEMENT STATUS; then REMOVE ELEMENT AND TRUNCATE, RESTORE
/// ELEMENTS AND REBUILD, REMOVE ELEMENT AND MODIFY ZONES.
fn action_in_16(cdb: &[u8; 16], _: &[u8]) -> Option<Group> {
    match service_action(cdb) {
        0x10..=0x17 => None,
        0x18..=0x1a => Some(Group::Format),
        _ => Some(Group::Unknown),
    }
}

/// SERVICE ACTION IN (16) of a changer: READ ELEMENT INFORMATION and its kin.
fn element_information(cdb: &[u8; 16], _: &[u8]) -> Option<Group> {
    (service_action(cdb) != 0x10).then_some(Group::Unknown)
}

/// SERVICE ACTION OUT (16) (SBC-4): WRITE LONG (16), WRITE SCATTERED (16).
fn action_out_16(cdb: &[u8; 16], _: &[u8]) -> Option<Group> {
    (!matches!(service_action(cdb), 0x11 | 0x12)).then_some(Group::Unknown)
}

/// ATA PASS-THROUGH (12) (SAT-4): FEATURES in byte 3, COMMAND in byte 9.
fn ata_12(cdb: &[u8; 16], _: &[u8]) -> Option<Group> {
    ata(cdb[1], cdb[9], cdb[3])
}

/// ATA PASS-THROUGH (16) (SAT-4): FEATURES (7:0) in byte 4, COMMAND in byte 14.
fn ata_16(cdb: &[u8; 16], _: &[u8]) -> Option<Group> {
    ata(cdb[1], cdb[14], cdb[4])
}

/// What `smartctl` and `hdparm` look at (ACS-4). PROTOCOL is in bits 4 to 1 of byte 1: 0 and 1 are resets, 8 and 9 obsolete.
fn ata(protocol: u8, command: u8, features: u8) -> Option<Group> {
    let passes = match command {
        // SMART: READ DATA, thresholds, EXECUTE OFF-LINE IMMEDIATE, READ LOG, ENABLE OPERATIONS, RETURN STATUS.
        0xb0 => matches!(features, 0xd0 | 0xd1 | 0xd4 | 0xd5 | 0xd8 | 0xda),
        // READ NATIVE MAX ADDRESS EXT, READ LOG EXT, READ VERIFY SECTOR(S) and EXT, READ LOG DMA EXT, IDENTIFY PACKET DEVICE,
        // STANDBY IMMEDIATE, IDLE IMMEDIATE, STANDBY, IDLE, CHECK POWER MODE, FLUSH CACHE and EXT, IDENTIFY DEVICE, READ
        // NATIVE MAX ADDRESS.
        0x27 | 0x2f | 0x40 | 0x42 | 0x47 | 0xa1 | 0xe0..=0xe3 | 0xe5 | 0xe7 | 0xea | 0xec | 0xf8 => true,
        _ => false,
    };
    let moves_data = !matches!((protocol >> 1) & 0x0f, 0 | 1 | 8 | 9);
    (!(passes && moves_data)).then_some(Group::Ata)
}

/// SEND KEY (MMC-6): key format 06h sets the region of the drive, which it can do five times in its life.
fn send_key(cdb: &[u8; 16], _: &[u8]) -> Option<Group> {
    (cdb[10] & 0x3f == 0x06).then_some(Group::Settings)
}
