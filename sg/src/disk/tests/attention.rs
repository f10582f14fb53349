//! What is told before the next command: a new size, a reset.

use std::fs::OpenOptions;
use std::thread;
use std::time::Instant;

use super::*;
use crate::disk::BlockSize;
use medium::Scratch;

const CAPACITY_CHANGED: Option<(u8, u8, u8)> = Some((6, 0x2a, 9));
const RESET: Option<(u8, u8, u8)> = Some((6, 0x29, 3));

const TEST_UNIT_READY: [u8; 6] = [0; 6];
const INQUIRY: [u8; 6] = [0x12, 0, 0, 0, 96, 0];
const REPORT_LUNS: [u8; 12] = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0];
const READ_CAPACITY_10: [u8; 10] = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const READ_CAPACITY_16: [u8; 16] = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];

fn resize(file: &Scratch, bytes: u64) {
    OpenOptions::new().write(true).open(file.path()).unwrap().set_len(bytes).unwrap();
}

/// The blocks, by both commands.
fn capacity(bench: &mut Bench) -> u64 {
    let short = bench.answer(&READ_CAPACITY_10, 8);
    let long = bench.answer(&READ_CAPACITY_16, 32);
    assert_eq!(long[4..8], short[..4]);
    u64::from_be_bytes(long[..8].try_into().unwrap()) + 1
}

#[test]
pub(super) fn a_file_that_grows_is_a_disk_that_grows() {
    for (block_size, read_only) in [(512, false), (4096, false), (512, true)] {
        let file = Scratch::file(&vec![1; 8 * block_size]);
        let size = BlockSize::ALL.into_iter().find(|size| size.bytes() as usize == block_size).unwrap();
        let medium = Medium::open_file(file.path(), read_only).unwrap().with_block_size(size).unwrap();
        let mut bench = Bench::of(medium);
        assert_eq!(capacity(&mut bench), 8);
        resize(&file, 20 * block_size as u64);
        // What runs beyond the end looks at once, and is done when it comes again.
        let last = on_blocks(0x28, 0, 19, 1);
        assert_eq!(bench.data_in(&last, block_size), (CAPACITY_CHANGED, vec![]));
        assert_eq!(bench.answer(&last, block_size), vec![0; block_size]);
        assert_eq!(capacity(&mut bench), 20);
        let beyond = on_blocks(0x28, 0, 20, 1);
        assert_eq!(bench.data_in(&beyond, block_size).0, LBA_OUT_OF_RANGE);
        // A half block more is no block.
        resize(&file, 21 * block_size as u64 - 1);
        assert_eq!(bench.data_in(&beyond, block_size).0, LBA_OUT_OF_RANGE);
        assert_eq!(capacity(&mut bench), 20);
    }
}

#[test]
pub(super) fn a_file_that_shrinks_is_a_disk_that_shrinks() {
    let file = Scratch::file(&[1; 20 * 512]);
    let mut bench = Bench::of(Medium::open_file(file.path(), false).unwrap());
    resize(&file, 8 * 512);
    let last = on_blocks(0x28, 0, 19, 1);
    assert_eq!(bench.data_in(&last, 512).0, CAPACITY_CHANGED, "read_exact_at finds no bytes");
    assert_eq!(bench.data_in(&last, 512).0, LBA_OUT_OF_RANGE);
    assert_eq!(capacity(&mut bench), 8);
    resize(&file, 0);
    assert_eq!(bench.data_in(&on_blocks(0x28, 0, 0, 1), 512).0, Some((3, 0x11, 0)), "a disk has blocks");
    assert_eq!(capacity(&mut bench), 8);
}

#[test]
pub(super) fn the_size_is_looked_at_once_a_second_and_for_who_asks() {
    let file = Scratch::file(&[1; 8 * 512]);
    let mut bench = Bench::of(Medium::open_file(file.path(), false).unwrap());
    resize(&file, 9 * 512);
    assert_eq!(bench.data_in(&READ_CAPACITY_10, 8).0, CAPACITY_CHANGED);
    let began = Instant::now();
    assert_eq!(capacity(&mut bench), 9);
    resize(&file, 10 * 512);
    let in_the_same_second = bench.none(&TEST_UNIT_READY);
    // This machine may have been busy with something else.
    if began.elapsed() < Duration::from_secs(1) {
        assert_eq!(in_the_same_second, GOOD);
        thread::sleep(Duration::from_millis(1100));
        assert_eq!(bench.none(&TEST_UNIT_READY), CAPACITY_CHANGED);
    }
    assert_eq!(bench.none(&TEST_UNIT_READY), GOOD, "it is told once");
    assert_eq!(capacity(&mut bench), 10);
}

/// SPC-5: INQUIRY and REPORT LUNS leave a unit attention pending, REQUEST SENSE has it as its data.
#[test]
pub(super) fn some_commands_come_first() {
    let file = Scratch::file(&[1; 8 * 512]);
    let mut bench = Bench::of(Medium::open_file(file.path(), false).unwrap());
    for (descriptor, expected) in [(0, (2, 12)), (1, (1, 2))] {
        bench.disk.resetter().unwrap()().unwrap();
        assert_eq!(bench.answer(&INQUIRY, 96).len(), 96);
        assert_eq!(bench.answer(&REPORT_LUNS, 16).len(), 16);
        let sense = bench.answer(&[0x03, descriptor, 0, 0, 18, 0], 18);
        let (key, code) = expected;
        assert_eq!((sense[key], sense[code], sense[code + 1]), (6, 0x29, 3));
        assert_eq!(bench.none(&TEST_UNIT_READY), GOOD);
        assert_eq!(bench.answer(&[0x03, descriptor, 0, 0, 18, 0], 18)[key], 0);
    }
}

#[test]
pub(super) fn a_reset_gives_the_mode_pages_back_and_is_told() {
    let wce = |bench: &mut Bench| bench.answer(&[0x1a, 8, 8, 0, 24, 0], 24)[6] & 4;
    let mut bench = Bench::ram(8);
    let mut list = bench.answer(&[0x1a, 8, 8, 0, 24, 0], 24);
    (list[0], list[2], list[6]) = (0, 0, 0);
    assert_eq!(bench.data_out(&[0x15, 0x10, 0, 0, 24, 0], &list), (GOOD, 0));
    assert_eq!(wce(&mut bench), 0);
    bench.disk.resetter().unwrap()().unwrap();
    assert_eq!(bench.none(&[0xff, 0, 0, 0, 0, 0]), RESET, "before what is wrong with the command");
    assert_eq!(bench.none(&TEST_UNIT_READY), GOOD, "once");
    assert_eq!(wce(&mut bench), 4);
}

#[test]
pub(super) fn a_reset_is_told_before_a_new_size() {
    let file = Scratch::file(&[1; 8 * 512]);
    let mut bench = Bench::of(Medium::open_file(file.path(), false).unwrap());
    bench.disk.resetter().unwrap()().unwrap();
    resize(&file, 9 * 512);
    for sense in [RESET, CAPACITY_CHANGED] {
        assert_eq!(bench.data_in(&READ_CAPACITY_10, 8).0, sense);
    }
    assert_eq!(capacity(&mut bench), 9);
}
