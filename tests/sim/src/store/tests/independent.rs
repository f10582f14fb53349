//! The crate `xenstore-rs`, written by others, as a client of the server.

use std::env;
use std::io::ErrorKind;
use std::process::Command;

use xenstore_rs::Xs;
use xenstore_rs::unix::XsUnix;

use crate::store::Store;

/// That crate knows the socket from the environment only, which a test must not change for its neighbours: the test runs
/// itself in a process of its own.
const IS_CLIENT: &str = "PVSCSI_SIM_INDEPENDENT_CLIENT";

#[test]
fn an_independent_client_agrees() {
    if env::var_os(IS_CLIENT).is_some() {
        return talk();
    }
    let socket = env::temp_dir().join(format!("pvscsi-sim-xenstored-{}", std::process::id()));
    let store = Store::new();
    store.listen(&socket).unwrap();
    store.write("/from-server/a", "1");
    store.write("/from-server/b", "");
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "store::tests::independent::an_independent_client_agrees"])
        .env(IS_CLIENT, "yes")
        .env("XENSTORED_PATH", &socket)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(store.read("/from-client/kept").unwrap(), b"by xenstore-rs");
    assert_eq!(store.read("/from-client/gone"), None);
    drop(store);
    assert!(!socket.exists(), "the socket goes with the store");
}

fn talk() {
    let xs = XsUnix::new().unwrap();
    assert_eq!(&*xs.read("/from-server/a").unwrap(), "1");
    assert_eq!(&*xs.read("/from-server/b").unwrap(), "");
    assert_eq!(xs.directory("/from-server").unwrap(), ["a".into(), "b".into()]);
    assert!(xs.directory("/from-server/a").unwrap().is_empty());
    xs.write("/from-client/kept", "by xenstore-rs").unwrap();
    xs.write("/from-client/gone", "x").unwrap();
    xs.rm("/from-client/gone").unwrap();
    assert_eq!(xs.read("/from-client/gone").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(xs.rm("/nowhere/at/all").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(xs.write("/bad//path", "x").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(xs.directory("/from-client").unwrap(), ["kept".into()]);
}
