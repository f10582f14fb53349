//! The devices of a vhost: `vscsi-devs/dev-N` in the backend's directory.

use std::time::Instant;

use pvscsi_guestmem::PAGE_SIZE;
use pvscsi_ring::vscsiif::MAX_SEGMENTS;
use pvscsi_sg::{Hctl, LogicalUnit, OnRefusal, Policed, Refusal, TransferLimit};
use pvscsi_xen::xenstore::{self, Nodes};
use tracing::warn;

use super::holdings::{Held, Served};
use super::nodes::{drop_error, read_optional, replace, state_of, write_if_there};
use super::reservations::keeps_reservations;
use super::{Context, Fault, Trouble, Vhost, fault};
use crate::in_use::guests::Guests;
use crate::in_use::{Host, Identity};
use crate::options::Options;
use crate::pdev::PDev;
use crate::vdev::{VDev, VDevError};
use crate::xenbus::{DevStep, Frontend, XenbusState, dev_step};

/// Bytes that a guest can move with one command: all segments of a page each.
pub(crate) const GUEST_MAX: u64 = (MAX_SEGMENTS * PAGE_SIZE) as u64;

impl Vhost {
    /// Adds and removes units as their nodes ask for. A device that cannot be had never stops the others.
    pub(super) fn scan(&mut self, context: &mut Context) -> Result<(), Trouble> {
        let devices = format!("{}/vscsi-devs", self.path);
        let names = match context.store.list(&devices) {
            Err(error) if error.is_not_found() => Vec::new(),
            names => names?,
        };
        self.drop_old_errors(context, &devices, &names)?;
        let (mut others, mut added) = (None, Vec::new());
        for name in names {
            let path = format!("{devices}/{name}");
            let Some(Frontend::State(state)) = state_of(&mut context.store, &format!("{path}/state"))? else {
                continue;
            };
            match dev_step(state, self.served.contains_key(&name)) {
                DevStep::Rest => {}
                DevStep::Add => {
                    let outcome = self.add(context, &name, &path, &mut others);
                    if self.settle(context, &path, outcome, XenbusState::Initialised)? {
                        added.push((name, path));
                    } else {
                        self.drop_unit(&name)?;
                    }
                }
                DevStep::Remove => {
                    self.drop_unit(&name)?;
                    self.settle(context, &path, Ok(()), XenbusState::Closed)?;
                }
            }
        }
        self.look_again(context, &added)
    }

    /// Another guest's server may have looked when we did, and seen as little of us. By now our states say what we have, so
    /// whoever has written last sees the other; both give up when both have.
    fn look_again(&mut self, context: &mut Context, added: &[(String, String)]) -> Result<(), Trouble> {
        let held = |name: &String| self.served.get(name).and_then(|served| served.held.clone());
        let held: Vec<_> = added.iter().filter_map(|(name, path)| Some((name, path, held(name)?))).collect();
        if held.is_empty() {
            return Ok(());
        }
        let others = context.holdings.others(&mut context.store, context.domid)?;
        for (name, path, held) in held {
            if let Some(by) = held.elsewhere(&mut context.store, &others)? {
                self.drop_unit(name)?;
                let outcome = fault(format!("{name}: its device is in use: {by}"));
                self.settle(context, path, outcome, XenbusState::Initialised)?;
            }
        }
        Ok(())
    }

    /// What was wrong with devices that the toolstack has removed since is of no use any more: their names never come again.
    fn drop_old_errors(
        &self,
        context: &mut Context,
        devices: &str,
        there: &[String],
    ) -> Result<(), xenstore::Error> {
        let told = match context.store.list(&format!("error/{devices}")) {
            Err(error) if error.is_not_found() => return Ok(()),
            told => told?,
        };
        told.iter()
            .filter(|name| !there.contains(name))
            .try_for_each(|name| drop_error(&mut context.store, &format!("error/{devices}/{name}")))
    }

    /// Writes what became of a device; `true` when it is in the state wanted.
    fn settle(
        &mut self,
        context: &mut Context,
        path: &str,
        outcome: Result<(), Trouble>,
        wanted: XenbusState,
    ) -> Result<bool, Trouble> {
        let state = match outcome {
            Ok(()) => {
                drop_error(&mut context.store, &format!("error/{path}"))?;
                wanted
            }
            Err(Trouble::Fault(Fault(text))) => {
                self.say(&text);
                self.write_error(context, &format!("error/{path}/error"), &text)?;
                XenbusState::Closed
            }
            Err(store) => return Err(store),
        };
        write_if_there(&mut context.store, &format!("{path}/state"), state.digit())?;
        Ok(state == wanted)
    }

