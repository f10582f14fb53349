//! The verb `convert`.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use pvscsi_backend::libvirt;
use pvscsi_backend::toolstack::config;

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Convert {
    /// Read a configuration file of xl, or lines of pdev,vdev, and write elements hostdev; - reads standard input
    #[arg(long, value_name = "FILE")]
    to_libvirt: Option<PathBuf>,
    /// Read XML of libvirt, a domain or elements hostdev, and write vscsi = [ … ]; - reads standard input
    #[arg(long, value_name = "FILE")]
    from_libvirt: Option<PathBuf>,
}

pub fn convert(arguments: &Convert) -> ExitCode {
    let converted = match (&arguments.to_libvirt, &arguments.from_libvirt) {
        (Some(file), _) => to_libvirt(input(file)),
        (_, Some(file)) => from_libvirt(input(file)),
        (None, None) => unreachable!("the group is required"),
    };
    let written = converted.and_then(|text| match std::io::stdout().write_all(text.as_bytes()) {
        // A reader that has gone has read enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("writing: {error}")),
        _ => Ok(()),
    });
    super::ended(written)
}

fn input(file: &Path) -> &Path {
    if file == Path::new("-") { Path::new("/dev/stdin") } else { file }
}

fn to_libvirt(file: &Path) -> Result<String, String> {
    let devices = config::read(file).and_then(|text| config::devices(file, text));
    let devices = devices.map_err(|error| error.to_string())?;
    if devices.is_empty() {
        return Err(format!("{}: there is no device in it", file.display()));
    }
    libvirt::to_xml(&devices).map_err(|error| error.to_string())
}

fn from_libvirt(file: &Path) -> Result<String, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = config::read(file).map_err(|error| error.to_string())?;
    let text = String::from_utf8(text).map_err(|error| named(&error))?;
    libvirt::from_xml(&text).map(|devices| libvirt::to_config(&devices)).map_err(|error| named(&error))
}
