//! What only the vhost can answer, since only it knows which devices the guest sees.

use pvscsi_guestmem::Buffer;
use pvscsi_ring::Nexus;
use pvscsi_sg::scsi::REPORT_LUNS;
use pvscsi_sg::{Cdb, Outcome, SamStatus, Sense, buffer_len, deliver};

use crate::v2p::V2p;

/// UNIT ATTENTION, REPORTED LUNS DATA HAS CHANGED.
const LUNS_CHANGED: Sense = Sense::fixed(0x06, 0x3f, 0x0e);

/// The answer to a command to unit `lun` at `nexus`, if it is not the unit's to give: to REPORT LUNS, and to the first command after
/// another unit of the target has come or gone (SAM-5, 5.14). Whoever asks for the list need not be told that it is another.
pub fn answer(
    luns: &mut V2p,
    lun: usize,
    nexus: Nexus,
    cdb: &Cdb,
    buffer: Option<&mut Buffer>,
) -> Option<Outcome> {
    match cdb.opcode() {
        REPORT_LUNS => {
            let outcome = report_luns(cdb, &luns.luns_of(nexus.channel, nexus.id), buffer);
            if outcome.status == SamStatus::GOOD {
                luns.set_luns_changed(nexus.channel, nexus.id, false);
            }
            Some(outcome)
        }
        _ if cdb.passes_attentions() => None,
        _ if std::mem::take(&mut luns.get(lun).luns_changed) => {
            Some(Outcome::check_condition(LUNS_CHANGED, buffer_len(buffer.as_deref())))
        }
        _ => None,
    }
}

/// Answers REPORT LUNS from the LUNs that the guest sees on the target it asked.
///
/// SELECT REPORT 00h and 02h give all of them; 01h (well-known logical units only) gives none, for there are none here. The list
/// length says how long the whole list is, however little fits (SPC-5, 6.33.3).
fn report_luns(cdb: &Cdb, luns: &[u16], buffer: Option<&mut Buffer>) -> Outcome {
    let cdb = cdb.padded();
    let allocated =
        usize::try_from(u32::from_be_bytes([cdb[6], cdb[7], cdb[8], cdb[9]])).unwrap_or(usize::MAX);
    let listed = match cdb[2] {
        0 | 2 => luns,
        1 => &[],
        _ => return Outcome::check_condition(Sense::INVALID_FIELD_IN_CDB, buffer_len(buffer.as_deref())),
    };
    let list_length = u32::try_from(listed.len()).unwrap_or(0).saturating_mul(8);
    let header = list_length.to_be_bytes().into_iter().chain([0; 4]);
    let list = listed.iter().flat_map(|lun| lun_field(*lun));
    deliver(header.chain(list), allocated, buffer)
}

/// A single-level LUN (SAM-5, 4.7.3): peripheral device addressing below 256, flat space addressing up to 16383, extended flat
/// space addressing (SAM-5, 4.7.7.5) above.
fn lun_field(lun: u16) -> [u8; 8] {
    let [high, low] = lun.to_be_bytes();
    match lun {
        0..256 => [0, low, 0, 0, 0, 0, 0, 0],
        256..16384 => [0x40 | high, low, 0, 0, 0, 0, 0, 0],
        _ => [0xd2, 0, high, low, 0, 0, 0, 0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pvscsi_guestmem::BufferPool;
    use pvscsi_sg::SamStatus;

    fn ask(select: u8, allocated: u32, room: usize, luns: &[u16]) -> (Outcome, Vec<u8>) {
        let mut cdb = [0; 12];
        cdb[0] = REPORT_LUNS;
        cdb[2] = select;
        cdb[6..10].copy_from_slice(&allocated.to_be_bytes());
        let mut buffer = BufferPool::new(1).unwrap().take(0, room).unwrap();
        buffer.as_mut_slice().fill(0xee);
        let outcome = report_luns(&Cdb::from_bytes(&cdb), luns, Some(&mut buffer));
        (outcome, buffer.as_slice().to_vec())
    }

    #[test]
    fn the_list_is_the_guests_own() {
        let (outcome, data) = ask(0, 64, 64, &[0, 5, 300, 20000]);
        assert_eq!(outcome, Outcome::good(64 - 40));
        assert_eq!(&data[..8], &[0, 0, 0, 32, 0, 0, 0, 0]);
        assert_eq!(&data[8..16], &[0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&data[16..24], &[0, 5, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&data[24..32], &[0x41, 0x2c, 0, 0, 0, 0, 0, 0], "flat space addressing");
        assert_eq!(&data[32..40], &[0xd2, 0, 0x4e, 0x20, 0, 0, 0, 0], "extended flat space addressing");
        assert!(data[40..].iter().all(|&b| b == 0xee));
    }

    #[test]
    fn a_short_buffer_gets_the_whole_length_and_a_part_of_the_list() {
        let (outcome, data) = ask(0, 12, 64, &[1, 2, 3]);
        assert_eq!(outcome.residual, 52);
        assert_eq!(&data[..4], &[0, 0, 0, 24]);
        let (outcome, _) = ask(2, 4096, 16, &[1, 2, 3]);
        assert_eq!(outcome.residual, 0);
    }

    #[test]
    fn well_known_units_are_none_and_other_selections_invalid() {
        let (outcome, data) = ask(1, 64, 64, &[1, 2]);
        assert_eq!((outcome.residual, &data[..8]), (56, &[0; 8][..]));
        for select in [3, 0x10, 0xff] {
            let (outcome, _) = ask(select, 64, 64, &[0]);
            assert_eq!(outcome.status, SamStatus::CHECK_CONDITION);
            assert_eq!(outcome.sense.key_asc_ascq(), Some((5, 0x24, 0)));
        }
    }

    #[test]
    fn no_buffer_is_no_trouble() {
        let cdb = Cdb::from_bytes(&[REPORT_LUNS, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]);
        assert_eq!(report_luns(&cdb, &[0], None), Outcome::good(0));
    }
}
