//! What a guest can do, honest or not.

use pvscsi_ring::vscsiif::{VSCSIIF_ACT_SCSI_ABORT, VSCSIIF_ACT_SCSI_RESET};

/// Memory that a guest can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// A page that the backend may read and write.
    First,
    /// Another one.
    Second,
    /// A page that the backend may only read.
    ReadOnly,
    /// A page granted to another domain.
    Foreign,
    /// A page of segments, which the backend may read: 512 areas of 512 bytes in [`First`](Self::First), until an
    /// [`Action::Entry`] says otherwise.
    List,
    /// The page of the ring itself.
    Ring,
    /// Whatever grant reference that is.
    Number(u32),
}

/// A command for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// Operation code.
    pub opcode: u8,
    /// The low byte of the block address or of the allocation length.
    pub operand: u8,
    /// LUN; which ones exist is the backend's business.
    pub lun: u16,
    /// The guest's name for the request, perhaps in use already.
    pub rqid: u16,
    /// `nr_segments`, with the bit for indirect lists; more than 26 is a lie.
    pub nr_segments: u8,
    /// The page that all segments are in.
    pub memory: Memory,
    /// Offset of each segment.
    pub offset: u16,
    /// Length of each segment.
    pub length: u16,
    /// Into so many slots, one after the other.
    pub times: u8,
}

/// One of the words that both sides write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// The backend's own producer index.
    RspProd,
    /// The backend's threshold for events.
    ReqEvent,
    /// The guest's threshold for events.
    RspEvent,
}

/// One thing that a guest does; or its device, which has a part in most attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fills the next slot, or several. Waits if the ring is full, as long as the guest's indices are honest.
    Put(Put),
    /// Fills the next slot with bytes that depend on the seed.
    Noise {
        /// Any number.
        seed: u32,
    },
    /// Fills the next slot with an abort or a reset.
    Manage {
        /// `VSCSIIF_ACT_*`.
        act: u8,
        /// Whose.
        lun: u16,
        /// Its own name.
        rqid: u16,
        /// What to abort; it may be anything.
        ref_rqid: u16,
    },
    /// Writes a byte of a slot that was filled before, which the backend may be reading.
    Poke {
        /// How many slots back; 0 is the last one.
        back: u8,
        /// Which byte; modulo the size of a slot.
        at: u8,
        /// The value.
        value: u8,
    },
    /// Writes an entry of the page of segments, which the backend may be reading.
    Entry {
        /// Which; modulo 512.
        entry: u16,
        /// Where it points.
        memory: Memory,
        /// Its offset.
        offset: u16,
        /// Its length.
        length: u16,
    },
    /// Shows the backend what was put.
    Show {
        /// And rings.
        bell: bool,
    },
    /// Shows this many old slots as requests: honest as far as there is room, a jump beyond.
    Skip {
        /// That many.
        by: u8,
    },
    /// Writes `req_prod` this far from where it should be, and rings.
    Jump {
        /// Ahead, or back.
        by: i32,
    },
    /// Writes an index that a guest has no business to write, or a threshold that makes no sense.
    Spoil {
        /// Which.
        index: Index,
        /// From its proper value on.
        by: i32,
    },
    /// Takes a grant back, used or not.
    Revoke(Memory),
    /// Grants it again. The reference may be another, and the old one may be somebody else's.
    Grant(Memory),
    /// Rings so often, with or without reason.
    Bell {
        /// So often.
        times: u8,
    },
    /// Asks to be rung at the next answer.
    AskForEvent,
    /// Lets the devices finish what they hold.
    LetGo,
    /// Does nothing for so many times 8 microseconds.
    Rest {
        /// So many.
        times: u8,
    },
    /// Waits until everything is answered, as an honest guest that has nothing else to do.
    Await,
}

/// Bytes that make an action.
pub const ACTION_BYTES: usize = 8;

