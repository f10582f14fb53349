use std::os::unix::fs::MetadataExt;

use super::*;
use crate::disk::medium::Medium;

const IN_LIST: Option<(u8, u8, u8)> = Some((5, 0x26, 0));
const LIST_LENGTH: Option<(u8, u8, u8)> = Some((5, 0x1a, 0));

/// SBC-4, UNMAP command: PARAMETER LIST LENGTH in bytes 7 and 8.
fn unmap(list_len: usize) -> Vec<u8> {
    let [high, low] = (list_len as u16).to_be_bytes();
    vec![0x42, 0, 0, 0, 0, 0, 0, high, low, 0]
}

/// SBC-4, UNMAP parameter list: two lengths, four reserved bytes, descriptors of LBA (8), number (4), reserved (4).
fn list(extents: &[(u64, u32)]) -> Vec<u8> {
    let descriptors = extents.len() * 16;
    let mut list = ((descriptors + 6) as u16).to_be_bytes().to_vec();
    list.extend((descriptors as u16).to_be_bytes());
    list.extend([0; 4]);
    for (lba, blocks) in extents {
        list.extend(lba.to_be_bytes());
        list.extend(blocks.to_be_bytes());
        list.extend([0; 4]);
    }
    list
}

fn written(blocks: u64) -> Bench {
    let mut bench = Bench::ram(blocks);
    assert_eq!(bench.data_out(&on_blocks(0x41, 0, 0, blocks as u32), &[0xaa; 512]), (GOOD, 0));
    bench
}

#[test]
fn unmapped_blocks_read_as_zeroes() {
    let mut bench = written(64);
    let list = list(&[(3, 2), (16, 24), (0, 0), (64, 0), (63, 1)]);
    assert_eq!(bench.data_out(&unmap(list.len()), &list), (GOOD, 0));
    let blocks = bench.blocks(0, 64);
    for (lba, block) in blocks.chunks(512).enumerate() {
        let expected = if matches!(lba, 3 | 4 | 16..40 | 63) { 0 } else { 0xaa };
        assert!(block.iter().all(|byte| *byte == expected), "block {lba}");
    }
}

