use super::*;

fn vpd(page: u8) -> [u8; 6] {
    [0x12, 1, page, 0, 255, 0]
}

/// SPC-5, 6.7.2, standard INQUIRY data.
#[test]
fn standard_inquiry() {
    let data = Bench::ram(8).answer(&[0x12, 0, 0, 0, 255, 0], 255);
    assert_eq!(data.len(), 96);
    assert_eq!(data[0], 0x00, "connected, direct access");
    assert_eq!(data[1], 0x00, "not removable");
    assert_eq!(data[2], 0x07, "SPC-5");
    assert_eq!(data[3] & 0x0f, 2, "response data format");
    assert_eq!(usize::from(data[4]), 96 - 5, "additional length");
    assert_eq!(data[5], 0, "no protection, no target port groups");
    assert_eq!(data[7], 0x02, "CMDQUE");
    assert_eq!(&data[8..16], b"XEN     ");
    assert_eq!(&data[16..32], b"PVSCSI DISK     ");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(*data[32..36].trim_ascii_end(), version.as_bytes()[..version.rfind('.').unwrap()]);
    assert_eq!(data[58..64], [0x00, 0xa0, 0x05, 0xc0, 0x06, 0x00], "SAM-5, SPC-5, SBC-4");
}

/// SPC-5, 4.2.5.6: the allocation length cuts off, and is no error; the buffer is a limit of its own.
#[test]
fn parameter_data_is_cut_to_what_was_asked_and_fits() {
    let mut bench = Bench::ram(8);
    let whole = bench.answer(&[0x12, 0, 0, 1, 0, 0], 256);
    assert_eq!(bench.answer(&[0x12, 0, 0, 0, 36, 0], 255), whole[..36]);
    assert_eq!(bench.answer(&[0x12, 0, 0, 0, 255, 0], 5), whole[..5]);
    assert_eq!(bench.answer(&[0x12, 0, 0, 0, 0, 0], 5), b"");
    assert_eq!(bench.answer(&[0x12], 96), b"", "bytes that are missing are 0");
    assert_eq!(bench.none(&[0x12, 0, 0, 0, 36, 0]), GOOD, "no buffer: nothing to give");
}

#[test]
fn bad_inquiries() {
    let mut bench = Bench::ram(8);
    assert_eq!(bench.data_in(&[0x12, 0, 0x80, 0, 255, 0], 255), (INVALID_FIELD, vec![]), "page without EVPD");
    assert_eq!(bench.data_in(&[0x12, 2, 0, 0, 255, 0], 255), (INVALID_FIELD, vec![]), "CMDDT");
    for page in (0..=255).filter(|page| ![0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2].contains(page)) {
        assert_eq!(bench.data_in(&vpd(page), 255), (INVALID_FIELD, vec![]), "page {page:02x}");
    }
}

/// SPC-5, Supported VPD Pages: in ascending order. Every page names itself and its length.
#[test]
fn supported_pages_are_there() {
    let mut bench = Bench::ram(8);
    let list = bench.answer(&vpd(0), 255);
    assert_eq!(list, [0, 0x00, 0, 7, 0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2]);
    for page in &list[4..] {
        let data = bench.answer(&vpd(*page), 255);
        assert_eq!(data[..2], [0, *page]);
        assert_eq!(usize::from(u16::from_be_bytes([data[2], data[3]])), data.len() - 4, "page {page:02x}");
    }
}

/// SPC-5, Unit Serial Number and Device Identification VPD pages.
#[test]
fn identity_pages() {
    let mut bench = Bench::ram(8);
    assert_eq!(bench.answer(&vpd(0x80), 255), b"\x00\x80\x00\x05SER-1");
    let data = bench.answer(&vpd(0x83), 255);
    let (t10, naa) = data[4..].split_at(4 + 8 + 16 + 5);
    assert_eq!(t10[..4], [0x02, 0x01, 0, 29], "ASCII; logical unit, T10 vendor ID; length");
    assert_eq!(&t10[4..], b"XEN     PVSCSI DISK     SER-1");
    assert_eq!(naa[..4], [0x01, 0x03, 0, 8], "binary; logical unit, NAA; length");
    assert_eq!(naa[4] >> 4, 3, "locally assigned");
    assert_eq!(naa.len(), 12);
    assert_eq!(bench.answer(&vpd(0x83), 255), data, "the same every time");
}

