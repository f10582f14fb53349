//! Persistent reservations and RESERVE of one logical unit, for initiators that all reach it through us: who has registered, who
//! holds it, and what each of them is still to be told.
//!
//! A state machine without I/O; [`Shared`](crate::shared::Shared) keeps the state where all servers of the host find it. Clauses are
//! those of SPC-4, 5.12 (reservations) and 6.15, 6.16 (PERSISTENT RESERVE IN and OUT); RESERVE and RELEASE are SPC-2's.

use serde::{Deserialize, Serialize};

use crate::commands::CommandSet;
use crate::conflict::{Access, access, passes_a_reserve};
use crate::scsi::Sense;

mod attention;
mod initiator;
mod list;
mod out;
mod report;
#[cfg(test)]
mod tests;

use attention::Attentions;

pub use attention::Attention;
pub use initiator::Initiator;
pub use out::Done;

/// Initiators that a unit can have, with those that have registered and gone.
pub const MEMBERS: usize = 64;

/// What becomes of a command that is about reservations, or comes upon one, when it is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// RESERVATION CONFLICT (SAM-5, 5.3.1).
    Conflict,
    /// CHECK CONDITION.
    Sense(Sense),
}

/// A persistent reservation type (SPC-4, table 173).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// 1h.
    WriteExclusive,
    /// 3h.
    ExclusiveAccess,
    /// 5h.
    WriteExclusiveRegistrants,
    /// 6h.
    ExclusiveAccessRegistrants,
    /// 7h.
    WriteExclusiveAll,
    /// 8h.
    ExclusiveAccessAll,
}

impl Kind {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::WriteExclusive,
            3 => Self::ExclusiveAccess,
            5 => Self::WriteExclusiveRegistrants,
            6 => Self::ExclusiveAccessRegistrants,
            7 => Self::WriteExclusiveAll,
            8 => Self::ExclusiveAccessAll,
            _ => return None,
        })
    }

    fn code(self) -> u8 {
        match self {
            Self::WriteExclusive => 1,
            Self::ExclusiveAccess => 3,
            Self::WriteExclusiveRegistrants => 5,
            Self::ExclusiveAccessRegistrants => 6,
            Self::WriteExclusiveAll => 7,
            Self::ExclusiveAccessAll => 8,
        }
    }

    /// All registrants hold it.
    fn is_all(self) -> bool {
        matches!(self, Self::WriteExclusiveAll | Self::ExclusiveAccessAll)
    }

    /// All registrants may do what the holder may.
    fn is_for_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    fn lets_read(self) -> bool {
        matches!(self, Self::WriteExclusive | Self::WriteExclusiveRegistrants | Self::WriteExclusiveAll)
    }
}

/// An initiator that is there, has registered, or has something to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    initiator: Initiator,
    /// Its reservation key; 0: not registered.
    key: u64,
    attentions: Attentions,
    /// It has prevented the removal of the medium.
    prevents: bool,
}

impl Member {
    fn new(initiator: Initiator, key: u64) -> Self {
        Self { initiator, key, attentions: Attentions::default(), prevents: false }
    }
}

/// A persistent reservation of the whole unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reservation {
    kind: Kind,
    /// `None`: all registrants.
    holder: Option<Initiator>,
}

/// The reservations of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservations {
    /// PRGENERATION.
    generation: u32,
    /// Registrations and the persistent reservation outlast a loss of power.
    aptpl: bool,
    members: Vec<Member>,
    reservation: Option<Reservation>,
    /// Who has it by RESERVE.
    reserved: Option<Initiator>,
}

impl Reservations {
    /// Somebody has the unit from now on; `false`: there are too many.
    pub fn arrives(&mut self, who: Initiator) -> bool {
        if let Some(member) = self.member_mut(who) {
            // What it was to be told went with its last connection.
            member.attentions = Attentions::default();
            return true;
        }
        let room = self.members.len() < MEMBERS;
        if room {
            self.members.push(Member::new(who, 0));
        }
        room
    }

    /// Somebody has gone. What it had reserved with RESERVE is free; its registration stays (SPC-4, 5.12.1).
    pub fn leaves(&mut self, who: Initiator) {
        self.prevent(who, false);
        self.members.retain(|member| member.initiator != who || member.key != 0);
        self.reserved.take_if(|holder| *holder == who);
    }

    /// Those who have nothing but their place.
    pub fn guests(&self) -> impl Iterator<Item = Initiator> {
        self.members.iter().filter(|member| member.key == 0).map(|member| member.initiator)
    }

    /// Who has it by RESERVE.
    #[must_use]
    pub fn reserved(&self) -> Option<Initiator> {
        self.reserved
    }

    /// Whether a loss of power changes nothing: APTPL was asked for.
    #[must_use]
    pub fn persists(&self) -> bool {
        self.aptpl
    }

    /// What is left after a loss of power: all of it with APTPL, otherwise nothing.
    #[must_use]
    pub fn after_power_loss(mut self) -> Self {
        if !self.aptpl {
            return Self::default();
        }
        self.members.retain(|member| member.key != 0);
        self.members.iter_mut().for_each(|member| *member = Member::new(member.initiator, member.key));
        self.reserved = None;
        // PRGENERATION is not saved (SPC-4, 6.15.2).
        self.generation = 0;
        self
    }

