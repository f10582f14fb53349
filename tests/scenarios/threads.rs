//! What the threads of this process do, as the kernel counts it.

use std::path::PathBuf;

/// The threads that have this name now.
fn named(name: &str) -> Vec<PathBuf> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let is_named = |path: &PathBuf| {
        // A thread may end while it is looked at.
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    tasks.filter_map(|task| Some(task.ok()?.path())).filter(is_named).collect()
}

fn the_only(name: &str) -> PathBuf {
    let mut threads = named(name);
    assert_eq!(threads.len(), 1, "threads are called {name}");
    threads.remove(0)
}

/// The system calls by which the only thread of this name has read and written files up to now; 0 where the kernel does not count
/// them (CONFIG_TASK_IO_ACCOUNTING). What an io_uring reads and writes is not among them.
pub fn reads_and_writes(name: &str) -> u64 {
    let counts = std::fs::read_to_string(the_only(name).join("io")).unwrap_or_default();
    let calls = counts
        .lines()
        .filter_map(|line| line.strip_prefix("syscr: ").or_else(|| line.strip_prefix("syscw: ")));
    calls.map(|calls| calls.parse::<u64>().unwrap()).sum()
}

/// How often the only thread of this name has gone to sleep or was pushed aside, and the ticks of processor time that it has
/// used. Both stay as they are while it sleeps.
pub fn activity(name: &str) -> (u64, u64) {
    let thread = the_only(name);
    let status = std::fs::read_to_string(thread.join("status")).unwrap();
    let switches = status.lines().filter_map(|line| line.split_once("ctxt_switches:"));
    let stat = std::fs::read_to_string(thread.join("stat")).unwrap();
    // The fields behind the name; utime and stime are the 14th and 15th of all (proc_pid_stat(5)).
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
    (switches.map(|(_, count)| count.trim().parse::<u64>().unwrap()).sum(), ticks.sum())
}