/// SPC-5, Extended INQUIRY Data VPD page: 64 bytes.
#[test]
fn extended_inquiry_page() {
    let data = Bench::ram(8).answer(&vpd(0x86), 255);
    assert_eq!(data[..7], [0, 0x86, 0, 60, 0, 0x01, 0x01], "SIMPSUP, V_SUP");
    assert_eq!(data[7..], [0; 57]);
}

/// SBC-4, Block Limits, Block Device Characteristics and Logical Block Provisioning VPD pages.
#[test]
fn block_pages() {
    let mut bench = Bench::ram(8);
    let limits = bench.answer(&vpd(0xb0), 255);
    let word = |at: usize| u32::from_be_bytes(limits[at..at + 4].try_into().unwrap());
    assert_eq!(limits[..4], [0, 0xb0, 0, 0x3c]);
    assert_eq!(limits[4], 1, "WSNZ");
    assert_eq!(limits[5], 255, "maximum COMPARE AND WRITE length");
    assert_eq!((word(8), word(12)), (1016, 1016), "maximum and optimal transfer length");
    assert_eq!(word(16), 1016, "maximum prefetch length");
    assert_eq!(word(20), 1 << 21, "maximum unmap LBA count");
    assert_eq!(word(24), 256, "maximum unmap descriptors");
    assert_eq!(word(28), 8, "optimal unmap granularity");
    assert_eq!(word(32), 0x8000_0000, "granularity alignment 0, valid");
    assert_eq!((word(36), word(40)), (0, 65536), "maximum write same length");
    assert!(limits[44..].iter().all(|byte| *byte == 0), "nothing atomic");

    let characteristics = bench.answer(&vpd(0xb1), 255);
    assert_eq!(characteristics.len(), 64);
    assert_eq!(characteristics[..6], [0, 0xb1, 0, 0x3c, 0, 1], "does not rotate");

    let provisioning = bench.answer(&vpd(0xb2), 255);
    assert_eq!(provisioning, [0, 0xb2, 0, 4, 0, 0b1110_0100, 2, 0], "LBPU LBPWS LBPWS10 LBPRZ=001b; thin");
}

/// SBC-4, READ CAPACITY (10) and (16) parameter data.
#[test]
fn capacity() {
    let mut bench = Bench::ram(0x0102);
    let (ten, sixteen) =
        ([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]);
    assert_eq!(bench.answer(&ten, 8), [0, 0, 1, 1, 0, 0, 2, 0]);
    assert_eq!(bench.answer(&ten, 100).len(), 8);
    let data = bench.answer(&sixteen, 32);
    assert_eq!(data[..8], [0, 0, 0, 0, 0, 0, 1, 1], "last LBA");
    assert_eq!(data[8..12], [0, 0, 2, 0], "block length");
    assert_eq!(data[12..16], [0, 0, 0xc0, 0], "no protection, no larger physical blocks, LBPME, LBPRZ");
    assert_eq!(data[16..], [0; 16]);
    assert_eq!(bench.data_in(&[0x9e, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], 32).0, INVALID_FIELD);

    let mut large = Bench::ram(0x1_8000_0000);
    assert_eq!(large.answer(&ten, 8), [255, 255, 255, 255, 0, 0, 2, 0], "too many: ask READ CAPACITY (16)");
    assert_eq!(large.answer(&sixteen, 32)[..8], [0, 0, 0, 1, 0x7f, 255, 255, 255]);
    assert_eq!(Bench::ram(0xffff_ffff).answer(&ten, 8)[..4], [255, 255, 255, 254]);
}

