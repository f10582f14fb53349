use super::*;
use compare::{VERIFIED_WRITES, compare_and_write};
use medium::{Scratch, failing, read_only};

const READS: [u8; 4] = [0x08, 0x28, 0xa8, 0x88];
const WRITES: [u8; 4] = [0x0a, 0x2a, 0xaa, 0x8a];

/// CDB layouts: SBC-2 for 6 bytes, SBC-4, READ and WRITE (10), (12), (16) for the others.
#[test]
pub(super) fn every_length_writes_and_reads_the_same_blocks() {
    for (seed, (write, read)) in WRITES.into_iter().zip(READS).enumerate() {
        let mut bench = Bench::ram(0x1000);
        let data = pattern(seed as u8, 3);
        assert_eq!(bench.data_out(&on_blocks(write, 0, 0x123, 3), &data), (GOOD, 0));
        assert_eq!(bench.answer(&on_blocks(read, 0, 0x123, 3), 3 * 512), data);
        assert_eq!(bench.blocks(0x122, 1), [0; 512], "the block before");
        assert_eq!(bench.blocks(0x126, 1), [0; 512], "the block behind");
    }
}

#[test]
pub(super) fn addresses_are_as_wide_as_the_cdb_has_them() {
    let mut bench = Bench::ram(1 << 34);
    for (write, read, lba) in [
        (0x0a, 0x08, 0x1f_fffe),
        (0x2a, 0x28, 0xffff_fffe),
        (0xaa, 0xa8, 0x8000_0001),
        (0x8a, 0x88, (1 << 34) - 1),
    ] {
        let data = pattern(write, 1);
        assert_eq!(bench.data_out(&on_blocks(write, 0, lba, 1), &data), (GOOD, 0), "{write:#x}");
        assert_eq!(bench.answer(&on_blocks(read, 0, lba, 1), 512), data, "{read:#x}");
        assert_eq!(bench.blocks(lba, 1), data, "{read:#x}");
    }
}

/// SBC-2, READ (6): transfer length 0 is 256 blocks, and the bits above the address are reserved. Everywhere else 0 is none.
#[test]
pub(super) fn a_length_of_zero() {
    let mut bench = Bench::ram(512);
    let data = pattern(9, 256);
    assert_eq!(bench.data_out(&[0x0a, 0xe0, 1, 0, 0, 0], &data), (GOOD, 0));
    assert_eq!(bench.answer(&[0x08, 0, 1, 0, 0, 0], 256 * 512), data);
    for opcode in &READS[1..] {
        assert_eq!(bench.answer(&on_blocks(*opcode, 0, 256, 0), 512), b"");
        assert_eq!(bench.none(&on_blocks(*opcode, 0, 256, 0)), GOOD);
    }
    for opcode in &WRITES[1..] {
        assert_eq!(bench.data_out(&on_blocks(*opcode, 0, 256, 0), &[1; 512]), (GOOD, 512));
    }
    assert_eq!(bench.blocks(256, 256), data);
}

/// SBC-4, READ (10): an address behind the last block, or a length that reaches there, is LOGICAL BLOCK ADDRESS OUT OF RANGE.
#[test]
pub(super) fn ranges() {
    let mut bench = Bench::ram(16);
    for (lba, count, sense) in [
        (15, 1, GOOD),
        (14, 3, LBA_OUT_OF_RANGE),
        (16, 1, LBA_OUT_OF_RANGE),
        (0, 17, LBA_OUT_OF_RANGE),
        (0x1f_ffff, 1, LBA_OUT_OF_RANGE),
    ] {
        for opcode in READS {
            assert_eq!(
                bench.data_in(&on_blocks(opcode, 0, lba, count), 20 * 512).0,
                sense,
                "{opcode:#x} {lba}"
            );
        }
        for opcode in WRITES {
            assert_eq!(
                bench.data_out(&on_blocks(opcode, 0, lba, count), &[7; 20 * 512]).0,
                sense,
                "{opcode:#x} {lba}"
            );
        }
    }
    assert_eq!(bench.blocks(0, 15), [0; 15 * 512], "no part of a refused write is done");
    assert_eq!(bench.none(&on_blocks(0x88, 0, 16, 0)), LBA_OUT_OF_RANGE, "also of no blocks");
    assert_eq!(
        bench.data_in(&on_blocks(0x88, 0, u64::MAX, 2), 1024).0,
        LBA_OUT_OF_RANGE,
        "the sum overflows"
    );
}

