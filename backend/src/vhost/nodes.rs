//! Reading and writing nodes that others may remove or change at any time.

use pvscsi_xen::xenstore::{self, Nodes, Xenstore};
use tracing::warn;

use crate::xenbus::{Frontend, XenbusState};

/// EINVAL, by number.
pub(super) fn einval() -> i32 {
    nix::errno::Errno::EINVAL as i32
}

/// A text of ours, which may quote a whole node, at a length that a node and a line of a log can take.
pub(super) fn shorten(text: &dyn std::fmt::Display) -> String {
    const MAX_CHARS: usize = 500;
    let mut text = text.to_string();
    if let Some((end, _)) = text.char_indices().nth(MAX_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Whether only this request failed: it was refused, or could not be sent at all. The connection works on.
pub(super) fn is_of_request(error: &xenstore::Error) -> bool {
    use xenstore::Error as E;
    matches!(error, E::System { .. } | E::UnknownError { .. } | E::BadPath { .. } | E::TooLong { .. })
}

/// A request that fails is logged; a broken connection is an error.
pub(super) fn not_fatal(result: Result<(), xenstore::Error>) -> Result<(), xenstore::Error> {
    match result {
        Err(error) if is_of_request(&error) => {
            warn!("{error}");
            Ok(())
        }
        other => other,
    }
}

pub(crate) fn read_optional(store: &mut impl Nodes, path: &str) -> Result<Option<Vec<u8>>, xenstore::Error> {
    match store.read(path) {
        Ok(value) => Ok(Some(value)),
        // A node that we may not read is as good as none, and so is one in a directory whose name leaves no room for its own.
        Err(error) if error.is_not_found() || error.is_denied() => Ok(None),
        Err(xenstore::Error::BadPath { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names below a node; none where there is no node, or where we may not look.
pub(crate) fn children(store: &mut impl Nodes, path: &str) -> Result<Vec<String>, xenstore::Error> {
    match store.list(path) {
        Err(error) if error.is_not_found() || error.is_denied() => Ok(Vec::new()),
        names => names,
    }
}

pub(super) fn state_of(store: &mut Xenstore, path: &str) -> Result<Option<Frontend>, xenstore::Error> {
    let value = read_optional(store, path)?;
    Ok(value.map(|text| XenbusState::parse(&text).map_or(Frontend::Garbage, Frontend::State)))
}

/// Writes a node that exists and says something else. One that is gone is not made again: its directory was removed.
pub(super) fn write_if_there(store: &mut Xenstore, path: &str, value: &str) -> Result<(), xenstore::Error> {
    not_fatal(store.transaction(|tx| match tx.read(path) {
        Ok(old) if old == value.as_bytes() => Ok(()),
        Ok(_) => tx.write(path, value),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }))
}

/// Closes a vhost, unless it is closed, gone, or a new one in place of it: the toolstack's 1.
pub(super) fn close(store: &mut Xenstore, path: &str) -> Result<(), xenstore::Error> {
    let (initialising, closed) = (XenbusState::Initialising.digit(), XenbusState::Closed.digit());
    not_fatal(store.transaction(|tx| match tx.read(path) {
        Ok(old) if old == initialising.as_bytes() || old == closed.as_bytes() => Ok(()),
        Ok(_) => tx.write(path, closed),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }))
}

/// Removes a node with what was reported as wrong.
pub(super) fn drop_error(store: &mut Xenstore, node: &str) -> Result<(), xenstore::Error> {
    match store.remove(node) {
        // In a driver domain that may not write there, nothing was reported.
        Err(error) if error.is_denied() => Ok(()),
        removed => not_fatal(removed.map(|_| ())),
    }
}

/// Moves a node from one state to the next, unless somebody else has moved it.
pub(super) fn replace(
    store: &mut Xenstore,
    path: &str,
    from: XenbusState,
    to: XenbusState,
) -> Result<(), xenstore::Error> {
    not_fatal(store.transaction(|tx| match tx.read(path) {
        Ok(old) if old == from.digit().as_bytes() => tx.write(path, to.digit()),
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pvscsi_sim::store::Store;
    use pvscsi_xen::DomId;

    /// The toolstack may remove a directory and make it again between our look at it and our answer to what we saw.
    #[test]
    fn a_directory_made_anew_is_not_closed() {
        let server = Store::new();
        let mut store = Xenstore::from_stream(server.connect(DomId(0))).unwrap();
        close(&mut store, "a/state").unwrap();
        assert!(store.read("a/state").unwrap_err().is_not_found(), "what is gone stays away");
        for (before, after) in [("1", "1"), ("2", "6"), ("4", "6"), ("5", "6"), ("6", "6")] {
            store.write("a/state", before).unwrap();
            close(&mut store, "a/state").unwrap();
            assert_eq!(store.read_str("a/state").unwrap(), after, "{before}");
        }
    }
}
