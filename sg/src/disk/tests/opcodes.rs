use super::*;
use crate::disk::cdb::Operation;
use crate::reservations::{Initiator, Refusal, Reservations};
use crate::scsi::Sense;

/// SPC-5, REPORT SUPPORTED OPERATION CODES: RCTD is bit 7 and REPORTING OPTIONS bits 0 to 2 of byte 2, the operation code
/// byte 3, the service action bytes 4 and 5, the allocation length bytes 6 to 9.
fn rsoc(options: u8, opcode: u8, service_action: u16) -> [u8; 12] {
    let [high, low] = service_action.to_be_bytes();
    [0xa3, 0x0c, options, opcode, high, low, 0, 0, 16, 0, 0, 0]
}

/// A command with nothing in it but what it cannot be without: EVPD for a page code, PF for a page.
fn plain(opcode: u8, service_action: u8) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, service_action);
    match opcode {
        0x12 => cdb[1] = 0x01,
        0x15 | 0x55 => cdb[1] = 0x10,
        _ => {}
    }
    cdb
}

fn decode(cdb: [u8; 16]) -> Result<Operation, Sense> {
    Operation::decode(&Cdb::from_bytes(&cdb))
}

/// Operation code, service action, length of the CDB of all commands: 8 bytes each, behind a length.
fn all(bench: &mut Bench) -> Vec<(u8, Option<u16>, u16)> {
    let data = bench.answer(&rsoc(0, 0, 0), 4096);
    assert_eq!(u32::from_be_bytes(data[..4].try_into().unwrap()) as usize, data.len() - 4);
    let (descriptors, rest) = data[4..].as_chunks::<8>();
    assert!(rest.is_empty(), "{rest:?}");
    let of = |d: &[u8; 8]| {
        assert_eq!((d[1], d[4], d[5] & !1), (0, 0, 0));
        let action = u16::from_be_bytes([d[2], d[3]]);
        assert!(d[5] == 1 || action == 0, "a service action without SERVACTV");
        (d[0], (d[5] == 1).then_some(action), u16::from_be_bytes([d[6], d[7]]))
    };
    descriptors.iter().map(of).collect()
}

/// SPC-5, All_commands parameter data format, against what SPC-5 and SBC-4 say of codes and lengths.
#[test]
fn all_commands() {
    let list = all(&mut Bench::ram(8));
    assert!(list.windows(2).all(|two| (two[0].0, two[0].1) < (two[1].0, two[1].1)), "in order, none twice");
    for (opcode, action, len) in &list {
        let cdb = Cdb::from_bytes(&[*opcode]);
        assert_eq!(*len, u16::from(cdb.command_len()), "{opcode:#04x}");
        assert_eq!(action.is_some(), matches!(opcode, 0x5e | 0x5f | 0x9e | 0xa3), "{opcode:#04x}");
    }
}

/// RESERVE and RELEASE, PERSISTENT RESERVE IN and OUT, which are answered in front of the disk.
const IN_FRONT: [u8; 6] = [0x16, 0x17, 0x56, 0x57, 0x5e, 0x5f];

/// For these, what answers them says whether a service action is known.
#[test]
fn the_report_is_true_of_reservations() {
    let list = all(&mut Bench::ram(8));
    let listed = |opcode: u8| -> Vec<u16> {
        list.iter().filter(|known| known.0 == opcode).map(|known| known.1.unwrap_or(0)).collect()
    };
    let (state, who) = (Reservations::default(), Initiator::named("a"));
    let refused = Err(Refusal::Sense(Sense::INVALID_FIELD_IN_CDB));
    let reports: Vec<u16> =
        (0..32).filter(|action| state.report(who, &plain(0x5e, *action)) != refused).map(u16::from).collect();
    let outs = (0..32).filter(|action| {
        let mut cdb = plain(0x5f, *action);
        cdb[8] = 24;
        // A key that is the sender's, and a type that is one.
        cdb[2] = 1;
        let mut state = state.clone();
        let register = [[0; 8], 7_u64.to_be_bytes(), [0; 8]].concat();
        let mut first = plain(0x5f, 6);
        first[8] = 24;
        state.out(who, &first, &register).unwrap();
        let list = [7_u64.to_be_bytes(), 7_u64.to_be_bytes(), [0; 8]].concat();
        state.out(who, &cdb, &list) != Err(Refusal::Sense(Sense::INVALID_FIELD_IN_CDB))
    });
    assert_eq!((listed(0x5e), listed(0x5f)), (reports, outs.map(u16::from).collect()));
    assert!(IN_FRONT.iter().all(|opcode| !listed(*opcode).is_empty()));
}

