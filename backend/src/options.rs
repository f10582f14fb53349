//! What an administrator may ask of a device besides its name and its address.

use std::fmt;

use pvscsi_sg::Groups;
use pvscsi_sg::commands::UnknownGroup;
use pvscsi_sg::disk::BlockSize;

/// Options of a device. In a configuration they stand behind the address; in xenstore, all but `feature-host`, in the node
/// `options` of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `feature-host`: all commands go to the device (Xen's io/vscsiif.h). A whole vhost has it or has it not.
    pub feature_host: bool,
    /// `ro`: nothing can be written ([`ReadOnly`](pvscsi_sg::ReadOnly)).
    pub read_only: bool,
    /// `shared`: other guests may have the same device.
    pub shared: bool,
    /// `allow=GROUP+…`: commands that are refused without it, and without `feature-host`.
    pub allow: Groups,
    /// `block-size=BYTES`: of an emulated disk's blocks, which are of 512 bytes without it, or as long as the block device's.
    pub block_size: Option<BlockSize>,
    /// `reservations=guests|device`: who keeps reservations; `None`: as the device and `shared` make sensible.
    pub reservations: Option<Keeper>,
}

/// Who keeps the reservations of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// This host, each guest being an initiator of its own ([`Reserved`](pvscsi_sg::Reserved)).
    Guests,
    /// The device, to which all guests of this host are one initiator.
    Device,
}

/// Why words are no options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such option.
    #[error(
        "option {0:?} is not known; there are: feature-host, ro, shared, allow=GROUP (or several, joined by +), \
         reservations=guests or =device, block-size=512 or 4096, backend=DOMAIN"
    )]
    Unknown(String),
    /// `allow=` of something else.
    #[error("allow=: {0}")]
    Group(#[from] UnknownGroup),
    /// `reservations=` of something else.
    #[error("reservations={0:?} is not known: write reservations=guests or reservations=device")]
    Keeper(String),
    /// `block-size=` of something else.
    #[error("block-size={0}: blocks have 512 or 4096 bytes")]
    BlockSize(String),
    /// The same twice.
    #[error("option {0} is there twice")]
    Twice(String),
}

impl Options {
    /// Options from their words, blanks around them allowed.
    ///
    /// # Errors
    ///
    /// [`OptionError`] names the word.
    pub fn from_words<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self, OptionError> {
        let mut options = Self::default();
        for word in words.map(str::trim) {
            if let Some(groups) = word.strip_prefix("allow=") {
                if !options.allow.is_empty() {
                    return Err(OptionError::Twice("allow".into()));
                }
                options.allow = groups.trim().parse()?;
                continue;
            }
            if let Some(keeper) = word.strip_prefix("reservations=") {
                let keeper = match keeper.trim() {
                    "guests" => Keeper::Guests,
                    "device" => Keeper::Device,
                    other => return Err(OptionError::Keeper(other.into())),
                };
                if options.reservations.replace(keeper).is_some() {
                    return Err(OptionError::Twice("reservations".into()));
                }
                continue;
            }
            if let Some(text) = word.strip_prefix("block-size=") {
                if options.block_size.is_some() {
                    return Err(OptionError::Twice("block-size".into()));
                }
                let size = BlockSize::ALL.into_iter().find(|size| size.to_string() == text.trim());
                options.block_size = Some(size.ok_or_else(|| OptionError::BlockSize(text.trim().into()))?);
                continue;
            }
            let option = match word {
                "feature-host" => &mut options.feature_host,
                "ro" => &mut options.read_only,
                "shared" => &mut options.shared,
                other => return Err(OptionError::Unknown(other.into())),
            };
            if std::mem::replace(option, true) {
                return Err(OptionError::Twice(word.into()));
            }
        }
        Ok(options)
    }

    /// Those of the device alone, which its node holds.
    #[must_use]
    pub fn of_device(self) -> Self {
        Self { feature_host: false, ..self }
    }

    /// Options from the text of a node; "" has none.
    ///
    /// # Errors
    ///
    /// [`OptionError`] names the word.
    pub fn from_node(text: &str) -> Result<Self, OptionError> {
        if text.is_empty() { Ok(Self::default()) } else { Self::from_words(text.split(',')) }
    }
}

/// The words, with commas between.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [(self.feature_host, "feature-host"), (self.read_only, "ro"), (self.shared, "shared")];
        let allow = (!self.allow.is_empty()).then(|| format!("allow={}", self.allow));
        let block_size = self.block_size.map(|size| format!("block-size={size}"));
        let reservations = self.reservations.map(|keeper| match keeper {
            Keeper::Guests => "reservations=guests",
            Keeper::Device => "reservations=device",
        });
        let set = all.iter().filter(|(set, _)| *set).map(|(_, word)| *word);
        let words: Vec<&str> =
            set.chain(allow.as_deref()).chain(block_size.as_deref()).chain(reservations).collect();
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in [
            "",
            "ro",
            "shared",
            "ro,shared",
            "feature-host",
            "feature-host,ro,shared",
            "ro,allow=firmware+ata",
            "shared,reservations=device",
            "allow=ata,reservations=guests",
            "block-size=4096",
            "shared,allow=ata,block-size=512",
        ] {
            assert_eq!(Options::from_node(text).unwrap().to_string(), text);
        }
        assert_eq!(Options::from_node(" shared , ro").unwrap().to_string(), "ro,shared");
    }

    #[test]
    fn unknown_options_are_refused() {
        for text in ["rw", "RO", "ro,", ",", " ", "ro;shared", "shared=1", "ro,rw"] {
            let unknown = Options::from_node(text).unwrap_err();
            assert!(matches!(unknown, OptionError::Unknown(_)), "{text:?}: {unknown}");
        }
        assert_eq!(Options::from_node("ro,shared,ro"), Err(OptionError::Twice("ro".into())));
        assert_eq!(
            Options::from_node("block-size=512,block-size=4096"),
            Err(OptionError::Twice("block-size".into()))
        );
        for text in ["", "0", "520", "4k", "04096", "+512"] {
            let error = Options::from_node(&format!("block-size={text}")).unwrap_err();
            assert_eq!(error.to_string(), format!("block-size={text}: blocks have 512 or 4096 bytes"));
        }
        assert_eq!(Options::from_node("allow=ata,allow=all"), Err(OptionError::Twice("allow".into())));
        let twice = Options::from_node("reservations=guests,reservations=guests");
        assert_eq!(twice, Err(OptionError::Twice("reservations".into())));
        assert_eq!(Options::from_node("reservations=all"), Err(OptionError::Keeper("all".into())));
        let group = Options::from_node("allow=everything").unwrap_err().to_string();
        assert!(
            group.starts_with("allow=: \"everything\" is no group of commands; there are: third-party"),
            "{group}"
        );
    }
}
