//! The lists of commands against what the standards and the C headers say, written down here once more: a change of a list
//! shows.

use crate::commands::CommandSet;
use CommandSet::{Mmc, Sbc, Smc, Spc, Ssc};

const SETS: [CommandSet; 5] = [Sbc, Ssc, Mmc, Smc, Spc];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Refused, whatever else is in the CDB.
    Never,
    /// Taken or refused, by a service action or another field.
    Sometimes,
    /// Taken, whatever else is in the CDB.
    Always,
}
use Verdict::{Always, Never, Sometimes};

/// A name that `scsi/scsi.h` or, with GPCMD in front, `linux/cdrom.h` defines, or the standard and its own name.
type Expected = (u8, Verdict, &'static str);

/// Known for all device types.
const PRIMARY: &[Expected] = &[
    (0x00, Always, "TEST_UNIT_READY"),
    (0x03, Always, "REQUEST_SENSE"),
    (0x12, Always, "INQUIRY"),
    (0x1a, Always, "MODE_SENSE"),
    (0x1c, Always, "RECEIVE_DIAGNOSTIC"),
    (0x3c, Sometimes, "READ_BUFFER"),
    (0x4d, Always, "LOG_SENSE"),
    (0x5a, Always, "MODE_SENSE_10"),
    (0x5e, Sometimes, "PERSISTENT_RESERVE_IN"),
    (0x8c, Always, "SPC-5: READ ATTRIBUTE"),
    (0x9b, Sometimes, "SPC-5: READ BUFFER (16)"),
    (0xa0, Always, "SPC-5: REPORT LUNS"),
    (0xa2, Always, "SPC-5: SECURITY PROTOCOL IN"),
    (0xa3, Sometimes, "SPC-5: MAINTENANCE IN"),
    (0xab, Sometimes, "SPC-5: SERVICE ACTION IN (12)"),
];

const BLOCK: &[Expected] = &[
    (0x08, Always, "READ_6"),
    (0x0b, Always, "SEEK_6"),
    (0x1b, Sometimes, "START_STOP"),
    (0x1e, Always, "ALLOW_MEDIUM_REMOVAL"),
    (0x25, Always, "READ_CAPACITY"),
    (0x28, Always, "READ_10"),
    (0x2b, Always, "SEEK_10"),
    (0x2f, Always, "VERIFY"),
    (0x34, Always, "PRE_FETCH"),
    (0x35, Always, "SYNCHRONIZE_CACHE"),
    (0x37, Always, "READ_DEFECT_DATA"),
    (0x3e, Always, "READ_LONG"),
    (0x88, Always, "SBC-4: READ (16)"),
    (0x8f, Always, "SBC-4: VERIFY (16)"),
    (0x90, Always, "SBC-4: PRE-FETCH (16)"),
    (0x91, Always, "SBC-4: SYNCHRONIZE CACHE (16)"),
    (0x95, Sometimes, "ZBC-2: ZBC IN"),
    (0x9e, Sometimes, "SPC-5: SERVICE ACTION IN (16)"),
    (0xa8, Always, "READ_12"),
    (0xaf, Always, "SBC-4: VERIFY (12)"),
    (0xb7, Always, "SBC-4: READ DEFECT DATA (12)"),
];

const STREAM: &[Expected] = &[
    (0x01, Always, "SSC-5: REWIND"),
    (0x05, Always, "READ_BLOCK_LIMITS"),
    (0x08, Always, "READ_6"),
    (0x0f, Always, "READ_REVERSE"),
    (0x11, Always, "SPACE"),
    (0x13, Always, "SSC-5: VERIFY (6)"),
    (0x15, Sometimes, "MODE_SELECT"),
    (0x1b, Always, "SSC-5: LOAD UNLOAD"),
    (0x1e, Always, "ALLOW_MEDIUM_REMOVAL"),
    (0x2b, Always, "SSC-5: LOCATE (10)"),
    (0x34, Always, "READ_POSITION"),
    (0x44, Always, "SSC-5: REPORT DENSITY SUPPORT"),
    (0x55, Sometimes, "MODE_SELECT_10"),
    (0x81, Always, "SSC-5: READ REVERSE (16)"),
    (0x88, Always, "SSC-5: READ (16)"),
    (0x8f, Always, "SSC-5: VERIFY (16)"),
    (0x91, Always, "SSC-5: SPACE (16)"),
    (0x92, Always, "SSC-5: LOCATE (16)"),
];

const MULTIMEDIA: &[Expected] = &[
    (0x1b, Sometimes, "GPCMD_START_STOP_UNIT"),
    (0x1e, Always, "GPCMD_PREVENT_ALLOW_MEDIUM_REMOVAL"),
    (0x23, Always, "GPCMD_READ_FORMAT_CAPACITIES"),
    (0x25, Always, "GPCMD_READ_CDVD_CAPACITY"),
    (0x28, Always, "GPCMD_READ_10"),
    (0x2b, Always, "GPCMD_SEEK"),
    (0x2f, Always, "GPCMD_VERIFY_10"),
    (0x42, Always, "GPCMD_READ_SUBCHANNEL"),
    (0x43, Always, "GPCMD_READ_TOC_PMA_ATIP"),
    (0x44, Always, "GPCMD_READ_HEADER"),
    (0x45, Always, "GPCMD_PLAY_AUDIO_10"),
    (0x46, Always, "GPCMD_GET_CONFIGURATION"),
    (0x47, Always, "GPCMD_PLAY_AUDIO_MSF"),
    (0x48, Always, "GPCMD_PLAY_AUDIO_TI"),
    (0x4a, Always, "GPCMD_GET_EVENT_STATUS_NOTIFICATION"),
    (0x4b, Always, "GPCMD_PAUSE_RESUME"),
    (0x4e, Always, "GPCMD_STOP_PLAY_SCAN"),
    (0x51, Always, "GPCMD_READ_DISC_INFO"),
    (0x52, Always, "GPCMD_READ_TRACK_RZONE_INFO"),
    (0x5c, Always, "GPCMD_READ_BUFFER_CAPACITY"),
    (0xa3, Sometimes, "GPCMD_SEND_KEY"),
    (0xa4, Always, "GPCMD_REPORT_KEY"),
    (0xa5, Always, "MMC-4: PLAY AUDIO (12)"),
    (0xa6, Always, "GPCMD_LOAD_UNLOAD"),
    (0xa7, Always, "GPCMD_SET_READ_AHEAD"),
    (0xa8, Always, "GPCMD_READ_12"),
    (0xac, Always, "GPCMD_GET_PERFORMANCE"),
    (0xad, Always, "GPCMD_READ_DVD_STRUCTURE"),
    (0xb6, Sometimes, "GPCMD_SET_STREAMING"),
    (0xb9, Always, "GPCMD_READ_CD_MSF"),
    (0xba, Always, "GPCMD_SCAN"),
    (0xbb, Always, "GPCMD_SET_SPEED"),
    (0xbd, Always, "GPCMD_MECHANISM_STATUS"),
    (0xbe, Always, "GPCMD_READ_CD"),
];

const CHANGER: &[Expected] = &[
    (0x07, Always, "SMC-3: INITIALIZE ELEMENT STATUS"),
    (0x1e, Always, "ALLOW_MEDIUM_REMOVAL"),
    (0x2b, Always, "SMC-3: POSITION TO ELEMENT"),
    (0x37, Always, "SMC-3: INITIALIZE ELEMENT STATUS WITH RANGE"),
    (0xb8, Always, "READ_ELEMENT_STATUS"),
];

/// What may never be done to a unit of whatever kind.
const WRITERS: &[&str] = &[
    "FORMAT_UNIT",
    "WRITE_6",
    "WRITE_FILEMARKS",
    "RECOVER_BUFFERED_DATA",
    "RESERVE",
    "RELEASE",
    "COPY",
    "ERASE",
    "SEND_DIAGNOSTIC",
    "WRITE_10",
    "WRITE_VERIFY",
    "COPY_VERIFY",
    "WRITE_BUFFER",
    "UPDATE_BLOCK",
    "WRITE_LONG",
    "CHANGE_DEFINITION",
    "WRITE_SAME",
    "LOG_SELECT",
    "RESERVE_10",
    "RELEASE_10",
    "PERSISTENT_RESERVE_OUT",
    "WRITE_12",
    "WRITE_VERIFY_12",
    "WRITE_LONG_2",
    "GPCMD_BLANK",
    "GPCMD_CLOSE_TRACK",
    "GPCMD_RESERVE_RZONE_TRACK",
    "GPCMD_REPAIR_RZONE_TRACK",
    "GPCMD_SEND_CUE_SHEET",
    "GPCMD_SEND_DVD_STRUCTURE",
    "GPCMD_SEND_OPC",
];

/// A mode parameter list that MODE SELECT of a tape may carry, in either length: its header has one descriptor of 8 bytes.
const BLOCK_LENGTH: [u8; 16] = [0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 2, 0];

fn own(set: CommandSet) -> &'static [Expected] {
    match set {
        Sbc => BLOCK,
        Ssc => STREAM,
        Mmc => MULTIMEDIA,
        Smc => CHANGER,
        _ => &[],
    }
}

