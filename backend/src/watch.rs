//! Starts a server for each guest that has vhosts, where neither udev nor systemd does: a watch on xenstore, and a child for
//! each guest.
//!
//! A server outlives its watcher: the disks of a guest must not vanish because the watcher is started anew. The next watcher
//! finds the guest claimed, and starts a server only when the claim is free again.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pvscsi_xen::DomId;
use pvscsi_xen::xenstore::{self, Nodes, WatchEvent, Xenstore};
use tracing::{debug, info, warn};

use crate::serve::{self, ServeError, system, take};

#[cfg(test)]
mod tests;

/// All vhosts of all guests, relative to our own domain.
const BACKENDS: &str = "backend/vscsi";

/// How long a guest goes without a server that failed.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// After the first failure; each further one doubles it.
    pub first: Duration,
    /// The longest. A server that lasted this long counts as new. Also how often a guest that somebody else serves is looked at.
    pub longest: Duration,
}

impl Default for Pauses {
    /// A second to a minute.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(60) }
    }
}

impl Pauses {
    /// After a failure of a server that ran so long, when the pause before it was `last`.
    fn next(self, last: Duration, ran: Duration) -> Duration {
        if ran >= self.longest {
            self.first
        } else {
            (last.saturating_mul(2)).clamp(self.first, self.longest)
        }
    }
}

/// A guest with vhosts.
#[derive(Debug)]
enum Guest {
    /// Has a server of ours, which came after a pause of this length.
    Served { child: Child, since: Instant, pause: Duration },
    /// Gets one at this time, if nobody else serves it then.
    Waits { until: Instant, pause: Duration },
    /// Had one that was told to end. A vhost beside these brings another, as it would with udev.
    Done { vhosts: Vec<u32> },
}

/// Starts servers and looks after them.
pub struct Watcher {
    store: Xenstore,
    command: Box<dyn Fn(DomId) -> Command>,
    guests: BTreeMap<DomId, Guest>,
    /// How long failures are waited for.
    pub pauses: Pauses,
}

impl Watcher {
    /// Sets the watch. `command` is what serves a guest; it must claim the guest ([`serve::claim`]) and end with status 0 when
    /// it is done.
    ///
    /// # Errors
    ///
    /// Failures of xenstore.
    pub fn new(
        mut store: Xenstore,
        command: impl Fn(DomId) -> Command + 'static,
    ) -> Result<Self, ServeError> {
        store.watch(BACKENDS, "backends")?;
        Ok(Self { store, command: Box::new(command), guests: BTreeMap::new(), pauses: Pauses::default() })
    }

