//! Placeholder until the reactor lands.
use crate::reactor::{Event, ReactorKind, Token};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;
#[derive(Debug)]
pub(crate) enum Form {
    IoUring(()),
    Poll,
}
impl Form {
    pub(crate) fn new(_kind: ReactorKind) -> io::Result<Self> {
        Ok(Self::Poll)
    }
    pub(crate) fn watch(&mut self, _fd: BorrowedFd<'_>, _token: Token) {}
    pub(crate) fn wait(&mut self, _timeout: Option<Duration>, _events: &mut Vec<Event>) -> io::Result<()> {
        Ok(())
    }
}
