//! Faults that a test arms in advance: "the nth call from now goes wrong".

/// Armed faults of one kind of call. Each hits once.
#[derive(Debug)]
pub(crate) struct Faults<T>(Vec<(u64, T)>);

impl<T> Default for Faults<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Faults<T> {
    /// Lets the `nth` call from now go wrong; 1 is the next one. A second fault for the same call hits the one behind it.
    pub(crate) fn arm(&mut self, nth: u64, what: T) {
        assert!(nth > 0, "calls are counted from 1");
        self.0.push((nth, what));
    }

    /// Counts a call; what goes wrong with it, if anything does.
    pub(crate) fn next(&mut self) -> Option<T> {
        for (calls_left, _) in &mut self.0 {
            *calls_left = calls_left.saturating_sub(1);
        }
        let due = self.0.iter().position(|(calls_left, _)| *calls_left == 0)?;
        Some(self.0.remove(due).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_hits_its_call_once() {
        let mut faults = Faults::default();
        faults.arm(3, 'c');
        faults.arm(1, 'a');
        faults.arm(3, 'd');
        let hits: Vec<_> = (0..6).map(|_| faults.next()).collect();
        assert_eq!(hits, [Some('a'), None, Some('c'), Some('d'), None, None]);
    }
}
