//! What each request does (docs/misc/xenstore.txt of the Xen tree).

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use nix::errno::Errno;
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::Permission;
use pvscsi_xen::xenstore::wire::*;

use super::client::{Client, Watch};
use super::tree::{DOM0, Tree};

// What xenstored allows a guest unless told otherwise.
const WATCHES_MAX: usize = 128;
const TRANSACTIONS_MAX: usize = 10;

pub type ClientId = u64;

/// Everything that the server knows.
#[derive(Debug)]
pub struct State {
    pub tree: Tree,
    pub clients: BTreeMap<ClientId, Client>,
    pub listeners: Vec<Arc<UnixListener>>,
}

impl State {
    /// Takes and answers the requests of a client as long as there are any and it reads the answers.
    pub fn serve(&mut self, id: ClientId) {
        while let Some((head, payload)) = self.clients.get_mut(&id).and_then(Client::next_request) {
            let Some(client) = self.clients.get_mut(&id) else { unreachable!("it has just asked") };
            let result = handle(&mut self.tree, client, head, &payload);
            // Events come before the reply to the request that caused them, as from xenstored.
            self.tell_changes();
            self.answer(id, head, result);
        }
    }

    /// Tells everybody what has changed since the last time.
    pub fn tell_changes(&mut self) {
        for change in self.tree.take_changes() {
            self.clients.values_mut().for_each(|client| client.tell_change(&change));
        }
    }

    /// Special events are for domain 0 only, as long as nobody gives others the permission.
    pub fn tell_special(&mut self, name: &str) {
        for client in self.clients.values_mut().filter(|client| client.domid == DOM0) {
            client.tell(name, |watch| watch.path == name);
        }
    }

    fn answer(&mut self, id: ClientId, head: Sockmsg, result: Result<Vec<u8>, Errno>) {
        let Some(client) = self.clients.get_mut(&id) else { unreachable!("it has just asked") };
        let result = result
            .and_then(|reply| if reply.len() > XENSTORE_PAYLOAD_MAX { Err(Errno::E2BIG) } else { Ok(reply) });
        let is_new_watch = head.kind == XS_WATCH && result.is_ok();
        client.send(match result {
            Ok(reply) => encode(head.kind, head.req_id, head.tx_id, &[&reply]),
            Err(errno) => {
                let Some((_, name)) = XSD_ERRORS.iter().find(|known| known.0 == errno) else {
                    unreachable!("{errno} has no name on the wire")
                };
                encode(XS_ERROR, head.req_id, head.tx_id, &[name.as_bytes(), b"\0"])
            }
        });
        if is_new_watch && let Some(new) = client.watches.last() {
            let (path, token) = (new.path.clone(), new.token.clone());
            client.tell(&path, |watch| watch.path == path && watch.token == token);
        }
    }
}

