use super::*;

/// SBC-4, Caching mode page: WCE is bit 2 of byte 2.
const CACHING: [u8; 20] = [0x08, 0x12, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// SPC-5, Control mode page: QUEUE ALGORITHM MODIFIER 1 in byte 3, D_SENSE 0 in byte 2.
const CONTROL: [u8; 12] = [0x0a, 0x0a, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0];

fn six(flags: u8, page: u8, subpage: u8) -> [u8; 6] {
    [0x1a, flags, page, subpage, 255, 0]
}

fn ten(flags: u8, page: u8, subpage: u8) -> [u8; 10] {
    [0x5a, flags, page, subpage, 0, 0, 0, 1, 0, 0]
}

/// SPC-5, mode parameter header (6) of 4 bytes and short LBA block descriptor of 8.
#[test]
fn six_bytes() {
    let mut bench = Bench::ram(0x0102_0304);
    let data = bench.answer(&six(0, 0x08, 0), 255);
    assert_eq!(data[..4], [31, 0, 0x10, 8], "length behind itself, medium type, DPOFUA, descriptor length");
    assert_eq!(data[4..12], [1, 2, 3, 4, 0, 0, 2, 0], "blocks, block length");
    assert_eq!(data[12..], CACHING);
    let data = bench.answer(&six(0x08, 0x0a, 0), 255);
    assert_eq!(data[..4], [15, 0, 0x10, 0], "DBD: no descriptor");
    assert_eq!(data[4..], CONTROL);
}

/// SPC-5, mode parameter header (10) of 8 bytes.
#[test]
fn ten_bytes() {
    let mut bench = Bench::ram(8);
    let data = bench.answer(&ten(0, 0x3f, 0), 256);
    assert_eq!(data[..8], [0, 46, 0, 0x10, 0, 0, 0, 8]);
    assert_eq!(data[8..16], [0, 0, 0, 8, 0, 0, 2, 0]);
    assert_eq!(data[16..], [&CACHING[..], &CONTROL].concat());
    assert_eq!(bench.answer(&ten(0x08, 0x08, 0), 256)[..8], [0, 26, 0, 0x10, 0, 0, 0, 0]);
}

#[test]
fn a_large_disk_does_not_fit_the_descriptor() {
    let data = Bench::ram(0x1_0000_0000).answer(&six(0, 0x08, 0), 255);
    assert_eq!(data[4..12], [255, 255, 255, 255, 0, 0, 2, 0]);
}

/// SPC-5, MODE SENSE (6): page 3Fh is all pages, subpage FFh all subpages, of which 0 is one.
#[test]
fn pages_and_subpages() {
    let mut bench = Bench::ram(8);
    let all = [&CACHING[..], &CONTROL].concat();
    for (page, subpage, expected) in
        [(0x3f, 0, &all[..]), (0x3f, 0xff, &all), (0x08, 0xff, &CACHING), (0x0a, 0xff, &CONTROL)]
    {
        assert_eq!(bench.answer(&six(8, page, subpage), 255)[4..], *expected, "{page:02x}/{subpage:02x}");
    }
    for (page, subpage) in
        [(0x00, 0), (0x01, 0), (0x1c, 0), (0x08, 1), (0x0a, 5), (0x3f, 1), (0x3f, 0xfe), (0x01, 0xff)]
    {
        assert_eq!(bench.data_in(&six(8, page, subpage), 255).0, INVALID_FIELD, "{page:02x}/{subpage:02x}");
        assert_eq!(bench.data_in(&ten(8, page, subpage), 255).0, INVALID_FIELD, "{page:02x}/{subpage:02x}");
    }
}

/// SPC-5, page control: changeable values are masks, defaults are the values, and nothing is saved.
#[test]
fn page_control() {
    let mut bench = Bench::ram(8);
    let changeable = bench.answer(&six(8, 0x40 | 0x3f, 0), 255);
    assert_eq!(changeable[..4], [35, 0, 0x10, 0], "header as ever");
    assert_eq!(changeable[4..6], [0x08, 0x12]);
    assert_eq!(changeable[6], 4, "WCE");
    assert_eq!(changeable[7..24], [0; 17]);
    assert_eq!(changeable[24..26], [0x0a, 0x0a]);
    assert_eq!(changeable[26..], [0; 10]);
    assert_eq!(bench.answer(&six(8, 0x80 | 0x08, 0), 255)[4..], CACHING);
    assert_eq!(bench.data_in(&six(8, 0xc0 | 0x08, 0), 255), (Some((5, 0x39, 0)), vec![]));
}

/// What Linux asks first: four bytes of everything, for WP.
#[test]
fn write_protection_shows_in_four_bytes() {
    let mut bench = Bench::ram(8);
    assert_eq!(bench.answer(&[0x1a, 0, 0x3f, 0, 4, 0], 4), [43, 0, 0x10, 8]);
    let mut protected = Bench::of(medium::read_only(8));
    assert_eq!(protected.answer(&[0x1a, 0, 0x3f, 0, 4, 0], 4), [43, 0, 0x90, 8]);
    assert_eq!(protected.answer(&ten(8, 0x08, 0), 255)[3], 0x90);
}

const IN_LIST: Option<(u8, u8, u8)> = Some((5, 0x26, 0));
const LIST_LENGTH: Option<(u8, u8, u8)> = Some((5, 0x1a, 0));

/// SPC-5, MODE SELECT (6) and (10): PF is bit 4 and SP bit 0 of byte 1; the list's length is byte 4, or bytes 7 and 8.
fn select(ten: bool, flags: u8, len: usize) -> Vec<u8> {
    let len = len as u8;
    if ten { vec![0x55, flags, 0, 0, 0, 0, 0, 0, len, 0] } else { vec![0x15, flags, 0, 0, len, 0] }
}

/// A parameter list: header, block descriptor, pages.
fn list(ten: bool, descriptor: &[u8], pages: &[&[u8]]) -> Vec<u8> {
    let len = descriptor.len() as u8;
    let header = if ten { &[0, 0, 0, 0, 0, 0, 0, len][..] } else { &[0, 0, 0, len] };
    [header, descriptor, &pages.concat()].concat()
}

fn caching(wce: bool) -> [u8; 20] {
    let mut page = CACHING;
    page[2] = if wce { 4 } else { 0 };
    page
}

fn selects(bench: &mut Bench, ten: bool, list: &[u8]) -> Option<(u8, u8, u8)> {
    bench.data_out(&select(ten, 0x10, list.len()), list).0
}

#[test]
fn the_write_cache_can_be_switched() {
    for ten in [false, true] {
        let mut bench = Bench::ram(8);
        for wce in [false, false, true, false] {
            let list = list(ten, &[], &[&caching(wce)]);
            assert_eq!(bench.data_out(&select(ten, 0x10, list.len()), &list), (GOOD, 0));
            assert_eq!(bench.answer(&six(8, 0x08, 0), 255)[4..], caching(wce));
            assert_eq!(bench.answer(&six(8, 0x80 | 0x08, 0), 255)[4..], CACHING, "the default stays");
            assert_eq!(bench.answer(&six(8, 0x40 | 0x08, 0), 255)[4..7], [0x08, 0x12, 4], "and the mask");
        }
    }
}

/// What was read can be sent back, all of it, as SPC-5 wants it: with the mode data length 0.
#[test]
fn what_is_sensed_can_be_selected() {
    for ten in [false, true] {
        let mut bench = Bench::ram(8);
        let sense: &[u8] = if ten { &self::ten(0, 0x3f, 0) } else { &six(0, 0x3f, 0) };
        let mut data = bench.answer(sense, 255);
        data[..2].fill(0);
        assert_eq!(selects(&mut bench, ten, &data), GOOD);
        assert_eq!(bench.answer(&six(8, 0x3f, 0), 255)[4..], [&CACHING[..], &CONTROL].concat());
        data[if ten { 16 } else { 12 }] |= 0x80;
        assert_eq!(selects(&mut bench, ten, &data), GOOD, "PS is reserved");
    }
}

#[test]
fn selections_that_are_refused_change_nothing() {
    let changed = |at: usize, page: &[u8]| {
        let mut page = page.to_vec();
        page[at] ^= 1;
        page
    };
    let off = caching(false);
    for ten in [false, true] {
        let mut bench = Bench::ram(8);
        let refused = |bench: &mut Bench, bytes: &[u8], sense, what: &str| {
            assert_eq!(
                bench.data_out(&select(ten, 0x10, bytes.len()), bytes),
                (sense, bytes.len() as u32),
                "{what}"
            );
            assert_eq!(bench.answer(&six(8, 0x08, 0), 255)[4..], CACHING, "{what}");
        };
        for at in 1..20 {
            refused(&mut bench, &list(ten, &[], &[&changed(at, &off)]), IN_LIST, "another bit of Caching");
        }
        for at in 1..12 {
            let bytes = list(ten, &[], &[&off, &changed(at, &CONTROL)]);
            refused(&mut bench, &bytes, IN_LIST, "a bit of Control, behind a good page");
        }
        for page in [&[0x1c, 2, 0, 0][..], &[0x48, 0, 0, 0], &[0x3f, 0]] {
            refused(&mut bench, &list(ten, &[], &[&off, page]), IN_LIST, "an unknown page");
        }
        let whole = list(ten, &[], &[&off]);
        let header = whole.len() - 20;
        for len in (1..header).chain(header + 1..whole.len()) {
            refused(&mut bench, &whole[..len], LIST_LENGTH, "cut off");
        }
        refused(&mut bench, &[&whole[..], &[0x0a]].concat(), LIST_LENGTH, "half a head");
        for len in [1, 7, 9, 16] {
            refused(&mut bench, &list(ten, &vec![0; len], &[&off]), IN_LIST, "no block descriptor");
        }
        refused(&mut bench, &list(ten, &[0, 0, 0, 8, 0, 0, 2, 0], &[])[..header + 7], LIST_LENGTH, "cut off");
        for descriptor in
            [[0, 0, 0, 7, 0, 0, 2, 0], [0, 0, 0, 8, 0, 0, 16, 0], [0, 0, 0, 8, 1, 0, 2, 0], [0; 8]]
        {
            refused(&mut bench, &list(ten, &descriptor, &[&off]), IN_LIST, "another block descriptor");
        }
        let mut medium_type = whole.clone();
        medium_type[if ten { 2 } else { 1 }] = 1;
        refused(&mut bench, &medium_type, IN_LIST, "a medium type");
        if ten {
            let mut long = whole.clone();
            long[4] = 1;
            refused(&mut bench, &long, IN_LIST, "LONGLBA");
        }
        for flags in [0x00, 0x01, 0x11, 0x12] {
            let cdb = select(ten, flags, whole.len());
            assert_eq!(bench.data_out(&cdb, &whole).0, INVALID_FIELD, "no PF, SP, RTD: {flags:#x}");
        }
        assert_eq!(
            bench.data_out(&select(ten, 0x10, whole.len()), &whole[1..]).0,
            INVALID_FIELD,
            "short data-out"
        );
        assert_eq!(bench.answer(&six(8, 0x08, 0), 255)[4..], CACHING);
    }
}

#[test]
fn lists_that_change_nothing() {
    for ten in [false, true] {
        let mut bench = Bench::ram(8);
        assert_eq!(bench.none(&select(ten, 0x10, 0)), GOOD, "no list");
        for descriptor in
            [[0, 0, 0, 8, 0, 0, 2, 0], [0, 0, 0, 0, 0, 0, 2, 0], [255, 255, 255, 255, 0, 0, 2, 0]]
        {
            assert_eq!(selects(&mut bench, ten, &list(ten, &descriptor, &[&CONTROL])), GOOD);
        }
        let mut bits = list(ten, &[], &[]);
        bits[if ten { 3 } else { 2 }] = 0x90;
        assert_eq!(selects(&mut bench, ten, &bits), GOOD, "WP and DPOFUA are ignored");
        assert_eq!(bench.answer(&six(8, 0x08, 0), 255)[4..], CACHING);
    }
}

/// /dev/zero and /dev/null take data but cannot sync: so a failure shows that a sync was asked for.
#[test]
pub(super) fn without_a_write_cache_every_write_is_synced() {
    let write_error = Some((3, 0x0c, 0));
    let mut bench = Bench::of(medium::failing("/dev/zero", 16));
    assert_eq!(selects(&mut bench, false, &list(false, &[], &[&caching(false)])), write_error);
    assert_eq!(bench.answer(&six(8, 0x08, 0), 255)[4..], CACHING, "it could not be emptied");
    let zeroes = [0; 1024];
    for cached in [true, false] {
        let name = DiskIdentity::from_name("x");
        let mut disk = EmulatedDisk::new(medium::failing("/dev/zero", 16), name, 508 * 1024);
        disk.write_cache = cached;
        bench = Bench::over(disk);
        let expected = if cached { GOOD } else { write_error };
        for opcode in [0x0a, 0x2a, 0xaa, 0x8a, 0x8b, 0x41, 0x93] {
            let data = [opcode; 512];
            assert_eq!(bench.data_out(&on_blocks(opcode, 0, 3, 1), &data).0, expected, "{opcode:#x}");
        }
        assert_eq!(bench.data_out(&compare::compare_and_write(0, 3, 1), &zeroes).0, expected);
        assert_eq!(bench.data_out(&[0x42, 0, 0, 0, 0, 0, 0, 0, 8, 0], &zeroes[..8]).0, expected, "UNMAP");
        assert_eq!(bench.answer(&on_blocks(0x28, 0, 0, 1), 512), [0; 512], "reading needs none");
    }
    let (outcome, _) =
        bench.run(Cdb::from_bytes(&on_blocks(0x2a, 0, 3, 1)), DataDirection::ToDevice, Some(&zeroes));
    assert_eq!(outcome.sense.as_bytes()[3..7], [0, 0, 0, 3], "INFORMATION");
    assert_eq!(selects(&mut bench, true, &list(true, &[], &[&caching(true)])), GOOD, "nothing to save");
}

/// What it writes is a setting and not the medium.
#[test]
fn a_write_protected_disk_has_a_write_cache_too() {
    let mut bench = Bench::of(medium::read_only(8));
    assert_eq!(selects(&mut bench, false, &list(false, &[], &[&caching(false)])), GOOD);
    assert_eq!(bench.answer(&six(8, 0x08, 0), 255)[4..], caching(false));
}
