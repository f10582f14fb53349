//! Where the worker of a vhost runs, and what it is called there.

use std::path::Path;

use super::{Context, Vhost};
use crate::control::Seat;
use crate::interrupt;

impl Vhost {
    /// The name of our worker's thread, and of our event channel's interrupt.
    pub(super) fn thread_name(&self, context: &Context) -> String {
        interrupt::name_of(context.domid, self.number)
    }

    /// Finds a CPU for the worker, if there is a choice, and sends the interrupt of the event channel, which is bound, there.
    pub(super) fn seat(&mut self, context: &Context) -> Seat {
        let (thread, cpu) = (self.thread_name(context), context.platform.cpus.take());
        if let Some(cpu) = cpu.as_ref().map(|cpu| cpu.number())
            && let Err(error) = interrupt::steer(Path::new("/proc"), &thread, cpu)
        {
            self.say(&format_args!("the interrupt of its event channel does not go to CPU {cpu}: {error}"));
        }
        Seat { name: self.name.clone(), thread, cpu }
    }
}
