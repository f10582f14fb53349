//! What can go wrong with xenstore.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

use super::wire::XSD_ERRORS;

/// Why something with xenstore did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No way to xenstore was found.
    #[error(
        "cannot reach xenstore ({}). Is this a Xen domain, does xenstored run, may this process open them (root)? \
         XENSTORED_PATH names another socket",
        list(tried)
    )]
    Open {
        /// What was tried, in order.
        tried: Vec<(PathBuf, io::Error)>,
    },
    /// Xenstored refused.
    #[error("cannot {doing} {path}: {}", describe(*.errno))]
    System {
        /// The operation: "read", "write", …
        doing: &'static str,
        /// The path that it was about.
        path: String,
        /// One of [`XSD_ERRORS`].
        errno: Errno,
    },
    /// Xenstored refused with an error that `xs_wire.h` does not list.
    #[error("cannot {doing} {path}: xenstored says {name:?}, which is no error known here")]
    UnknownError {
        /// The operation.
        doing: &'static str,
        /// The path that it was about.
        path: String,
        /// What xenstored sent.
        name: String,
    },
    /// A path that xenstored would not take; it was not sent.
    #[error("{path:?} is no xenstore path: {reason}")]
    BadPath {
        /// The path.
        path: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A watch token with a NUL in it; it was not sent.
    #[error("{0:?} cannot be a watch token: it contains a NUL")]
    BadToken(String),
    /// What was to be sent does not fit in a message; it was not sent.
    #[error("cannot {doing} {path}: {len} bytes do not fit in a message, {max} do")]
    TooLong {
        /// The operation.
        doing: &'static str,
        /// The path that it was about.
        path: String,
        /// Bytes of the payload.
        len: usize,
        /// Bytes that this connection allows.
        max: usize,
    },
    /// The value is not UTF-8.
    #[error("the value of {path} is not text")]
    NotText {
        /// The node.
        path: String,
    },
    /// The children changed each time the list was read, or there are more than anybody needs.
    #[error("the list of children of {path} keeps changing or is longer than {max} bytes")]
    Unlistable {
        /// The node.
        path: String,
        /// Most bytes of a list.
        max: usize,
    },
    /// No reply in time. The connection is unusable from now on.
    #[error("xenstored did not answer within {0:?}")]
    Timeout(Duration),
    /// Xenstored closed the connection.
    #[error("xenstored closed the connection")]
    Closed,
    /// The peer does not keep to the protocol. The connection is unusable from now on.
    #[error("xenstored broke the protocol: {0}")]
    Protocol(String),
    /// Reading, writing or waiting failed. The connection is unusable from now on.
    #[error("the connection to xenstored failed: {0}")]
    Io(#[from] io::Error),
    /// An earlier failure made the connection unusable.
    #[error("the connection to xenstored is unusable since: {0}")]
    Unusable(String),
}

impl Error {
    /// What xenstored answered, if this is an answer.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::System { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// Whether the node does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.errno() == Some(Errno::ENOENT)
    }

    /// Whether the node is not ours to touch.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self.errno(), Some(Errno::EACCES | Errno::EPERM))
    }
}

fn list(tried: &[(PathBuf, io::Error)]) -> String {
    tried.iter().fold(String::new(), |mut all, (path, error)| {
        let separator = if all.is_empty() { "" } else { "; " };
        let Ok(()) = write!(all, "{separator}{}: {error}", path.display()) else {
            unreachable!("writing to a string")
        };
        all
    })
}

/// Name and meaning: what the system's own text says of files is often wrong for nodes.
fn describe(errno: Errno) -> String {
    let name = XSD_ERRORS.iter().find(|known| known.0 == errno).map_or("?", |known| known.1);
    let meaning = match errno {
        Errno::ENOENT => "no such node",
        Errno::EACCES => "this domain has no permission",
        Errno::EPERM => "only the owner or the control domain may",
        Errno::EEXIST => "exists already",
        Errno::ENOSPC => "a quota of xenstored is used up",
        Errno::EAGAIN => "others keep changing the same nodes",
        Errno::E2BIG => "too long for a message, or a quota of xenstored is used up",
        Errno::ENOSYS => "this xenstored does not know the operation",
        Errno::EINVAL => "xenstored does not accept it",
        other => other.desc(),
    };
    format!("{name}: {meaning}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_operation_path_and_error() {
        let path = "/local/domain/0/name".to_owned();
        let error = Error::System { doing: "read", path, errno: Errno::ENOENT };
        assert_eq!(error.to_string(), "cannot read /local/domain/0/name: ENOENT: no such node");
        assert!(error.is_not_found() && !error.is_denied());
    }

    #[test]
    fn every_error_of_the_wire_has_name_and_meaning() {
        for (errno, name) in XSD_ERRORS {
            assert_eq!(name, format!("{errno:?}"));
            let text = describe(errno);
            assert!(text.starts_with(name) && text.len() > name.len() + 5, "{text}");
        }
    }

    #[test]
    fn open_says_all_that_was_tried() {
        let tried = ["/a", "/b"].map(|path| (path.into(), io::Error::from(io::ErrorKind::NotFound)));
        let text = Error::Open { tried: tried.into() }.to_string();
        assert!(
            text.contains("/a: ") && text.contains("; /b: ") && text.contains("XENSTORED_PATH"),
            "{text}"
        );
    }
}
