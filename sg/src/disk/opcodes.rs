//! REPORT SUPPORTED OPERATION CODES and REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS. Tests hold the table against
//! [`Operation::decode`](super::cdb::Operation::decode): what it has, and every bit of it.

use super::cdb::ReportOpcodes;
use crate::scsi::Sense;

/// A command: its CDB usage data, which begins with the operation code.
#[derive(Clone, Copy)]
struct Known {
    /// Byte 1 has a service action, which stands in place of its bits.
    has_action: bool,
    usage: &'static [u8],
}

const fn command(usage: &'static [u8]) -> Known {
    Known { has_action: false, usage }
}

const fn action(usage: &'static [u8]) -> Known {
    Known { has_action: true, usage }
}

/// Every bit that this disk looks at and can do something with is 1, and DPO, since DPOFUA of the mode parameter header says that there is
/// such a bit, though it is a hint that changes nothing here; a bit that is ignored (IMMED), or taken for reserved
/// (RDPROTECT, ANCHOR), is 0. Reservations are kept in front of the disk ([`Reserved`](crate::Reserved)) (SPC-5, REPORT SUPPORTED OPERATION CODES command, One_command parameter data format).
const TABLE: &[Known] = &[
    command(&[0x00, 0, 0, 0, 0, 0]),                            // TEST UNIT READY
    command(&[0x03, 1, 0, 0, 255, 0]),                          // REQUEST SENSE
    command(&[0x08, 0x1f, 255, 255, 255, 0]),                   // READ (6)
    command(&[0x0a, 0x1f, 255, 255, 255, 0]),                   // WRITE (6)
    command(&[0x12, 1, 255, 255, 255, 0]),                      // INQUIRY
    command(&[0x15, 0x10, 0, 0, 255, 0]),                       // MODE SELECT (6)
    command(&[0x16, 0, 0, 0, 0, 0]),                            // RESERVE (6)
    command(&[0x17, 0, 0, 0, 0, 0]),                            // RELEASE (6)
    command(&[0x1a, 8, 255, 255, 255, 0]),                      // MODE SENSE (6)
    command(&[0x1b, 0, 0, 0, 1, 0]),                            // START STOP UNIT
    command(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]),                // READ CAPACITY (10)
    command(&[0x28, 0x18, 255, 255, 255, 255, 0, 255, 255, 0]), // READ (10)
    command(&[0x2a, 0x18, 255, 255, 255, 255, 0, 255, 255, 0]), // WRITE (10)
    command(&[0x2e, 0x16, 255, 255, 255, 255, 0, 255, 255, 0]), // WRITE AND VERIFY (10)
    command(&[0x2f, 0x16, 255, 255, 255, 255, 0, 255, 255, 0]), // VERIFY (10)
    command(&[0x34, 0, 255, 255, 255, 255, 0, 255, 255, 0]),    // PRE-FETCH (10)
    command(&[0x35, 0, 255, 255, 255, 255, 0, 255, 255, 0]),    // SYNCHRONIZE CACHE (10)
    command(&[0x41, 8, 255, 255, 255, 255, 0, 255, 255, 0]),    // WRITE SAME (10)
    command(&[0x42, 0, 0, 0, 0, 0, 0, 255, 255, 0]),            // UNMAP
    command(&[0x4d, 0, 0x3f, 255, 0, 0, 0, 255, 255, 0]),       // LOG SENSE
    command(&[0x55, 0x10, 0, 0, 0, 0, 0, 255, 255, 0]),         // MODE SELECT (10)
    command(&[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0]),                // RESERVE (10)
    command(&[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0]),                // RELEASE (10)
    command(&[0x5a, 8, 255, 255, 0, 0, 0, 255, 255, 0]),        // MODE SENSE (10)
    action(&[0x5e, 0x00, 0, 0, 0, 0, 0, 255, 255, 0]),          // READ KEYS
    action(&[0x5e, 0x01, 0, 0, 0, 0, 0, 255, 255, 0]),          // READ RESERVATION
    action(&[0x5e, 0x02, 0, 0, 0, 0, 0, 255, 255, 0]),          // REPORT CAPABILITIES
    action(&[0x5e, 0x03, 0, 0, 0, 0, 0, 255, 255, 0]),          // READ FULL STATUS
    action(&[0x5f, 0x00, 0, 0, 0, 255, 255, 255, 255, 0]),      // REGISTER
    action(&[0x5f, 0x01, 255, 0, 0, 255, 255, 255, 255, 0]),    // RESERVE
    action(&[0x5f, 0x02, 255, 0, 0, 255, 255, 255, 255, 0]),    // RELEASE
    action(&[0x5f, 0x03, 0, 0, 0, 255, 255, 255, 255, 0]),      // CLEAR
    action(&[0x5f, 0x04, 255, 0, 0, 255, 255, 255, 255, 0]),    // PREEMPT
    action(&[0x5f, 0x05, 255, 0, 0, 255, 255, 255, 255, 0]),    // PREEMPT AND ABORT
    action(&[0x5f, 0x06, 0, 0, 0, 255, 255, 255, 255, 0]),      // REGISTER AND IGNORE EXISTING KEY
    action(&[0x5f, 0x07, 0, 0, 0, 255, 255, 255, 255, 0]),      // REGISTER AND MOVE
    command(&[0x88, 0x18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]), // READ (16)
    command(&[0x89, 0x18, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 255, 0, 0]), // COMPARE AND WRITE
    command(&[0x8a, 0x18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]), // WRITE (16)
    command(&[0x8b, 0x18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]), // ORWRITE (16)
    command(&[0x8e, 0x16, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]), // WRITE AND VERIFY (16)
    command(&[0x8f, 0x16, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]), // VERIFY (16)
    command(&[0x90, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]), // PRE-FETCH (16)
    command(&[0x91, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]), // SYNCHRONIZE CACHE (16)
    command(&[0x93, 9, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]), // WRITE SAME (16)
    action(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0]), // READ CAPACITY (16)
    action(&[0x9e, 0x12, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]), // GET LBA STATUS (16)
    command(&[0xa0, 0, 255, 0, 0, 0, 255, 255, 255, 255, 0, 0]),                             // REPORT LUNS
    action(&[0xa3, 0x0c, 0x87, 255, 255, 255, 255, 255, 255, 255, 0, 0]), // REPORT SUPPORTED OPERATION CODES
    action(&[0xa3, 0x0d, 0x80, 0, 0, 0, 255, 255, 255, 255, 0, 0]), // REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS
    command(&[0xa8, 0x18, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]), // READ (12)
    command(&[0xaa, 0x18, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]), // WRITE (12)
    command(&[0xae, 0x16, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]), // WRITE AND VERIFY (12)
    command(&[0xaf, 0x16, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0]), // VERIFY (12)
];

