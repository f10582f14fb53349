//! What can be done with nodes, inside a transaction and outside.

use nix::errno::Errno;

use super::connection::{About, Connection};
use super::wire::{
    self, XS_DIRECTORY, XS_DIRECTORY_PART, XS_GET_PERMS, XS_MKDIR, XS_READ, XS_RM, XS_SET_PERMS, XS_WRITE,
};
use super::{Error, Permission, path};

/// Most bytes of a list of children: far more than any directory of devices needs.
const LIST_MAX: usize = 256 * 1024;
/// How often a list is started anew because it changed under way.
const LIST_TRIES: usize = 100;

/// The connection of a [`Nodes`] and the transaction to use.
pub(super) struct Via<'a> {
    pub connection: &'a mut Connection,
    pub tx_id: u32,
}

pub(super) mod sealed {
    /// Only this module knows how to send.
    pub trait Reach {
        #[doc(hidden)]
        #[expect(private_interfaces, reason = "the trait is sealed: nobody outside calls this")]
        fn via(&mut self) -> super::Via<'_>;
    }
}

/// Operations on nodes, for [`Xenstore`](super::Xenstore) and [`Transaction`](super::Transaction) alike.
///
/// Paths are absolute, or relative to `/local/domain/<our domid>`.
///
/// # Errors
///
/// All of them: [`Error::System`] when xenstored refuses, [`Error::BadPath`] and [`Error::TooLong`] before anything is
/// sent, and the failures of the connection.
pub trait Nodes: sealed::Reach {
    /// The value of a node.
    ///
    /// # Errors
    ///
    /// See [`Nodes`]; [`Error::is_not_found`] tells that there is no such node.
    fn read(&mut self, path: &str) -> Result<Vec<u8>, Error> {
        self.via().request(XS_READ, "read", path, &[])
    }

    /// The value of a node as text.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and [`Error::NotText`].
    fn read_str(&mut self, path: &str) -> Result<String, Error> {
        let value = self.read(path)?;
        String::from_utf8(value).map_err(|_| Error::NotText { path: path.to_owned() })
    }

    /// Sets the value of a node; makes the node and its parents where they are missing.
    ///
    /// # Errors
    ///
    /// See [`Nodes`].
    fn write(&mut self, path: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.via().request(XS_WRITE, "write", path, &[value.as_ref()]).map(drop)
    }

    /// Makes a node with an empty value, and its parents where they are missing. An existing node stays as it is.
    ///
    /// # Errors
    ///
    /// See [`Nodes`].
    fn mkdir(&mut self, path: &str) -> Result<(), Error> {
        self.via().request(XS_MKDIR, "make", path, &[]).map(drop)
    }

    /// Removes a node and everything below it. `Ok(false)`: xenstored knows neither the node nor its parent.
    ///
    /// `Ok(true)` says that the node is gone, not that it was there: xenstored answers alike when only the parent
    /// exists (docs/misc/xenstore.txt, `RM`).
    ///
    /// # Errors
    ///
    /// See [`Nodes`].
    fn remove(&mut self, path: &str) -> Result<bool, Error> {
        match self.via().request(XS_RM, "remove", path, &[]) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The names of the children of a node, however many.
    ///
    /// # Errors
    ///
    /// See [`Nodes`]; [`Error::Unlistable`] when a long list changes each time it is read.
    fn list(&mut self, path: &str) -> Result<Vec<String>, Error> {
        let mut via = self.via();
        match via.request(XS_DIRECTORY, "list", path, &[]) {
            Ok(names) => wire::strings(&names).map(|name| via.text(name)).collect(),
            Err(error) if error.errno() == Some(Errno::E2BIG) => via.list_in_parts(path),
            Err(error) => Err(error),
        }
    }

    /// The permissions of a node, the owner's entry first.
    ///
    /// # Errors
    ///
    /// See [`Nodes`].
    fn permissions(&mut self, path: &str) -> Result<Vec<Permission>, Error> {
        let mut via = self.via();
        let payload = via.request(XS_GET_PERMS, "read the permissions of", path, &[])?;
        let permissions: Option<Vec<_>> = wire::strings(&payload).map(Permission::from_wire).collect();
        match permissions {
            Some(permissions) if !permissions.is_empty() => Ok(permissions),
            _ => via.connection.protocol_error("permissions that make no sense"),
        }
    }

    /// Sets the permissions of a node, the owner's entry first.
    ///
    /// # Errors
    ///
    /// See [`Nodes`]; xenstored refuses an empty list.
    fn set_permissions(&mut self, path: &str, permissions: &[Permission]) -> Result<(), Error> {
        let text: String = permissions.iter().map(|permission| format!("{permission}\0")).collect();
        self.via().request(XS_SET_PERMS, "set the permissions of", path, &[text.as_bytes()]).map(drop)
    }
}

impl Via<'_> {
    /// Sends `path`, NUL, `rest`.
    fn request(
        &mut self,
        kind: u32,
        doing: &'static str,
        path: &str,
        rest: &[&[u8]],
    ) -> Result<Vec<u8>, Error> {
        path::check_node(path)?;
        let parts = [&[path.as_bytes(), b"\0"], rest].concat();
        self.connection.request(kind, self.tx_id, About { doing, path }, &parts)
    }

    fn text(&mut self, bytes: &[u8]) -> Result<String, Error> {
        match str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => self.connection.protocol_error("a name that is not text"),
        }
    }

    /// Each part comes with the generation of the node; parts of different generations do not belong together.
    fn list_in_parts(&mut self, path: &str) -> Result<Vec<String>, Error> {
        for _ in 0..LIST_TRIES {
            if let Some(names) = self.list_one_generation(path)? {
                return Ok(names);
            }
        }
        Err(Error::Unlistable { path: path.to_owned(), max: LIST_MAX })
    }

    /// `None`: the node changed under way.
    fn list_one_generation(&mut self, path: &str) -> Result<Option<Vec<String>>, Error> {
        let mut generation = None;
        let mut names = Vec::new();
        let mut offset = 0_usize;
        while offset <= LIST_MAX {
            let from = format!("{offset}\0");
            let part = self.request(XS_DIRECTORY_PART, "list", path, &[from.as_bytes()])?;
            let mut strings = wire::strings(&part);
            let now = strings.next().map(<[u8]>::to_vec);
            if *generation.get_or_insert_with(|| now.clone()) != now {
                return Ok(None);
            }
            let before = offset;
            for name in strings {
                if name.is_empty() {
                    return Ok(Some(names));
                }
                names.push(self.text(name)?);
                offset = offset.saturating_add(name.len()).saturating_add(1);
            }
            if offset == before {
                return self.connection.protocol_error("a part of a list with nothing in it");
            }
        }
        Err(Error::Unlistable { path: path.to_owned(), max: LIST_MAX })
    }
}
