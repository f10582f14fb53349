//! A SCSI device of the host as a logical unit: every CDB goes to it as it is, through `/dev/sgN` or `/dev/bsg/H:C:T:L`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::locate::{Hctl, Locator};
use crate::logical_unit::{Command, Completion, Job, LogicalUnit, buffer_len};
use crate::reactor::{Event, Reactor};
use crate::results::{self, Said};
use crate::scsi::{HostStatus, Outcome, PREVENT_ALLOW};
use crate::sys::bsg::BsgResult;
use crate::sys::bsg_queue::{BsgQueue, Done};
use crate::sys::sg_io::{SG_INFO_DIRECT_IO, SG_INFO_DIRECT_IO_MASK, SgIoHdr};
use crate::sys::sg_queue::{READ, Refused, SgQueue, SgResult, WRITE, allow_removal, reset_device};
use crate::threaded::task_set_full;

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
    /// The engine is to be the bsg driver, and cannot be.
    #[error("{} cannot have the engine bsg-uring: {source}", .path.display())]
    NoBsg {
        /// The node.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// How long a reset is tried while the kernel is busy with an earlier failure.
const RESET_RETRY: Duration = Duration::from_secs(20);

/// A SCSI device of the host, driven by the asynchronous interface of the sg driver or of the bsg driver.
pub struct SgDevice {
    path: PathBuf,
    /// Also with the bsg driver, which cannot reset a device.
    sg: SgQueue,
    /// `None`: commands go by the sg driver.
    bsg: Option<BsgQueue>,
    device_type: u8,
    owner: u32,
    gone: bool,
    /// The guest has prevented the removal of the medium.
    prevents: bool,
    told_engine: bool,
    told_indirect: bool,
    told_refused: bool,
}

impl SgDevice {
    /// Opens the node, and the device's other one if the engine may be the bsg driver. The thread that later drives the device must have
    /// the credentials of the one that opens it: the sg driver refuses others.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says which node and what failed.
    pub fn open(path: &Path, engine: Engine) -> Result<Self, OpenError> {
        let sg = SgQueue::open(path).map_err(|source| OpenError::Open { path: path.into(), source })?;
        let id = sg.identify().map_err(|source| OpenError::NotSg { path: path.into(), source })?;
        let bsg = match engine {
            Engine::Auto => open_bsg(path).inspect_err(|error| tracing::debug!("{error}")).ok(),
            Engine::BsgUring => Some(open_bsg(path)?),
            Engine::SgUring | Engine::SgEpoll => None,
        };
        Ok(Self::new(path, sg, bsg, u8::try_from(id.scsi_type).unwrap_or(0x1f)))
    }

    fn new(path: &Path, sg: SgQueue, bsg: Option<BsgQueue>, device_type: u8) -> Self {
        Self {
            path: path.into(),
            sg,
            bsg,
            device_type,
            owner: 0,
            gone: false,
            prevents: false,
            told_engine: false,
            told_indirect: false,
            told_refused: false,
        }
    }

    /// What commands really go by; the first ones decide it.
    fn settle_engine(&mut self, reactor: &Reactor) {
        if std::mem::replace(&mut self.told_engine, true) {
            return;
        }
        // There was an io_uring when the device was opened, and the worker got none.
        if !reactor.is_io_uring()
            && let Some(mut bsg) = self.bsg.take()
        {
            for command in bsg.take_queued() {
                let put = self.sg.put(command);
                assert!(put.is_ok(), "both queues have as much room");
            }
        }
        let engine = match &self.bsg {
            Some(_) => Engine::BsgUring,
            None if reactor.is_io_uring() => Engine::SgUring,
            None => Engine::SgEpoll,
        };
        tracing::info!("{}: its engine is {engine}", self.path.display());
    }

    fn on_bsg(&mut self, event: Event, done: &mut Vec<Completion>) {
        let Some(bsg) = &mut self.bsg else { unreachable!("it was asked before") };
        let Some(Done { tag, buffer, bytes, result, sense }) = bsg.on_done(event) else { return };
        let len = buffer_len(buffer.as_ref());
        let outcome = match result {
            Ok(BsgResult { status, driver_status, host_status, sense_len, resid }) => {
                let sense = sense.get(..usize::from(sense_len)).unwrap_or(&sense);
                let (host_status, driver_status) = (host_status.into(), driver_status.into());
                results::outcome(&Said { status, host_status, driver_status, resid, bytes, sense }, len)
            }
            Err(error) => self.refuse(&error, len),
        };
        done.push(Completion { tag, outcome, buffer });
    }

    fn on_sg(&mut self, event: Event, done: &mut Vec<Completion>) {
        match event.token.what {
            WRITE => {
                if let Some(Refused { tag, buffer, error }) = self.sg.on_written(event.result) {
                    let outcome = self.refuse(&error, buffer_len(buffer.as_ref()));
                    done.push(Completion { tag, outcome, buffer });
                }
            }
            READ => {
                let mut indirect = false;
                let read = self.sg.on_read(event.result, |tag, buffer, result| {
                    let (outcome, went_indirect) = outcome(result, buffer_len(buffer.as_ref()));
                    indirect |= went_indirect;
                    done.push(Completion { tag, outcome, buffer });
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
    }

    /// The driver does not take a command. Told once for each device: the guest chooses the commands.
    fn refuse(&mut self, error: &io::Error, len: u32) -> Outcome {
        if !std::mem::replace(&mut self.told_refused, true) {
            let driver = if self.bsg.is_some() { "bsg" } else { "sg" };
            tracing::warn!("the {driver} driver refuses a command for {}: {error}", self.path.display());
        }
        results::refusal(error, len)
    }

    /// The descriptor is dead: everything under way is answered, and its memory stays with the queue, for the device
    /// may still use it.
    fn give_up(&mut self, error: &io::Error, done: &mut Vec<Completion>) {
        tracing::warn!("{} is gone: {error}", self.path.display());
        self.gone = true;
        done.extend(self.sg.tags().map(|tag| Completion {
            tag,
            outcome: Outcome::host_error(HostStatus::NO_CONNECT, u32::MAX),
            buffer: None,
        }));
    }
}

/// The queue of the device's bsg node. The address is looked up again when that is open: where it is still the one of our sg node, which
/// we hold, the node is of the same device.
fn open_bsg(path: &Path) -> Result<BsgQueue, OpenError> {
    let no_bsg = |source| OpenError::NoBsg { path: path.into(), source };
    let address = || Locator::default().address_of(path).map_err(|error| no_bsg(io::Error::other(error)));
    let found = address()?;
    let bsg = BsgQueue::open(&bsg_node(Path::new("/dev"), found)).map_err(no_bsg)?;
    if address()? == found { Ok(bsg) } else { Err(no_bsg(io::ErrorKind::NotFound.into())) }
}

/// The bsg node of a device, as Linux names it.
fn bsg_node(dev: &Path, hctl: Hctl) -> PathBuf {
    dev.join("bsg").join(hctl.to_string())
}

/// Whether the bsg driver has this device, below this `/dev`, and takes commands for it by io_uring.
///
/// # Errors
///
/// Why not.
pub fn check_bsg(dev: &Path, hctl: Hctl) -> io::Result<()> {
    BsgQueue::open(&bsg_node(dev, hctl)).map(drop)
}

impl LogicalUnit for SgDevice {
    fn submit(&mut self, command: Command, done: &mut Vec<Completion>) {
        if command.cdb.opcode() == PREVENT_ALLOW {
            self.prevents = command.cdb.prevents_removal();
        }
        if self.gone {
            let Command { tag, buffer, .. } = command;
            let outcome = Outcome::host_error(HostStatus::NO_CONNECT, buffer_len(buffer.as_ref()));
            done.push(Completion { tag, outcome, buffer });
            return;
        }
        let put = match &mut self.bsg {
            Some(bsg) => bsg.put(command),
            None => self.sg.put(command),
        };
        done.extend(put.err().map(task_set_full));
    }

    fn flush(&mut self, reactor: &mut Reactor) {
        self.settle_engine(reactor);
        match &mut self.bsg {
            Some(bsg) => bsg.flush(self.owner, reactor),
            None if self.gone => {}
            None => self.sg.flush(self.owner, reactor),
        }
    }

    fn on_event(&mut self, event: Event, reactor: &mut Reactor, done: &mut Vec<Completion>) {
        if self.bsg.is_some() {
            self.on_bsg(event, done)
        } else {
            self.on_sg(event, done)
        }
        self.flush(reactor);
    }

    fn attach(&mut self, owner: u32) {
        self.owner = owner;
    }

    fn resetter(&self) -> Option<Job> {
        let device = self.sg.clone_device();
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
        let device = self.prevents.then(|| self.sg.clone_device())?;
        Some(Box::new(move || allow_removal(&device?)))
    }

    fn device_type(&self) -> u8 {
        self.device_type
    }
}

/// The outcome of a command that the sg driver took, and whether its data was copied by the driver.
fn outcome(SgResult { header, sense }: SgResult<'_>, len: u32) -> (Outcome, bool) {
    let SgIoHdr { host_status, driver_status, status, resid, dxfer_len: bytes, info, .. } = header;
    let direct = info & SG_INFO_DIRECT_IO_MASK == SG_INFO_DIRECT_IO;
    // Small and odd transfers are always copied; a block is not.
    let block = bytes >= 4096 && bytes.is_multiple_of(512);
    let said = Said { status, host_status, driver_status, resid, bytes, sense };
    (results::outcome(&said, len), block && !direct)
}

#[cfg(test)]
mod tests {
    use assert_no_alloc::{assert_no_alloc, violation_count};
    use pvscsi_guestmem::BufferPool;

    use super::*;
    use crate::{Cdb, DataDirection, ReactorKind, Tag};

    /// A FIFO gives back the headers that are written to it: each is a result without a failure. So is what /dev/null says to
    /// commands by io_uring (Linux 6.2), and where the reactor is no io_uring they go to the FIFO all the same.
    #[test]
    fn the_way_of_a_command_through_the_driver_allocates_nothing() {
        let path = std::env::temp_dir().join(format!("pvscsi-fifo-{}", std::process::id()));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (kind, by_bsg) in [
            (ReactorKind::Auto, false),
            (ReactorKind::Poll, false),
            (ReactorKind::Auto, true),
            (ReactorKind::Poll, true),
        ] {
            let bsg = if by_bsg { BsgQueue::on_null() } else { None };
            let mut device = SgDevice::new(&path, SgQueue::open(&path).unwrap(), bsg, 0);
            device.attach(7);
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
            assert_eq!(counted, 0, "{kind:?}, {by_bsg}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_no_sg_node_is_refused_by_name() {
        let missing = SgDevice::open(Path::new("/dev/no-such-sg"), Engine::Auto).err().unwrap();
        assert!(missing.to_string().starts_with("cannot open /dev/no-such-sg:"), "{missing}");
        let null = SgDevice::open(Path::new("/dev/null"), Engine::Auto).err().unwrap();
        assert!(null.to_string().starts_with("/dev/null is not a SCSI generic device"), "{null}");
    }
}
