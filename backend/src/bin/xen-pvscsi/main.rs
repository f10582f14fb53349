//! `xen-pvscsi`: arguments, logging, signals. What is done is in the library.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pvscsi_backend::cpus::{CpuList, Cpus};
use pvscsi_backend::limits::{ClassLimit, TimeLimits};
use pvscsi_backend::serve::{self, ServeError, Server};
use pvscsi_backend::toolstack::{ToolError, Toolstack};
use pvscsi_backend::vhost::Platform;
use pvscsi_backend::{demo, interrupt, measure};
use pvscsi_sg::{Directories, Engine};
use pvscsi_xen::sys::evtchn::Evtchn;
use pvscsi_xen::sys::gntdev::Gntdev;
use pvscsi_xen::xenstore::Xenstore;
use pvscsi_xen::{DomId, EventChannel, GrantTable};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

mod convert;
mod generate;
mod tools;
mod watch;

/// A userspace PVSCSI backend for Xen: gives guests SCSI devices of this domain.
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
    /// A guest that reboots gets the devices back that xen-pvscsi has attached to it: the process waits for it (see --follow).
    ///
    /// Runs in the foreground. SIGTERM and SIGINT tell the guest that its devices go, wait a few seconds for it to let go of
    /// them, and end; a second one does not wait. The exit status is 0 then, and when the guest is gone; 1 after a failure; 2
    /// when the command line is wrong; 3 when another process serves the guest already.
    Serve(Serve),
    /// Start a server for each guest that has vscsi devices, where udev does not
    ///
    /// Runs in the foreground. A server that fails is started again, after a pause that grows from a second to a minute; one that
    /// was told to end is not. A guest that somebody else serves is left alone. SIGTERM and SIGINT end the watch, and the
    /// servers go on: the next watch gets along with them. The exit status is 0 then, 1 after a failure, 2 when the command
    /// line is wrong.
    Watch(watch::Watch),
    /// Make a guest with the devices of its configuration
    ///
    /// Reads vscsi = [ "pdev,vdev,option…", … ] from the file, looks whether each device can be had, makes the guest with
    /// xl create -p, attaches the devices and lets the guest run. Other keys are xl's. After an error, or Ctrl-C, there is no
    /// guest. The exit status is 2 when the command line is wrong, 1 after another error, 130 after Ctrl-C.
    Create(tools::Create),
    /// Give a guest a device, or those of its configuration
    ///
    /// Makes the vhost with its first device. Waits until the backend has taken it up, and a few seconds for the guest. After an
    /// error, or Ctrl-C, nothing of it is left. The exit status is 2 when the command line is wrong, 1 after another error.
    Attach(tools::Attach),
    /// Take a device from a guest
    ///
    /// Waits until the guest has let go of it; the vhost goes with its last device.
    Detach(tools::Detach),
    /// Show the devices of guests
    ///
    /// States are those of xenbus: 1 initialising, 2 waiting for the guest, 3 offered to it, 4 in use, 5 closing, 6 closed,
    /// 7 and 8 changing.
    List(tools::List),
    /// Say whether this host is ready, or whether a guest can have a device; changes nothing
    ///
    /// Without a device: Xen, its devices, xenstore, the drivers. With one: what it is, who has it, what it can take. Each line
    /// says ok, note or problem, and what helps. The exit status is 0 when nothing is in the way, 1 when something is, 2 when the
    /// command line is wrong.
    Check(tools::Check),
    /// Turn vscsi = [ … ] into libvirt's XML, or back
    ///
    /// libvirt knows a device by its address alone, which may be another after the next boot; names below /dev/disk/by-id stay.
    /// What the other form cannot express is an error.
    Convert(convert::Convert),
    /// Show the worker at work under a simulated Xen: needs no Xen, no root, no device
    Demo(demo::Options),
    /// Measure whether copying a guest's pages or mapping them takes less time on this host
    ///
    /// Needs root in a domain of Xen, Linux's module xen-gntalloc, and no guest: this domain grants pages to itself. For requests of 4
    /// to 508 KiB it measures one grant copy each way, which is what serve does, and mapping the pages, a look into each, and
    /// unmapping them. What direct I/O needs besides is not in the figures. Changes nothing, and leaves nothing granted.
    Measure(measure::Options),
    /// Write manual pages and completions
    #[command(hide = true)]
    Generate(generate::Generate),
}

#[derive(Debug, Args)]
struct Serve {
    /// The guest's domain number, as in xl list
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=0x7fef))]
    domid: u16,
    /// How commands come to the SCSI devices of this host
    ///
    /// Emulated disks have no engine; with sg-epoll they do without io_uring as well.
    #[arg(long, value_enum, default_value_t = EngineName::Auto)]
    engine: EngineName,
    /// How long a worker looks for the next request before it sleeps, at most; 0 for not at all
    ///
    /// It looks as long as requests came after lately, and not when they come later than that, or when others need the CPU.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    polling: u64,
    /// CPUs for the workers and for the interrupts of their event channels, as taskset takes them: 2-5,7
    ///
    /// Each vhost's worker stays on one of them, the one with the fewest workers of this guest, and the interrupt goes there,
    /// too. Without it the kernel chooses. The status is 1 when one of them cannot be had.
    #[arg(long, value_name = "LIST")]
    cpus: Option<CpuList>,
    /// How long a command may take that comes without a limit of the guest's own
    ///
    /// CLASS is disk, optical (60 seconds each), tape, changer or other (4 hours each). Give it once for each class. The limit of
    /// a guest that sends one counts instead, and ten seconds more.
    #[arg(long, value_name = "CLASS=SECONDS")]
    timeout: Vec<ClassLimit>,
    /// How long to wait for a guest that is gone: if it comes back, it gets its devices again; 0 for not at all
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    follow: u16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EngineName {
    /// The first of the others that works, for each device
    Auto,
    /// The bsg driver, by io_uring (Linux 7.1 and newer), or fail
    BsgUring,
    /// The sg driver, by io_uring (Linux 5.19 and newer), or fail
    SgUring,
    /// The sg driver, by poll and plain system calls
    SgEpoll,
}

