//! Vital product data: pages as the device gave them, of which nothing is sure.

use crate::wwn::Wwn;

/// Most bytes of a page: its header, and a length of 16 bits.
pub(crate) const PAGE_MAX: u64 = 4 + 0xffff;

/// The serial number in a Unit Serial Number page (80h; SPC-5, 7.8.17) without what fills it up: blanks, which alone mean that
/// there is none, and with some devices zeroes.
pub(crate) fn unit_serial(page: &[u8]) -> Option<&[u8]> {
    let serial = body(page, 0x80)?;
    let counts = |byte: &u8| !matches!(byte, b' ' | 0);
    let (first, last) = (serial.iter().position(counts)?, serial.iter().rposition(counts)?);
    serial.get(first..=last)
}

/// The names of the logical unit in a Device Identification page (83h; SPC-5, 7.8.6).
pub(crate) fn wwns(page: &[u8]) -> Vec<Wwn> {
    let mut names = Vec::new();
    let mut rest = body(page, 0x83).unwrap_or_default();
    while let Some((&[_, what, _, len], behind)) = rest.split_first_chunk() {
        let Some((designator, next)) = behind.split_at_checked(len.into()) else { break };
        // Association and type together: association 0 is the unit itself, the others are its ports and its housing.
        names.extend(Wwn::from_designator(what & 0x3f, designator));
        rest = next;
    }
    names
}

/// What stands behind the header of a page, as far as it is there.
fn body(page: &[u8], code: u8) -> Option<&[u8]> {
    let (&[_, own_code, high, low], rest) = page.split_first_chunk()?;
    let len = usize::from(u16::from_be_bytes([high, low]));
    (own_code == code).then(|| rest.get(..len).unwrap_or(rest))
}

/// Pages for tests.
#[cfg(test)]
pub(crate) mod pages {
    pub(crate) fn page(code: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[0, code, len[0], len[1]], body].concat()
    }

    /// `what`: association and type.
    pub(crate) fn designator(what: u8, bytes: &[u8]) -> Vec<u8> {
        [&[1, what, 0, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::pages::{designator, page};
    use super::*;

    const NAA: [u8; 8] = [0x50, 0, 0xc5, 0, 0xa0, 0xb1, 0xc2, 0xd3];

    fn identification() -> Vec<u8> {
        let designators = [
            designator(0x01, b"SEAGATE ST4000 "),
            designator(0x03, &NAA),
            // The port and the target device: the same to all units behind them.
            designator(0x93, &[0x11; 8]),
            designator(0xa3, &[0x22; 8]),
            designator(0x94, &[0, 0, 0, 1]),
            designator(0x02, &[0x33; 16]),
            designator(0x02, &[0x44; 12]),
            designator(0x03, &[0x66; 16]),
            designator(0x03, &[]),
        ];
        page(0x83, &designators.concat())
    }

    fn spelt(page: &[u8]) -> Vec<String> {
        wwns(page).iter().map(Wwn::to_string).collect()
    }

    #[test]
    fn the_names_of_the_unit_are_found_among_others() {
        let (eui, naa) = (format!("eui.{}", "33".repeat(16)), format!("naa.{}", "66".repeat(16)));
        assert_eq!(spelt(&identification()), ["naa.5000c500a0b1c2d3", &eui, &naa]);
        assert!(wwns(&page(0x80, &designator(3, &NAA))).is_empty(), "another page");
    }

    #[test]
    fn a_serial_number_has_no_blanks_around_it() {
        for (body, serial) in [
            (&b"    WD-WX11 A2  "[..], Some(&b"WD-WX11 A2"[..])),
            (b"Z1\0\0\0", Some(b"Z1")),
            (b"x", Some(b"x")),
            (b"        ", None),
            (b"\0\0", None),
            (b"", None),
        ] {
            assert_eq!(unit_serial(&page(0x80, body)), serial, "{body:?}");
        }
        assert_eq!(unit_serial(&page(0x83, b"x")), None, "another page");
        let mut long = page(0x80, b"serial");
        long.extend(b" and what else the buffer held");
        assert_eq!(unit_serial(&long), Some(&b"serial"[..]), "the page says how long it is");
    }

    /// Cut anywhere, or with any byte wrong, a page gives some of its names and none that it has not.
    #[test]
    fn no_page_is_trusted() {
        let (whole, serial) = (identification(), page(0x80, b" serial "));
        let all = spelt(&whole);
        for cut in 0..whole.len() {
            let names = spelt(&whole[..cut]);
            assert_eq!(names, all[..names.len()], "{cut} bytes");
        }
        for cut in 0..serial.len() {
            let part = unit_serial(&serial[..cut]).unwrap_or_default();
            assert!(b"serial".starts_with(part), "{cut} bytes: {part:?}");
        }
        for at in 0..whole.len() {
            for wrong in [0, 1, 3, 4, 0x7f, 0xff] {
                let mut bad = whole.clone();
                bad[at] = wrong;
                assert!(wwns(&bad).len() <= bad.len() / 12, "{wrong:#x} at {at}");
            }
        }
        assert!(wwns(&page(0x83, &[0; 0xffff])).is_empty(), "16384 empty designators");
        assert_eq!(wwns(&page(0x83, &[0xff; 0xffff])), []);
    }
}
