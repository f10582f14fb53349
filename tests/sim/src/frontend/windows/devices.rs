//! The driver's table of devices: filled in the order in which devices appear, and looked up by address.
//!
//! Both agree only when the addresses are dense from 0:0:0 on and appear in order. Otherwise an address leads to another device
//! or to none.

use crate::frontend::Nexus;

/// Channels that Windows asks for.
pub const CHANNELS: u16 = 4;
/// Targets of a channel.
pub const TARGETS: u16 = 8;
/// LUNs of a target.
pub const LUNS: u16 = 8;

const SLOTS: usize = CHANNELS as usize * TARGETS as usize * LUNS as usize;

/// The table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceTable(Vec<Option<Nexus>>);

impl Default for DeviceTable {
    fn default() -> Self {
        Self(vec![None; SLOTS])
    }
}

impl DeviceTable {
    /// Puts a device into the first free place; `false` when there is none.
    pub fn add(&mut self, device: Nexus) -> bool {
        let free = self.0.iter_mut().find(|slot| slot.is_none());
        free.map(|slot| *slot = Some(device)).is_some()
    }

    /// Takes a device out; `false` when it is not there. The others keep their places.
    pub fn remove(&mut self, device: Nexus) -> bool {
        let slot = self.0.iter_mut().find(|slot| **slot == Some(device));
        slot.and_then(Option::take).is_some()
    }

    /// Whether the device is in the table, wherever.
    #[must_use]
    pub fn holds(&self, device: Nexus) -> bool {
        self.0.contains(&Some(device))
    }

    /// The device in the place that belongs to an address.
    #[must_use]
    pub fn find(&self, asked: Nexus) -> Option<Nexus> {
        let [channel, id, lun] = [asked.channel, asked.id, asked.lun].map(usize::from);
        let place = (channel * usize::from(TARGETS) + id) * usize::from(LUNS) + lun;
        self.0.get(place).copied().flatten()
    }

    /// Every device that some address within Windows's limits leads to.
    pub fn reachable(&self) -> impl Iterator<Item = Nexus> {
        let addresses = (0..CHANNELS).flat_map(|channel| {
            (0..TARGETS).flat_map(move |id| (0..LUNS).map(move |lun| Nexus { channel, id, lun }))
        });
        addresses.filter_map(|asked| self.find(asked))
    }
}

/// Reads a `v-dev`: four fields of three characters at most. The host does not matter, and what is no number is 0.
#[must_use]
pub fn parse_v_dev(text: &str) -> Option<Nexus> {
    let fields: Vec<_> = text.split(':').collect();
    let [_, channel, id, lun] = fields[..] else { return None };
    if fields.iter().any(|field| field.len() > 3) {
        return None;
    }
    let number = |field: &str| {
        let digits = field.bytes().take_while(u8::is_ascii_digit).count();
        field[..digits].parse().unwrap_or(0)
    };
    Some(Nexus { channel: number(channel), id: number(id), lun: number(lun) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(channel: u16, id: u16, lun: u16) -> Nexus {
        Nexus { channel, id, lun }
    }

    #[test]
    fn dense_addresses_in_order_mean_themselves() {
        let mut table = DeviceTable::default();
        let all: Vec<_> = (0..4)
            .flat_map(|channel| (0..8).flat_map(move |id| (0..8).map(move |lun| at(channel, id, lun))))
            .collect();
        assert!(all.iter().all(|device| table.add(*device)));
        assert!(!table.add(at(0, 0, 8)), "256 devices and no more");
        assert!(all.iter().all(|device| table.find(*device) == Some(*device)));
        assert_eq!(table.reachable().collect::<Vec<_>>(), all);
    }

    #[test]
    fn other_addresses_mean_another_device_or_none() {
        let mut table = DeviceTable::default();
        table.add(at(0, 3, 0));
        table.add(at(0, 0, 0));
        assert_eq!(table.find(at(0, 3, 0)), None);
        assert_eq!(table.find(at(0, 0, 0)), Some(at(0, 3, 0)));
        assert_eq!(table.find(at(0, 0, 1)), Some(at(0, 0, 0)));
        assert_eq!(table.find(at(60_000, 0, 0)), None);
        assert!(table.holds(at(0, 3, 0)));
    }

    #[test]
    fn a_place_that_becomes_free_is_filled_first() {
        let mut table = DeviceTable::default();
        for lun in 0..3 {
            table.add(at(0, 0, lun));
        }
        assert!(table.remove(at(0, 0, 0)));
        assert!(!table.remove(at(0, 0, 0)));
        assert_eq!((table.find(at(0, 0, 0)), table.find(at(0, 0, 1))), (None, Some(at(0, 0, 1))));
        table.add(at(0, 0, 3));
        assert_eq!(table.find(at(0, 0, 0)), Some(at(0, 0, 3)));
    }

    #[test]
    fn a_v_dev_has_short_fields() {
        assert_eq!(parse_v_dev("0:1:2:3"), Some(at(1, 2, 3)));
        assert_eq!(parse_v_dev("999:0:64:255"), Some(at(0, 64, 255)));
        assert_eq!(parse_v_dev("x::7z:1"), Some(at(0, 7, 1)), "like atoi");
        for bad in ["", "0:0:0", "0:0:0:0:0", "1000:0:0:0", "0:0:0:1000", "0:0:0:0 :"] {
            assert_eq!(parse_v_dev(bad), None, "{bad:?}");
        }
    }
}