/// Command timeouts descriptor: its length, and that no timeout is told (SPC-5).
const TIMEOUTS: [u8; 12] = [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl Known {
    fn opcode(self) -> u8 {
        self.usage.first().copied().unwrap_or(0)
    }

    /// 0 for a command that has none.
    fn service_action(self) -> u16 {
        if self.has_action { self.usage.get(1).map_or(0, |byte| u16::from(byte & 0x1f)) } else { 0 }
    }

    fn len(self) -> [u8; 2] {
        let Ok(len) = u16::try_from(self.usage.len()) else { unreachable!("a CDB of 16 bytes at most") };
        len.to_be_bytes()
    }
}

/// What was asked for: all commands, or one by its operation code (1), by its service action too (2), or by whichever of
/// both it has (3).
pub(super) fn report(asked: ReportOpcodes) -> Result<Vec<u8>, Sense> {
    if asked.options == 0 {
        return Ok(all(asked.timeouts));
    }
    let mut of_opcode = TABLE.iter().filter(|known| known.opcode() == asked.opcode);
    // Whether this operation code has service actions; an unknown one is asked for as it may be.
    let has_actions = of_opcode.clone().next().map(|known| known.has_action);
    let service_action = match (asked.options, has_actions) {
        (1, Some(true)) | (2, Some(false)) => return Err(Sense::INVALID_FIELD_IN_CDB),
        (1, _) => 0,
        _ => asked.service_action,
    };
    let found = of_opcode.find(|known| known.service_action() == service_action);
    Ok(found.map_or_else(|| vec![0, 0x01, 0, 0], |known| one(*known, asked.timeouts)))
}

/// All_commands parameter data format: length, and 8 bytes for each; CTDP is bit 1 and SERVACTV bit 0 of byte 5.
fn all(timeouts: bool) -> Vec<u8> {
    let mut list = Vec::new();
    for known in TABLE {
        let [action_high, action_low] = known.service_action().to_be_bytes();
        let flags = u8::from(timeouts) << 1 | u8::from(known.has_action);
        list.extend([known.opcode(), 0, action_high, action_low, 0, flags]);
        list.extend(known.len());
        if timeouts {
            list.extend(TIMEOUTS);
        }
    }
    let Ok(len) = u32::try_from(list.len()) else { unreachable!("256 commands at most") };
    let mut data = len.to_be_bytes().to_vec();
    data.extend(list);
    data
}

/// One_command parameter data format: SUPPORT 011b is what a standard says; CTDP is bit 7.
fn one(known: Known, timeouts: bool) -> Vec<u8> {
    let mut data = vec![0, u8::from(timeouts) << 7 | 0x03];
    data.extend(known.len());
    data.extend(known.usage);
    if timeouts {
        data.extend(TIMEOUTS);
    }
    data
}

/// ABORT TASK and LOGICAL UNIT RESET, which a frontend can ask for (io/vscsiif.h, `VSCSIIF_ACT_SCSI_ABORT` and
/// `VSCSIIF_ACT_SCSI_RESET`). The extended format tells no timeouts.
pub(super) fn task_management(extended: bool) -> Vec<u8> {
    // Byte 3 is how many bytes follow.
    let (following, len) = if extended { (12, 16) } else { (0, 4) };
    let mut data = vec![0x88, 0, 0, following];
    data.resize(len, 0);
    data
}
