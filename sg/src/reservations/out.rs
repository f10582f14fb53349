//! PERSISTENT RESERVE OUT (SPC-4, 6.16).

use super::list::{Basic, Move, announced, basic, register_and_move};
use super::{Attention, Initiator, Kind, MEMBERS, Member, Refusal, Reservation, Reservations};
use crate::scsi::Sense;

/// INVALID RELEASE OF PERSISTENT RESERVATION.
const INVALID_RELEASE: Sense = Sense::fixed(0x05, 0x26, 0x04);
/// INSUFFICIENT REGISTRATION RESOURCES.
const NO_ROOM: Sense = Sense::fixed(0x05, 0x55, 0x04);

/// What a command did, beyond what the state says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nobody may do less than before.
    Given,
    /// Somebody may do less than before: what it has under way is to end before the answer.
    Taken,
}

impl From<Sense> for Refusal {
    fn from(sense: Sense) -> Self {
        Self::Sense(sense)
    }
}

impl Reservations {
    /// Carries out the command. After a refusal nothing has changed.
    ///
    /// # Errors
    ///
    /// [`Refusal`] is the answer.
    pub fn out(&mut self, who: Initiator, cdb: &[u8; 16], data: &[u8]) -> Result<Done, Refusal> {
        if self.reserved.is_some_and(|holder| holder != who) {
            return Err(Refusal::Conflict);
        }
        let action = cdb[1] & 0x1f;
        let list = announced(cdb, data)?;
        if action == 0x07 {
            return self.register_and_move(who, &register_and_move(list)?);
        }
        let list = basic(list)?;
        if list.others.is_some() && action != 0x00 {
            return Err(Sense::INVALID_FIELD_IN_LIST.into());
        }
        match action {
            0x00 => self.register(who, list),
            0x06 => self.register_anyway(who, &list),
            // RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT AND ABORT.
            0x01..=0x05 => {
                if list.key == 0 || self.key(who) != list.key {
                    return Err(Refusal::Conflict);
                }
                match action {
                    0x01 => self.take(who, kind(cdb)?),
                    0x02 => self.give_back(who, kind(cdb)?),
                    0x03 => Ok(self.clear(who)),
                    _ => self.preempt(who, list.action_key, kind(cdb)?),
                }
            }
            _ => Err(Sense::INVALID_FIELD_IN_CDB.into()),
        }
    }

    /// REGISTER (5.12.7): the key it has must be right; SPEC_I_PT is for those who have none.
    fn register(&mut self, who: Initiator, list: Basic) -> Result<Done, Refusal> {
        if self.key(who) != list.key {
            return Err(Refusal::Conflict);
        }
        if let Some(others) = &list.others {
            let registered = |initiator: &Initiator| *initiator == who || self.key(*initiator) != 0;
            if list.key != 0 || list.action_key == 0 || others.iter().any(registered) {
                return Err(Sense::INVALID_FIELD_IN_LIST.into());
            }
            let new = others.iter().filter(|other| self.member(**other).is_none()).count();
            if self.members.len().saturating_add(new) > MEMBERS {
                return Err(NO_ROOM.into());
            }
        }
        self.register_anyway(who, &list)?;
        for other in list.others.into_iter().flatten() {
            self.set_key(other, list.action_key)?;
        }
        Ok(Done::Given)
    }

    /// REGISTER AND IGNORE EXISTING KEY.
    fn register_anyway(&mut self, who: Initiator, list: &Basic) -> Result<Done, Refusal> {
        match (self.key(who), list.action_key) {
            // Nothing to take back.
            (0, 0) => return Ok(Done::Given),
            (_, 0) => self.unregister(who),
            (_, key) => self.set_key(who, key)?,
        }
        self.aptpl = list.aptpl;
        self.next_generation();
        Ok(Done::Given)
    }

    /// Takes a registration back, and the reservation if it was the holder's (5.12.11.2, 5.12.11.3).
    fn unregister(&mut self, who: Initiator) {
        if let Some(member) = self.member_mut(who) {
            member.key = 0;
        }
        let Some(Reservation { kind, holder }) = self.reservation else { return };
        let is_over = match holder {
            Some(holder) => holder == who,
            None => !self.has_registrants(),
        };
        if is_over {
            self.reservation = None;
            self.tell_of_release(who, kind);
        }
    }

    /// What the registrants were allowed by it they are not any more.
    fn tell_of_release(&mut self, who: Initiator, kind: Kind) {
        if kind.is_for_registrants() {
            self.tell_others(who, Attention::RESERVATIONS_RELEASED, |member| member.key != 0);
        }
    }

