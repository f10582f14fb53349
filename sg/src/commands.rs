//! What is known of SCSI commands: which only read, and what the others risk.
//!
//! A command of the unit's own command set comes before one of SPC with the same code: A3h is SEND KEY for a DVD drive and
//! MAINTENANCE IN for all others.

mod changing;
mod groups;
mod reading;
mod table;
#[cfg(test)]
mod tests;

use reading::Reads;

pub use groups::{Group, Groups, UnknownGroup};
pub use table::document;

/// The standard that says what a unit's operation codes mean, beside SPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandSet {
    /// Disks.
    Sbc,
    /// Tapes.
    Ssc,
    /// CD, DVD and BD drives.
    Mmc,
    /// Medium changers.
    Smc,
    /// Printers (SCSI-2).
    Printer,
    /// Processors (SCSI-2, SPC-2).
    Processor,
    /// Scanners (SCSI-2).
    Scanner,
    /// Any other, enclosures among them, of whose commands only those of SPC are known.
    Spc,
}

/// What the policy says of an operation code.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    Passes,
    /// Unless this group is allowed.
    Refused(Group),
    /// By the CDB and the data that goes to the device: the group that would have to be allowed.
    By(fn(cdb: &[u8; 16], data_out: &[u8]) -> Option<Group>),
    /// What only reads passes; the rest is not known.
    IfItReads,
}

/// An operation code that a standard has.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) opcode: u8,
    pub(crate) name: &'static str,
    pub(crate) rule: Rule,
    /// What passes, where the rule is more than the code.
    pub(crate) note: &'static str,
}

impl CommandSet {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Sbc,
        Self::Ssc,
        Self::Mmc,
        Self::Smc,
        Self::Printer,
        Self::Processor,
        Self::Scanner,
        Self::Spc,
    ];

    /// Of a peripheral device type (SPC-5, Standard INQUIRY data). Write-once and optical memory (04h, 07h) are types of SBC;
    /// simplified disks (0Eh, RBC) and zoned ones (14h, ZBC) are based on it.
    #[must_use]
    pub fn of(device_type: u8) -> Self {
        match device_type {
            0x00 | 0x04 | 0x07 | 0x0e | 0x14 => Self::Sbc,
            0x01 => Self::Ssc,
            0x02 => Self::Printer,
            0x03 => Self::Processor,
            0x05 => Self::Mmc,
            0x06 => Self::Scanner,
            0x08 => Self::Smc,
            _ => Self::Spc,
        }
    }

    /// Whether the command reads or positions, and changes nothing.
    #[must_use]
    pub fn only_reads(self, cdb: &[u8; 16], data_out: &[u8]) -> bool {
        match reading::find(self, cdb[0]) {
            None => false,
            Some(Reads::Always) => true,
            Some(Reads::When(rule)) => rule(cdb, data_out),
        }
    }

    /// What the policy says of an operation code.
    #[must_use]
    pub(crate) fn rule(self, opcode: u8) -> Rule {
        self.known(opcode).map_or(Rule::Refused(Group::Unknown), |known| known.rule)
    }

    /// An operation code that a standard has; the unit's own standard first.
    #[must_use]
    pub(crate) fn known(self, opcode: u8) -> Option<Known> {
        let changes = |rows: &'static [Known]| rows.iter().find(|known| known.opcode == opcode).copied();
        let reads = |rows: &'static [reading::Row]| {
            let (_, name, reads) = rows.iter().find(|(known, ..)| *known == opcode)?;
            let rule = match reads {
                Reads::Always => Rule::Passes,
                Reads::When(_) => Rule::IfItReads,
            };
            Some(Known { opcode, name, rule, note: "" })
        };
        changes(changing::own(self))
            .or_else(|| reads(reading::own(self)))
            .or_else(|| changes(changing::SPC))
            .or_else(|| reads(reading::SPC))
    }

    /// What the policy says of a command: `None` when it passes, else the group that would have to be allowed.
    #[must_use]
    pub fn risk(self, cdb: &[u8; 16], data_out: &[u8]) -> Option<Group> {
        match self.rule(cdb[0]) {
            Rule::Passes => None,
            Rule::Refused(group) => Some(group),
            Rule::By(rule) => rule(cdb, data_out),
            Rule::IfItReads => (!self.only_reads(cdb, data_out)).then_some(Group::Unknown),
        }
    }

    /// Where the answer to this command has its WP bit, bit 7 of the DEVICE-SPECIFIC PARAMETER in the mode parameter header
    /// (SPC-5, Mode parameter header formats). SBC-4 and SSC-5 define it; elsewhere the bit is reserved.
    pub(crate) fn write_protect_byte(self, cdb: &[u8; 16]) -> Option<usize> {
        match (self, cdb[0]) {
            (Self::Sbc | Self::Ssc, 0x1a) => Some(2),
            (Self::Sbc | Self::Ssc, 0x5a) => Some(3),
            _ => None,
        }
    }
}

/// The lower five bits of byte 1, where all CDBs but those of variable length have their service action or mode.
fn service_action(cdb: &[u8; 16]) -> u8 {
    cdb[1] & 0x1f
}
