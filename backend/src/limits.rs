//! How long a device may take, and how long a frontend.

use std::str::FromStr;
use std::time::Duration;

/// A kind of device that has a time limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceClass {
    /// Disks of all kinds (SPC-5, table 150: 00h, 0Eh, 14h).
    Disk,
    /// CD, DVD and BD (05h), and optical memory (07h).
    Optical,
    /// Tapes (01h).
    Tape,
    /// Medium changers (08h).
    Changer,
    /// All else: enclosures, scanners, controllers.
    Other,
}

impl DeviceClass {
    /// Of a peripheral device type (SPC-5, table 150).
    #[must_use]
    pub fn of(device_type: u8) -> Self {
        match device_type {
            0x00 | 0x0e | 0x14 => Self::Disk,
            0x05 | 0x07 => Self::Optical,
            0x01 => Self::Tape,
            0x08 => Self::Changer,
            _ => Self::Other,
        }
    }
}

/// A time limit that an operator sets: `CLASS=SECONDS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassLimit {
    /// For these devices.
    pub class: DeviceClass,
    /// For each of their commands.
    pub limit: Duration,
}

/// The largest limit that can be set: a week, well within the milliseconds that the sg driver counts in 32 bits.
const MAX_SECONDS: u64 = 7 * 24 * 3600;

impl FromStr for ClassLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((class, seconds)) = text.split_once('=') else {
            return Err("write CLASS=SECONDS, for example tape=7200".into());
        };
        let class = match class {
            "disk" => DeviceClass::Disk,
            "optical" => DeviceClass::Optical,
            "tape" => DeviceClass::Tape,
            "changer" => DeviceClass::Changer,
            "other" => DeviceClass::Other,
            _ => return Err("the classes are disk, optical, tape, changer and other".into()),
        };
        let seconds = seconds.parse().ok().filter(|seconds| (1..=MAX_SECONDS).contains(seconds));
        let Some(seconds) = seconds else {
            return Err(format!("the seconds are a number from 1 to {MAX_SECONDS}"));
        };
        Ok(Self { class, limit: Duration::from_secs(seconds) })
    }
}

/// The time limits of a vhost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
    /// For a command to a disk for which the guest has no limit of its own.
    pub disk: Duration,
    /// To a CD, DVD or BD drive.
    pub optical: Duration,
    /// To a tape.
    pub tape: Duration,
    /// To a medium changer.
    pub changer: Duration,
    /// To anything else.
    pub other: Duration,
    /// What the guest's own limit is exceeded by: its error handling comes first, and finds the command still running.
    pub grace: Duration,
    /// How much longer than its limit a command may be with the driver, which should have given it up, before its guest is
    /// answered without it.
    pub overdue: Duration,
    /// How long our state stays at 2 at least. Toolstacks wait for exactly that, and look only when they hear of a change: one that
    /// finds a 4 already goes on waiting.
    pub announced: Duration,
    /// How long a worker looks at its ring before it goes to sleep, at most; zero: not at all.
    pub polling: Duration,
    /// How long a frontend may take to follow a 7 or a 5 of the toolstack's. It empties its caches first, so this is longer than a
    /// slow SYNCHRONIZE CACHE.
    pub frontend: Duration,
}

impl Default for TimeLimits {
    /// A minute for disks and what is like them; tapes, changers and all else may run for hours.
    fn default() -> Self {
        let (minute, hours) = (Duration::from_secs(60), Duration::from_secs(4 * 3600));
        Self {
            disk: minute,
            optical: minute,
            tape: hours,
            changer: hours,
            other: hours,
            grace: Duration::from_secs(10),
            overdue: Duration::from_secs(10),
            announced: Duration::from_millis(200),
            polling: Duration::from_micros(200),
            frontend: Duration::from_secs(60),
        }
    }
}

impl TimeLimits {
    /// Changes the limit of one class.
    pub fn set(&mut self, ClassLimit { class, limit }: ClassLimit) {
        *match class {
            DeviceClass::Disk => &mut self.disk,
            DeviceClass::Optical => &mut self.optical,
            DeviceClass::Tape => &mut self.tape,
            DeviceClass::Changer => &mut self.changer,
            DeviceClass::Other => &mut self.other,
        } = limit;
    }

    /// The time limit for a command: the guest's own (`timeout_per_command`, in seconds) and the grace; without one, the limit
    /// of the class. The device's driver gives up a command that takes longer.
    #[must_use]
    pub fn of(&self, timeout_per_command: u16, device_type: u8) -> Duration {
        match timeout_per_command {
            0 => match DeviceClass::of(device_type) {
                DeviceClass::Disk => self.disk,
                DeviceClass::Optical => self.optical,
                DeviceClass::Tape => self.tape,
                DeviceClass::Changer => self.changer,
                DeviceClass::Other => self.other,
            },
            seconds => Duration::from_secs(u64::from(seconds)).saturating_add(self.grace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_always_times_out_first() {
        let mut limits = TimeLimits::default();
        limits.set("disk=1".parse().unwrap());
        for seconds in [1, 30, 900, u16::MAX] {
            assert!(limits.of(seconds, 0x00) > Duration::from_secs(u64::from(seconds)));
        }
    }

    #[test]
    fn a_tape_may_take_hours() {
        assert_eq!(TimeLimits::default().of(0, 0x01), Duration::from_secs(4 * 3600));
        assert_eq!(TimeLimits::default().of(0, 0x00), Duration::from_secs(60));
    }

    #[test]
    fn each_class_has_a_limit_that_can_be_set() {
        for (class, types) in [
            ("disk", &[0x00, 0x0e, 0x14][..]),
            ("optical", &[0x05, 0x07]),
            ("tape", &[0x01]),
            ("changer", &[0x08]),
            ("other", &[0x02, 0x03, 0x04, 0x06, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0f, 0x10, 0x11, 0x12, 0x13]),
        ] {
            let mut limits = TimeLimits::default();
            limits.set(format!("{class}=77").parse().unwrap());
            for device_type in 0..0x15 {
                let expected = types.contains(&device_type);
                let is_77 = limits.of(0, device_type) == Duration::from_secs(77);
                assert_eq!(is_77, expected, "{class}, type {device_type:#x}");
            }
        }
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for bad in ["", "disk", "disk=", "disk=0", "disk=-1", "disk=1.5", "disk=604801", "floppy=3", "=3"] {
            assert!(bad.parse::<ClassLimit>().is_err(), "{bad:?}");
        }
        let week = "tape=604800".parse::<ClassLimit>().unwrap();
        assert!(u32::try_from(week.limit.as_millis()).is_ok(), "sg_io_hdr.timeout");
    }
}