    /// RESERVE (5.12.9).
    fn take(&mut self, who: Initiator, kind: Kind) -> Result<Done, Refusal> {
        match self.reservation {
            Some(current) if current.kind == kind && self.holds(who) => Ok(Done::Given),
            Some(_) => Err(Refusal::Conflict),
            None => {
                self.establish(who, kind);
                Ok(Done::Taken)
            }
        }
    }

    fn establish(&mut self, who: Initiator, kind: Kind) {
        self.reservation = Some(Reservation { kind, holder: (!kind.is_all()).then_some(who) });
    }

    /// RELEASE (5.12.11.2.2).
    fn give_back(&mut self, who: Initiator, kind: Kind) -> Result<Done, Refusal> {
        let Some(current) = self.reservation.filter(|_| self.holds(who)) else { return Ok(Done::Given) };
        if current.kind != kind {
            return Err(INVALID_RELEASE.into());
        }
        self.reservation = None;
        self.tell_of_release(who, kind);
        Ok(Done::Given)
    }

    /// CLEAR (5.12.11.2.6).
    fn clear(&mut self, who: Initiator) -> Done {
        self.reservation = None;
        self.tell_others(who, Attention::RESERVATIONS_PREEMPTED, |member| member.key != 0);
        self.members.iter_mut().for_each(|member| member.key = 0);
        self.next_generation();
        Done::Given
    }

    /// PREEMPT and PREEMPT AND ABORT (5.12.11.2.4, 5.12.11.2.5).
    fn preempt(&mut self, who: Initiator, victims: u64, kind: Kind) -> Result<Done, Refusal> {
        let held = match self.reservation {
            None => None,
            Some(Reservation { holder: None, kind }) if victims == 0 => Some(kind),
            Some(Reservation { holder: Some(holder), kind })
                if victims != 0 && self.key(holder) == victims =>
            {
                Some(kind)
            }
            Some(_) => None,
        };
        match held {
            Some(old) => {
                self.remove(|member| {
                    member.initiator != who && member.key != 0 && (victims == 0 || member.key == victims)
                });
                if old != kind {
                    self.tell_others(who, Attention::RESERVATIONS_RELEASED, |member| member.key != 0);
                }
                self.establish(who, kind);
            }
            None if victims == 0 => return Err(Sense::INVALID_FIELD_IN_LIST.into()),
            None => {
                if !self.remove(|member| member.key == victims && member.initiator != who)
                    && self.key(who) != victims
                {
                    return Err(Refusal::Conflict);
                }
            }
        }
        self.next_generation();
        Ok(Done::Taken)
    }

    /// Removes registrations, and tells those who had them; `false`: there were none.
    fn remove(&mut self, which: impl Fn(&Member) -> bool) -> bool {
        let mut any = false;
        for member in self.members.iter_mut().filter(|member| which(member)) {
            member.key = 0;
            member.attentions.add(Attention::REGISTRATIONS_PREEMPTED);
            any = true;
        }
        any
    }

    /// REGISTER AND MOVE (5.12.8).
    fn register_and_move(&mut self, who: Initiator, list: &Move) -> Result<Done, Refusal> {
        let Some(Reservation { kind, holder: Some(holder) }) = self.reservation else {
            return Err(Refusal::Conflict);
        };
        if self.key(who) != list.key || list.key == 0 || holder != who {
            return Err(Refusal::Conflict);
        }
        if list.action_key == 0 || list.to == who {
            return Err(Sense::INVALID_FIELD_IN_LIST.into());
        }
        self.set_key(list.to, list.action_key)?;
        self.establish(list.to, kind);
        if list.unregister
            && let Some(member) = self.member_mut(who)
        {
            member.key = 0;
        }
        self.aptpl = list.aptpl;
        self.next_generation();
        Ok(Done::Taken)
    }

    fn set_key(&mut self, who: Initiator, key: u64) -> Result<(), Sense> {
        if let Some(member) = self.member_mut(who) {
            member.key = key;
            return Ok(());
        }
        if self.members.len() >= MEMBERS {
            return Err(NO_ROOM);
        }
        self.members.push(Member::new(who, key));
        Ok(())
    }

    fn next_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }
}

/// SCOPE and TYPE, byte 2: the only scope is the whole unit (SPC-4, 6.15.3.3).
fn kind(cdb: &[u8; 16]) -> Result<Kind, Sense> {
    let kind = Kind::from_code(cdb[2] & 0x0f).filter(|_| cdb[2] >> 4 == 0);
    kind.ok_or(Sense::INVALID_FIELD_IN_CDB)
}
