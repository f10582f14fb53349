//! A scenario: what dom0 and its guests do in one boot, and what must come of it.
//!
//! A directory `scenarios/NAME` holds `dom0.sh`, `guest.sh` or `guest-GUEST.sh`, perhaps an `init` in place of the lab's PID 1,
//! and, when it is a test, `checks`: the names that must pass, one a line. A name with `ours` behind it is expected only of our
//! backend.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::image::{Dist, Image};
use crate::qemu::{self, Clock, End, Machine};
use crate::report::{self, Tally};
use crate::tools::{self, Outcome, at};

/// The tests, in the order they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Test {
    /// Layouts and constants against the C headers; no boot.
    Headers,
    /// A guest with disks: data, commands, driver reload, nothing left behind.
    Disk,
    /// Killed guests, hostile guests, mistakes of the operator.
    Faults,
    /// Many devices, reloads and resets under verified I/O: nothing grows.
    Endurance,
    /// Guests that are saved and restored, or destroyed at each step; a device that is unplugged.
    Lifetimes,
    /// Devices of all kinds.
    Classes,
    /// Devices that hang, and what the others of their vhost keep.
    Hang,
    /// A hostile frontend on real grants and a real event channel.
    Hostile,
    /// The Debian package under systemd: servers started by hotplug and by the watcher.
    Package,
    /// Disks that are known by their names when dom0 has rebooted, and when a guest comes from elsewhere.
    Names,
    /// A driver domain that has the devices, and serves a guest.
    Driver,
    /// QEMU's devices: disks of three kinds and a CD drive, with the tools of their trades.
    Devices,
    /// Two guests that share disks, and keep each other out.
    Reservations,
    /// A tape library: mtx operates its changer, and mt and tar its drive.
    Changer,
    /// A tape drive: records, filemarks and the ends of the tape, and what the drive says of them.
    Tape,
    /// With `feature-host`, every command of sg3_utils gives the guest what it gives dom0, byte for byte.
    Passthrough,
    /// The same for a tape drive, with a tape's commands besides.
    PassthroughTape,
    /// Each engine in turn: the same bytes, and a server that ends while a device hangs.
    Engines,
    /// LIO's disk on a file and ours: the same commands to both.
    Fileio,
    /// Four guests with four vhosts each.
    Scale,
}

impl Test {
    /// The scenario to boot, if it is one.
    pub fn scenario(self) -> Option<&'static str> {
        match self {
            Self::Headers => None,
            Self::Disk => Some("disk"),
            Self::Faults => Some("faults"),
            Self::Endurance => Some("endurance"),
            Self::Lifetimes => Some("lifetimes"),
            Self::Classes => Some("classes"),
            Self::Hang => Some("hang"),
            Self::Hostile => Some("hostile"),
            Self::Package => Some("package"),
            Self::Names => Some("names"),
            Self::Driver => Some("driver"),
            Self::Devices => Some("devices"),
            Self::Reservations => Some("reservations"),
            Self::Changer => Some("changer"),
            Self::Tape => Some("tape"),
            Self::Passthrough => Some("passthrough"),
            Self::PassthroughTape => Some("passthrough-tape"),
            Self::Engines => Some("engines"),
            Self::Fileio => Some("fileio"),
            Self::Scale => Some("scale"),
        }
    }

    /// The Debian that it needs, if nobody wants another one.
    pub fn dist(self) -> Dist {
        match self {
            Self::Tape | Self::PassthroughTape | Self::Engines => Dist::TrixieBackports,
            _ => Dist::Bookworm,
        }
    }

    /// Whether it keeps two processors busy: beside another machine it would take three times as long.
    pub fn is_busy(self) -> bool {
        matches!(self, Self::Disk | Self::Endurance | Self::Lifetimes | Self::Hostile)
    }

    /// Whether dom0 reboots in it.
    pub fn reboots(self) -> bool {
        self == Self::Names
    }

    /// Whether the machine has SCSI devices of QEMU's.
    pub fn devices(self) -> bool {
        matches!(self, Self::Devices | Self::Passthrough)
    }

    /// How time passes in it.
    pub fn clock(self) -> Clock {
        match self {
            // Speeds are compared, which must not depend on what this machine does besides.
            Self::Hang | Self::Scale => Clock::Instructions,
            _ => Clock::Wall,
        }
    }
}