/// Exit status of a server that has nothing to do, so that nobody starts it again.
const SERVED_ALREADY: u8 = 3;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let filter = match EnvFilter::try_new(&cli.log) {
        Ok(filter) => filter,
        Err(error) => {
            complain(format_args!("--log {:?}: {error}", cli.log));
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // A line that cannot be written is lost; a complaint about it, to the same place, would end the process.
        .log_internal_errors(false)
        .init();
    match cli.verb {
        Verb::Create(arguments) => tools::create(&arguments),
        Verb::Serve(arguments) => match serve(&arguments) {
            Err(error @ ServeError::Twice(_)) => {
                failed(&error);
                ExitCode::from(SERVED_ALREADY)
            }
            done => ended(done),
        },
        Verb::Watch(arguments) => ended(watch::watch(&arguments, &cli.log)),
        Verb::Attach(arguments) => tools::attach(&arguments),
        Verb::Detach(arguments) => tools::detach(&arguments),
        Verb::List(arguments) => tools::list(&arguments),
        Verb::Check(arguments) => tools::check(&arguments),
        Verb::Convert(arguments) => convert::convert(&arguments),
        Verb::Demo(options) => ended(demo::run(&options)),
        Verb::Measure(options) => ended(measure::run(&options)),
        Verb::Generate(arguments) => ended(generate::generate(&arguments)),
    }
}

fn ended<E: Display>(done: Result<(), E>) -> ExitCode {
    done.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

fn failed(error: &dyn Display) -> ExitCode {
    complain(format_args!("{error}"));
    ExitCode::FAILURE
}

/// One line for the user, if it can be written: a log that is full ends nothing.
fn complain(what: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "xen-pvscsi: {what}");
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
    complain(format_args!("{}; xen-pvscsi --help says more", what.trim_start_matches("error: ")));
    ExitCode::from(2)
}

fn serve(arguments: &Serve) -> Result<(), ServeError> {
    // The watcher starts it through /proc/self/exe, and ps would show "exe". No more than a name: it can fail.
    let _ = nix::sys::prctl::set_name(c"xen-pvscsi");
    let domid = DomId(arguments.domid);
    let cpus = arguments.cpus.as_ref().map(Cpus::new).transpose()?.unwrap_or_default();
    serve::refuse_beside_kernel(Path::new("/sys"))?;
    let store = Xenstore::open()?;
    let _claim = serve::claim(domid)?;
    // Before any thread is started, so that all of them leave the signals to the descriptor.
    let signals = stop_signals().map_err(|source| ServeError::System { what: "taking signals", source })?;
    let mut limits =
        TimeLimits { polling: Duration::from_micros(arguments.polling), ..TimeLimits::default() };
    arguments.timeout.iter().for_each(|limit| limits.set(*limit));
    let platform = Platform {
        limits,
        grants: Box::new(|domid| Ok(Box::new(Gntdev::open(domid)?) as Box<dyn GrantTable>)),
        bind: Box::new(|domid, port, name| {
            let events = interrupt::in_thread(name, || Evtchn::bind(domid, port))?;
            Ok(Box::new(events) as Box<dyn EventChannel>)
        }),
        cpus,
        engine: match arguments.engine {
            EngineName::Auto => Engine::Auto,
            EngineName::BsgUring => Engine::BsgUring,
            EngineName::SgUring => Engine::SgUring,
            EngineName::SgEpoll => Engine::SgEpoll,
        },
        reservations: Directories {
            run: "/run/xen-pvscsi/reservations".into(),
            saved: "/var/lib/xen-pvscsi/reservations".into(),
        },
    };
    let mut server = Server::new(domid, store, platform)?;
    info!("serving domain {domid}");
    // Only systemd listens, and only where it started us.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    server.run(signals.as_fd())?;
    let patience = Duration::from_secs(arguments.follow.into());
    if let Some(belongings) = server.belongings()
        && !patience.is_zero()
    {
        drop(server);
        match Toolstack::new(Xenstore::open()?, signals.as_fd())
            .and_then(|mut tools| tools.follow(domid, &belongings, patience))
        {
            Ok(_) | Err(ToolError::Interrupted) => {}
            Err(error) => warn!("the devices of domain {domid} do not follow it: {error}"),
        }
    }
    Ok(())
}

fn stop_signals() -> std::io::Result<SignalFd> {
    signals(&[Signal::SIGTERM, Signal::SIGINT])
}

/// A descriptor for signals, which come in no other way any more.
fn signals(which: &[Signal]) -> std::io::Result<SignalFd> {
    let signals: SigSet = which.iter().copied().collect();
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}
