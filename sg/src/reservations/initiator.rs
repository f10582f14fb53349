//! Who sends commands: an initiator port, by a name that stays the same.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::disk::fnv1a;

/// An initiator port. Guests have no hardware that would give them a name, so they get a SAS address made from the guest's own:
/// NAA 3h, locally assigned, as SPC-4, 7.8.6.6.4 has it, with 60 bits of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Initiator(u64);

/// Bytes of a SAS TransportID (SPC-4, 7.6.4.7).
pub(super) const TRANSPORT_ID: usize = 24;
/// TPID FORMAT 00b, PROTOCOL IDENTIFIER 6h.
const SAS: u8 = 0x06;

impl Initiator {
    /// The initiator of this name; the same name is the same initiator on every host.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self((0x3 << 60) | (fnv1a(name.as_bytes()) >> 4))
    }

    /// The SAS address.
    #[must_use]
    pub fn address(self) -> u64 {
        self.0
    }

    pub(super) fn transport_id(self) -> [u8; TRANSPORT_ID] {
        let mut id = [0; TRANSPORT_ID];
        id[0] = SAS;
        id[4..12].copy_from_slice(&self.0.to_be_bytes());
        id
    }

    /// `None`: of no initiator that could reach us.
    pub(super) fn from_transport_id(id: &[u8; TRANSPORT_ID]) -> Option<Self> {
        let [SAS, _, _, _, a, b, c, d, e, f, g, h, ..] = *id else { return None };
        Some(Self(u64::from_be_bytes([a, b, c, d, e, f, g, h])))
    }
}

impl fmt::Display for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "naa.{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_an_address_and_a_transport_id() {
        let guest = Initiator::named("foobar");
        assert_eq!(guest.to_string(), "naa.385944171f73967e");
        assert_eq!(guest, Initiator::named("foobar"));
        assert_ne!(guest, Initiator::named("foobaz"));
        let id = guest.transport_id();
        assert_eq!(id[..4], [0x06, 0, 0, 0]);
        assert_eq!(id[4..12], 0x3859_4417_1f73_967e_u64.to_be_bytes());
        assert_eq!(id[12..], [0; 12]);
        assert_eq!(Initiator::from_transport_id(&id), Some(guest));
    }

    #[test]
    fn other_protocols_cannot_reach_us() {
        for protocol in [0x00, 0x05, 0x45, 0x46, 0x86] {
            let mut id = Initiator::named("a").transport_id();
            id[0] = protocol;
            assert_eq!(Initiator::from_transport_id(&id), None, "{protocol:#04x}");
        }
    }
}
