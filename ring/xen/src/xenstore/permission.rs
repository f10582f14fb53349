//! Who may read and write a node.

use std::fmt;

use crate::DomId;

/// What a domain may do with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    None,
    /// Read it, list its children, be told of changes.
    Read,
    /// Write it, make children.
    Write,
    /// Both.
    ReadWrite,
}

/// An entry of a node's permissions (docs/misc/xenstore.txt of the Xen tree, `GET_PERMS`).
///
/// The first entry is special: its domain owns the node and may do everything, and its access is that of all domains
/// that no other entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// What `domid` may do; in the first entry: what everybody else may do.
    pub access: Access,
    /// The domain.
    pub domid: DomId,
}

impl Permission {
    /// Reads the form of the wire: a letter and a decimal number, without the NUL.
    #[must_use]
    pub fn from_wire(text: &[u8]) -> Option<Self> {
        let (letter, number) = text.split_first()?;
        let access = match letter {
            b'n' => Access::None,
            b'r' => Access::Read,
            b'w' => Access::Write,
            b'b' => Access::ReadWrite,
            _ => return None,
        };
        // Rust's own parsing would take a plus sign.
        let number = str::from_utf8(number).ok().filter(|number| !number.starts_with('+'))?;
        Some(Self { access, domid: DomId(number.parse().ok()?) })
    }
}

/// The form of the wire, without the NUL.
impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.access {
            Access::None => 'n',
            Access::Read => 'r',
            Access::Write => 'w',
            Access::ReadWrite => 'b',
        };
        write!(f, "{letter}{}", self.domid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_goes_both_ways() {
        for (text, access, domid) in [
            ("n0", Access::None, 0),
            ("r7", Access::Read, 7),
            ("w65535", Access::Write, 65535),
            ("b12", Access::ReadWrite, 12),
        ] {
            let permission = Permission { access, domid: DomId(domid) };
            assert_eq!(Permission::from_wire(text.as_bytes()), Some(permission));
            assert_eq!(permission.to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in ["", "r", "x1", "r+1", "r-1", "r65536", "r1 ", "R1", "r1\0"] {
            assert_eq!(Permission::from_wire(text.as_bytes()), None, "{text:?}");
        }
    }
}
