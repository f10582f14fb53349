//! The loop that serves one ring, from the guest's bell to the guest's bell.
//!
//! A round takes every request that is there, moves the data of all of them in one ioctl, hands all commands to their devices
//! in one system call, and answers all that are finished with one notify:
//!
//! ```text
//! wait ─► take ─► fetch ─► submit ─► deliver ─► answer ─► look on ─► wait
//! ```
//!
//! Nothing in it allocates, locks or logs for a command.

use std::io;
use std::time::{Duration, Instant};

use pvscsi_guestmem::BufferPool;
use pvscsi_ring::vscsiif::{RING_SLOTS, WireRequest};
use pvscsi_ring::{Action, Answer, BackRing, Nexus, Request, ScsiRequest, Ticket};
use pvscsi_sg::{
    Cdb, Command, Completion, Event, HostStatus, LogicalUnit, Outcome, Reactor, SamStatus, Tag, Token,
};
use pvscsi_xen::{DomId, EventChannel, GrantTable};

use crate::absent::AbsentUnit;
use crate::control::{News, WorkerEnd, WorkerError};
use crate::data::{LIST_BYTES, Mover, start_of};
use crate::emulate;
use crate::limits::TimeLimits;
use crate::log_limit::LogLimit;
use crate::pending::{Found, Pending, PendingTable, SLOTS};
use crate::resets::Resets;
use crate::v2p::V2p;

mod answer;
mod bell;
mod clock;
mod polling;
mod tasks;

use answer::{data_direction, push, to_answer};
use clock::Clock;
use polling::Polling;

/// Reactor owner of the event channel.
const BELL: u32 = 0;
/// Reactor owner of the orders.
const ORDERS: u32 = 1;
/// Reactor owner of the clock.
const CLOCK: u32 = 2;
/// Reactor owner of the first logical unit.
const FIRST_LUN: u32 = 3;

/// How long a worker that ends waits for commands that nobody waits for any more, before it waits alone.
const LAST: Duration = Duration::from_millis(200);

/// How long commands may go on after the order to stop, or to remove their unit.
const DRAIN: Duration = Duration::from_secs(2);

/// Everything that a ring needs to be served. Made by the control plane; nothing in it comes from the guest unchecked.
pub struct Connection {
    /// The guest.
    pub domid: DomId,
    /// Its ring.
    pub ring: BackRing,
    /// Its bell.
    pub events: Box<dyn EventChannel>,
    /// Its grants.
    pub grants: Box<dyn GrantTable>,
    /// The devices, each at its address.
    pub luns: Vec<(Nexus, Box<dyn LogicalUnit>)>,
    /// All commands go to the devices (Xen's io/vscsiif.h, `feature-host`): nothing is answered here.
    pub feature_host: bool,
    /// How long commands may take.
    pub limits: TimeLimits,
    /// How much the guest may make us log.
    pub log_limit: LogLimit,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("domid", &self.domid)
            .field("luns", &self.luns.len())
            .finish_non_exhaustive()
    }
}

/// Serves one ring.
pub struct Worker {
    /// First, so dropped first: it lets go of memory that the units own.
    reactor: Reactor,
    ring: BackRing,
    events: Box<dyn EventChannel>,
    grants: Box<dyn GrantTable>,
    luns: V2p,
    table: PendingTable,
    pool: BufferPool,
    mover: Mover,
    list: Box<[u8; LIST_BYTES]>,
    /// Requests taken in this round, to be submitted in it.
    fresh: Vec<Tag>,
    /// Commands finished and not answered.
    done: Vec<Completion>,
    /// Requests of this round whose memory is not there.
    bad: Vec<Tag>,
    feature_host: bool,
    limits: TimeLimits,
    clock: Clock,
    polling: Polling,
    /// Units that have had a command for more than a second.
    slow: Vec<usize>,
    log_limit: LogLimit,
    control: WorkerEnd,
    resets: Resets,
    stop_at: Option<Instant>,
    /// Hidden units with commands under way, and when their guest is answered without them.
    leaving: Vec<(usize, Instant)>,
}

