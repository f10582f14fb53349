//! The programs and headers of this machine that the lab stands on, and how they get there.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a step gives, or a sentence for the user on why it could not be done.
pub type Outcome<T> = Result<T, String>;

/// What a verb needs of this machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// To make an image.
    Image,
    /// To boot it.
    Boot,
    /// To count a machine's instructions.
    Profile,
    /// To read C headers.
    Headers,
    /// To make the package.
    Package,
}

/// What must be there, and the Debian package that brings it: a path, or a program's name.
const WANTED: &[(Need, &str, &str)] = &[
    (Need::Boot, "qemu-system-x86_64", "qemu-system-x86"),
    (Need::Boot, "setpriv", "util-linux"),
    (Need::Image, "mmdebstrap", "mmdebstrap"),
    (Need::Image, "modprobe", "kmod"),
    (Need::Image, "cpio", "cpio"),
    (Need::Image, "mke2fs", "e2fsprogs"),
    (Need::Image, "xz", "xz-utils"),
    (Need::Image, "zstd", "zstd"),
    (Need::Profile, "cc", "gcc"),
    (Need::Profile, "nm", "binutils"),
    (Need::Profile, "/usr/include/inttypes.h", "libc6-dev"),
    (Need::Package, "dpkg-shlibdeps", "dpkg-dev"),
    (Need::Package, "strip", "binutils"),
    (Need::Headers, "gcc", "gcc"),
    (Need::Headers, "/usr/include/xen/io/vscsiif.h", "libxen-dev"),
    (Need::Headers, "/usr/include/scsi/sg.h", "libc6-dev"),
    (Need::Headers, "/usr/include/linux/types.h", "linux-libc-dev"),
];

/// Makes sure that everything is there; installs it where that is possible.
///
/// # Errors
///
/// Names the packages that are missing.
pub fn ensure(need: Need) -> Outcome<()> {
    let lacking = missing(need);
    if lacking.is_empty() {
        return Ok(());
    }
    let names = lacking.join(" ");
    if find("apt-get").is_none() || !is_root() {
        return Err(format!(
            "these Debian packages are missing here: {names}\nInstall them as root:\n  apt-get install -y --no-install-recommends {names}"
        ));
    }
    println!("lab: installing {names}");
    run(apt().arg("update"))?;
    run(apt().args(["install", "-y", "--no-install-recommends"]).args(&lacking))?;
    match missing(need).as_slice() {
        [] => Ok(()),
        still => Err(format!("after installing them, still missing: {}", still.join(" "))),
    }
}

fn missing(need: Need) -> Vec<&'static str> {
    let there =
        |what: &str| if what.starts_with('/') { Path::new(what).exists() } else { find(what).is_some() };
    let mut packages: Vec<_> = WANTED
        .iter()
        .filter(|(n, what, _)| *n == need && !there(what))
        .map(|(_, _, package)| *package)
        .collect();
    packages.dedup();
    packages
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.arg("-qq").env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    apt
}

/// Where a program is: on the path, or where an ordinary user's path does not look.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Whether this process may install packages and make file systems with other people's files in them.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

/// Runs a command to its end, its output on ours.
///
/// # Errors
///
/// When it cannot be started or fails.
pub fn run(command: &mut Command) -> Outcome<()> {
    let status = command.status().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} failed: {status}", command.get_program().display()))
    }
}

/// A command that dies with us, also when we are killed: nothing of the lab stays behind.
pub fn mortal(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]).stdin(Stdio::null());
    command
}

/// Adds the path to what a file operation says.
pub fn at(path: &Path) -> impl FnOnce(std::io::Error) -> String + '_ {
    move |e| format!("{}: {e}", path.display())
}

/// The workspace.
pub fn workspace() -> PathBuf {
    lab_dir()
        .join("../..")
        .components()
        .collect::<PathBuf>()
        .canonicalize()
        .unwrap_or_else(|_| lab_dir().into())
}

/// This crate's sources: the scripts are beside the program's.
pub fn lab_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where images, logs and results are kept: `$PVSCSI_LAB_DIR`, or `target/lab`.
pub fn work_dir() -> PathBuf {
    env::var_os("PVSCSI_LAB_DIR").map_or_else(|| workspace().join("target/lab"), PathBuf::from)
}
