//! The seam between transport and device.

use std::io;
use std::time::Duration;

use pvscsi_guestmem::Buffer;

use crate::reactor::{Event, Reactor};
use crate::scsi::{Cdb, DataDirection, Outcome};

/// Names a command between its submission and its completion; chosen by the worker, unique among the commands it
/// has not seen complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub u32);

/// A SCSI command with everything it needs.
#[derive(Debug)]
pub struct Command {
    /// Comes back with the completion.
    pub tag: Tag,
    /// What to do.
    pub cdb: Cdb,
    /// Which way the data goes; [`DataDirection::None`] when there is no buffer.
    pub direction: DataDirection,
    /// Data to the device, or room for data from it. `None`: no data.
    pub buffer: Option<Buffer>,
    /// After this time the device's driver gives the command up.
    pub timeout: Duration,
}

/// A finished command.
#[derive(Debug)]
pub struct Completion {
    /// The tag of the command.
    pub tag: Tag,
    /// What became of it.
    pub outcome: Outcome,
    /// The buffer of the command; the device no longer touches it. For data from the device, the first
    /// `len - residual` bytes are the answer and the rest is stale.
    pub buffer: Option<Buffer>,
}

impl Command {
    /// The data that goes to the device; none, when it goes another way.
    pub(crate) fn data_out(&self) -> &[u8] {
        match (self.direction, &self.buffer) {
            (DataDirection::ToDevice, Some(buffer)) => buffer.as_slice(),
            _ => &[],
        }
    }
}

/// GOOD, with as much of the data as was asked for (ALLOCATION LENGTH) and there is room for; the rest of the buffer stays as it is.
pub fn deliver(data: impl IntoIterator<Item = u8>, allocated: usize, buffer: Option<&mut Buffer>) -> Outcome {
    let room = buffer.map_or(&mut [][..], |buffer| buffer.as_mut_slice());
    let room_len = u32::try_from(room.len()).unwrap_or(u32::MAX);
    let mut written = 0_u32;
    for (to, from) in room.iter_mut().take(allocated).zip(data) {
        *to = from;
        written = written.saturating_add(1);
    }
    Outcome::good(room_len.saturating_sub(written))
}

/// Bytes of a command's buffer.
#[must_use]
pub fn buffer_len(buffer: Option<&Buffer>) -> u32 {
    buffer.map_or(0, |buffer| u32::try_from(buffer.len()).unwrap_or(u32::MAX))
}

/// Something that takes its time; see [`LogicalUnit::resetter`] and [`LogicalUnit::unlocker`].
pub type Job = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// A device that executes SCSI commands.
///
/// Every submitted command completes exactly once, by a [`Completion`] pushed to `done` in whichever call finds it
/// finished. Failures of the device are outcomes, not errors. An implementation may rely on the worker calling
/// [`flush`](Self::flush) after the last [`submit`](Self::submit) of a batch.
pub trait LogicalUnit: Send {
    /// Takes a command. It may be started only in `flush`, together with others.
    fn submit(&mut self, command: Command, done: &mut Vec<Completion>);

    /// Starts what was submitted and not started yet.
    fn flush(&mut self, reactor: &mut Reactor);

    /// An operation that this unit had put on the reactor is finished. Called only with events whose
    /// [`Token::owner`](crate::Token::owner) is the one given to [`attach`](Self::attach).
    fn on_event(&mut self, event: Event, reactor: &mut Reactor, done: &mut Vec<Completion>);

    /// Tells the unit under which owner its events come back. Called once, before any command.
    fn attach(&mut self, owner: u32);

    /// How to reset the device: a job that may take long, to be run outside the worker. Commands under way complete by
    /// themselves. `None`: there is nothing to reset.
    fn resetter(&self) -> Option<Job>;

    /// How to let go of the medium, when the guest has prevented its removal and goes: a job to be run outside the worker. `None`: it
    /// is not held, or others hold it too.
    fn unlocker(&self) -> Option<Job> {
        None
    }

    /// The peripheral device type, as in the first byte of standard INQUIRY data (SPC-5, 6.7.2): 00h disk, 01h tape,
    /// 05h CD/DVD, 08h changer, 0Dh enclosure…
    fn device_type(&self) -> u8;
}