/// SBC-4, Block Limits VPD page, MAXIMUM TRANSFER LENGTH.
#[test]
pub(super) fn no_transfer_above_the_limit() {
    let mut bench = Bench::ram(4096);
    assert_eq!(bench.answer(&on_blocks(0x28, 0, 0, 1016), 1016 * 512).len(), 1016 * 512);
    for opcode in [0x28, 0x88, 0xa8] {
        assert_eq!(bench.data_in(&on_blocks(opcode, 0, 0, 1017), 512).0, INVALID_FIELD);
    }
    let data = vec![1; 1017 * 512];
    for opcode in [0x2a, 0x8a, 0xaa] {
        assert_eq!(bench.data_out(&on_blocks(opcode, 0, 0, 1017), &data).0, INVALID_FIELD);
    }
    assert_eq!(bench.none(&on_blocks(0x8f, 0, 0, 1017)), INVALID_FIELD);
}

#[test]
pub(super) fn buffers_of_another_length() {
    let mut bench = Bench::ram(16);
    let data = pattern(3, 4);
    assert_eq!(bench.data_out(&on_blocks(0x2a, 0, 0, 4), &data), (GOOD, 0));
    assert_eq!(bench.answer(&on_blocks(0x28, 0, 0, 4), 700), data[..700], "short data-in: what fits");
    assert_eq!(
        bench.answer(&on_blocks(0x28, 0, 0, 2), 4096),
        data[..1024],
        "long data-in: the rest is residual"
    );
    assert_eq!(bench.data_out(&on_blocks(0x2a, 0, 8, 1), &data), (GOOD, 3 * 512), "long data-out");
    assert_eq!(bench.blocks(8, 2), [&data[..512], &[0; 512]].concat());
    assert_eq!(
        bench.data_out(&on_blocks(0x2a, 0, 0, 4), &[9; 4 * 512 - 1]),
        (INVALID_FIELD, 2047),
        "short data-out"
    );
    assert_eq!(bench.none(&on_blocks(0x2a, 0, 0, 4)), INVALID_FIELD, "no data-out");
    assert_eq!(bench.blocks(0, 4), data, "nothing of it was written");
}

#[test]
pub(super) fn directions() {
    use DataDirection::{Bidirectional, FromDevice, None, ToDevice};
    let mut bench = Bench::ram(16);
    let (read, write) =
        (Cdb::from_bytes(&on_blocks(0x28, 0, 0, 1)), Cdb::from_bytes(&on_blocks(0x2a, 0, 0, 1)));
    for (cdb, wrong) in [(write, FromDevice), (write, None), (read, ToDevice), (read, None)] {
        let (outcome, data) = bench.run(cdb, wrong, Some(&[5; 512]));
        assert_eq!((outcome.sense.key_asc_ascq(), outcome.residual), (INVALID_FIELD, 512), "{wrong:?}");
        assert_eq!(data, [5; 512], "the buffer is left alone");
    }
    assert_eq!(bench.blocks(0, 1), [0; 512], "nothing was written");
    assert_eq!(bench.run(write, Bidirectional, Some(&[5; 512])).0, Outcome::good(0));
    assert_eq!(bench.run(read, Bidirectional, Some(&[0; 512])), (Outcome::good(0), vec![5; 512]));
}

/// SBC-4: RDPROTECT, WRPROTECT and VRPROTECT need protection information, which this disk has not.
#[test]
pub(super) fn protection_information_is_refused() {
    let mut bench = Bench::ram(16);
    for flags in (1..8).map(|protect| protect << 5) {
        for opcode in &READS[1..] {
            assert_eq!(bench.data_in(&on_blocks(*opcode, flags, 0, 1), 512).0, INVALID_FIELD);
        }
        for opcode in WRITES[1..].iter().chain(&[0x41, 0x93]) {
            assert_eq!(bench.data_out(&on_blocks(*opcode, flags, 0, 1), &[1; 512]).0, INVALID_FIELD);
        }
        assert_eq!(bench.none(&on_blocks(0x2f, flags, 0, 1)), INVALID_FIELD);
    }
    assert_eq!(bench.answer(&on_blocks(0x28, 0x10, 0, 1), 512), [0; 512], "DPO is a hint");
}

