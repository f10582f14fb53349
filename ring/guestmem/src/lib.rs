//! Memory that somebody else can change while we look, and private buffers beside it.
//!
//! Two contracts:
//!
//! * **Shared memory is only ever copied.** [`SharedPage`] hands out no reference into the page: every
//!   access is an atomic load or store, so a guest that writes while we read changes values, never
//!   the meaning of our program.
//! * **A [`Buffer`] has one owner at a time.** Whoever holds it may read and write it; handing it to the
//!   kernel means moving it into the operation, and it comes back with the completion.
//!
//! `unsafe` lives here on purpose; docs/safety.md lists every block.
#![expect(unsafe_code, reason = "this crate is the door to foreign memory")]

mod buffer;
#[cfg_attr(loom, path = "loom_page.rs")]
mod shared_page;

pub use buffer::{BUFFER_CAPACITY, Buffer, BufferPool, Span};
pub use shared_page::{HeapPage, SharedPage};

/// Bytes in a page of the vscsiif protocol and of every x86 guest (vscsiif.h, `VSCSIIF_PAGE_SIZE`).
pub const PAGE_SIZE: usize = 4096;