impl Worker {
    /// Takes up a connection. The thread that calls this must be the one that calls [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// When there is no memory for the pool of buffers, or no descriptor.
    pub fn new(connection: Connection, control: WorkerEnd, mut reactor: Reactor) -> io::Result<Self> {
        let pool = BufferPool::new(SLOTS)?;
        // Others are taken only while devices keep commands that were aborted.
        if let Some(memory) = pool.first(usize::try_from(RING_SLOTS).unwrap_or(0)) {
            reactor.offer(memory);
        }
        let Connection { domid, ring, events, grants, luns, feature_host, limits, log_limit } = connection;
        let polling = Polling::new(if reactor.is_io_uring() { limits.polling } else { Duration::ZERO });
        let mut worker = Self {
            reactor,
            ring,
            events,
            grants,
            luns: V2p::default(),
            table: PendingTable::default(),
            pool,
            mover: Mover::new(domid),
            list: Box::new([0; LIST_BYTES]),
            fresh: Vec::with_capacity(SLOTS),
            done: Vec::with_capacity(SLOTS),
            bad: Vec::with_capacity(SLOTS),
            feature_host,
            limits,
            clock: Clock::new()?,
            polling,
            slow: Vec::with_capacity(SLOTS),
            resets: Resets::new(control.orders_bell.clone(), log_limit.clone()),
            log_limit,
            control,
            stop_at: None,
            leaving: Vec::new(),
        };
        if !feature_host {
            worker.luns.stand_in(Box::new(AbsentUnit));
        }
        for (nexus, unit) in luns {
            worker.add_lun(nexus, unit);
        }
        Ok(worker)
    }

    /// Serves until told to stop, or until the ring is of no use any more.
    pub fn run(mut self) {
        let ended = self.serve();
        self.table.abandon();
        self.resets.abandon();
        let Self { control, ring, events, luns, mut reactor, .. } = self;
        // What the guest waits for first; then what may take its time. The reactor goes before the units: as long as it reads
        // results, the driver may fill their buffers. And before the event channel: it may have something queued for that
        // descriptor, which must not be another one by then.
        drop(ring);
        let hung = if reactor.settle(LAST) {
            drop(reactor);
            None
        } else {
            tracing::warn!("{}: a device keeps commands, and a thread waits for it", control.name);
            Some(reactor)
        };
        drop(events);
        drop(luns);
        control.tell(News::Ended(ended));
        // Nobody else can wait for them: an io_uring belongs to its thread.
        drop(hung);
    }

    fn serve(&mut self) -> Result<(), WorkerError> {
        let mut events = Vec::with_capacity(SLOTS);
        self.listen();
        self.reactor.watch(self.control.orders_bell.as_fd(), token(ORDERS));
        self.reactor.watch(self.clock.as_fd(), token(CLOCK));
        let mut masked = false;
        loop {
            self.take()?;
            self.fetch();
            self.submit()?;
            self.deliver();
            self.answer();
            let over = self.settle_departures();
            self.publish();
            if over {
                return Ok(());
            }
            let more = !self.done.is_empty()
                || (self.stop_at.is_none() && (self.look_on()? || self.ring.final_check()?));
            if masked && !more {
                self.unmask()?;
                masked = false;
            }
            let patience = if more { Some(Duration::ZERO) } else { self.patience() };
            self.reactor
                .wait(patience, &mut events)
                .map_err(|source| system("waiting for events", source))?;
            for event in events.drain(..) {
                match event.token.owner {
                    BELL => masked |= self.hear_bell(event.result)?,
                    ORDERS => self.hear_orders(),
                    CLOCK => self.hear_clock()?,
                    _ => self.lun_event(event),
                }
            }
        }
    }

    /// Takes every request that is there, and refuses what makes no sense.
    fn take(&mut self) -> Result<(), WorkerError> {
        if self.stop_at.is_some() {
            return Ok(());
        }
        // A ringful for each round: a guest that produces without end does not keep us from everything else.
        for _ in 0..RING_SLOTS {
            let Some((ticket, wire)) = self.ring.take()? else { break };
            self.accept(ticket, &wire);
        }
        Ok(())
    }

