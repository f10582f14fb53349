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
    let list = list(&[(3, 2), (16, 24), (0, 0), (63, 1)]);
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
