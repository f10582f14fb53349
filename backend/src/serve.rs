//! The process that serves one guest: it watches the guest's backend directories and lets each vhost follow its nodes.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pvscsi_xen::xenstore::{self, Nodes, WatchEvent, Xenstore};
use pvscsi_xen::{DomId, Port};
use tracing::{info, warn};

use crate::control::Bell;
use crate::cpus::CpuError;
use crate::toolstack;
use crate::toolstack::reboot::Belongings;
use crate::vhost::{Context, Holdings, Platform, Presence, Vhost, read_optional};

/// How long frontends may take to let go when the process is told to end.
const FAREWELL: Duration = Duration::from_secs(3);

/// How often a driver domain asks for a guest whose nodes are gone.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Events of xenstore followed before anything else is looked at: a guest can make them without end.
const EVENTS_AT_ONCE: usize = 64;

/// Why the process could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Xenstore failed.
    #[error(transparent)]
    Store(#[from] xenstore::Error),
    /// No such guest.
    #[error("there is no domain {0} on this host; xl list shows those that are there")]
    NoDomain(DomId),
    /// The kernel's backend serves the same nodes.
    #[error(
        "the kernel's xen-scsiback is loaded and serves the same devices: run modprobe -r xen-scsiback, and keep it from \
         loading with \"blacklist xen-scsiback\" in /etc/modprobe.d/"
    )]
    KernelBackend,
    /// There is another process for this guest.
    #[error("another xen-pvscsi serves domain {0} already")]
    Twice(DomId),
    /// A CPU of `--cpus` is of no use.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// Something of the system failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

pub(crate) fn system(what: &'static str) -> impl Fn(io::Error) -> ServeError {
    move |source| ServeError::System { what, source }
}

/// Makes sure that nobody else serves this guest, as long as the value lives.
///
/// # Errors
///
/// [`ServeError::Twice`].
pub fn claim(domid: DomId) -> Result<UnixListener, ServeError> {
    let name = format!("xen-pvscsi/{domid}");
    let address = SocketAddr::from_abstract_name(name).map_err(system("making a name"))?;
    UnixListener::bind_addr(&address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::Twice(domid),
        _ => ServeError::System { what: "claiming the guest", source },
    })
}

/// Refuses to serve beside the kernel's backend.
///
/// # Errors
///
/// [`ServeError::KernelBackend`].
pub fn refuse_beside_kernel(sys: &Path) -> Result<(), ServeError> {
    let loaded =
        sys.join("module/xen_scsiback").exists() || sys.join("bus/xen-backend/drivers/vscsi").exists();
    if loaded { Err(ServeError::KernelBackend) } else { Ok(()) }
}

/// Serves one guest.
#[derive(Debug)]
pub struct Server {
    context: Context,
    vhosts: BTreeMap<u32, Vhost>,
    /// What is said of the guest's identity; see [`Belongings`].
    vm: Option<String>,
    /// What the guest had when it went.
    left: Option<Belongings>,
    /// Somebody wants us to end.
    end_by: Option<Instant>,
    /// In a driver domain: nobody tells when the guest is gone, so the hypervisor is asked when its nodes are.
    blind: bool,
    /// When it is asked.
    ask_at: Option<Instant>,
}

/// What a guest is called whose UUID cannot be read, as in a driver domain. Another boot's domain of the same number is another guest.
fn nameless(domid: DomId) -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("domain {domid} of boot {}", boot.trim_end())
}

impl Server {
    /// Sets the watches. A guest that is gone, but has left its directory, is served too: that is, the directory is removed.
    ///
    /// # Errors
    ///
    /// [`ServeError::NoDomain`], and failures of xenstore.
    pub fn new(domid: DomId, mut store: Xenstore, platform: Platform) -> Result<Self, ServeError> {
        let sight = look_at(&mut store, &platform, domid)?;
        let backends = format!("backend/vscsi/{domid}");
        if !sight.there && !exists(&mut store, &backends)? {
            return Err(ServeError::NoDomain(domid));
        }
        let vm = read_optional(&mut store, &toolstack::vm(domid))?;
        let vm = vm.and_then(|vm| String::from_utf8(vm).ok());
        // First, so that its first event tells that the guest is gone before anything is done for it.
        match store.watch("@releaseDomain", "domains") {
            Err(error) if !error.is_denied() => return Err(error.into()),
            _ => {}
        }
        store.watch(&backends, "backend")?;
        let bell = Bell::new().map_err(system("making an eventfd"))?;
        let guest = vm.clone().unwrap_or_else(|| nameless(domid));
        let context = Context { domid, store, platform, bell, holdings: Holdings::default(), guest };
        Ok(Self {
            context,
            vhosts: BTreeMap::new(),
            vm,
            left: None,
            end_by: None,
            blind: sight.hidden,
            ask_at: None,
        })
    }

