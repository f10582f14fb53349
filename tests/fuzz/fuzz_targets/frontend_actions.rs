//! A hostile guest against the worker: each eight bytes are one of its actions.
#![no_main]

#[path = "../../scenarios/actions/against_worker.rs"]
#[expect(dead_code, reason = "the property test counts lines, too")]
mod against_worker;
#[path = "../../scenarios/scripted_lun.rs"]
#[expect(dead_code, reason = "scenarios use more of it")]
mod scripted_lun;

use std::time::{Duration, Instant};

use libfuzzer_sys::{Corpus, fuzz_target};
use pvscsi_sg::ReactorKind;
use pvscsi_sim::hostile::Action;

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some((how, actions)) = bytes.split_first() else { return Corpus::Reject };
    let kind = if how & 1 == 0 { ReactorKind::Poll } else { ReactorKind::Auto };
    let start_index = if how & 2 == 0 { 0 } else { 0_u32.wrapping_sub(u32::from(how >> 2)) };
    let actions: Vec<_> = actions.as_chunks().0.iter().map(|action| Action::from_bytes(*action)).collect();
    against_worker::run(kind, start_index, &actions);
    // A reset has a thread of its own, with a bell to ring, which may end a moment after the worker.
    let end = Instant::now() + Duration::from_secs(10);
    while descriptors() > 0 {
        assert!(Instant::now() < end, "descriptors left open: {}", descriptors());
        std::thread::yield_now();
    }
    Corpus::Keep
});

/// Open descriptors of the kinds that a worker and its devices have: eventfd, epoll, io_uring, memory. The fuzzer itself has pipes and files.
fn descriptors() -> usize {
    let open = std::fs::read_dir("/proc/self/fd").expect("proc");
    open.flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter(|link| ["anon_inode:", "/memfd:"].iter().any(|kind| link.to_string_lossy().starts_with(kind)))
        .count()
}