fn expected(set: CommandSet, opcode: u8) -> Verdict {
    let row = own(set).iter().chain(PRIMARY).find(|(listed, ..)| *listed == opcode);
    row.map_or(Never, |(_, verdict, _)| *verdict)
}

fn cdb(opcode: u8, bytes: &[(usize, u8)]) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    bytes.iter().for_each(|(at, byte)| cdb[*at] = *byte);
    cdb
}

/// The verdict on CDBs of all zeroes, of all ones, and of zeroes with any one byte, with and without data.
fn verdict(set: CommandSet, opcode: u8) -> Verdict {
    let one_byte = (1..16).flat_map(|at| (0..=255).map(move |byte| cdb(opcode, &[(at, byte)])));
    let mut ones = [0xff; 16];
    ones[0] = opcode;
    let (mut taken, mut refused) = (false, false);
    for cdb in one_byte.chain([ones]) {
        for data in [&[][..], &BLOCK_LENGTH] {
            if set.only_reads(&cdb, data) { taken = true } else { refused = true }
        }
    }
    match (taken, refused) {
        (true, false) => Always,
        (true, true) => Sometimes,
        _ => Never,
    }
}

#[test]
fn every_operation_code_has_its_verdict() {
    for set in SETS {
        for opcode in 0..=255 {
            assert_eq!(verdict(set, opcode), expected(set, opcode), "{set:?}, {opcode:02x}h");
        }
        let all: Vec<u8> = own(set).iter().map(|(opcode, ..)| *opcode).collect();
        assert!(all.is_sorted_by(|a, b| a < b), "{set:?}: each once");
    }
}