    fn accept(&mut self, ticket: Ticket, wire: &WireRequest) {
        let request = match Request::parse(wire) {
            Ok(request) => request,
            Err(refusal) => return self.refuse(ticket, &refusal),
        };
        let Some(lun) = self.find_unit(request.nexus) else {
            return self.ring.push(ticket, &Answer::NO_CONNECT);
        };
        match request.action {
            Action::Command(command) => self.prepare(ticket, request.nexus, lun, &command),
            Action::Abort { ref_rqid } => self.abort(ticket, request.nexus, ref_rqid),
            Action::Reset => self.reset(ticket, lun),
        }
    }

    /// The unit at this address. The guest may know of one before we have read the order to serve it: that order was given before
    /// the guest was told.
    fn find_unit(&mut self, nexus: Nexus) -> Option<usize> {
        self.luns.find(nexus).or_else(|| {
            self.follow_orders();
            self.luns.find(nexus).or_else(|| self.luns.find_absent(nexus))
        })
    }

    /// Gives a command its slot, its list of segments and its buffer.
    fn prepare(&mut self, ticket: Ticket, nexus: Nexus, lun: usize, command: &ScsiRequest) {
        let Some(cdb) = Cdb::new(command.cdb, command.cdb_len) else {
            unreachable!("the length was checked")
        };
        if self.has_its_share(lun) {
            return self.answer_busy(ticket);
        }
        let timeout = self.limits.of(command.timeout_s, self.luns.get(lun).unit.device_type());
        let (since, due) = self.clock.stamps(timeout.saturating_add(self.limits.overdue));
        let direction = command.direction;
        let pending =
            Pending { ticket, nexus, lun, direction, cdb, timeout, since, due, buffer: None, total: 0 };
        let tag = match self.table.insert(pending) {
            Ok(tag) => tag,
            Err(Pending { ticket, .. }) => return self.answer_busy(ticket),
        };
        if command.indirect {
            let fetched = self.mover.fetch_list(&*self.grants, command.areas(), &mut self.list);
            let (_, segments) = self.table.pending(tag);
            let list = fetched.map(|len| segments.set_from_table(self.list.get(..len).unwrap_or(&[])));
            match list {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => {
                    let Pending { ticket, .. } = self.withdraw(tag);
                    return self.refuse(ticket, &refusal);
                }
                Err(_) => return self.refuse_memory(tag),
            }
        } else {
            self.table.pending(tag).1.set(command.areas());
        }
        let (pending, segments) = self.table.pending(tag);
        pending.total = segments.total();
        if pending.total > 0 {
            let Ok(len) = usize::try_from(pending.total) else { unreachable!("at most 512 KiB") };
            let Some(buffer) = self.pool.take(start_of(segments), len) else {
                let Pending { ticket, .. } = self.withdraw(tag);
                return self.answer_busy(ticket);
            };
            pending.buffer = Some(buffer);
        }
        self.fresh.push(tag);
    }

    /// Copies the data of all new requests from the guest.
    fn fetch(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        let bad = &mut self.bad;
        self.mover.fetch(&*self.grants, &mut self.table, |tag| bad.push(tag));
        while let Some(tag) = self.bad.pop() {
            self.fresh.retain(|fresh| *fresh != tag);
            self.refuse_memory(tag);
        }
    }

