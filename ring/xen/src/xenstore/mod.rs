//! A client of xenstore (docs/misc/xenstore.txt of the Xen tree), over xenstored's socket or `/dev/xen/xenbus`.
//!
//! Blocking, with an answer for every request and bounds on all that the peer sends. [`Nodes`] holds the operations on
//! nodes, which work on [`Xenstore`] and within a [`Transaction`].

mod client;
mod connection;
mod error;
mod events;
mod nodes;
mod path;
mod permission;
#[cfg(test)]
mod tests;
mod transaction;
pub mod wire;

pub use client::Xenstore;
pub use error::Error;
pub use events::WatchEvent;
pub use nodes::Nodes;
pub use permission::{Access, Permission};
pub use transaction::Transaction;
