//! Any list of things that a guest can do, against the real worker.

mod against_worker;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};
use pvscsi_sim::hostile::{ACTION_BYTES, Action};

use crate::vhost::KINDS;
use against_worker::{log_lines, run};

/// Lists that were found to fail are tried first, from then on.
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/actions.regressions");
/// About ten seconds in a debug build.
const CASES: u32 = 1000;

fn actions() -> impl Strategy<Value = Vec<Action>> {
    vec(any::<[u8; ACTION_BYTES]>().prop_map(Action::from_bytes), 0..200)
}

#[test]
fn no_list_of_actions_harms_the_worker() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let config = Config {
        cases: CASES,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let before = descriptors();
    // Rings that start far from the wrap, and just before it.
    let start_index = (0..64_u32).prop_map(|below| if below < 32 { 0 } else { 0_u32.wrapping_sub(below) });
    let lists = (0..KINDS.len(), start_index, actions());
    let ran = TestRunner::new(config).run(&lists, |(kind, start_index, actions)| {
        run(KINDS[kind], start_index, &actions);
        Ok::<(), TestCaseError>(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
    // Other scenarios run beside this one and have descriptors too; a leak in each list would be more than they have.
    let after = descriptors();
    assert!(after < before + 200, "{before} descriptors before, {after} after");
    assert!(
        log_lines() > 0,
        "the worker refuses requests and says so; its limit is checked where lines are counted"
    );
}
