//! Waiting and submitting for one worker: operations on descriptors that complete later.
//!
//! Two forms behind one face: an io_uring, where one system call submits everything and waits, and `poll` with plain
//! system calls, where io_uring is missing or forbidden.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use pvscsi_guestmem::Span;

use crate::sys;

/// Names an operation: who asked for it, and what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Who gets the event.
    pub owner: u32,
    /// The owner's own number for the operation.
    pub what: u32,
}

/// A finished operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// As given with the operation.
    pub token: Token,
    /// Bytes moved or poll events; a negative value is `-errno`.
    pub result: i32,
    /// What a driver says besides of a command that it has carried out; 0 of all else.
    pub detail: u64,
}

/// Which form a [`Reactor`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReactorKind {
    /// io_uring where it works, else poll.
    Auto,
    /// io_uring, or an error.
    IoUring,
    /// poll and plain system calls.
    Poll,
}

/// Operations on descriptors, for one thread.
#[derive(Debug)]
pub struct Reactor(pub(crate) sys::reactor::Form);

impl Reactor {
    /// Makes a reactor.
    ///
    /// # Errors
    ///
    /// With [`ReactorKind::IoUring`]: what `io_uring_setup` said. The other kinds do not fail for want of io_uring.
    pub fn new(kind: ReactorKind) -> io::Result<Self> {
        sys::reactor::Form::new(kind).map(Self)
    }

    /// Whether this is an io_uring. Only then [`has_news`](Self::has_news) can be relied on.
    #[must_use]
    pub fn is_io_uring(&self) -> bool {
        matches!(self.0, sys::reactor::Form::IoUring(_))
    }

    /// Memory that most data of commands lies in. An engine that can have it pinned once, and not by each command, does so when it
    /// has its first command.
    pub fn offer(&mut self, memory: Span) {
        self.0.offer(memory);
    }

    /// Asks for one event when `fd` becomes readable (now, if it is). Must be asked for again after each event.
    ///
    /// # Panics
    ///
    /// When more operations are asked for than the reactor has room for; see [`CAPACITY`](Self::CAPACITY).
    pub fn watch(&mut self, fd: BorrowedFd<'_>, token: Token) {
        self.0.watch(fd, token);
    }

    /// Reads once from `fd`, as soon as something is there: at most 8 bytes, an event channel's port or an eventfd's count. The
    /// event tells how many; what they say is not kept. `fd` must not block.
    ///
    /// # Panics
    ///
    /// As [`watch`](Self::watch).
    pub fn read_word(&mut self, fd: BorrowedFd<'_>, token: Token) {
        self.0.read_word(fd, token);
    }

    /// Writes `bytes` to `fd`, then reads as [`read_word`](Self::read_word) does. When they cannot be written, all of them,
    /// nothing is read, and the event tells the result of the write: less than 4.
    ///
    /// Both are one operation, because a write that works is no event: it would end the wait that it is handed over with.
    ///
    /// # Panics
    ///
    /// As [`watch`](Self::watch).
    pub fn write_and_read_word(&mut self, fd: BorrowedFd<'_>, bytes: [u8; 4], token: Token) {
        self.0.write_and_read_word(fd, bytes, token);
    }

    /// Takes back everything that `owner` asked for and was not told of: no event for it follows.
    pub fn cancel(&mut self, owner: u32) {
        self.0.cancel(owner);
    }

