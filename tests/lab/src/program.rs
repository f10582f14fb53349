//! The programs of a boot, built so that they run in every image.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::scenario::Backend;
use crate::tools::{self, Need, Outcome};

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Package and program: the one under test, and a guest's. One by one, or features of the second would get into the first.
const PROGRAMS: [(&str, &str); 2] =
    [("pvscsi-backend", "xen-pvscsi"), ("pvscsi-lab-frontend", "hostile-frontend")];

/// Builds the programs, statically linked: the images have other C libraries than this machine.
///
/// # Errors
///
/// When one does not build, or what was built does not run.
pub fn build() -> Outcome<Vec<PathBuf>> {
    PROGRAMS.iter().map(|(package, program)| build_one(package, program)).collect()
}

fn build_one(package: &str, program: &str) -> Outcome<PathBuf> {
    let target = tools::workspace().join("target/lab-build");
    println!("lab: building {program}");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    tools::run(
        Command::new(cargo)
            .args(["build", "--quiet", "--release", "--package", package, "--bin", program])
            .args(["--target", TRIPLE, "--target-dir"])
            .arg(&target)
            .current_dir(tools::workspace())
            .env("RUSTFLAGS", "-C target-feature=+crt-static"),
    )?;
    let program = target.join(TRIPLE).join("release").join(program);
    tools::run(Command::new(&program).arg("--help").stdout(Stdio::null()))?;
    Ok(program)
}

/// The Debian package, if the scenario is about it: built as a user builds it, for the C library of this machine.
///
/// # Errors
///
/// When it does not build.
pub fn package_for(scenario: &str) -> Outcome<Option<PathBuf>> {
    if scenario != "package" {
        return Ok(None);
    }
    tools::ensure(Need::Package)?;
    println!("lab: building the package");
    let script = tools::workspace().join("backend/dist/build-deb");
    let output = Command::new(&script).stderr(Stdio::inherit()).output().map_err(tools::at(&script))?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.lines().last() {
        Some(package) if output.status.success() => Ok(Some(package.into())),
        _ => Err(format!("{} failed: {}", script.display(), output.status)),
    }
}

/// The programs, if the scenario is about them.
///
/// # Errors
///
/// As [`build`].
pub fn for_backend(backend: Backend) -> Outcome<Vec<PathBuf>> {
    match backend {
        Backend::Ours => build(),
        Backend::Kernel => Ok(Vec::new()),
    }
}
