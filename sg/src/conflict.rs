//! What a command does to those who hold a reservation.

use crate::commands::CommandSet;
use crate::scsi::{INQUIRY, REPORT_LUNS, REQUEST_SENSE};

/// How a command stands to a persistent reservation of somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Always allowed: it asks what the unit is, not what it holds.
    Any,
    /// Allowed beside a Write Exclusive reservation.
    Reads,
    /// Never allowed.
    Changes,
}

/// PERSISTENT RESERVE IN.
pub const RESERVE_IN: u8 = 0x5e;
/// PERSISTENT RESERVE OUT.
pub const RESERVE_OUT: u8 = 0x5f;

/// How the command stands to persistent reservations: SPC-4, table 65; SBC-4, SSC-5, SMC-3 and MMC-6 for the commands of their own.
/// RESERVE, RELEASE and PERSISTENT RESERVE OUT have rules of their own, and are not asked for here.
#[must_use]
pub fn access(set: CommandSet, cdb: &[u8; 16], data_out: &[u8]) -> Access {
    let action = cdb[1] & 0x1f;
    match (set, cdb[0]) {
        // TEST UNIT READY, LOG SENSE, ACCESS CONTROL IN and OUT, READ MEDIA SERIAL NUMBER.
        (_, 0x00 | REQUEST_SENSE | INQUIRY | 0x4d | RESERVE_IN | 0x86 | 0x87 | REPORT_LUNS | 0xab) => {
            Access::Any
        }
        (CommandSet::Sbc | CommandSet::Mmc, 0x25) => Access::Any,
        // READ CAPACITY (16).
        (CommandSet::Sbc, 0x9e) if action == 0x10 => Access::Any,
        // START STOP UNIT with START and no power condition, and no tray.
        (CommandSet::Sbc, 0x1b) if cdb[4] & 0xf3 == 0x01 => Access::Any,
        // READ BLOCK LIMITS, REPORT DENSITY SUPPORT.
        (CommandSet::Ssc, 0x05 | 0x44) => Access::Any,
        // GET CONFIGURATION, GET EVENT STATUS NOTIFICATION.
        (CommandSet::Mmc, 0x46 | 0x4a) => Access::Any,
        // Allowing the removal takes nothing from anybody; preventing it does.
        (_, 0x1e) if cdb[4] & 0x03 == 0 => Access::Any,
        (_, 0x1e) => Access::Changes,
        // REPORT IDENTIFYING INFORMATION, TARGET PORT GROUPS, ALIASES, PRIORITY, TIMESTAMP.
        (CommandSet::Mmc, 0xa3) => reads_or_changes(set, cdb, data_out),
        (_, 0xa3) if matches!(action, 0x05 | 0x0a | 0x0b | 0x0e | 0x0f) => Access::Any,
        // SYNCHRONIZE CACHE.
        (CommandSet::Sbc, 0x35 | 0x91) => Access::Changes,
        // MODE SELECT and LOAD UNLOAD of a tape, trays of a drive, the arm of a changer: what only one may do at a time.
        (CommandSet::Ssc, 0x15 | 0x55 | 0x1b) => Access::Changes,
        (CommandSet::Mmc, 0x1b | 0xa6) => Access::Changes,
        (CommandSet::Smc, 0x07 | 0x37 | 0x2b) => Access::Changes,
        _ => reads_or_changes(set, cdb, data_out),
    }
}

fn reads_or_changes(set: CommandSet, cdb: &[u8; 16], data_out: &[u8]) -> Access {
    if set.only_reads(cdb, data_out) { Access::Reads } else { Access::Changes }
}

