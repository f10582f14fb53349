//! One vhost: its nodes in xenstore, its worker, and the steps that the state machine asks for.
//!
//! Everything below the frontend's directory is the guest's to write, and is checked as such. The backend's directory is the
//! toolstack's, and is checked too. No step makes a node in a backend directory that is not there any more.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use pvscsi_ring::BackRing;
use pvscsi_ring::vscsiif::MAX_SEGMENTS;
use pvscsi_sg::{Directories, Engine};
use pvscsi_xen::xenstore::{self, Nodes, Xenstore};
use pvscsi_xen::{DomId, EventChannel, GrantRef, GrantTable, Port};
use tracing::{debug, info};

use crate::control::{Bell, WorkerHandle};
use crate::cpus::Cpus;
use crate::limits::TimeLimits;
use crate::log_limit::LogLimit;
use crate::worker::Connection;
use crate::xenbus::{Frontend, Seen, Step, XenbusState, step};

mod devices;
mod holdings;
mod nodes;
mod reservations;
mod seat;

pub(crate) use devices::GUEST_MAX;
pub use holdings::Holdings;
use holdings::Served;
pub(crate) use nodes::{children, read_optional};
use nodes::{
    close, drop_error, einval, is_of_request, not_fatal, replace, shorten, state_of, write_if_there,
};

/// Gives the grants of a guest.
pub type Opener = dyn Fn(DomId) -> io::Result<Box<dyn GrantTable>>;
/// Gives an event channel to a port of a guest. The last is the name of its interrupt, where it has one.
pub type Binder = dyn Fn(DomId, Port, &str) -> io::Result<Box<dyn EventChannel>>;

/// Where grants and event channels come from: Linux's devices, or a simulated Xen.
pub struct Platform {
    /// Opens the grants of a guest.
    pub grants: Box<Opener>,
    /// Binds to a port of a guest.
    pub bind: Box<Binder>,
    /// How commands come to SCSI devices, and what workers wait with.
    pub engine: Engine,
    /// Where workers run, and interrupts of event channels go.
    pub cpus: Cpus,
    /// How long commands, and frontends, may take.
    pub limits: TimeLimits,
    /// Where guests that share a device keep their reservations.
    pub reservations: Directories,
}

impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Platform").field("engine", &self.engine).finish_non_exhaustive()
    }
}

/// What all vhosts of a guest share.
#[derive(Debug)]
pub struct Context {
    /// The guest.
    pub domid: DomId,
    /// The connection to xenstore.
    pub store: Xenstore,
    /// Grants and event channels.
    pub platform: Platform,
    /// Rings when a worker has news.
    pub bell: Bell,
    /// The devices of the guest.
    pub holdings: Holdings,
    /// A name of the guest that it has again after a reboot.
    pub guest: String,
}

/// One backend directory.
#[derive(Debug)]
pub struct Vhost {
    number: u32,
    /// `backend/vscsi/<domid>/<vhost>`, relative to our own domain.
    path: String,
    /// The frontend's directory, once it is known and watched.
    frontend: Option<String>,
    /// The frontend's state when it was last acted upon.
    before: Option<Frontend>,
    worker: Option<WorkerHandle>,
    /// What the next worker begins with.
    ready: Option<Connection>,
    /// `dev-N` of each unit that the worker serves.
    served: HashMap<String, Served>,
    /// The process ends: who lets go now is not waited for anew.
    ending: bool,
    /// When a frontend that closed because we did is waited for anew.
    anew_at: Option<Instant>,
    /// Until when our 2 is to be seen, though the frontend is ready.
    hold: Option<Instant>,
    /// A 7 or 5 of the toolstack's, or an 8 of ours, that the frontend does not follow, and how long it may take.
    unheard: Option<(XenbusState, Instant)>,
    /// "domain N vhost M", for messages.
    name: String,
    /// The guest can make us log by flapping its state,
    limit: LogLimit,
    /// and by its requests, on one ring or many.
    requests: LogLimit,
}

/// How long a frontend that closed because we did finds our 6: Windows looks for it without a pause, and for ever.
const CLOSED_FOR: Duration = Duration::from_secs(1);
/// Steps in one look. A guest can give reason for ever more; those beyond bring events of their own.
const STEPS_AT_ONCE: usize = 8;

/// Whether a vhost still has its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there.
    There,
    /// It is gone, and everything that belonged to it was given back.
    Gone,
}

