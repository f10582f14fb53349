//! The table of commands for docs/, made from the lists.

use std::fmt::Write as _;

use super::{CommandSet, Group, Known, Reads, Rule, reading};

/// Titles, for people.
const SETS: [(CommandSet, &str); 8] = [
    (CommandSet::Spc, "All devices"),
    (CommandSet::Sbc, "Disks"),
    (CommandSet::Ssc, "Tapes"),
    (CommandSet::Mmc, "CD, DVD and BD drives"),
    (CommandSet::Smc, "Medium changers"),
    (CommandSet::Printer, "Printers"),
    (CommandSet::Processor, "Processors"),
    (CommandSet::Scanner, "Scanners"),
];

const HEAD: &str = "\
# Commands

Made from the code by `xen-pvscsi generate --commands docs/commands.md`; a test compares.

A guest without `feature-host` gets through to a device what such a device needs in daily work. Commands that reach beyond the unit, or change the
device for good or for others, are refused with ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE (05h/20h/00h), and the log says so, ten lines a minute. They are in
groups, which a device can be given: `allow=firmware+format`, or `allow=all`. Codes that are in no list are in the group `unknown`.

With `feature-host` every command goes to the device as it is. With `ro` only what reads passes, and the rest is refused with DATA PROTECT, WRITE PROTECTED
(07h/27h/00h). Emulated disks (`file:`, `block:`, `ram:`) have their own commands and need no policy.

";

/// All of docs/commands.md, in Markdown: the groups, and for each kind of device each operation code that is known: what passes, and what a read-only unit takes. In
/// Markdown.
#[must_use]
pub fn document() -> String {
    let mut text = format!("{HEAD}| group | what such a command does |\n|---|---|\n");
    for group in Group::ALL {
        let _ = writeln!(text, "| `{}` | {} |", group.name(), group.risk());
    }
    for (set, title) in SETS {
        let _ = write!(text, "\n## {title}\n\n| code | command | policy | with `ro` |\n|---|---|---|---|\n");
        for opcode in 0..=u8::MAX {
            let Some(known) = set.known(opcode) else { continue };
            if set == CommandSet::Spc || !is_of_all(set, opcode) {
                let _ = writeln!(
                    text,
                    "| {opcode:02X}h | {} | {} | {} |",
                    known.name,
                    policy(known),
                    read_only(set, opcode)
                );
            }
        }
    }
    text
}

/// Whether devices of this kind have the code from SPC, with nothing of their own about it.
fn is_of_all(set: CommandSet, opcode: u8) -> bool {
    let own_changes = super::changing::own(set).iter().any(|known| known.opcode == opcode);
    let own_reads = reading::own(set).iter().any(|(known, ..)| *known == opcode);
    !own_changes && !own_reads
}

fn policy(known: Known) -> String {
    match known.rule {
        Rule::Passes => "passes".into(),
        Rule::Refused(group) => format!("`{}`", group.name()),
        Rule::By(_) => known.note.to_owned(),
        Rule::IfItReads => "passes as far as it only reads".into(),
    }
}

fn read_only(set: CommandSet, opcode: u8) -> &'static str {
    match reading::find(set, opcode) {
        None => "",
        Some(Reads::Always) => "passes",
        Some(Reads::When(_)) => "passes as far as it only reads",
    }
}
