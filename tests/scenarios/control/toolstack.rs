//! What a toolstack writes, in the layout of SUSE's libxl: a vhost and its devices in one transaction, a change of it in
//! another.

use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{Access, Error, Nodes, Permission, Transaction, Xenstore};

use super::machine::{DOM0, Machine};

/// A device of a vhost. A node that is `None` is not written.
#[derive(Clone, Debug)]
pub struct Dev {
    pub name: String,
    pub p_dev: Option<String>,
    pub v_dev: Option<String>,
}

impl Dev {
    pub fn new(name: &str, p_dev: &str, v_dev: &str) -> Self {
        Self { name: name.into(), p_dev: Some(p_dev.into()), v_dev: Some(v_dev.into()) }
    }

    /// `dev-N`: an emulated disk in memory, at LUN N.
    pub fn disk(number: u16) -> Self {
        Self::new(&format!("dev-{number}"), "ram:1M", &format!("0:0:0:{number}"))
    }

    fn write(&self, tx: &mut Transaction<'_>, backend: &str) -> Result<(), Error> {
        let path = format!("{backend}/vscsi-devs/{}", self.name);
        tx.mkdir(&path)?;
        for (node, value) in [("p-dev", &self.p_dev), ("p-devname", &self.p_dev), ("v-dev", &self.v_dev)] {
            if let Some(value) = value {
                tx.write(&format!("{path}/{node}"), value)?;
            }
        }
        tx.write(&format!("{path}/state"), "1")
    }
}

/// The nodes of a domain that has just been built.
pub fn make_domain(store: &mut Xenstore, domid: DomId) {
    let home = format!("/local/domain/{domid}");
    store.mkdir(&home).unwrap();
    store.set_permissions(&home, &[permission(Access::None, DOM0), permission(Access::Read, domid)]).unwrap();
    store.write(&format!("{home}/vm"), format!("/vm/uuid-{domid}")).unwrap();
    store.mkdir(&format!("{home}/device/vscsi")).unwrap();
}

fn permission(access: Access, domid: DomId) -> Permission {
    Permission { access, domid }
}

impl Machine {
    /// The backend's directory of a vhost, or of something in it.
    pub fn backend(&self, below: &str) -> String {
        format!("/local/domain/{}/backend/vscsi/{}/{below}", self.home, self.domid)
    }

    /// The same of the frontend.
    pub fn frontend(&self, below: &str) -> String {
        format!("/local/domain/{}/device/vscsi/{below}", self.domid)
    }

