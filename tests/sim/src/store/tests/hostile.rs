//! Clients that do not keep to the protocol, or to good manners.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::Nodes;
use pvscsi_xen::xenstore::wire::*;
use zerocopy::{FromBytes, IntoBytes};

use super::{Access, client, eventually, permission};
use crate::store::Store;

fn reply(stream: &mut UnixStream) -> (Sockmsg, Vec<u8>) {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut head = [0; HEADER_SIZE];
    stream.read_exact(&mut head).unwrap();
    let head = Sockmsg::read_from_bytes(&head).unwrap();
    let mut payload = vec![0; head.len as usize];
    stream.read_exact(&mut payload).unwrap();
    (head, payload)
}

fn ask(stream: &mut UnixStream, kind: u32, tx_id: u32, payload: &[u8]) -> (Sockmsg, Vec<u8>) {
    stream.write_all(&encode(kind, 99, tx_id, &[payload])).unwrap();
    reply(stream)
}

fn works(store: &Store) {
    let mut xs = client(store, 0);
    xs.write("/alive", "yes").unwrap();
    assert_eq!(xs.read("/alive").unwrap(), b"yes");
}

#[test]
fn senseless_requests_are_refused_one_by_one() {
    let store = Store::new();
    let mut stream = store.connect(DomId(5));
    let mut refused = |kind, tx_id, payload: &[u8], error: &[u8]| {
        let (head, answer) = ask(&mut stream, kind, tx_id, payload);
        let text = String::from_utf8_lossy(payload).into_owned();
        assert_eq!((head.kind, head.req_id, head.tx_id), (XS_ERROR, 99, tx_id), "{kind} {text:?}");
        assert_eq!(answer, error, "{kind} {text:?}: {}", String::from_utf8_lossy(&answer));
    };
    for kind in [XS_CONTROL, XS_WATCH_EVENT, XS_ERROR, 20, 23, 0xffff, u32::MAX] {
        refused(kind, 0, b"x\0", b"ENOSYS\0");
    }
    for kind in
        [XS_READ, XS_WRITE, XS_MKDIR, XS_RM, XS_DIRECTORY, XS_GET_PERMS, XS_SET_PERMS, XS_DIRECTORY_PART]
    {
        let bad = [&b""[..], b"\0", b"no nul", b"a//b\0", b"/a/\0", b"/a b\0", b"\xff\0", b"@special\0"];
        for payload in bad {
            refused(kind, 0, payload, b"EINVAL\0");
        }
        refused(kind, 7, b"a\0", b"ENOENT\0");
    }
    let long = format!("/{}\0", "x".repeat(3072));
    refused(XS_READ, 0, long.as_bytes(), b"EINVAL\0");
    refused(XS_READ, 0, b"a\0b\0", b"EINVAL\0");
    for number in [&b"-1\0"[..], b"x\0", b"99999999999999999999\0", b"", b"1"] {
        refused(XS_DIRECTORY_PART, 0, &[b"a\0", number].concat(), b"EINVAL\0");
    }
    for list in [&b"x5\0"[..], b"r\0", b"r70000\0", b""] {
        refused(XS_SET_PERMS, 0, &[b"a\0", list].concat(), b"EINVAL\0");
    }
    for end in [&b"T\0"[..], b"F\0"] {
        refused(XS_TRANSACTION_END, 0, end, b"ENOENT\0");
        refused(XS_TRANSACTION_END, 3, end, b"ENOENT\0");
    }
    refused(XS_TRANSACTION_END, 0, b"maybe\0", b"EINVAL\0");
    refused(XS_TRANSACTION_START, 3, b"\0", b"ENOENT\0");
    refused(XS_WATCH, 0, b"a\0", b"EINVAL\0");
    refused(XS_UNWATCH, 0, b"a\0t\0", b"ENOENT\0");
    refused(XS_GET_DOMAIN_PATH, 0, b"65536\0", b"EINVAL\0");
    works(&store);
}

#[test]
fn a_list_from_beyond_its_end_is_empty() {
    let store = Store::new();
    store.write("/a/b", "");
    let mut stream = store.connect(DomId(0));
    for offset in ["2", "3", "18446744073709551615"] {
        let (head, part) = ask(&mut stream, XS_DIRECTORY_PART, 0, format!("/a\0{offset}\0").as_bytes());
        assert_eq!(head.kind, XS_DIRECTORY_PART);
        assert!(part.ends_with(b"\0\0") && part.len() < 24, "{part:?}");
    }
    let (_, inside) = ask(&mut stream, XS_DIRECTORY_PART, 0, b"/a\x001\0");
    assert!(inside.ends_with(b"\0\0\0"), "an offset inside of a name gives the rest of it: {inside:?}");
}

#[test]
fn a_part_of_a_list_fits_in_a_message() {
    let store = Store::new();
    let mut stream = store.connect(DomId(0));
    for last in 70..=110 {
        let dir = format!("/{last}");
        let names = ["a".repeat(2000), "b".repeat(2000), "c".repeat(last)];
        for name in &names {
            store.write(&format!("{dir}/{name}"), "");
        }
        let (head, part) = ask(&mut stream, XS_DIRECTORY_PART, 0, format!("{dir}\x000\0").as_bytes());
        assert_eq!(head.kind, XS_DIRECTORY_PART, "{last}: {}", String::from_utf8_lossy(&part));
        let is_whole = part.ends_with(b"c\0\0");
        assert!(
            is_whole || part.ends_with(b"b\0"),
            "whole names, and the end marked only where it is: {last}"
        );
        assert!(
            is_whole || part.len() + last + 2 > XENSTORE_PAYLOAD_MAX,
            "no more parts than needed: {last}"
        );
    }
}

