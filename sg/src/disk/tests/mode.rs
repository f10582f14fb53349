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

/// SPC-5, page control: changeable values are masks of 0, defaults are the values, and nothing is saved.
#[test]
fn page_control() {
    let mut bench = Bench::ram(8);
    let changeable = bench.answer(&six(8, 0x40 | 0x3f, 0), 255);
    assert_eq!(changeable[..4], [35, 0, 0x10, 0], "header as ever");
    assert_eq!(changeable[4..6], [0x08, 0x12]);
    assert_eq!(changeable[6..24], [0; 18]);
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