    /// Serves until the guest is gone, or until `stop` is readable (a signalfd or an eventfd that does not block): then every
    /// frontend is told, and gets a short time to let go. `stop` readable again ends that time.
    ///
    /// # Errors
    ///
    /// Failures of xenstore and of `poll`. Everything is given back all the same.
    pub fn run(&mut self, stop: BorrowedFd<'_>) -> Result<(), ServeError> {
        let served = self.serve(stop);
        for vhost in self.vhosts.values_mut() {
            if let Err(error) = vhost.end(&mut self.context) {
                warn!("{error}");
            }
        }
        served
    }

    /// What the guest had, when it is gone: it follows the guest if that comes back
    /// ([`Toolstack::follow`](crate::toolstack::Toolstack::follow)).
    pub fn belongings(&mut self) -> Option<Belongings> {
        self.left.take()
    }

    fn serve(&mut self, stop: BorrowedFd<'_>) -> Result<(), ServeError> {
        loop {
            let mut more = true;
            for _ in 0..EVENTS_AT_ONCE {
                let Some(event) = self.context.store.next_event()? else {
                    more = false;
                    break;
                };
                if self.follow(&event)? == Guest::Gone {
                    return Ok(());
                }
            }
            if self
                .end_by
                .is_some_and(|by| Instant::now() >= by || !self.vhosts.values().any(Vhost::is_connected))
            {
                return Ok(());
            }
            if self.blind && self.ask_for_guest()? == Guest::Gone {
                return Ok(());
            }
            self.wait(stop, more)?;
            if take(stop).map_err(system("reading a signal"))? {
                self.say_farewell()?;
            }
            self.context.bell.silence();
            for vhost in self.vhosts.values_mut() {
                vhost.check_worker(&mut self.context)?;
            }
            let now = Instant::now();
            let is_due = |vhost: &Vhost| vhost.due().is_some_and(|at| now >= at);
            let due: Vec<u32> =
                self.vhosts.iter().filter(|(_, vhost)| is_due(vhost)).map(|(number, _)| *number).collect();
            for number in due {
                self.look(number)?;
            }
        }
    }

