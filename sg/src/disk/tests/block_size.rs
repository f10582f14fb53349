//! Blocks of 4096 bytes. That they keep what is written is random.rs's to show; here is what a guest is told, and where the
//! limits are.

use super::*;
use crate::disk::{BlockSize, MediumError};
use compare::compare_and_write;
use medium::Scratch;

/// A disk in memory with blocks of this size.
pub(super) fn ram(blocks: usize, block: usize) -> Medium {
    let size = BlockSize::ALL.into_iter().find(|size| size.bytes() as usize == block).unwrap();
    Medium::ram((blocks * block) as u64).unwrap().with_block_size(size).unwrap()
}

fn bench(blocks: usize) -> Bench {
    Bench::of(ram(blocks, 4096))
}

#[test]
fn the_size_is_a_multiple() {
    let file = Scratch::file(&[0; 4096 + 512]);
    let odd = Medium::open_file(file.path(), true).unwrap();
    let error = odd.with_block_size(BlockSize::B4096).unwrap_err();
    assert!(matches!(error, MediumError::Size { bytes: 4608, block: BlockSize::B4096 }));
    assert_eq!(error.to_string(), "a size of 4608 bytes is not a positive multiple of 4096");
    let medium = ram(3, 4096);
    assert_eq!((medium.blocks(), medium.block_size()), (3, BlockSize::B4096));
    assert_eq!(Medium::ram(4096).unwrap().block_size(), BlockSize::default());
    assert_eq!(BlockSize::default().to_string(), "512");
}

/// SBC-4, READ CAPACITY (10) and (16), short LBA mode parameter block descriptor.
#[test]
fn capacity_and_block_descriptor() {
    let mut bench = bench(0x0102);
    assert_eq!(bench.answer(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8), [0, 0, 1, 1, 0, 0, 0x10, 0]);
    let data = bench.answer(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], 32);
    assert_eq!(data[..16], [0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0x10, 0, 0, 0, 0xc0, 0]);
    let data = bench.answer(&[0x1a, 0, 0x08, 0, 255, 0], 255);
    assert_eq!(data[4..12], [0, 0, 1, 2, 0, 0, 0x10, 0]);
    let mut select = [&[0, 0, 0, 8][..], &data[4..12]].concat();
    let cdb = [0x15, 0x10, 0, 0, 12, 0];
    assert_eq!(bench.data_out(&cdb, &select), (GOOD, 0));
    select[10..].copy_from_slice(&[2, 0]);
    assert_eq!(bench.data_out(&cdb, &select).0, Some((5, 0x26, 0)), "512 is another size");
}

/// SBC-4, Block Limits VPD page: the same bytes as with blocks of 512, in fewer blocks.
#[test]
fn limits() {
    let mut bench = bench(1 << 19);
    let page = bench.answer(&[0x12, 1, 0xb0, 0, 255, 0], 255);
    let word = |at: usize| u32::from_be_bytes(page[at..at + 4].try_into().unwrap());
    assert_eq!(page[5], 63, "maximum COMPARE AND WRITE length");
    assert_eq!((word(8), word(12), word(16)), (127, 127, 127), "transfer and prefetch lengths");
    assert_eq!((word(20), word(24)), (1 << 18, 256), "maximum unmap LBA count and descriptors");
    assert_eq!((word(28), word(32)), (1, 0x8000_0000), "unmap granularity and alignment");
    assert_eq!((word(36), word(40)), (0, 8192), "maximum write same length");

    let data = pattern(1, 128 * 8);
    for (opcode, blocks, sense) in [(0x2a, 127, GOOD), (0x2a, 128, INVALID_FIELD), (0x8b, 128, INVALID_FIELD)]
    {
        assert_eq!(bench.data_out(&on_blocks(opcode, 0, 0, blocks), &data).0, sense, "{opcode:#x} {blocks}");
    }
    assert_eq!(bench.none(&on_blocks(0x8f, 0, 0, 128)), INVALID_FIELD);
    assert_eq!(bench.none(&on_blocks(0x34, 0, 0, 128)), INVALID_FIELD);
    assert_eq!(bench.data_out(&compare_and_write(0, 0, 64), &data).0, INVALID_FIELD);
    assert_eq!(bench.none(&on_blocks(0x93, 9, 0, 8193)), INVALID_FIELD);
    assert_eq!(bench.none(&on_blocks(0x93, 9, 0, 8192)), GOOD);
    let unmap = |blocks: u32| {
        let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        list.extend(blocks.to_be_bytes());
        list.extend([0; 4]);
        list
    };
    let cdb = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    assert_eq!(bench.data_out(&cdb, &unmap(1 << 18)), (GOOD, 0));
    assert_eq!(bench.data_out(&cdb, &unmap((1 << 18) + 1)).0, Some((5, 0x26, 0)));
}

