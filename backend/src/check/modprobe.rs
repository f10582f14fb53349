//! Whether a kernel module can come by itself: modprobe's configuration (modprobe.d(5)).

use std::collections::BTreeMap;

use crate::in_use::Host;

/// In order of rank: a file hides those of its name in later directories.
const DIRECTORIES: [&str; 5] =
    ["etc/modprobe.d", "run/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d"];

/// Names of modules are the same with hyphens and underscores.
fn same(one: &str, other: &str) -> bool {
    one.replace('-', "_") == other.replace('-', "_")
}

/// What keeps udev from loading the module: a file, or the kernel's command line.
pub(super) fn blocked_by(host: &Host, module: &str) -> Option<String> {
    let mut files = BTreeMap::new();
    for directory in DIRECTORIES {
        for name in host.names(directory).into_iter().filter(|name| name.ends_with(".conf")) {
            files.entry(name).or_insert(directory);
        }
    }
    let blocks = |line: &str| {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("blacklist"), Some(name), _) => same(name, module),
            (Some("install"), Some(name), Some(command)) => {
                let does_nothing =
                    ["true", "false"].contains(&command.rsplit('/').next().unwrap_or_default());
                does_nothing && same(name, module)
            }
            _ => false,
        }
    };
    let paths = files.into_iter().map(|(name, directory)| format!("{directory}/{name}"));
    for path in paths {
        if host.read(&path).is_some_and(|text| text.lines().any(blocks)) {
            return Some(format!("/{path}"));
        }
    }
    let command_line = host.read("proc/cmdline").unwrap_or_default();
    let mut lists =
        command_line.split_whitespace().filter_map(|word| word.strip_prefix("modprobe.blacklist="));
    let listed = lists.any(|list| list.split(',').any(|name| same(name, module)));
    listed.then(|| "the kernel's command line".to_owned())
}

/// Whether this kernel has the module in a file; `None` where there is no list of its modules.
pub(super) fn exists(host: &Host, release: &str, module: &str) -> Option<bool> {
    let has_it = |line: &str| {
        let file = line.split(':').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        file.split_once(".ko").is_some_and(|(name, _)| same(name, module))
    };
    let mut lists = ["lib/modules", "usr/lib/modules"].into_iter();
    let list = lists.find_map(|modules| host.read(&format!("{modules}/{release}/modules.dep")))?;
    Some(list.lines().any(has_it))
}