    /// `xl scsi-attach` of the first devices of a vhost.
    pub fn attach(&mut self, vhost: u32, devs: &[Dev]) {
        let domid = self.domid;
        let (backend, frontend) = (self.backend(&vhost.to_string()), self.frontend(&vhost.to_string()));
        let write_all = |tx: &mut Transaction<'_>| {
            tx.remove(&backend)?;
            tx.remove(&frontend)?;
            tx.mkdir(&frontend)?;
            tx.set_permissions(
                &frontend,
                &[permission(Access::None, domid), permission(Access::Read, DOM0)],
            )?;
            tx.write(&format!("{frontend}/backend"), &backend)?;
            tx.write(&format!("{frontend}/backend-id"), "0")?;
            tx.write(&format!("{frontend}/state"), "1")?;
            tx.mkdir(&backend)?;
            tx.set_permissions(&backend, &[permission(Access::None, DOM0), permission(Access::Read, domid)])?;
            tx.write(&format!("{backend}/frontend"), &frontend)?;
            tx.write(&format!("{backend}/frontend-id"), domid.to_string())?;
            tx.write(&format!("{backend}/online"), "1")?;
            tx.write(&format!("{backend}/feature-host"), "0")?;
            tx.write(&format!("{backend}/libxl_ctrl_index"), vhost.to_string())?;
            devs.iter().try_for_each(|dev| dev.write(tx, &backend))?;
            tx.write(&format!("{backend}/state"), "1")
        };
        self.toolstack.transaction(write_all).unwrap();
    }

    /// `xl scsi-attach` of a further device.
    pub fn add_device(&mut self, vhost: u32, dev: &Dev) {
        let backend = self.backend(&vhost.to_string());
        let write_all = |tx: &mut Transaction<'_>| {
            dev.write(tx, &backend)?;
            tx.write(&format!("{backend}/state"), "7")
        };
        self.toolstack.transaction(write_all).unwrap();
    }

    /// `xl scsi-detach` of one of several devices: what it asks for.
    pub fn remove_device(&mut self, vhost: u32, name: &str) {
        let backend = self.backend(&vhost.to_string());
        let write_all = |tx: &mut Transaction<'_>| {
            tx.write(&format!("{backend}/vscsi-devs/{name}/state"), "5")?;
            tx.write(&format!("{backend}/state"), "7")
        };
        self.toolstack.transaction(write_all).unwrap();
    }

    /// `xl scsi-detach` of the last device: what it asks for.
    pub fn detach(&mut self, vhost: u32) {
        let backend = self.backend(&vhost.to_string());
        let write_all = |tx: &mut Transaction<'_>| {
            tx.write(&format!("{backend}/online"), "0")?;
            tx.write(&format!("{backend}/state"), "5")
        };
        self.toolstack.transaction(write_all).unwrap();
    }

    /// What it does when both ends have closed.
    pub fn delete(&mut self, vhost: u32) {
        for path in [self.frontend(&vhost.to_string()), self.backend(&vhost.to_string())] {
            self.remove(&path);
        }
    }

    /// The same, and the guest has heard of it: it takes what comes next for something new.
    pub fn delete_until_lost(&mut self, vhost: u32) {
        self.delete(vhost);
        self.until("the guest has lost the device", |machine| !machine.guest().has_host(vhost));
    }

    /// Removes a directory, whoever uses it.
    pub fn remove(&mut self, path: &str) {
        self.toolstack.remove(path).unwrap();
    }

    /// `xl destroy`: the frontend's directories first, then the domain's, then the domain. Upstream's libxl leaves
    /// backend/vscsi to whoever made it.
    pub fn destroy_guest(&mut self) {
        let home = format!("/local/domain/{}", self.domid);
        self.remove(&format!("{home}/device/vscsi"));
        self.remove(&home);
        self.xen.destroy_domain(self.domid);
        self.store.release_domain(self.domid);
        self.guest = None;
    }

    /// The value of a node below the backend's directory of the guest; "" when there is none.
    pub fn value(&self, below: &str) -> String {
        text(self.store.read(&self.backend(below)))
    }

    /// The value of a node below the frontend's.
    pub fn frontend_value(&self, below: &str) -> String {
        text(self.store.read(&self.frontend(below)))
    }

    /// All that was ever written to a node below the backend's directory, with "-" where it was removed.
    pub fn written(&self, below: &str) -> String {
        let path = self.backend(below);
        let history = self.store.history(&path);
        let values = history.into_iter().filter(|(written, _)| *written == path);
        values
            .map(|(_, value)| value.map_or("-".into(), |value| text(Some(value))))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The place of a write among all that were made below the directory of its vhost.
    pub fn place(&self, below: &str, value: &str) -> usize {
        let wanted = (self.backend(below), Some(value.as_bytes().to_vec()));
        let (vhost, _) = below.split_once('/').expect("a node of a vhost");
        let all = self.store.history(&self.backend(vhost));
        let place = all.iter().position(|written| *written == wanted);
        place.unwrap_or_else(|| panic!("{below} was never {value}"))
    }

    /// What is reported as wrong with a vhost or one of its devices; "" when nothing is.
    pub fn error(&self, below: &str) -> String {
        text(self.store.read(&format!("/local/domain/0/error/backend/vscsi/{}/{below}/error", self.domid)))
    }

    /// Lets the guest run until the vhost is connected at both ends and its devices are settled.
    pub fn until_connected(&mut self, vhost: u32) {
        let state = format!("{vhost}/state");
        let devices = self.backend(&format!("{vhost}/vscsi-devs/"));
        self.until(&format!("vhost {vhost} is connected"), |machine| {
            let settled = |(path, value): (String, Vec<u8>)| {
                let is_state = path.starts_with(&devices) && path.ends_with("/state");
                !is_state || value == b"4" || value == b"6"
            };
            machine.value(&state) == "4"
                && machine.frontend_value(&state) == "4"
                && machine.store.dump().into_iter().all(settled)
        });
    }

    /// Lets the guest run until the state of the vhost is `state`.
    pub fn until_state(&mut self, vhost: u32, state: &str) {
        self.until(&format!("state {state} of vhost {vhost}"), |machine| {
            machine.value(&format!("{vhost}/state")) == state
        });
    }
}

fn text(value: Option<Vec<u8>>) -> String {
    value.map_or_else(String::new, |value| String::from_utf8_lossy(&value).into_owned())
}
