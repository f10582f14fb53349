//! What only a disk with io_uring and a thread can do wrong: order, many at once, the end. That it reads and writes as the disk
//! itself does, the other tests show.

use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use pvscsi_guestmem::BufferPool;

use super::medium::Scratch;
use crate::disk::{DEFAULT_MAX_TRANSFER, DiskIdentity, EmulatedDisk, FileDisk, Medium};
use crate::logical_unit::{Command, Completion, LogicalUnit, Tag};
use crate::reactor::{Reactor, ReactorKind};
use crate::scsi::{Cdb, DataDirection, Outcome, SamStatus};

const KINDS: [ReactorKind; 2] = [ReactorKind::Auto, ReactorKind::Poll];
const OWNER: u32 = 7;
const TEST_UNIT_READY: [u8; 10] = [0; 10];
const SYNCHRONIZE_CACHE: [u8; 10] = [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn read(lba: u8, count: u8) -> [u8; 10] {
    [0x28, 0, 0, 0, 0, lba, 0, 0, count, 0]
}

fn write(lba: u8, count: u8) -> [u8; 10] {
    [0x2a, 0, 0, 0, 0, lba, 0, 0, count, 0]
}

fn compare_and_write(lba: u8) -> [u8; 16] {
    [0x89, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, 1, 0, 0]
}

struct Bench {
    disk: FileDisk,
    reactor: Reactor,
    pool: BufferPool,
    done: Vec<Completion>,
}

impl Bench {
    fn new(medium: Medium, kind: ReactorKind) -> Self {
        let disk = EmulatedDisk::new(medium, DiskIdentity::from_name("x"), DEFAULT_MAX_TRANSFER);
        let mut disk = FileDisk::new(disk).unwrap();
        disk.attach(OWNER);
        let (reactor, pool) = (Reactor::new(kind).unwrap(), BufferPool::new(80).unwrap());
        Self { disk, reactor, pool, done: Vec::new() }
    }

    fn submit(&mut self, tag: u32, cdb: &[u8], direction: DataDirection, data: &[u8]) {
        let buffer = (!data.is_empty()).then(|| {
            let mut buffer = self.pool.take(0, data.len()).unwrap();
            buffer.as_mut_slice().copy_from_slice(data);
            buffer
        });
        let cdb = Cdb::from_bytes(cdb);
        let command = Command { tag: Tag(tag), cdb, direction, buffer, timeout: Duration::from_secs(1) };
        self.disk.submit(command, &mut self.done);
    }

    fn data_in(&mut self, tag: u32, cdb: &[u8], room: usize) {
        self.submit(tag, cdb, DataDirection::FromDevice, &vec![0xee; room]);
    }

    fn data_out(&mut self, tag: u32, cdb: &[u8], data: &[u8]) {
        self.submit(tag, cdb, DataDirection::ToDevice, data);
    }

    fn none(&mut self, tag: u32, cdb: &[u8]) {
        self.submit(tag, cdb, DataDirection::None, &[]);
    }

    fn turn(&mut self, timeout: Option<Duration>) {
        let mut events = Vec::new();
        self.disk.flush(&mut self.reactor);
        self.reactor.wait(timeout, &mut events).unwrap();
        for event in events {
            self.disk.on_event(event, &mut self.reactor, &mut self.done);
        }
    }

    /// Waits for so many answers that are GOOD; their tags in order, and their data.
    fn good(&mut self, count: usize) -> Vec<(u32, Vec<u8>)> {
        while self.done.len() < count {
            self.turn(None);
        }
        assert_eq!(self.done.len(), count);
        let mut answers = Vec::new();
        for Completion { tag, outcome, buffer } in self.done.drain(..) {
            assert_eq!(outcome, Outcome::good(0), "{tag:?}");
            let data = buffer.map(|buffer| {
                let data = buffer.as_slice().to_vec();
                self.pool.give_back(buffer);
                data
            });
            answers.push((tag.0, data.unwrap_or_default()));
        }
        answers
    }

    fn tags(&mut self, count: usize) -> Vec<u32> {
        self.good(count).into_iter().map(|(tag, _)| tag).collect()
    }

    /// A while in which nothing is answered.
    fn silence(&mut self) {
        for _ in 0..3 {
            self.turn(Some(Duration::from_millis(10)));
        }
        assert!(self.done.is_empty(), "{:?}", self.done);
    }
}

/// Is read when somebody has written, wherever it is read: a medium that takes its time. `None`: there is no io_uring here.
fn slow_reads() -> Option<(Bench, PipeWriter)> {
    let (reader, writer) = std::io::pipe().unwrap();
    Some((over(reader.into())?, writer))
}

fn slow_writes() -> Option<(Bench, PipeReader)> {
    let (reader, writer) = std::io::pipe().unwrap();
    Some((over(writer.into())?, reader))
}

fn over(pipe: OwnedFd) -> Option<Bench> {
    Reactor::new(ReactorKind::IoUring).ok()?;
    Some(Bench::new(Medium::over(pipe.into(), 1 << 20, false).unwrap(), ReactorKind::IoUring))
}

#[test]
fn sixty_four_at_once() {
    for kind in KINDS {
        let mut bench = Bench::new(Medium::ram(1 << 20).unwrap(), kind);
        for lba in 0..64 {
            bench.data_out(lba.into(), &write(lba, 1), &[lba; 512]);
        }
        bench.none(64, &TEST_UNIT_READY);
        let full = bench.done.pop().unwrap();
        assert_eq!((full.tag, full.outcome.status), (Tag(64), SamStatus::TASK_SET_FULL));
        let mut tags = bench.tags(64);
        tags.sort_unstable();
        assert!(tags.into_iter().eq(0..64), "{kind:?}");
        for lba in 0..64 {
            bench.data_in(lba.into(), &read(lba, 1), 512);
        }
        for (tag, data) in bench.good(64) {
            assert_eq!(data, [tag as u8; 512], "{kind:?}");
        }
    }
}

#[test]
fn other_commands_wait_for_transfers_before_them_and_are_waited_for() {
    let Some((mut bench, mut medium)) = slow_reads() else { return };
    bench.data_in(1, &read(0, 1), 512);
    bench.none(2, &TEST_UNIT_READY);
    bench.none(3, &TEST_UNIT_READY);
    bench.data_in(4, &read(1, 1), 512);
    bench.silence();
    medium.write_all(&[1; 512]).unwrap();
    assert_eq!(bench.good(3), [(1, vec![1; 512]), (2, vec![]), (3, vec![])]);
    bench.silence();
    medium.write_all(&[2; 512]).unwrap();
    assert_eq!(bench.good(1), [(4, vec![2; 512])]);
}

/// The thread is held up by a lock on the blocks that COMPARE AND WRITE wants.
#[test]
fn transfers_wait_for_commands_before_them() {
    for kind in KINDS {
        let file = Scratch::file(&[0; 64 * 512]);
        let other = Medium::open_file(file.path(), false).unwrap();
        let mut bench = Bench::new(Medium::open_file(file.path(), false).unwrap(), kind);
        let locked = other.lock(512, 512).unwrap();
        bench.data_out(1, &write(1, 1), &[1; 512]);
        bench.none(2, &SYNCHRONIZE_CACHE);
        assert_eq!(bench.tags(2), [1, 2], "{kind:?}");
        bench.data_out(3, &compare_and_write(1), &[[1; 512], [2; 512]].concat());
        bench.data_in(4, &read(1, 1), 512);
        bench.data_out(5, &write(2, 1), &[3; 512]);
        bench.silence();
        drop(locked);
        let mut answers = bench.good(3);
        answers.sort();
        assert_eq!(answers[1], (4, vec![2; 512]), "{kind:?}");
    }
}

#[test]
fn short_transfers_go_on() {
    let Some((mut bench, mut medium)) = slow_reads() else { return };
    bench.data_in(1, &read(0, 2), 1024);
    for part in [1..=100_u8, 101..=255, 1..=3] {
        bench.silence();
        medium.write_all(&part.collect::<Vec<_>>()).unwrap();
    }
    bench.silence();
    medium.write_all(&[9; 1024 - 258]).unwrap();
    let data: Vec<u8> = (1..=255).chain(1..=3).chain([9; 1024 - 258]).collect();
    assert_eq!(bench.good(1), [(1, data)]);

    // A pipe holds 64 KiB.
    let Some((mut bench, mut medium)) = slow_writes() else { return };
    let data: Vec<u8> = (0..255 * 512).map(|i| (i / 512) as u8).collect();
    bench.data_out(1, &write(0, 255), &data);
    bench.silence();
    let reader = std::thread::spawn(move || {
        let mut read = vec![0; 255 * 512];
        medium.read_exact(&mut read).unwrap();
        read
    });
    assert_eq!(bench.tags(1), [1]);
    assert!(reader.join().unwrap() == data, "nothing twice, nothing left out");
}

/// The end of the file comes within a transfer: the thread finds the same, and what came after it still waits.
#[test]
fn a_transfer_that_fails_is_told_by_the_disk_and_keeps_its_place() {
    let Some((mut bench, mut medium)) = slow_reads() else { return };
    bench.data_in(1, &read(3, 1), 512);
    bench.none(2, &TEST_UNIT_READY);
    medium.write_all(&[1; 100]).unwrap();
    bench.silence();
    drop(medium);
    while bench.done.len() < 2 {
        bench.turn(None);
    }
    let told: Vec<_> = bench.done.iter().map(|c| (c.tag.0, c.outcome.sense.key_asc_ascq())).collect();
    assert_eq!(told, [(1, Some((3, 0x11, 0))), (2, None)]);
    assert_eq!(bench.done[0].outcome.residual, 512);
}

#[test]
fn a_disk_that_goes_leaves_its_memory_and_its_file_to_the_kernel() {
    let Some((mut bench, mut medium)) = slow_reads() else { return };
    bench.data_in(1, &read(0, 1), 512);
    bench.none(2, &TEST_UNIT_READY);
    bench.silence();
    let Bench { disk, mut reactor, pool, .. } = bench;
    drop((disk, pool));
    medium.write_all(&[1; 512]).unwrap();
    let mut events = Vec::new();
    while events.is_empty() {
        reactor.wait(None, &mut events).unwrap();
    }
    assert_eq!(events[0].result, 512, "it was read after the disk was gone");
    assert_eq!(medium.write(&[1]).unwrap_err().kind(), ErrorKind::BrokenPipe, "and then the file was closed");
}

#[test]
fn a_disk_that_goes_with_its_reactor_or_before_its_operations_are_submitted() {
    let Some((mut bench, mut medium)) = slow_reads() else { return };
    bench.data_in(1, &read(0, 1), 512);
    bench.disk.flush(&mut bench.reactor);
    drop(bench.disk);
    bench.reactor.cancel(OWNER);
    let mut events = Vec::new();
    while medium.write(&[1]).is_ok() {
        bench.reactor.wait(Some(Duration::from_millis(1)), &mut events).unwrap();
    }
    assert!(events.is_empty(), "nobody is told");
    let Some((mut bench, mut medium)) = slow_reads() else { return };
    bench.data_in(1, &read(0, 1), 512);
    bench.silence();
    drop(bench);
    assert_eq!(medium.write(&[1]).unwrap_err().kind(), ErrorKind::BrokenPipe);
}
