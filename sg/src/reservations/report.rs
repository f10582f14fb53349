//! PERSISTENT RESERVE IN (SPC-4, 6.15).

use super::{Initiator, Refusal, Reservation, Reservations};
use crate::scsi::Sense;

/// REPORT CAPABILITIES data (SPC-4, 6.15.4): RESERVE and RELEASE as in SPC-3 (CRH), SPEC_I_PT, ALL_TG_PT, and a memory that outlasts
/// the loss of power; TEST UNIT READY is always allowed (ALLOW COMMANDS 001b); all types.
const CAPABILITIES: u8 = 0x10 | 0x08 | 0x04 | 0x01;
const TMV: u8 = 0x80;
const ALLOW_COMMANDS: u8 = 0x01 << 4;
const TYPES: [u8; 2] = [0x80 | 0x40 | 0x20 | 0x08 | 0x02, 0x01];

impl Reservations {
    /// The answer, all of it.
    ///
    /// # Errors
    ///
    /// [`Refusal`] is the answer.
    pub fn report(&self, who: Initiator, cdb: &[u8; 16]) -> Result<Vec<u8>, Refusal> {
        if self.reserved.is_some_and(|holder| holder != who) {
            return Err(Refusal::Conflict);
        }
        match cdb[1] & 0x1f {
            0x00 => {
                Ok(self.with_header(self.registrants().flat_map(|member| member.key.to_be_bytes()).collect()))
            }
            0x01 => Ok(self.with_header(self.reservation())),
            0x02 => {
                let ptpl_active = u8::from(self.aptpl);
                let [wide, narrow] = TYPES;
                Ok(vec![0, 8, CAPABILITIES, TMV | ALLOW_COMMANDS | ptpl_active, wide, narrow, 0, 0])
            }
            0x03 => Ok(self.with_header(self.full_status())),
            _ => Err(Sense::INVALID_FIELD_IN_CDB.into()),
        }
    }

    /// PRGENERATION, and the length of the rest.
    fn with_header(&self, rest: Vec<u8>) -> Vec<u8> {
        let Ok(length) = u32::try_from(rest.len()) else { unreachable!("at most 64 registrations") };
        [self.generation.to_be_bytes(), length.to_be_bytes()].into_iter().flatten().chain(rest).collect()
    }

    /// READ RESERVATION (6.15.3): nothing without one; no key when all registrants have it.
    fn reservation(&self) -> Vec<u8> {
        let Some(Reservation { kind, holder }) = self.reservation else { return Vec::new() };
        let key = holder.map_or(0, |holder| self.key(holder));
        let mut data = Vec::from(key.to_be_bytes());
        data.extend([0, 0, 0, 0, 0, kind.code(), 0, 0]);
        data
    }

    /// READ FULL STATUS (6.15.5).
    fn full_status(&self) -> Vec<u8> {
        let mut data = Vec::new();
        for member in self.registrants() {
            let held = self.reservation.filter(|_| self.holds(member.initiator));
            let id = member.initiator.transport_id();
            let Ok(id_len) = u8::try_from(id.len()) else { unreachable!("24") };
            data.extend(member.key.to_be_bytes());
            data.extend([0, 0, 0, 0, u8::from(held.is_some()), held.map_or(0, |held| held.kind.code())]);
            // Reserved; RELATIVE TARGET PORT IDENTIFIER 1; ADDITIONAL DESCRIPTOR LENGTH.
            data.extend([0, 0, 0, 0, 0, 1, 0, 0, 0, id_len]);
            data.extend(id);
        }
        data
    }
}
