//! The policy against what the standards say, written down here once more: a change of a list shows.

use super::Group::{Ata, Firmware, Format, Security, Settings, ThirdParty, Unknown};
use super::{CommandSet, Group, Groups, document};
use CommandSet::{Mmc, Printer, Processor, Sbc, Scanner, Smc, Spc, Ssc};

/// Operation codes of a kind of device that pass whatever else is in the command, and those that are refused.
struct Expected {
    passes: &'static [u8],
    refused: &'static [(u8, Group)],
    /// Something else decides: other tests.
    depends: &'static [u8],
}

/// SPC-5, table of operation codes.
const ALL: Expected = Expected {
    passes: &[0x00, 0x03, 0x12, 0x15, 0x1a, 0x1c, 0x4c, 0x4d, 0x55, 0x5a, 0x8c, 0x8d, 0xa0, 0xa2],
    refused: &[
        (0x18, ThirdParty),
        (0x39, ThirdParty),
        (0x3a, ThirdParty),
        (0x40, Settings),
        (0x83, ThirdParty),
        (0x84, ThirdParty),
        (0x86, Settings),
        (0x87, Settings),
        (0xb5, Security),
    ],
    depends: &[0x16, 0x17, 0x1d, 0x3b, 0x3c, 0x56, 0x57, 0x5e, 0x5f, 0x85, 0x9b, 0xa3, 0xa4, 0xab],
};

fn own(set: CommandSet) -> Expected {
    match set {
        Sbc => Expected {
            passes: &[
                0x01, 0x07, 0x08, 0x0a, 0x0b, 0x1b, 0x1e, 0x25, 0x28, 0x2a, 0x2b, 0x2c, 0x2e, 0x2f, 0x34,
                0x35, 0x36, 0x37, 0x3e, 0x3f, 0x41, 0x42, 0x88, 0x89, 0x8a, 0x8b, 0x8e, 0x8f, 0x90, 0x91,
                0x92, 0x93, 0x94, 0x95, 0x9a, 0x9c, 0xa8, 0xaa, 0xac, 0xae, 0xaf, 0xb7,
            ],
            refused: &[(0x04, Format), (0x38, Format), (0x48, Format), (0x7f, Unknown)],
            depends: &[0x9e, 0x9f, 0xa1],
        },
        Ssc => Expected {
            passes: &[
                0x01, 0x04, 0x05, 0x08, 0x0a, 0x0b, 0x0f, 0x10, 0x11, 0x13, 0x14, 0x19, 0x1b, 0x1e, 0x2b,
                0x34, 0x44, 0x80, 0x81, 0x82, 0x88, 0x8a, 0x8f, 0x91, 0x92, 0x93, 0xa7, 0xb4,
            ],
            refused: &[],
            depends: &[0xb5],
        },
        Mmc => Expected {
            passes: &[
                0x04, 0x1b, 0x1e, 0x23, 0x25, 0x28, 0x2a, 0x2b, 0x2c, 0x2e, 0x2f, 0x35, 0x42, 0x43, 0x44,
                0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b, 0x4e, 0x51, 0x52, 0x53, 0x54, 0x58, 0x5b, 0x5c,
                0x5d, 0xa1, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xac, 0xad, 0xb6, 0xb9, 0xba, 0xbb,
                0xbd, 0xbe, 0xbf,
            ],
            refused: &[],
            depends: &[0xa3],
        },
        Smc => Expected {
            passes: &[0x07, 0x1b, 0x1e, 0x2b, 0x37, 0x44, 0xa5, 0xa6, 0xb5, 0xb6, 0xb8, 0xe7],
            refused: &[],
            depends: &[0x9e],
        },
        Printer => Expected { passes: &[0x04, 0x0a, 0x0b, 0x10, 0x14, 0x1b], refused: &[], depends: &[] },
        Processor => Expected { passes: &[0x08, 0x0a], refused: &[], depends: &[] },
        Scanner => {
            Expected { passes: &[0x1b, 0x24, 0x25, 0x28, 0x2a, 0x31, 0x34], refused: &[], depends: &[] }
        }
        Spc => Expected { passes: &[], refused: &[], depends: &[] },
    }
}