    /// The unit was reset: what RESERVE had done is undone; persistent reservations stay. That it was reset the unit tells itself, to
    /// whoever asks first ([`pass_on`](Self::pass_on)).
    pub fn reset(&mut self) {
        self.reserved = None;
    }

    /// All but `who` are to be told what the unit has told it.
    pub fn pass_on(&mut self, who: Initiator, attention: Attention) {
        self.tell_others(who, attention, |_| true);
    }

    /// Whether anybody but `who` has the unit.
    #[must_use]
    pub fn has_others(&self, who: Initiator) -> bool {
        self.members.iter().any(|member| member.initiator != who)
    }

    /// PREVENT ALLOW MEDIUM REMOVAL of `who`.
    pub fn prevent(&mut self, who: Initiator, prevents: bool) {
        if let Some(member) = self.member_mut(who) {
            member.prevents = prevents;
        }
    }

    /// Whether somebody prevents the removal of the medium: `who`, and anybody else.
    #[must_use]
    pub fn prevented(&self, who: Initiator) -> (bool, bool) {
        let by = |own| self.members.iter().any(|member| member.prevents && (member.initiator == who) == own);
        (by(true), by(false))
    }

    /// What the initiator is to be told next.
    #[must_use]
    pub fn attention(&self, who: Initiator) -> Option<Attention> {
        self.member(who)?.attentions.first()
    }

    /// Tells it.
    pub fn tell(&mut self, who: Initiator) -> Option<Attention> {
        let attention = self.attention(who)?;
        if let Some(member) = self.member_mut(who) {
            member.attentions.take(attention);
        }
        Some(attention)
    }

    /// Whether a command conflicts with what others hold. RESERVE, RELEASE and PERSISTENT RESERVE are not asked for here.
    #[must_use]
    pub fn conflicts(&self, who: Initiator, set: CommandSet, cdb: &[u8; 16], data_out: &[u8]) -> bool {
        if self.reserved.is_some_and(|holder| holder != who) && !passes_a_reserve(cdb) {
            return true;
        }
        let Some(reservation) = self.reservation else { return false };
        if self.is_free_under(reservation, who) {
            return false;
        }
        match access(set, cdb, data_out) {
            Access::Any => false,
            Access::Reads => !reservation.kind.lets_read(),
            Access::Changes => true,
        }
    }

    /// RESERVE: `Ok` when `who` has the unit now. Beside persistent reservations it is as SPC-3, 5.6.3 has it for CRH: whoever has
    /// the unit by one of these is told GOOD, and nothing changes.
    ///
    /// # Errors
    ///
    /// [`Refusal::Conflict`].
    pub fn reserve(&mut self, who: Initiator) -> Result<(), Refusal> {
        if self.has_registrants() {
            return self.compatible(who);
        }
        match self.reserved {
            Some(holder) if holder != who => Err(Refusal::Conflict),
            _ => {
                self.reserved = Some(who);
                Ok(())
            }
        }
    }

    /// RELEASE: not an error for somebody who has nothing.
    ///
    /// # Errors
    ///
    /// [`Refusal::Conflict`] beside persistent reservations of others.
    pub fn release(&mut self, who: Initiator) -> Result<(), Refusal> {
        if self.has_registrants() {
            return self.compatible(who);
        }
        self.reserved.take_if(|holder| *holder == who);
        Ok(())
    }

    fn compatible(&self, who: Initiator) -> Result<(), Refusal> {
        let has_it = self.reservation.is_some_and(|reservation| self.is_free_under(reservation, who));
        if has_it { Ok(()) } else { Err(Refusal::Conflict) }
    }

    /// Whether the reservation lets `who` do everything: its holder, and with some kinds all registrants.
    fn is_free_under(&self, Reservation { kind, holder }: Reservation, who: Initiator) -> bool {
        holder == Some(who) || (kind.is_for_registrants() && self.key(who) != 0)
    }

    fn has_registrants(&self) -> bool {
        self.members.iter().any(|member| member.key != 0)
    }

    fn member(&self, who: Initiator) -> Option<&Member> {
        self.members.iter().find(|member| member.initiator == who)
    }

    fn member_mut(&mut self, who: Initiator) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.initiator == who)
    }

    /// The key that somebody has registered; 0 for none.
    fn key(&self, who: Initiator) -> u64 {
        self.member(who).map_or(0, |member| member.key)
    }

    fn registrants(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.key != 0)
    }

    fn holds(&self, who: Initiator) -> bool {
        self.reservation.is_some_and(|Reservation { holder, .. }| match holder {
            Some(holder) => holder == who,
            None => self.key(who) != 0,
        })
    }

    fn tell_others(&mut self, who: Initiator, attention: Attention, whom: impl Fn(&Member) -> bool) {
        for member in self.members.iter_mut().filter(|member| member.initiator != who && whom(member)) {
            member.attentions.add(attention);
        }
    }
}
