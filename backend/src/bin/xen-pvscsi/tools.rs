//! The verbs of the toolstack: attach, detach, list, check.

use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;

use clap::Args;
use pvscsi_backend::check::Machine;
use pvscsi_backend::toolstack::list::{json, table};
use pvscsi_backend::toolstack::spec::DeviceSpec;
use pvscsi_backend::toolstack::{Attached, ToolError, Toolstack};
use pvscsi_backend::vdev::VDev;
use pvscsi_xen::xenstore::Xenstore;

/// Exit status after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

#[derive(Debug, Args)]
pub struct Attach {
    /// The guest: its number or its name
    domain: String,
    /// The device: a path below /dev, host:channel:target:lun, file:/PATH or ram:SIZE
    pdev: String,
    /// Where the guest sees it, host:channel:target:lun, and options behind commas: feature-host
    vdev: String,
    /// The same options, as xl scsi-attach takes them
    options: Vec<String>,
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
    /// Where the guest is to see it, and options behind commas
    vdev: Option<String>,
    /// The same options, as attach takes them
    options: Vec<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Runs one verb with a connection to xenstore; a signal ends all waiting.
fn run(work: impl FnOnce(&mut Toolstack<'_>) -> Result<(), ToolError>) -> ExitCode {
    let done = Xenstore::open().map_err(|error| error.to_string()).and_then(|store| {
        let signals = super::stop_signals().map_err(|error| format!("taking signals: {error}"))?;
        Ok(Toolstack::new(store, signals.as_fd()).and_then(|mut tools| work(&mut tools)))
    });
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(ToolError::Interrupted)) => {
            super::complain(format_args!("interrupted; nothing is left half done"));
            ExitCode::from(INTERRUPTED)
        }
        Ok(Err(error)) => super::failed(&error),
        Err(error) => super::failed(&error),
    }
}

pub fn attach(arguments: &Attach) -> ExitCode {
    let Attach { domain, pdev, vdev, options } = arguments;
    let text = [pdev, vdev].into_iter().chain(options).map(String::as_str).collect::<Vec<_>>().join(",");
    let spec: DeviceSpec = match text.parse() {
        Ok(spec) => spec,
        Err(error) => {
            super::complain(format_args!("{error}"));
            return ExitCode::from(2);
        }
    };
    run(|tools| {
        let domid = tools.domain(domain)?;
        match tools.attach(domid, &spec)? {
            Attached::InUse => {}
            Attached::Waiting => say(&format!(
                "{} is attached to domain {domid} as {}; the guest's driver has not come for it yet\n",
                spec.name, spec.vdev
            )),
        }
        Ok(())
    })
}

pub fn detach(arguments: &Detach) -> ExitCode {
    run(|tools| {
        let domid = tools.domain(&arguments.domain)?;
        tools.detach(domid, arguments.vdev, arguments.force)
    })
}

pub fn list(arguments: &List) -> ExitCode {
    run(|tools| {
        let guests = match arguments.domains.as_slice() {
            [] => tools.guests()?,
            named => named.iter().map(|name| tools.domain(name)).collect::<Result<_, _>>()?,
        };
        let mut found = Vec::new();
        for domid in guests {
            found.push((domid, tools.vhosts(domid)?));
        }
        let backend = tools.backend_domain();
        if arguments.json {
            say(&format!("{:#}\n", json(&found, backend)));
        } else {
            say(&table(&found, backend));
        }
        Ok(())
    })
}

pub fn check(arguments: &Check) -> ExitCode {
    let Check { pdev, vdev, options, json } = arguments;
    let mut machine = Machine::here();
    let report = match pdev {
        None => machine.host(),
        Some(_) => {
            let words: Vec<&str> = pdev.iter().chain(vdev).chain(options).map(String::as_str).collect();
            machine.device(&words.join(","))
        }
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