    fn add(
        &mut self,
        context: &mut Context,
        name: &str,
        path: &str,
        others: &mut Option<Guests>,
    ) -> Result<(), Trouble> {
        let p_dev = self.device_text(context, name, &format!("{path}/p-dev"))?;
        let v_dev = self.device_text(context, name, &format!("{path}/v-dev"))?;
        let VDev { nexus, .. } =
            v_dev.parse().or_else(|why: VDevError| fault(format!("{name}: v-dev {v_dev:?} {why}")))?;
        if let Some((other, _)) = self.served.iter().find(|(_, served)| served.nexus == nexus) {
            return fault(format!("{name}: v-dev {v_dev} is taken by {other}"));
        }
        let p_devname = read_optional(&mut context.store, &format!("{path}/p-devname"))?;
        let p_dev = PDev::from_nodes(&p_dev, p_devname.as_deref())
            .or_else(|error| fault(format!("{name}: p-dev {error}")))?;
        let options = read_optional(&mut context.store, &format!("{path}/options"))?.unwrap_or_default();
        let options = Options::from_node(&String::from_utf8_lossy(&options))
            .or_else(|error| fault(format!("{name}: {error}")))?;
        let broken = |error| Trouble::Fault(Fault(format!("{name}: {error}")));
        // What is looked at is what is opened, wherever the name leads meanwhile.
        let found = p_dev.resolve().map_err(broken)?;
        let device = Identity::of(&found).map_err(broken)?;
        let held = device.map(|device| Held::new(device, options.shared, &v_dev));
        if let Some(held) = &held {
            let by = context.holdings.who_has(held, &mut context.store, context.domid, others)?;
            if !by.is_empty() {
                return fault(format!("{name}: {p_dev} is in use: {by}"));
            }
        }
        let feature_host = self.has_feature_host(context)?;
        let shared = if keeps_reservations(&found, options, feature_host) {
            Some(self.join(context, &found, options, &v_dev).map_err(broken)?)
        } else {
            None
        };
        let unit: Box<dyn LogicalUnit> =
            found.open(options, context.platform.engine, shared).map_err(broken)?;
        let unit = match found {
            PDev::Address(hctl) if !feature_host => self.emulate(hctl, unit, options, &v_dev),
            _ => unit,
        };
        match (&self.worker, &mut self.ready) {
            (Some(worker), _) => worker.add(nexus, unit),
            (None, Some(ready)) => ready.luns.push((nexus, unit)),
            (None, None) => return fault(format!("{name}: the vhost is not connected")),
        }
        let held = held.map(|held| context.holdings.take(held));
        self.served.insert(name.to_owned(), Served { nexus, held });
        self.say(&format_args!("{name} is {p_dev} at {v_dev}"));
        Ok(())
    }

    /// What stands between a guest and a device without `feature-host`.
    fn emulate(
        &self,
        hctl: Hctl,
        unit: Box<dyn LogicalUnit>,
        options: Options,
        v_dev: &str,
    ) -> Box<dyn LogicalUnit> {
        let unit: Box<dyn LogicalUnit> = if options.read_only {
            // What only reads does no harm.
            unit
        } else {
            Box::new(Policed::new(unit, options.allow, self.tell_refusals(v_dev)))
        };
        match Host::default().transfer_limit(hctl) {
            Some((bytes, block)) if bytes < GUEST_MAX => {
                let blocks = bytes.checked_div(block).and_then(|blocks| u32::try_from(blocks).ok());
                Box::new(TransferLimit::new(unit, blocks.unwrap_or(1)))
            }
            _ => unit,
        }
    }

    /// Whether all commands are to go to the devices (Xen's io/vscsiif.h, `feature-host`).
    pub(super) fn has_feature_host(&self, context: &mut Context) -> Result<bool, xenstore::Error> {
        let node = read_optional(&mut context.store, &format!("{}/feature-host", self.path))?;
        Ok(node.as_deref() == Some(b"1"))
    }

    /// What logs the commands to a device that are refused.
    fn tell_refusals(&self, v_dev: &str) -> OnRefusal {
        let (limit, what) = (self.requests.clone(), format!("{} at {v_dev}", self.name));
        Box::new(move |Refusal { opcode, name, group }| {
            let Some(left_out) = limit.pass(Instant::now()) else { return };
            let (name, group) = (name.unwrap_or("an unknown command"), group.name());
            warn!("{what}: {name} ({opcode:02X}h) is refused; allow={group} would let it pass");
            if left_out > 0 {
                warn!("{what}: {left_out} lines left out");
            }
        })
    }

    fn device_text(&self, context: &mut Context, name: &str, path: &str) -> Result<String, Trouble> {
        let Some(value) = read_optional(&mut context.store, path)? else {
            return fault(format!("{name}: {path} is missing"));
        };
        String::from_utf8(value).or_else(|_| fault(format!("{name}: {path} is not text")))
    }

    /// Serves a unit no more, if it was served. A worker that has ended meanwhile says so here, and nowhere else.
    fn drop_unit(&mut self, name: &str) -> Result<(), Trouble> {
        let Some(Served { nexus, .. }) = self.served.remove(name) else { return Ok(()) };
        if let Some(ready) = &mut self.ready {
            ready.luns.retain(|(served, _)| *served != nexus);
        }
        let Some(worker) = &self.worker else { return Ok(()) };
        worker.remove(nexus).or_else(|error| fault(error.to_string()))
    }

    /// The frontend is connected: its units go from 3 to 4, and the host from 8.
    pub(super) fn confirm(&self, context: &mut Context) -> Result<(), Trouble> {
        let (initialised, connected) = (XenbusState::Initialised, XenbusState::Connected);
        for name in self.served.keys() {
            let node = format!("{}/vscsi-devs/{name}/state", self.path);
            replace(&mut context.store, &node, initialised, connected)?;
        }
        Ok(self.advance(context, XenbusState::Reconfigured, connected)?)
    }
}
