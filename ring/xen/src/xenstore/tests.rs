//! The client against scripted peers: what xenstored must not do, and what it may.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use zerocopy::{FromBytes, IntoBytes};

use super::wire::*;
use super::*;
use crate::DomId;

/// The daemon's end.
struct Peer(UnixStream);

impl Peer {
    fn request(&mut self) -> (Sockmsg, Vec<u8>) {
        let mut head = [0; HEADER_SIZE];
        self.0.read_exact(&mut head).unwrap();
        let head = Sockmsg::read_from_bytes(&head).unwrap();
        let mut payload = vec![0; head.len as usize];
        self.0.read_exact(&mut payload).unwrap();
        (head, payload)
    }

    fn send(&mut self, kind: u32, req_id: u32, payload: &[u8]) {
        self.0.write_all(&encode(kind, req_id, 0, &[payload])).unwrap();
    }

    /// Expects a request of this type and payload, and answers.
    fn serve(&mut self, kind: u32, request: &[u8], reply: &[u8]) -> Sockmsg {
        let (head, payload) = self.request();
        assert_eq!((head.kind, payload.as_slice()), (kind, request), "{}", String::from_utf8_lossy(&payload));
        self.send(kind, head.req_id, reply);
        head
    }

    fn refuse(&mut self, kind: u32, name: &[u8]) {
        let (head, _) = self.request();
        assert_eq!(head.kind, kind);
        self.send(XS_ERROR, head.req_id, name);
    }
}

/// Runs both ends. The peer's end is closed when its script is over.
fn talk<T>(peer: impl FnOnce(&mut Peer) + Send, client: impl FnOnce(&mut Xenstore) -> T) -> T {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut xenstore = Xenstore::from_stream(ours).unwrap();
    xenstore.set_timeout(Duration::from_secs(10));
    thread::scope(|scope| {
        let script = scope.spawn(move || peer(&mut Peer(theirs)));
        let result = client(&mut xenstore);
        script.join().unwrap();
        result
    })
}

fn changed(path: &str, token: &str) -> WatchEvent {
    WatchEvent::Changed { path: path.into(), token: token.into() }
}

#[test]
fn every_operation_has_the_payload_of_the_specification() {
    let peer = |peer: &mut Peer| {
        let first = peer.serve(XS_READ, b"/a\0", b"va\0lue");
        assert_eq!(first.tx_id, 0);
        let second = peer.serve(XS_WRITE, b"/a\0x\0y", b"OK\0");
        assert_ne!(first.req_id, second.req_id);
        peer.serve(XS_MKDIR, b"/a\0", b"OK\0");
        peer.serve(XS_RM, b"/a\0", b"OK\0");
        peer.serve(XS_DIRECTORY, b"/a\0", b"x\0yy\0");
        peer.serve(XS_DIRECTORY, b"/b\0", b"");
        peer.serve(XS_GET_PERMS, b"/a\0", b"n0\0r5\0");
        peer.serve(XS_SET_PERMS, b"/a\0b3\0w4\0", b"OK\0");
        peer.serve(XS_WATCH, b"@releaseDomain\0tok\0", b"OK\0");
        peer.serve(XS_UNWATCH, b"@releaseDomain\0tok\0", b"OK\0");
        peer.serve(XS_GET_DOMAIN_PATH, b"17\0", b"/local/domain/17\0");
    };
    talk(peer, |xs| {
        assert_eq!(xs.read("/a").unwrap(), b"va\0lue");
        xs.write("/a", b"x\0y").unwrap();
        xs.mkdir("/a").unwrap();
        assert!(xs.remove("/a").unwrap());
        assert_eq!(xs.list("/a").unwrap(), ["x", "yy"]);
        assert!(xs.list("/b").unwrap().is_empty());
        let other = |access, domid| Permission { access, domid: DomId(domid) };
        assert_eq!(xs.permissions("/a").unwrap(), [other(Access::None, 0), other(Access::Read, 5)]);
        xs.set_permissions("/a", &[other(Access::ReadWrite, 3), other(Access::Write, 4)]).unwrap();
        xs.watch("@releaseDomain", "tok").unwrap();
        xs.unwatch("@releaseDomain", "tok").unwrap();
        assert_eq!(xs.domain_path(DomId(17)).unwrap(), "/local/domain/17");
    });
}

