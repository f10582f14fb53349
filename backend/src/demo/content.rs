//! What the disk has to hold: every write leaves bytes of its own, and every byte read is compared with them.

use pvscsi_guestmem::PAGE_SIZE;

/// How often each page of the disk was written. The bytes of a page follow from its number and this.
#[derive(Debug)]
pub struct Content {
    generations: Vec<u32>,
}

/// The first byte that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where, counted from the first byte compared.
    pub at: usize,
    /// What was written there.
    pub written: u8,
    /// What was read.
    pub read: u8,
}

/// Steele, Lea and Flood's `splitmix64`, without its state: different words for different places.
fn word(page: u64, generation: u32, index: u64) -> u64 {
    let mut z = (page << 32 | u64::from(generation))
        .wrapping_mul(512)
        .wrapping_add(index)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn words(page: u64, generation: u32) -> impl Iterator<Item = [u8; 8]> {
    (0..).map(move |index| word(page, generation, index).to_le_bytes())
}

fn pages(first: usize, count: usize) -> std::ops::Range<usize> {
    first..first.saturating_add(count)
}

impl Content {
    /// Of a disk with as many pages, none of them written.
    ///
    /// # Panics
    ///
    /// With more than 2^23 of them, for whose words 64 bits are too few.
    #[must_use]
    pub fn new(pages: usize) -> Self {
        assert!(pages <= 1 << 23, "a disk of {pages} pages");
        Self { generations: vec![0; pages] }
    }

    /// Makes new data for the pages from `first` on; it is what [`check`](Self::check) expects there from now on.
    ///
    /// # Panics
    ///
    /// When `data` is no whole number of pages, or there are no such pages.
    pub fn renew(&mut self, first: usize, data: &mut [u8]) {
        let (chunks, rest) = data.as_chunks_mut::<PAGE_SIZE>();
        let Some(generations) = self.generations.get_mut(pages(first, chunks.len())) else {
            unreachable!("pages behind the end of the disk")
        };
        assert!(rest.is_empty(), "whole pages");
        for ((generation, chunk), page) in generations.iter_mut().zip(chunks).zip((first as u64)..) {
            *generation = generation.wrapping_add(1);
            for (to, from) in chunk.as_chunks_mut::<8>().0.iter_mut().zip(words(page, *generation)) {
                *to = from;
            }
        }
    }

    /// Compares what was read from the pages from `first` on with what was written there last.
    ///
    /// # Errors
    ///
    /// The first byte that differs.
    ///
    /// # Panics
    ///
    /// As [`renew`](Self::renew).
    pub fn check(&self, first: usize, data: &[u8]) -> Result<(), Difference> {
        let (chunks, rest) = data.as_chunks::<PAGE_SIZE>();
        let Some(generations) = self.generations.get(pages(first, chunks.len())) else {
            unreachable!("pages behind the end of the disk")
        };
        assert!(rest.is_empty(), "whole pages");
        let written = generations
            .iter()
            .zip((first as u64)..)
            .flat_map(|(generation, page)| words(page, *generation).take(PAGE_SIZE / 8));
        let read = data.as_chunks::<8>().0;
        let Some((index, (written, read))) =
            written.zip(read).enumerate().find(|(_, (written, read))| written != *read)
        else {
            return Ok(());
        };
        let Some((byte, (written, read))) =
            written.into_iter().zip(*read).enumerate().find(|(_, (written, read))| written != read)
        else {
            unreachable!("the words differ")
        };
        Err(Difference { at: index.saturating_mul(8).saturating_add(byte), written, read })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_expected_and_nothing_else() {
        let mut content = Content::new(4);
        let mut data = vec![0; 3 * PAGE_SIZE];
        content.renew(1, &mut data);
        assert_eq!(content.check(1, &data), Ok(()));
        assert!(content.check(0, &data).is_err(), "another place");
        let mut newer = vec![0; PAGE_SIZE];
        content.renew(2, &mut newer);
        let old = content.check(1, &data).unwrap_err();
        assert!(old.at >= PAGE_SIZE && old.at < PAGE_SIZE + 8, "the page written since: {old:?}");
        data[PAGE_SIZE..2 * PAGE_SIZE].copy_from_slice(&newer);
        assert_eq!(content.check(1, &data), Ok(()));
        for at in [0, 7, 4095, 4096, 3 * PAGE_SIZE - 1] {
            data[at] ^= 0x10;
            let found = content.check(1, &data).unwrap_err();
            assert_eq!((found.at, found.written ^ found.read, found.read), (at, 0x10, data[at]));
            data[at] ^= 0x10;
        }
    }
}