/// Operation codes by their names in a C header.
fn header(path: &str) -> std::collections::HashMap<String, u8> {
    let text = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{path}, of libc6-dev or linux-libc-dev: {error}"));
    let define = |line: &str| {
        let (name, value) = line.strip_prefix("#define")?.trim().split_once(char::is_whitespace)?;
        let value = u8::from_str_radix(value.split_whitespace().next()?.strip_prefix("0x")?, 16).ok()?;
        Some((name.to_owned(), value))
    };
    text.lines().filter_map(define).collect()
}

#[test]
fn operation_codes_are_those_of_the_c_headers() {
    let mut names = header("/usr/include/scsi/scsi.h");
    names.extend(
        header("/usr/include/linux/cdrom.h").into_iter().filter(|(name, _)| name.starts_with("GPCMD")),
    );
    for set in SETS {
        for (opcode, _, name) in own(set).iter().chain(PRIMARY) {
            let standard = name.contains(": ");
            assert!(standard || names.get(*name) == Some(opcode), "{name} is {:02x?}", names.get(*name));
        }
        for name in WRITERS {
            assert_eq!(verdict(set, names[*name]), Never, "{name} to {set:?}");
        }
    }
}

/// All service actions and modes, in the lower five bits of byte 1.
#[test]
fn service_actions_have_their_verdicts() {
    let reports: &[u8] = &[0x05, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x1d, 0x1e];
    let buffers: &[u8] = &[0x02, 0x03, 0x0a, 0x0b, 0x0f];
    let table: [(u8, &[u8], &[CommandSet]); 8] = [
        (0x3c, buffers, &SETS),
        (0x5e, &[0x00, 0x01, 0x02, 0x03], &SETS),
        (0x95, &[0x00, 0x06, 0x07], &[Sbc]),
        (0x9b, buffers, &SETS),
        (0x9e, &[0x10, 0x11, 0x12, 0x13, 0x16, 0x17], &[Sbc]),
        (0xa3, reports, &[Sbc, Ssc, Smc, Spc]),
        (0xab, &[0x01], &SETS),
        // SERVICE ACTION OUT (16), whatever it is.
        (0x9f, &[], &SETS),
    ];
    for (opcode, taken, sets) in table {
        for (byte, set) in (0..=255).flat_map(|byte| sets.iter().map(move |set| (byte, set))) {
            let wanted = taken.contains(&(byte & 0x1f));
            assert_eq!(
                set.only_reads(&cdb(opcode, &[(1, byte)]), &[]),
                wanted,
                "{set:?}, {opcode:02x}h {byte:02x}h"
            );
        }
    }
}

