//! Nodes, their permissions, and transactions on them, with the rules of xenstored.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use nix::errno::Errno;
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::wire::XENSTORE_PAYLOAD_MAX;
use pvscsi_xen::xenstore::{Access, Permission};

pub const DOM0: DomId = DomId(0);

// What xenstored allows a guest unless told otherwise; domain 0 has no limits.
const NODES_MAX: usize = 1000;
const VALUE_MAX: usize = 2048;
const PERMISSIONS_MAX: usize = 5;

#[derive(Clone, Debug)]
struct Node {
    value: Vec<u8>,
    permissions: Vec<Permission>,
    children: BTreeSet<String>,
    /// Differs after each change, and between a node and one that replaced it.
    generation: u64,
}

/// Something that watches may be waiting for.
#[derive(Debug)]
pub struct Change {
    pub path: String,
    /// A node removed with a parent of it: only watches of this very node are told.
    pub exact: bool,
    /// Whoever may read by one of these is told: the node's, before and after, and its parent's.
    permissions: Vec<Vec<Permission>>,
}

impl Change {
    pub fn is_visible_to(&self, domid: DomId) -> bool {
        self.permissions.iter().any(|permissions| allows(permissions, domid, Need::Read))
    }
}

/// The tree, or the copy that a transaction works on.
#[derive(Debug)]
pub struct Tree {
    nodes: BTreeMap<String, Arc<Node>>,
    generation: u64,
    /// In a transaction: what it looked at or changed, and the generation that it found (`None`: no such node).
    touched: Option<BTreeMap<String, Option<u64>>>,
    changes: Vec<Change>,
    history: Vec<(String, Option<Vec<u8>>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Read,
    Write,
    Own,
}

fn allows(permissions: &[Permission], domid: DomId, need: Need) -> bool {
    let Some((owner, others)) = permissions.split_first() else { unreachable!("a node has an owner") };
    if domid == DOM0 || domid == owner.domid {
        return true;
    }
    let entry = others.iter().find(|entry| entry.domid == domid).unwrap_or(owner);
    match need {
        Need::Read => matches!(entry.access, Access::Read | Access::ReadWrite),
        Need::Write => matches!(entry.access, Access::Write | Access::ReadWrite),
        Need::Own => false,
    }
}

/// `None` for the root.
fn split(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    if name.is_empty() { None } else { Some((if parent.is_empty() { "/" } else { parent }, name)) }
}

pub fn is_at_or_below(path: &str, top: &str) -> bool {
    top == "/" || path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Tree {
    pub fn new() -> Self {
        let root = Node {
            value: Vec::new(),
            permissions: vec![Permission { access: Access::None, domid: DOM0 }],
            children: BTreeSet::new(),
            generation: 0,
        };
        let nodes = BTreeMap::from([("/".to_owned(), Arc::new(root))]);
        Self { nodes, generation: 0, touched: None, changes: Vec::new(), history: Vec::new() }
    }

    pub fn read(&mut self, domid: DomId, path: &str) -> Result<Vec<u8>, Errno> {
        Ok(self.find(domid, path, Need::Read)?.value.clone())
    }

    pub fn write(&mut self, domid: DomId, path: &str, value: &[u8]) -> Result<(), Errno> {
        if domid != DOM0 && value.len() > VALUE_MAX {
            return Err(Errno::ENOSPC);
        }
        let mut node = self.find_or_make(domid, path)?;
        node.value = value.to_vec();
        self.put(path, node);
        self.changed(path, false, None);
        self.history.push((path.to_owned(), Some(value.to_vec())));
        Ok(())
    }

    pub fn mkdir(&mut self, domid: DomId, path: &str) -> Result<(), Errno> {
        let is_new = self.look(path).is_none();
        self.find_or_make(domid, path)?;
        if is_new {
            self.changed(path, false, None);
        }
        Ok(())
    }

    pub fn remove(&mut self, domid: DomId, path: &str) -> Result<(), Errno> {
        let (parent, name) = split(path).ok_or(Errno::EINVAL)?;
        match self.find(domid, path, Need::Write) {
            // Only the parent has to exist (docs/misc/xenstore.txt, RM).
            Err(Errno::ENOENT) if self.look(parent).is_some() => return Ok(()),
            found => found?,
        };
        let below: Vec<String> =
            self.nodes.keys().filter(|node| is_at_or_below(node, path)).cloned().collect();
        for node in below.iter().rev() {
            self.changed(node, node != path, None);
        }
        for node in below {
            self.look(&node);
            self.nodes.remove(&node);
            self.history.push((node, None));
        }
        let mut parent_node = self.clone_of(parent);
        parent_node.children.remove(name);
        self.put(parent, parent_node);
        Ok(())
    }

    /// Names with a NUL each.
    pub fn children(&mut self, domid: DomId, path: &str) -> Result<Vec<u8>, Errno> {
        let node = self.find(domid, path, Need::Read)?;
        Ok(node.children.iter().flat_map(|name| name.bytes().chain([0])).collect())
    }

    /// The generation, then whole names from `offset` on as far as they fit, then an empty name if these are the last.
    pub fn children_part(&mut self, domid: DomId, path: &str, offset: usize) -> Result<Vec<u8>, Errno> {
        let all = self.children(domid, path)?;
        let mut part = format!("{}\0", self.clone_of(path).generation).into_bytes();
        let mut rest = all.get(offset..).unwrap_or_default().split_inclusive(|&byte| byte == 0).peekable();
        while let Some(name) = rest.next_if(|name| part.len() + name.len() < XENSTORE_PAYLOAD_MAX) {
            part.extend_from_slice(name);
        }
        if rest.peek().is_none() {
            part.push(0);
        }
        Ok(part)
    }

    pub fn permissions(&mut self, domid: DomId, path: &str) -> Result<Vec<Permission>, Errno> {
        Ok(self.find(domid, path, Need::Read)?.permissions.clone())
    }

    pub fn set_permissions(&mut self, domid: DomId, path: &str, new: Vec<Permission>) -> Result<(), Errno> {
        let owner = new.first().ok_or(Errno::EINVAL)?.domid;
        if domid != DOM0 && new.len() > PERMISSIONS_MAX {
            return Err(Errno::ENOSPC);
        }
        let mut node = Node::clone(&*self.find(domid, path, Need::Own)?);
        if domid != DOM0 && owner != node.permissions[0].domid {
            return Err(Errno::EPERM);
        }
        let old = mem::replace(&mut node.permissions, new);
        self.put(path, node);
        self.changed(path, false, Some(old));
        Ok(())
    }

    /// Removes what a domain owns, as xenstored does when the domain is gone.
    pub fn remove_owned_by(&mut self, domid: DomId) {
        let owned =
            |(path, node): (&String, &Arc<Node>)| (node.permissions[0].domid == domid).then(|| path.clone());
        let paths: Vec<String> = self.nodes.iter().filter_map(owned).collect();
        for path in paths {
            // EINVAL for the root, which stays; nothing is done where a parent went before.
            let _ = self.remove(DOM0, &path);
        }
    }

    /// A copy for a transaction.
    pub fn begin(&self) -> Self {
        Self {
            nodes: self.nodes.clone(),
            generation: self.generation,
            touched: Some(BTreeMap::new()),
            changes: Vec::new(),
            history: Vec::new(),
        }
    }

    /// Takes over what a transaction changed, if nothing that it touched has changed since.
    pub fn commit(&mut self, transaction: Self) -> Result<(), Errno> {
        let Some(touched) = transaction.touched else { unreachable!("made by begin") };
        if touched.iter().any(|(path, found)| self.nodes.get(path).map(|node| node.generation) != *found) {
            return Err(Errno::EAGAIN);
        }
        for path in touched.into_keys() {
            match (self.nodes.get(&path), transaction.nodes.get(&path)) {
                (Some(ours), Some(theirs)) if Arc::ptr_eq(ours, theirs) => {}
                (_, Some(theirs)) => self.put(&path, Node::clone(theirs)),
                (_, None) => drop(self.nodes.remove(&path)),
            }
        }
        self.changes.extend(transaction.changes);
        self.history.extend(transaction.history);
        Ok(())
    }

    /// What was written (`None`: removed) at and below `top`, in order.
    pub fn history(&self, top: &str) -> Vec<(String, Option<Vec<u8>>)> {
        self.history.iter().filter(|(path, _)| is_at_or_below(path, top)).cloned().collect()
    }

    pub fn take_changes(&mut self) -> Vec<Change> {
        mem::take(&mut self.changes)
    }

    /// All nodes but the root.
    pub fn dump(&self) -> BTreeMap<String, Vec<u8>> {
        self.nodes.iter().skip(1).map(|(path, node)| (path.clone(), node.value.clone())).collect()
    }

    pub fn len(&self) -> usize {
        self.nodes.len() - 1
    }

    fn look(&mut self, path: &str) -> Option<Arc<Node>> {
        let node = self.nodes.get(path).cloned();
        if let Some(touched) = &mut self.touched {
            touched.entry(path.to_owned()).or_insert_with(|| node.as_ref().map(|node| node.generation));
        }
        node
    }

    fn find(&mut self, domid: DomId, path: &str, need: Need) -> Result<Arc<Node>, Errno> {
        match self.look(path) {
            Some(node) if allows(&node.permissions, domid, need) => Ok(node),
            Some(_) => Err(Errno::EACCES),
            // Whether a node exists is told only to those who could read or write it.
            None if allows(&self.nearest_parent(path).1.permissions, domid, need) => Err(Errno::ENOENT),
            None => Err(Errno::EACCES),
        }
    }

    fn nearest_parent<'a>(&mut self, mut path: &'a str) -> (&'a str, Arc<Node>) {
        while let Some((parent, _)) = split(path) {
            if let Some(node) = self.look(parent) {
                return (parent, node);
            }
            path = parent;
        }
        unreachable!("the root exists and has no parent to look for")
    }

    /// The node, made with its missing parents if need be.
    fn find_or_make(&mut self, domid: DomId, path: &str) -> Result<Node, Errno> {
        match self.find(domid, path, Need::Write) {
            Err(Errno::ENOENT) => {}
            found => return found.map(|node| Node::clone(&node)),
        }
        let (existing, parent) = self.nearest_parent(path);
        let mut permissions = parent.permissions.clone();
        if domid != DOM0 {
            permissions[0].domid = domid;
        }
        let mut missing: Vec<&str> = Vec::new();
        let mut at = path;
        while at != existing {
            missing.push(at);
            at = split(at).map_or("/", |(parent, _)| parent);
        }
        let owns = |node: &&Arc<Node>| node.permissions[0].domid == domid;
        if domid != DOM0 && self.nodes.values().filter(owns).count() + missing.len() > NODES_MAX {
            return Err(Errno::ENOSPC);
        }
        for made in missing.into_iter().rev() {
            let Some((parent, name)) = split(made) else { unreachable!("the root exists") };
            let mut parent_node = self.clone_of(parent);
            parent_node.children.insert(name.to_owned());
            self.put(parent, parent_node);
            let (value, children) = (Vec::new(), BTreeSet::new());
            self.put(made, Node { value, permissions: permissions.clone(), children, generation: 0 });
        }
        Ok(self.clone_of(path))
    }

    fn clone_of(&mut self, path: &str) -> Node {
        let Some(node) = self.look(path) else { unreachable!("{path} was found before") };
        Node::clone(&node)
    }

    fn put(&mut self, path: &str, mut node: Node) {
        self.look(path);
        self.generation += 1;
        node.generation = self.generation;
        self.nodes.insert(path.to_owned(), Arc::new(node));
    }

    fn changed(&mut self, path: &str, exact: bool, before: Option<Vec<Permission>>) {
        // Not by `look`: telling of a change is no access of the transaction.
        let of = |path: &str| self.nodes.get(path).map(|node| node.permissions.clone());
        let parent = split(path).and_then(|(parent, _)| of(parent));
        let permissions = [before, of(path), parent].into_iter().flatten().collect();
        self.changes.push(Change { path: path.to_owned(), exact, permissions });
    }
}
