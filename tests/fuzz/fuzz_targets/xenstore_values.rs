//! What stands in xenstore, and whatever xenstored sends: values, names, watch events, refusals, and messages that end too
//! early or claim too much.
#![no_main]

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use pvscsi_backend::pdev::PDev;
use pvscsi_backend::xenbus::XenbusState;
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::wire::{self, XENSTORE_PAYLOAD_MAX, XS_ERROR, XS_WATCH_EVENT};
use pvscsi_xen::xenstore::{Error, Nodes, WatchEvent, Xenstore};

/// What the client asks for, one after the other.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Call {
    Read,
    ReadText,
    List,
    Permissions,
    Write,
    Remove,
    Watch,
    DomainPath,
    Transaction,
    Event,
}

/// What xenstored has sent by then.
#[derive(Arbitrary, Debug)]
enum Sent {
    /// A reply to the next request in turn, of this type.
    Reply(u8, Vec<u8>),
    /// A refusal of it.
    Refusal(Vec<u8>),
    Event(Vec<u8>),
    /// A reply to some request.
    Stray(u8, u8, Vec<u8>),
    /// Perhaps a part of a message.
    Bytes(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
struct Input {
    value: Vec<u8>,
    calls: Vec<Call>,
    sent: Vec<Sent>,
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(Input { value, calls, sent }) = Input::arbitrary(&mut Unstructured::new(bytes)) else { return };
    let state = XenbusState::parse(&value);
    assert!(state.is_none_or(|state| state.digit().as_bytes() == value), "one digit and nothing else");
    if let Some(device) = str::from_utf8(&value).ok().and_then(|text| text.parse::<PDev>().ok()) {
        assert_eq!(device.to_string().parse(), Ok(device), "a device is what it says it is");
    }
    talk(&calls, &encode(&sent));
});

/// All that is sent. The client counts its requests from 1 on.
fn encode(sent: &[Sent]) -> Vec<u8> {
    let mut in_turn = 0;
    let mut next = || {
        in_turn += 1;
        in_turn
    };
    let mut all = Vec::new();
    for message in sent {
        let (kind, req_id, payload) = match message {
            Sent::Reply(kind, payload) => (u32::from(*kind % 24), next(), payload),
            Sent::Refusal(name) => (XS_ERROR, next(), name),
            Sent::Event(payload) => (XS_WATCH_EVENT, 0, payload),
            Sent::Stray(kind, req_id, payload) => (u32::from(*kind), u32::from(*req_id), payload),
            Sent::Bytes(bytes) => {
                all.extend_from_slice(bytes);
                continue;
            }
        };
        let payload = &payload[..payload.len().min(XENSTORE_PAYLOAD_MAX)];
        all.extend(wire::encode(kind, req_id, 0, &[payload]));
    }
    all
}

fn talk(calls: &[Call], sent: &[u8]) {
    let (ours, mut theirs) = UnixStream::pair().expect("sockets");
    theirs.set_nonblocking(true).expect("a socket");
    // What does not fit into the socket is cut: one more message that ends too early. Then the end, so that nobody waits.
    let _ = theirs.write(sent);
    theirs.shutdown(Shutdown::Write).expect("a socket");
    let mut store = Xenstore::from_stream(ours).expect("a socket");
    let mut broken = false;
    for call in calls.iter().take(32) {
        let Err(error) = ask(&mut store, *call) else {
            assert!(!broken, "a broken connection stays broken");
            continue;
        };
        let text = error.to_string();
        assert!(!text.contains(char::is_control) && text.len() < 1000, "for a log: {text:?}");
        broken |= matches!(error, Error::Closed | Error::Protocol(_) | Error::Unusable(_) | Error::Io(_));
        assert!(!matches!(error, Error::Timeout(_)), "the end is seen at once");
    }
}

fn ask(store: &mut Xenstore, call: Call) -> Result<(), Error> {
    match call {
        Call::Read => store.read("/a").map(|value| assert!(value.len() <= XENSTORE_PAYLOAD_MAX)),
        Call::ReadText => store.read_str("/a").map(drop),
        Call::List => store.list("/a").map(|names| assert!(names.iter().all(|name| !name.contains('\0')))),
        Call::Permissions => store.permissions("/a").map(|all| assert!(!all.is_empty())),
        Call::Write => store.write("/a", "1"),
        Call::Remove => store.remove("/a").map(drop),
        Call::Watch => store.watch("/a", "token"),
        Call::DomainPath => store.domain_path(DomId(3)).map(drop),
        Call::Transaction => store.transaction(|tx| {
            let value = tx.read("/a")?;
            tx.write("/b", value)
        }),
        Call::Event => take_events(store),
    }
}

fn take_events(store: &mut Xenstore) -> Result<(), Error> {
    while let Some(event) = store.next_event()? {
        let WatchEvent::Changed { path, token } = event else { continue };
        assert!(!path.contains('\0') && !token.contains('\0'));
    }
    Ok(())
}