#[test]
fn a_claim_of_too_many_bytes_ends_the_connection() {
    let store = Store::new();
    for len in [4097, u32::MAX] {
        let mut stream = store.connect(DomId(5));
        let head = Sockmsg { kind: XS_READ, req_id: 1, tx_id: 0, len };
        stream.write_all(head.as_bytes()).unwrap();
        assert_eq!(stream.read(&mut [0; 64]).unwrap(), 0);
    }
    works(&store);
    eventually("nothing is left", || store.counts().connections == 0);
}

#[test]
fn a_request_may_come_byte_by_byte_or_not_to_its_end() {
    let store = Store::new();
    store.write("/a", "value");
    let mut stream = store.connect(DomId(0));
    let message = encode(XS_READ, 99, 0, &[b"/a\0"]);
    for byte in &message {
        stream.write_all(&[*byte]).unwrap();
        thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(reply(&mut stream).1, b"value");
    stream.write_all(&message[..17]).unwrap();
    drop(stream);
    eventually("the connection is forgotten", || store.counts().connections == 0);
}

#[test]
fn many_requests_at_once_are_all_answered() {
    let store = Store::new();
    store.write("/a", "x".repeat(4000));
    let mut stream = store.connect(DomId(0));
    let requests: Vec<u8> = (0..1000).flat_map(|n| encode(XS_READ, n, 0, &[b"/a\0"])).collect();
    stream.write_all(&requests).unwrap();
    // The answers are 4 MB, far more than socket and outbox hold: some requests have to wait.
    for n in 0..1000 {
        let (head, payload) = reply(&mut stream);
        assert_eq!((head.kind, head.req_id, payload.len()), (XS_READ, n, 4000));
    }
    works(&store);
}

#[test]
fn who_never_reads_is_cut_off_and_holds_nobody() {
    let store = Store::new();
    let mut deaf = store.connect(DomId(0));
    deaf.write_all(&encode(XS_WATCH, 1, 0, &[b"/\0t\0"])).unwrap();
    eventually("the watch is set", || store.counts().watches == 1);
    let long = "x".repeat(2000);
    for n in 0..1500 {
        store.write(&format!("/{long}{n}"), "");
    }
    eventually("it is cut off", || store.counts().connections == 0);
    works(&store);
    let mut rest = Vec::new();
    let end = deaf.read_to_end(&mut rest);
    assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    assert!(rest.len() < 1500 * 2000, "{} bytes came", rest.len());
}

#[test]
fn a_guest_has_its_quotas() {
    let store = Store::new();
    store.write("/local/domain/5/data", "");
    client(&store, 0).set_permissions("/local/domain/5/data", &[permission(Access::None, 5)]).unwrap();
    let mut guest = client(&store, 5);
    guest.write("data", [b'x'; 2048]).unwrap();
    assert_eq!(guest.write("data", [b'x'; 2049]).unwrap_err().errno(), Some(Errno::ENOSPC));
    for n in 1..1000 {
        guest.mkdir(&format!("data/{n}")).unwrap();
    }
    assert_eq!(guest.mkdir("data/1000").unwrap_err().errno(), Some(Errno::ENOSPC));
    assert_eq!(guest.list("data").unwrap().len(), 999);
    for n in 0..128 {
        guest.watch("data", &n.to_string()).unwrap();
    }
    assert_eq!(guest.watch("data", "128").unwrap_err().errno(), Some(Errno::E2BIG));
    let six = [permission(Access::None, 5); 6];
    assert_eq!(guest.set_permissions("data", &six).unwrap_err().errno(), Some(Errno::ENOSPC));
    guest.set_permissions("data", &six[1..]).unwrap();
}

#[test]
fn noise_does_no_harm() {
    let store = Store::new();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let words: [&[u8]; 10] = [b"/", b"a", b"/a/b", b"\0", b"@", b"r5", b"n0", b"T", b"0", b"local/domain/5"];
    let mut stream = store.connect(DomId(0));
    let mut refused = 0;
    for _ in 0..5000 {
        let payload: Vec<u8> = (0..next(5))
            .flat_map(|_| [words[next(10) as usize], &[b'\0', b'/'][..next(3) as usize]].concat())
            .collect();
        let message = encode(next(24) as u32, 99, next(4) as u32, &[&payload]);
        stream.write_all(&message).unwrap();
        let (head, _) = loop {
            let (head, payload) = reply(&mut stream);
            if head.kind != XS_WATCH_EVENT {
                break (head, payload);
            }
        };
        assert_eq!(head.req_id, 99);
        refused += usize::from(head.kind == XS_ERROR);
    }
    assert!((500..4900).contains(&refused), "{refused} of 5000 refused: the noise has lost its meaning");
    works(&store);
}
