//! What xen-scsiback exported before its place was taken: LIO's saved configuration, which targetcli writes and restores.
//!
//! Without the module there is nothing in configfs, but `saveconfig.json` still says which device `naa.HEX:LUN` was: a list of
//! backstores (`storage_objects`, each with `plugin`, `name` and `dev`) and of targets, whose LUNs name a backstore as
//! `/backstores/PLUGIN/NAME` (rtslib-fb's `dump`).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Export;

/// Where targetcli keeps its configuration: its own place, and Debian's.
const PLACES: [&str; 2] = ["/etc/target/saveconfig.json", "/etc/rtslib-fb-target/saveconfig.json"];
/// A configuration with more bytes is none.
const SIZE_MAX: u64 = 16 << 20;

/// Why a saved configuration is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// It cannot be read.
    #[error("cannot read LIO's saved configuration {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no saved configuration of LIO: {source}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: serde_json::Error,
    },
    /// It names a backstore that it does not have, or one without a device.
    #[error("{} has {export} as {store}, but nothing that could be used behind it", .path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// As given.
        export: String,
        /// The backstore.
        store: String,
    },
}

#[derive(Debug, Deserialize)]
struct Configuration {
    #[serde(default)]
    storage_objects: Vec<Store>,
    #[serde(default)]
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Store {
    plugin: String,
    name: String,
    dev: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Target {
    fabric: String,
    wwn: String,
    #[serde(default)]
    tpgs: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    #[serde(default)]
    luns: Vec<Lun>,
}

#[derive(Debug, Deserialize)]
struct Lun {
    index: u64,
    storage_object: String,
}

/// LIO's saved configurations, or a test's imitations of them.
#[derive(Clone, Debug)]
pub struct Saved(Vec<PathBuf>);

impl Default for Saved {
    fn default() -> Self {
        Self(PLACES.map(PathBuf::from).into())
    }
}

impl Saved {
    /// Files to look into, the first that has the name first.
    #[must_use]
    pub fn in_files(files: Vec<PathBuf>) -> Self {
        Self(files)
    }

    /// The name of the device that was exported: a path below `/dev`, host:channel:target:lun, or `file:` and a path. `None` when
    /// no configuration has the export.
    ///
    /// # Errors
    ///
    /// [`SavedError`] names the file.
    pub fn find(&self, export: &Export) -> Result<Option<String>, SavedError> {
        for path in &self.0 {
            let Some(configuration) = read(path)? else { continue };
            let Some(store) = configuration.exported(export) else { continue };
            let device = configuration.device(store).ok_or_else(|| SavedError::Store {
                path: path.clone(),
                export: export.to_string(),
                store: store.to_owned(),
            })?;
            return Ok(Some(device));
        }
        Ok(None)
    }
}

impl Configuration {
    fn exported(&self, export: &Export) -> Option<&str> {
        let name = export.wwn.to_string();
        let ours = |target: &&Target| target.fabric == "xen-pvscsi" && target.wwn.eq_ignore_ascii_case(&name);
        let luns =
            self.targets.iter().filter(ours).flat_map(|target| &target.tpgs).flat_map(|group| &group.luns);
        luns.into_iter().find(|lun| lun.index == export.lun).map(|lun| lun.storage_object.as_str())
    }

    fn device(&self, store: &str) -> Option<String> {
        let (plugin, name) = store.strip_prefix("/backstores/")?.split_once('/')?;
        let store = self.storage_objects.iter().find(|store| store.plugin == plugin && store.name == name)?;
        let device = store.dev.as_deref()?;
        match plugin {
            "pscsi" | "block" => Some(device.to_owned()),
            "fileio" if device.starts_with("/dev/") => Some(device.to_owned()),
            "fileio" => Some(format!("file:{device}")),
            _ => None,
        }
    }
}

/// `None` where there is no such file.
fn read(path: &Path) -> Result<Option<Configuration>, SavedError> {
    let failed = |source| SavedError::Read { path: path.into(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = Vec::new();
    file.take(SIZE_MAX).read_to_end(&mut text).map_err(failed)?;
    serde_json::from_slice(&text).map(Some).map_err(|source| SavedError::Parse { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURATION: &str = r#"{
      "fabric_modules": [],
      "storage_objects": [
        { "alua_tpgs": [], "dev": "/dev/disk/by-id/scsi-35000c500a0b1c2d3", "name": "tape", "plugin": "pscsi", "wwn": "x" },
        { "dev": "/srv/disk.img", "name": "image", "plugin": "fileio", "size": 1048576, "write_back": true },
        { "dev": "1:0:2:3", "name": "disk", "plugin": "pscsi" },
        { "name": "memory", "plugin": "ramdisk", "size": 1048576 }
      ],
      "targets": [
        { "fabric": "iscsi", "tpgs": [{ "luns": [{ "index": 0, "storage_object": "/backstores/pscsi/disk" }] }],
          "wwn": "naa.6001405a1b2c3d4e" },
        { "fabric": "xen-pvscsi", "wwn": "naa.6001405a1b2c3d4e",
          "tpgs": [{ "tag": 1, "parameters": {}, "luns": [
            { "alias": "a", "index": 0, "storage_object": "/backstores/pscsi/tape" },
            { "index": 1, "storage_object": "/backstores/fileio/image" },
            { "index": 2, "storage_object": "/backstores/pscsi/disk" },
            { "index": 3, "storage_object": "/backstores/ramdisk/memory" },
            { "index": 4, "storage_object": "/backstores/pscsi/gone" } ] }] }
      ]
    }"#;

    fn saved(name: &str, text: &str) -> Saved {
        let path = std::env::temp_dir().join(format!("pvscsi-saved-{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Saved::in_files(vec!["/no/such/file".into(), path])
    }

    fn find(saved: &Saved, export: &str) -> Result<Option<String>, SavedError> {
        saved.find(&export.parse().unwrap())
    }

    #[test]
    fn what_was_exported_is_found() {
        let saved = saved("found", CONFIGURATION);
        for (lun, device) in [
            (0, Some("/dev/disk/by-id/scsi-35000c500a0b1c2d3")),
            (1, Some("file:/srv/disk.img")),
            (2, Some("1:0:2:3")),
            (5, None),
        ] {
            assert_eq!(find(&saved, &format!("naa.6001405A1B2C3D4E:{lun}")).unwrap().as_deref(), device);
        }
        assert_eq!(find(&saved, "naa.6001405a1b2c3d4f:0").unwrap(), None);
        std::fs::remove_file(&saved.0[1]).unwrap();
        assert_eq!(find(&saved, "naa.6001405a1b2c3d4e:0").unwrap(), None, "no configuration at all");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let memory = saved("memory", CONFIGURATION);
        for (lun, store) in [(3, "/backstores/ramdisk/memory"), (4, "/backstores/pscsi/gone")] {
            let error = find(&memory, &format!("naa.6001405a1b2c3d4e:{lun}")).unwrap_err().to_string();
            assert!(error.contains(store) && error.contains("pvscsi-saved-memory"), "{error}");
        }
        std::fs::remove_file(&memory.0[1]).unwrap();
        for text in ["", "true", "{\"targets\": 1}", "{\"targets\": [{\"fabric\": \"xen-pvscsi\"}]}", "\u{0}"]
        {
            let broken = saved("broken", text);
            let error = find(&broken, "naa.6001405a1b2c3d4e:0").unwrap_err().to_string();
            assert!(error.contains("is no saved configuration of LIO"), "{text:?}: {error}");
            std::fs::remove_file(&broken.0[1]).unwrap();
        }
        let empty = saved("empty", "{}");
        assert_eq!(find(&empty, "naa.6001405a1b2c3d4e:0").unwrap(), None);
        std::fs::remove_file(&empty.0[1]).unwrap();
    }
}
