//! The program as a user meets it: one clear line and the right exit status.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_xen-pvscsi"));
    // No xenstore, wherever this runs.
    program.args(arguments).env("XENSTORED_PATH", "/no/such/xenstored").output().unwrap()
}

fn refused(arguments: &[&str], status: i32, words: &[&str]) {
    let output = run(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    assert!(said.starts_with("xen-pvscsi: "), "{said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: {word:?} is not in {said}");
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn a_wrong_command_line_is_one_line_and_status_2() {
    refused(&["serve"], 2, &["--domid", "--help"]);
    refused(&["serve", "--domid", "guest1"], 2, &["'guest1'", "--domid"]);
    refused(&["serve", "--domid", "32752"], 2, &["32752", "32751"]);
    refused(&["serve", "--domid", "1", "--engine", "diesel"], 2, &["'diesel'", "auto"]);
    refused(&["serve", "--domid", "1", "--cpus", "0,5-2"], 2, &["'0,5-2'", "\"5-2\"", "2-5,7"]);
    refused(&["serve", "--domid", "1", "--cpus", ""], 2, &["--cpus"]);
    refused(&["serve", "--domid", "1", "--timeout", "floppy=3"], 2, &["'floppy=3'", "disk", "tape"]);
    refused(&["serve", "--domid", "1", "--timeout", "tape=0"], 2, &["'tape=0'", "604800"]);
    refused(&["attach", "guest1", "sda", "0:0:0:0"], 2, &["pdev \"sda\""]);
    refused(&["attach", "guest1", "/dev/sda", "0:0:0"], 2, &["vdev \"0:0:0\""]);
    refused(&["attach", "guest1", "/dev/sda", "0:0:0:0,rw"], 2, &["option \"rw\""]);
    refused(&["attach", "guest1", "/dev/sda", "0:0:0:0", "rw"], 2, &["option \"rw\""]);
    refused(&["attach", "guest1", "/dev/sda", "Auto"], 2, &["vdev \"Auto\"", "write auto for a vhost"]);
    refused(&["detach", "guest1", "0:0:0"], 2, &["'0:0:0'", "VDEV"]);
    refused(&["detach", "guest1", "auto"], 2, &["'auto'", "host:channel:target:lun"]);
    refused(&["check", "--host"], 2, &["'--host'"]);
    refused(&["server"], 2, &["'server'"]);
    refused(&["--log", "a=b=c", "serve", "--domid", "1"], 2, &["--log", "a=b=c"]);
    refused(&["demo", "--size", "1k"], 2, &["'1k'", "16M"]);
    refused(&["measure", "--rounds", "0"], 2, &["'0'", "--rounds"]);
}

#[test]
fn a_cpu_that_is_not_there_is_one_line_and_status_1() {
    refused(&["serve", "--domid", "1", "--cpus", "0-1023"], 1, &["--cpus", "CPU "]);
}

#[test]
fn a_host_without_xenstore_is_one_line_and_status_1() {
    for verb in [
        &["serve", "--domid", "1"][..],
        &["watch"],
        &["attach", "1", "ram:1M", "0:0:0:0"],
        &["detach", "1", "0:0:0:0"],
        &["list"],
        &["list", "--json", "1"],
        &["measure"],
    ] {
        refused(verb, 1, &["/no/such/xenstored", "xenstored run", "XENSTORED_PATH"]);
    }
}

/// Here there is no xenstore, so something is in the way wherever this runs; memory is in nobody's.
#[test]
fn check_says_what_is_in_the_way_and_nothing_else() {
    let check = |arguments: &[&str]| {
        let output = run(&[&["check"], arguments].concat());
        assert!(output.stderr.is_empty(), "{arguments:?}");
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, text) = check(&[]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("xenstore") && text.contains("/no/such/xenstored"), "{text}");
    assert!(text.lines().all(|line| !line.starts_with("xenstore") || line.contains(" problem ")), "{text}");
    let (status, text) = check(&["ram:64M", "0:0:0:0", "ro"]);
    assert_eq!((status, text.lines().last()), (Some(0), Some("nothing is in the way")), "{text}");
    let (status, text) = check(&["sda", "0:0:0", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &json["fits"]), (Some(1), &false.into()), "{text}");
    let topics: Vec<_> =
        json["facts"].as_array().unwrap().iter().map(|fact| fact["topic"].as_str().unwrap()).collect();
    assert_eq!(topics, ["name", "vdev"]);
}

#[test]
fn help_and_version_are_no_errors() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("serve") && text.contains("demo") && !text.contains('\x1b'), "{text}");
    assert!(String::from_utf8(run(&["serve", "--help"]).stdout).unwrap().contains("SIGTERM"));
    assert_eq!(
        String::from_utf8(run(&["--version"]).stdout).unwrap().trim(),
        concat!("xen-pvscsi ", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn every_verb_has_a_page_and_completions() {
    let directory = std::env::temp_dir().join(format!("pvscsi-pages-{}", std::process::id()));
    let at = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let output = run(&["generate", "--man", &at("man"), "--completions", &at("completions")]);
    assert!(output.status.success(), "{output:?}");
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    let (_, verbs) = help.split_once("Commands:\n").unwrap();
    let verbs = verbs.lines().map_while(|line| line.split_whitespace().next()).filter(|verb| *verb != "help");
    let verbs: Vec<_> = verbs.collect();
    assert!(verbs.contains(&"serve") && !verbs.contains(&"generate"), "{verbs:?}");
    let pages = std::fs::read_dir(directory.join("man")).unwrap().count();
    assert_eq!(pages, 1 + verbs.len());
    let completions = ["xen-pvscsi.bash", "_xen-pvscsi", "xen-pvscsi.fish"]
        .map(|name| std::fs::read_to_string(directory.join("completions").join(name)).unwrap());
    for verb in verbs {
        let page = std::fs::read_to_string(directory.join(format!("man/xen-pvscsi-{verb}.8"))).unwrap();
        assert!(page.contains(".SH OPTIONS"), "{page}");
        assert!(completions.iter().all(|text| text.contains(verb)), "{verb}");
    }
    std::fs::remove_dir_all(directory).unwrap();
}
