//! One connection: whole messages in and out, each request with its reply, events put aside.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zerocopy::FromBytes;

use super::Error;
use super::events::EventQueue;
use super::wire::{self, HEADER_SIZE, Sockmsg, XENSTORE_PAYLOAD_MAX, XS_ERROR, XS_WATCH_EVENT, XSD_ERRORS};

const MESSAGE_MAX: usize = HEADER_SIZE + XENSTORE_PAYLOAD_MAX;

/// How long a request waits for its reply unless told otherwise: xenstored may be busy, but not that busy.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Most messages taken in one go, so that a peer that never stops sending cannot hold us.
const MESSAGES_AT_ONCE: usize = 256;

/// What a request is about, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub doing: &'static str,
    pub path: &'a str,
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: File,
    /// Bytes that a payload may have on the way out.
    payload_max: usize,
    timeout: Duration,
    last_req_id: u32,
    /// What has been read and is not yet a whole message: never more than one message.
    inbox: Vec<u8>,
    pub events: EventQueue,
    /// Why nothing more can be done.
    broken: Option<String>,
}

struct Message {
    head: Sockmsg,
    payload: Vec<u8>,
}

impl Connection {
    /// `stream` must not block.
    pub fn new(stream: OwnedFd, payload_max: usize) -> Self {
        Self {
            stream: stream.into(),
            payload_max,
            timeout: REPLY_TIMEOUT,
            last_req_id: 0,
            inbox: Vec::with_capacity(MESSAGE_MAX),
            events: EventQueue::default(),
            broken: None,
        }
    }

    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Sends a request and waits for its reply, whose payload it gives.
    pub fn request(
        &mut self,
        kind: u32,
        tx_id: u32,
        about: About<'_>,
        parts: &[&[u8]],
    ) -> Result<Vec<u8>, Error> {
        self.check_usable()?;
        let len = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        if len > self.payload_max {
            let About { doing, path } = about;
            return Err(Error::TooLong { doing, path: path.to_owned(), len, max: self.payload_max });
        }
        self.last_req_id = self.last_req_id.wrapping_add(1);
        let message = wire::encode(kind, self.last_req_id, tx_id, parts);
        let reply = self.exchange(kind, &message);
        let reply = self.note_failure(reply)?;
        if reply.head.kind == XS_ERROR { Err(refusal(about, &reply.payload)) } else { Ok(reply.payload) }
    }

    /// Puts aside the events that are there, without waiting.
    pub fn take_in(&mut self) -> Result<(), Error> {
        self.check_usable()?;
        let taken = self.take_in_events();
        self.note_failure(taken)
    }

    /// Gives up on the connection: the peer sent what it must not.
    pub fn protocol_error<T>(&mut self, what: impl Into<String>) -> Result<T, Error> {
        self.note_failure(Err(Error::Protocol(what.into())))
    }

    fn check_usable(&self) -> Result<(), Error> {
        self.broken.as_ref().map_or(Ok(()), |why| Err(Error::Unusable(why.clone())))
    }

