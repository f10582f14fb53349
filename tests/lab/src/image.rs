//! The image: dom0's disk, Xen, the kernel and its initramfs, made of Debian's packages.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::fs;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::tools::{self, Need, Outcome, at};

/// Which Debian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Dist {
    /// Debian 12: Xen 4.17, Linux 6.1.
    #[default]
    Bookworm,
    /// Debian 13: Xen 4.20, Linux 6.12.
    Trixie,
    /// Debian 13 with the newest kernel that there is for it; its `scsi_debug` can be a tape (Linux 6.15 and later).
    TrixieBackports,
}

impl fmt::Display for Dist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::TrixieBackports => "trixie-backports",
        })
    }
}

/// A finished image.
pub struct Image(PathBuf);

impl Image {
    /// The image of this distribution; built first if there is none that fits today's build scripts.
    ///
    /// # Errors
    ///
    /// When it cannot be built.
    pub fn get(dist: Dist) -> Outcome<Self> {
        let scripts = tools::lab_dir().join("image");
        let images = tools::work_dir().join("images");
        let dir = images.join(format!("{dist}-{:016x}", key(&scripts)?));
        if !dir.is_dir() {
            build(dist, &scripts, &images, &dir)?;
        }
        Ok(Self(dir))
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.0
    }
}

/// A number that changes with anything an image is made from. Only ever compared with numbers of the same compiler's
/// making; another one means another build, no more.
fn key(scripts: &Path) -> Outcome<u64> {
    let mut files: Vec<_> =
        fs::read_dir(scripts).map_err(at(scripts))?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut hash = DefaultHasher::new();
    for file in files {
        hash.write(file.file_name().unwrap_or_default().as_encoded_bytes());
        hash.write(&fs::read(&file).map_err(at(&file))?);
    }
    Ok(hash.finish())
}

/// Builds beside the place and moves it there when it is whole.
fn build(dist: Dist, scripts: &Path, images: &Path, dir: &Path) -> Outcome<()> {
    tools::ensure(Need::Image)?;
    if !tools::is_root() {
        return Err("an image can only be built by root: its files belong to root".into());
    }
    fs::create_dir_all(images).map_err(at(images))?;
    let half = images.join(format!("half-built-{dist}"));
    if half.exists() {
        fs::remove_dir_all(&half).map_err(at(&half))?;
    }
    println!("lab: building an image of {dist}");
    let start = Instant::now();
    tools::run(tools::mortal("bash").arg(scripts.join("build.sh")).arg(dist.to_string()).arg(&half))?;
    fs::rename(&half, dir).map_err(at(dir))?;
    println!("lab: image built in {} s", start.elapsed().as_secs());
    remove_outdated(dist, images, dir);
    Ok(())
}

/// An image takes a gigabyte; those of older scripts are never looked at again.
fn remove_outdated(dist: Dist, images: &Path, keep: &Path) {
    let name = dist.to_string();
    for entry in fs::read_dir(images).into_iter().flatten().flatten() {
        let ours = entry
            .file_name()
            .to_str()
            .and_then(|file| file.rsplit_once('-'))
            .is_some_and(|(dist, _)| dist == name);
        if ours && entry.path() != keep {
            // Not being able to remove it costs disk space only.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