#[test]
fn an_event_between_request_and_reply_is_kept() {
    let peer = |peer: &mut Peer| {
        let (head, _) = peer.request();
        for path in [&b"/w/1\0tok\0"[..], b"/w/2\0tok\0", b"/w/1\0tok\0"] {
            peer.send(XS_WATCH_EVENT, 0, path);
        }
        peer.send(XS_READ, head.req_id, b"v");
        peer.send(XS_WATCH_EVENT, 0, b"/w/3\0tok\0future field\0");
        peer.request();
    };
    talk(peer, |xs| {
        assert_eq!(xs.read_str("/a").unwrap(), "v");
        assert_eq!(xs.next_event().unwrap(), Some(changed("/w/1", "tok")));
        assert_eq!(xs.next_event().unwrap(), Some(changed("/w/2", "tok")));
        let mut fds = [PollFd::new(xs.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, 5000_u16), Ok(1), "the third comes by the descriptor");
        assert_eq!(xs.next_event().unwrap(), Some(changed("/w/3", "tok")));
        assert_eq!(xs.next_event().unwrap(), None, "and this does not wait");
        assert!(matches!(xs.read("/a"), Err(Error::Closed)));
    });
}

#[test]
fn a_message_may_come_byte_by_byte() {
    let peer = |peer: &mut Peer| {
        let (head, _) = peer.request();
        let mut bytes = encode(XS_WATCH_EVENT, 0, 0, &[b"/w\0tok\0"]);
        bytes.extend(encode(XS_READ, head.req_id, 0, &[b"value"]));
        for byte in bytes {
            peer.0.write_all(&[byte]).unwrap();
            thread::sleep(Duration::from_micros(200));
        }
    };
    talk(peer, |xs| {
        assert_eq!(xs.read("/a").unwrap(), b"value");
        assert_eq!(xs.next_event().unwrap(), Some(changed("/w", "tok")));
    });
}

#[test]
fn a_full_message_passes_both_ways() {
    let value = [b'x'; XENSTORE_PAYLOAD_MAX];
    let peer = move |peer: &mut Peer| {
        let (head, payload) = peer.request();
        assert_eq!(payload.len(), XENSTORE_PAYLOAD_MAX);
        peer.send(XS_WRITE, head.req_id, b"OK\0");
        peer.serve(XS_READ, b"/a\0", &value);
    };
    talk(peer, |xs| {
        xs.write("/a", &value[3..]).unwrap();
        assert_eq!(xs.read("/a").unwrap(), value);
        let error = xs.write("/a", &value[2..]).unwrap_err();
        assert!(matches!(error, Error::TooLong { len: 4097, max: 4096, .. }), "{error}");
    });
}

/// What the peer answers to a read, which error that is, and that nothing works afterwards.
fn breaks(answer: impl FnOnce(&mut Peer, Sockmsg) + Send, expected: &str) {
    let peer = |peer: &mut Peer| {
        let (head, _) = peer.request();
        answer(peer, head);
    };
    talk(peer, |xs| {
        let error = xs.read("/a").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        for later in [xs.read("/a").map(drop), xs.watch("/a", "t"), xs.next_event().map(drop)] {
            let later = later.unwrap_err();
            assert!(matches!(&later, Error::Unusable(why) if why.contains(expected)), "{later}");
        }
    });
}

#[test]
fn a_reply_to_another_request_breaks_the_connection() {
    breaks(|peer, head| peer.send(XS_READ, head.req_id + 1, b"v"), "reply to request 2, where 1");
}

#[test]
fn a_reply_of_another_type_breaks_the_connection() {
    breaks(|peer, head| peer.send(XS_WRITE, head.req_id, b"v"), "type 11 to a request of type 2");
}

#[test]
fn a_claim_of_too_many_bytes_breaks_the_connection_before_they_come() {
    // No payload follows: waiting for it would end as a hangup.
    for len in [4097, u32::MAX] {
        let answer = move |peer: &mut Peer, head| {
            peer.0.write_all(Sockmsg { len, ..head }.as_bytes()).unwrap();
        };
        breaks(answer, &format!("claims {len} bytes"));
    }
}

#[test]
fn an_event_without_a_token_breaks_the_connection() {
    breaks(|peer, _| peer.send(XS_WATCH_EVENT, 0, b"/w\0tok"), "without path and token");
}

#[test]
fn a_hangup_breaks_the_connection() {
    breaks(|_, _| {}, "closed the connection");
    breaks(|peer, head| peer.0.write_all(&head.as_bytes()[..7]).unwrap(), "closed the connection");
}

