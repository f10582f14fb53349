//! What guests have, as `xl scsi-list` shows it, or as JSON.

use std::fmt::Write as _;

use pvscsi_xen::DomId;
use serde_json::{Value, json};

use super::tree::{self, Vhost};
use super::{ToolError, Toolstack};

impl Toolstack<'_> {
    /// The guests that have vscsi devices, of this domain or by a toolstack in it.
    ///
    /// # Errors
    ///
    /// Failures of xenstore.
    pub fn guests(&mut self) -> Result<Vec<DomId>, ToolError> {
        let mut guests = tree::guests(&mut self.store, self.own)?;
        guests.sort_unstable_by_key(|domid| domid.0);
        Ok(guests)
    }

    /// The vhosts of a guest with their devices.
    ///
    /// # Errors
    ///
    /// Failures of xenstore.
    pub fn vhosts(&mut self, domid: DomId) -> Result<Vec<Vhost>, ToolError> {
        Ok(tree::vhosts(&mut self.store, self.own, domid)?)
    }
}

/// A table: for each device its vhost, the backend's domain, the frontend's state, the host number, both addresses, its own
/// state, and the name it was attached by.
#[must_use]
pub fn table(guests: &[(DomId, Vec<Vhost>)]) -> String {
    let mut rows = vec![
        ["Dom", "Idx", "BE", "state", "ctrl", "phy-hctl", "vir-hctl", "devstate", "name"].map(String::from),
    ];
    for (domid, vhosts) in guests {
        for vhost in vhosts {
            rows.extend(vhost.devices.iter().map(|device| {
                [
                    domid.to_string(),
                    vhost.place.number.to_string(),
                    vhost.place.home.to_string(),
                    vhost.frontend.digit().to_owned(),
                    vhost.host.to_string(),
                    device.p_dev.clone(),
                    device.v_dev.clone(),
                    device.state.digit().to_owned(),
                    device.name.clone(),
                ]
            }));
        }
    }
    let width = |column: usize| {
        rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max().unwrap_or(0)
    };
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, text) in row.iter().enumerate() {
            let _ = write!(line, "{text:<width$}  ", width = width(column));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The same as JSON: an array of devices.
#[must_use]
pub fn json(guests: &[(DomId, Vec<Vhost>)]) -> Value {
    let devices = guests.iter().flat_map(|(domid, vhosts)| {
        vhosts.iter().flat_map(move |vhost| {
            vhost.devices.iter().map(move |device| {
                json!({
                    "domid": domid.0, "vhost": vhost.place.number, "backend_domid": vhost.place.home.0, "host": vhost.host,
                    "feature_host": vhost.feature_host, "backend_state": vhost.own as u8,
                    "frontend_state": vhost.frontend as u8, "node": device.node, "name": device.name,
                    "p_dev": device.p_dev, "v_dev": device.v_dev, "options": device.options, "state": device.state as u8,
                })
            })
        })
    });
    devices.collect()
}