/// SPC-5, REPORT LUNS command.
#[test]
fn luns() {
    let mut bench = Bench::ram(8);
    let select = |select| [0xa0, 0, select, 0, 0, 0, 0, 0, 0, 64, 0, 0];
    let alone = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(bench.answer(&select(0), 64), alone);
    assert_eq!(bench.answer(&select(2), 64), alone);
    assert_eq!(bench.answer(&select(1), 64), [0; 8], "no well known logical units");
    assert_eq!(bench.data_in(&select(3), 64).0, INVALID_FIELD);
    assert_eq!(bench.answer(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0], 64), [0, 0, 0, 8]);
}

/// SPC-5, 4.4: fixed format has 18 bytes and key 0; descriptor format 8 bytes.
#[test]
fn request_sense_finds_nothing() {
    let mut bench = Bench::ram(8);
    let fixed = bench.answer(&[0x03, 0, 0, 0, 252, 0], 252);
    assert_eq!(fixed, [0x70, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bench.answer(&[0x03, 1, 0, 0, 252, 0], 252), [0x72, 0, 0, 0, 0, 0, 0, 0]);
}

/// SPC-5, LOG SENSE: page control and code in byte 2, subpage in byte 3, parameter pointer in bytes 5 and 6.
#[test]
fn log_pages() {
    let mut bench = Bench::ram(8);
    let log = |page, subpage| [0x4d, 0, page, subpage, 0, 0, 0, 0, 64, 0];
    for control in [0x00, 0x40, 0x80, 0xc0] {
        assert_eq!(bench.answer(&log(control, 0), 64), [0, 0, 0, 1, 0], "page 00h, and no other");
        assert_eq!(bench.answer(&log(control, 0xff), 64), [0x40, 0xff, 0, 4, 0, 0, 0, 0xff], "with subpages");
    }
    assert_eq!(bench.answer(&[0x4d, 0, 0, 0, 0, 0, 0, 0, 4, 0], 64), [0, 0, 0, 1], "the allocation length");
    for page in 0..=0x3f {
        for subpage in 0..=255 {
            if page != 0 || !matches!(subpage, 0 | 0xff) {
                assert_eq!(
                    bench.data_in(&log(page, subpage), 64),
                    (INVALID_FIELD, vec![]),
                    "{page:02x}/{subpage:02x}"
                );
            }
        }
    }
    assert_eq!(bench.data_in(&[0x4d, 1, 0, 0, 0, 0, 0, 0, 64, 0], 64).0, INVALID_FIELD, "SP");
    assert_eq!(
        bench.data_in(&[0x4d, 0, 0, 0, 0, 0, 1, 0, 64, 0], 64).0,
        INVALID_FIELD,
        "a parameter pointer"
    );
}

#[test]
fn commands_without_data() {
    let mut bench = Bench::ram(8);
    assert_eq!(bench.none(&[0; 6]), GOOD);
    assert_eq!(bench.answer(&[0; 6], 10), b"", "a buffer is left alone");
    // SBC-4, START STOP UNIT: START bit 0, LOEJ bit 1, NO_FLUSH bit 2, POWER CONDITION bits 4 to 7 of byte 4.
    for (byte, sense) in
        [(0, GOOD), (1, GOOD), (4, GOOD), (2, INVALID_FIELD), (3, INVALID_FIELD), (0x10, INVALID_FIELD)]
    {
        assert_eq!(bench.none(&[0x1b, 0, 0, 0, byte, 0]), sense, "{byte:#x}");
    }
}

#[test]
fn other_commands_are_refused() {
    let known = [
        0x00, 0x03, 0x08, 0x0a, 0x12, 0x15, 0x1a, 0x1b, 0x25, 0x28, 0x2a, 0x2e, 0x2f, 0x34, 0x35, 0x41, 0x42,
        0x4d, 0x55, 0x5a, 0x88, 0x89, 0x8a, 0x8b, 0x8e, 0x8f, 0x90, 0x91, 0x93, 0x9e, 0xa0, 0xa3, 0xa8, 0xaa,
        0xae, 0xaf,
    ];
    let mut bench = Bench::ram(8);
    for opcode in 0..=255 {
        let refused = bench.none(&[opcode, 0, 0, 0, 0, 0]) == INVALID_OPCODE;
        assert_eq!(refused, !known.contains(&opcode), "{opcode:#04x}");
    }
}
