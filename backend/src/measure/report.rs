//! What the measurement says, for people and for programs.

use std::io::{self, Write};
use std::time::Duration;

use pvscsi_guestmem::PAGE_SIZE;
use serde_json::json;

/// What one size takes, each the median of its rounds.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Pages of the request.
    pub pages: usize,
    /// One grant copy, into the granted pages.
    pub copy_to_guest: Duration,
    /// One grant copy, out of them.
    pub copy_from_guest: Duration,
    /// Mapping them, a look into each, and unmapping them.
    pub map: Duration,
}

impl Figures {
    fn kib(&self) -> usize {
        self.pages.saturating_mul(PAGE_SIZE / 1024)
    }

    fn mapping_pays(&self) -> bool {
        self.map < self.copy_to_guest.min(self.copy_from_guest)
    }
}

/// Everything.
#[derive(Clone, Debug)]
pub struct Report {
    rounds: u32,
    sizes: Vec<Figures>,
}

impl Report {
    /// A report on these sizes, the smallest first.
    #[must_use]
    pub fn new(rounds: u32, sizes: Vec<Figures>) -> Self {
        Self { rounds, sizes }
    }

    /// The size from which on mapping takes less time than either copy, in KiB.
    #[must_use]
    pub fn mapping_pays_from(&self) -> Option<usize> {
        self.sizes.iter().rev().take_while(|figures| figures.mapping_pays()).last().map(Figures::kib)
    }

    /// Writes it as a table.
    ///
    /// # Errors
    ///
    /// As the writer.
    pub fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        writeln!(
            out,
            "{:>7}{:>19}{:>19}{:>19}",
            "KiB", "copy to guest us", "copy from guest us", "map and unmap us"
        )?;
        for figures in &self.sizes {
            let Figures { copy_to_guest, copy_from_guest, map, .. } = *figures;
            writeln!(
                out,
                "{:>7}{:>19.1}{:>19.1}{:>19.1}",
                figures.kib(),
                micros(copy_to_guest),
                micros(copy_from_guest),
                micros(map)
            )?;
        }
        match self.mapping_pays_from() {
            Some(kib) => writeln!(out, "Mapping takes less time than copying from {kib} KiB on."),
            None => writeln!(out, "Mapping does not pay: copying takes less time, up to the largest size."),
        }
    }

    /// Writes it as one JSON object; times are in nanoseconds.
    ///
    /// # Errors
    ///
    /// As the writer.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let sizes: Vec<_> = self
            .sizes
            .iter()
            .map(|figures| {
                json!({
                    "kib": figures.kib(), "copy_to_guest_ns": nanos(figures.copy_to_guest),
                    "copy_from_guest_ns": nanos(figures.copy_from_guest), "map_ns": nanos(figures.map),
                })
            })
            .collect();
        let all = json!({ "rounds": self.rounds, "sizes": sizes, "mapping_pays_from_kib": self.mapping_pays_from() });
        writeln!(out, "{all:#}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(times: &[(usize, u64, u64, u64)]) -> Report {
        let sizes = times.iter().map(|&(pages, to, from, map)| Figures {
            pages,
            copy_to_guest: Duration::from_nanos(to),
            copy_from_guest: Duration::from_nanos(from),
            map: Duration::from_nanos(map),
        });
        Report::new(200, sizes.collect())
    }

    #[test]
    fn mapping_pays_where_it_beats_both_copies_and_goes_on_to() {
        let pays = |times| report(times).mapping_pays_from();
        assert_eq!(pays(&[(1, 10, 10, 30), (4, 20, 20, 30)]), None);
        assert_eq!(pays(&[(1, 10, 10, 30), (4, 50, 40, 30), (16, 90, 95, 60)]), Some(16));
        assert_eq!(pays(&[(1, 40, 40, 30), (4, 50, 40, 45), (127, 90, 95, 60)]), Some(508));
        assert_eq!(pays(&[(1, 40, 40, 30)]), Some(4));
        assert_eq!(pays(&[(1, 30, 40, 30)]), None, "a draw is no gain");
    }

    #[test]
    fn people_see_microseconds_and_programs_nanoseconds() {
        let report = report(&[(1, 3100, 2950, 9040), (127, 101_000, 99_000, 95_500)]);
        let (mut table, mut json) = (Vec::new(), Vec::new());
        report.write_table(&mut table).unwrap();
        report.write_json(&mut json).unwrap();
        let table = String::from_utf8(table).unwrap();
        let words: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1], ["4", "3.1", "3.0", "9.0"]);
        assert_eq!(words[2], ["508", "101.0", "99.0", "95.5"]);
        assert!(table.ends_with("from 508 KiB on.\n"), "{table}");
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["mapping_pays_from_kib"], 508);
        assert_eq!(json["sizes"][0]["copy_from_guest_ns"], 2950);
        assert_eq!(json["sizes"][1]["map_ns"], 95_500);
    }
}
