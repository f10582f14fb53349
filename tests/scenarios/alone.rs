//! Tests of what belongs to a process: each runs in one of its own.

use std::process::Command;

const ALONE: &str = "PVSCSI_TEST_ALONE";

/// Runs `body` in a process in which no other test runs, as the test of this name, and shows what that printed.
pub fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let this = std::env::current_exe().unwrap();
    let run = Command::new(this).args(["--exact", test, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && said.contains("1 passed"), "{said}\n{complained}");
    said.lines().filter(|line| line.starts_with("figures: ")).for_each(|line| println!("{line}"));
}

/// Entries of a directory: `/proc/self/fd` or `/proc/self/task`.
pub fn count(directory: &str) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// Memory of this process, in KiB.
pub fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
