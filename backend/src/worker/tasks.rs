//! What is not a command: aborts and resets, and units that come and go.

use std::time::Instant;

use pvscsi_ring::{Answer, Nexus, Ticket};
use pvscsi_sg::{HostStatus, LogicalUnit, Outcome, SamStatus, Sense, Tag};

use super::{DRAIN, ORDERS, Worker, deadline, owner_of, push, token};
use crate::control::{News, Order};

impl Worker {
    /// The command is answered first, then the abort. The device keeps what it has: nothing in user space can take a single
    /// command back from it.
    pub(super) fn abort(&mut self, ticket: Ticket, nexus: Nexus, ref_rqid: u16) {
        let tag = self.table.find(|p| p.nexus == nexus && p.ticket.rqid() == ref_rqid);
        if let Some(tag) = tag {
            self.answer_early(tag, HostStatus::ABORT);
        }
        // A request that is not there is not running: that is what the guest wants.
        self.ring.push(ticket, &Answer::TASK_DONE);
    }

    /// The commands of the unit are answered first, then the reset, when the device has done it (`resets.rs`).
    pub(super) fn reset(&mut self, ticket: Ticket, lun: usize) {
        while let Some(tag) = self.table.find(|p| p.lun == lun) {
            self.answer_early(tag, HostStatus::RESET);
        }
        let unit = &self.luns.get(lun).unit;
        if let Some((ticket, answer)) = self.resets.start(ticket, lun, || unit.resetter()) {
            self.ring.push(ticket, &answer);
        }
    }

    /// Answers a pending command before its device does. One that was not submitted yet never is.
    pub(super) fn answer_early(&mut self, tag: Tag, host: HostStatus) {
        let fresh = self.fresh.contains(&tag);
        self.fresh.retain(|other| *other != tag);
        let pending = if fresh { self.withdraw(tag) } else { self.table.orphan(tag) };
        let outcome = Outcome {
            status: SamStatus::TASK_ABORTED,
            sense: Sense::NONE,
            ..Outcome::host_error(host, pending.total)
        };
        push(&mut self.ring, pending, &outcome);
    }

    pub(super) fn add_lun(&mut self, nexus: Nexus, unit: Box<dyn LogicalUnit>) {
        match self.luns.add(nexus, unit) {
            Ok(index) => self.luns.get(index).unit.attach(owner_of(index)),
            Err(_) => unreachable!("the control plane keeps addresses apart"),
        }
    }

    pub(super) fn hear_orders(&mut self) {
        self.control.orders_bell.silence();
        self.reactor.watch(self.control.orders_bell.as_fd(), token(ORDERS));
        self.resets.finish(|ticket, answer| self.ring.push(ticket, &answer));
        self.follow_orders();
    }

    pub(super) fn follow_orders(&mut self) {
        while let Ok(order) = self.control.orders.try_recv() {
            match order {
                Order::Add(nexus, unit) => {
                    // The new one has nothing to tell.
                    self.luns.set_luns_changed(nexus.channel, nexus.id, true);
                    self.add_lun(nexus, unit);
                }
                Order::Remove(nexus) => {
                    let Some(index) = self.luns.hide(nexus) else {
                        unreachable!("the control plane knows the units")
                    };
                    self.luns.set_luns_changed(nexus.channel, nexus.id, true);
                    self.leaving.push((index, deadline(DRAIN)));
                }
                Order::Stop => self.stop_at = Some(self.stop_at.unwrap_or_else(|| deadline(DRAIN))),
            }
        }
    }

    /// Answers what is overdue, and lets removed units go when their guest is answered; `true` when the worker itself is to end.
    pub(super) fn settle_departures(&mut self) -> bool {
        let now = Instant::now();
        self.resets.overdue(now, |ticket, answer| self.ring.push(ticket, &answer));
        for (index, by) in std::mem::take(&mut self.leaving) {
            if self.table.find(|p| p.lun == index).is_some() && now < by {
                self.leaving.push((index, by));
                continue;
            }
            while let Some(tag) = self.table.find(|p| p.lun == index) {
                self.answer_early(tag, HostStatus::NO_CONNECT);
            }
            // The guest hears of it before the control plane does.
            self.publish();
            self.control.tell(News::Removed(self.luns.get(index).nexus));
        }
        if self.luns.any_leaving() {
            self.drop_idle_units();
        }
        self.stop_at.is_some_and(|by| now >= by || self.table.find(|_| true).is_none())
    }

    /// Removed units without commands go; those whose device has not let go stay until it does.
    fn drop_idle_units(&mut self) {
        let idle = |worker: &Self, index: &usize| {
            worker.table.held_by(*index) == 0
                && !worker.resets.is_running(*index)
                && worker.leaving.iter().all(|(leaving, _)| leaving != index)
        };
        loop {
            let Some(index) = self.luns.leaving().find(|index| idle(self, index)) else { return };
            self.reactor.cancel(owner_of(index));
            self.luns.remove(index);
        }
    }
}
