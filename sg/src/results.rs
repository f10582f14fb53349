//! From what the drivers say of a command to its outcome: the same, whichever of them had it.

use std::io;

use crate::scsi::{HostStatus, Outcome, SamStatus, Sense};

/// `DRIVER_SENSE` in the low bits of `driver_status` (Linux's `include/scsi/sg.h`): sense data came along, nothing is wrong
/// with the driver.
const DRIVER_SENSE: u16 = 0x08;

/// What a driver says of a command that it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a> {
    /// SCSI status.
    pub(crate) status: u8,
    /// `DID_*`.
    pub(crate) host_status: u16,
    /// `DRIVER_*`.
    pub(crate) driver_status: u16,
    /// Bytes, of those that were to be moved, that were not.
    pub(crate) resid: i32,
    /// Bytes that were to be moved.
    pub(crate) bytes: u32,
    pub(crate) sense: &'a [u8],
}

/// From the driver's result to an outcome, for a buffer of so many bytes.
pub(crate) fn outcome(said: &Said<'_>, len: u32) -> Outcome {
    let Said { status, host_status, driver_status, resid, bytes, sense } = *said;
    let sense = Sense::from_device(sense);
    if host_status != 0 {
        let host = HostStatus(u8::try_from(host_status).unwrap_or(HostStatus::ERROR.0));
        let failed = Outcome::host_error(host, len);
        // The device's own words, where it had some, are better than ours.
        return if status == 0 { failed } else { Outcome { status: SamStatus(status), sense, ..failed } };
    }
    if status == 0 && driver_status & 0xf & !DRIVER_SENSE != 0 {
        return Outcome::host_error(HostStatus::ERROR, len);
    }
    // What the driver had no data for at all was not transferred either.
    let untouched = len.saturating_sub(bytes);
    let residual = u32::try_from(resid).unwrap_or(0).saturating_add(untouched).min(len);
    Outcome { host: HostStatus::OK, status: SamStatus(status), sense, residual }
}

/// From an errno of the driver, which did not take the command, to an outcome.
pub(crate) fn refusal(error: &io::Error, len: u32) -> Outcome {
    match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => Outcome::host_error(HostStatus::NO_CONNECT, len),
        // Larger than the host adapter takes, or a CDB that it cannot pass: INVALID FIELD IN CDB.
        Some(libc::EINVAL | libc::EMSGSIZE) => Outcome::check_condition(Sense::INVALID_FIELD_IN_CDB, len),
        Some(libc::ENOMEM | libc::EAGAIN | libc::EBUSY | libc::EDOM) => Outcome::busy(len),
        _ => Outcome::host_error(HostStatus::ERROR, len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(said: Said<'_>) -> Outcome {
        outcome(&said, 512)
    }

    const GOOD: Said<'_> =
        Said { status: 0, host_status: 0, driver_status: 0, resid: 0, bytes: 512, sense: &[] };

    #[test]
    fn results_of_the_driver_become_outcomes() {
        assert_eq!(of(GOOD), Outcome::good(0));
        assert_eq!(of(Said { resid: 100, ..GOOD }), Outcome::good(100));
        assert_eq!(of(Said { resid: -4, ..GOOD }), Outcome::good(0), "an overrun is no residual");
        assert_eq!(of(Said { resid: 100_000, ..GOOD }), Outcome::good(512), "never more than the buffer");
        assert_eq!(of(Said { bytes: 0, ..GOOD }), Outcome::good(512), "no transfer at all");
        let sense = &[0x70, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0];
        let medium_error = of(Said { status: 2, driver_status: 8, resid: 12, sense, ..GOOD });
        assert_eq!(medium_error.status, SamStatus::CHECK_CONDITION);
        assert_eq!(medium_error.sense.key_asc_ascq(), Some((3, 0x11, 0)));
        assert_eq!(medium_error.residual, 12, "data, residual and sense all arrive");
        for status in [0x08, 0x18, 0x28, 0x40] {
            assert_eq!(of(Said { status, ..GOOD }).status, SamStatus(status));
        }
    }

    #[test]
    fn a_host_failure_is_never_good_in_16_bits() {
        for host_status in [1, 2, 3, 5, 7, 14, 20, 300] {
            let failed = of(Said { host_status, ..GOOD });
            assert_ne!(failed.host, HostStatus::OK, "host status {host_status}");
            assert_ne!(failed.status, SamStatus::GOOD);
            assert_eq!(failed.residual, 512);
        }
        assert_eq!(of(Said { driver_status: 6, ..GOOD }).host, HostStatus::ERROR);
    }

    #[test]
    fn refusals_of_the_driver_become_outcomes() {
        let refused = |errno| refusal(&io::Error::from_raw_os_error(errno), 512);
        assert_eq!(refused(libc::ENODEV).host, HostStatus::NO_CONNECT);
        assert_eq!(refused(libc::EINVAL).sense.key_asc_ascq(), Some((5, 0x24, 0)));
        assert_eq!(refused(libc::ENOMEM).status, SamStatus::BUSY);
        assert_eq!(refused(libc::EAGAIN).status, SamStatus::BUSY);
        assert_eq!(refused(libc::EPERM).host, HostStatus::ERROR);
    }
}
