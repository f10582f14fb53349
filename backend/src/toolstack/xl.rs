//! xl, for what is not about our devices.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use pvscsi_xen::DomId;

/// The program.
#[derive(Clone, Debug)]
pub struct Xl {
    /// Its path, or its name in `PATH`.
    pub program: OsString,
}

/// Why xl did not do something. What it says itself has reached the user before.
#[derive(Debug, thiserror::Error)]
pub enum XlError {
    /// It did not even run.
    #[error("{program:?} cannot be run: {source}")]
    Run {
        /// The program.
        program: OsString,
        /// Why.
        source: io::Error,
    },
    /// It says so.
    #[error("xl {verb} has failed ({status})")]
    Failed {
        /// What it was to do.
        verb: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
    /// Its answer is no domain number.
    #[error("xl domid says {0:?}, which is no number of a domain")]
    NoDomId(String),
}

impl Xl {
    /// `xl create`: the guest is there and paused.
    pub(super) fn create(&self, file: &Path, settings: &[String]) -> Result<(), XlError> {
        // Behind -f any name of a file is one.
        let mut command = self.command("create");
        self.run("create", command.args(["-p", "-q", "-f"]).arg(file).args(settings))
    }

    /// `xl domid`: the guest of this name.
    pub(super) fn domid(&self, name: &str) -> Result<DomId, XlError> {
        let mut command = self.command("domid");
        let output = command.arg(name).stdout(Stdio::piped()).stderr(Stdio::inherit()).output();
        let output = output.map_err(|source| self.does_not_run(source))?;
        if !output.status.success() {
            return Err(XlError::Failed { verb: "domid", status: output.status });
        }
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse().map(DomId).map_err(|_| XlError::NoDomId(text.trim().into()))
    }

    pub(super) fn unpause(&self, domid: DomId) -> Result<(), XlError> {
        self.run("unpause", self.command("unpause").arg(domid.to_string()))
    }

    pub(super) fn destroy(&self, domid: DomId) -> Result<(), XlError> {
        self.run("destroy", self.command("destroy").arg(domid.to_string()))
    }

    /// Goes on as `xl console`; comes back only when that cannot be run.
    #[must_use]
    pub fn console(&self, domid: DomId) -> XlError {
        let source = Command::new(&self.program).arg("console").arg(domid.to_string()).exec();
        self.does_not_run(source)
    }

    /// In a group of its own, so that a Ctrl-C is ours: half a guest would stay if it ended xl.
    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).stdin(Stdio::null()).process_group(0);
        command
    }

    fn run(&self, verb: &'static str, command: &mut Command) -> Result<(), XlError> {
        let status = command.status().map_err(|source| self.does_not_run(source))?;
        if status.success() { Ok(()) } else { Err(XlError::Failed { verb, status }) }
    }

    fn does_not_run(&self, source: io::Error) -> XlError {
        XlError::Run { program: self.program.clone(), source }
    }
}
