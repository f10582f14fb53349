//! Groups of commands that can be allowed: by what they risk.

use std::fmt;
use std::str::FromStr;

/// Commands that are refused for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Group {
    /// Reaches other units, or hands out what others could reach this one with.
    ThirdParty,
    /// Loads another program into the device.
    Firmware,
    /// Makes the device another one: block size, capacity, hours of work that nothing stops.
    Format,
    /// Locks the device for others, or for ever.
    Security,
    /// Carries a command of ATA that does not just look.
    Ata,
    /// Changes how all that use the device see it.
    Settings,
    /// In none of the standards that this version knows for devices of this kind: vendors' codes, newer ones, obsolete ones.
    Unknown,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ThirdParty,
        Self::Firmware,
        Self::Format,
        Self::Security,
        Self::Ata,
        Self::Settings,
        Self::Unknown,
    ];

    /// As it is written in an option.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ThirdParty => "third-party",
            Self::Firmware => "firmware",
            Self::Format => "format",
            Self::Security => "security",
            Self::Ata => "ata",
            Self::Settings => "settings",
            Self::Unknown => "unknown",
        }
    }

    /// What it risks, for a reader who knows SCSI.
    #[must_use]
    pub fn risk(self) -> &'static str {
        match self {
            Self::ThirdParty => "reaches other logical units, or lets others reach this one",
            Self::Firmware => "loads another program into the device",
            Self::Format => "makes the device another one (block size, capacity), or keeps it busy for hours",
            Self::Security => "locks the device for others, or for ever",
            Self::Ata => "carries a command of ATA that does not just look",
            Self::Settings => "changes how all that use the device see it",
            Self::Unknown => {
                "is in none of the standards that this version knows for such a device: a vendor's, a newer one, an obsolete one"
            }
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Some groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups(u8);

/// No group has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no group of commands; there are: third-party, firmware, format, security, ata, settings, unknown, joined by +, or all"
)]
pub struct UnknownGroup(pub String);

impl Groups {
    /// Whether the group is among them.
    #[must_use]
    pub fn has(self, group: Group) -> bool {
        self.0 & group.bit() != 0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Self(Group::ALL.iter().fold(0, |bits, group| bits | group.bit()))
    }
}

impl FromStr for Groups {
    type Err = UnknownGroup;

    fn from_str(text: &str) -> Result<Self, UnknownGroup> {
        if text == "all" {
            return Ok(Self::all());
        }
        let group = |name: &str| Group::ALL.into_iter().find(|group| group.name() == name);
        text.split('+').map(str::trim).try_fold(Self::default(), |groups, name| {
            group(name).map(|group| Self(groups.0 | group.bit())).ok_or_else(|| UnknownGroup(name.into()))
        })
    }
}

/// As it is parsed.
impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::all() {
            return f.write_str("all");
        }
        let names: Vec<&str> =
            Group::ALL.into_iter().filter(|group| self.has(*group)).map(Group::name).collect();
        f.write_str(&names.join("+"))
    }
}