/// Who serves the guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// xen-pvscsi.
    #[default]
    Ours,
    /// Linux's xen-scsiback over LIO.
    Kernel,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "ours",
            Self::Kernel => "kernel",
        })
    }
}

/// One run of a scenario.
pub struct Run<'a> {
    /// Its directory's name.
    pub scenario: &'a str,
    /// Who serves.
    pub backend: Backend,
    /// Whether the share outlives the run.
    pub keep: bool,
    /// How long it may take.
    pub limit: Duration,
    /// How time passes in it.
    pub clock: Clock,
    /// See [`Machine::reboots`].
    pub reboots: bool,
    /// See [`Machine::devices`].
    pub devices: bool,
    /// See [`Machine::pinned`].
    pub pinned: bool,
    /// More variables for dom0's script, as `NAME=VALUE`.
    pub variables: &'a [&'a str],
    /// See [`Machine::plugin`].
    pub plugin: Option<&'a str>,
}

impl Default for Run<'_> {
    fn default() -> Self {
        Self {
            scenario: "",
            backend: Backend::Ours,
            keep: false,
            limit: Duration::from_secs(2400),
            clock: Clock::Wall,
            reboots: false,
            devices: false,
            pinned: false,
            variables: &[],
            plugin: None,
        }
    }
}

impl Run<'_> {
    /// A machine as the test wants it, in the time of this one.
    pub fn like(test: Test) -> Self {
        Self { reboots: test.reboots(), devices: test.devices(), ..Self::default() }
    }
}

/// What is left of a run.
pub struct Record {
    /// Where its logs are.
    pub dir: PathBuf,
    /// All of the lab's lines.
    pub report: String,
    /// How the machine ended.
    pub end: End,
    /// Lines of its logs that tell of a crash, with the log's name.
    pub crashes: Vec<String>,
}

/// Boots the scenario and judges it by its list of checks.
///
/// # Errors
///
/// When it cannot be booted at all, or has no list.
pub fn judge(run: &Run<'_>, image: &Image, programs: &[PathBuf]) -> Outcome<Tally> {
    let list = source(run.scenario)?.join("checks");
    let text = fs::read_to_string(&list).map_err(at(&list))?;
    let expected: Vec<&str> = text.lines().filter_map(|line| expected_name(line, run.backend)).collect();
    let record = boot(run, image, programs)?;
    let (mut tally, mut failures) = report::judge(&expected, &record.report);
    let broken = match record.end {
        End::PoweredOff => None,
        End::Broken(why) => Some(why),
    };
    for trouble in broken.into_iter().chain(record.crashes) {
        tally.count(false);
        failures.push(trouble);
    }
    for failure in &failures {
        println!("{}: FAILED {failure}", run.scenario);
    }
    println!("{}: {tally}; logs in {}", run.scenario, record.dir.display());
    Ok(tally)
}

fn expected_name(line: &str, backend: Backend) -> Option<&str> {
    let mut words = line.split('#').next()?.split_whitespace();
    let name = words.next()?;
    match words.next() {
        Some("ours") if backend != Backend::Ours => None,
        _ => Some(name),
    }
}

fn source(scenario: &str) -> Outcome<PathBuf> {
    let all = tools::lab_dir().join("scenarios");
    let dir = all.join(scenario);
    if dir.join("dom0.sh").is_file() {
        return Ok(dir);
    }
    let mut names: Vec<_> = fs::read_dir(&all)
        .map_err(at(&all))?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Err(format!("no scenario {scenario}; there are: {}", names.join(", ")))
}

