//! The whole worker over the simulated Xen and a disk in memory, with a guest that keeps a number of commands under way.
//!
//! An iteration is one command: its answer is taken, and the next one sent. The guest's thread and the wake-ups of both sides are
//! in it, and Xen is not: these figures compare versions of this program, and nothing else.

use std::fmt;
use std::time::Duration;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use pvscsi_backend::demo::SimVhost;
use pvscsi_backend::limits::TimeLimits;
use pvscsi_ring::Nexus;
use pvscsi_ring::vscsiif::{DIRECTION_FROM_DEVICE, DIRECTION_TO_DEVICE};
use pvscsi_sg::ReactorKind;
use pvscsi_sg::disk::{DEFAULT_MAX_TRANSFER, DiskIdentity, EmulatedDisk, Medium};
use pvscsi_sim::frontend::{self, GuestBuffer, ScsiCall};

fn main() {
    divan::main();
}

const READ_10: u8 = 0x28;
const WRITE_10: u8 = 0x2a;

/// Blocks of the disk: 64 MiB.
const DISK_BLOCKS: u32 = 1 << 17;

#[derive(Clone, Copy)]
struct Job {
    name: &'static str,
    opcode: u8,
    blocks: u16,
    depth: usize,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

const JOBS: [Job; 4] = [
    Job { name: "read 4k, depth 1", opcode: READ_10, blocks: 8, depth: 1 },
    Job { name: "read 4k, depth 10", opcode: READ_10, blocks: 8, depth: 10 },
    Job { name: "read 64k, depth 4", opcode: READ_10, blocks: 128, depth: 4 },
    Job { name: "write 508k, depth 4", opcode: WRITE_10, blocks: 1016, depth: 4 },
];

/// A guest that keeps `depth` commands of a job under way.
struct Guest {
    vhost: SimVhost,
    job: Job,
    lba: u32,
}

impl Guest {
    fn start(job: Job) -> Self {
        let medium = Medium::ram(u64::from(DISK_BLOCKS) * 512).expect("memory for a disk");
        let disk = EmulatedDisk::new(medium, DiskIdentity::from_name("bench"), DEFAULT_MAX_TRANSFER);
        let nexus = Nexus { channel: 0, id: 0, lun: 0 };
        let vhost =
            SimVhost::start(ReactorKind::Auto, 0, vec![(nexus, Box::new(disk))], TimeLimits::default())
                .expect("a worker");
        let mut guest = Self { vhost, job, lba: 0 };
        for _ in 0..job.depth {
            guest.send(GuestBuffer::contiguous(0, usize::from(job.blocks) * 512));
        }
        guest
    }

    fn send(&mut self, buffer: GuestBuffer) {
        let Job { opcode, blocks, .. } = self.job;
        let [a, b, c, d] = self.lba.to_be_bytes();
        let [m, n] = blocks.to_be_bytes();
        self.lba = (self.lba + u32::from(blocks)) % (DISK_BLOCKS - 1016);
        let call = ScsiCall {
            nexus: frontend::Nexus::default(),
            cdb: vec![opcode, 0, a, b, c, d, 0, m, n, 0],
            direction: if opcode == READ_10 { DIRECTION_FROM_DEVICE } else { DIRECTION_TO_DEVICE },
            buffer,
            timeout_s: 30,
        };
        self.vhost.frontend.submit(call).expect("room on the ring");
    }

    /// Waits for an answer, and gives its buffer.
    fn receive(&mut self) -> GuestBuffer {
        let reply = self.vhost.frontend.wait_reply(Duration::from_secs(10)).expect("an answer");
        assert_eq!((reply.rslt, reply.residual), (0, 0));
        reply.data
    }

    fn stop(mut self) {
        for _ in 0..self.job.depth {
            self.receive();
        }
        self.vhost.stop().expect("a worker that ends well");
    }
}

#[divan::bench(args = JOBS, sample_count = 50, sample_size = 200)]
fn command(bencher: Bencher<'_, '_>, job: Job) {
    let mut guest = Guest::start(job);
    let bytes = u32::from(job.blocks) * 512;
    bencher.counter(ItemsCount::new(1_u32)).counter(BytesCount::new(bytes)).bench_local(|| {
        let buffer = guest.receive();
        guest.send(buffer);
    });
    guest.stop();
}