/// Whether the command is allowed while another initiator has reserved the unit with RESERVE (SPC-2, table 10): INQUIRY, LOG SENSE,
/// REPORT LUNS, REQUEST SENSE, REPORT DEVICE IDENTIFIER, and allowing the removal of the medium. RELEASE is not asked for here.
#[must_use]
pub fn passes_a_reserve(cdb: &[u8; 16]) -> bool {
    match cdb[0] {
        INQUIRY | 0x4d | REPORT_LUNS | REQUEST_SENSE => true,
        0xa3 => cdb[1] & 0x1f == 0x05,
        0x1e => cdb[4] & 0x03 == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: CommandSet, bytes: &[u8]) -> Access {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        access(set, &cdb, &[])
    }

    /// SPC-4, table 65: commands that are allowed in the presence of persistent reservations.
    #[test]
    fn the_table_of_spc() {
        use Access::{Any, Changes, Reads};
        for (cdb, expected) in [
            (&[0x00][..], Any),
            (&[0x03], Any),
            (&[0x12], Any),
            (&[0x15], Changes),
            (&[0x1a], Reads),
            (&[0x1c], Reads),
            (&[0x1d], Changes),
            (&[0x1e, 0, 0, 0, 0], Any),
            (&[0x1e, 0, 0, 0, 1], Changes),
            (&[0x3b, 0x02], Changes),
            (&[0x3c, 0x02], Reads),
            (&[0x4c], Changes),
            (&[0x4d], Any),
            (&[0x55], Changes),
            (&[0x5a], Reads),
            (&[0x5e], Any),
            (&[0x83], Changes),
            (&[0x86], Any),
            (&[0x8c], Reads),
            (&[0x8d], Changes),
            (&[0xa0], Any),
            (&[0xa2], Reads),
            (&[0xa3, 0x05], Any),
            (&[0xa3, 0x0a], Any),
            (&[0xa3, 0x0b], Any),
            (&[0xa3, 0x0c], Reads),
            (&[0xa3, 0x0d], Reads),
            (&[0xa3, 0x0e], Any),
            (&[0xa3, 0x0f], Any),
            (&[0xa4, 0x0a], Changes),
            (&[0xab, 0x01], Any),
            (&[0xb5], Changes),
        ] {
            for set in [CommandSet::Sbc, CommandSet::Smc, CommandSet::Spc] {
                assert_eq!(of(set, cdb), expected, "{set:?} {cdb:02x?}");
            }
        }
    }

    /// SBC-4, table 13, and SSC-5.
    #[test]
    fn the_tables_of_disks_and_tapes() {
        use Access::{Any, Changes, Reads};
        for (cdb, expected) in [
            (&[0x04][..], Changes),
            (&[0x07], Changes),
            (&[0x08], Reads),
            (&[0x0a], Changes),
            (&[0x1b, 0, 0, 0, 1], Any),
            (&[0x1b, 0, 0, 0, 0], Changes),
            (&[0x1b, 0, 0, 0, 3], Changes),
            (&[0x1b, 0, 0, 0, 0x11], Changes),
            (&[0x25], Any),
            (&[0x28], Reads),
            (&[0x2a], Changes),
            (&[0x2e], Changes),
            (&[0x2f], Reads),
            (&[0x34], Reads),
            (&[0x35], Changes),
            (&[0x37], Reads),
            (&[0x41], Changes),
            (&[0x42], Changes),
            (&[0x48], Changes),
            (&[0x88], Reads),
            (&[0x89], Changes),
            (&[0x8a], Changes),
            (&[0x8b], Changes),
            (&[0x8f], Reads),
            (&[0x90], Reads),
            (&[0x91], Changes),
            (&[0x93], Changes),
            (&[0x9c], Changes),
            (&[0x9e, 0x10], Any),
            (&[0x9e, 0x12], Reads),
            (&[0xa8], Reads),
            (&[0xaa], Changes),
            (&[0xc0], Changes),
        ] {
            assert_eq!(of(CommandSet::Sbc, cdb), expected, "{cdb:02x?}");
        }
        for (cdb, expected) in [
            (&[0x01][..], Reads),
            (&[0x05], Any),
            (&[0x08], Reads),
            (&[0x0a], Changes),
            (&[0x10], Changes),
            (&[0x11], Reads),
            (&[0x15], Changes),
            (&[0x19], Changes),
            (&[0x1b], Changes),
            (&[0x34], Reads),
            (&[0x44], Any),
            (&[0x92], Reads),
        ] {
            assert_eq!(of(CommandSet::Ssc, cdb), expected, "{cdb:02x?}");
        }
        assert_eq!(of(CommandSet::Smc, &[0xa5]), Changes);
        assert_eq!(of(CommandSet::Smc, &[0xb8]), Reads);
        assert_eq!(of(CommandSet::Smc, &[0x07]), Changes);
        assert_eq!(of(CommandSet::Mmc, &[0x46]), Any);
        assert_eq!(of(CommandSet::Mmc, &[0xa3]), Changes, "SEND KEY");
    }

    /// SPC-2, table 10.
    #[test]
    fn the_table_of_reserve() {
        let alone = |opcode| [opcode, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let passes: Vec<u8> = (0..=255).filter(|&opcode| passes_a_reserve(&alone(opcode))).collect();
        assert_eq!(passes, [0x03, 0x12, 0x1e, 0x4d, 0xa0]);
        let mut report = [0; 16];
        report[..2].copy_from_slice(&[0xa3, 0x05]);
        assert!(passes_a_reserve(&report));
    }
}