/// Why a step did not work: the guest's or the toolstack's fault, to be reported in xenstore.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Fault(String);

/// An error in a step.
enum Trouble {
    Fault(Fault),
    Store(xenstore::Error),
}

impl From<xenstore::Error> for Trouble {
    fn from(error: xenstore::Error) -> Self {
        Self::Store(error)
    }
}

fn fault<T>(text: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Fault(Fault(text.into())))
}

impl Vhost {
    /// Takes up a backend directory.
    #[must_use]
    pub fn new(domid: DomId, number: u32) -> Self {
        Self {
            number,
            path: format!("backend/vscsi/{domid}/{number}"),
            frontend: None,
            before: None,
            worker: None,
            ready: None,
            served: HashMap::new(),
            ending: false,
            anew_at: None,
            hold: None,
            unheard: None,
            name: format!("domain {domid} vhost {number}"),
            limit: LogLimit::default(),
            requests: LogLimit::default(),
        }
    }

    fn say(&mut self, text: &dyn std::fmt::Display) {
        if let Some(left_out) = self.limit.pass(Instant::now()) {
            let more = if left_out == 0 { String::new() } else { format!(" ({left_out} lines not logged)") };
            info!("{}: {}{more}", self.name, shorten(text));
        }
    }

    /// Whether a worker serves the ring.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.worker.is_some()
    }

    /// Whether the frontend's nodes are gone, or were never there: its guest may be gone.
    #[must_use]
    pub fn is_bereft(&self) -> bool {
        self.before == Some(Frontend::State(XenbusState::Unknown))
    }

    /// When it is to be looked at though no node has changed.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.anew_at.into_iter().chain(self.hold).chain(self.unheard.map(|(_, by)| by)).min()
    }

    /// Looks at the nodes and does what they ask for.
    ///
    /// # Errors
    ///
    /// Only when xenstore itself fails; what the guest or the toolstack did wrong is reported there.
    pub fn look(&mut self, context: &mut Context) -> Result<Presence, xenstore::Error> {
        if self.anew_at.take_if(|at| Instant::now() >= *at).is_some() {
            self.before = None;
        }
        for _ in 0..STEPS_AT_ONCE {
            self.hold.take_if(|until| Instant::now() >= *until);
            // The frontend's state first: what it says may be its answer to a 7 or a 5 of the toolstack in our node, or to a 0 in
            // `online`, and is to be seen together with that.
            let frontend =
                if self.watch_frontend(context)? { Some(self.frontend_state(context)?) } else { None };
            let Some(own) = state_of(&mut context.store, &format!("{}/state", self.path))? else {
                self.forget(context);
                return Ok(Presence::Gone);
            };
            let Some(frontend) = frontend else { return Ok(Presence::There) };
            let online = read_optional(&mut context.store, &format!("{}/online", self.path))?;
            let seen = Seen {
                own: match own {
                    Frontend::State(state) => state,
                    Frontend::Garbage => XenbusState::Unknown,
                },
                frontend,
                before: self.before,
                online: online.as_deref() != Some(b"0") && !self.ending,
                connected: self.worker.is_some(),
                late: self.unheard.is_some_and(|(_, by)| Instant::now() >= by),
            };
            let next = step(seen);
            if next == Step::Rest {
                self.mind_unheard(seen, context.platform.limits.frontend);
                self.before = Some(seen.frontend)
                    .filter(|state| *state != Frontend::State(XenbusState::Unknown))
                    .or(self.before);
                return Ok(Presence::There);
            }
            if next == Step::Connect && self.hold.is_some() {
                return Ok(Presence::There);
            }
            debug!("vhost {}: {seen:?}: {next:?}", self.number);
            if seen.late {
                self.say(&format_args!("the frontend does not follow state {}", seen.own));
            }
            self.unheard = None;
            // A frontend that was ahead of our announcement is still to be followed.
            let ahead =
                next == Step::Announce && !matches!(seen.frontend, Frontend::State(XenbusState::Closed));
            self.before = if ahead { None } else { Some(seen.frontend) };
            match self.take(next, seen.own, context) {
                Ok(()) => {}
                Err(Trouble::Store(error)) if is_of_request(&error) => {
                    // A directory that vanishes while we write to it brings an event of its own.
                    self.say(&error);
                    return Ok(Presence::There);
                }
                Err(Trouble::Store(error)) => return Err(error),
                Err(Trouble::Fault(fault)) => self.report(context, &fault.0)?,
            }
        }
        Ok(Presence::There)
    }

    /// The toolstack's wish in our own node waits for the frontend, but not for ever.
    fn mind_unheard(&mut self, seen: Seen, patience: Duration) {
        use XenbusState::{Closing, Reconfigured, Reconfiguring};
        let asked = seen.connected && matches!(seen.own, Reconfiguring | Reconfigured | Closing);
        let wish = asked.then_some(seen.own);
        if seen.late || wish != self.unheard.map(|(state, _)| state) {
            self.unheard = wish.and_then(|state| Some((state, Instant::now().checked_add(patience)?)));
        }
    }

    /// Deals with a worker that ended by itself.
    ///
    /// # Errors
    ///
    /// As [`look`](Self::look).
    pub fn check_worker(&mut self, context: &mut Context) -> Result<(), xenstore::Error> {
        let Some(error) = self.worker.as_ref().and_then(WorkerHandle::ended) else { return Ok(()) };
        self.report(context, &error.to_string())
    }

    /// Tells the frontend that we close, and goes on serving, for its last commands are still to come.
    ///
    /// # Errors
    ///
    /// As [`look`](Self::look).
    pub fn announce_end(&mut self, context: &mut Context) -> Result<(), xenstore::Error> {
        self.ending = true;
        self.set_state(context, XenbusState::Closing)
    }

    /// Lets go of everything, whatever the frontend says: state 6.
    ///
    /// # Errors
    ///
    /// As [`look`](Self::look).
    pub fn end(&mut self, context: &mut Context) -> Result<(), xenstore::Error> {
        self.disconnect();
        close(&mut context.store, &format!("{}/state", self.path))
    }

    fn take(&mut self, next: Step, own: XenbusState, context: &mut Context) -> Result<(), Trouble> {
        self.anew_at = None;
        match next {
            Step::Rest => Ok(()),
            Step::Announce => self.announce(context),
            Step::Connect => self.connect(own, context),
            Step::Confirm => self.confirm(context),
            Step::Reconfigure => {
                self.scan(context)?;
                Ok(self.advance(context, own, XenbusState::Reconfigured)?)
            }
            Step::Settle => Ok(self.advance(context, own, XenbusState::Connected)?),
            Step::Close => {
                self.disconnect();
                Ok(self.set_state(context, XenbusState::Closing)?)
            }
            Step::EndClosed => Ok(self.end(context)?),
            Step::Return => {
                self.end(context)?;
                if own == XenbusState::Closing {
                    self.anew_at = Instant::now().checked_add(CLOSED_FOR);
                    return Ok(());
                }
                self.announce(context)
            }
            Step::Complain => fault(format!("frontend state {} makes no sense", self.describe_frontend())),
        }
    }

    fn describe_frontend(&self) -> String {
        match self.before {
            Some(Frontend::State(state)) => state.to_string(),
            _ => "(no number from 0 to 8)".into(),
        }
    }

    /// Finds the frontend's directory, which the toolstack named, and watches its state. `false`: it is not named yet.
    fn watch_frontend(&mut self, context: &mut Context) -> Result<bool, xenstore::Error> {
        if self.frontend.is_some() {
            return Ok(true);
        }
        let Some(named) = read_optional(&mut context.store, &format!("{}/frontend", self.path))? else {
            return Ok(false);
        };
        let expected = format!("/local/domain/{}/device/vscsi/{}", context.domid, self.number);
        if named != expected.as_bytes() {
            let named = String::from_utf8_lossy(&named);
            self.report(
                context,
                &format!("node frontend is {named:?}, not {expected}: written by the toolstack"),
            )?;
            return Ok(false);
        }
        context.store.watch(&format!("{expected}/state"), &format!("frontend/{}", self.number))?;
        self.frontend = Some(expected);
        Ok(true)
    }

    fn frontend_node(&self, name: &str) -> String {
        format!("{}/{name}", self.frontend.as_deref().unwrap_or_default())
    }

    fn frontend_state(&self, context: &mut Context) -> Result<Frontend, xenstore::Error> {
        let state = state_of(&mut context.store, &self.frontend_node("state"))?;
        Ok(state.unwrap_or(Frontend::State(XenbusState::Unknown)))
    }

    fn announce(&mut self, context: &mut Context) -> Result<(), Trouble> {
        self.disconnect();
        let path = &self.path;
        context.store.transaction(|tx| {
            tx.read(&format!("{path}/frontend"))?;
            tx.write(&format!("{path}/feature-sg-grant"), MAX_SEGMENTS.to_string())?;
            tx.write(&format!("{path}/state"), XenbusState::InitWait.digit())
        })?;
        self.hold = Instant::now().checked_add(context.platform.limits.announced);
        Ok(())
    }

    fn connect(&mut self, own: XenbusState, context: &mut Context) -> Result<(), Trouble> {
        self.disconnect();
        let gref = GrantRef(self.frontend_number(context, "ring-ref")?);
        let port = Port(self.frontend_number(context, "event-channel")?);
        let no_device =
            |what: &str, error: io::Error| Trouble::Fault(Fault(format!("cannot {what}: {error}")));
        let grants =
            (context.platform.grants)(context.domid).map_err(|e| no_device("open the grant device", e))?;
        let page = grants.map_page(gref).or_else(|error| fault(error.to_string()))?;
        let events = (context.platform.bind)(context.domid, port, &self.thread_name(context))
            .map_err(|error| no_device(&format!("bind to event channel {port} of the guest"), error))?;
        self.ready = Some(Connection {
            domid: context.domid,
            ring: BackRing::attach(page, 0),
            events,
            grants,
            luns: Vec::new(),
            feature_host: self.has_feature_host(context)?,
            limits: context.platform.limits,
            log_limit: self.requests.clone(),
        });
        // The units first: on a new ring in place of an old one, commands need not wait for our 4.
        let scanned = self.scan(context);
        let Some(connection) = self.ready.take() else { unreachable!("a scan adds to it") };
        scanned?;
        let (seat, kind) = (self.seat(context), context.platform.engine.reactor());
        let worker = WorkerHandle::start(seat, connection, kind, context.bell.clone())
            .map_err(|error| no_device("start a worker", error))?;
        self.worker = Some(worker);
        self.advance(context, own, XenbusState::Connected)?;
        drop_error(&mut context.store, &format!("error/{}/error", self.path))?;
        self.say(&format_args!("connected, {} units", self.served.len()));
        Ok(())
    }

    fn frontend_number(&self, context: &mut Context, name: &str) -> Result<u32, Trouble> {
        let path = self.frontend_node(name);
        let Some(value) = read_optional(&mut context.store, &path)? else {
            return fault(format!("{path} is missing"));
        };
        let digits = Some(&value).filter(|value| value.len() <= 10 && value.iter().all(u8::is_ascii_digit));
        let number = digits.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
        // The guest's text does not go to a log at full length.
        let shown = || String::from_utf8_lossy(value.get(..value.len().min(32)).unwrap_or(&[])).into_owned();
        number.map_or_else(|| fault(format!("{path} is {:?}, not a number of 32 bits", shown())), Ok)
    }

    fn disconnect(&mut self) {
        self.ready = None;
        self.served.clear();
        let Some(worker) = self.worker.take() else { return };
        if let Err(error) = worker.join() {
            self.say(&error);
        }
        self.say(&"disconnected");
    }

    fn forget(&mut self, context: &mut Context) {
        self.disconnect();
        if let Some(frontend) = self.frontend.take() {
            // The watch may have gone with the guest.
            let _ = context.store.unwatch(&format!("{frontend}/state"), &format!("frontend/{}", self.number));
        }
    }

    /// Writes our state, if it is another and the directory is still there.
    fn set_state(&self, context: &mut Context, state: XenbusState) -> Result<(), xenstore::Error> {
        write_if_there(&mut context.store, &format!("{}/state", self.path), state.digit())
    }

    /// Goes on from state `from`, unless the toolstack wrote something else meanwhile, for the frontend to follow.
    fn advance(
        &self,
        context: &mut Context,
        from: XenbusState,
        to: XenbusState,
    ) -> Result<(), xenstore::Error> {
        if from == to {
            return Ok(());
        }
        replace(&mut context.store, &format!("{}/state", self.path), from, to)
    }

    /// Something is wrong with the other end: error node, and no ring any more, state 5.
    fn report(&mut self, context: &mut Context, text: &str) -> Result<(), xenstore::Error> {
        self.say(&text);
        self.write_error(context, &format!("error/{}/error", self.path), text)?;
        self.disconnect();
        self.set_state(context, XenbusState::Closing)
    }

    fn write_error(&self, context: &mut Context, node: &str, text: &str) -> Result<(), xenstore::Error> {
        // "errno text", as the kernel's backends write it.
        not_fatal(context.store.write(node, format!("{} {}", einval(), shorten(&text))))
    }
}