#[test]
fn an_unasked_reply_is_found_when_events_are_taken() {
    let peer = |peer: &mut Peer| peer.send(XS_READ, 0, b"v");
    talk(peer, |xs| {
        poll(&mut [PollFd::new(xs.as_fd(), PollFlags::POLLIN)], 5000_u16).unwrap();
        let error = xs.next_event().unwrap_err().to_string();
        assert!(error.contains("type 2 that nobody asked for"), "{error}");
    });
}

#[test]
fn events_come_before_the_hangup_behind_them() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut xs = Xenstore::from_stream(ours).unwrap();
    Peer(theirs).send(XS_WATCH_EVENT, 0, b"/w\0tok\0");
    assert!(matches!(xs.next_event(), Err(Error::Closed)));
    assert_eq!(xs.next_event().unwrap(), Some(changed("/w", "tok")));
    assert!(matches!(xs.next_event(), Err(Error::Unusable(_))));
}

#[test]
fn silence_is_a_timeout() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let mut xs = Xenstore::from_stream(ours).unwrap();
    let timeout = Duration::from_millis(30);
    xs.set_timeout(timeout);
    let start = Instant::now();
    assert!(matches!(xs.read("/a"), Err(Error::Timeout(of)) if of == timeout));
    assert!(start.elapsed() >= timeout && start.elapsed() < Duration::from_secs(10));
    assert!(matches!(xs.read("/a"), Err(Error::Unusable(_))));
}

#[test]
fn events_do_not_prolong_the_wait() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut peer = Peer(theirs);
    peer.send(XS_WATCH_EVENT, 0, b"/w\0tok\0");
    peer.send(XS_READ, 1, b"behind an event, after the time");
    let mut xs = Xenstore::from_stream(ours).unwrap();
    xs.set_timeout(Duration::ZERO);
    assert!(matches!(xs.read("/a"), Err(Error::Timeout(_))));
}

#[test]
fn an_endless_stream_of_events_does_not_hold_next_event() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut peer = Peer(theirs);
            for n in 0.. {
                let event = encode(XS_WATCH_EVENT, 0, 0, &[format!("/w/{n}\0tok\0").as_bytes()]);
                if peer.0.write_all(&event).is_err() {
                    break;
                }
            }
        });
        let mut xs = Xenstore::from_stream(ours).unwrap();
        let mut got = 0;
        while got < 1000 {
            if xs.next_event().unwrap().is_some() {
                got += 1;
            }
        }
        assert!(xs.connection.events.len() <= events::QUEUE_MAX);
    });
}

#[test]
fn refusals_name_operation_and_path_and_break_nothing() {
    let peer = |peer: &mut Peer| {
        peer.refuse(XS_READ, b"ENOENT\0");
        peer.refuse(XS_RM, b"ENOENT\0");
        peer.refuse(XS_WRITE, b"EACCES\0");
        peer.refuse(XS_MKDIR, b"EFUTURE\0");
        peer.serve(XS_READ, b"/a\0", b"\xff");
    };
    talk(peer, |xs| {
        let error = xs.read("/a/b").unwrap_err();
        assert!(error.is_not_found());
        assert_eq!(error.to_string(), "cannot read /a/b: ENOENT: no such node");
        assert!(!xs.remove("/a/b").unwrap());
        assert!(xs.write("/a", "v").unwrap_err().is_denied());
        assert!(matches!(xs.mkdir("/a").unwrap_err(), Error::UnknownError { name, .. } if name == "EFUTURE"));
        assert!(matches!(xs.read_str("/a"), Err(Error::NotText { path }) if path == "/a"));
    });
}

