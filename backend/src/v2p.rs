//! From a virtual address to a logical unit.

use std::collections::BTreeMap;
use std::fmt;
use std::thread::{Builder, JoinHandle};

use pvscsi_ring::Nexus;
use pvscsi_sg::{CommandSet, LogicalUnit};
use tracing::warn;

/// A logical unit and its place.
pub struct Lun {
    /// Where the guest sees it.
    pub nexus: Nexus,
    /// The device.
    pub unit: Box<dyn LogicalUnit>,
    /// Removed from the guest's view; it goes when its last command is finished.
    pub leaving: bool,
    /// Another unit of its target has come or gone, and the guest is to be told.
    pub luns_changed: bool,
}

impl fmt::Debug for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lun")
            .field("nexus", &self.nexus)
            .field("leaving", &self.leaving)
            .finish_non_exhaustive()
    }
}

impl Lun {
    /// A guest that goes lets go of the medium: in a thread, for the device may take its time.
    fn unlock(&self) -> Option<JoinHandle<()>> {
        let (unlock, Nexus { channel, id, lun }) = (self.unit.unlocker()?, self.nexus);
        let unlock = move || {
            if let Err(error) = unlock() {
                warn!("{channel}:{id}:{lun}: allowing the removal of its medium: {error}");
            }
        };
        let thread = Builder::new().name("unlock".into()).spawn(unlock);
        thread.inspect_err(|error| warn!("no thread to allow the removal of a medium: {error}")).ok()
    }
}

/// The logical units of one vhost. An index stays the same as long as the unit is there.
#[derive(Debug, Default)]
pub struct V2p {
    luns: Vec<Option<Lun>>,
    by_nexus: BTreeMap<Nexus, usize>,
    /// Stands for LUN 0 of targets that have only others.
    absent: Option<usize>,
    /// Units that were given commands since the last flush.
    touched: Vec<usize>,
    hidden: usize,
    /// Media that are being let go of.
    unlocking: Vec<JoinHandle<()>>,
}

impl Drop for V2p {
    fn drop(&mut self) {
        let last = self.luns.drain(..).flatten().filter_map(|lun| lun.unlock());
        for thread in self.unlocking.drain(..).chain(last.collect::<Vec<_>>()) {
            assert!(thread.join().is_ok(), "letting go of a medium panics");
        }
    }
}

impl V2p {
    /// The unit at this address.
    #[must_use]
    pub fn find(&self, nexus: Nexus) -> Option<usize> {
        self.by_nexus.get(&nexus).copied()
    }

    /// The unit that stands for LUN 0 of targets that have only others.
    pub fn stand_in(&mut self, unit: Box<dyn LogicalUnit>) {
        self.absent = Some(self.luns.len());
        // It is at no address of its own.
        let nexus = Nexus { channel: 0, id: 0, lun: 0 };
        self.luns.push(Some(Lun { nexus, unit, leaving: false, luns_changed: false }));
    }

    /// That unit, for an address at which there is none.
    #[must_use]
    pub fn find_absent(&self, nexus: Nexus) -> Option<usize> {
        let beside = |other: &Nexus| (other.channel, other.id) == (nexus.channel, nexus.id);
        self.absent.filter(|_| nexus.lun == 0 && self.by_nexus.keys().any(beside))
    }

    /// The unit of this index.
    ///
    /// # Panics
    ///
    /// When there is none: indices come from [`find`](Self::find) and [`add`](Self::add).
    pub fn get(&mut self, index: usize) -> &mut Lun {
        let Some(Some(lun)) = self.luns.get_mut(index) else { unreachable!("no logical unit {index}") };
        lun
    }

    /// Adds a unit, and tells it its index. `Err` gives it back: there is one at this address.
    pub fn add(&mut self, nexus: Nexus, unit: Box<dyn LogicalUnit>) -> Result<usize, Box<dyn LogicalUnit>> {
        if self.by_nexus.contains_key(&nexus) {
            return Err(unit);
        }
        let lun = Some(Lun { nexus, unit, leaving: false, luns_changed: false });
        let index = match self.luns.iter().position(Option::is_none) {
            Some(index) => index,
            None => {
                self.luns.push(None);
                self.luns.len().saturating_sub(1)
            }
        };
        if let Some(room) = self.luns.get_mut(index) {
            *room = lun;
        }
        self.by_nexus.insert(nexus, index);
        Ok(index)
    }

    /// Units that the guest sees.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_nexus.len()
    }

    /// Notes that a unit was given a command.
    pub fn touch(&mut self, index: usize) {
        if !self.touched.contains(&index) {
            self.touched.push(index);
        }
    }

    /// Calls `flush` for each unit that was given commands since the last time.
    pub fn flush_touched(&mut self, mut flush: impl FnMut(&mut dyn LogicalUnit)) {
        for index in self.touched.drain(..) {
            if let Some(Some(lun)) = self.luns.get_mut(index) {
                flush(&mut *lun.unit);
            }
        }
    }

    /// Whether a unit is on its way out.
    #[must_use]
    pub fn any_leaving(&self) -> bool {
        self.hidden > 0
    }

    /// Hides a unit from the guest; [`remove`](Self::remove) ends it.
    pub fn hide(&mut self, nexus: Nexus) -> Option<usize> {
        let index = self.by_nexus.remove(&nexus)?;
        self.get(index).leaving = true;
        self.hidden = self.hidden.saturating_add(1);
        Some(index)
    }

    /// Removes a hidden unit.
    pub fn remove(&mut self, index: usize) {
        let lun = self.luns.get_mut(index).and_then(Option::take).filter(|lun| lun.leaving);
        let Some(lun) = lun else { unreachable!("only a hidden unit is removed") };
        self.unlocking.extend(lun.unlock());
        self.hidden = self.hidden.saturating_sub(1);
    }

    /// Indices of the units that are on their way out.
    pub fn leaving(&self) -> impl Iterator<Item = usize> {
        self.luns
            .iter()
            .enumerate()
            .filter(|(_, lun)| lun.as_ref().is_some_and(|lun| lun.leaving))
            .map(|(i, _)| i)
    }

    /// Whether the disks that the guest sees on this channel and target are to tell it of a change: their drivers try the command again.
    /// Those of tapes, changers and CD drives would fail it, for news that the guest has from xenstore anyway. The one that stands for LUN
    /// 0 is none of them.
    pub fn set_luns_changed(&mut self, channel: u16, id: u16, changed: bool) {
        for (nexus, index) in &self.by_nexus {
            if (nexus.channel, nexus.id) == (channel, id)
                && let Some(Some(lun)) = self.luns.get_mut(*index)
            {
                lun.luns_changed = changed && CommandSet::of(lun.unit.device_type()) == CommandSet::Sbc;
            }
        }
    }

    /// The LUNs that the guest sees on this channel and target, in ascending order.
    #[must_use]
    pub fn luns_of(&self, channel: u16, id: u16) -> Vec<u16> {
        let mut luns: Vec<u16> = self
            .by_nexus
            .keys()
            .filter(|nexus| nexus.channel == channel && nexus.id == id)
            .map(|nexus| nexus.lun)
            .collect();
        luns.sort_unstable();
        luns
    }
}
