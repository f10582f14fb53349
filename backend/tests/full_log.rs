//! The program without room for its log: on a disk that is full, and in a pipe that nobody reads any more.

use std::fs::OpenOptions;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pvscsi_sim::store::Store;

const DOMID: u32 = 31_007;
const BACKEND: &str = "/local/domain/0/backend/vscsi/31007/0";
const FRONTEND: &str = "/local/domain/31007/device/vscsi/0";

fn program(arguments: &[&str], log: Stdio) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_xen-pvscsi"));
    program.args(arguments).stdout(Stdio::null()).stderr(log);
    program
}

/// A disk that is full, and a reader that is gone.
fn places() -> [Stdio; 2] {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    [OpenOptions::new().write(true).open("/dev/full").unwrap().into(), writer.into()]
}

fn until_state(store: &Store, program: &mut Child, state: &str) {
    let start = Instant::now();
    while store.read(&format!("{BACKEND}/state")).as_deref() != Some(state.as_bytes()) {
        let ended = program.try_wait().unwrap();
        assert!(ended.is_none(), "it ended before state {state}: {ended:?}");
        assert!(start.elapsed() < Duration::from_secs(20), "no state {state}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_server_without_room_for_its_log_goes_on() {
    for log in places() {
        let store = Store::new();
        let socket = std::env::temp_dir().join(format!("pvscsi-full-log-{}", std::process::id()));
        store.listen(&socket).unwrap();
        store.write(&format!("{FRONTEND}/state"), "1");
        store.write(&format!("{BACKEND}/frontend"), FRONTEND);
        store.write(&format!("{BACKEND}/online"), "1");
        store.write(&format!("{BACKEND}/state"), "1");
        let serve = ["--log", "debug", "serve", "--domid", &DOMID.to_string()];
        let mut program = program(&serve, log).env("XENSTORED_PATH", &socket).spawn().unwrap();
        until_state(&store, &mut program, "2");
        // Each of these is at least a line.
        store.write(&format!("{FRONTEND}/state"), "3");
        until_state(&store, &mut program, "5");
        store.write(&format!("{FRONTEND}/state"), "6");
        until_state(&store, &mut program, "2");
        kill(Pid::from_raw(program.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        assert!(program.wait().unwrap().success(), "and it ends well");
    }
}

/// The status is what scripts look at.
#[test]
fn an_error_that_cannot_be_written_has_its_status_all_the_same() {
    for (arguments, status) in [
        (&["server"][..], 2),
        (&["--log", "a=b=c", "serve", "--domid", "1"], 2),
        (&["serve", "--domid", "1"], 1),
    ] {
        for log in places() {
            let mut program = program(arguments, log);
            let ended = program.env("XENSTORED_PATH", "/no/such/xenstored").status().unwrap();
            assert_eq!(ended.code(), Some(status), "{arguments:?}");
        }
    }
}