fn cdb(opcode: u8, bytes: &[(usize, u8)]) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    bytes.iter().for_each(|(at, byte)| cdb[*at] = *byte);
    cdb
}

/// What each service action comes to, with different things behind it, and with data.
fn verdicts(set: CommandSet, opcode: u8) -> Vec<Option<Group>> {
    let data = [[0x00; 16], [0x0e; 16]];
    // Fields that decide somewhere: a long service action, a key format, a command of ATA in each of its places.
    let fields: [&[(usize, u8)]; 5] = [&[], &[(9, 0x0b)], &[(10, 0x06)], &[(9, 0xec)], &[(14, 0xec)]];
    let commands = (0..=u8::MAX).flat_map(|byte| {
        fields.map(|fields| {
            let mut cdb = cdb(opcode, fields);
            cdb[1] = byte;
            cdb
        })
    });
    commands
        .flat_map(|cdb| [set.risk(&cdb, &[]), set.risk(&cdb, &data[0]), set.risk(&cdb, &data[1])])
        .collect()
}

#[test]
fn every_operation_code_has_its_verdict() {
    for set in CommandSet::ALL {
        for opcode in 0..=u8::MAX {
            let found = verdicts(set, opcode);
            let same = found.iter().all(|verdict| *verdict == found[0]);
            let expected = [own(set), ALL];
            // The unit's own standard first.
            let wanted = expected.iter().find_map(|list| {
                let refused =
                    list.refused.iter().find(|(known, _)| *known == opcode).map(|(_, group)| *group);
                match refused {
                    Some(group) => Some(Some(Some(group))),
                    None if list.passes.contains(&opcode) => Some(Some(None)),
                    None => list.depends.contains(&opcode).then_some(None),
                }
            });
            match wanted {
                None => assert!(same && found[0] == Some(Unknown), "{set:?} {opcode:02x}h is known"),
                Some(None) => assert!(!same, "{set:?} {opcode:02x}h is always {:?}", found[0]),
                Some(Some(verdict)) => {
                    assert!(same && found[0] == verdict, "{set:?} {opcode:02x}h: {:?}", found[0]);
                }
            }
        }
    }
}

/// For these, the lower five bits of byte 1 decide: those that pass, and the group of the others.
#[test]
fn service_actions_have_their_verdicts() {
    let all_but_one: Vec<u8> = (0..32).filter(|action| *action != 1).collect();
    let no_devoffl: Vec<u8> = (0..32).filter(|action| action & 2 == 0).collect();
    let reports = [0x05, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x1d, 0x1e];
    let not_mmc: Vec<CommandSet> = CommandSet::ALL.into_iter().filter(|set| *set != Mmc).collect();
    let plain: Vec<CommandSet> = not_mmc.iter().copied().filter(|set| *set != Ssc).collect();
    let table: [(u8, &[u8], Group, &[CommandSet]); 11] = [
        (0x1d, &no_devoffl, Settings, &CommandSet::ALL),
        (0x3c, &all_but_one, Unknown, &CommandSet::ALL),
        (0x9b, &all_but_one, Unknown, &CommandSet::ALL),
        (0x5e, &[0, 1, 2, 3], Unknown, &CommandSet::ALL),
        (0x5f, &[0, 1, 2, 3, 4, 5, 6, 7, 8], Unknown, &CommandSet::ALL),
        (0xa3, &reports, Unknown, &not_mmc),
        (0xa4, &[0x0f], Settings, &plain),
        (0xa4, &[0x0f, 0x1d, 0x1e], Settings, &[Ssc]),
        (0xab, &[1], Unknown, &CommandSet::ALL),
        (0x9f, &[0x11, 0x12], Unknown, &[Sbc]),
        (0x3b, &[0x00, 0x02, 0x0a], Firmware, &CommandSet::ALL),
    ];
    for (opcode, passes, group, sets) in table {
        for (action, set) in (0..32).flat_map(|action| sets.iter().map(move |set| (action, *set))) {
            let wanted = match (opcode, action) {
                _ if passes.contains(&action) => None,
                // WRITE BUFFER: a vendor's.
                (0x3b, 0x01) => Some(Unknown),
                _ => Some(group),
            };
            assert_eq!(
                set.risk(&cdb(opcode, &[(1, action)]), &[]),
                wanted,
                "{set:?} {opcode:02x}h/{action:02x}h"
            );
        }
    }
    for action in 0..32 {
        let wanted = match action {
            0x10..=0x17 => None,
            0x18..=0x1a => Some(Format),
            _ => Some(Unknown),
        };
        assert_eq!(Sbc.risk(&cdb(0x9e, &[(1, action)]), &[]), wanted, "9Eh/{action:02x}h");
    }
    for action in 0..32 {
        let wanted = (action != 0x10).then_some(Unknown);
        assert_eq!(Smc.risk(&cdb(0x9e, &[(1, action)]), &[]), wanted, "9Eh/{action:02x}h to a changer");
        for opcode in [0x16, 0x17, 0x56, 0x57] {
            let wanted = (action & 0x10 != 0).then_some(ThirdParty);
            assert_eq!(Sbc.risk(&cdb(opcode, &[(1, action)]), &[]), wanted, "{opcode:02x}h/{action:02x}h");
        }
    }
}

