//! The ring that a guest and its backend share, and the vscsiif messages on it.
//!
//! A slot is copied once ([`BackRing::take`]); the copy is parsed ([`Request::parse`]) and never looked at again in guest
//! memory. Each taken request has one [`Ticket`], and only a ticket pays for an answer ([`BackRing::push`]).
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::cast_possible_truncation
    )
)]

mod back_ring;
mod request;
mod response;
pub mod vscsiif;

pub use back_ring::{BackRing, RingError, Ticket};
pub use request::{Action, Direction, Nexus, Refusal, Request, ScsiRequest, Segment, SegmentList};
pub use response::Answer;