/// Commands that a disk knows, and three that scripted units do.
const OPCODES: [u8; 24] = [
    0x00, 0x28, 0x2a, 0x12, 0xa0, 0x03, 0x1a, 0x25, 0x9e, 0x35, 0x08, 0x0a, 0x88, 0x8a, 0xa8, 0xaa, 0x2f,
    0x41, 0x42, 0x5a, 0x93, 0xc0, 0xc1, HOLD,
];
/// Scripted units keep it until they are told to let go.
const HOLD: u8 = 0xc2;
const LENGTHS: [u16; 8] = [512, 4096, 36, 8, 1024, 1, 0, 4095];
/// Grant references: reserved, in the table but unused, behind its end, and perhaps in use.
const NUMBERS: [u32; 8] = [0, 7, 511, 512, 0xffff, u32::MAX, 9, 14];
const OFFSETS: [u16; 8] = [0, 512, 4, 1, 3584, 4088, 4095, 4096];

impl Memory {
    fn from_byte(byte: u8) -> Self {
        match byte % 8 {
            0 | 6 => Self::First,
            // Seldom: it ends most rings.
            5 if byte < 0xf0 => Self::Second,
            1 => Self::Second,
            2 => Self::List,
            3 => Self::ReadOnly,
            4 => Self::Foreign,
            5 => Self::Ring,
            _ => Self::Number(NUMBERS[usize::from(byte >> 3) % 8]),
        }
    }
}

impl Action {
    /// Any bytes are an action, zeroes are the most harmless one, and most are such that a backend gets far with them.
    #[must_use]
    pub fn from_bytes(bytes: [u8; ACTION_BYTES]) -> Self {
        let [kind, a, b, c, d, e, f, g] = bytes;
        let wide = u16::from_le_bytes([b, c]);
        let signed = i32::from_le_bytes([b, c, d, e]);
        // One in eight distances is far.
        let by = if a.is_multiple_of(8) { signed } else { i32::from(b.cast_signed()) };
        // Few names, so that some are in use twice and aborts find something.
        let name = |byte: u8| if byte < 0xe0 { u16::from(byte % 8) } else { u16::from(byte) * 257 };
        let lun = u16::from(c % 8 / 3);
        let place = |byte: u8| (OFFSETS[usize::from(byte >> 4) % 8], LENGTHS[usize::from(byte) % 8]);
        match kind % 32 {
            0..12 => {
                let opcode = match a {
                    0x80.. if lun == 1 => HOLD,
                    0xf0.. => b,
                    _ => OPCODES[usize::from(a) % OPCODES.len()],
                };
                let (offset, length) = place(g);
                let (memory, times) = (Memory::from_byte(e), if lun == 1 { c % 16 } else { 1 });
                let put = Put {
                    opcode,
                    operand: b,
                    lun,
                    rqid: name(d),
                    nr_segments: f,
                    memory,
                    offset,
                    length,
                    times,
                };
                Self::Put(put)
            }
            12..16 => Self::Show { bell: a.is_multiple_of(2) },
            16 => Self::Await,
            17 => Self::Noise { seed: u32::from_le_bytes([a, b, c, d]) },
            18..20 => {
                let act = if a < 160 { VSCSIIF_ACT_SCSI_ABORT } else { VSCSIIF_ACT_SCSI_RESET };
                Self::Manage { act, lun, rqid: name(d), ref_rqid: name(e) }
            }
            20 => Self::Poke { back: if a < 192 { 0 } else { a % 20 }, at: b, value: c },
            21..24 => {
                let (offset, length) = place(g);
                Self::Entry { entry: wide % 16, memory: Memory::from_byte(e), offset, length }
            }
            24 => Self::Revoke(Memory::from_byte(a)),
            25 => Self::Grant(Memory::from_byte(a)),
            26 => Self::AskForEvent,
            27 => Self::Bell { times: a },
            28 => Self::LetGo,
            29 => Self::Rest { times: a },
            // What ends most rings is seldom, or nothing else would be seen.
            30 => Self::Skip { by: if a < 240 { a % 4 } else { a % 20 } },
            _ => match a {
                0..8 => Self::Jump { by },
                8..96 => Self::Spoil { index: Index::RspProd, by },
                96..160 => Self::Spoil { index: Index::ReqEvent, by },
                _ => Self::Spoil { index: Index::RspEvent, by },
            },
        }
    }
}