fn handle(tree: &mut Tree, client: &mut Client, head: Sockmsg, payload: &[u8]) -> Result<Vec<u8>, Errno> {
    match head.kind {
        XS_WATCH => return watch(client, payload).map(|()| ok()),
        XS_UNWATCH => return unwatch(client, payload).map(|()| ok()),
        XS_TRANSACTION_START => return start(tree, client, head.tx_id),
        XS_TRANSACTION_END => return end(tree, client, head.tx_id, payload).map(|()| ok()),
        XS_GET_DOMAIN_PATH => return domain_path(payload),
        _ => {}
    }
    let domid = client.domid;
    let tree = match head.tx_id {
        0 => tree,
        id => client.transactions.get_mut(&id).ok_or(Errno::ENOENT)?,
    };
    let path_and_rest = || {
        let (path, rest) = split(payload)?;
        Ok((absolute(domid, path)?, rest))
    };
    let only = || match path_and_rest()? {
        (path, []) => Ok(path),
        _ => Err(Errno::EINVAL),
    };
    match head.kind {
        XS_READ => tree.read(domid, &only()?),
        XS_WRITE => {
            let (path, value) = path_and_rest()?;
            tree.write(domid, &path, value).map(|()| ok())
        }
        XS_MKDIR => tree.mkdir(domid, &only()?).map(|()| ok()),
        XS_RM => tree.remove(domid, &only()?).map(|()| ok()),
        XS_DIRECTORY => tree.children(domid, &only()?),
        XS_DIRECTORY_PART => {
            let (path, offset) = path_and_rest()?;
            tree.children_part(domid, &path, number(split(offset)?.0)?)
        }
        XS_GET_PERMS => {
            let permissions = tree.permissions(domid, &only()?)?;
            Ok(permissions.iter().flat_map(|permission| format!("{permission}\0").into_bytes()).collect())
        }
        XS_SET_PERMS => {
            let (path, list) = path_and_rest()?;
            let permissions: Option<_> = strings(list).map(Permission::from_wire).collect();
            tree.set_permissions(domid, &path, permissions.ok_or(Errno::EINVAL)?).map(|()| ok())
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn ok() -> Vec<u8> {
    b"OK\0".to_vec()
}

/// The first string and what follows its NUL.
fn split(payload: &[u8]) -> Result<(&str, &[u8]), Errno> {
    let end = payload.iter().position(|&byte| byte == 0).ok_or(Errno::EINVAL)?;
    let string = str::from_utf8(&payload[..end]).map_err(|_| Errno::EINVAL)?;
    Ok((string, &payload[end + 1..]))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, Errno> {
    text.parse().map_err(|_| Errno::EINVAL)
}

/// The path of a node, checked, relative ones completed.
fn absolute(domid: DomId, path: &str) -> Result<String, Errno> {
    if path.starts_with('@') {
        return Err(Errno::EINVAL);
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("{}{path}", home(domid)) };
    let in_order = path == "/" || path.split('/').skip(1).all(|name| !name.is_empty());
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/' | b'_' | b'@');
    if in_order && path.len() <= XENSTORE_ABS_PATH_MAX && path.bytes().all(known) {
        Ok(path)
    } else {
        Err(Errno::EINVAL)
    }
}

/// In front of relative paths.
fn home(domid: DomId) -> String {
    format!("/local/domain/{domid}/")
}

fn parse_watch(domid: DomId, payload: &[u8]) -> Result<Watch, Errno> {
    let (path, rest) = split(payload)?;
    let (token, _) = split(rest)?;
    let token = token.to_owned();
    if path.starts_with('@') {
        return Ok(Watch { path: path.to_owned(), token, hidden: 0 });
    }
    let hidden = if path.starts_with('/') { 0 } else { home(domid).len() };
    Ok(Watch { path: absolute(domid, path)?, token, hidden })
}

fn watch(client: &mut Client, payload: &[u8]) -> Result<(), Errno> {
    let new = parse_watch(client.domid, payload)?;
    if client.watches.iter().any(|old| old.path == new.path && old.token == new.token) {
        return Err(Errno::EEXIST);
    }
    if client.domid != DOM0 && client.watches.len() == WATCHES_MAX {
        return Err(Errno::E2BIG);
    }
    client.watches.push(new);
    Ok(())
}

fn unwatch(client: &mut Client, payload: &[u8]) -> Result<(), Errno> {
    let given = parse_watch(client.domid, payload)?;
    let same = |watch: &Watch| watch.path == given.path && watch.token == given.token;
    let at = client.watches.iter().position(same).ok_or(Errno::ENOENT)?;
    client.watches.remove(at);
    Ok(())
}

fn start(tree: &Tree, client: &mut Client, tx_id: u32) -> Result<Vec<u8>, Errno> {
    if tx_id != 0 {
        return Err(if client.transactions.contains_key(&tx_id) { Errno::EBUSY } else { Errno::ENOENT });
    }
    if client.domid != DOM0 && client.transactions.len() == TRANSACTIONS_MAX {
        return Err(Errno::ENOSPC);
    }
    let id = loop {
        client.last_transaction = client.last_transaction.wrapping_add(1);
        let id = client.last_transaction;
        if id != 0 && !client.transactions.contains_key(&id) {
            break id;
        }
    };
    client.transactions.insert(id, tree.begin());
    Ok(format!("{id}\0").into_bytes())
}

fn end(tree: &mut Tree, client: &mut Client, tx_id: u32, payload: &[u8]) -> Result<(), Errno> {
    let commit = match payload {
        b"T\0" => true,
        b"F\0" => false,
        _ => return Err(Errno::EINVAL),
    };
    let transaction = client.transactions.remove(&tx_id).ok_or(Errno::ENOENT)?;
    if commit { tree.commit(transaction) } else { Ok(()) }
}

fn domain_path(payload: &[u8]) -> Result<Vec<u8>, Errno> {
    let (domid, _) = split(payload)?;
    Ok(format!("/local/domain/{}\0", number::<u16>(domid)?).into_bytes())
}