    /// Hands all new commands to their devices, or answers those that only the vhost can.
    fn submit(&mut self) -> Result<(), WorkerError> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        self.start_clock()?;
        for tag in self.fresh.drain(..) {
            let (pending, _) = self.table.pending(tag);
            let (cdb, timeout, lun, nexus) = (pending.cdb, pending.timeout, pending.lun, pending.nexus);
            let direction = data_direction(pending.direction);
            let mut buffer = pending.buffer.take();
            if !self.feature_host
                && let Some(outcome) = emulate::answer(&mut self.luns, lun, nexus, &cdb, buffer.as_mut())
            {
                self.done.push(Completion { tag, outcome, buffer });
                continue;
            }
            self.luns.get(lun).unit.submit(Command { tag, cdb, direction, buffer, timeout }, &mut self.done);
            self.luns.touch(lun);
        }
        let reactor = &mut self.reactor;
        self.luns.flush_touched(|unit| unit.flush(reactor));
        Ok(())
    }

    /// Copies what the devices delivered to the guest.
    fn deliver(&mut self) {
        if self.done.is_empty() {
            return;
        }
        let bad = &mut self.bad;
        self.mover.deliver(&*self.grants, &mut self.done, &self.table, |tag| bad.push(tag));
    }

    /// Answers all finished commands.
    fn answer(&mut self) {
        let mut done = std::mem::take(&mut self.done);
        for Completion { tag, outcome, buffer } in done.drain(..) {
            match buffer {
                Some(buffer) => self.pool.give_back(buffer),
                None if self.table.is_buffered(tag) => self.replace_lost_buffer(),
                None => {}
            }
            if self.bad.contains(&tag) {
                self.refuse_memory(tag);
                continue;
            }
            match self.table.complete(tag) {
                Found::Pending(pending) => push(&mut self.ring, pending, &outcome),
                Found::Orphaned => {}
            }
        }
        self.done = done;
        self.bad.clear();
    }

    /// A device went away with a buffer that it may still use.
    fn replace_lost_buffer(&mut self) {
        if let Err(error) = self.pool.replace_lost() {
            tracing::warn!("{}: no memory for a new buffer: {error}", self.control.name);
        }
    }

    /// Shows the guest all answers, and rings its bell once, if it wants to hear it.
    fn publish(&mut self) {
        if self.ring.publish()
            && let Err(error) = self.events.notify()
        {
            // The guest closed its end: its state in xenstore says the rest.
            tracing::debug!("notify: {error}");
        }
    }

    /// Looks for what comes soon, if it mostly does.
    fn look_on(&mut self) -> Result<bool, WorkerError> {
        let Self { polling, ring, reactor, .. } = self;
        if polling.is_due() {
            reactor.hand_over().map_err(|source| system("submitting operations", source))?;
            return polling.look(|| Ok(ring.has_request()? || reactor.has_news()));
        }
        Ok(false)
    }

    fn lun_event(&mut self, event: Event) {
        let index = event.token.owner.checked_sub(FIRST_LUN).and_then(|index| usize::try_from(index).ok());
        let Some(index) = index else { unreachable!("owner {} is no unit", event.token.owner) };
        self.luns.get(index).unit.on_event(event, &mut self.reactor, &mut self.done);
    }

    fn refuse(&mut self, ticket: Ticket, why: &dyn std::fmt::Display) {
        if let Some(left_out) = self.log_limit.pass(Instant::now()) {
            tracing::warn!(
                "{}: request {} refused: {why} ({left_out} more like this not logged)",
                self.control.name,
                ticket.rqid()
            );
        }
        let failed = Outcome::host_error(HostStatus::ERROR, 0);
        self.ring.push(ticket, &to_answer(&failed));
    }

    fn refuse_memory(&mut self, tag: Tag) {
        let Pending { ticket, .. } = self.withdraw(tag);
        self.refuse(ticket, &"its memory is not granted, or not this way");
    }

    /// Takes back a request that no device has: its slot and its buffer are free, its answer is owed.
    fn withdraw(&mut self, tag: Tag) -> Pending {
        let Found::Pending(mut pending) = self.table.complete(tag) else { unreachable!("its guest waits") };
        if let Some(buffer) = pending.buffer.take() {
            self.pool.give_back(buffer);
        }
        pending
    }

    /// No room: the guest may try again (SAM-5, 5.3.1, BUSY).
    fn answer_busy(&mut self, ticket: Ticket) {
        self.ring.push(ticket, &Answer::command(SamStatus::BUSY.0, 0, &[], 0));
    }

    fn patience(&self) -> Option<Duration> {
        let first =
            self.leaving.iter().map(|(_, by)| *by).chain(self.stop_at).chain(self.resets.first_due()).min();
        first.map(|by| by.saturating_duration_since(Instant::now()))
    }
}

/// Reactor owner of a unit.
fn owner_of(unit: usize) -> u32 {
    let owner = u32::try_from(unit).ok().and_then(|unit| unit.checked_add(FIRST_LUN));
    let Some(owner) = owner else { unreachable!("unit {unit}") };
    owner
}

fn token(owner: u32) -> Token {
    Token { owner, what: 0 }
}

fn deadline(after: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(after).unwrap_or(now)
}

fn system(what: &'static str, source: io::Error) -> WorkerError {
    WorkerError::System { what, source }
}
