//! Commands against whole disks, by subject. Expected bytes are written as SPC-5 and SBC-4 lay them out, never taken from
//! the disk's own constants.

mod attention;
mod block_size;
mod compare;
mod data;
mod file_disk;
mod inquiry;
mod medium;
mod mode;
mod opcodes;
mod provisioning;
mod random;

use std::cell::Cell;
use std::time::Duration;

use pvscsi_guestmem::BufferPool;

use super::{DiskIdentity, EmulatedDisk, FileDisk, Medium};
use crate::logical_unit::{Command, LogicalUnit, Tag};
use crate::reactor::{Reactor, ReactorKind};
use crate::scsi::{Cdb, DataDirection, HostStatus, Outcome, SamStatus};

const GOOD: Option<(u8, u8, u8)> = None;
const INVALID_OPCODE: Option<(u8, u8, u8)> = Some((5, 0x20, 0));
const LBA_OUT_OF_RANGE: Option<(u8, u8, u8)> = Some((5, 0x21, 0));
const INVALID_FIELD: Option<(u8, u8, u8)> = Some((5, 0x24, 0));
const WRITE_PROTECTED: Option<(u8, u8, u8)> = Some((7, 0x27, 0));

/// Fills the room for data-in, to show what was written and what was not.
const STALE: u8 = 0xee;

/// What carries out the commands of a [`Bench`].
#[derive(Clone, Copy, Debug)]
enum Form {
    /// The disk itself.
    Alone,
    /// A [`FileDisk`].
    File(ReactorKind),
}

thread_local! {
    /// Of the benches that this thread makes.
    static FORM: Cell<Form> = const { Cell::new(Form::Alone) };
}

/// A disk and buffers for its commands.
struct Bench {
    disk: Box<dyn LogicalUnit>,
    reactor: Reactor,
    block: usize,
    pool: BufferPool,
}

impl Bench {
    fn ram(blocks: u64) -> Self {
        Self::of(Medium::ram(blocks * 512).unwrap())
    }

    fn of(medium: Medium) -> Self {
        Self::with_max_transfer(medium, 508 * 1024)
    }

    fn with_max_transfer(medium: Medium, bytes: u32) -> Self {
        Self::over(EmulatedDisk::new(medium, DiskIdentity::new("SER-1").unwrap(), bytes))
    }

    fn over(disk: EmulatedDisk) -> Self {
        let block = disk.block().bytes() as usize;
        let (disk, kind): (Box<dyn LogicalUnit>, _) = match FORM.get() {
            Form::Alone => (Box::new(disk), ReactorKind::Poll),
            Form::File(kind) => (Box::new(FileDisk::new(disk).unwrap()), kind),
        };
        Self { disk, reactor: Reactor::new(kind).unwrap(), block, pool: BufferPool::new(2).unwrap() }
    }

    /// One command; its outcome and its whole buffer afterwards.
    fn run(&mut self, cdb: Cdb, direction: DataDirection, data: Option<&[u8]>) -> (Outcome, Vec<u8>) {
        let buffer = data.map(|data| {
            let mut buffer = self.pool.take(0, data.len()).unwrap();
            buffer.as_mut_slice().copy_from_slice(data);
            buffer
        });
        let command = Command { tag: Tag(7), cdb, direction, buffer, timeout: Duration::from_secs(1) };
        let mut done = Vec::new();
        self.disk.submit(command, &mut done);
        self.disk.flush(&mut self.reactor);
        let mut events = Vec::new();
        while done.is_empty() {
            self.reactor.wait(None, &mut events).unwrap();
            for event in events.drain(..) {
                self.disk.on_event(event, &mut self.reactor, &mut done);
            }
        }
        assert_eq!(done.len(), 1, "one completion for {cdb:?}");
        let completion = done.pop().unwrap();
        let outcome = completion.outcome;
        assert_eq!(completion.tag, Tag(7));
        assert_eq!(outcome.host, HostStatus::OK);
        assert!(outcome.residual as usize <= data.map_or(0, <[u8]>::len), "{cdb:?}: {outcome:?}");
        let failed = outcome.status == SamStatus::CHECK_CONDITION;
        // SBC-4, PRE-FETCH (10) and (16): CONDITION MET is their way of success, and of no other command.
        let well =
            if matches!(cdb.opcode(), 0x34 | 0x90) { SamStatus::CONDITION_MET } else { SamStatus::GOOD };
        assert!(failed || outcome.status == well, "{cdb:?}: {outcome:?}");
        assert_eq!(
            failed,
            outcome.sense.key_asc_ascq().is_some(),
            "sense with CHECK CONDITION, and only then"
        );
        let after = completion.buffer.map(|buffer| {
            let after = buffer.as_slice().to_vec();
            self.pool.give_back(buffer);
            after
        });
        assert_eq!(after.as_ref().map(Vec::len), data.map(<[u8]>::len), "the buffer comes back");
        (outcome, after.unwrap_or_default())
    }

    /// A command without data; what its sense says.
    fn none(&mut self, cdb: &[u8]) -> Option<(u8, u8, u8)> {
        self.run(Cdb::from_bytes(cdb), DataDirection::None, None).0.sense.key_asc_ascq()
    }

