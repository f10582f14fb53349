//! What LIO has: the backstores of `/sys/kernel/config/target/core`.

use std::fs;
use std::path::Path;

use pvscsi_sg::Hctl;

use super::{Holder, Host, Identity, device};
use crate::lio;

/// Classes of nodes that a SCSI device has (Linux's Documentation/scsi).
const CLASSES: [&str; 4] = ["block", "scsi_generic", "scsi_tape", "scsi_changer"];

struct Backstore {
    /// `iblock_0`, `pscsi_1`.
    plugin: String,
    name: String,
    /// The node or file that it was made from.
    path: String,
    info: String,
}

impl Backstore {
    /// The SCSI device of one that passes commands through.
    fn address(&self) -> Option<Hctl> {
        lio::pscsi(&self.info, self.plugin.strip_prefix("pscsi_")?)
    }
}

impl Host {
    /// Those that were made from one of these nodes, or name the device's address.
    pub(super) fn backstores(&self, nodes: &[String], scsi: Option<Hctl>) -> Vec<Holder> {
        let all = self.all_backstores();
        if all.is_empty() {
            return Vec::new();
        }
        let is_it = |backstore: &Backstore| {
            let path = self.path(backstore.path.trim_start_matches('/'));
            let path = fs::canonicalize(&path).unwrap_or(path);
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            nodes.iter().any(|node| node == name) || (scsi.is_some() && backstore.address() == scsi)
        };
        all.into_iter().filter(is_it).map(holder).collect()
    }

    /// Those that were made from a file.
    pub(super) fn backstores_of_file(&self, file: &Identity) -> Vec<Holder> {
        let is_it =
            |backstore: &Backstore| Identity::of_file(Path::new(&backstore.path)).is_ok_and(|it| it == *file);
        self.all_backstores().into_iter().filter(is_it).map(holder).collect()
    }

    fn all_backstores(&self) -> Vec<Backstore> {
        const CORE: &str = "sys/kernel/config/target/core";
        let mut all = Vec::new();
        for plugin in self.names(CORE) {
            for name in self.names(&format!("{CORE}/{plugin}")) {
                let read = |what: &str| self.read(&format!("{CORE}/{plugin}/{name}/{what}"));
                // Attributes of the plugin itself stand beside its backstores.
                let Some(info) = read("info") else { continue };
                let path = read("udev_path").unwrap_or_default();
                all.push(Backstore { plugin: plugin.clone(), name, path, info });
            }
        }
        all
    }

    /// The names of all nodes of a device, partitions included.
    pub(crate) fn nodes(&self, hctl: Hctl) -> Vec<String> {
        let device = device(hctl);
        let mut nodes: Vec<String> =
            CLASSES.iter().flat_map(|class| self.names(&format!("{device}/{class}"))).collect();
        if let Some(disk) = self.disk(hctl) {
            nodes.extend(self.parts(&disk));
        }
        nodes
    }
}

fn holder(backstore: Backstore) -> Holder {
    let Backstore { plugin, name, .. } = backstore;
    let kind = plugin.split('_').next().unwrap_or_default();
    // targetcli calls one of them otherwise.
    let folder = if kind == "iblock" { "block" } else { kind };
    Holder::new(
        format!("LIO has it as backstore {plugin}/{name}"),
        format!("targetcli /backstores/{folder} delete {}", super::shell(&name)),
    )
}
