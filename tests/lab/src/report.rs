//! What a scenario said, against what it had to say.

use std::collections::BTreeMap;
use std::fmt;

/// What a line of a log says when something died: Xen, dom0's kernel, or a guest's.
const CRASHES: &[&str] = &[
    "Panic on CPU",
    "Kernel panic",
    "kernel BUG",
    "BUG:",
    "Oops",
    "Call Trace",
    "Xen call trace",
    "general protection fault",
    "domain_crash",
    "panicked at",
];

/// Whether a line of a log tells of a crash.
pub fn is_crash(line: &str) -> bool {
    CRASHES.iter().any(|sign| line.contains(sign))
}

/// What the lab's own lines say, without their mark.
pub fn lab_line(line: &str) -> Option<&str> {
    line.trim_end().strip_prefix("LAB ")
}

/// Numbers of checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    /// One check more.
    pub fn count(&mut self, passed: bool) {
        if passed { self.passed += 1 } else { self.failed += 1 }
    }

    /// Takes over another's numbers.
    pub fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Nothing failed, and something was checked at all.
    pub fn all_well(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Compares the verdicts in `report` with the names that are expected. Each must have passed exactly once; whatever else
/// was said is a failure. Gives the tally and a line for each failure.
pub fn judge(expected: &[&str], report: &str) -> (Tally, Vec<String>) {
    let mut passes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failures: BTreeMap<&str, String> = BTreeMap::new();
    for line in report.lines().filter_map(lab_line) {
        if let Some(name) = line.strip_prefix("PASS ") {
            *passes.entry(name).or_default() += 1;
        } else if let Some(failure) = line.strip_prefix("FAIL ") {
            let (name, why) = failure.split_once(':').unwrap_or((failure, "no reason given"));
            failures.insert(name, why.trim().to_owned());
        }
    }
    for name in expected {
        match passes.get(name) {
            _ if failures.contains_key(name) => {}
            Some(1) => {}
            Some(times) => drop(failures.insert(name, format!("passed {times} times"))),
            None => drop(failures.insert(name, "never said anything".into())),
        }
    }
    for name in passes.keys().filter(|name| !expected.contains(name)) {
        failures.entry(name).or_insert_with(|| "passed, but nobody expects it".into());
    }
    let mut tally = Tally::default();
    expected.iter().filter(|name| !failures.contains_key(*name)).for_each(|_| tally.count(true));
    failures.keys().for_each(|_| tally.count(false));
    (tally, failures.into_iter().map(|(name, why)| format!("{name}: {why}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(expected: &[&str], report: &str) -> Vec<String> {
        let (tally, failures) = judge(expected, report);
        assert_eq!(tally.failed, failures.len());
        assert_eq!(tally.all_well(), failures.is_empty());
        failures
    }

    #[test]
    fn all_expected_names_once_is_well() {
        assert!(failed(&["a", "b"], "LAB up\nLAB PASS b\r\nnoise\nLAB PASS a\n").is_empty());
    }

    #[test]
    fn everything_else_fails() {
        assert_eq!(failed(&["a"], "LAB FAIL a: broken: badly"), ["a: broken: badly"]);
        assert_eq!(
            failed(&["a"], "LAB PASS a\nLAB FAIL a: later"),
            ["a: later"],
            "a pass does not undo a failure"
        );
        assert_eq!(failed(&["a"], ""), ["a: never said anything"]);
        assert_eq!(failed(&["a"], "LAB PASS a\nLAB PASS a"), ["a: passed 2 times"]);
        assert_eq!(failed(&["a"], "LAB PASS a\nLAB PASS c"), ["c: passed, but nobody expects it"]);
        assert_eq!(failed(&["a"], "LAB PASS a\nLAB FAIL c"), ["c: no reason given"]);
    }

    #[test]
    fn an_empty_list_is_no_success() {
        assert!(!judge(&[], "").0.all_well());
    }

    #[test]
    fn crashes_are_seen_wherever_they_stand() {
        assert!(is_crash("(XEN) Panic on CPU 0:"));
        assert!(is_crash("[    5.1] BUG: unable to handle page fault for address"));
        assert!(!is_crash("LAB PASS a-debugger"));
    }
}
