//! The watcher with a fake server: a shell that notes its start and ends as the test wants.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::Pid;
use pvscsi_sim::store::Store;

use super::*;

const TIME_LIMIT: Duration = Duration::from_secs(20);
const SHORT: Pauses = Pauses { first: Duration::from_millis(40), longest: Duration::from_millis(160) };

/// A host, and a watcher in a thread.
struct Host {
    store: Store,
    toolstack: Xenstore,
    starts: PathBuf,
    stop: Arc<EventFd>,
    watcher: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Host {
    /// `script` is what a server does after it has noted "DOMID PID".
    fn new(name: &str, script: &str) -> Self {
        let store = Store::new();
        let starts = std::env::temp_dir().join(format!("pvscsi-watch-{name}-{}", std::process::id()));
        fs::write(&starts, "").unwrap();
        let toolstack = Xenstore::from_stream(store.connect(DomId(0))).unwrap();
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap());
        let mut host = Self { store, toolstack, starts, stop, watcher: None };
        host.watch(script);
        host
    }

    fn watch(&mut self, script: &str) {
        let script = format!("echo \"$1 $$\" >> \"$2\"; {script}");
        let (starts, stop) = (self.starts.clone(), Arc::clone(&self.stop));
        let store = Xenstore::from_stream(self.store.connect(DomId(0))).unwrap();
        let watch = move || {
            let command = move |domid: DomId| {
                let mut command = Command::new("sh");
                command.args(["-c", &script, "server", &domid.to_string()]).arg(&starts);
                command
            };
            let mut watcher = Watcher::new(store, command)?;
            watcher.pauses = SHORT;
            watcher.run(stop.as_fd(), ticks().as_fd())
        };
        self.watcher = Some(thread::spawn(watch));
    }

    fn stop_watching(&mut self) {
        self.stop.write(1).unwrap();
        self.watcher.take().unwrap().join().unwrap().unwrap();
    }

    fn vhost(&self, domid: u16, vhost: u32) {
        self.store.write(&format!("/local/domain/0/backend/vscsi/{domid}/{vhost}/state"), "1");
    }

    fn gone(&mut self, domid: u16) {
        self.toolstack.remove(&format!("/local/domain/0/backend/vscsi/{domid}")).unwrap();
    }

    /// Processes that were started for the guest so far.
    fn started(&self, domid: u16) -> Vec<Pid> {
        let text = fs::read_to_string(&self.starts).unwrap();
        let of_guest = |line: &str| {
            let (domain, process) = line.split_once(' ')?;
            (domain == domid.to_string()).then(|| Pid::from_raw(process.parse().unwrap()))
        };
        text.lines().filter_map(of_guest).collect()
    }

    fn until_started(&self, domid: u16, times: usize) -> Vec<Pid> {
        let start = Instant::now();
        while self.started(domid).len() < times {
            assert!(start.elapsed() < TIME_LIMIT, "{domid} was started {:?}", self.started(domid));
            thread::sleep(Duration::from_millis(2));
        }
        self.started(domid)
    }

    /// No more starts come for this guest.
    fn assert_rests(&self, domid: u16, times: usize) {
        thread::sleep(SHORT.longest.saturating_mul(3));
        assert_eq!(self.started(domid).len(), times);
    }

    fn kill_all(&self, domid: u16) {
        for process in self.started(domid) {
            // One that has ended needs no end.
            let _ = kill(process, Signal::SIGKILL);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.starts);
    }
}

/// Readable now and then, in place of a signalfd: the threads of a test program do not block SIGCHLD.
fn ticks() -> TimerFd {
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK).unwrap();
    let every = Expiration::Interval(TimeSpec::from_duration(Duration::from_millis(2)));
    timer.set(every, TimerSetTimeFlags::empty()).unwrap();
    timer
}