/// SBC-4, VERIFY (10): BYTCHK is bits 1 and 2.
#[test]
pub(super) fn verify_compares() {
    let mut bench = Bench::ram(600);
    let data = pattern(4, 300);
    assert_eq!(bench.data_out(&on_blocks(0x2a, 0, 100, 300), &data), (GOOD, 0));
    for opcode in [0x2f, 0xaf, 0x8f] {
        assert_eq!(bench.none(&on_blocks(opcode, 0, 0, 600)), GOOD, "readable");
        assert_eq!(bench.none(&on_blocks(opcode, 0, 0, 0)), GOOD);
        assert_eq!(bench.none(&on_blocks(opcode, 0, 0, 601)), LBA_OUT_OF_RANGE);
        assert_eq!(bench.none(&on_blocks(opcode, 4, 0, 1)), INVALID_FIELD, "BYTCHK 10b is reserved");
        assert_eq!(bench.data_out(&on_blocks(opcode, 2, 100, 300), &data), (GOOD, 0));
        assert_eq!(bench.data_out(&on_blocks(opcode, 2, 100, 300), &data[1..]).0, INVALID_FIELD, "too short");
        assert_eq!(
            bench.data_out(&on_blocks(opcode, 6, 100, 1), &data),
            (GOOD, 299 * 512),
            "only one block is used"
        );
        assert_eq!(bench.data_out(&on_blocks(opcode, 6, 402, 198), &[0; 512]), (GOOD, 0));
        assert_eq!(bench.data_out(&on_blocks(opcode, 6, 402, 0), &[0; 512]), (GOOD, 512));
    }
}

/// MISCOMPARE DURING VERIFY OPERATION; INFORMATION (bytes 3 to 6, with VALID) is the offset.
#[test]
pub(super) fn verify_tells_where_it_differs() {
    let mut bench = Bench::ram(600);
    let mut data = pattern(4, 300);
    assert_eq!(bench.data_out(&on_blocks(0x2a, 0, 0, 300), &data), (GOOD, 0));
    let at = 200 * 512 + 3;
    data[at] ^= 1;
    let (outcome, _) =
        bench.run(Cdb::from_bytes(&on_blocks(0x2f, 2, 0, 300)), DataDirection::ToDevice, Some(&data));
    assert_eq!(outcome.sense.key_asc_ascq(), Some((0x0e, 0x1d, 0)));
    assert_eq!(outcome.sense.as_bytes()[0], 0xf0);
    assert_eq!(outcome.sense.as_bytes()[3..7], (at as u32).to_be_bytes());
    let (outcome, _) =
        bench.run(Cdb::from_bytes(&on_blocks(0x2f, 6, 0, 2)), DataDirection::ToDevice, Some(&data[..512]));
    assert_eq!(outcome.sense.key_asc_ascq(), Some((0x0e, 0x1d, 0)));
    assert_eq!(outcome.sense.as_bytes()[3..7], 512_u32.to_be_bytes(), "the second block differs");
}

/// SBC-4, SYNCHRONIZE CACHE (10): a number of 0 reaches to the end.
#[test]
pub(super) fn synchronize_cache() {
    let mut bench = Bench::ram(16);
    for opcode in [0x35, 0x91] {
        assert_eq!(bench.none(&on_blocks(opcode, 0, 0, 0)), GOOD);
        assert_eq!(bench.none(&on_blocks(opcode, 2, 4, 12)), GOOD, "IMMED");
        assert_eq!(bench.none(&on_blocks(opcode, 0, 4, 13)), LBA_OUT_OF_RANGE);
        assert_eq!(bench.none(&on_blocks(opcode, 0, 16, 0)), LBA_OUT_OF_RANGE);
    }
}

/// DATA PROTECT, WRITE PROTECTED, for everything that writes and whatever is wrong with it besides.
#[test]
pub(super) fn a_write_protected_disk_is_read_only() {
    let mut bench = Bench::of(read_only(16));
    for opcode in WRITES.into_iter().chain(VERIFIED_WRITES).chain([0x41, 0x93, 0x8b]) {
        assert_eq!(
            bench.data_out(&on_blocks(opcode, 0, 0, 1), &[0; 512]),
            (WRITE_PROTECTED, 512),
            "{opcode:#x}"
        );
        assert_eq!(bench.none(&on_blocks(opcode, 0, 99, 1)), WRITE_PROTECTED, "{opcode:#x}");
    }
    assert_eq!(bench.data_out(&compare_and_write(0, 0, 1), &[0; 1024]), (WRITE_PROTECTED, 1024));
    assert_eq!(bench.data_out(&[0x42, 0, 0, 0, 0, 0, 0, 0, 8, 0], &[0; 8]), (WRITE_PROTECTED, 8));
    assert_eq!(bench.none(&[0x93, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]), WRITE_PROTECTED, "NDOB");
    assert_eq!(bench.blocks(0, 16), pattern(1, 16));
    assert_eq!(bench.none(&on_blocks(0x35, 0, 0, 0)), GOOD);
    assert_eq!(bench.none(&on_blocks(0x2f, 0, 0, 16)), GOOD);
    assert_eq!(bench.none(&on_blocks(0x34, 0, 0, 16)), GOOD);
    assert_eq!(bench.answer(&[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0], 24).len(), 24);
    assert_eq!(bench.none(&[0x1b, 0, 0, 0, 0, 0]), GOOD);
}

