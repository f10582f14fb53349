//! World wide names: the numbers by which a logical unit is known on every path and host.

use std::fmt;
use std::str::FromStr;

/// Whose number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Authority {
    Naa,
    Eui,
}

/// A world wide name: an NAA or an EUI-64 based designator (SPC-5, 7.8.6) in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wwn {
    /// `None` in what somebody wrote without it: either will do.
    authority: Option<Authority>,
    /// In lower case.
    digits: String,
}

/// Text that is no [`Wwn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 16 or 32 hexadecimal digits, with or without 0x, naa. or eui. before them")]
pub struct NotWwn;

impl FromStr for Wwn {
    type Err = NotWwn;

    fn from_str(text: &str) -> Result<Self, NotWwn> {
        let (authority, digits) = if let Some(digits) = text.strip_prefix("naa.") {
            (Some(Authority::Naa), digits)
        } else if let Some(digits) = text.strip_prefix("eui.") {
            (Some(Authority::Eui), digits)
        } else {
            (None, text.strip_prefix("0x").unwrap_or(text))
        };
        match digits.len() {
            16 | 32 => Self::new(authority, digits),
            _ => Err(NotWwn),
        }
    }
}

impl Wwn {
    /// An NAA name of 1 to 16 or of 32 hexadecimal digits. Those below 16 are names that LIO lets its targets have, and no
    /// device.
    ///
    /// # Errors
    ///
    /// [`NotWwn`].
    pub fn naa(digits: &str) -> Result<Self, NotWwn> {
        match digits.len() {
            1..=16 | 32 => Self::new(Some(Authority::Naa), digits),
            _ => Err(NotWwn),
        }
    }

    fn new(authority: Option<Authority>, digits: &str) -> Result<Self, NotWwn> {
        let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        hex.then(|| Self { authority, digits: digits.to_ascii_lowercase() }).ok_or(NotWwn)
    }

    /// The name in a designator of a device; `None` for types and lengths that are none.
    pub(crate) fn from_designator(designator_type: u8, bytes: &[u8]) -> Option<Self> {
        let authority = match designator_type {
            2 => Authority::Eui,
            3 => Authority::Naa,
            _ => return None,
        };
        let digits = || bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        matches!(bytes.len(), 8 | 16).then(|| Self { authority: Some(authority), digits: digits() })
    }

    /// Whether this, as somebody wrote it, is the name `own` of a device.
    pub(crate) fn means(&self, own: &Self) -> bool {
        self.digits == own.digits && (self.authority.is_none() || self.authority == own.authority)
    }
}

impl fmt::Display for Wwn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = match self.authority {
            Some(Authority::Naa) => "naa.",
            Some(Authority::Eui) => "eui.",
            None => "",
        };
        write!(f, "{authority}{}", self.digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_are_understood() {
        let long = "600140512345678901234567890ABCDE";
        for (text, spelt) in [
            ("5000c500a0b1c2d3", "5000c500a0b1c2d3"),
            ("0x5000C500A0B1C2D3", "5000c500a0b1c2d3"),
            ("naa.5000C500a0b1c2d3", "naa.5000c500a0b1c2d3"),
            ("eui.0025385b71b0c1d2", "eui.0025385b71b0c1d2"),
            (long, &long.to_lowercase()),
            (&format!("naa.{long}"), &format!("naa.{}", long.to_lowercase())),
        ] {
            let wwn: Wwn = text.parse().unwrap();
            assert_eq!(wwn.to_string(), spelt);
            assert_eq!(spelt.parse(), Ok(wwn));
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "0x",
            "naa.",
            "5000c500a0b1c2d",
            "5000c500a0b1c2d34",
            "5000c500a0b1c2dg",
            "0x0x5000c500a0b1",
            "naa.0x5000c500a0b1c2d3",
            "NAA.5000c500a0b1c2d3",
            "t10.ATA     DISK",
            "5000c500a0b1c2d35000c500",
            " 5000c500a0b1c2d3",
            "50:00:c5:00:a0:b1",
            "5000c500a0b1c2d\u{e9}",
        ] {
            assert_eq!(text.parse::<Wwn>(), Err(NotWwn), "{text:?}");
        }
        assert_eq!(Wwn::naa("6001405").unwrap().to_string(), "naa.6001405");
        for digits in ["", "60014051234567890", "x", &"6".repeat(33)] {
            assert_eq!(Wwn::naa(digits), Err(NotWwn), "{digits:?}");
        }
    }

    #[test]
    fn a_name_without_authority_means_either() {
        let own = Wwn::from_designator(3, &[0x50, 0, 0xc5, 0, 0xa0, 0xb1, 0xc2, 0xd3]).unwrap();
        assert_eq!(own.to_string(), "naa.5000c500a0b1c2d3");
        let means = |text: &str| text.parse::<Wwn>().unwrap().means(&own);
        assert!(means("5000C500A0B1C2D3") && means("0x5000c500a0b1c2d3") && means("naa.5000c500a0b1c2d3"));
        assert!(!means("eui.5000c500a0b1c2d3") && !means("5000c500a0b1c2d4"));
        assert_eq!(
            Wwn::from_designator(2, &[0xab; 16]).unwrap().to_string(),
            format!("eui.{}", "ab".repeat(16))
        );
        for (designator_type, len) in [(3, 0), (3, 7), (2, 12), (1, 8), (8, 16), (0xff, 8)] {
            assert_eq!(
                Wwn::from_designator(designator_type, &vec![0; len]),
                None,
                "{designator_type}, {len}"
            );
        }
    }
}