/// The space goes back to the system, with UNMAP and with WRITE SAME; without its UNMAP bit the space stays.
#[test]
fn unmapped_blocks_take_no_space() {
    let memory = nix::sys::memfd::memfd_create("test", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let file = std::fs::File::from(memory);
    file.set_len(64 * 512).unwrap();
    let mut bench = Bench::of(Medium::over(file.try_clone().unwrap(), 64 * 512, false).unwrap());
    let used = || file.metadata().unwrap().blocks();
    assert_eq!(used(), 0);
    assert_eq!(bench.data_out(&on_blocks(0x41, 0, 0, 64), &[1; 512]), (GOOD, 0));
    assert_eq!(used(), 64);
    let list = list(&[(0, 32)]);
    assert_eq!(bench.data_out(&unmap(list.len()), &list), (GOOD, 0));
    assert_eq!(used(), 32);
    assert_eq!(bench.data_out(&on_blocks(0x93, 8, 32, 16), &[0; 512]), (GOOD, 0));
    assert_eq!(used(), 16);
    assert_eq!(bench.data_out(&on_blocks(0x93, 8, 48, 8), &[2; 512]), (GOOD, 0), "not zeroes: written");
    assert_eq!(used(), 16);
    assert_eq!(bench.none(&on_blocks(0x93, 9, 48, 8)), GOOD, "UNMAP and NDOB");
    assert_eq!(used(), 8);
    assert_eq!(bench.data_out(&on_blocks(0x41, 0, 56, 8), &[0; 512]), (GOOD, 0));
    assert_eq!(used(), 8, "zeroed, and still there");
    assert_eq!(bench.blocks(0, 64), [0; 64 * 512]);
}

#[test]
fn unmap_lists_are_checked_before_anything_is_done() {
    let mut bench = written(64);
    let good = list(&[(0, 8)]);
    for (bad, sense) in [
        (list(&[(0, 8), (60, 5)]), LBA_OUT_OF_RANGE),
        (list(&[(0, 8), (64, 1)]), LBA_OUT_OF_RANGE),
        (list(&[(0, 8), (u64::MAX, 2)]), LBA_OUT_OF_RANGE),
        (list(&[(0, 1); 257]), IN_LIST),
        (good[..7].to_vec(), LIST_LENGTH),
        (good[..1].to_vec(), LIST_LENGTH),
    ] {
        assert_eq!(bench.data_out(&unmap(bad.len()), &bad), (sense, bad.len() as u32));
    }
    assert_eq!(
        bench.data_out(&unmap(good.len()), &good[..20]).0,
        INVALID_FIELD,
        "data-out is shorter than the list"
    );
    let mut anchor = unmap(good.len());
    anchor[1] = 1;
    assert_eq!(bench.data_out(&anchor, &good).0, INVALID_FIELD, "ANCHOR");
    assert_eq!(bench.blocks(0, 64), [0xaa; 64 * 512]);
    let most = list(&[(0, 1); 256]);
    assert_eq!(bench.data_out(&unmap(most.len()), &most), (GOOD, 0));
}

#[test]
fn unmap_has_a_limit_for_all_descriptors_together() {
    let mut bench = Bench::ram(1 << 22);
    let most = list(&[(0, 1 << 20), (1 << 20, 1 << 20)]);
    assert_eq!(bench.data_out(&unmap(most.len()), &most), (GOOD, 0));
    let more = list(&[(0, 1 << 20), (1 << 20, 1 << 20), (1 << 21, 1)]);
    assert_eq!(bench.data_out(&unmap(more.len()), &more).0, IN_LIST);
}

/// SBC-4, UNMAP parameter list: descriptors that are cut off, by the CDB or by the list's own lengths, are ignored.
#[test]
fn cut_off_descriptors_are_ignored() {
    let whole = list(&[(0, 1), (1, 1)]);
    let cut = |at: usize, value: u8| {
        let mut list = whole.clone();
        list[at] = value;
        list
    };
    for (list, len, cleared) in [
        (whole.clone(), whole.len(), 2),
        (whole.clone(), whole.len() - 1, 1),
        (whole.clone(), 8, 0),
        (whole.clone(), 0, 0),
        (cut(3, 31), whole.len(), 1),
        (cut(3, 0), whole.len(), 0),
        (cut(1, 37), whole.len(), 1),
        (cut(1, 0), whole.len(), 0),
        (cut(3, 255), whole.len(), 2),
    ] {
        let mut bench = written(2);
        let unused = (list.len() - len) as u32;
        assert_eq!(bench.data_out(&unmap(len), &list), (GOOD, unused));
        let zeroes = bench.blocks(0, 2).iter().filter(|byte| **byte == 0).count();
        assert_eq!(zeroes, cleared * 512, "{list:02x?}, {len} bytes");
    }
    assert_eq!(written(2).none(&unmap(0)), GOOD, "no list at all");
}

/// SBC-4, WRITE SAME (10) and (16): more than a chunk, and not one block more than asked.
#[test]
fn write_same_repeats_the_block() {
    for opcode in [0x41, 0x93] {
        for flags in [0, 8] {
            for block in [pattern(5, 1), vec![0; 512]] {
                let mut bench = written(400);
                assert_eq!(bench.data_out(&on_blocks(opcode, flags, 1, 301), &block), (GOOD, 0));
                assert_eq!(bench.blocks(0, 1), [0xaa; 512]);
                assert_eq!(bench.blocks(1, 301), block.repeat(301));
                assert_eq!(bench.blocks(302, 98), [0xaa; 98 * 512]);
            }
        }
    }
}

#[test]
fn write_same_without_data_writes_zeroes() {
    for flags in [1, 9] {
        let mut bench = written(16);
        assert_eq!(bench.none(&on_blocks(0x93, flags, 4, 8)), GOOD);
        assert_eq!(
            bench.blocks(0, 16),
            [[0xaa; 4 * 512], [0; 4 * 512], [0; 4 * 512], [0xaa; 4 * 512]].concat()
        );
    }
}

#[test]
fn bad_write_sames() {
    let mut bench = Bench::ram(1 << 17);
    let block = [1; 512];
    for (opcode, flags) in
        [(0x41, 0x01), (0x41, 0x02), (0x41, 0x04), (0x41, 0x10), (0x93, 0x02), (0x93, 0x04), (0x93, 0x18)]
    {
        assert_eq!(
            bench.data_out(&on_blocks(opcode, flags, 0, 1), &block).0,
            INVALID_FIELD,
            "{opcode:#x} {flags:#x}"
        );
    }
    for opcode in [0x41, 0x93] {
        assert_eq!(bench.data_out(&on_blocks(opcode, 0, 0, 0), &block).0, INVALID_FIELD, "WSNZ");
        assert_eq!(bench.data_out(&on_blocks(opcode, 0, 1 << 17, 1), &block).0, LBA_OUT_OF_RANGE);
        assert_eq!(bench.data_out(&on_blocks(opcode, 0, (1 << 17) - 1, 2), &block).0, LBA_OUT_OF_RANGE);
        assert_eq!(bench.data_out(&on_blocks(opcode, 0, 0, 1), &block[..511]).0, INVALID_FIELD);
        assert_eq!(bench.none(&on_blocks(opcode, 0, 0, 1)), INVALID_FIELD);
    }
    assert_eq!(bench.none(&on_blocks(0x93, 9, 0, 65537)), INVALID_FIELD, "above the limit of page B0h");
    assert_eq!(bench.none(&on_blocks(0x93, 9, 0, 65536)), GOOD);
    assert_eq!(bench.blocks(0, 1), [0; 512]);
}

/// SBC-4, GET LBA STATUS (16): the starting address is bytes 2 to 9, the allocation length 10 to 13, the report type 14.
fn get_lba_status(lba: u64, allocation: u32, report_type: u8) -> Vec<u8> {
    let mut cdb = vec![0x9e, 0x12];
    cdb.extend(lba.to_be_bytes());
    cdb.extend(allocation.to_be_bytes());
    cdb.extend([report_type, 0]);
    cdb
}

/// Address, number of blocks and provisioning status (0 mapped, 1 deallocated) of every descriptor in an answer.
fn status(bench: &mut Bench, lba: u64, allocation: u32) -> Vec<(u64, u32, u8)> {
    let data = bench.answer(&get_lba_status(lba, allocation, 0), 4096);
    let len = u32::from_be_bytes(data[..4].try_into().unwrap());
    assert_eq!(len as usize, data.len() - 4, "parameter data length");
    assert_eq!(data[4..8], [0; 4]);
    let (descriptors, rest) = data[8..].as_chunks::<16>();
    assert!(rest.is_empty(), "{rest:?}");
    let of = |d: &[u8; 16]| {
        assert_eq!(d[13..], [0; 3]);
        let (lba, blocks) = (d[..8].try_into().unwrap(), d[8..12].try_into().unwrap());
        (u64::from_be_bytes(lba), u32::from_be_bytes(blocks), d[12])
    };
    descriptors.iter().map(of).collect()
}

/// Holes of a file in memory are as large as its pages: 8 blocks.
#[test]
fn lba_status_tells_holes() {
    let mut bench = Bench::ram(64);
    assert_eq!(status(&mut bench, 0, 4096), [(0, 64, 1)]);
    assert_eq!(bench.data_out(&on_blocks(0x2a, 0, 8, 16), &[1; 16 * 512]), (GOOD, 0));
    assert_eq!(bench.data_out(&on_blocks(0x2a, 0, 63, 1), &[1; 512]), (GOOD, 0));
    let all = [(0, 8, 1), (8, 16, 0), (24, 32, 1), (56, 8, 0)];
    assert_eq!(status(&mut bench, 0, 4096), all);
    assert_eq!(status(&mut bench, 3, 4096), [(3, 5, 1), (8, 16, 0), (24, 32, 1), (56, 8, 0)]);
    assert_eq!(status(&mut bench, 23, 4096), [(23, 1, 0), (24, 32, 1), (56, 8, 0)]);
    assert_eq!(status(&mut bench, 63, 4096), [(63, 1, 0)]);
    assert_eq!(status(&mut bench, 0, 8 + 2 * 16 + 15), all[..2], "whole descriptors");
    assert_eq!(status(&mut bench, 0, 24), all[..1]);
    let list = list(&[(8, 16)]);
    assert_eq!(bench.data_out(&unmap(list.len()), &list), (GOOD, 0));
    assert_eq!(status(&mut bench, 0, 4096), [(0, 56, 1), (56, 8, 0)]);
    let whole = bench.answer(&get_lba_status(0, 4096, 0), 4096);
    assert_eq!(
        bench.answer(&get_lba_status(0, 20, 0), 4096),
        [&[0, 0, 0, 20][..], &whole[4..20]].concat(),
        "one, cut off"
    );
    assert_eq!(bench.answer(&get_lba_status(0, 4096, 0), 30), whole[..30], "the buffer is short");
    assert_eq!(bench.none(&get_lba_status(0, 4096, 0)), GOOD);
}

#[test]
fn lba_status_has_at_most_64_descriptors() {
    let mut bench = Bench::ram(200 * 8);
    for page in 0..100 {
        assert_eq!(bench.data_out(&on_blocks(0x2a, 0, page * 16, 1), &[1; 512]), (GOOD, 0));
    }
    let first = status(&mut bench, 0, u32::MAX);
    assert_eq!(first.len(), 64);
    assert!(first.iter().enumerate().all(|(i, d)| *d == (i as u64 * 8, 8, (i % 2) as u8)), "{first:?}");
    assert_eq!(status(&mut bench, 64 * 8, u32::MAX)[0], (64 * 8, 8, 0), "and so on");
}

/// NUMBER OF LOGICAL BLOCKS has 32 bits.
#[test]
fn lba_status_of_a_large_disk() {
    let mut bench = Bench::ram(0x2_0000_0000);
    assert_eq!(
        status(&mut bench, 0, 4096),
        [(0, u32::MAX, 1), (u64::from(u32::MAX), u32::MAX, 1), (0x1_ffff_fffe, 2, 1)]
    );
}

#[test]
fn all_is_data_where_nobody_knows_of_holes() {
    // As a block device answers: whence is invalid.
    let file = std::fs::File::open("/proc/version").unwrap();
    let mut bench = Bench::of(Medium::over(file, 64 * 512, true).unwrap());
    assert_eq!(status(&mut bench, 3, 4096), [(3, 61, 0)]);
}

#[test]
fn bad_lba_statuses() {
    let mut bench = Bench::ram(64);
    assert_eq!(bench.data_in(&get_lba_status(64, 4096, 0), 4096), (LBA_OUT_OF_RANGE, vec![]));
    assert_eq!(bench.data_in(&get_lba_status(u64::MAX, 4096, 0), 4096), (LBA_OUT_OF_RANGE, vec![]));
    for report_type in 1..=255 {
        assert_eq!(bench.data_in(&get_lba_status(0, 4096, report_type), 4096).0, INVALID_FIELD);
    }
    let cdb = get_lba_status(3, 4096, 0);
    let pipe = nix::unistd::pipe().unwrap().0;
    let mut bench = Bench::of(Medium::over(pipe.into(), 64 * 512, false).unwrap());
    assert_eq!(
        bench.data_in(&cdb, 4096).0,
        Some((3, 0x11, 0)),
        "UNRECOVERED READ ERROR where there is no seeking"
    );
}
