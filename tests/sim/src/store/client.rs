//! One connection, seen from the server.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::wire::{HEADER_SIZE, Sockmsg, XENSTORE_PAYLOAD_MAX, XS_WATCH_EVENT, encode};
use zerocopy::FromBytes;

use super::tree::{Change, Tree, is_at_or_below};

/// Unsent bytes from which on no more requests are taken.
const OUTBOX_FULL: usize = 64 * 1024;
/// Unsent bytes, watch events included, at which a client that does not read is cut off.
const OUTBOX_MAX: usize = 1024 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub struct Watch {
    /// Absolute, or a special event.
    pub path: String,
    pub token: String,
    /// Bytes of `path` that the client did not write and does not get to see.
    pub hidden: usize,
}

#[derive(Debug)]
pub struct Client {
    pub stream: Arc<UnixStream>,
    pub domid: DomId,
    pub watches: Vec<Watch>,
    pub transactions: BTreeMap<u32, Tree>,
    pub last_transaction: u32,
    inbox: Vec<u8>,
    outbox: VecDeque<Vec<u8>>,
    /// Bytes in the outbox, but for those of its first message that are sent.
    unsent: usize,
    sent_of_first: usize,
    pub gone: bool,
}

impl Client {
    /// `stream` must not block.
    pub fn new(stream: UnixStream, domid: DomId) -> Self {
        Self {
            stream: Arc::new(stream),
            domid,
            watches: Vec::new(),
            transactions: BTreeMap::new(),
            last_transaction: 0,
            inbox: Vec::new(),
            outbox: VecDeque::new(),
            unsent: 0,
            sent_of_first: 0,
            gone: false,
        }
    }

    pub fn wants_to_send(&self) -> bool {
        self.unsent > 0
    }

    pub fn takes_requests(&self) -> bool {
        self.unsent < OUTBOX_FULL
    }

    pub fn receive(&mut self) {
        let mut chunk = [0; 4096];
        match (&*self.stream).read(&mut chunk) {
            Ok(0) => self.gone = true,
            Ok(len) => self.inbox.extend_from_slice(&chunk[..len]),
            Err(error) => self.note(&error),
        }
    }

    /// The next whole request, unless too much is unsent.
    pub fn next_request(&mut self) -> Option<(Sockmsg, Vec<u8>)> {
        if !self.takes_requests() {
            self.flush();
        }
        if self.gone || !self.takes_requests() {
            return None;
        }
        let (head, rest) = Sockmsg::read_from_prefix(&self.inbox).ok()?;
        let len = usize::try_from(head.len).unwrap_or(usize::MAX);
        if len > XENSTORE_PAYLOAD_MAX {
            // As xenstored does: such a client is beyond help.
            self.gone = true;
            return None;
        }
        let payload = rest.get(..len)?.to_vec();
        self.inbox.drain(..HEADER_SIZE + len);
        Some((head, payload))
    }

    pub fn send(&mut self, message: Vec<u8>) {
        self.unsent += message.len();
        self.outbox.push_back(message);
        self.gone |= self.unsent > OUTBOX_MAX;
    }

    pub fn flush(&mut self) {
        while let Some(first) = self.outbox.front() {
            match (&*self.stream).write(&first[self.sent_of_first..]) {
                Ok(len) => {
                    self.unsent -= len;
                    self.sent_of_first += len;
                    if self.sent_of_first == first.len() {
                        self.outbox.pop_front();
                        self.sent_of_first = 0;
                    }
                }
                Err(error) => return self.note(&error),
            }
        }
    }

    fn note(&mut self, error: &std::io::Error) {
        self.gone |= !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
    }

    pub fn tell_change(&mut self, change: &Change) {
        if !change.is_visible_to(self.domid) {
            return;
        }
        self.tell(&change.path, |watch| {
            if change.exact { watch.path == change.path } else { is_at_or_below(&change.path, &watch.path) }
        });
    }

    /// Tells of `path` to all watches that `matches` picks.
    pub fn tell(&mut self, path: &str, matches: impl Fn(&Watch) -> bool) {
        let event = |watch: &Watch| {
            let parts = [&path.as_bytes()[watch.hidden..], b"\0", watch.token.as_bytes(), b"\0"];
            // Nobody gets what does not fit in a message.
            let fits = parts.concat().len() <= XENSTORE_PAYLOAD_MAX;
            fits.then(|| encode(XS_WATCH_EVENT, 0, 0, &parts))
        };
        let events: Vec<_> = self.watches.iter().filter(|watch| matches(watch)).filter_map(event).collect();
        for event in events {
            // An event that waits already says the same; the first message may be half sent.
            if !self.outbox.iter().skip(1).any(|waiting| *waiting == event) {
                self.send(event);
            }
        }
    }
}
