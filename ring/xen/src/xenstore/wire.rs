//! The wire format of Xen's `io/xs_wire.h`.
//!
//! Names are those of the header. A message is a [`Sockmsg`] in host byte order and `len` bytes of payload.

use nix::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Control of the daemon itself.
pub const XS_CONTROL: u32 = 0;
/// Names of the children of a node.
pub const XS_DIRECTORY: u32 = 1;
/// Value of a node.
pub const XS_READ: u32 = 2;
/// Permissions of a node.
pub const XS_GET_PERMS: u32 = 3;
/// Sets a watch.
pub const XS_WATCH: u32 = 4;
/// Ends a watch.
pub const XS_UNWATCH: u32 = 5;
/// Starts a transaction.
pub const XS_TRANSACTION_START: u32 = 6;
/// Commits or discards a transaction.
pub const XS_TRANSACTION_END: u32 = 7;
/// Makes a domain known to the daemon.
pub const XS_INTRODUCE: u32 = 8;
/// Makes the daemon forget a domain.
pub const XS_RELEASE: u32 = 9;
/// Where the nodes of a domain are.
pub const XS_GET_DOMAIN_PATH: u32 = 10;
/// Sets the value of a node.
pub const XS_WRITE: u32 = 11;
/// Makes an empty node.
pub const XS_MKDIR: u32 = 12;
/// Removes a node and what is below.
pub const XS_RM: u32 = 13;
/// Sets the permissions of a node.
pub const XS_SET_PERMS: u32 = 14;
/// From the daemon, unasked: something watched has changed.
pub const XS_WATCH_EVENT: u32 = 15;
/// From the daemon, in place of a reply: the name of an error.
pub const XS_ERROR: u32 = 16;
/// Whether the daemon knows a domain.
pub const XS_IS_DOMAIN_INTRODUCED: u32 = 17;
/// Lets a domain's end be told once more.
pub const XS_RESUME: u32 = 18;
/// Lets a domain act for another.
pub const XS_SET_TARGET: u32 = 19;
/// Ends all watches and transactions of the caller. 20 was `XS_RESTRICT`, now removed.
pub const XS_RESET_WATCHES: u32 = 21;
/// Names of the children of a node, from an offset on.
pub const XS_DIRECTORY_PART: u32 = 22;

/// Most bytes of a payload, either way.
pub const XENSTORE_PAYLOAD_MAX: usize = 4096;
/// Most bytes of an absolute path.
pub const XENSTORE_ABS_PATH_MAX: usize = 3072;
/// Most bytes of a relative path.
pub const XENSTORE_REL_PATH_MAX: usize = 2048;

/// `struct xsd_sockmsg`: the head of every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sockmsg {
    /// `XS_*` (`type` in the header).
    pub kind: u32,
    /// Chosen by the client, echoed in the reply; 0 in a watch event.
    pub req_id: u32,
    /// The transaction, or 0.
    pub tx_id: u32,
    /// Bytes of payload that follow.
    pub len: u32,
}

/// Bytes of a [`Sockmsg`].
pub const HEADER_SIZE: usize = size_of::<Sockmsg>();
const _: () = assert!(HEADER_SIZE == 16);

/// `xsd_errors`: errors go over the wire by name.
pub const XSD_ERRORS: [(Errno, &str); 16] = [
    (Errno::EINVAL, "EINVAL"),
    (Errno::EACCES, "EACCES"),
    (Errno::EEXIST, "EEXIST"),
    (Errno::EISDIR, "EISDIR"),
    (Errno::ENOENT, "ENOENT"),
    (Errno::ENOMEM, "ENOMEM"),
    (Errno::ENOSPC, "ENOSPC"),
    (Errno::EIO, "EIO"),
    (Errno::ENOTEMPTY, "ENOTEMPTY"),
    (Errno::ENOSYS, "ENOSYS"),
    (Errno::EROFS, "EROFS"),
    (Errno::EBUSY, "EBUSY"),
    (Errno::EAGAIN, "EAGAIN"),
    (Errno::EISCONN, "EISCONN"),
    (Errno::E2BIG, "E2BIG"),
    (Errno::EPERM, "EPERM"),
];

/// A whole message. `parts` are joined as they are: NULs between strings are the caller's.
///
/// # Panics
///
/// When the payload is longer than [`XENSTORE_PAYLOAD_MAX`].
#[must_use]
pub fn encode(kind: u32, req_id: u32, tx_id: u32, parts: &[&[u8]]) -> Vec<u8> {
    let payload = parts.concat();
    assert!(payload.len() <= XENSTORE_PAYLOAD_MAX, "a payload of {} bytes", payload.len());
    let Ok(len) = u32::try_from(payload.len()) else { unreachable!("at most 4096") };
    let head = Sockmsg { kind, req_id, tx_id, len };
    [head.as_bytes(), &payload].concat()
}

/// The NUL-terminated strings of a payload; bytes behind the last NUL do not count.
pub fn strings(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    payload.split_inclusive(|&byte| byte == 0).filter_map(|string| string.strip_suffix(&[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_four_words_and_the_payload() {
        let message = encode(XS_WRITE, 7, 9, &[b"a/b\0", b"\0x"]);
        let words: Vec<u32> =
            message[..16].as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word)).collect();
        assert_eq!(words, [11, 7, 9, 6]);
        assert_eq!(&message[16..], b"a/b\0\0x");
    }

    #[test]
    fn strings_end_at_a_nul() {
        let of = |payload| strings(payload).collect::<Vec<_>>();
        assert_eq!(of(b"a\0bc\0\0"), [&b"a"[..], b"bc", b""]);
        assert_eq!(of(b"a\0rest"), [b"a"]);
        assert!(of(b"").is_empty());
    }
}