#[test]
pub(super) fn addresses_and_lengths_are_of_blocks() {
    let file = Scratch::file(&pattern(7, 4 * 8));
    let medium = Medium::open_file(file.path(), false).unwrap().with_block_size(BlockSize::B4096).unwrap();
    let mut bench = Bench::of(medium);
    assert_eq!(bench.answer(&on_blocks(0x28, 0, 3, 1), 8192), pattern(7, 32)[3 * 4096..]);
    assert_eq!(bench.data_in(&on_blocks(0x28, 0, 4, 1), 4096).0, LBA_OUT_OF_RANGE);
    for (opcode, flags) in [(0x2a, 0), (0x41, 0), (0x2f, 6), (0x2e, 0)] {
        let cdb = on_blocks(opcode, flags, 0, 1);
        assert_eq!(bench.data_out(&cdb, &[0; 4095]).0, INVALID_FIELD, "{opcode:#x}: a short block");
    }
    assert_eq!(bench.data_out(&on_blocks(0x2a, 0, 2, 1), &[0x55; 4096]), (GOOD, 0));
    let content = std::fs::read(file.path()).unwrap();
    assert_eq!(content[..2 * 4096], pattern(7, 32)[..2 * 4096]);
    assert_eq!(content[2 * 4096..3 * 4096], [0x55; 4096]);
    assert_eq!(content[3 * 4096..], pattern(7, 32)[3 * 4096..]);
    let cdb = Cdb::from_bytes(&on_blocks(0x2f, 6, 2, 2));
    let (outcome, _) = bench.run(cdb, DataDirection::ToDevice, Some(&[0x55; 4096]));
    assert_eq!(outcome.sense.key_asc_ascq(), Some((0x0e, 0x1d, 0)));
    assert_eq!(outcome.sense.as_bytes()[3..7], 4096_u32.to_be_bytes());
}

/// UNRECOVERED READ ERROR with the LBA in INFORMATION; 64 KiB are read at a time. A part of a block
/// is left, or the disk would be a shorter one.
#[test]
pub(super) fn failures_name_the_block() {
    let file = Scratch::file(&[0; 100 * 4096]);
    let medium = Medium::open_file(file.path(), false).unwrap().with_block_size(BlockSize::B4096).unwrap();
    let mut bench = Bench::of(medium);
    std::fs::File::options().write(true).open(file.path()).unwrap().set_len(40 * 4096 + 1).unwrap();
    let (outcome, _) = bench.run(Cdb::from_bytes(&on_blocks(0x2f, 0, 0, 100)), DataDirection::None, None);
    assert_eq!(outcome.sense.key_asc_ascq(), Some((3, 0x11, 0)));
    assert_eq!(outcome.sense.as_bytes()[3..7], [0, 0, 0, 32]);
    let data = vec![0; 60 * 4096];
    let (outcome, _) =
        bench.run(Cdb::from_bytes(&on_blocks(0x8b, 0, 10, 60)), DataDirection::ToDevice, Some(&data));
    assert_eq!(outcome.sense.key_asc_ascq(), Some((3, 0x11, 0)));
    assert_eq!(outcome.sense.as_bytes()[3..7], [0, 0, 0, 26]);
}

#[test]
fn lba_status_counts_blocks() {
    let mut bench = bench(16);
    assert_eq!(bench.data_out(&on_blocks(0x2a, 0, 3, 2), &[1; 8192]), (GOOD, 0));
    let data = bench.answer(&[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0], 256);
    let extents: Vec<_> = data[8..].chunks(16).map(|d| (d[7], d[11], d[12])).collect();
    assert_eq!(extents, [(1, 2, 1), (3, 2, 0), (5, 11, 1)]);
}
