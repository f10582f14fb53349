//! The verb watch: what a server is started with.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use clap::Args;
use nix::sys::signal::Signal;
use pvscsi_backend::serve::ServeError;
use pvscsi_backend::watch::Watcher;
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::Xenstore;
use tracing::info;

#[derive(Debug, Args)]
pub struct Watch {
    /// Options of serve, for each server
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<String>,
}

pub fn watch(arguments: &Watch, log: &str) -> Result<(), ServeError> {
    let taking = |source| ServeError::System { what: "taking signals", source };
    let store = Xenstore::open()?;
    let stop = super::stop_signals().map_err(taking)?;
    let children = super::signals(&[Signal::SIGCHLD]).map_err(taking)?;
    let (log, options) = (log.to_owned(), arguments.options.clone());
    let mut watcher = Watcher::new(store, move |domid| server(domid, &log, &options))?;
    info!("watching for guests with vscsi devices");
    // Only systemd listens, and only where it started us.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    watcher.run(stop.as_fd(), children.as_fd())
}

/// This very program, also when a package has replaced its file meanwhile.
fn server(domid: DomId, log: &str, options: &[String]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("xen-pvscsi").args(["--log", log, "serve", "--domid", &domid.to_string()]).args(options);
    // A Ctrl-C for us is none for the servers, and what systemd is told is told by us alone.
    command.process_group(0).env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
    command
}
