//! How long a logical block is.

use std::fmt;

/// Bytes in a logical block: one of the two lengths that systems know how to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlockSize {
    /// 512 bytes.
    #[default]
    B512,
    /// 4096 bytes.
    B4096,
}

impl BlockSize {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::B512, Self::B4096];

    /// As a number.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }

    /// How many whole blocks so many bytes are.
    pub(super) const fn blocks_in(self, bytes: u64) -> u64 {
        match self {
            Self::B512 => bytes / 512,
            Self::B4096 => bytes / 4096,
        }
    }

    /// The same for a limit, which fits a field of 32 bits.
    pub(super) fn blocks_of(self, bytes: u32) -> u32 {
        u32::try_from(self.blocks_in(bytes.into())).unwrap_or(u32::MAX)
    }

    /// How many bytes so many blocks are.
    pub(super) const fn bytes_of(self, blocks: u64) -> u64 {
        blocks.saturating_mul(self.bytes() as u64)
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}
