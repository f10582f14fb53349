//! Directories that go with a test.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

use pvscsi_sg::Directories;

/// A host's directories for reservations, which go with it.
pub struct Reservations(PathBuf);

impl Default for Reservations {
    fn default() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("pvscsi-reservations-{}-{number}", std::process::id())))
    }
}

impl Reservations {
    pub fn directories(&self) -> Directories {
        Directories { run: self.0.join("run"), saved: self.0.join("saved") }
    }
}

impl Drop for Reservations {
    fn drop(&mut self) {
        // There is none if nobody had a device.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
