//! What an initiator is told with its next command: UNIT ATTENTION.

use serde::{Deserialize, Serialize};

use crate::scsi::Sense;

/// UNIT ATTENTION (SPC-4, table 44).
const KEY: u8 = 0x06;
/// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED, and its kin.
const AFTER_RESET: u8 = 0x29;

/// A condition, by its additional sense code and qualifier (SPC-4, table 45).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attention(pub u8, pub u8);

impl Attention {
    /// MODE PARAMETERS CHANGED.
    pub const MODE_CHANGED: Self = Self(0x2a, 0x01);
    /// RESERVATIONS PREEMPTED.
    pub const RESERVATIONS_PREEMPTED: Self = Self(0x2a, 0x03);
    /// RESERVATIONS RELEASED.
    pub const RESERVATIONS_RELEASED: Self = Self(0x2a, 0x04);
    /// REGISTRATIONS PREEMPTED.
    pub const REGISTRATIONS_PREEMPTED: Self = Self(0x2a, 0x05);

    /// In its words for the initiator.
    #[must_use]
    pub fn sense(self) -> Sense {
        Sense::fixed(KEY, self.0, self.1)
    }

    /// What a unit has told with its sense data, if that is a condition of this kind.
    #[must_use]
    pub fn of(sense: &Sense) -> Option<Self> {
        sense.key_asc_ascq().filter(|(key, ..)| *key == KEY).map(|(_, asc, ascq)| Self(asc, ascq))
    }
}

/// What is still to be told, in this order. More than the limit is not kept: whoever is so late looks at everything anew anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Attentions(Vec<Attention>);

impl Attentions {
    const MAX: usize = 8;

    /// Adds one, once. A reset makes all that came before meaningless (SAM-5, 5.14).
    pub(super) fn add(&mut self, attention: Attention) {
        if attention.0 == AFTER_RESET {
            self.0.clear();
        }
        if self.0.len() < Self::MAX && !self.0.contains(&attention) {
            self.0.push(attention);
        }
    }

    pub(super) fn first(&self) -> Option<Attention> {
        self.0.first().copied()
    }

    pub(super) fn take(&mut self, attention: Attention) {
        self.0.retain(|pending| *pending != attention);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_kept_once_and_a_reset_outweighs_the_rest() {
        let mut pending = Attentions::default();
        for ascq in [1, 3, 1, 4, 5, 9, 10, 11, 12, 13] {
            pending.add(Attention(0x2a, ascq));
        }
        assert_eq!(
            pending.0.iter().map(|attention| attention.1).collect::<Vec<_>>(),
            [1, 3, 4, 5, 9, 10, 11, 12]
        );
        let reset = Attention(0x29, 0x03);
        pending.add(reset);
        pending.add(Attention::MODE_CHANGED);
        assert_eq!(pending.0, [reset, Attention::MODE_CHANGED]);
        pending.take(reset);
        assert_eq!(pending.first(), Some(Attention::MODE_CHANGED));
    }

    #[test]
    fn a_units_own_words_are_known() {
        assert_eq!(Attention::of(&Sense::fixed(0x06, 0x28, 0x00)), Some(Attention(0x28, 0x00)));
        assert_eq!(Attention::of(&Attention::MODE_CHANGED.sense()), Some(Attention::MODE_CHANGED));
        assert_eq!(Attention::of(&Sense::fixed(0x02, 0x3a, 0x00)), None);
        assert_eq!(Attention::of(&Sense::NONE), None);
    }
}