/// UNRECOVERED READ ERROR with the LBA in INFORMATION, where the file was cut off, in a block, or the disk would be a shorter one.
#[test]
pub(super) fn a_failed_read_is_a_medium_error() {
    let file = Scratch::file(&pattern(1, 1000));
    let mut bench = Bench::of(Medium::open_file(file.path(), false).unwrap());
    std::fs::File::options().write(true).open(file.path()).unwrap().set_len(10 * 512 + 1).unwrap();
    for cdb in [on_blocks(0x28, 0, 9, 2), on_blocks(0x08, 0, 9, 2)] {
        let (outcome, _) = bench.run(Cdb::from_bytes(&cdb), DataDirection::FromDevice, Some(&[0; 1024]));
        assert_eq!(outcome.sense.key_asc_ascq(), Some((3, 0x11, 0)));
        assert_eq!(outcome.sense.as_bytes()[0], 0xf0, "VALID");
        assert_eq!(outcome.sense.as_bytes()[3..7], [0, 0, 0, 9]);
        assert_eq!(outcome.residual, 1024);
    }
    assert_eq!(bench.none(&on_blocks(0x2f, 0, 0, 1000)), Some((3, 0x11, 0)));
    assert_eq!(bench.blocks(0, 10), pattern(1, 10));
}

#[test]
pub(super) fn an_address_beyond_32_bits_is_not_in_the_sense() {
    let mut bench = Bench::of(failing("/dev/null", 1 << 33));
    let cdb = Cdb::from_bytes(&on_blocks(0x88, 0, 1 << 32, 1));
    let (outcome, _) = bench.run(cdb, DataDirection::FromDevice, Some(&[0; 512]));
    assert_eq!(outcome.sense.key_asc_ascq(), Some((3, 0x11, 0)));
    assert_eq!(outcome.sense.as_bytes()[0], 0x70, "VALID is 0");
    assert_eq!(outcome.sense.as_bytes()[3..7], [0; 4]);
}

/// /dev/full has no room: SPACE ALLOCATION FAILED WRITE PROTECT.
#[test]
pub(super) fn a_full_file_system_is_write_protection() {
    let mut bench = Bench::of(failing("/dev/full", 16));
    let (outcome, _) =
        bench.run(Cdb::from_bytes(&on_blocks(0x2a, 0, 5, 1)), DataDirection::ToDevice, Some(&[1; 512]));
    assert_eq!(outcome.sense.key_asc_ascq(), Some((7, 0x27, 7)));
    assert_eq!(outcome.sense.as_bytes()[3..7], [0, 0, 0, 5]);
    assert_eq!(bench.data_out(&on_blocks(0x41, 0, 0, 4), &[1; 512]).0, Some((7, 0x27, 7)));
}

/// /dev/null and /dev/zero take data but cannot sync: so a failure shows that a sync was asked for.
#[test]
pub(super) fn fua_and_synchronize_cache_sync() {
    let write_error = Some((3, 0x0c, 0));
    let mut null = Bench::of(failing("/dev/null", 16));
    let mut zero = Bench::of(failing("/dev/zero", 16));
    for (write, read) in WRITES.into_iter().zip(READS).skip(1) {
        assert_eq!(null.data_out(&on_blocks(write, 0, 0, 1), &[1; 512]).0, GOOD);
        assert_eq!(null.data_out(&on_blocks(write, 8, 0, 1), &[1; 512]).0, write_error, "FUA");
        assert_eq!(zero.data_in(&on_blocks(read, 0, 0, 1), 512).0, GOOD);
        assert_eq!(zero.data_in(&on_blocks(read, 8, 0, 1), 512).0, write_error, "FUA");
    }
    assert_eq!(null.none(&on_blocks(0x35, 0, 0, 0)), write_error);
    assert_eq!(null.none(&on_blocks(0x91, 0, 0, 0)), write_error);
    assert_eq!(null.none(&[0x1b, 0, 0, 0, 0, 0]), write_error, "stop");
    assert_eq!(null.none(&[0x1b, 0, 0, 0, 1, 0]), GOOD, "start");
}

#[test]
pub(super) fn other_write_errors_are_medium_errors() {
    let file = Scratch::file(&[0; 512]);
    let medium = Medium::over(std::fs::File::open(file.path()).unwrap(), 512, false).unwrap();
    let mut bench = Bench::of(medium);
    assert_eq!(bench.data_out(&on_blocks(0x2a, 0, 0, 1), &[1; 512]), (Some((3, 0x0c, 0)), 512));
}