/// The report says that a command is supported exactly when it is.
#[test]
fn the_report_is_true_of_every_operation_code_and_service_action() {
    let mut bench = Bench::ram(8);
    let list = all(&mut bench);
    for opcode in (0..=255).filter(|opcode| !IN_FRONT.contains(opcode)) {
        let of_opcode: Vec<_> = list.iter().filter(|known| known.0 == opcode).collect();
        let has_actions = of_opcode.iter().any(|known| known.1.is_some());
        for action in 0..32_u8 {
            let decoded = decode(plain(opcode, action));
            let expected = if has_actions { decoded.is_ok() } else { decoded != Err(Sense::INVALID_OPCODE) };
            let listed = if has_actions {
                of_opcode.iter().any(|known| known.1 == Some(action.into()))
            } else {
                !of_opcode.is_empty()
            };
            assert_eq!(listed, expected, "{opcode:#04x}/{action:02x}");
            // SPC-5: option 3 knows a command without service actions by service action 0 only.
            let three = bench.answer(&rsoc(3, opcode, action.into()), 64);
            let support = if listed && (has_actions || action == 0) { 3 } else { 1 };
            assert_eq!(three[..2], [0, support], "{opcode:#04x}/{action:02x}");
            let two = bench.data_in(&rsoc(2, opcode, action.into()), 64);
            match (listed, has_actions) {
                (true, false) => assert_eq!(two, (INVALID_FIELD, vec![]), "{opcode:#04x} has none"),
                _ => assert_eq!(two, (GOOD, three.clone()), "{opcode:#04x}/{action:02x}"),
            }
        }
        let one = bench.data_in(&rsoc(1, opcode, 7), 64);
        if has_actions {
            assert_eq!(one, (INVALID_FIELD, vec![]), "{opcode:#04x} is not enough");
        } else {
            assert_eq!(one, (GOOD, bench.answer(&rsoc(3, opcode, 0), 64)), "{opcode:#04x}");
        }
    }
    assert_eq!(bench.answer(&rsoc(3, 0x9e, 0x110), 64), [0, 1, 0, 0], "all bits of the service action count");
}

/// Commands with DPO in bit 4 of byte 1 (SBC-4), which DPOFUA = 1 promises.
const HAVE_DPO: [u8; 14] =
    [0x28, 0x2a, 0x2e, 0x2f, 0x88, 0x89, 0x8a, 0x8b, 0x8e, 0x8f, 0xa8, 0xaa, 0xae, 0xaf];

/// SPC-5, One_command parameter data format: a bit of the usage data is 1 when the disk does something with that bit. Such a bit
/// changes what is asked for, or makes a value that is refused; every other one is refused or changes nothing.
#[test]
fn usage_data_is_true_of_every_bit() {
    let mut bench = Bench::ram(8);
    for (opcode, action, len) in all(&mut bench).into_iter().filter(|known| !IN_FRONT.contains(&known.0)) {
        let data = bench.answer(&rsoc(3, opcode, action.unwrap_or(0)), 64);
        assert_eq!(data[..4], [0, 3, 0, len as u8]);
        let (usage, plain) = (&data[4..], plain(opcode, action.unwrap_or(0) as u8));
        assert_eq!(usage.len(), usize::from(len));
        assert_eq!(usage[0], opcode);
        let as_it_is = decode(plain);
        assert!(as_it_is.is_ok(), "{opcode:#04x}");
        let mut usage = usage.to_vec();
        if let Some(action) = action {
            assert_eq!(u16::from(usage[1]), action);
            usage[1] = 0;
        }
        for bit in 8..usage.len() * 8 {
            let (byte, mask) = (bit / 8, 1 << (bit % 8));
            if action.is_some() && byte == 1 && mask <= 0x10 {
                continue;
            }
            let mut cdb = plain;
            cdb[byte] ^= mask;
            let changed = decode(cdb);
            let context = format!("{opcode:#04x} {action:02x?}, byte {byte}, {mask:#04x}");
            if (byte, mask) == (1, 0x10) && HAVE_DPO.contains(&opcode) {
                assert!(usage[byte] & mask != 0 && changed == as_it_is, "{context}: a hint");
            } else if usage[byte] & mask == 0 {
                assert!(changed.is_err() || changed == as_it_is, "{context}: not in the usage data");
            } else {
                assert_ne!(changed, as_it_is, "{context}: in the usage data");
            }
        }
    }
}

/// SPC-5, Command timeouts descriptor: 10 bytes behind the length, and 0 for a time that is not told.
#[test]
fn timeouts_are_not_told() {
    let mut bench = Bench::ram(8);
    let descriptor = [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (without, with) = (bench.answer(&rsoc(0, 0, 0), 4096), bench.answer(&rsoc(0x80, 0, 0), 4096));
    assert_eq!(u32::from_be_bytes(with[..4].try_into().unwrap()) as usize, with.len() - 4);
    let (with, without) = (with[4..].as_chunks::<20>(), without[4..].as_chunks::<8>());
    assert_eq!((with.0.len(), with.1), (without.0.len(), &[][..]));
    for (with, without) in with.0.iter().zip(without.0) {
        assert_eq!(with[..5], without[..5]);
        assert_eq!(with[5], without[5] | 2, "CTDP");
        assert_eq!(with[6..8], without[6..]);
        assert_eq!(with[8..], descriptor);
    }
    let one = bench.answer(&rsoc(0x81, 0x12, 0), 64);
    assert_eq!(one, [&[0, 0x83, 0, 6, 0x12, 1, 255, 255, 255, 0][..], &descriptor].concat());
    assert_eq!(bench.answer(&rsoc(0x81, 0x9c, 0), 64), [0, 1, 0, 0], "WRITE ATOMIC");
}

#[test]
fn bad_reports() {
    let mut bench = Bench::ram(8);
    for options in 4..8 {
        assert_eq!(bench.data_in(&rsoc(options, 0, 0), 64), (INVALID_FIELD, vec![]), "{options}");
    }
    let mut short = rsoc(1, 0x12, 0);
    (short[8], short[9]) = (0, 5);
    assert_eq!(bench.answer(&short, 64), [0, 3, 0, 6, 0x12], "the allocation length");
}

/// SPC-5, REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS: ATS is bit 7 and LURS bit 3 of byte 0; REPD is bit 7 of byte 2.
#[test]
fn task_management() {
    let mut bench = Bench::ram(8);
    assert_eq!(bench.answer(&[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], 64), [0x88, 0, 0, 0]);
    let extended = bench.answer(&[0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 64, 0, 0], 64);
    assert_eq!(extended, [0x88, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bench.answer(&[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0], 64), [0x88, 0]);
}
