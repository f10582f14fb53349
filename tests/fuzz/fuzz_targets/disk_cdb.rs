//! Any commands to an emulated disk: each completes once, at once, keeps within its buffer, and moves no byte that it does
//! not account for.
#![no_main]

use std::cell::RefCell;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use pvscsi_guestmem::BufferPool;
use pvscsi_sg::disk::{DiskIdentity, EmulatedDisk, Medium};
use pvscsi_sg::{Cdb, Command, DataDirection, HostStatus, LogicalUnit, SamStatus, Tag};

const BLOCKS: u64 = 64;
/// What stands behind an answer must be what stood there before.
const STALE: u8 = 0xa5;

#[derive(Arbitrary, Debug)]
struct Input {
    cdb: [u8; 16],
    cdb_len: u8,
    direction: u8,
    /// 0: no buffer.
    room: u16,
    /// The start of the buffer; the rest is stale.
    data: Vec<u8>,
}

thread_local! {
    static POOL: RefCell<BufferPool> = RefCell::new(BufferPool::new(1).expect("memory"));
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(inputs) = Vec::<Input>::arbitrary(&mut Unstructured::new(bytes)) else { return };
    let medium = Medium::ram(BLOCKS * 512).expect("memory");
    let mut disk = EmulatedDisk::new(medium, DiskIdentity::from_name("fuzz"), 32 * 512);
    POOL.with_borrow_mut(|pool| inputs.iter().for_each(|input| run(&mut disk, pool, input)));
});

fn run(disk: &mut EmulatedDisk, pool: &mut BufferPool, input: &Input) {
    let cdb = Cdb::new(input.cdb, input.cdb_len % 17).expect("at most 16");
    let direction = [
        DataDirection::None,
        DataDirection::ToDevice,
        DataDirection::FromDevice,
        DataDirection::Bidirectional,
    ][usize::from(input.direction % 4)];
    let room = usize::from(input.room % 20_000);
    let mut before = vec![STALE; room];
    before.iter_mut().zip(&input.data).for_each(|(to, from)| *to = *from);
    let buffer = (room > 0).then(|| {
        let mut buffer = pool.take(0, room).expect("it came back");
        buffer.as_mut_slice().copy_from_slice(&before);
        buffer
    });
    let tag = Tag(7);
    let mut done = Vec::new();
    disk.submit(Command { tag, cdb, direction, buffer, timeout: Duration::from_secs(1) }, &mut done);
    let completion = done.pop().expect("a completion");
    assert!(done.is_empty() && completion.tag == tag, "one completion");
    let outcome = completion.outcome;
    assert_eq!(outcome.host, HostStatus::OK);
    let well = matches!(outcome.status, SamStatus::GOOD | SamStatus::CONDITION_MET);
    assert_eq!(outcome.sense.key_asc_ascq().is_none(), well, "sense with CHECK CONDITION, and only then");
    let residual = outcome.residual as usize;
    assert!(residual <= room, "{residual} of {room} bytes left over");
    let Some(buffer) = completion.buffer else { return assert_eq!(room, 0, "the buffer comes back") };
    let after = buffer.as_slice();
    assert_eq!(after.len(), room);
    let answer = if direction == DataDirection::ToDevice { 0 } else { room - residual };
    assert_eq!(after[answer..], before[answer..], "nothing behind the answer to {cdb:02x?}");
    pool.give_back(buffer);
}
