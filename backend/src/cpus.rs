//! The CPUs that workers run on, where an administrator names them (`serve --cpus`).

use std::collections::BTreeSet;
use std::io;
use std::iter::StepBy;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::interrupt::in_thread;

/// CPUs by their numbers, written as taskset takes them (`taskset --cpu-list`): `2-5,7`, or `0-6:2` for every second one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(BTreeSet<usize>);

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut cpus = BTreeSet::new();
        for part in text.split(',') {
            let range = range(part).ok_or_else(|| {
                let most = CpuSet::count().saturating_sub(1);
                format!(
                    "{part:?} is neither a CPU nor a range; write numbers from 0 to {most} as in 2-5,7 or 0-6:2"
                )
            })?;
            cpus.extend(range);
        }
        Ok(Self(cpus))
    }
}

/// `N`, `N-M` or `N-M:STEP`.
fn range(part: &str) -> Option<StepBy<RangeInclusive<usize>>> {
    let number =
        |text: &str| text.parse::<usize>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let (first, last, step) = match part.split_once('-') {
        None => (part, part, "1"),
        Some((first, rest)) => {
            let (last, step) = rest.split_once(':').unwrap_or((rest, "1"));
            (first, last, step)
        }
    };
    let (first, last, step) = (number(first)?, number(last)?, number(step)?);
    (first <= last && last < CpuSet::count() && step > 0).then(|| (first..=last).step_by(step))
}

/// Why workers cannot run on the CPUs of a list.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// One is of no use.
    #[error(
        "--cpus: nothing can run on CPU {cpu} ({source}): it is not there, is offline, or this process may not have it; \
         /sys/devices/system/cpu/online says which there are"
    )]
    Unusable {
        /// The first of them.
        cpu: usize,
        /// What the system said.
        source: io::Error,
    },
    /// They cannot be tried.
    #[error("--cpus: no thread to try them: {0}")]
    Untried(#[from] io::Error),
}

/// The CPUs for the workers of a process. None at all: the kernel chooses.
#[derive(Debug, Default)]
pub struct Cpus(Vec<Cpu>);

/// A CPU for one thread. Each clone is a worker that has it.
#[derive(Clone, Debug)]
pub struct Cpu(Arc<usize>);

impl Cpus {
    /// Takes up a list, once a thread has been on each of its CPUs.
    ///
    /// # Errors
    ///
    /// The first CPU where none can be; when there is no thread left to try.
    pub fn new(list: &CpuList) -> Result<Self, CpuError> {
        let cpus = Self::untried(list);
        let tried = in_thread("xen-pvscsi", || {
            let refused =
                |cpu: &Cpu| Some(CpuError::Unusable { cpu: cpu.number(), source: cpu.pin().err()? });
            Ok(cpus.0.iter().find_map(refused))
        })?;
        tried.map_or(Ok(cpus), Err)
    }

    fn untried(list: &CpuList) -> Self {
        Self(list.0.iter().map(|cpu| Cpu(Arc::new(*cpu))).collect())
    }

    /// One of those with the fewest workers.
    #[must_use]
    pub fn take(&self) -> Option<Cpu> {
        self.0.iter().min_by_key(|cpu| Arc::strong_count(&cpu.0)).cloned()
    }
}

impl Cpu {
    /// Its number.
    #[must_use]
    pub fn number(&self) -> usize {
        *self.0
    }

    /// Keeps the calling thread on this CPU.
    ///
    /// # Errors
    ///
    /// What sched_setaffinity(2) says: the CPU is offline, or not one of the process's control group.
    pub fn pin(&self) -> io::Result<()> {
        let mut only = CpuSet::new();
        only.set(self.number())?;
        Ok(sched_setaffinity(Pid::from_raw(0), &only)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<Vec<usize>, String> {
        text.parse().map(|CpuList(cpus)| cpus.into_iter().collect())
    }

    #[test]
    fn lists_are_those_of_taskset() {
        assert_eq!(list("3"), Ok(vec![3]));
        assert_eq!(list("2-5,7"), Ok(vec![2, 3, 4, 5, 7]));
        assert_eq!(list("7,1,0-2,1"), Ok(vec![0, 1, 2, 7]), "each once");
        assert_eq!(list("0-7:3,9"), Ok(vec![0, 3, 6, 9]));
        assert_eq!(list("1023"), Ok(vec![1023]));
        for wrong in
            ["", ",", "1,", "1-", "-1", "5-2", "x", "0x1", "+1", " 1", "1 ", "1-2-3", "0-4:0", "1:2", "1024"]
        {
            let said = list(wrong).unwrap_err();
            assert!(said.contains("2-5,7") && said.contains("1023"), "{wrong:?}: {said}");
        }
        assert!(list("0-4000000000").is_err() && list("99999999999999999999").is_err());
    }

    #[test]
    fn workers_take_turns() {
        let cpus = Cpus::untried(&"4-6".parse().unwrap());
        let mut taken: Vec<_> = std::iter::repeat_with(|| cpus.take().unwrap()).take(7).collect();
        assert_eq!(taken.iter().map(Cpu::number).collect::<Vec<_>>(), [4, 5, 6, 4, 5, 6, 4]);
        taken.remove(2);
        taken.remove(4);
        assert_eq!(cpus.take().unwrap().number(), 6, "it has no worker now");
        assert!(Cpus::default().take().is_none());
    }

    fn allowed() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        allowed.unwrap().trim().to_owned()
    }

    #[test]
    fn a_thread_stays_where_it_is_pinned() {
        let before = allowed();
        let cpus = Cpus::new(&before.parse().unwrap()).unwrap();
        assert_eq!(allowed(), before, "trying has pinned another thread");
        let cpu = cpus.0.last().unwrap().clone();
        let pinned = std::thread::spawn(move || (cpu.number(), cpu.pin().map(|()| allowed())));
        let (number, after) = pinned.join().unwrap();
        assert_eq!(after.unwrap(), number.to_string());
    }

    #[test]
    fn a_cpu_that_is_not_there_is_named() {
        let said = Cpus::new(&"0-1023".parse().unwrap()).unwrap_err().to_string();
        assert!(said.starts_with("--cpus: nothing can run on CPU "), "{said}");
    }
}
