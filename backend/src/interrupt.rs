//! The interrupt of an event channel: its name, and the CPU that it goes to.

use std::io;
use std::path::Path;
use std::thread;

use pvscsi_xen::DomId;

/// What Linux keeps of a thread's name (linux/sched.h, `TASK_COMM_LEN`, without the final 0).
const NAME_BYTES: usize = 15;

/// The name of a vhost's worker, and of the thread that opens its event channel. No `/`: it becomes a directory below `/proc/irq`.
#[must_use]
pub fn name_of(domid: DomId, vhost: u32) -> String {
    format!("v{domid}-{vhost}")
}

/// Does something in a thread of this name: `/proc/interrupts` calls an event channel after the thread that opened
/// `/dev/xen/evtchn` for it (Linux drivers/xen/evtchn.c, `evtchn_open`).
///
/// # Errors
///
/// Those of `work`, and when there is no thread left.
pub fn in_thread<T: Send>(name: &str, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Sends the interrupt of the event channel that a thread of this name opened to a CPU. `proc` is `/proc`.
///
/// # Errors
///
/// When there is no such interrupt, or more than one, or it cannot be sent there (Linux Documentation/core-api/irq/irq-affinity.rst).
pub fn steer(proc: &Path, name: &str, cpu: usize) -> io::Result<()> {
    let at =
        |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let table = proc.join("interrupts");
    let interrupts = std::fs::read(&table).map_err(|error| at(&table, error))?;
    let number = find(&String::from_utf8_lossy(&interrupts), name)
        .ok_or_else(|| at(&table, io::Error::other(format!("not one line of evtchn:{name}"))))?;
    let affinity = proc.join(format!("irq/{number}/smp_affinity_list"));
    std::fs::write(&affinity, cpu.to_string()).map_err(|error| at(&affinity, error))
}

/// The number of the only interrupt that was made by a thread of this name.
fn find(interrupts: &str, name: &str) -> Option<u32> {
    let name = format!("evtchn:{}", name.get(..NAME_BYTES).unwrap_or(name));
    let mut found = interrupts.lines().filter(|line| line.split_whitespace().last() == Some(&name));
    let line = found.next()?;
    if found.next().is_some() {
        return None;
    }
    line.split_once(':')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERRUPTS: &str = "           CPU0       CPU1       
  1:          0          9  xen-pirq    -ioapic-edge  i8042
 25:      48242          0  xen-percpu    -virq      timer0
 38:       2184          0  xen-dyn-lateeoi    -event     evtchn:xenstored
 64:        166          0  xen-dyn-lateeoi    -event     evtchn:v5-1
 65:          0         41  xen-dyn-lateeoi    -event     evtchn:v5-10
 66:          7          1  xen-dyn    -event     evtchn:v51-0
 67:          0          0  xen-dyn-lateeoi    -event     evtchn:v7-0
 68:          0          0  xen-dyn-lateeoi    -event     evtchn:v7-0
 69:          0          0  xen-dyn-lateeoi    -event     evtchn:v32751-42949672
NMI:          0          0   Non-maskable interrupts
";

    #[test]
    fn an_interrupt_is_found_by_its_thread() {
        let of = |domid, vhost| find(INTERRUPTS, &name_of(DomId(domid), vhost));
        assert_eq!(of(5, 1), Some(64));
        assert_eq!(of(5, 10), Some(65));
        assert_eq!(of(51, 0), Some(66));
        assert_eq!(of(5, 0), None);
        assert_eq!(of(7, 0), None, "there are two of this name");
        assert_eq!(of(32751, 4_294_967_295), Some(69), "the kernel has cut it");
        assert_eq!(find(INTERRUPTS, "interrupts"), None);
    }

    #[test]
    fn its_cpu_is_written() {
        let proc = std::env::temp_dir().join(format!("pvscsi-proc-{}", std::process::id()));
        std::fs::create_dir_all(proc.join("irq/65")).unwrap();
        assert!(steer(&proc, "v5-10", 3).unwrap_err().to_string().contains("interrupts"));
        std::fs::write(proc.join("interrupts"), INTERRUPTS).unwrap();
        steer(&proc, "v5-10", 3).unwrap();
        assert_eq!(std::fs::read_to_string(proc.join("irq/65/smp_affinity_list")).unwrap(), "3");
        let said = steer(&proc, "v5-1", 3).unwrap_err().to_string();
        assert!(said.contains("irq/64/smp_affinity_list"), "{said}");
        let said = steer(&proc, "v6-0", 3).unwrap_err().to_string();
        assert!(said.contains("not one line of evtchn:v6-0"), "{said}");
        std::fs::remove_dir_all(proc).unwrap();
    }

    #[test]
    fn a_thread_has_the_name_that_it_is_given() {
        let comm = || std::fs::read_to_string("/proc/thread-self/comm");
        assert_eq!(in_thread("v32751-65535", comm).unwrap(), "v32751-65535\n");
    }
}
