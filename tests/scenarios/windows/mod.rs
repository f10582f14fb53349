//! SUSE's Windows frontend against the real worker and, where xenstore matters, the real server.

mod devices;
mod errors;
mod guest;
mod host;
mod io;
mod lifecycle;
mod reset;
mod ring;