    /// Starts servers until `stop` is readable; they go on after that. `children` is readable when a child may have ended. Both
    /// are descriptors that do not block, a signalfd for one.
    ///
    /// # Errors
    ///
    /// Failures of xenstore and of `poll`. Servers go on all the same.
    pub fn run(&mut self, stop: BorrowedFd<'_>, children: BorrowedFd<'_>) -> Result<(), ServeError> {
        loop {
            while let Some(event) = self.store.next_event()? {
                self.follow(&event)?;
            }
            self.start_due();
            let mut fds = [self.store.as_fd(), stop, children].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, self.until_due()) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(system("poll")(error.into())),
            }
            if take(stop).map_err(system("reading a signal"))? {
                self.say_who_goes_on();
                return Ok(());
            }
            if take(children).map_err(system("reading a signal"))? {
                self.reap()?;
            }
        }
    }

    fn follow(&mut self, event: &WatchEvent) -> Result<(), xenstore::Error> {
        let one = match event {
            // Only our own toolstack writes here, so there is no flood of these.
            WatchEvent::Changed { path, .. } => path.split('/').nth(2).map(str::to_owned),
            WatchEvent::Overflow => None,
        };
        let names = match one {
            Some(one) => vec![one],
            None => {
                let known = self.guests.keys().map(DomId::to_string);
                children_of(&mut self.store, BACKENDS)?.into_iter().chain(known).collect()
            }
        };
        for domid in names.iter().filter_map(|name| name.parse().ok()).map(DomId) {
            self.look(domid)?;
        }
        Ok(())
    }

    /// Takes up a guest with vhosts, and forgets one without. While it has a server, nothing here is of interest.
    fn look(&mut self, domid: DomId) -> Result<(), xenstore::Error> {
        if let Some(Guest::Served { .. }) = self.guests.get(&domid) {
            return Ok(());
        }
        let now = vhosts_of(&mut self.store, domid)?;
        match self.guests.get_mut(&domid) {
            _ if now.is_empty() => drop(self.guests.remove(&domid)),
            Some(Guest::Done { vhosts }) if now.iter().all(|vhost| vhosts.contains(vhost)) => *vhosts = now,
            Some(Guest::Served { .. } | Guest::Waits { .. }) => {}
            Some(Guest::Done { .. }) | None => {
                self.guests.insert(domid, Guest::Waits { until: Instant::now(), pause: Duration::ZERO });
            }
        }
        Ok(())
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        for (&domid, guest) in &mut self.guests {
            let Guest::Waits { until, pause } = *guest else { continue };
            if until > now {
                continue;
            }
            // Given back at once: the server makes its own claim, and is the second where somebody was quicker.
            *guest = if let Err(ServeError::Twice(_)) = serve::claim(domid) {
                debug!("domain {domid} has another server");
                Guest::Waits { until: after(self.pauses.longest), pause: Duration::ZERO }
            } else {
                start(domid, &mut (self.command)(domid), pause, self.pauses)
            };
        }
    }

    /// Until the first guest is to get a server.
    fn until_due(&self) -> PollTimeout {
        let due = self.guests.values().filter_map(|guest| match guest {
            Guest::Waits { until, .. } => Some(*until),
            Guest::Served { .. } | Guest::Done { .. } => None,
        });
        due.min().map_or(PollTimeout::NONE, |first| {
            let left = first.saturating_duration_since(Instant::now());
            PollTimeout::try_from(left.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX)
        })
    }

    /// Takes note of servers that have ended.
    fn reap(&mut self) -> Result<(), ServeError> {
        let mut ended = Vec::new();
        for (&domid, guest) in &mut self.guests {
            let Guest::Served { child, since, pause } = guest else { continue };
            let Some(status) = child.try_wait().map_err(system("waiting for a server"))? else { continue };
            ended.push(domid);
            *guest = if status.success() {
                info!("the server of domain {domid} has ended");
                Guest::Done { vhosts: vhosts_of(&mut self.store, domid)? }
            } else {
                let pause = self.pauses.next(*pause, since.elapsed());
                warn!("the server of domain {domid} failed, {status}: the next one in {pause:?}");
                Guest::Waits { until: after(pause), pause }
            };
        }
        for domid in ended {
            self.look(domid)?;
        }
        Ok(())
    }

    fn say_who_goes_on(&self) {
        let served = self.guests.iter().filter(|(_, guest)| matches!(guest, Guest::Served { .. }));
        let domids: Vec<String> = served.map(|(domid, _)| domid.to_string()).collect();
        info!(
            "told to end; servers that go on: {}",
            if domids.is_empty() { "none".into() } else { domids.join(", ") }
        );
    }
}

fn start(domid: DomId, command: &mut Command, pause: Duration, pauses: Pauses) -> Guest {
    match command.spawn() {
        Ok(child) => {
            info!("domain {domid} has vhosts; its server is process {}", child.id());
            Guest::Served { child, since: Instant::now(), pause }
        }
        Err(error) => {
            let pause = pauses.next(pause, Duration::ZERO);
            warn!("no server for domain {domid}: {error}; the next try in {pause:?}");
            Guest::Waits { until: after(pause), pause }
        }
    }
}

fn after(pause: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(pause).unwrap_or(now)
}

fn vhosts_of(store: &mut Xenstore, domid: DomId) -> Result<Vec<u32>, xenstore::Error> {
    let names = children_of(store, &format!("{BACKENDS}/{domid}"))?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Names below a node; none where there is no node.
fn children_of(store: &mut Xenstore, path: &str) -> Result<Vec<String>, xenstore::Error> {
    match store.list(path) {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        names => names,
    }
}
