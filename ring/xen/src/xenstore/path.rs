//! What xenstored accepts as a path (docs/misc/xenstore.txt of the Xen tree).

use super::Error;
use super::wire::{XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX};

/// Checks the path of a node.
pub(super) fn check_node(path: &str) -> Result<(), Error> {
    if path.starts_with('@') {
        return Err(bad(path, "names with @ in front can only be watched"));
    }
    check_watch(path)
}

/// Checks the path of a watch: a node, or a special event such as `@releaseDomain`.
pub(super) fn check_watch(path: &str) -> Result<(), Error> {
    let max = if path.starts_with('/') { XENSTORE_ABS_PATH_MAX } else { XENSTORE_REL_PATH_MAX };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-/_@".contains(&byte);
    let broken = if path.is_empty() {
        "it is empty"
    } else if path.len() > max {
        "it is too long"
    } else if !path.bytes().all(allowed) {
        "only letters, digits and -/_@ are allowed"
    } else if path.contains("//") {
        "it has a doubled slash"
    } else if path.len() > 1 && path.ends_with('/') {
        "it ends in a slash"
    } else {
        return Ok(());
    };
    Err(bad(path, broken))
}

fn bad(path: &str, reason: &'static str) -> Error {
    // A path may come from a guest's nodes; a message holds no more of it than it needs.
    let path = path.chars().take(128).collect();
    Error::BadPath { path, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_paths_pass() {
        let longest = format!("/{}", "x".repeat(3071));
        for path in ["/", "/a", "a", "a/b-c_D/0", "/local/domain/0/backend/vscsi/1/0", "/a@b", &longest] {
            check_node(path).unwrap();
        }
        check_watch("@releaseDomain").unwrap();
    }

    #[test]
    fn each_rule_is_checked() {
        let long_absolute = format!("/{}", "x".repeat(3072));
        let long_relative = "x".repeat(2049);
        for (path, rule) in [
            ("", "empty"),
            ("/a//b", "doubled"),
            ("//", "doubled"),
            ("/a/", "ends in"),
            ("a/", "ends in"),
            ("/a b", "only letters"),
            ("/a\0b", "only letters"),
            ("/é", "only letters"),
            ("/a.b", "only letters"),
            ("@releaseDomain", "watched"),
            (&long_absolute, "too long"),
            (&long_relative, "too long"),
        ] {
            let error = check_node(path).unwrap_err().to_string();
            assert!(error.contains(rule), "{path:?}: {error}");
            assert!(error.len() < 300, "{error}");
        }
    }
}
