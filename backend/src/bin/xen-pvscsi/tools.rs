//! The verbs of the toolstack: create, attach, detach, list, check.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use pvscsi_backend::check::Machine;
use pvscsi_backend::toolstack::config::Config;
use pvscsi_backend::toolstack::list::{json, table};
use pvscsi_backend::toolstack::{Attached, Creation, Given, ToolError, Toolstack, Xl};
use pvscsi_backend::vdev::{VDev, Wanted};
use pvscsi_xen::xenstore::Xenstore;

/// Exit status after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

#[derive(Debug, Args)]
#[command(
    override_usage = "xen-pvscsi attach <DOMAIN> <PDEV> <VDEV> [OPTIONS]...\n       xen-pvscsi attach --config <FILE> <DOMAIN>"
)]
pub struct Attach {
    /// The guest: its number or its name
    domain: String,
    /// The device: a path below /dev, host:channel:target:lun, wwn:NAME, serial:NUMBER, file:/PATH,
    /// block:/dev/PATH or ram:SIZE
    #[arg(required_unless_present = "config")]
    pdev: Option<String>,
    /// Where the guest sees it, host:channel:target:lun, or auto for a vhost of its own, with the lowest host number that the
    /// guest does not use yet, which is printed; and options behind commas: feature-host, ro, shared,
    /// allow=GROUP for commands that are refused otherwise, reservations=guests or reservations=device for who keeps them,
    /// block-size=4096 for file:, block: and ram:, backend=DOMAIN for a device of another domain
    #[arg(required_unless_present = "config")]
    vdev: Option<String>,
    /// The same options, as xl scsi-attach takes them
    options: Vec<String>,
    /// All devices of vscsi = [ … ] in this configuration file of xl that are not attached yet; all of them or none
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pdev", "vdev", "options"])]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Create {
    /// The guest's configuration file for xl
    file: PathBuf,
    /// What counts instead of the file, as xl create takes it: 'memory=512', 'name="web"', 'vscsi+=["/dev/sg3,0:0:0:1"]'
    #[arg(value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<String>,
    /// Leave the guest paused
    #[arg(short, long)]
    paused: bool,
    /// Go on as xl console
    #[arg(short, long)]
    console: bool,
    /// The program that makes the guest
    #[arg(long, value_name = "PROGRAM", env = "XEN_PVSCSI_XL", default_value = "xl")]
    xl: OsString,
}

fn setting(text: &str) -> Result<String, &'static str> {
    if text.contains('=') { Ok(text.to_owned()) } else { Err("it is not of the form KEY=VALUE") }
}

#[derive(Debug, Args)]
pub struct Detach {
    /// The guest: its number or its name
    domain: String,
    /// Where the guest sees the device: host:channel:target:lun
    vdev: VDev,
    /// Take it away even if the guest does not let go of it: what it has not written yet is lost
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub struct List {
    /// Guests, by number or name; all that have devices, when there are none
    domains: Vec<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct Check {
    /// The device, as attach takes it; without one, this host
    pdev: Option<String>,
    /// Where the guest is to see it, host:channel:target:lun or auto, and options behind commas
    vdev: Option<String>,
    /// The same options, as attach takes them
    options: Vec<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Runs one verb with a connection to xenstore; a signal ends all waiting.
fn run<T>(work: impl FnOnce(&mut Toolstack<'_>) -> Result<T, ToolError>) -> Result<T, ExitCode> {
    let done = Xenstore::open().map_err(|error| error.to_string()).and_then(|store| {
        let signals = super::stop_signals().map_err(|error| format!("taking signals: {error}"))?;
        Ok(Toolstack::new(store, signals.as_fd()).and_then(|mut tools| work(&mut tools)))
    });
    match done {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(ToolError::Interrupted)) => {
            super::complain(format_args!("interrupted; nothing is left half done"));
            Err(ExitCode::from(INTERRUPTED))
        }
        Ok(Err(error)) => Err(super::failed(&error)),
        Err(error) => Err(super::failed(&error)),
    }
}

fn ended(done: Result<(), ExitCode>) -> ExitCode {
    done.err().unwrap_or(ExitCode::SUCCESS)
}

/// The words of a command line as an item of `vscsi=`.
fn item(pdev: Option<&String>, vdev: Option<&String>, options: &[String]) -> String {
    pdev.into_iter().chain(vdev).chain(options).map(String::as_str).collect::<Vec<_>>().join(",")
}

pub fn attach(arguments: &Attach) -> ExitCode {
    let Attach { domain, pdev, vdev, options, config } = arguments;
    let specs = if let Some(file) = config {
        match Config::read(file, &[]) {
            Ok(config) => config.devices,
            Err(error) => return super::failed(&error),
        }
    } else {
        match item(pdev.as_ref(), vdev.as_ref(), options).parse() {
            Ok(spec) => vec![spec],
            Err(error) => {
                super::complain(format_args!("{error}"));
                return ExitCode::from(2);
            }
        }
    };
    ended(run(|tools| {
        let domid = tools.domain(domain)?;
        let attached = match specs.as_slice() {
            // One that the user names is not expected to be there.
            [spec] if config.is_none() => vec![tools.attach(domid, spec)?],
            specs => tools.attach_all(domid, specs)?,
        };
        if specs.is_empty() {
            say("there is no device in vscsi = [ … ] of the file\n");
        }
        for (spec, Given { vdev, attached }) in specs.iter().zip(attached) {
            let name = &spec.name;
            let what = match attached {
                // Nobody knows yet where it is.
                Attached::InUse if spec.vdev == Wanted::Auto => "",
                Attached::InUse => continue,
                Attached::Before => " already",
                Attached::Waiting => "; the guest's driver has not come for it yet",
            };
            say(&format!("{name} is attached to domain {domid} as {vdev}{what}\n"));
        }
        Ok(())
    }))
}

pub fn create(arguments: &Create) -> ExitCode {
    let Create { file, settings, paused, console, xl } = arguments;
    let config = match Config::read(file, settings) {
        Ok(config) => config,
        Err(error) => return super::failed(&error),
    };
    let xl = Xl { program: xl.clone() };
    let creation = Creation { file, settings, config: &config, paused: *paused };
    match run(|tools| tools.create(&xl, &creation)) {
        Ok(domid) if *console => super::failed(&xl.console(domid)),
        Ok(_) => ExitCode::SUCCESS,
        Err(status) => status,
    }
}

pub fn detach(arguments: &Detach) -> ExitCode {
    ended(run(|tools| {
        let domid = tools.domain(&arguments.domain)?;
        tools.detach(domid, arguments.vdev, arguments.force)
    }))
}

pub fn list(arguments: &List) -> ExitCode {
    ended(run(|tools| {
        let guests = match arguments.domains.as_slice() {
            [] => tools.guests()?,
            named => named.iter().map(|name| tools.domain(name)).collect::<Result<_, _>>()?,
        };
        let mut found = Vec::new();
        for domid in guests {
            found.push((domid, tools.vhosts(domid)?));
        }
        if arguments.json {
            say(&format!("{:#}\n", json(&found)));
        } else {
            say(&table(&found));
        }
        Ok(())
    }))
}

pub fn check(arguments: &Check) -> ExitCode {
    let Check { pdev, vdev, options, json } = arguments;
    let mut machine = Machine::here();
    let report = match pdev {
        None => machine.host(),
        Some(_) => machine.device(&item(pdev.as_ref(), vdev.as_ref(), options)),
    };
    if *json {
        say(&format!("{:#}\n", report.json()))
    } else {
        say(&report.text())
    }
    if report.fits() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(text: &str) {
    // A reader that has gone has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
