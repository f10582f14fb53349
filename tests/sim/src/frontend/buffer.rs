//! The memory of a guest's command: areas in pages, as a scatter list has them.

use pvscsi_guestmem::{HeapPage, PAGE_SIZE};

/// One area within one page: what becomes one segment of a request.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The page.
    pub page: HeapPage,
    /// Where the area starts, in bytes.
    pub offset: u16,
    /// Its length, in bytes.
    pub len: u16,
}

/// The data of a command: any number of areas, each in a page of its own. Clones are handles on the same memory.
#[derive(Clone, Debug, Default)]
pub struct GuestBuffer(Vec<Piece>);

impl GuestBuffer {
    /// `len` bytes that lie together in the guest's memory and start `start` bytes into their first page.
    ///
    /// # Panics
    ///
    /// When `start` is not within a page.
    #[must_use]
    pub fn contiguous(start: usize, len: usize) -> Self {
        assert!(start < PAGE_SIZE, "{start} is not an offset into a page");
        let mut areas = Vec::new();
        let (mut offset, mut left) = (start, len);
        while left > 0 {
            let here = left.min(PAGE_SIZE - offset);
            areas.push((offset, here));
            left -= here;
            offset = 0;
        }
        Self::scattered(&areas)
    }

    /// Areas of the given offset and length, each in a page of its own. A length of 0 is an empty segment.
    ///
    /// # Panics
    ///
    /// When an area leaves its page.
    #[must_use]
    pub fn scattered(areas: &[(usize, usize)]) -> Self {
        let piece = |&(offset, len): &(usize, usize)| {
            assert!(offset + len <= PAGE_SIZE, "{len} bytes at {offset} leave the page");
            let in_page = |bytes| u16::try_from(bytes).expect("at most a page");
            Piece { page: HeapPage::new(), offset: in_page(offset), len: in_page(len) }
        };
        Self(areas.iter().map(piece).collect())
    }

    /// The areas, in the order of the data.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Bytes of all areas together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|piece| usize::from(piece.len)).sum()
    }

    /// Whether there are no bytes; there may be empty areas.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the data out.
    ///
    /// # Panics
    ///
    /// When `to` is not as long as the buffer.
    pub fn read(&self, mut to: &mut [u8]) {
        assert_eq!(to.len(), self.len(), "a buffer is read as a whole");
        for piece in &self.0 {
            let here;
            (here, to) = to.split_at_mut(piece.len.into());
            piece.page.share().copy_out(piece.offset.into(), here);
        }
    }

    /// Copies the data in.
    ///
    /// # Panics
    ///
    /// When `from` is not as long as the buffer.
    pub fn write(&self, mut from: &[u8]) {
        assert_eq!(from.len(), self.len(), "a buffer is written as a whole");
        for piece in &self.0 {
            let here;
            (here, from) = from.split_at(piece.len.into());
            piece.page.share().copy_in(piece.offset.into(), here);
        }
    }

    /// The data.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        self.read(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn areas(buffer: &GuestBuffer) -> Vec<(u16, u16)> {
        buffer.pieces().iter().map(|piece| (piece.offset, piece.len)).collect()
    }

    #[test]
    fn contiguous_memory_is_cut_at_page_boundaries() {
        assert_eq!(areas(&GuestBuffer::contiguous(0, 4096)), [(0, 4096)]);
        assert_eq!(areas(&GuestBuffer::contiguous(4095, 4098)), [(4095, 1), (0, 4096), (0, 1)]);
        assert_eq!(areas(&GuestBuffer::contiguous(0, 0)), []);
        assert!(GuestBuffer::default().is_empty());
    }

    #[test]
    fn data_goes_through_areas_of_any_shape() {
        let buffer = GuestBuffer::scattered(&[(3, 5), (4096, 0), (0, 4096), (4095, 1)]);
        let bytes: Vec<u8> = (0..buffer.len()).map(|i| (i % 251) as u8).collect();
        buffer.clone().write(&bytes);
        assert_eq!(buffer.len(), 4102);
        assert_eq!(buffer.to_vec(), bytes);
        let mut head = [0; 9];
        buffer.pieces()[0].page.share().copy_out(0, &mut head);
        assert_eq!(head, [0, 0, 0, 0, 1, 2, 3, 4, 0], "nothing beside the area is touched");
    }
}
