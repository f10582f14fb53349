//! Commands that compare what they are given with the medium, and write.

use super::*;
use medium::{Scratch, failing};

/// WRITE AND VERIFY (10), (12), (16).
pub(super) const VERIFIED_WRITES: [u8; 3] = [0x2e, 0xae, 0x8e];

const MISCOMPARE: Option<(u8, u8, u8)> = Some((0x0e, 0x1d, 0));

/// SBC-4, COMPARE AND WRITE: NUMBER OF LOGICAL BLOCKS is byte 13.
pub(super) fn compare_and_write(flags: u8, lba: u64, blocks: u8) -> Vec<u8> {
    let mut cdb = vec![0x89, flags];
    cdb.extend(lba.to_be_bytes());
    cdb.extend([0, 0, 0, blocks, 0, 0]);
    cdb
}

/// What the sense of a refused data-out says, and its INFORMATION, if it is VALID.
fn where_it_differs(bench: &mut Bench, cdb: &[u8], data: &[u8]) -> (Option<(u8, u8, u8)>, Option<u32>) {
    let (outcome, _) = bench.run(Cdb::from_bytes(cdb), DataDirection::ToDevice, Some(data));
    let information = match outcome.sense.as_bytes() {
        [0xf0, _, _, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    };
    (outcome.sense.key_asc_ascq(), information)
}

#[test]
fn compare_and_write_writes_what_is_the_second_half() {
    let mut bench = Bench::ram(600);
    let (old, new) = (pattern(1, 255), pattern(2, 255));
    assert_eq!(bench.data_out(&on_blocks(0x2a, 0, 300, 255), &old), (GOOD, 0));
    let both = [&old[..], &new].concat();
    assert_eq!(bench.data_out(&compare_and_write(0, 300, 255), &both), (GOOD, 0));
    assert_eq!(bench.blocks(300, 255), new);
    assert_eq!((bench.blocks(299, 1), bench.blocks(555, 1)), (vec![0; 512], vec![0; 512]), "the neighbours");
    assert_eq!(where_it_differs(&mut bench, &compare_and_write(0, 300, 255), &both).0, MISCOMPARE);
    assert_eq!(bench.blocks(300, 255), new, "a second time is too late");
}

/// SBC-4, COMPARE AND WRITE: INFORMATION is the offset of the first byte that differs, from the start of the data-out.
#[test]
fn a_miscompare_writes_nothing() {
    let mut bench = Bench::ram(300);
    let old = pattern(1, 200);
    assert_eq!(bench.data_out(&on_blocks(0x2a, 0, 0, 200), &old), (GOOD, 0));
    for at in [0, 1, 511, 512, 128 * 512, 200 * 512 - 1] {
        let mut both = [&old[..], &pattern(2, 200)].concat();
        both[at] ^= 0x10;
        let sense = where_it_differs(&mut bench, &compare_and_write(0, 0, 200), &both);
        assert_eq!(sense, (MISCOMPARE, Some(at as u32)));
        assert_eq!(bench.blocks(0, 200), old, "{at}");
    }
}

#[test]
fn bad_compare_and_writes() {
    let mut bench = Bench::ram(300);
    let zeroes = [0; 1024];
    assert_eq!(bench.data_out(&compare_and_write(0, 299, 1), &zeroes), (GOOD, 0));
    assert_eq!(bench.data_out(&compare_and_write(0, 5, 0), &zeroes), (GOOD, 1024), "none are no error");
    assert_eq!(bench.none(&compare_and_write(0, 5, 0)), GOOD);
    for (lba, blocks) in [(300, 1), (300, 0), (299, 2), (u64::MAX, 1)] {
        assert_eq!(
            bench.data_out(&compare_and_write(0, lba, blocks), &[0; 2048]).0,
            LBA_OUT_OF_RANGE,
            "{lba} {blocks}"
        );
    }
    for data in [&zeroes[..1023], &zeroes[..512]] {
        assert_eq!(bench.data_out(&compare_and_write(0, 0, 1), data).0, INVALID_FIELD, "twice the blocks");
    }
    assert_eq!(bench.none(&compare_and_write(0, 0, 1)), INVALID_FIELD);
    for protect in 1..8 {
        assert_eq!(bench.data_out(&compare_and_write(protect << 5, 0, 1), &zeroes).0, INVALID_FIELD);
    }
    let mut failing = Bench::of(failing("/dev/zero", 16));
    assert_eq!(failing.data_out(&compare_and_write(0x10, 0, 1), &zeroes), (GOOD, 0), "DPO is a hint");
    assert_eq!(failing.data_out(&compare_and_write(8, 0, 1), &zeroes).0, Some((3, 0x0c, 0)), "FUA");
}

/// SBC-4, Block Limits VPD page: MAXIMUM COMPARE AND WRITE LENGTH, and what it is when a transfer has to be short.
#[test]
fn the_limit_of_compare_and_write_is_half_a_transfer() {
    for (transfer, most) in [(1016, 255), (510, 255), (509, 254), (9, 4)] {
        let medium = Medium::ram(300 * 512).unwrap();
        let mut bench = Bench::with_max_transfer(medium, transfer * 512);
        assert_eq!(bench.answer(&[0x12, 1, 0xb0, 0, 64, 0], 64)[5], most);
        let data = vec![0; usize::from(most) * 1024];
        assert_eq!(bench.data_out(&compare_and_write(0, 0, most), &data), (GOOD, 0));
        if let Some(more) = most.checked_add(1) {
            let data = vec![0; usize::from(more) * 1024];
            assert_eq!(bench.data_out(&compare_and_write(0, 0, more), &data).0, INVALID_FIELD);
        }
    }
}

/// SBC-4, WRITE AND VERIFY (10), (12), (16): BYTCHK is bits 1 and 2, of which only 00b and 01b are defined.
#[test]
fn write_and_verify() {
    for opcode in VERIFIED_WRITES {
        let mut bench = Bench::ram(600);
        for flags in [0, 2, 0x10] {
            let data = pattern(flags ^ opcode, 300);
            assert_eq!(bench.data_out(&on_blocks(opcode, flags, 200, 300), &data), (GOOD, 0));
            assert_eq!(bench.blocks(200, 300), data);
            assert_eq!(bench.blocks(199, 1), [0; 512]);
            assert_eq!(bench.blocks(500, 1), [0; 512]);
            assert_eq!(bench.none(&on_blocks(opcode, flags, 0, 0)), GOOD);
            assert_eq!(bench.data_out(&on_blocks(opcode, flags, 599, 2), &data).0, LBA_OUT_OF_RANGE);
            assert_eq!(bench.data_out(&on_blocks(opcode, flags, 0, 2), &data[..1023]).0, INVALID_FIELD);
        }
        for flags in [4, 6, 0x20, 0xe0] {
            assert_eq!(bench.data_out(&on_blocks(opcode, flags, 0, 1), &[1; 512]).0, INVALID_FIELD);
        }
        let long = vec![0; 1017 * 512];
        assert_eq!(Bench::ram(2048).data_out(&on_blocks(opcode, 0, 0, 1017), &long).0, INVALID_FIELD);
    }
}

/// What was written is not there: /dev/zero takes everything, reads as zeroes, and cannot sync.
#[test]
fn write_and_verify_goes_to_stable_storage_first() {
    for opcode in VERIFIED_WRITES {
        let mut zero = Bench::of(failing("/dev/zero", 16));
        assert_eq!(zero.data_out(&on_blocks(opcode, 2, 0, 1), &[1; 512]).0, Some((3, 0x0c, 0)));
    }
}

/// SBC-4, ORWRITE (16).
#[test]
fn or_write_sets_bits() {
    let mut bench = Bench::ram(300);
    let (old, set) = (pattern(1, 200), pattern(0x33, 200));
    assert_eq!(bench.data_out(&on_blocks(0x2a, 0, 50, 200), &old), (GOOD, 0));
    assert_eq!(bench.data_out(&on_blocks(0x8b, 0x10, 50, 200), &set), (GOOD, 0));
    let both: Vec<u8> = old.iter().zip(&set).map(|(old, set)| old | set).collect();
    assert_ne!(both, old);
    assert_eq!(bench.blocks(50, 200), both);
    assert_eq!((bench.blocks(49, 1), bench.blocks(250, 1)), (vec![0; 512], vec![0; 512]));
    assert_eq!(bench.none(&on_blocks(0x8b, 0, 0, 0)), GOOD);
    assert_eq!(bench.data_out(&on_blocks(0x8b, 0, 299, 2), &set).0, LBA_OUT_OF_RANGE);
    assert_eq!(bench.data_out(&on_blocks(0x8b, 0, 0, 2), &set[..1023]).0, INVALID_FIELD);
    assert_eq!(bench.data_out(&on_blocks(0x8b, 0x20, 0, 1), &set).0, INVALID_FIELD, "ORPROTECT");
    let long = vec![0; 1017 * 512];
    assert_eq!(Bench::ram(2048).data_out(&on_blocks(0x8b, 0, 0, 1017), &long).0, INVALID_FIELD);

    let mut zero = Bench::of(failing("/dev/zero", 16));
    assert_eq!(zero.data_out(&on_blocks(0x8b, 0, 0, 1), &[1; 512]).0, GOOD);
    assert_eq!(zero.data_out(&on_blocks(0x8b, 8, 0, 1), &[1; 512]).0, Some((3, 0x0c, 0)), "FUA");
    assert_eq!(
        Bench::of(failing("/dev/null", 16)).data_out(&on_blocks(0x8b, 0, 7, 1), &[1; 512]).0,
        Some((3, 0x11, 0))
    );
}

/// SBC-4, PRE-FETCH (10) and (16): IMMED is bit 1, and a length of 0 reaches to the end. `Bench::run` looks for CONDITION MET.
#[test]
fn pre_fetch() {
    let file = Scratch::file(&pattern(1, 2000));
    for medium in [Medium::ram(2000 * 512).unwrap(), Medium::open_file(file.path(), true).unwrap()] {
        let mut bench = Bench::of(medium);
        for opcode in [0x34, 0x90] {
            for (lba, count, sense) in [
                (0, 1016, GOOD),
                (0, 0, GOOD),
                (1999, 1, GOOD),
                (1999, 0, GOOD),
                (0, 1017, INVALID_FIELD),
                (1999, 2, LBA_OUT_OF_RANGE),
                (2000, 0, LBA_OUT_OF_RANGE),
            ] {
                assert_eq!(bench.none(&on_blocks(opcode, 0, lba, count)), sense, "{opcode:#x} {lba} {count}");
                assert_eq!(bench.none(&on_blocks(opcode, 2, lba, count)), sense, "{opcode:#x} {lba} {count}");
            }
            let (outcome, _) =
                bench.run(Cdb::from_bytes(&on_blocks(opcode, 0, 0, 8)), DataDirection::None, None);
            assert_eq!(outcome.status.0, 0x04);
        }
    }
}

/// Two disks on one file, as two guests' servers have them: no increment of a counter is lost.
#[test]
fn compare_and_write_is_one_step_for_all_who_have_the_file() {
    const ROUNDS: u64 = 2000;
    let file = Scratch::file(&[0; 4096]);
    let count = || {
        let mut bench = Bench::of(Medium::open_file(file.path(), false).unwrap());
        let mut lost = 0_u64;
        for _ in 0..ROUNDS {
            loop {
                let old = bench.blocks(3, 1);
                let mut new = old.clone();
                let number = u64::from_be_bytes(old[..8].try_into().unwrap()) + 1;
                // At both ends, so that half a write is seen too.
                new[..8].copy_from_slice(&number.to_be_bytes());
                new[504..].copy_from_slice(&number.to_be_bytes());
                match bench.data_out(&compare_and_write(0, 3, 1), &[old, new].concat()).0 {
                    GOOD => break,
                    other => assert_eq!(other, MISCOMPARE),
                }
                lost += 1;
            }
        }
        lost
    };
    let lost = std::thread::scope(|scope| {
        let other = scope.spawn(count);
        count() + other.join().unwrap()
    });
    let block = Bench::of(Medium::open_file(file.path(), false).unwrap()).blocks(3, 1);
    assert_eq!(u64::from_be_bytes(block[..8].try_into().unwrap()), 2 * ROUNDS, "{lost} came too late");
    assert_eq!(block[..8], block[504..]);
}

/// Each sets bits of its own, in one byte.
#[test]
fn or_write_loses_no_bit_of_another() {
    let file = Scratch::file(&[0; 64 * 512]);
    let set = |bits: [u8; 4]| {
        let mut bench = Bench::of(Medium::open_file(file.path(), false).unwrap());
        for (lba, bit) in (0..64).flat_map(|lba| bits.map(|bit| (lba, bit))) {
            assert_eq!(bench.data_out(&on_blocks(0x8b, 0, lba, 1), &[1 << bit; 512]).0, GOOD);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| set([0, 2, 4, 6]));
        set([1, 3, 5, 7]);
    });
    assert!(std::fs::read(file.path()).unwrap().iter().all(|byte| *byte == 0xff));
}

/// What another has locked is waited for, and only that.
#[test]
fn only_the_same_blocks_are_waited_for() {
    let file = Scratch::file(&[0; 64 * 512]);
    let other = Medium::open_file(file.path(), false).unwrap();
    let held = other.lock(8 * 512, 8 * 512).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bench = Bench::of(Medium::open_file(file.path(), false).unwrap());
            for (lba, blocks) in [(0, 8), (16, 8), (15, 2)] {
                let both = vec![0; usize::from(blocks) * 1024];
                assert_eq!(bench.data_out(&compare_and_write(0, lba, blocks), &both).0, GOOD);
                tell.send(lba).unwrap();
            }
        });
        assert_eq!((told.recv().unwrap(), told.recv().unwrap()), (0, 16));
        assert!(told.recv_timeout(Duration::from_millis(100)).is_err(), "block 15 is held");
        drop(held);
        assert_eq!(told.recv().unwrap(), 15);
    });
}