    /// Data-in into a buffer of `room` bytes: what its sense says, and the bytes that count. The others are untouched.
    fn data_in(&mut self, cdb: &[u8], room: usize) -> (Option<(u8, u8, u8)>, Vec<u8>) {
        let stale = vec![STALE; room];
        let (outcome, mut data) = self.run(Cdb::from_bytes(cdb), DataDirection::FromDevice, Some(&stale));
        let rest = data.split_off(room - outcome.residual as usize);
        assert!(rest.iter().all(|byte| *byte == STALE), "nothing behind the answer to {cdb:02x?}");
        (outcome.sense.key_asc_ascq(), data)
    }

    /// Data-in that must be GOOD.
    fn answer(&mut self, cdb: &[u8], room: usize) -> Vec<u8> {
        let (sense, data) = self.data_in(cdb, room);
        assert_eq!(sense, GOOD, "{cdb:02x?}");
        data
    }

    /// Data-out: what its sense says, and the residual.
    fn data_out(&mut self, cdb: &[u8], data: &[u8]) -> (Option<(u8, u8, u8)>, u32) {
        let (outcome, after) = self.run(Cdb::from_bytes(cdb), DataDirection::ToDevice, Some(data));
        assert_eq!(after, data, "data-out is not changed");
        (outcome.sense.key_asc_ascq(), outcome.residual)
    }

    /// Blocks of the medium, by READ (16).
    fn blocks(&mut self, lba: u64, count: u32) -> Vec<u8> {
        let data = self.answer(&on_blocks(0x88, 0, lba, count), count as usize * self.block);
        assert_eq!(data.len(), count as usize * self.block);
        data
    }
}

/// The CDB of a command on blocks: flags in byte 1, address and count where the length of the CDB has them.
fn on_blocks(opcode: u8, flags: u8, lba: u64, count: u32) -> Vec<u8> {
    let (lba, count) = (lba.to_be_bytes(), count.to_be_bytes());
    let mut cdb = vec![opcode];
    match opcode >> 5 {
        0 => {
            assert_eq!(flags, 0, "six bytes have no flags");
            cdb.extend(&lba[5..]);
            cdb.extend([count[3], 0]);
        }
        1 | 2 => {
            cdb.push(flags);
            cdb.extend(&lba[4..]);
            cdb.push(0);
            cdb.extend(&count[2..]);
            cdb.push(0);
        }
        5 => {
            cdb.push(flags);
            cdb.extend(&lba[4..]);
            cdb.extend(count);
            cdb.extend([0, 0]);
        }
        4 => {
            cdb.push(flags);
            cdb.extend(lba);
            cdb.extend(count);
            cdb.extend([0, 0]);
        }
        group => panic!("group {group}"),
    }
    cdb
}

/// A block that is different for every number.
fn pattern(seed: u8, blocks: usize) -> Vec<u8> {
    (0..blocks * 512).map(|i| (i as u8).wrapping_mul(7) ^ (i / 512) as u8 ^ seed).collect()
}

#[test]
fn nothing_waits_for_the_reactor() {
    let mut bench = Bench::ram(8);
    let mut reactor = Reactor::new(ReactorKind::Poll).unwrap();
    bench.disk.attach(3);
    assert_eq!(bench.none(&[0; 6]), GOOD);
    bench.disk.flush(&mut reactor);
    let mut events = Vec::new();
    reactor.wait(Some(Duration::ZERO), &mut events).unwrap();
    assert!(events.is_empty());
    assert_eq!(bench.disk.device_type(), 0);
}

#[test]
#[should_panic(expected = "transfers nothing")]
fn no_limit_is_no_limit() {
    let _ = EmulatedDisk::new(Medium::ram(512).unwrap(), DiskIdentity::from_name("x"), 511);
}

/// What has to do with reading and writing, once more: by io_uring, and by its thread alone.
#[test]
fn a_file_disk_reads_and_writes_as_the_disk_itself() {
    let tests: [fn(); 28] = [
        attention::a_file_that_grows_is_a_disk_that_grows,
        attention::a_file_that_shrinks_is_a_disk_that_shrinks,
        attention::the_size_is_looked_at_once_a_second_and_for_who_asks,
        attention::some_commands_come_first,
        attention::a_reset_gives_the_mode_pages_back_and_is_told,
        attention::a_reset_is_told_before_a_new_size,
        block_size::addresses_and_lengths_are_of_blocks,
        block_size::failures_name_the_block,
        data::every_length_writes_and_reads_the_same_blocks,
        data::addresses_are_as_wide_as_the_cdb_has_them,
        data::a_length_of_zero,
        data::ranges,
        data::no_transfer_above_the_limit,
        data::buffers_of_another_length,
        data::directions,
        data::protection_information_is_refused,
        data::verify_compares,
        data::verify_tells_where_it_differs,
        data::synchronize_cache,
        data::a_write_protected_disk_is_read_only,
        data::a_failed_read_is_a_medium_error,
        data::an_address_beyond_32_bits_is_not_in_the_sense,
        data::a_full_file_system_is_write_protection,
        data::fua_and_synchronize_cache_sync,
        data::other_write_errors_are_medium_errors,
        mode::without_a_write_cache_every_write_is_synced,
        || random::a_disk_is(512, 700, 1000),
        || random::any_command_completes(10_000),
    ];
    for kind in [ReactorKind::Auto, ReactorKind::Poll] {
        FORM.set(Form::File(kind));
        for test in tests {
            test();
        }
    }
}
