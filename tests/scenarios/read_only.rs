//! Units that the administrator has attached with `ro`: a guest reads them, and writes nothing.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use proptest::array::uniform15;
use proptest::collection::vec;
use proptest::prelude::{Just, any, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use pvscsi_backend::options::Options;
use pvscsi_backend::pdev::PDev;
use pvscsi_guestmem::BufferPool;
use pvscsi_ring::vscsiif::{
    DIRECTION_BIDIRECTIONAL, DIRECTION_FROM_DEVICE, DIRECTION_NONE, DIRECTION_TO_DEVICE,
};
use pvscsi_sg::disk::{DEFAULT_MAX_TRANSFER, DiskIdentity, EmulatedDisk, FileDisk, Medium};
use pvscsi_sg::{
    Cdb, Command, DataDirection, LogicalUnit, Outcome, ReactorKind, ReadOnly, SamStatus, Sense, Tag,
};
use pvscsi_sim::frontend::{GuestBuffer, Reply};

use crate::scripted_lun::{FILLING, Remote, scripted_device};
use crate::vhost::{KINDS, Vhost, lun, pattern, ram_disk, rw10};

const DISK: u8 = 0x00;
const TAPE: u8 = 0x01;
const DVD: u8 = 0x05;
const CHANGER: u8 = 0x08;
const ENCLOSURE: u8 = 0x0d;

const MODE_SENSE_6: [u8; 6] = [0x1a, 0, 0x3f, 0, 255, 0];
const MODE_SENSE_10: [u8; 10] = [0x5a, 0, 0x3f, 0, 0, 0, 0, 1, 0, 0];

/// DATA PROTECT, WRITE PROTECTED (SPC-5, ASC and ASCQ assignments).
const PROTECTED: Option<(u8, u8, u8)> = Some((0x07, 0x27, 0x00));

/// A device of that type, attached with `ro`.
fn read_only_device(kind: ReactorKind, device_type: u8) -> (Vhost, Remote) {
    let (unit, remote) = scripted_device(device_type);
    (Vhost::start(kind, vec![(lun(0), Box::new(ReadOnly::new(unit)))]), remote)
}

fn data_out(vhost: &mut Vhost, cdb: &[u8], data: &[u8]) -> Reply {
    let memory = GuestBuffer::contiguous(100, data.len());
    memory.write(data);
    vhost.call(lun(0), cdb, DIRECTION_TO_DEVICE, memory)
}

/// Data-in into memory that is all A5h.
fn data_in(vhost: &mut Vhost, cdb: &[u8], room: usize) -> Reply {
    let memory = GuestBuffer::contiguous(100, room);
    memory.write(&vec![0xa5; room]);
    vhost.call(lun(0), cdb, DIRECTION_FROM_DEVICE, memory)
}

#[track_caller]
fn assert_refused(reply: &Reply, room: u32) {
    assert_eq!((reply.rslt, reply.residual), (2, room), "CHECK CONDITION, no host error, nothing moved");
    assert_eq!(Sense::from_device(&reply.sense).key_asc_ascq(), PROTECTED);
}

#[test]
fn what_writes_is_refused_and_never_reaches_the_device() {
    // WRITE (10); COMPARE AND WRITE; EXTENDED COPY; PERSISTENT RESERVE OUT; WRITE BUFFER.
    let to_any: [&[u8]; 5] = [&rw10(0x2a, 0, 4096), &[0x89; 16], &[0x83; 16], &[0x5f; 10], &[0x3b; 10]];
    // By type: UNMAP, ATA PASS-THROUGH (16); WRITE (6), WRITE (16); SEND DISC STRUCTURE, MODE SELECT (10); SEND VOLUME TAG;
    // SEND DIAGNOSTIC.
    let by_type: [(u8, &[&[u8]]); 5] = [
        (DISK, &[&[0x42; 10], &[0x85; 16]]),
        (TAPE, &[&[0x0a, 0, 0, 16, 0, 0], &[0x8a; 16]]),
        (DVD, &[&[0xbf; 12], &[0x55; 10]]),
        (CHANGER, &[&[0xb6; 12]]),
        (ENCLOSURE, &[&[0x1d, 0x10, 0, 0, 8, 0]]),
    ];
    // FORMAT UNIT and FORMAT MEDIUM; RESERVE (6); ERASE (6); two vendors' commands; ATA PASS-THROUGH (12) and BLANK.
    let without_data: [&[u8]; 6] = [
        &[0x04; 6],
        &[0x16; 6],
        &[0x19; 6],
        &[0xc0; 6],
        &[0xff; 16],
        &[0xa1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for kind in KINDS {
        for (device_type, own) in by_type {
            let (mut vhost, remote) = read_only_device(kind, device_type);
            for cdb in to_any.iter().chain(own) {
                assert_refused(&data_out(&mut vhost, cdb, &pattern(1, 4096)), 4096);
            }
            for cdb in without_data {
                assert_refused(&vhost.call(lun(0), cdb, DIRECTION_NONE, GuestBuffer::default()), 0);
            }
            assert_eq!(remote.submitted(), 0, "type {device_type:02x}h");
            // And what it takes it gets, with its data and its residual.
            let reply = data_in(&mut vhost, &[0x12, 0, 0, 0, 64, 0], 64);
            assert_eq!((reply.rslt, reply.residual, remote.submitted()), (0, 32, 1));
            assert_eq!(reply.data.to_vec(), [[FILLING; 32], [0xa5; 32]].concat());
        }
    }
}

/// The scripted unit delivers half of the room. A disk and a tape have WP: bit 7 of byte 2, or of byte 3 with ten bytes.
#[test]
fn mode_data_of_disks_and_tapes_show_the_protection() {
    let (cdb_6, cdb_10) = (&MODE_SENSE_6[..], &MODE_SENSE_10[..]);
    for kind in KINDS {
        for device_type in [DISK, TAPE, DVD, CHANGER, ENCLOSURE] {
            let (mut vhost, remote) = read_only_device(kind, device_type);
            let protects = [DISK, TAPE].contains(&device_type);
            for (cdb, room, place) in [
                (cdb_6, 8, Some(2)),
                (cdb_6, 200, Some(2)),
                (cdb_6, 6, Some(2)),
                (cdb_6, 4, None),
                (cdb_6, 2, None),
                (cdb_10, 8, Some(3)),
                (cdb_10, 256, Some(3)),
                (cdb_10, 6, None),
            ] {
                let reply = data_in(&mut vhost, cdb, room);
                assert_eq!((reply.rslt, reply.residual as usize), (0, room / 2));
                let mut expected = [vec![FILLING; room / 2], vec![0xa5; room / 2]].concat();
                if let Some(place) = place.filter(|_| protects) {
                    expected[place] |= 0x80;
                }
                assert_eq!(reply.data.to_vec(), expected, "{room} bytes, type {device_type:02x}h");
            }
            let none = vhost.call(lun(0), cdb_6, DIRECTION_NONE, GuestBuffer::default());
            assert_eq!((none.rslt, none.residual), (0, 0));
            // Data of other commands is left alone.
            assert_eq!(data_in(&mut vhost, &[0x4d; 10], 8).data.to_vec()[..4], [FILLING; 4]);
            assert_eq!(remote.submitted(), 10);
        }
    }
}

/// The block length has to be set to read a tape of fixed blocks; Medium Partition pages would repartition it.
#[test]
fn a_tape_is_given_its_block_length_and_no_page() {
    let (mut vhost, remote) = read_only_device(KINDS[0], TAPE);
    let block_length = [0, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 2, 0];
    let page = [0, 0, 0x10, 0, 0x11, 6, 1, 1, 0x20, 0, 0, 0];
    assert_eq!(data_out(&mut vhost, &[0x15, 0x10, 0, 0, 12, 0], &block_length).rslt, 0);
    assert_refused(&data_out(&mut vhost, &[0x15, 0x10, 0, 0, 12, 0], &page), 12);
    // Only data that goes to the device can be looked at: in a buffer for data-in is what an earlier command left.
    assert_refused(&data_in(&mut vhost, &[0x15, 0x10, 0, 0, 12, 0], 12), 12);
    let memory = GuestBuffer::contiguous(0, 12);
    memory.write(&block_length);
    assert_refused(&vhost.call(lun(0), &[0x15, 0x10, 0, 0, 12, 0], DIRECTION_BIDIRECTIONAL, memory), 12);
    assert_eq!(remote.submitted(), 1);
}

/// A file with bytes that tell where they belong.
struct TestFile(PathBuf);

impl TestFile {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pvscsi-read-only-{}-{name}", std::process::id()));
        std::fs::write(&path, pattern(7, 1 << 20)).unwrap();
        Self(path)
    }

    fn is_untouched(&self) -> bool {
        std::fs::read(&self.0).unwrap() == pattern(7, 1 << 20)
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Reads it, tries to write it in all ways that the disk knows, and looks for WP.
fn read_and_try_to_write(vhost: &mut Vhost, content: &[u8]) {
    let memory = || GuestBuffer::contiguous(0, 4096);
    assert_eq!(vhost.read(lun(0), 8, memory()), content);
    let mut write_same = vec![0x93];
    write_same.resize(16, 0);
    write_same[13] = 1;
    let unmap = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    for opcode in [0x2a, 0x2e] {
        assert_refused(&data_out(vhost, &rw10(opcode, 8, 4096), &[0xee; 4096]), 4096);
    }
    assert_refused(&data_out(vhost, &write_same, &[0xee; 512]), 512);
    assert_refused(
        &data_out(vhost, &unmap, &[0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0, 0]),
        24,
    );
    assert_eq!(vhost.read(lun(0), 8, memory()), content);
    for (cdb, place) in [(&MODE_SENSE_6[..], 2), (&MODE_SENSE_10[..], 3)] {
        let reply = data_in(vhost, cdb, 192);
        assert_eq!(reply.rslt, 0);
        // DPOFUA, and WP.
        assert_eq!(reply.data.to_vec()[place], 0x90);
    }
    // SYNCHRONIZE CACHE writes nothing of this guest's.
    let mut synchronize = vec![0x35];
    synchronize.resize(10, 0);
    assert_eq!(vhost.call(lun(0), &synchronize, DIRECTION_NONE, GuestBuffer::default()).rslt, 0);
}

#[test]
fn emulated_disks_are_read_and_not_written() {
    let read_only = Options { read_only: true, ..Options::default() };
    for kind in KINDS {
        let ram = "ram:1M".parse::<PDev>().unwrap().open(read_only, pvscsi_sg::Engine::Auto, None).unwrap();
        read_and_try_to_write(&mut Vhost::start(kind, vec![(lun(0), ram)]), &[0; 4096]);
        let file = TestFile::new(&format!("{kind:?}"));
        let disk: PDev = format!("file:{}", file.0.display()).parse().unwrap();
        let content = &pattern(7, 1 << 20)[4096..8192];
        let mut vhost =
            Vhost::start(kind, vec![(lun(0), disk.open(read_only, pvscsi_sg::Engine::Auto, None).unwrap())]);
        read_and_try_to_write(&mut vhost, content);
        vhost.end(0).unwrap();
        // The same in front of a disk that could be written, whose commands finish in a thread of its own.
        let medium = Medium::open_file(&file.0, false).unwrap();
        let name = DiskIdentity::from_name("writable");
        let disk = FileDisk::new(EmulatedDisk::new(medium, name, DEFAULT_MAX_TRANSFER)).unwrap();
        let mut vhost = Vhost::start(kind, vec![(lun(0), Box::new(ReadOnly::new(Box::new(disk))))]);
        read_and_try_to_write(&mut vhost, content);
        vhost.end(0).unwrap();
        assert!(file.is_untouched());
    }
}

#[test]
fn a_writable_unit_has_no_protection() {
    let mut vhost = Vhost::with_disk(KINDS[0]);
    vhost.write(lun(0), 8, &pattern(1, 4096), &GuestBuffer::contiguous(0, 4096));
    assert_eq!(data_in(&mut vhost, &MODE_SENSE_6, 192).data.to_vec()[2], 0x10);
    let options = Options { shared: true, ..Options::default() };
    let shared = "ram:1M".parse::<PDev>().unwrap().open(options, pvscsi_sg::Engine::Auto, None).unwrap();
    let mut vhost = Vhost::start(KINDS[0], vec![(lun(0), shared)]);
    vhost.write(lun(0), 8, &pattern(1, 4096), &GuestBuffer::contiguous(0, 4096));
    assert_eq!(data_in(&mut vhost, &MODE_SENSE_10, 192).data.to_vec()[3], 0x10);
}

/// Units without a ring, and what became of their commands.
struct Bench {
    pool: BufferPool,
    disk: ReadOnly,
    passed_on: u32,
    refused: u32,
}

/// One command; its outcome.
fn submit(
    unit: &mut ReadOnly,
    pool: &mut BufferPool,
    cdb: Cdb,
    direction: DataDirection,
    data: &[u8],
) -> Outcome {
    let buffer = (!data.is_empty()).then(|| {
        let mut buffer = pool.take(0, data.len()).unwrap();
        buffer.as_mut_slice().copy_from_slice(data);
        buffer
    });
    let mut done = Vec::new();
    unit.submit(Command { tag: Tag(3), cdb, direction, buffer, timeout: Duration::from_secs(1) }, &mut done);
    assert_eq!(done.len(), 1, "one completion");
    let completion = done.pop().unwrap();
    assert_eq!((completion.tag, completion.buffer.is_some()), (Tag(3), !data.is_empty()));
    completion.buffer.into_iter().for_each(|buffer| pool.give_back(buffer));
    completion.outcome
}

impl Bench {
    /// One command to a device of this type, and to a disk in memory.
    fn try_out(&mut self, device_type: u8, cdb: Cdb, direction: DataDirection, data: &[u8]) {
        let (unit, remote) = scripted_device(device_type);
        let outcome = submit(&mut ReadOnly::new(unit), &mut self.pool, cdb, direction, data);
        if remote.submitted() == 0 {
            let expected = Outcome::check_condition(Sense::fixed(0x07, 0x27, 0x00), data.len() as u32);
            assert_eq!(outcome, expected);
            self.refused += 1;
        } else {
            assert_eq!((remote.submitted(), outcome.status), (1, SamStatus::GOOD));
            self.passed_on += 1;
        }
        submit(&mut self.disk, &mut self.pool, cdb, direction, data);
    }
}

/// Any CDB of any length, with any data, to a device of any type: it is refused as it should be, or the device has it, and the
/// answer is the device's. A disk in memory stays as it is.
#[test]
fn any_command_is_refused_or_passed_on() {
    let direction = prop_oneof![
        Just(DataDirection::None),
        Just(DataDirection::ToDevice),
        Just(DataDirection::FromDevice),
        Just(DataDirection::Bidirectional),
    ];
    // Not the four that mean something else to a scripted unit.
    let opcode = prop_oneof![0x00_u8..0xc0, 0xc4_u8..=0xff];
    // Small numbers pass the first checks; large ones try them.
    let byte = || prop_oneof![0_u8..20, any::<u8>()];
    let commands = (0_u8..0x20, opcode, uniform15(byte()), 0..=16_u8, direction, vec(byte(), 0..40));
    let disk = ReadOnly::new(ram_disk());
    let bench = RefCell::new(Bench { pool: BufferPool::new(1).unwrap(), disk, passed_on: 0, refused: 0 });
    let config = Config { cases: 5_000, failure_persistence: None, ..Config::default() };
    let ran =
        TestRunner::new(config).run(&commands, |(device_type, opcode, fields, len, direction, data)| {
            let mut bytes = [opcode; 16];
            bytes[1..].copy_from_slice(&fields);
            bench.borrow_mut().try_out(device_type, Cdb::new(bytes, len).unwrap(), direction, &data);
            Ok::<(), TestCaseError>(())
        });
    if let Err(error) = ran {
        panic!("{error}");
    }
    let Bench { disk, passed_on, refused, .. } = bench.into_inner();
    assert!(passed_on > 200 && refused > 200, "{passed_on} passed on, {refused} refused: both are tried");
    let mut vhost = Vhost::start(KINDS[0], vec![(lun(0), Box::new(disk))]);
    let memory = || GuestBuffer::contiguous(0, 256 * 1024);
    assert!((0..4).all(|quarter| vhost.read(lun(0), quarter * 512, memory()) == vec![0; 256 * 1024]));
}