    /// Waits for something to do; with `more` it only looks whether there is something besides.
    fn wait(&self, stop: BorrowedFd<'_>, more: bool) -> Result<(), ServeError> {
        let first = self.vhosts.values().filter_map(Vhost::due).chain(self.end_by).chain(self.ask_at).min();
        let left = first.map(|by| by.saturating_duration_since(Instant::now()));
        let timeout = match left {
            _ if more => PollTimeout::ZERO,
            None => PollTimeout::NONE,
            Some(left) => {
                PollTimeout::try_from(left.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut fds = [self.context.store.as_fd(), stop, self.context.bell.as_fd()]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(error) => Err(system("poll")(error.into())),
        }
    }

    fn follow(&mut self, event: &WatchEvent) -> Result<Guest, ServeError> {
        match event {
            WatchEvent::Overflow => {
                self.find_vhosts()?;
                self.guest()
            }
            WatchEvent::Changed { token, .. } if token == "domains" => self.guest(),
            WatchEvent::Changed { path, token } if token == "backend" => {
                match vhost_of(path) {
                    Some(number) => self.look(number)?,
                    None => self.find_vhosts()?,
                }
                Ok(Guest::There)
            }
            WatchEvent::Changed { token, .. } => {
                let number = token.strip_prefix("frontend/").and_then(|number| number.parse().ok());
                let Some(number) = number else { unreachable!("token {token:?} is not ours") };
                if self.vhosts.contains_key(&number) {
                    self.look(number)?;
                }
                Ok(Guest::There)
            }
        }
    }

    fn find_vhosts(&mut self) -> Result<(), ServeError> {
        let there = match self.context.store.list(&format!("backend/vscsi/{}", self.context.domid)) {
            Err(error) if error.is_not_found() => Vec::new(),
            there => there?,
        };
        let numbers = there.iter().filter_map(|name| name.parse().ok());
        let all: Vec<u32> = numbers.chain(self.vhosts.keys().copied()).collect();
        for number in all {
            self.look(number)?;
        }
        Ok(())
    }

    fn look(&mut self, number: u32) -> Result<(), ServeError> {
        let domid = self.context.domid;
        let vhost = self.vhosts.entry(number).or_insert_with(|| Vhost::new(domid, number));
        if vhost.look(&mut self.context)? == Presence::Gone {
            self.vhosts.remove(&number);
        }
        Ok(())
    }

    /// Whether the guest is still there. One that is gone leaves backend directories that nobody else removes: upstream
    /// libxl does not know vscsi.
    fn guest(&mut self) -> Result<Guest, ServeError> {
        let domid = self.context.domid;
        if look_at(&mut self.context.store, &self.context.platform, domid)?.there {
            return Ok(Guest::There);
        }
        info!("domain {domid} is gone");
        for vhost in self.vhosts.values_mut() {
            vhost.end(&mut self.context)?;
        }
        self.vhosts.clear();
        self.left = Belongings::of(&mut self.context.store, domid, self.vm.as_deref())?;
        for directory in [format!("backend/vscsi/{domid}"), format!("error/backend/vscsi/{domid}")] {
            match self.context.store.remove(&directory) {
                // A toolstack has not given it to this driver domain.
                Err(error) if error.is_denied() => warn!("{error}"),
                removed => drop(removed?),
            }
        }
        Ok(Guest::Gone)
    }

    /// In a driver domain: asks for the guest once a second as long as its nodes are gone. A server without a directory is done,
    /// too; the next vhost brings another.
    fn ask_for_guest(&mut self) -> Result<Guest, ServeError> {
        let none = self.vhosts.is_empty();
        if !none && !self.vhosts.values().any(Vhost::is_bereft) {
            self.ask_at = None;
            return Ok(Guest::There);
        }
        let now = Instant::now();
        if self.ask_at.is_some_and(|at| now < at) {
            return Ok(Guest::There);
        }
        let first = self.ask_at.is_none();
        self.ask_at = now.checked_add(ASK_EVERY);
        if first {
            return Ok(Guest::There);
        }
        if none && !exists(&mut self.context.store, &format!("backend/vscsi/{}", self.context.domid))? {
            info!("domain {} has no devices here any more", self.context.domid);
            return Ok(Guest::Gone);
        }
        self.guest()
    }

    fn say_farewell(&mut self) -> Result<(), ServeError> {
        if self.end_by.is_some() {
            info!("told to end once more: not waiting for the guest");
            self.end_by = Some(Instant::now());
            return Ok(());
        }
        info!("told to end: closing {} vhosts", self.vhosts.len());
        let now = Instant::now();
        self.end_by = Some(now.checked_add(FAREWELL).unwrap_or(now));
        for vhost in self.vhosts.values_mut() {
            if vhost.is_connected() {
                vhost.announce_end(&mut self.context)?;
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guest {
    There,
    Gone,
}

/// What can be seen of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sight {
    there: bool,
    /// We are a driver domain, which may not look into other domains' directories; the hypervisor has said it.
    hidden: bool,
}

fn look_at(store: &mut Xenstore, platform: &Platform, domid: DomId) -> Result<Sight, xenstore::Error> {
    match store.read(&format!("/local/domain/{domid}")) {
        Ok(_) => Ok(Sight { there: true, hidden: false }),
        Err(error) if error.is_not_found() => Ok(Sight { there: false, hidden: false }),
        Err(error) if error.is_denied() => {
            // No guest can offer port 0, so only the reason is of interest (Xen common/event_channel.c, evtchn_bind_interdomain).
            let refused =
                (platform.bind)(domid, Port(0), "xen-pvscsi").err().and_then(|error| error.raw_os_error());
            Ok(Sight { there: refused != Some(nix::Error::ESRCH as i32), hidden: true })
        }
        Err(error) => Err(error),
    }
}

fn exists(store: &mut Xenstore, path: &str) -> Result<bool, xenstore::Error> {
    match store.read(path) {
        Err(error) if error.is_not_found() => Ok(false),
        value => value.map(|_| true),
    }
}

/// Whether the descriptor, a signalfd or an eventfd that does not block, had something to say.
pub(crate) fn take(stop: BorrowedFd<'_>) -> io::Result<bool> {
    let mut said = [0; size_of::<nix::libc::signalfd_siginfo>()];
    match nix::unistd::read(stop, &mut said) {
        Ok(bytes) => Ok(bytes > 0),
        Err(nix::Error::EAGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The vhost in a path `backend/vscsi/<domid>/<vhost>/…`.
fn vhost_of(path: &str) -> Option<u32> {
    path.split('/').nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vhost_is_the_fourth_part_of_the_path() {
        assert_eq!(vhost_of("backend/vscsi/7/0/state"), Some(0));
        assert_eq!(vhost_of("backend/vscsi/7/12"), Some(12));
        assert_eq!(vhost_of("backend/vscsi/7"), None);
        assert_eq!(vhost_of("backend/vscsi/7/x/state"), None);
    }

    #[test]
    fn a_guest_is_served_once() {
        let first = claim(DomId(32_000)).unwrap();
        assert!(matches!(claim(DomId(32_000)), Err(ServeError::Twice(DomId(32_000)))));
        drop(first);
        assert!(claim(DomId(32_000)).is_ok());
    }

    #[test]
    fn the_kernels_backend_is_seen() {
        let sys = std::env::temp_dir().join(format!("pvscsi-sys-{}", std::process::id()));
        std::fs::create_dir_all(sys.join("module")).unwrap();
        assert!(refuse_beside_kernel(&sys).is_ok());
        std::fs::create_dir_all(sys.join("module/xen_scsiback")).unwrap();
        let refused = refuse_beside_kernel(&sys).unwrap_err().to_string();
        assert!(refused.contains("modprobe -r xen-scsiback"), "{refused}");
        std::fs::remove_dir_all(sys).unwrap();
    }
}
