//! `xen-pvscsi`: arguments, logging, signals. What is done is in the library.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pvscsi_backend::demo;
use pvscsi_backend::limits::{ClassLimit, TimeLimits};
use pvscsi_backend::serve::{self, ServeError, Server};
use pvscsi_backend::vhost::Platform;
use pvscsi_sg::ReactorKind;
use pvscsi_xen::sys::evtchn::Evtchn;
use pvscsi_xen::sys::gntdev::Gntdev;
use pvscsi_xen::xenstore::Xenstore;
use pvscsi_xen::{DomId, EventChannel, GrantTable};
use tracing::info;
use tracing_subscriber::EnvFilter;

/// A userspace PVSCSI backend for Xen: gives a guest SCSI devices of this domain.
#[derive(Debug, Parser)]
#[command(name = "xen-pvscsi", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// What to log to standard error: error, warn, info, debug, or filters like pvscsi_backend=debug
    #[arg(long, global = true, default_value = "info", env = "XEN_PVSCSI_LOG", value_name = "FILTER")]
    log: String,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve all vscsi devices of one guest, until the guest is gone
    ///
    /// Runs in the foreground. SIGTERM and SIGINT tell the guest that its devices go, wait a few seconds for it to let go of
    /// them, and end; a second one does not wait. The exit status is 0 then, and when the guest is gone; 1 after a failure; 2
    /// when the command line is wrong.
    Serve(Serve),
    /// Show the worker at work under a simulated Xen: needs no Xen, no root, no device
    Demo(demo::Options),
}

#[derive(Debug, Args)]
struct Serve {
    /// The guest's domain number, as in xl list
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=0x7fef))]
    domid: u16,
    /// How to wait for devices and for the guest
    #[arg(long, value_enum, default_value_t = Wait::Auto)]
    wait: Wait,
    /// How long a command may take that comes without a limit of the guest's own
    ///
    /// CLASS is disk, optical (60 seconds each), tape, changer or other (4 hours each). Give it once for each class. The limit of
    /// a guest that sends one counts instead, and ten seconds more.
    #[arg(long, value_name = "CLASS=SECONDS")]
    timeout: Vec<ClassLimit>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Wait {
    /// io_uring where the kernel allows it, else poll
    Auto,
    /// io_uring, or fail
    IoUring,
    /// poll and plain system calls
    Poll,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let filter = match EnvFilter::try_new(&cli.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("xen-pvscsi: --log {:?}: {error}", cli.log);
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let done = match cli.verb {
        Verb::Serve(arguments) => serve(&arguments).map_err(|error| error.to_string()),
        Verb::Demo(options) => demo::run(&options).map_err(|error| error.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xen-pvscsi: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Help goes to standard output as it is; an error becomes one line.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // A reader that has gone has read enough.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let what = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join(" ");
    eprintln!("xen-pvscsi: {}; xen-pvscsi --help says more", what.trim_start_matches("error: "));
    ExitCode::from(2)
}

fn serve(arguments: &Serve) -> Result<(), ServeError> {
    let domid = DomId(arguments.domid);
    serve::refuse_beside_kernel(Path::new("/sys"))?;
    let store = Xenstore::open()?;
    let _claim = serve::claim(domid)?;
    // Before any thread is started, so that all of them leave the signals to the descriptor.
    let signals = stop_signals().map_err(|source| ServeError::System { what: "taking signals", source })?;
    let mut limits = TimeLimits::default();
    arguments.timeout.iter().for_each(|limit| limits.set(*limit));
    let platform = Platform {
        limits,
        grants: Box::new(|domid| Ok(Box::new(Gntdev::open(domid)?) as Box<dyn GrantTable>)),
        bind: Box::new(|domid, port| Ok(Box::new(Evtchn::bind(domid, port)?) as Box<dyn EventChannel>)),
        reactor: match arguments.wait {
            Wait::Auto => ReactorKind::Auto,
            Wait::IoUring => ReactorKind::IoUring,
            Wait::Poll => ReactorKind::Poll,
        },
    };
    let mut server = Server::new(domid, store, platform)?;
    info!("serving domain {domid}");
    // Only systemd listens, and only where it started us.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    server.run(signals.as_fd())
}

fn stop_signals() -> std::io::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}