    fn note_failure<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|error| self.broken = Some(error.to_string()))
    }

    fn exchange(&mut self, kind: u32, message: &[u8]) -> Result<Message, Error> {
        let deadline = Instant::now().checked_add(self.timeout);
        self.send(message, deadline)?;
        loop {
            let reply = self.receive(deadline)?;
            if reply.head.kind == XS_WATCH_EVENT {
                self.queue_event(&reply.payload)?;
            } else if reply.head.req_id != self.last_req_id {
                let (got, want) = (reply.head.req_id, self.last_req_id);
                return Err(Error::Protocol(format!("a reply to request {got}, where {want} is waited for")));
            } else if reply.head.kind != kind && reply.head.kind != XS_ERROR {
                let got = reply.head.kind;
                return Err(Error::Protocol(format!("a reply of type {got} to a request of type {kind}")));
            } else {
                return Ok(reply);
            }
        }
    }

    fn take_in_events(&mut self) -> Result<(), Error> {
        for _ in 0..MESSAGES_AT_ONCE {
            let Some(message) = self.next_message()? else { break };
            if message.head.kind != XS_WATCH_EVENT {
                let kind = message.head.kind;
                return Err(Error::Protocol(format!("a message of type {kind} that nobody asked for")));
            }
            self.queue_event(&message.payload)?;
        }
        Ok(())
    }

    fn queue_event(&mut self, payload: &[u8]) -> Result<(), Error> {
        let mut fields = wire::strings(payload).map(str::from_utf8);
        // Xenstored with XENSTORE_SERVER_FEATURE_WATCHDEPTH may add fields of its own.
        let (Some(Ok(path)), Some(Ok(token))) = (fields.next(), fields.next()) else {
            return Err(Error::Protocol("a watch event without path and token".into()));
        };
        self.events.push(path, token);
        Ok(())
    }

    fn send(&mut self, mut message: &[u8], deadline: Option<Instant>) -> Result<(), Error> {
        while !message.is_empty() {
            match self.stream.write(message) {
                // A short write is followed by another; more than was offered cannot have been written.
                Ok(written) => message = message.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::POLLOUT, deadline)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_hangup(&error) => return Err(Error::Closed),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits for a message. Events do not prolong the time.
    fn receive(&mut self, deadline: Option<Instant>) -> Result<Message, Error> {
        loop {
            if let Some(message) = self.next_message()? {
                // A stream of events must not keep a request waiting for ever.
                if message.head.kind == XS_WATCH_EVENT && remaining(deadline).is_zero() {
                    return Err(Error::Timeout(self.timeout));
                }
                return Ok(message);
            }
            self.wait(PollFlags::POLLIN, deadline)?;
        }
    }

    fn wait(&self, what: PollFlags, deadline: Option<Instant>) -> Result<(), Error> {
        loop {
            let left = remaining(deadline);
            if left.is_zero() {
                return Err(Error::Timeout(self.timeout));
            }
            // Rounded up, so that the last millisecond is slept and not spun.
            let left = left.saturating_add(Duration::from_micros(999));
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.stream.as_fd(), what)], timeout) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
    }

    /// Takes a message if a whole one is there.
    fn next_message(&mut self) -> Result<Option<Message>, Error> {
        loop {
            let missing = match Sockmsg::read_from_prefix(&self.inbox) {
                Err(_) => HEADER_SIZE.saturating_sub(self.inbox.len()),
                Ok((head, payload)) => {
                    let len = usize::try_from(head.len).unwrap_or(usize::MAX);
                    if len > XENSTORE_PAYLOAD_MAX {
                        return Err(Error::Protocol(format!("a message that claims {len} bytes of payload")));
                    }
                    if len == payload.len() {
                        let message = Message { head, payload: payload.to_vec() };
                        self.inbox.clear();
                        return Ok(Some(message));
                    }
                    len.saturating_sub(payload.len())
                }
            };
            // No byte of a later message is taken in, so the inbox never holds more than one.
            let limit = u64::try_from(missing).unwrap_or(u64::MAX);
            match (&self.stream).take(limit).read_to_end(&mut self.inbox) {
                Ok(0) => return Err(Error::Closed),
                Ok(_) => {}
                // What came before the error is in the inbox.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if is_hangup(&error) => return Err(Error::Closed),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn remaining(deadline: Option<Instant>) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
}

fn is_hangup(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn refusal(About { doing, path }: About<'_>, payload: &[u8]) -> Error {
    let path = path.to_owned();
    let name = String::from_utf8_lossy(payload.strip_suffix(&[0]).unwrap_or(payload));
    match XSD_ERRORS.iter().find(|known| known.1 == name) {
        Some(&(errno, _)) => Error::System { doing, path, errno },
        None => Error::UnknownError { doing, path, name: name.chars().take(32).collect() },
    }
}