#[test]
fn bad_paths_and_tokens_are_not_sent() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut xs = Xenstore::from_stream(ours).unwrap();
    assert!(matches!(xs.write("/a\0/b", "v"), Err(Error::BadPath { .. })));
    assert!(matches!(xs.read("@releaseDomain"), Err(Error::BadPath { .. })));
    assert!(matches!(xs.watch("/a", "t\0"), Err(Error::BadToken(_))));
    theirs.set_nonblocking(true).unwrap();
    let nothing = (&theirs).read(&mut [0; 16]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_long_list_starts_over_when_its_node_changes() {
    let peer = |peer: &mut Peer| {
        peer.refuse(XS_DIRECTORY, b"E2BIG\0");
        peer.serve(XS_DIRECTORY_PART, b"/a\x000\0", b"7\0one\0two\0");
        peer.serve(XS_DIRECTORY_PART, b"/a\x008\0", b"8\0three\0\0");
        peer.serve(XS_DIRECTORY_PART, b"/a\x000\0", b"8\0two\0");
        peer.serve(XS_DIRECTORY_PART, b"/a\x004\0", b"8\0three\0");
        peer.serve(XS_DIRECTORY_PART, b"/a\x0010\0", b"8\0\0");
    };
    talk(peer, |xs| assert_eq!(xs.list("/a").unwrap(), ["two", "three"]));
}

#[test]
fn a_list_that_never_ends_is_given_up() {
    let peer = |peer: &mut Peer| {
        peer.refuse(XS_DIRECTORY, b"E2BIG\0");
        let name = [b"7\0".as_slice(), &[b'x'; 4000], b"\0"].concat();
        for _ in 0..=(256 * 1024 / 4001) {
            let (head, _) = peer.request();
            peer.send(XS_DIRECTORY_PART, head.req_id, &name);
        }
        peer.refuse(XS_DIRECTORY, b"E2BIG\0");
        for generation in 0..200_u32 {
            let (head, _) = peer.request();
            peer.send(XS_DIRECTORY_PART, head.req_id, format!("{generation}\0x\0").as_bytes());
        }
        peer.refuse(XS_DIRECTORY, b"E2BIG\0");
        peer.serve(XS_DIRECTORY_PART, b"/a\x000\0", b"7\0");
    };
    talk(peer, |xs| {
        assert!(matches!(xs.list("/a"), Err(Error::Unlistable { .. })), "too long");
        assert!(matches!(xs.list("/a"), Err(Error::Unlistable { .. })), "always another generation");
        assert!(matches!(xs.list("/a"), Err(Error::Protocol(_))), "no progress");
    });
}

#[test]
fn a_transaction_carries_its_number_and_is_committed() {
    let peer = |peer: &mut Peer| {
        let start = peer.serve(XS_TRANSACTION_START, b"\0", b"42\0");
        let read = peer.serve(XS_READ, b"/a\0", b"1");
        let write = peer.serve(XS_WRITE, b"/a\x002", b"OK\0");
        let end = peer.serve(XS_TRANSACTION_END, b"T\0", b"OK\0");
        assert_eq!([start.tx_id, read.tx_id, write.tx_id, end.tx_id], [0, 42, 42, 42]);
        assert_eq!(peer.serve(XS_READ, b"/a\0", b"2").tx_id, 0);
    };
    talk(peer, |xs| {
        let old = xs.transaction(|tx| {
            let old = tx.read_str("/a")?;
            tx.write("/a", "2")?;
            Ok(old)
        });
        assert_eq!(old.unwrap(), "1");
        assert_eq!(xs.read_str("/a").unwrap(), "2");
    });
}

#[test]
fn a_conflict_is_tried_again_but_not_for_ever() {
    let conflict = |peer: &mut Peer| {
        peer.serve(XS_TRANSACTION_START, b"\0", b"1\0");
        peer.refuse(XS_TRANSACTION_END, b"EAGAIN\0");
    };
    let peer = |peer: &mut Peer| {
        conflict(peer);
        peer.serve(XS_TRANSACTION_START, b"\0", b"2\0");
        peer.serve(XS_TRANSACTION_END, b"T\0", b"OK\0");
        (0..100).for_each(|_| conflict(peer));
    };
    talk(peer, |xs| {
        let mut runs = 0;
        let mut count = |_: &mut Transaction<'_>| {
            runs += 1;
            Ok(())
        };
        xs.transaction(&mut count).unwrap();
        let error = xs.transaction(&mut count).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EAGAIN));
        assert_eq!(
            error.to_string(),
            "cannot commit a transaction: EAGAIN: others keep changing the same nodes"
        );
        assert_eq!(runs, 102);
    });
}

#[test]
fn a_body_that_fails_or_panics_aborts() {
    let peer = |peer: &mut Peer| {
        for id in [b"5\0", b"6\0"] {
            peer.serve(XS_TRANSACTION_START, b"\0", id);
            let end = peer.serve(XS_TRANSACTION_END, b"F\0", b"OK\0");
            assert_eq!(end.tx_id, u32::from(id[0] - b'0'));
        }
        peer.serve(XS_TRANSACTION_START, b"\0", b"0\0");
    };
    talk(peer, |xs| {
        let failed = xs.transaction(|_| -> Result<(), _> { Err(Error::BadToken("x".into())) });
        assert!(matches!(failed, Err(Error::BadToken(_))));
        let panicked =
            catch_unwind(AssertUnwindSafe(|| xs.transaction(|_| -> Result<(), _> { panic!("body") })));
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"body"));
        let error = xs.transaction(|_| Ok(())).unwrap_err();
        assert!(matches!(error, Error::Protocol(_)), "number 0 would mean no transaction: {error}");
    });
}