fn is_there(process: Pid) -> bool {
    // A zombie is not.
    let stat = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_guest_with_vhosts_gets_one_server() {
    let mut host = Host::new("one", "exec sleep 1000");
    host.vhost(31_201, 0);
    host.until_started(31_201, 1);
    host.vhost(31_201, 1);
    host.vhost(31_202, 5);
    host.until_started(31_202, 1);
    // No vhosts: an empty directory, and a name that is none.
    host.store.write("/local/domain/0/backend/vscsi/31203", "");
    host.store.write("/local/domain/0/backend/vscsi/31204/x/state", "1");
    host.assert_rests(31_201, 1);
    assert!(host.started(31_203).is_empty() && host.started(31_204).is_empty());
    host.stop_watching();
    for domid in [31_201, 31_202] {
        assert!(host.started(domid).iter().all(|server| is_there(*server)), "a server outlives its watcher");
        host.kill_all(domid);
    }
}

#[test]
fn guests_that_are_there_already_are_found() {
    let mut host = Host::new("found", "exec sleep 1000");
    host.stop_watching();
    host.vhost(31_211, 0);
    host.vhost(31_212, 0);
    host.watch("exec sleep 1000");
    host.until_started(31_211, 1);
    host.until_started(31_212, 1);
    host.stop_watching();
    host.kill_all(31_211);
    host.kill_all(31_212);
}

#[test]
fn a_server_that_fails_is_followed_by_another_after_a_pause_that_grows() {
    let mut host = Host::new("fails", "exit 1");
    let start = Instant::now();
    host.vhost(31_221, 0);
    host.until_started(31_221, 5);
    // 40, 80, 160, 160.
    assert!(start.elapsed() >= Duration::from_millis(440), "{:?}", start.elapsed());
    // Nothing is left to serve.
    host.gone(31_221);
    thread::sleep(SHORT.longest);
    let times = host.started(31_221).len();
    host.assert_rests(31_221, times);
    host.stop_watching();
}

#[test]
fn a_server_that_crashes_is_followed_by_another() {
    let mut host = Host::new("crashes", "exec sleep 1000");
    host.vhost(31_231, 0);
    let first = host.until_started(31_231, 1)[0];
    kill(first, Signal::SIGSEGV).unwrap();
    host.until_started(31_231, 2);
    assert!(!is_there(first), "and was waited for");
    host.stop_watching();
    host.kill_all(31_231);
}

/// It was told to end by somebody who knows why; but a new vhost wants to be served.
#[test]
fn a_server_that_ends_well_is_followed_when_a_vhost_comes() {
    let mut host = Host::new("well", "exit 0");
    host.vhost(31_241, 3);
    host.until_started(31_241, 1);
    host.vhost(31_241, 3);
    host.assert_rests(31_241, 1);
    host.vhost(31_241, 4);
    host.until_started(31_241, 2);
    host.assert_rests(31_241, 2);
    host.gone(31_241);
    host.assert_rests(31_241, 2);
    host.vhost(31_241, 3);
    host.until_started(31_241, 3);
    host.stop_watching();
}

#[test]
fn a_guest_that_somebody_else_serves_is_left_alone_as_long_as_that_lasts() {
    let other = serve::claim(DomId(31_251)).unwrap();
    let mut host = Host::new("else", "exec sleep 1000");
    host.vhost(31_251, 0);
    host.assert_rests(31_251, 0);
    drop(other);
    host.until_started(31_251, 1);
    host.stop_watching();
    host.kill_all(31_251);
}

#[test]
fn a_program_that_cannot_be_started_is_tried_again() {
    let store = Store::new();
    store.write("/local/domain/0/backend/vscsi/31261/0/state", "1");
    let client = Xenstore::from_stream(store.connect(DomId(0))).unwrap();
    let mut watcher = Watcher::new(client, |_| Command::new("/no/such/program")).unwrap();
    watcher.pauses = SHORT;
    watcher.look(DomId(31_261)).unwrap();
    for expected in [40, 80, 160, 160] {
        watcher.start_due();
        let Some(Guest::Waits { until, pause }) = watcher.guests.get(&DomId(31_261)) else {
            panic!("{:?}", watcher.guests)
        };
        assert_eq!(pause.as_millis(), expected);
        thread::sleep(until.saturating_duration_since(Instant::now()));
    }
}

#[test]
fn a_server_that_lasted_begins_anew() {
    let (pauses, second) = (Pauses::default(), Duration::from_secs(1));
    assert_eq!(pauses.next(Duration::ZERO, Duration::ZERO), second);
    assert_eq!(pauses.next(second, second), 2 * second);
    assert_eq!(pauses.next(40 * second, 59 * second), 60 * second);
    assert_eq!(pauses.next(60 * second, 60 * second), second);
}
