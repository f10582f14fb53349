//! A new guest with all of its devices, or none.

use std::path::Path;

use pvscsi_xen::DomId;

use super::attach::check;
use super::config::Config;
use super::tree;
use super::xl::Xl;
use super::{ToolError, Toolstack};

/// What guest to make.
#[derive(Clone, Copy, Debug)]
pub struct Creation<'a> {
    /// Its configuration file.
    pub file: &'a Path,
    /// Settings that count instead of those in the file, `key=value`.
    pub settings: &'a [String],
    /// What both say.
    pub config: &'a Config,
    /// Leave it paused.
    pub paused: bool,
}

impl Toolstack<'_> {
    /// Makes a guest, paused; attaches its devices; lets it run. After an error there is no guest.
    ///
    /// xl is not interrupted in its work, so a Ctrl-C counts when xl has ended.
    ///
    /// # Errors
    ///
    /// [`ToolError`] says what and where; [`ToolError::Left`] when the guest cannot be destroyed.
    pub fn create(&mut self, xl: &Xl, creation: &Creation<'_>) -> Result<DomId, ToolError> {
        let name = creation.config.name.as_deref().ok_or(ToolError::NoName)?;
        creation.config.devices.iter().try_for_each(check)?;
        xl.create(creation.file, creation.settings)?;
        let domid = xl.domid(name)?;
        let Err(mut error) = self.equip(xl, domid, creation) else { return Ok(domid) };
        if let Err(why) = xl.destroy(domid) {
            error = error.and_left(format!("domain {domid} stays, paused"), why);
        }
        // Upstream's libxl does not know of these.
        let own = self.own;
        if let Err(why) = self.store.transaction(|tx| tree::remove_all(tx, own, domid)) {
            error = error.and_left(format!("backend/vscsi/{domid} stays in xenstore"), why);
        }
        Err(error)
    }

    fn equip(&mut self, xl: &Xl, domid: DomId, creation: &Creation<'_>) -> Result<(), ToolError> {
        self.heed_stop()?;
        let waits = std::mem::replace(&mut self.wait_for_guest, false);
        let attached = self.attach_each(domid, &creation.config.devices, &mut Vec::new());
        self.wait_for_guest = waits;
        attached?;
        if !creation.paused {
            xl.unpause(domid)?;
        }
        Ok(())
    }
}
