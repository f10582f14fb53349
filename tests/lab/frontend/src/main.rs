//! A hostile frontend in user space, for a guest of the lab that has no driver of its own. Exit status: 0 the backend held, 1 it
//! did not.

mod list;
mod vhost;
mod xen;

use std::panic;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use pvscsi_ring::vscsiif::VSCSIIF_SG_GRANT;
use pvscsi_sim::hostile::{Action, Backend, Memory, Put};

use vhost::Vhost;

/// Does to a backend what it likes, through real grants and a real event channel.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Ask for data in memory that the backend must not get at, a request for each kind
    Grants,
    /// Run lists of random actions
    Lists {
        /// Where the lists come from
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The number of the first list
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// How long to go on
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

/// The list that runs.
static LIST: AtomicU64 = AtomicU64::new(0);

fn main() {
    let Arguments { verb } = Arguments::parse();
    // What a backend does wrong is a panic.
    panic::set_hook(Box::new(|why| {
        eprintln!("in list {}: {why}", LIST.load(Ordering::Relaxed));
        process::exit(1);
    }));
    let mut vhost = Vhost::find(0);
    match verb {
        Verb::Grants => grants(&mut vhost),
        Verb::Lists { seed, first, seconds } => lists(&mut vhost, seed, first, Duration::from_secs(seconds)),
    }
}

/// `XEN_VSCSIIF_RSLT_HOST_ERROR`, in its place in an answer.
const HOST_ERROR: u8 = 7;

fn grants(vhost: &mut Vhost) {
    let mut guest = vhost.connect();
    let put = |opcode, lun, memory, length| Put {
        opcode,
        operand: 36,
        lun,
        rqid: 3,
        nr_segments: 1,
        memory,
        offset: 0,
        length,
        times: 1,
    };
    let mut refused = 0;
    for (what, memory) in [
        ("read-only", Memory::ReadOnly),
        ("another domain's", Memory::Foreign),
        ("withdrawn", Memory::Second),
        ("never granted", Memory::Number(500)),
        ("behind the table", Memory::Number(1 << 20)),
        ("no grant at all", Memory::Number(u32::MAX)),
    ] {
        let mut backend = Backend { ended: &mut || vhost.ended(), let_go: &mut || () };
        if memory == Memory::Second {
            guest.run(&[Action::Revoke(memory)], &mut backend);
        }
        for lun in [0, 1] {
            let inquiry = put(0x12, lun, memory, 36);
            let write = put(0x2a, lun, memory, 512);
            let list = Put { nr_segments: 1 | VSCSIIF_SG_GRANT, length: 8, ..inquiry };
            // What may be read is good for a write.
            let bad = if memory == Memory::ReadOnly { vec![inquiry] } else { vec![inquiry, write, list] };
            for put in bad {
                let rslt = guest.ask(put, &mut backend);
                assert_eq!(
                    rslt.to_le_bytes()[2],
                    HOST_ERROR,
                    "{rslt:#x} for {put:?} of memory that is {what}"
                );
                refused += 1;
            }
            assert_eq!(
                guest.ask(put(0x12, lun, Memory::First, 36), &mut backend),
                0,
                "and good memory is good"
            );
        }
    }
    let mut backend = Backend { ended: &mut || vhost.ended(), let_go: &mut || () };
    assert_eq!(
        guest.ask(put(0x2a, 0, Memory::ReadOnly, 512), &mut backend),
        0,
        "a write of what may be read"
    );
    vhost.close(guest);
    println!("{refused} requests refused for their memory");
}

fn lists(vhost: &mut Vhost, seed: u64, first: u64, time: Duration) {
    let start = Instant::now();
    let (mut lists, mut actions) = (0, 0);
    let mut guest = vhost.connect();
    while start.elapsed() < time {
        let list = list::list(seed, first + lists);
        LIST.store(first + lists, Ordering::Relaxed);
        actions += guest.run(&list, &mut Backend { ended: &mut || vhost.ended(), let_go: &mut || () });
        lists += 1;
        if !guest.start_over() {
            guest = vhost.reconnect(guest);
        }
    }
    vhost.close(guest);
    let Vhost { rings, given_up, .. } = vhost;
    println!(
        "seed {seed}, from list {first} on: {lists} lists, {actions} actions, {rings} rings, {given_up} given up by the backend"
    );
}