/// Download Microcode of an enclosure is a page, and a tape's encryption a protocol, and a drive's region a key format.
#[test]
fn fields_have_their_verdicts() {
    for page in 0..=u8::MAX {
        let firmware = (page == 0x0e).then_some(Firmware);
        let first = [page, 0, 0, 1, 0];
        let second = [2, 0, 0, 2, 0, 0, page, 0, 0, 0];
        assert_eq!(Spc.risk(&cdb(0x1d, &[(1, 0x10), (4, 5)]), &first), firmware, "page {page:02x}h");
        assert_eq!(Spc.risk(&cdb(0x1d, &[(1, 0x10), (4, 10)]), &second), firmware, "page {page:02x}h");
        assert_eq!(Spc.risk(&cdb(0x1d, &[(1, 0x00), (4, 5)]), &first), Some(Unknown), "a vendor's list");
        assert_eq!(Spc.risk(&cdb(0x1d, &[(1, 0x04)]), &[]), None, "a self-test");
        for (list, what) in [(4, "half a page"), (6, "half a second page"), (10, "less than the list")] {
            let length = list.min(first.len());
            let cut = Spc.risk(&cdb(0x1d, &[(1, 0x10), (4, u8::try_from(list).unwrap())]), &first[..length]);
            assert_eq!(cut, Some(Firmware), "{what}");
        }
    }
    for protocol in 0..=u8::MAX {
        let locks = (protocol != 0x20).then_some(Security);
        assert_eq!(Ssc.risk(&cdb(0xb5, &[(1, protocol)]), &[]), locks, "protocol {protocol:02x}h");
    }
    for format in 0..0x40 {
        let region = (format == 0x06).then_some(Settings);
        assert_eq!(Mmc.risk(&cdb(0xa3, &[(10, format)]), &[]), region, "key format {format:02x}h");
    }
}

/// ACS-4, table of commands: what only looks, and power modes and flushes.
#[test]
fn commands_of_ata_have_their_verdicts() {
    let looks = [0x27, 0x2f, 0x40, 0x42, 0x47, 0xa1, 0xe0, 0xe1, 0xe2, 0xe3, 0xe5, 0xe7, 0xea, 0xec, 0xf8];
    // PIO data-in.
    let protocol = 4 << 1;
    for command in 0..=u8::MAX {
        for features in 0..=u8::MAX {
            let passes = looks.contains(&command)
                || (command == 0xb0 && [0xd0, 0xd1, 0xd4, 0xd5, 0xd8, 0xda].contains(&features));
            let wanted = (!passes).then_some(Ata);
            let long = cdb(0x85, &[(1, protocol), (4, features), (14, command)]);
            let short = cdb(0xa1, &[(1, protocol), (3, features), (9, command)]);
            assert_eq!(Sbc.risk(&long, &[]), wanted, "{command:02x}h {features:02x}h");
            assert_eq!(Sbc.risk(&short, &[]), wanted, "{command:02x}h {features:02x}h");
        }
    }
    for protocol in [0, 1, 8, 9] {
        assert_eq!(Sbc.risk(&cdb(0x85, &[(1, protocol << 1), (14, 0xec)]), &[]), Some(Ata), "a reset");
    }
    assert_eq!(Mmc.risk(&cdb(0xa1, &[]), &[]), None, "BLANK");
}

