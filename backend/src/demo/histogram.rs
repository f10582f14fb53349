//! Latencies in bounded memory.
//!
//! Forty lines of our own instead of a crate: hdrhistogram brings parsers and a file format that nothing here reads.

use std::time::Duration;

/// Buckets in each power of two: a value is known to within a 128th.
const PARTS: u64 = 128;

/// Counts of durations, in nanoseconds. Count, mean and maximum are exact.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum: u128,
    max: u64,
}

/// Values below 256 have a bucket each; from there on each power of two has 128.
fn bucket_of(value: u64) -> usize {
    let shift = (value | 1).ilog2().saturating_sub(PARTS.ilog2());
    let bucket = u64::from(shift).saturating_mul(PARTS).saturating_add(value >> shift);
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn end_of(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    let shift = (bucket / PARTS).saturating_sub(1);
    let start = bucket.saturating_sub(shift.saturating_mul(PARTS));
    u64::try_from((u128::from(start).saturating_add(1) << shift).saturating_sub(1)).unwrap_or(u64::MAX)
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, took: Duration) {
        let value = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket_of(value);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket.saturating_add(1), 0);
        }
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.saturating_add(value.into());
        self.max = self.max.max(value);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; 0 of none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let mean = self.sum.checked_div(self.count.into()).unwrap_or(0);
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The largest; 0 of none.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The duration that `per_mille` of 1000 do not exceed, too large by a 128th at most.
    #[must_use]
    pub fn quantile(&self, per_mille: u64) -> Duration {
        let rank = self.count.saturating_mul(per_mille).div_ceil(1000).max(1);
        let mut seen = 0_u64;
        let bucket = self.buckets.iter().position(|count| {
            seen = seen.saturating_add(*count);
            seen >= rank
        });
        Duration::from_nanos(bucket.map_or(0, end_of).min(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_buckets_follow_one_another() {
        let mut last = 0;
        for exponent in 0..64 {
            for value in [(1_u64 << exponent) - 1, 1 << exponent, (1 << exponent) + (1 << exponent >> 1)] {
                let bucket = bucket_of(value);
                assert!(bucket >= last, "{value}");
                last = bucket;
                let end = end_of(bucket);
                assert!(value <= end && end - value <= value / PARTS, "{value} in a bucket up to {end}");
                assert!(bucket == 0 || end_of(bucket - 1) < value, "{value} is above the bucket before");
            }
        }
        assert_eq!(end_of(bucket_of(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_of_one_to_a_thousand() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.quantile(500), histogram.mean()), (Duration::ZERO, Duration::ZERO));
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (per_mille, exact) in [(500, 500), (990, 990), (999, 999), (1000, 1000)] {
            let got = histogram.quantile(per_mille).as_nanos();
            let exact = exact * 1000;
            assert!(got >= exact && got <= exact + exact / 128, "{per_mille}: {got}");
        }
        assert_eq!(histogram.mean(), Duration::from_nanos(500_500));
        assert_eq!((histogram.max(), histogram.count()), (Duration::from_millis(1), 1000));
    }
}
