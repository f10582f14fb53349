//! LUN 0 of a target that has only other LUNs.

use pvscsi_sg::{Command, Completion, Event, Job, LogicalUnit, Outcome, Reactor, Sense, buffer_len, deliver};

/// LOGICAL UNIT NOT SUPPORTED (SPC-5, 4.4; key ILLEGAL REQUEST).
const NOT_SUPPORTED: (u8, u8, u8) = (0x05, 0x25, 0x00);
/// PERIPHERAL QUALIFIER 011b, "not capable of supporting a device here", and PERIPHERAL DEVICE TYPE 1Fh, which goes with it (SPC-5,
/// 6.7.2).
const NOBODY: u8 = 0x7f;

/// A logical unit that is not there, for a guest that asks for it by its number: every target has a LUN 0 to ask what else it has.
/// REPORT LUNS is the vhost's to answer; what a target says to the rest is in SPC-5, 6.7.1 (INQUIRY) and 6.39 (REQUEST SENSE), and
/// SAM-5, 5.14.
#[derive(Debug)]
pub struct AbsentUnit;

impl LogicalUnit for AbsentUnit {
    fn submit(&mut self, command: Command, done: &mut Vec<Completion>) {
        let Command { tag, cdb, mut buffer, .. } = command;
        let (key, asc, ascq) = NOT_SUPPORTED;
        let sense = Sense::fixed(key, asc, ascq);
        let bytes = cdb.padded();
        let outcome = match bytes[0] {
            // EVPD: it has no pages.
            0x12 if bytes[1] & 0x01 != 0 => {
                Outcome::check_condition(Sense::INVALID_FIELD_IN_CDB, buffer_len(buffer.as_ref()))
            }
            0x12 => deliver(inquiry(), u16::from_be_bytes([bytes[3], bytes[4]]).into(), buffer.as_mut()),
            // DESC: descriptor format (SPC-5, 4.4.2).
            0x03 if bytes[1] & 0x01 != 0 => {
                deliver([0x72, key, asc, ascq, 0, 0, 0, 0], bytes[4].into(), buffer.as_mut())
            }
            0x03 => deliver(sense.as_bytes().iter().copied(), bytes[4].into(), buffer.as_mut()),
            _ => Outcome::check_condition(sense, buffer_len(buffer.as_ref())),
        };
        done.push(Completion { tag, outcome, buffer });
    }

    fn flush(&mut self, _: &mut Reactor) {}

    fn on_event(&mut self, event: Event, _: &mut Reactor, _: &mut Vec<Completion>) {
        unreachable!("{event:?}: it waits for nothing");
    }

    fn attach(&mut self, _: u32) {}

    fn resetter(&self) -> Option<Job> {
        None
    }

    fn device_type(&self) -> u8 {
        NOBODY & 0x1f
    }
}

/// Standard INQUIRY data (SPC-5, 6.7.2): nobody, SPC-4, response data format 2, no flags, no names.
fn inquiry() -> [u8; 36] {
    let mut data = [0; 36];
    data[0] = NOBODY;
    data[2] = 0x06;
    data[3] = 0x02;
    data[4] = 31;
    data[8..].fill(b' ');
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use pvscsi_guestmem::BufferPool;
    use pvscsi_sg::{Cdb, DataDirection, SamStatus, Tag};

    fn ask(cdb: &[u8], room: usize) -> (Outcome, Vec<u8>) {
        let buffer = BufferPool::new(1).unwrap().take(0, room);
        let mut done = Vec::new();
        let cdb = Cdb::from_bytes(cdb);
        let direction = DataDirection::FromDevice;
        AbsentUnit.submit(
            Command { tag: Tag(1), cdb, direction, buffer, timeout: Duration::from_secs(1) },
            &mut done,
        );
        let Completion { outcome, buffer, .. } = done.remove(0);
        (outcome, buffer.unwrap().as_slice().to_vec())
    }

    #[test]
    fn it_says_that_nobody_is_there() {
        let (outcome, data) = ask(&[0x12, 0, 0, 0, 96, 0], 96);
        assert_eq!((outcome, data[0], data[4]), (Outcome::good(60), 0x7f, 31));
        let (outcome, data) = ask(&[0x12, 0, 0, 0, 5, 0], 96);
        assert_eq!((outcome.residual, &data[..6]), (91, &[0x7f, 0, 6, 2, 31, 0][..]));
        let (outcome, _) = ask(&[0x12, 1, 0x83, 0, 96, 0], 96);
        assert_eq!(outcome.sense.key_asc_ascq(), Some((5, 0x24, 0)), "a page");
    }

    #[test]
    fn its_sense_is_that_it_is_not_supported_in_data_or_as_status() {
        let (outcome, data) = ask(&[0x03, 0, 0, 0, 18, 0], 18);
        assert_eq!(outcome, Outcome::good(0));
        assert_eq!(Sense::from_device(&data).key_asc_ascq(), Some((5, 0x25, 0)));
        let (outcome, data) = ask(&[0x03, 1, 0, 0, 252, 0], 252);
        assert_eq!(outcome, Outcome::good(244));
        assert_eq!(Sense::from_device(&data).key_asc_ascq(), Some((5, 0x25, 0)));
        for cdb in [&[0x00, 0, 0, 0, 0, 0][..], &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]] {
            let (outcome, _) = ask(cdb, 512);
            assert_eq!((outcome.status, outcome.residual), (SamStatus::CHECK_CONDITION, 512));
            assert_eq!(outcome.sense.key_asc_ascq(), Some((5, 0x25, 0)));
        }
    }
}
