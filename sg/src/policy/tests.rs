use std::sync::{Arc, Mutex};
use std::time::Duration;

use pvscsi_guestmem::{Buffer, BufferPool};

use super::*;
use crate::filtered::fake::Fake;
use crate::logical_unit::Tag;
use crate::scsi::{Cdb, DataDirection, Outcome};

struct Fixture {
    unit: Policed,
    got: Arc<Mutex<Vec<(Tag, usize)>>>,
    heard: Arc<Mutex<Vec<Refusal>>>,
    pool: BufferPool,
}

impl Fixture {
    fn new(device_type: u8, allowed: &str) -> Self {
        let (got, heard) =
            (Arc::<Mutex<Vec<(Tag, usize)>>>::default(), Arc::<Mutex<Vec<Refusal>>>::default());
        let answer = {
            let got = Arc::clone(&got);
            move |command: &mut Command| {
                got.lock().unwrap().push((command.tag, command.buffer.as_ref().map_or(0, Buffer::len)));
                Outcome::good(0)
            }
        };
        let unit = Box::new(Fake { device_type, answer });
        let allowed = if allowed.is_empty() { Groups::default() } else { allowed.parse().unwrap() };
        let on_refusal = {
            let heard = Arc::clone(&heard);
            Box::new(move |refusal| heard.lock().unwrap().push(refusal))
        };
        let pool = BufferPool::new(1).unwrap();
        Self { unit: Policed::new(unit, allowed, on_refusal), got, heard, pool }
    }

    /// Sends a command with this data to the device; gives its outcome, and how much of the data came back.
    fn send(&mut self, cdb: &[u8], data_out: &[u8]) -> (Outcome, usize) {
        let mut buffer = (!data_out.is_empty()).then(|| self.pool.take(0, data_out.len()).unwrap());
        if let Some(buffer) = &mut buffer {
            buffer.as_mut_slice().copy_from_slice(data_out);
        }
        let direction = if buffer.is_some() { DataDirection::ToDevice } else { DataDirection::None };
        let command = Command {
            tag: Tag(7),
            cdb: Cdb::from_bytes(cdb),
            direction,
            buffer,
            timeout: Duration::from_secs(1),
        };
        let mut done = Vec::new();
        self.unit.submit(command, &mut done);
        let [Completion { tag: Tag(7), outcome, buffer }] = &mut done[..] else {
            panic!("one answer, not {done:?}")
        };
        let back = buffer.take();
        let bytes = back.as_ref().map_or(0, Buffer::len);
        back.into_iter().for_each(|buffer| self.pool.give_back(buffer));
        (*outcome, bytes)
    }
}

#[test]
fn a_refused_command_is_answered_heard_of_and_goes_no_further() {
    let mut disk = Fixture::new(0x00, "");
    let (outcome, back) = disk.send(&[0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], &[0; 16]);
    assert_eq!((outcome.sense.key_asc_ascq(), outcome.residual, back), (Some((0x05, 0x20, 0x00)), 16, 16));
    disk.send(&[0xc1, 0, 0, 0, 0, 0], &[]);
    assert_eq!(*disk.got.lock().unwrap(), []);
    assert_eq!(
        *disk.heard.lock().unwrap(),
        [
            Refusal { opcode: 0x83, name: Some("EXTENDED COPY"), group: Group::ThirdParty },
            Refusal { opcode: 0xc1, name: None, group: Group::Unknown },
        ]
    );
}

#[test]
fn daily_work_passes_with_its_data() {
    let mut disk = Fixture::new(0x00, "");
    let mut tape = Fixture::new(0x01, "");
    let mut drive = Fixture::new(0x05, "");
    for unit in [&mut disk, &mut tape] {
        assert_eq!(unit.send(&[0x0a, 0, 0, 0, 1, 0], &[1; 512]), (Outcome::good(0), 512), "WRITE (6)");
        assert_eq!(*unit.got.lock().unwrap(), [(Tag(7), 512)]);
    }
    assert_eq!(drive.send(&[0xa1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]), (Outcome::good(0), 0), "BLANK");
    // MODE SELECT with a page, which a reader of tapes is refused.
    tape.send(&[0x15, 0x10, 0, 0, 12, 0], &[0; 12]);
    assert_eq!(tape.got.lock().unwrap().len(), 2);
}

/// The page is in the data, which is looked at only when it goes to the device.
#[test]
fn the_data_plays_a_part() {
    let mut enclosure = Fixture::new(0x0d, "");
    let cdb = [0x1d, 0x10, 0, 0, 4, 0];
    assert_eq!(enclosure.send(&cdb, &[0x02, 0, 0, 0]), (Outcome::good(0), 4), "Enclosure Control");
    let (refused, _) = enclosure.send(&cdb, &[0x0e, 0, 0, 0]);
    assert_eq!(refused.sense.key_asc_ascq(), Some((0x05, 0x20, 0x00)), "Download Microcode");
    assert_eq!(enclosure.heard.lock().unwrap()[0].group, Group::Firmware);
}

#[test]
fn what_is_allowed_passes_and_all_means_all() {
    for device_type in [0x00, 0x01, 0x02, 0x05, 0x08, 0x0d] {
        let (mut all, mut firmware) =
            (Fixture::new(device_type, "all"), Fixture::new(device_type, "firmware"));
        for opcode in 0..=u8::MAX {
            for action in 0..32 {
                let mut cdb = [0; 16];
                (cdb[0], cdb[1]) = (opcode, action);
                assert_eq!(all.send(&cdb, &[0x0e; 4]), (Outcome::good(0), 4), "{opcode:02x}h/{action:02x}h");
                firmware.send(&cdb, &[0x0e; 4]);
            }
        }
        assert_eq!(*all.heard.lock().unwrap(), []);
        assert!(firmware.heard.lock().unwrap().iter().all(|refusal| refusal.group != Group::Firmware));
        assert_eq!(all.got.lock().unwrap().len(), 256 * 32);
    }
}
