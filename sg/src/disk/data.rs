//! Reading, writing, verifying and saving blocks.

use super::cdb::{Against, Extent};
use super::medium::{CHUNK, Locked};
use super::{EmulatedDisk, sense};
use crate::scsi::Sense;

impl EmulatedDisk {
    /// READ: as much as fits the buffer. FUA asks for what is on stable storage, so the page cache goes there first
    /// (SBC-4, READ (10)).
    pub(super) fn read(&self, extent: Extent, fua: bool, data: &mut [u8]) -> Result<usize, Sense> {
        let (offset, len) = self.span(extent, data.len())?;
        if fua {
            self.sync(extent.lba)?;
        }
        let wanted = data.get_mut(..len).unwrap_or_default();
        self.medium.read(offset, wanted).map_err(|_| sense::read_failed(extent.lba))?;
        Ok(len)
    }

    /// WRITE of all the data.
    pub(super) fn write(&self, extent: Extent, data: &[u8]) -> Result<usize, Sense> {
        let (offset, _) = self.span(extent, data.len())?;
        self.medium.write(offset, data).map_err(|error| sense::write_failed(&error, extent.lba))?;
        Ok(data.len())
    }

    /// Where the data of a READ or WRITE is on the medium, and how many bytes of it fit the buffer.
    pub(super) fn span(&self, extent: Extent, room: usize) -> Result<(u64, usize), Sense> {
        let offset = self.locate(extent, self.max_transfer_blocks)?;
        Ok((offset, usize::try_from(extent.bytes(self.block())).unwrap_or(usize::MAX).min(room)))
    }

    /// WRITE AND VERIFY: the data goes to stable storage and is read again.
    pub(super) fn write_and_verify(
        &self,
        extent: Extent,
        compare: bool,
        data: &[u8],
    ) -> Result<usize, Sense> {
        self.write(extent, data)?;
        self.sync(extent.lba)?;
        self.verify(extent, if compare { Against::Data } else { Against::Nothing }, data)
    }

    /// ORWRITE: bits that are set in the data are set on the medium, all others stay (SBC-4, ORWRITE (16) command).
    pub(super) fn or_write(&self, extent: Extent, data: &[u8]) -> Result<usize, Sense> {
        let offset = self.locate(extent, self.max_transfer_blocks)?;
        let _alone = self.alone(offset, extent)?;
        let mut room = vec![0; CHUNK];
        let mut at = offset;
        for set in data.chunks(CHUNK) {
            let lba = self.block().blocks_in(at);
            let both = room.get_mut(..set.len()).unwrap_or_default();
            self.medium.read(at, both).map_err(|_| sense::read_failed(lba))?;
            both.iter_mut().zip(set).for_each(|(stored, set)| *stored |= *set);
            self.medium.write(at, both).map_err(|error| sense::write_failed(&error, lba))?;
            at = at.saturating_add(set.len() as u64);
        }
        Ok(data.len())
    }

    /// COMPARE AND WRITE: the second half of the data is written if the blocks are the same as the first half. No other
    /// COMPARE AND WRITE or ORWRITE comes between, nor one of another process that has the file.
    pub(super) fn compare_and_write(&self, extent: Extent, data: &[u8]) -> Result<usize, Sense> {
        let offset = self.locate(extent, self.max_compare_and_write_blocks().into())?;
        let _alone = self.alone(offset, extent)?;
        let (expected, new) = data.split_at_checked(data.len() / 2).unwrap_or_default();
        self.compare(offset, extent, Against::Data, expected)?;
        self.medium.write(offset, new).map_err(|error| sense::write_failed(&error, extent.lba))?;
        Ok(data.len())
    }

    /// Nobody else has these blocks until the result is dropped.
    fn alone(&self, offset: u64, extent: Extent) -> Result<Option<Locked<'_>>, Sense> {
        // For a lock, 0 is all up to the end.
        if extent.blocks == 0 {
            return Ok(None);
        }
        let locked = self.medium.lock(offset, extent.bytes(self.block()));
        locked.map(Some).map_err(|error| sense::write_failed(&error, extent.lba))
    }

    /// Blocks of a COMPARE AND WRITE, whose data-out is twice as long. The field for them has a byte.
    pub(super) fn max_compare_and_write_blocks(&self) -> u8 {
        u8::try_from(self.max_transfer_blocks / 2).unwrap_or(u8::MAX)
    }

    /// VERIFY: every block has to be readable and, if there is data, the same as the data.
    pub(super) fn verify(&self, extent: Extent, against: Against, data: &[u8]) -> Result<usize, Sense> {
        let offset = self.locate(extent, self.max_transfer_blocks)?;
        self.compare(offset, extent, against, data)?;
        Ok(data.len())
    }

    fn compare(&self, offset: u64, extent: Extent, against: Against, data: &[u8]) -> Result<(), Sense> {
        let mut room = vec![0; CHUNK];
        let mut done = 0_u64;
        while done < extent.bytes(self.block()) {
            let left = usize::try_from(extent.bytes(self.block()).saturating_sub(done)).unwrap_or(usize::MAX);
            let stored = room.get_mut(..left.min(CHUNK)).unwrap_or_default();
            self.medium
                .read(offset.saturating_add(done), stored)
                .map_err(|_| sense::read_failed(extent.lba.saturating_add(self.block().blocks_in(done))))?;
            let differs = match against {
                Against::Nothing => None,
                Against::Data => {
                    first_difference(stored, data.iter().skip(usize::try_from(done).unwrap_or(usize::MAX)))
                }
                Against::OneBlock => first_difference(stored, data.iter().cycle()),
            };
            if let Some(at) = differs {
                return Err(sense::miscompare(done.saturating_add(at as u64)));
            }
            done = done.saturating_add(stored.len() as u64);
        }
        Ok(())
    }

    /// PRE-FETCH: the system is asked to read the range, and not waited for. The limit is that of a transfer; 0 blocks are all
    /// up to the end, and of those so much.
    pub(super) fn pre_fetch(&self, extent: Extent) -> Result<usize, Sense> {
        let offset = self.locate(extent, self.max_transfer_blocks)?;
        let blocks = if extent.blocks == 0 { self.max_transfer_blocks } else { extent.blocks };
        self.medium.pre_fetch(offset, Extent { blocks, ..extent }.bytes(self.block()));
        Ok(0)
    }

    /// SYNCHRONIZE CACHE: the range is checked; saved is everything. With IMMED it answers after the work as well, which is
    /// allowed.
    pub(super) fn synchronize_cache(&self, extent: Extent) -> Result<usize, Sense> {
        self.locate(extent, u32::MAX)?;
        self.sync(extent.lba)?;
        Ok(0)
    }

    /// START STOP UNIT: the disk stays usable, but what was written is safe after a stop (SBC-4, NO_FLUSH bit).
    pub(super) fn start_stop(&self, stop: bool) -> Result<usize, Sense> {
        if stop {
            self.sync(0)?;
        }
        Ok(0)
    }

    pub(super) fn sync(&self, lba: u64) -> Result<(), Sense> {
        self.medium.sync().map_err(|error| sense::write_failed(&error, lba))
    }
}

fn first_difference<'a>(stored: &[u8], expected: impl Iterator<Item = &'a u8>) -> Option<usize> {
    stored.iter().zip(expected).position(|(stored, expected)| stored != expected)
}