    /// Submits what was asked for, waits until something is finished or `timeout` has passed (`None`: no limit;
    /// zero: does not wait), and adds what is finished to `events`.
    ///
    /// # Errors
    ///
    /// What the system call says; an interrupting signal is not an error.
    pub fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.0.wait(timeout, events)
    }

    /// Submits what was asked for, and does not wait.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn hand_over(&mut self) -> io::Result<()> {
        self.0.hand_over()
    }

    /// Whether [`wait`](Self::wait) has something to tell, found without a system call.
    pub fn has_news(&mut self) -> bool {
        self.0.has_news()
    }

    /// Takes back all that is under way, and tells of nothing any more. Commands that a driver has cannot be taken back: they
    /// are waited for as long as `patience` lasts. `false`: some are left, and dropping the reactor waits for them.
    pub fn settle(&mut self, patience: Duration) -> bool {
        let now = Instant::now();
        self.0.settle(now.checked_add(patience).unwrap_or(now))
    }

    /// Operations that can be under way at once.
    pub const CAPACITY: usize = 4096;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use nix::sys::eventfd::{EfdFlags, EventFd};

    const FORMS: [ReactorKind; 2] = [ReactorKind::Auto, ReactorKind::Poll];

    fn token(owner: u32, what: u32) -> Token {
        Token { owner, what }
    }

    #[test]
    fn a_watch_fires_once_and_only_when_readable() {
        for kind in FORMS {
            let mut reactor = Reactor::new(kind).unwrap();
            let (reader, mut writer) = std::io::pipe().unwrap();
            let mut events = Vec::new();
            reactor.watch(reader.as_fd(), token(7, 9));
            reactor.wait(Some(Duration::from_millis(10)), &mut events).unwrap();
            assert!(events.is_empty(), "{kind:?}: nothing to read yet");
            writer.write_all(b"x").unwrap();
            reactor.wait(None, &mut events).unwrap();
            assert_eq!(events.len(), 1, "{kind:?}");
            assert_eq!(events[0].token, token(7, 9));
            assert!(events[0].result > 0);
            events.clear();
            reactor.wait(Some(Duration::from_millis(10)), &mut events).unwrap();
            assert!(events.is_empty(), "{kind:?}: asked once, told once");
        }
    }

    #[test]
    fn news_is_seen_without_a_wait() {
        let mut reactor = Reactor::new(ReactorKind::Auto).unwrap();
        if !reactor.is_io_uring() {
            assert!(Reactor::new(ReactorKind::IoUring).is_err(), "io_uring of before Linux 5.19");
            return;
        }
        let (reader, mut writer) = std::io::pipe().unwrap();
        reactor.watch(reader.as_fd(), token(7, 9));
        reactor.hand_over().unwrap();
        assert!(!reactor.has_news(), "nothing to read yet");
        let mut events = Vec::new();
        reactor.wait(Some(Duration::ZERO), &mut events).unwrap();
        assert!(events.is_empty());
        writer.write_all(b"x").unwrap();
        let start = Instant::now();
        while !reactor.has_news() {
            assert!(start.elapsed() < Duration::from_secs(10), "never seen");
        }
        reactor.wait(Some(Duration::ZERO), &mut events).unwrap();
        assert_eq!(events.iter().map(|event| event.token).collect::<Vec<_>>(), [token(7, 9)]);
        assert!(!reactor.has_news(), "it was told");
    }

    #[test]
    fn a_wait_ends_with_its_time() {
        for kind in FORMS {
            let mut reactor = Reactor::new(kind).unwrap();
            let start = Instant::now();
            reactor.wait(Some(Duration::from_millis(20)), &mut Vec::new()).unwrap();
            assert!(start.elapsed() >= Duration::from_millis(19), "{kind:?}");
            reactor.wait(Some(Duration::ZERO), &mut Vec::new()).unwrap();
        }
    }

    #[test]
    fn a_cancelled_owner_hears_nothing_and_others_do() {
        for kind in FORMS {
            let mut reactor = Reactor::new(kind).unwrap();
            let (reader, mut writer) = std::io::pipe().unwrap();
            reactor.watch(reader.as_fd(), token(1, 0));
            reactor.watch(reader.as_fd(), token(2, 0));
            reactor.cancel(1);
            writer.write_all(b"x").unwrap();
            let mut events = Vec::new();
            while events.is_empty() {
                reactor.wait(None, &mut events).unwrap();
            }
            reactor.wait(Some(Duration::from_millis(10)), &mut events).unwrap();
            assert_eq!(events.iter().map(|event| event.token).collect::<Vec<_>>(), [token(2, 0)], "{kind:?}");
        }
    }

    /// More operations than the io_uring has submission slots, with a reactor that is dropped while they wait.
    #[test]
    fn many_operations_fit_and_are_dropped_in_good_order() {
        for kind in FORMS {
            let mut reactor = Reactor::new(kind).unwrap();
            let pipes: Vec<_> = (0..300).map(|_| std::io::pipe().unwrap()).collect();
            for (i, (reader, _)) in pipes.iter().enumerate() {
                reactor.watch(reader.as_fd(), token(i as u32, 0));
            }
            let mut events = Vec::new();
            (&pipes[299].1).write_all(b"x").unwrap();
            while events.is_empty() {
                reactor.wait(None, &mut events).unwrap();
            }
            assert_eq!(events[0].token, token(299, 0), "{kind:?}");
            assert!(reactor.settle(Duration::ZERO), "{kind:?}: all of these can be taken back");
            assert_eq!(told(&mut reactor, A_WHILE), [], "{kind:?}: and nobody hears of them");
            drop(reactor);
        }
    }

    /// What `reactor` tells within a while.
    fn told(reactor: &mut Reactor, timeout: Option<Duration>) -> Vec<Event> {
        let mut events = Vec::new();
        reactor.wait(timeout, &mut events).unwrap();
        events
    }

    const A_WHILE: Option<Duration> = Some(Duration::from_millis(20));

    fn sockets() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    #[test]
    fn a_word_is_read_once() {
        for kind in FORMS {
            let mut reactor = Reactor::new(kind).unwrap();
            let (ours, mut theirs) = sockets();
            reactor.read_word(ours.as_fd(), token(7, 9));
            assert_eq!(told(&mut reactor, A_WHILE), [], "{kind:?}: nothing to read yet");
            theirs.write_all(b"port").unwrap();
            let read = Event { token: token(7, 9), result: 4, detail: 0 };
            assert_eq!(told(&mut reactor, None), [read], "{kind:?}");
            theirs.write_all(b"and the next").unwrap();
            assert_eq!(told(&mut reactor, A_WHILE), [], "{kind:?}: asked once, told once");
            reactor.read_word(ours.as_fd(), token(7, 9));
            assert_eq!(
                told(&mut reactor, None),
                [Event { result: 8, ..read }],
                "{kind:?}: what is there, as one word"
            );
            assert_eq!((&ours).read(&mut [0; 8]).unwrap(), 4, "{kind:?}: and no more");
            drop(theirs);
            reactor.read_word(ours.as_fd(), token(7, 9));
            assert_eq!(told(&mut reactor, None), [Event { result: 0, ..read }], "{kind:?}: the end");
        }
    }

    #[test]
    fn an_eventfd_is_a_word() {
        for kind in FORMS {
            let mut reactor = Reactor::new(kind).unwrap();
            let bell = EventFd::from_value_and_flags(3, EfdFlags::EFD_NONBLOCK).unwrap();
            for _ in 0..1000 {
                reactor.read_word(bell.as_fd(), token(1, 0));
                assert_eq!(
                    told(&mut reactor, None),
                    [Event { token: token(1, 0), result: 8, detail: 0 }],
                    "{kind:?}"
                );
                assert_eq!(bell.read(), Err(nix::errno::Errno::EAGAIN), "{kind:?}: it was read");
                bell.write(1).unwrap();
            }
        }
    }

    /// The write is done with the wait, is no event, and does not end the wait.
    #[test]
    fn a_word_is_written_in_silence_and_then_one_is_read() {
        for kind in FORMS {
            let mut reactor = Reactor::new(kind).unwrap();
            let (ours, mut theirs) = sockets();
            let mut events = Vec::new();
            for round in 0..1000_u32 {
                reactor.write_and_read_word(ours.as_fd(), round.to_ne_bytes(), token(1, 2));
                if round % 100 == 0 {
                    let start = Instant::now();
                    assert_eq!(told(&mut reactor, A_WHILE), [], "{kind:?}");
                    assert!(
                        start.elapsed() >= Duration::from_millis(19),
                        "{kind:?}: the write ended the wait"
                    );
                }
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        let mut written = [0; 4];
                        theirs.set_nonblocking(false).unwrap();
                        theirs.read_exact(&mut written).unwrap();
                        assert_eq!(written, round.to_ne_bytes(), "{kind:?}");
                        theirs.write_all(&written).unwrap();
                    });
                    reactor.wait(None, &mut events).unwrap();
                });
                assert_eq!(
                    events,
                    [Event { token: token(1, 2), result: 4, detail: 0 }],
                    "{kind:?}: one wait"
                );
                events.clear();
            }
        }
    }

    #[test]
    fn a_write_that_fails_is_told_and_nothing_is_read() {
        for kind in FORMS {
            let mut reactor = Reactor::new(kind).unwrap();
            // An eventfd takes 8 bytes only, and it has something to read.
            let bell = EventFd::from_value_and_flags(1, EfdFlags::EFD_NONBLOCK).unwrap();
            let failed = Event { token: token(1, 2), result: -libc::EINVAL, detail: 0 };
            for _ in 0..3 {
                reactor.write_and_read_word(bell.as_fd(), [1; 4], token(1, 2));
                assert_eq!(told(&mut reactor, None), [failed], "{kind:?}");
                assert_eq!(told(&mut reactor, A_WHILE), [], "{kind:?}: told once");
            }
            // One that cannot be written at all.
            let (reader, _writer) = std::io::pipe().unwrap();
            reactor.write_and_read_word(reader.as_fd(), [1; 4], token(1, 2));
            assert_eq!(told(&mut reactor, None), [Event { result: -libc::EBADF, ..failed }], "{kind:?}");
            assert_eq!(told(&mut reactor, A_WHILE), [], "{kind:?}: told once");
            assert_eq!(bell.read(), Ok(1), "{kind:?}: nobody read");
        }
    }

    #[test]
    fn a_write_waits_for_room() {
        for kind in FORMS {
            let mut reactor = Reactor::new(kind).unwrap();
            let (ours, mut theirs) = sockets();
            while (&ours).write(&[0; 4096]).is_ok() {}
            reactor.write_and_read_word(ours.as_fd(), *b"last", token(1, 2));
            assert_eq!(told(&mut reactor, A_WHILE), [], "{kind:?}");
            let mut all = Vec::new();
            let mut got = [0; 4096];
            while !all.ends_with(b"last") {
                match theirs.read(&mut got) {
                    Ok(n) => all.extend_from_slice(&got[..n]),
                    Err(_) => assert_eq!(told(&mut reactor, A_WHILE), [], "{kind:?}"),
                }
            }
            theirs.write_all(b"seen").unwrap();
            assert_eq!(
                told(&mut reactor, None),
                [Event { token: token(1, 2), result: 4, detail: 0 }],
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_cancelled_word_is_not_read() {
        for kind in FORMS {
            for written in [false, true] {
                let mut reactor = Reactor::new(kind).unwrap();
                let (ours, mut theirs) = sockets();
                if written {
                    reactor.write_and_read_word(ours.as_fd(), *b"port", token(1, 0));
                } else {
                    reactor.read_word(ours.as_fd(), token(1, 0));
                }
                assert_eq!(told(&mut reactor, A_WHILE), [], "{kind:?}");
                reactor.cancel(1);
                assert_eq!(told(&mut reactor, A_WHILE), [], "{kind:?}");
                theirs.write_all(b"x").unwrap();
                assert_eq!(told(&mut reactor, A_WHILE), [], "{kind:?}");
                assert_eq!((&ours).read(&mut [0; 8]).unwrap(), 1, "{kind:?}: it is left for others");
            }
        }
    }

    /// Queued or waiting, written or not: a reactor goes with its words, and with all of them told of none.
    #[test]
    fn a_reactor_goes_with_words_under_way() {
        for kind in FORMS {
            for waits in 0..3 {
                let mut reactor = Reactor::new(kind).unwrap();
                let pairs: Vec<_> = (0..100).map(|_| sockets()).collect();
                for (i, (ours, _)) in pairs.iter().enumerate() {
                    match i % 2 {
                        0 => reactor.read_word(ours.as_fd(), token(i as u32, 0)),
                        _ => reactor.write_and_read_word(ours.as_fd(), *b"port", token(i as u32, 0)),
                    }
                }
                for _ in 0..waits {
                    assert_eq!(told(&mut reactor, A_WHILE), [], "{kind:?}");
                }
                drop(reactor);
                for (i, (_, theirs)) in pairs.into_iter().enumerate() {
                    let mut written = Vec::new();
                    let _ = (&theirs).read_to_end(&mut written);
                    assert_eq!(written, if i % 2 == 0 { "" } else { "port" }.as_bytes(), "{kind:?}");
                }
            }
        }
    }
}