/// Boots the scenario.
///
/// # Errors
///
/// When it cannot be booted at all.
pub fn boot(run: &Run<'_>, image: &Image, programs: &[PathBuf]) -> Outcome<Record> {
    let dir = tools::work_dir().join("runs").join(run.scenario);
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(at(&dir))?;
    }
    let share = dir.join("share");
    copy_files(&source(run.scenario)?, &share.join("scenario"))?;
    copy_files(&tools::lab_dir().join("lib"), &share.join("lib"))?;
    let mut variables = format!("BACKEND={}\n", run.backend);
    run.variables.iter().for_each(|variable| variables.extend([variable, "\n"]));
    let env = share.join("env");
    fs::write(&env, variables).map_err(at(&env))?;
    for program in programs {
        fs::copy(program, share.join(program.file_name().unwrap_or_default())).map_err(at(program))?;
    }
    let log = dir.join("console.log");
    println!("{}: booting, console in {}", run.scenario, log.display());
    let machine = Machine {
        name: run.scenario,
        image,
        share: &share,
        log: &log,
        limit: run.limit,
        clock: run.clock,
        reboots: run.reboots,
        devices: run.devices,
        pinned: run.pinned,
        plugin: run.plugin,
    };
    let (mut end, up) = machine.boot()?;
    // Emulated processors run code that the other one is changing: Linux 7.3 has died of it, and 6.1 stood still, before anything of ours
    // was there.
    if let End::Broken(why) = &end
        && !up
    {
        println!("{}: dom0 did not come up ({why}); once more", run.scenario);
        end = machine.boot()?.0;
    }
    // QEMU ends well even when somebody kills it, but says so.
    eprint!("{}", qemu::complaints(&log));
    collect(&share, dir, end, run.keep)
}

/// Takes what the machine left in its share.
fn collect(share: &Path, dir: PathBuf, end: End, keep: bool) -> Outcome<Record> {
    // A machine that died early has left none of these; the verdict then says what is missing.
    let report = fs::read_to_string(share.join("report")).unwrap_or_default();
    if share.join("logs").is_dir() {
        copy_files(&share.join("logs"), &dir)?;
    }
    let mut crashes = Vec::new();
    for entry in fs::read_dir(&dir).map_err(at(&dir))?.flatten() {
        let name = entry.file_name();
        // Functions are called after what they tell.
        if name.as_encoded_bytes().starts_with(b"symbols.") {
            continue;
        }
        let text = fs::read(entry.path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        crashes.extend(
            text.lines()
                .filter(|line| report::is_crash(line))
                .take(3)
                .map(|line| format!("{}: {line}", name.display())),
        );
    }
    if !keep {
        fs::remove_dir_all(share).map_err(at(share))?;
    }
    Ok(Record { dir, report, end, crashes })
}

/// Copies the plain files of a directory.
fn copy_files(from: &Path, to: &Path) -> Outcome<()> {
    fs::create_dir_all(to).map_err(at(to))?;
    for entry in fs::read_dir(from).map_err(at(from))?.flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).map_err(at(&entry.path()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn names_for_ours_only_are_not_asked_of_the_kernel() {
        assert_eq!(expected_name("reload ours # the kernel cannot", Backend::Ours), Some("reload"));
        assert_eq!(expected_name("reload ours", Backend::Kernel), None);
        assert_eq!(expected_name("verify", Backend::Kernel), Some("verify"));
        assert_eq!(expected_name("# a comment", Backend::Ours), None);
        assert_eq!(expected_name("", Backend::Ours), None);
    }

    #[test]
    fn every_test_has_its_scripts_and_its_list() {
        for scenario in Test::value_variants().iter().filter_map(|test| test.scenario()) {
            let dir = source(scenario).unwrap();
            let list = fs::read_to_string(dir.join("checks")).unwrap();
            assert!(
                list.lines().filter_map(|line| expected_name(line, Backend::Ours)).count() > 5,
                "{scenario}"
            );
        }
        assert!(source("no-such").unwrap_err().contains("disk"));
    }
}
