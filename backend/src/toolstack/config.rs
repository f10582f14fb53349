//! The devices of a guest in its configuration file for xl: `vscsi = [ "pdev,vdev[,option]…", … ]`. All other keys are xl's.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::spec::{Conflict, DeviceSpec, SpecError, agree};
use syntax::{Placed, SyntaxError, Value};

mod syntax;
#[cfg(test)]
mod tests;

/// Longest configuration, in bytes; people write some hundreds.
const LENGTH_MAX: u64 = 1 << 20;

/// What we need of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `name`.
    pub name: Option<String>,
    /// The items of `vscsi`; none where there is no such key.
    pub devices: Vec<DeviceSpec>,
}

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a line of the file, counted from 1.
    Line(PathBuf, usize),
    /// Among the settings of the command line.
    CommandLine,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(path, line) => write!(f, "{}:{line}", path.display()),
            Self::CommandLine => f.write_str("key=value of the command line"),
        }
    }
}

/// Why a configuration cannot be used. Each says where, and which part is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No such file, and the like.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else than a configuration.
    #[error("{} is longer than {LENGTH_MAX} bytes: is it a configuration?", .0.display())]
    Long(PathBuf),
    /// xl would not read it either.
    #[error("{place}: {why}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong.
        why: SyntaxError,
    },
    /// `name` is a list, or no text.
    #[error("{0}: name is no string of UTF-8")]
    Name(Place),
    /// `vscsi` without brackets. libxlu gives no list then, so that xl would go on without devices.
    #[error("{place}: vscsi is a list, also with one device; write vscsi = [ {text:?} ]")]
    NoList {
        /// Where.
        place: Place,
        /// What it is set to.
        text: String,
    },
    /// An item of `vscsi`.
    #[error("{place}: item {number} of vscsi: {why}")]
    Item {
        /// Where.
        place: Place,
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        why: ItemError,
    },
}

/// What is wrong with an item of `vscsi`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// A list in the list.
    #[error("this is a list; a device is a string, \"pdev,vdev[,option]\"")]
    List,
    /// Bytes that are no text.
    #[error("{0:?} is not UTF-8")]
    NoText(String),
    /// No device.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Not beside another.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

impl Config {
    /// Reads a configuration as `xl create FILE KEY=VALUE…` does: settings of the command line follow those of the file.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] says where and what.
    pub fn read(path: &Path, settings: &[String]) -> Result<Self, ConfigError> {
        let text = read(path)?;
        Self::parse(path, text, settings)
    }

    /// The same of the text of a file.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], but not [`ConfigError::Read`].
    pub fn parse(path: &Path, mut text: Vec<u8>, settings: &[String]) -> Result<Self, ConfigError> {
        let last_line = text.iter().filter(|byte| **byte == b'\n').count().saturating_add(1);
        for setting in settings {
            // xl puts an end of line before the first and behind each.
            text.push(b'\n');
            text.extend_from_slice(setting.as_bytes());
        }
        if !settings.is_empty() {
            text.push(b'\n');
        }
        let place = |line: usize| {
            if line > last_line { Place::CommandLine } else { Place::Line(path.into(), line) }
        };
        let mut settings =
            syntax::parse(&text).map_err(|(line, why)| ConfigError::Syntax { place: place(line), why })?;
        let name = settings.remove("name").map(|Placed { line, value }| match value {
            Value::Text(name) => String::from_utf8(name).map_err(|_| ConfigError::Name(place(line))),
            Value::List(_) => Err(ConfigError::Name(place(line))),
        });
        let items = match settings.remove("vscsi") {
            None => Vec::new(),
            Some(Placed { value: Value::List(items), .. }) => items,
            Some(Placed { line, value: Value::Text(text) }) => {
                let text = String::from_utf8_lossy(&text).into_owned();
                return Err(ConfigError::NoList { place: place(line), text });
            }
        };
        let devices = specs(&items, place)?;
        Ok(Self { name: name.transpose()?, devices })
    }
}

/// The whole text of a file.
///
/// # Errors
///
/// [`ConfigError::Read`], [`ConfigError::Long`].
pub fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.into(), source };
    let mut text = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let length = file.take(LENGTH_MAX.saturating_add(1)).read_to_end(&mut text).map_err(failed)?;
    let fits = u64::try_from(length).is_ok_and(|length| length <= LENGTH_MAX);
    if fits { Ok(text) } else { Err(ConfigError::Long(path.into())) }
}

/// The devices of a text that is a configuration, or has a `pdev,vdev[,option]…` on each line and comments behind `#`.
///
/// # Errors
///
/// [`ConfigError`] says where and what.
pub fn devices(path: &Path, text: Vec<u8>) -> Result<Vec<DeviceSpec>, ConfigError> {
    let lines = || text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let is_said = |line: &&[u8]| !line.is_empty() && !line.starts_with(b"#");
    if lines().find(is_said).is_none_or(is_setting) {
        return Ok(Config::parse(path, text, &[])?.devices);
    }
    let lines = lines().zip(1..).filter(|(text, _)| is_said(text));
    let items = lines.map(|(text, line)| Placed { line, value: Value::Text(text.to_vec()) });
    specs(&items.collect::<Vec<_>>(), |line| Place::Line(path.into(), line))
}

/// Whether a line begins as `key =` or `key +=`; a device never does.
fn is_setting(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    let key =
        line.iter().take_while(|byte| byte.is_ascii_lowercase() || matches!(byte, b'0'..=b'9' | b'_' | b'.'));
    let behind = line.get(key.count()..).unwrap_or_default().trim_ascii_start();
    line.starts_with(b";") || behind.starts_with(b"=") || behind.starts_with(b"+=")
}

fn specs(items: &[Placed], place: impl Fn(usize) -> Place) -> Result<Vec<DeviceSpec>, ConfigError> {
    let wrong = |index: usize, why: ItemError| {
        let line = items.get(index).map_or(0, |item| item.line);
        ConfigError::Item { place: place(line), number: index.saturating_add(1), why }
    };
    let devices = items.iter().enumerate();
    let devices = devices.map(|(index, item)| device(&item.value).map_err(|why| wrong(index, why)));
    let devices: Vec<DeviceSpec> = devices.collect::<Result<_, _>>()?;
    agree(&devices).map_err(|(index, why)| wrong(index, why.into()))?;
    Ok(devices)
}

fn device(value: &Value) -> Result<DeviceSpec, ItemError> {
    let Value::Text(text) = value else { return Err(ItemError::List) };
    let text =
        str::from_utf8(text).map_err(|_| ItemError::NoText(String::from_utf8_lossy(text).into_owned()))?;
    Ok(text.parse()?)
}
