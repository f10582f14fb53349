use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::*;
use crate::disk::MediumError;

/// A path of our own that is removed in the end.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn file(content: &[u8]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pvscsi-disk-{}-{number}", std::process::id()));
        fs::write(&path, content).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A write-protected disk with a pattern in every block; the file stays while it is open.
pub(super) fn read_only(blocks: usize) -> Medium {
    Medium::open_file(Scratch::file(&pattern(1, blocks)).path(), true).unwrap()
}

#[test]
fn files_are_read_and_written_in_place() {
    let file = Scratch::file(&pattern(1, 4));
    let mut bench = Bench::of(Medium::open_file(file.path(), false).unwrap());
    assert_eq!(bench.blocks(0, 4), pattern(1, 4));
    assert_eq!(bench.data_out(&on_blocks(0x2a, 0, 2, 1), &[0x55; 512]), (GOOD, 0));
    let content = fs::read(file.path()).unwrap();
    assert_eq!(content.len(), 4 * 512);
    assert_eq!(content[1024..1536], [0x55; 512]);
    assert_eq!(content[..1024], pattern(1, 4)[..1024]);
}

/// With O_NONBLOCK, which the opening has, io_uring would give up where it has to wait.
#[test]
fn a_file_is_waited_for() {
    let file = Scratch::file(&[0; 512]);
    for read_only in [false, true] {
        let medium = Medium::open_file(file.path(), read_only).unwrap();
        let flags = fcntl(medium.file(), FcntlArg::F_GETFL).unwrap();
        assert!(!OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK), "{flags:#o}");
    }
}

#[test]
fn what_is_no_medium() {
    let missing = Medium::open_file(Path::new("/nonexistent/disk"), false).unwrap_err();
    assert!(missing.to_string().starts_with("cannot open /nonexistent/disk: "), "{missing}");
    assert!(
        matches!(missing, MediumError::Open { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    );

    let directory = std::env::temp_dir();
    let error = Medium::open_file(&directory, false).unwrap_err();
    assert!(
        matches!(error, MediumError::Open { source, .. } if source.kind() == std::io::ErrorKind::IsADirectory)
    );
    let error = Medium::open_file(&directory, true).unwrap_err();
    assert!(matches!(error, MediumError::NotAFile(path) if path == directory));
    assert!(matches!(
        Medium::open_file(Path::new("/dev/null"), false).unwrap_err(),
        MediumError::NotAFile(_)
    ));

    for content in [&[0_u8; 0][..], &[0; 511], &[0; 513]] {
        let error = Medium::open_file(Scratch::file(content).path(), false).unwrap_err();
        assert!(matches!(error, MediumError::Size { bytes, .. } if bytes == content.len() as u64));
    }
    assert_eq!(
        Medium::ram(0).unwrap_err().to_string(),
        "a size of 0 bytes is not a positive multiple of 512"
    );
    assert!(matches!(Medium::ram(1000).unwrap_err(), MediumError::Size { bytes: 1000, .. }));
    assert!(matches!(Medium::ram(u64::MAX - 511).unwrap_err(), MediumError::Memory { .. }));
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let place = Scratch::file(b"");
    fs::remove_file(place.path()).unwrap();
    nix::unistd::mkfifo(place.path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(Medium::open_file(place.path(), true).unwrap_err(), MediumError::NotAFile(_)));
}

#[test]
fn sizes() {
    assert_eq!(Medium::ram(3 * 512).unwrap().blocks(), 3);
    assert!(!Medium::ram(512).unwrap().is_read_only());
    let medium = read_only(5);
    assert_eq!(medium.blocks(), 5);
    assert!(medium.is_read_only());
}

/// A file behind which there is something that fails.
pub(super) fn failing(device: &str, blocks: u64) -> Medium {
    let file = File::options().read(true).write(true).open(device).unwrap();
    Medium::over(file, blocks * 512, false).unwrap()
}