/// Whatever a read-only unit takes passes the policy: it does no harm.
#[test]
fn what_only_reads_passes() {
    for set in CommandSet::ALL {
        for opcode in 0..=u8::MAX {
            for byte in 0..=u8::MAX {
                let cdb = cdb(opcode, &[(1, byte)]);
                assert!(
                    !set.only_reads(&cdb, &[]) || set.risk(&cdb, &[]).is_none(),
                    "{set:?} {opcode:02x}h {byte:02x}h"
                );
            }
        }
    }
}

#[test]
fn names_are_those_of_the_c_header() {
    let text = std::fs::read_to_string("/usr/include/scsi/scsi.h").unwrap();
    let header = |name: &str| {
        let line = text.lines().find(|line| line.split_whitespace().nth(1) == Some(name)).unwrap();
        u8::from_str_radix(line.split_whitespace().nth(2).unwrap().trim_start_matches("0x"), 16).unwrap()
    };
    for (set, name, ours) in [
        (Sbc, "FORMAT_UNIT", "FORMAT UNIT"),
        (Sbc, "REASSIGN_BLOCKS", "REASSIGN BLOCKS"),
        (Sbc, "WRITE_6", "WRITE (6)"),
        (Sbc, "WRITE_10", "WRITE (10)"),
        (Sbc, "WRITE_12", "WRITE (12)"),
        (Sbc, "WRITE_VERIFY", "WRITE AND VERIFY (10)"),
        (Sbc, "WRITE_LONG", "WRITE LONG (10)"),
        (Sbc, "WRITE_SAME", "WRITE SAME (10)"),
        (Spc, "SEND_DIAGNOSTIC", "SEND DIAGNOSTIC"),
        (Spc, "WRITE_BUFFER", "WRITE BUFFER"),
        (Spc, "CHANGE_DEFINITION", "CHANGE DEFINITION"),
        (Spc, "COPY", "COPY"),
        (Spc, "COPY_VERIFY", "COPY AND VERIFY"),
        (Spc, "COMPARE", "COMPARE"),
        (Spc, "PERSISTENT_RESERVE_OUT", "PERSISTENT RESERVE OUT"),
        (Ssc, "WRITE_FILEMARKS", "WRITE FILEMARKS (6)"),
        (Ssc, "ERASE", "ERASE (6)"),
        (Ssc, "RECOVER_BUFFERED_DATA", "RECOVER BUFFERED DATA"),
        (Smc, "MOVE_MEDIUM", "MOVE MEDIUM"),
        (Smc, "SEND_VOLUME_TAG", "SEND VOLUME TAG"),
    ] {
        assert_eq!(set.known(header(name)).map(|known| known.name), Some(ours));
    }
}

#[test]
fn groups_are_written_as_they_are_read() {
    for text in ["third-party", "firmware+format", "ata+settings+unknown", "all"] {
        assert_eq!(text.parse::<Groups>().unwrap().to_string(), text);
    }
    assert_eq!("format + firmware+format".parse::<Groups>().unwrap().to_string(), "firmware+format");
    for text in ["", "+", "firmware+", "Firmware", "firmware,format", "all+ata", "vendor"] {
        let error = text.parse::<Groups>().unwrap_err().to_string();
        assert!(error.contains("third-party, firmware"), "{text}: {error}");
    }
    for group in Group::ALL {
        assert!(Groups::all().has(group) && !Groups::default().has(group));
        let alone: Groups = group.name().parse().unwrap();
        assert!(Group::ALL.into_iter().all(|other| alone.has(other) == (other == group)));
    }
}

#[test]
fn the_document_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/commands.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == document(), "run xen-pvscsi generate --commands docs/commands.md");
}
