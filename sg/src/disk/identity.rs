//! Which disk it is: what a guest recognises it by.

/// The identity of a disk, the same every time it is made from the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskIdentity {
    serial: String,
}

impl DiskIdentity {
    /// Most characters of a serial number.
    pub const SERIAL_MAX: usize = 64;

    /// An identity with this serial number; `None` when it is empty, longer than [`SERIAL_MAX`](Self::SERIAL_MAX), or has
    /// characters other than printable ASCII (SPC-5, 4.3.1).
    #[must_use]
    pub fn new(serial: &str) -> Option<Self> {
        let printable = serial.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
        let fits = (1..=Self::SERIAL_MAX).contains(&serial.len());
        (printable && fits).then(|| Self { serial: serial.to_owned() })
    }

    /// An identity made from any name that stays the same, such as the path of a file: the serial number is a hash of it.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self { serial: format!("{:016x}", fnv1a(name.as_bytes())) }
    }

    /// The serial number.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// A locally assigned NAA identifier: 3h in the first four bits, and 60 bits of our own choice (SPC-5, NAA Locally
    /// Assigned designator format).
    #[must_use]
    pub fn naa(&self) -> u64 {
        (0x3 << 60) | (fnv1a(self.serial.as_bytes()) >> 4)
    }
}

/// Fowler, Noll and Vo's hash, variant 1a, 64 bits: small, and the same on every machine and version.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test vectors published with the hash.
    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn names_give_stable_and_different_identities() {
        let disk = DiskIdentity::from_name("foobar");
        assert_eq!(disk.serial(), "85944171f73967e8");
        assert_eq!(disk, DiskIdentity::from_name("foobar"));
        assert_ne!(disk.serial(), DiskIdentity::from_name("foobaz").serial());
        assert_ne!(disk.naa(), DiskIdentity::from_name("foobaz").naa());
        assert_eq!(disk.naa() >> 60, 3);
    }

    #[test]
    fn serial_numbers_are_short_printable_ascii() {
        assert_eq!(DiskIdentity::new("A 1").unwrap().serial(), "A 1");
        let longest = "x".repeat(64);
        assert_eq!(DiskIdentity::new(&longest).unwrap().serial(), longest);
        for bad in ["", "a\n", "\u{e9}", &"x".repeat(65)] {
            assert_eq!(DiskIdentity::new(bad), None, "{bad:?}");
        }
    }
}
