//! The program under test, built so that it runs in every image.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::scenario::Backend;
use crate::tools::{self, Outcome};

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Builds xen-pvscsi, statically linked: the images have other C libraries than this machine.
///
/// # Errors
///
/// When it does not build, or what was built does not run.
pub fn build() -> Outcome<PathBuf> {
    let target = tools::workspace().join("target/lab-build");
    println!("lab: building xen-pvscsi");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    tools::run(
        Command::new(cargo)
            .args(["build", "--quiet", "--release", "--package", "pvscsi-backend", "--bin", "xen-pvscsi"])
            .args(["--target", TRIPLE, "--target-dir"])
            .arg(&target)
            .current_dir(tools::workspace())
            .env("RUSTFLAGS", "-C target-feature=+crt-static"),
    )?;
    let program = target.join(TRIPLE).join("release/xen-pvscsi");
    tools::run(Command::new(&program).arg("--help").stdout(Stdio::null()))?;
    Ok(program)
}

/// The program, if the scenario is about it.
///
/// # Errors
///
/// As [`build`].
pub fn for_backend(backend: Backend) -> Outcome<Option<PathBuf>> {
    match backend {
        Backend::Ours => build().map(Some),
        Backend::Kernel => Ok(None),
    }
}
