//! A device behind `/dev/sgN` as a logical unit: every CDB goes to it as it is.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::logical_unit::{Command, Completion, Job, LogicalUnit, buffer_len};
use crate::reactor::{Event, Reactor};
use crate::scsi::{HostStatus, Outcome, PREVENT_ALLOW, SamStatus, Sense};
use crate::sys::sg_io::{SG_INFO_DIRECT_IO, SG_INFO_DIRECT_IO_MASK, SgIoHdr};
use crate::sys::sg_queue::{Finished, READ, SgQueue, SgResult, WRITE, allow_removal, reset_device};

/// Why an sg node could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system call failed.
    #[error("cannot open {}: {source}", .path.display())]
    Open {
        /// The node.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It opened, but is no sg device.
    #[error("{} is not a SCSI generic device: {source}", .path.display())]
    NotSg {
        /// The node.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// `DRIVER_SENSE` in the low bits of `driver_status` (Linux's `include/scsi/sg.h`): sense data came along, nothing is wrong
/// with the driver.
const DRIVER_SENSE: u16 = 0x08;

/// How long a reset is tried while the kernel is busy with an earlier failure.
const RESET_RETRY: Duration = Duration::from_secs(20);

/// A device behind `/dev/sgN`, driven by the sg driver's asynchronous interface.
pub struct SgDevice {
    path: PathBuf,
    queue: SgQueue,
    device_type: u8,
    owner: u32,
    gone: bool,
    /// The guest has prevented the removal of the medium.
    prevents: bool,
    told_indirect: bool,
    told_refused: bool,
}

impl SgDevice {
    /// Opens the node. The thread that later drives the device must have the credentials of the one that opens it: the
    /// driver refuses others.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says which node and what failed.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let queue = SgQueue::open(path).map_err(|source| OpenError::Open { path: path.into(), source })?;
        let id = queue.identify().map_err(|source| OpenError::NotSg { path: path.into(), source })?;
        Ok(Self {
            path: path.into(),
            queue,
            device_type: u8::try_from(id.scsi_type).unwrap_or(0x1f),
            owner: 0,
            gone: false,
            prevents: false,
            told_indirect: false,
            told_refused: false,
        })
    }

    /// The descriptor is dead: everything under way is answered, and its memory stays with the queue, for the device
    /// may still use it.
    fn give_up(&mut self, error: &io::Error, done: &mut Vec<Completion>) {
        tracing::warn!("{} is gone: {error}", self.path.display());
        self.gone = true;
        done.extend(self.queue.tags().map(|tag| Completion {
            tag,
            outcome: Outcome::host_error(HostStatus::NO_CONNECT, u32::MAX),
            buffer: None,
        }));
    }
}

impl LogicalUnit for SgDevice {
    fn submit(&mut self, command: Command, done: &mut Vec<Completion>) {
        if command.cdb.opcode() == PREVENT_ALLOW {
            self.prevents = command.cdb.prevents_removal();
        }
        let refused = if self.gone {
            Some((command, HostStatus::NO_CONNECT))
        } else {
            self.queue.put(command).err().map(|command| (command, HostStatus::OK))
        };
        if let Some((Command { tag, buffer, .. }, host)) = refused {
            let residual = buffer_len(buffer.as_ref());
            let outcome = if host == HostStatus::OK {
                Outcome { host, status: SamStatus::TASK_SET_FULL, sense: Sense::NONE, residual }
            } else {
                Outcome::host_error(host, residual)
            };
            done.push(Completion { tag, outcome, buffer });
        }
    }

    fn flush(&mut self, reactor: &mut Reactor) {
        if !self.gone {
            self.queue.flush(self.owner, reactor);
        }
    }

    fn on_event(&mut self, event: Event, reactor: &mut Reactor, done: &mut Vec<Completion>) {
        match event.token.what {
            WRITE => {
                if let Some(finished) = self.queue.on_written(event.result) {
                    // Once for each device: the guest chooses the commands.
                    if let Err(error) = &finished.result
                        && !std::mem::replace(&mut self.told_refused, true)
                    {
                        tracing::warn!(
                            "the sg driver refuses a command for {}: {error}",
                            self.path.display()
                        );
                    }
                    done.push(complete(finished).0);
                }
            }
            READ => {
                let mut indirect = false;
                let read = self.queue.on_read(event.result, |finished| {
                    let (completion, went_indirect) = complete(finished);
                    indirect |= went_indirect;
                    done.push(completion);
                });
                if indirect && !self.told_indirect {
                    self.told_indirect = true;
                    tracing::info!(
                        "the sg driver copies the data of {} once more: echo 1 > /sys/module/sg/parameters/allow_dio ends that",
                        self.path.display()
                    );
                }
                if let Err(error) = read {
                    self.give_up(&error, done);
                }
            }
            other => unreachable!("an event {other} that no one asked for"),
        }
        self.flush(reactor);
    }

    fn attach(&mut self, owner: u32) {
        self.owner = owner;
    }

    fn resetter(&self) -> Option<Job> {
        let device = self.queue.clone_device();
        Some(Box::new(move || {
            let device = device?;
            let start = Instant::now();
            loop {
                match reset_device(&device) {
                    // The kernel recovers the host adapter from an earlier failure just now.
                    Err(error)
                        if error.kind() == io::ErrorKind::WouldBlock && start.elapsed() < RESET_RETRY =>
                    {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    done => return done,
                }
            }
        }))
    }

    fn unlocker(&self) -> Option<Job> {
        let device = self.prevents.then(|| self.queue.clone_device())?;
        Some(Box::new(move || allow_removal(&device?)))
    }

    fn device_type(&self) -> u8 {
        self.device_type
    }
}

/// The completion, and whether its data was copied by the driver.
fn complete(finished: Finished<'_>) -> (Completion, bool) {
    let Finished { tag, buffer, result } = finished;
    let len = buffer_len(buffer.as_ref());
    let (outcome, indirect) = match &result {
        Ok(result) => {
            let direct = result.header.info & SG_INFO_DIRECT_IO_MASK == SG_INFO_DIRECT_IO;
            // Small and odd transfers are always copied; a block is not.
            let block = result.header.dxfer_len >= 4096 && result.header.dxfer_len.is_multiple_of(512);
            (outcome(result, len), block && !direct)
        }
        Err(error) => (refusal(error, len), false),
    };
    (Completion { tag, outcome, buffer }, indirect)
}

/// From the driver's result to an outcome.
fn outcome(result: &SgResult<'_>, len: u32) -> Outcome {
    let SgIoHdr { host_status, driver_status, status, resid, dxfer_len, .. } = result.header;
    let sense = Sense::from_device(result.sense);
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
    let untouched = len.saturating_sub(dxfer_len);
    let residual = u32::try_from(resid).unwrap_or(0).saturating_add(untouched).min(len);
    Outcome { host: HostStatus::OK, status: SamStatus(status), sense, residual }
}

/// From an errno of the driver, which did not take the command, to an outcome.
fn refusal(error: &io::Error, len: u32) -> Outcome {
    match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => Outcome::host_error(HostStatus::NO_CONNECT, len),
        // Larger than the host adapter takes, or a CDB that it cannot pass: INVALID FIELD IN CDB.
        Some(libc::EINVAL | libc::EMSGSIZE) => Outcome::check_condition(Sense::INVALID_FIELD_IN_CDB, len),
        Some(libc::ENOMEM | libc::EBUSY | libc::EDOM) => {
            Outcome { host: HostStatus::OK, status: SamStatus::BUSY, sense: Sense::NONE, residual: len }
        }
        _ => Outcome::host_error(HostStatus::ERROR, len),
    }
}

#[cfg(test)]
mod tests {
    use assert_no_alloc::{assert_no_alloc, violation_count};
    use pvscsi_guestmem::BufferPool;

    use super::*;
    use crate::sys::sg_queue::empty_header;
    use crate::{Cdb, DataDirection, ReactorKind, Tag};

    /// A FIFO gives back the headers that are written to it: each is a result without a failure.
    #[test]
    fn the_way_of_a_command_through_the_driver_allocates_nothing() {
        let path = std::env::temp_dir().join(format!("pvscsi-fifo-{}", std::process::id()));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for kind in [ReactorKind::Auto, ReactorKind::Poll] {
            let mut device = SgDevice {
                path: path.clone(),
                queue: SgQueue::open(&path).unwrap(),
                device_type: 0,
                owner: 7,
                gone: false,
                prevents: false,
                told_indirect: false,
                told_refused: false,
            };
            let mut reactor = Reactor::new(kind).unwrap();
            let mut pool = BufferPool::new(16).unwrap();
            let (mut done, mut events) = (Vec::with_capacity(16), Vec::with_capacity(16));
            let mut rounds = |count: u32| {
                for tag in 0..count * 16 {
                    let cdb = Cdb::from_bytes(&[0x28; 10]);
                    let (direction, buffer) = (DataDirection::FromDevice, pool.take(0, 4096));
                    assert!(buffer.is_some());
                    let timeout = Duration::from_secs(30);
                    device.submit(Command { tag: Tag(tag), cdb, direction, buffer, timeout }, &mut done);
                    // More than once in a round: the later ones find the driver at work.
                    if tag % 8 == 3 || tag % 16 == 15 {
                        device.flush(&mut reactor);
                    }
                    while tag % 16 == 15 && done.len() < 16 {
                        reactor.wait(None, &mut events).unwrap();
                        events.drain(..).for_each(|event| device.on_event(event, &mut reactor, &mut done));
                    }
                    for completion in done.drain(..) {
                        assert_eq!(completion.outcome, Outcome::good(0));
                        pool.give_back(completion.buffer.unwrap());
                    }
                }
            };
            rounds(10);
            let counted = assert_no_alloc(|| {
                let before = violation_count();
                rounds(1000);
                violation_count() - before
            });
            assert_eq!(counted, 0, "{kind:?}");
        }
        std::fs::remove_file(path).unwrap();
    }

    fn header(change: impl FnOnce(&mut SgIoHdr)) -> SgIoHdr {
        let mut header = empty_header();
        header.dxfer_len = 512;
        change(&mut header);
        header
    }

    fn of(change: impl FnOnce(&mut SgIoHdr), sense: &[u8]) -> Outcome {
        outcome(&SgResult { header: header(change), sense }, 512)
    }

    #[test]
    fn results_of_the_driver_become_outcomes() {
        assert_eq!(of(|_| {}, &[]), Outcome::good(0));
        assert_eq!(of(|h| h.resid = 100, &[]), Outcome::good(100));
        assert_eq!(of(|h| h.resid = -4, &[]), Outcome::good(0), "an overrun is no residual");
        assert_eq!(of(|h| h.resid = 100_000, &[]), Outcome::good(512), "never more than the buffer");
        assert_eq!(of(|h| h.dxfer_len = 0, &[]), Outcome::good(512), "no transfer at all");
        let sense = [0x70, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0];
        let medium_error = of(
            |h| {
                h.status = 2;
                h.driver_status = 8;
                h.resid = 12;
            },
            &sense,
        );
        assert_eq!(medium_error.status, SamStatus::CHECK_CONDITION);
        assert_eq!(medium_error.sense.key_asc_ascq(), Some((3, 0x11, 0)));
        assert_eq!(medium_error.residual, 12, "data, residual and sense all arrive");
        for status in [0x08, 0x18, 0x28, 0x40] {
            assert_eq!(of(|h| h.status = status, &[]).status, SamStatus(status));
        }
    }

    #[test]
    fn a_host_failure_is_never_good_in_16_bits() {
        for host_status in [1, 2, 3, 5, 7, 14, 20, 300] {
            let failed = of(|h| h.host_status = host_status, &[]);
            assert_ne!(failed.host, HostStatus::OK, "host status {host_status}");
            assert_ne!(failed.status, SamStatus::GOOD);
            assert_eq!(failed.residual, 512);
        }
        let driver = of(|h| h.driver_status = 6, &[]);
        assert_eq!(driver.host, HostStatus::ERROR);
    }

    #[test]
    fn refusals_of_the_driver_become_outcomes() {
        let refused = |errno| refusal(&io::Error::from_raw_os_error(errno), 512);
        assert_eq!(refused(libc::ENODEV).host, HostStatus::NO_CONNECT);
        assert_eq!(refused(libc::EINVAL).sense.key_asc_ascq(), Some((5, 0x24, 0)));
        assert_eq!(refused(libc::ENOMEM).status, SamStatus::BUSY);
        assert_eq!(refused(libc::EPERM).host, HostStatus::ERROR);
    }

    #[test]
    fn what_is_no_sg_node_is_refused_by_name() {
        let missing = SgDevice::open(Path::new("/dev/no-such-sg")).err().unwrap();
        assert!(missing.to_string().starts_with("cannot open /dev/no-such-sg:"), "{missing}");
        let null = SgDevice::open(Path::new("/dev/null")).err().unwrap();
        assert!(null.to_string().starts_with("/dev/null is not a SCSI generic device"), "{null}");
    }
}
