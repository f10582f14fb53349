//! How long a device may take.

use std::time::Duration;

/// What the guest's own limit is exceeded by: its error handling comes first, and finds the command still running.
const GRACE: Duration = Duration::from_secs(10);

/// The time limit for a command: the guest's own (`timeout_per_command`, in seconds) and ten seconds more, or without one a
/// generous default for the type of device (SPC-5, table 150: 00h disk, 05h CD/DVD, 07h optical, 0Eh simplified disk,
/// 14h zoned disk take a minute; tapes, changers and all else may run for hours).
#[must_use]
pub fn of(timeout_per_command: u16, device_type: u8) -> Duration {
    let default = match device_type {
        0x00 | 0x05 | 0x07 | 0x0e | 0x14 => Duration::from_secs(60),
        _ => Duration::from_secs(4 * 3600),
    };
    match timeout_per_command {
        0 => default,
        seconds => Duration::from_secs(u64::from(seconds)).saturating_add(GRACE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_always_times_out_first() {
        for seconds in [1, 30, 900, u16::MAX] {
            assert!(of(seconds, 0x00) > Duration::from_secs(u64::from(seconds)));
        }
    }

    #[test]
    fn a_tape_may_take_hours() {
        assert_eq!(of(0, 0x01), Duration::from_secs(4 * 3600));
        assert_eq!(of(0, 0x00), Duration::from_secs(60));
    }
}