/// Byte 4 of START STOP UNIT: POWER CONDITION, NO_FLUSH (bit 2), LOEJ (bit 1), START (bit 0).
#[test]
fn a_disk_can_be_started_and_a_drive_opened() {
    for byte in 0..=255 {
        let cdb = cdb(0x1b, &[(4, byte)]);
        let (starts, power) = (byte & 0x03 == 0x01, byte & 0xf0 != 0);
        assert_eq!(Sbc.only_reads(&cdb, &[]), starts && !power, "{byte:02x}h to a disk");
        assert_eq!(Mmc.only_reads(&cdb, &[]), !power, "{byte:02x}h to a drive");
        assert!(Ssc.only_reads(&cdb, &[]), "LOAD UNLOAD {byte:02x}h");
        assert!(!Smc.only_reads(&cdb, &[]), "OPEN/CLOSE IMPORT/EXPORT ELEMENT {byte:02x}h");
    }
}

/// SEND KEY: KEY CLASS in byte 7, AGID and KEY FORMAT in byte 10.
#[test]
fn a_player_authenticates_and_sets_no_region() {
    let takes = |class, format| Mmc.only_reads(&cdb(0xa3, &[(7, class), (10, format)]), &[0; 12]);
    for agid in [0x00, 0x40, 0x80, 0xc0] {
        for format in 0..0x40 {
            let needed = [0x01, 0x02, 0x03, 0x3f].contains(&format);
            assert_eq!(takes(0x00, agid | format), needed, "CSS, format {format:02x}h");
            assert_eq!(takes(0x02, agid | format), needed, "AACS, format {format:02x}h");
            assert!(
                !takes(0x20, agid | format) && !takes(0x21, agid | format) && !takes(0xff, agid | format)
            );
        }
    }
    assert!(!takes(0x00, 0x06), "the region of a drive");
}

/// MODE SELECT (6): PF and SP in byte 1, PARAMETER LIST LENGTH in byte 4, BLOCK DESCRIPTOR LENGTH in byte 3 of the list.
/// (10): bytes 7 and 8, and bytes 6 and 7.
#[test]
fn a_tape_can_be_given_its_block_length_and_nothing_else() {
    let six = |flags, list, data: &[u8]| Ssc.only_reads(&cdb(0x15, &[(1, flags), (4, list)]), data);
    let ten = |flags, list, data: &[u8]| Ssc.only_reads(&cdb(0x55, &[(1, flags), (8, list)]), data);
    let header = [0; 16];
    // As Linux's st sends it for MTSETBLK, and for a driver that knows no page format.
    assert!(six(0x10, 12, &BLOCK_LENGTH[..12]) && six(0x00, 12, &BLOCK_LENGTH));
    assert!(ten(0x10, 16, &BLOCK_LENGTH) && six(0x10, 4, &header) && ten(0x10, 8, &header));
    // Eight bytes behind the header that are no descriptor are a page: 11h of SCSI-2 has eight bytes, and repartitions the
    // tape.
    assert!(!six(0x10, 12, &header) && !ten(0x10, 16, &header));
    for page_bytes in 1..=100 {
        let data = [&BLOCK_LENGTH[..], &[0x11; 200]].concat();
        assert!(!six(0x10, 12 + page_bytes, &data) && !ten(0x10, 16 + page_bytes, &data));
    }
    let two = [0, 0, 0, 16, 0, 0, 0, 16];
    assert!(!six(0x10, 20, &[&two[..], &[0; 16]].concat()) && !ten(0x10, 24, &[&two[..], &[0; 16]].concat()));
    for (flag, name) in [(0x01, "SP"), (0x02, "RTD")] {
        assert!(!six(0x10 | flag, 12, &BLOCK_LENGTH) && !ten(0x10 | flag, 16, &BLOCK_LENGTH), "{name}");
    }
    // Data that is not there cannot be looked at.
    for short in 0..12 {
        assert!(!six(0x10, 12, &BLOCK_LENGTH[..short]) && !ten(0x10, 16, &BLOCK_LENGTH[..short]));
    }
    assert!(!six(0x10, 0, &BLOCK_LENGTH) && !ten(0x10, 0, &BLOCK_LENGTH) && !six(0x10, 3, &BLOCK_LENGTH));
    for set in [Sbc, Mmc, Smc, Spc] {
        assert!(!set.only_reads(&cdb(0x15, &[(1, 0x10), (4, 12)]), &BLOCK_LENGTH), "{set:?}");
    }
}

/// SPC-5, table of peripheral device types.
#[test]
fn device_types_have_their_command_sets() {
    for device_type in 0..=255 {
        let wanted = match device_type {
            0x00 | 0x04 | 0x07 | 0x0e | 0x14 => Sbc,
            0x01 => Ssc,
            0x05 => Mmc,
            0x08 => Smc,
            0x02 => CommandSet::Printer,
            0x03 => CommandSet::Processor,
            0x06 => CommandSet::Scanner,
            _ => Spc,
        };
        assert_eq!(CommandSet::of(device_type), wanted, "{device_type:02x}h");
    }
}
