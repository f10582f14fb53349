//! One boot of Xen in QEMU's software emulation.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::image::Image;
use crate::report;
use crate::tools::{self, Outcome, at};

/// All that TCG can emulate, but no XSAVE and so no AVX. With them, on QEMU 7.2, programs in a busy guest and in dom0 were seen to
/// crash at random, with the kernel's backend as with ours; without them never. Which part of it is at fault is not known.
const CPU: &str = "max,-xsave";

/// What a machine takes of this one's memory: its own (`-m`), and QEMU's caches, generously.
pub const MEMORY_KIB: usize = 8 << 20;

/// How long dom0 may take to come up, of the time that a machine has.
const UP: Duration = Duration::from_secs(300);
/// The console's log is cut here; a machine that writes more is ill.
const LOG_LIMIT: u64 = 16 << 20;
/// How often a waiting user hears that we are alive.
const PROGRESS: Duration = Duration::from_secs(15);
/// What a crashing machine may still say, so that its backtrace is in the log.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How time passes in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// As on the wall; each virtual CPU has a thread.
    Wall,
    /// An instruction of the machine takes one nanosecond, whatever this machine does meanwhile.
    Instructions,
}

/// The machine to boot.
pub struct Machine<'a> {
    /// For progress lines.
    pub name: &'a str,
    /// What it boots.
    pub image: &'a Image,
    /// The directory that dom0 finds at `/mnt`; `dom0.sh` of its `lib` starts everything.
    pub share: &'a Path,
    /// The console goes here.
    pub log: &'a Path,
    /// After this time it is killed.
    pub limit: Duration,
    /// How its time passes.
    pub clock: Clock,
    /// Whether dom0 may reboot it, to be told from a crash by its own last words only.
    pub reboots: bool,
    /// Whether it has SCSI devices of QEMU's: a disk and a CD drive behind virtio, an ATA disk, and a USB disk.
    pub devices: bool,
    /// Dom0 and the guests have a core each, and nobody schedules: steady figures.
    pub pinned: bool,
    /// A plugin of QEMU's, with its arguments.
    pub plugin: Option<&'a str>,
}

/// How a boot ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Dom0 powered the machine off.
    PoweredOff,
    /// Killed, or QEMU gave up; with the reason.
    Broken(String),
}

impl Machine<'_> {
    /// Boots, shows the lab's lines as they come, and waits for the end. The second value: whether dom0's userland came up at all.
    ///
    /// # Errors
    ///
    /// When QEMU cannot be started or the log cannot be written.
    pub fn boot(&self) -> Outcome<(End, bool)> {
        let mut log = File::create(self.log).map_err(at(self.log))?;
        let start = Instant::now();
        let mut qemu = self.start()?;
        let lines = qemu.stdout.take().map(lines_of).ok_or("QEMU has no output")?;
        let mut last = None;
        let end = self.watch(&lines, &mut log, start, &mut last);
        if !matches!(end, Ok(None)) {
            // It may have gone meanwhile, which is as good.
            let _ = qemu.kill();
        }
        let status = qemu.wait().map_err(|e| format!("QEMU: {e}"))?;
        let end = match end? {
            None if status.success() => End::PoweredOff,
            None => End::Broken(format!("QEMU ended with {status}")),
            Some(why) => End::Broken(why),
        };
        Ok((end, last.is_some()))
    }

    /// Reads the console until QEMU closes it (`None`) or there is a reason to stop. `last`: the lab's last line.
    fn watch(
        &self,
        lines: &Receiver<Vec<u8>>,
        log: &mut File,
        start: Instant,
        last: &mut Option<String>,
    ) -> Outcome<Option<String>> {
        let (mut told, mut size) = (start, 0);
        let said = |last: &Option<String>| last.clone().unwrap_or_else(|| "booting".into());
        let mut stop: Option<(Instant, String)> = None;
        loop {
            let now = Instant::now();
            let limit = if last.is_some() { self.limit } else { self.limit.min(UP) };
            match &stop {
                Some((when, why)) if now >= *when => return Ok(Some(why.clone())),
                None if now.duration_since(start) >= limit => {
                    return Ok(Some(format!("not done after {} s; last: {}", limit.as_secs(), said(last))));
                }
                _ => {}
            }
            if now.duration_since(told) >= PROGRESS {
                told = now;
                println!("{}: {} s, last: {}", self.name, now.duration_since(start).as_secs(), said(last));
            }
            let bytes = match lines.recv_timeout(Duration::from_millis(500)) {
                Ok(bytes) => bytes,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(stop.map(|(_, why)| why)),
            };
            size += bytes.len() as u64;
            if size > LOG_LIMIT {
                return Ok(Some(format!("the console said more than {} MiB", LOG_LIMIT >> 20)));
            }
            log.write_all(&bytes).map_err(at(self.log))?;
            let line = String::from_utf8_lossy(&bytes);
            let line = line.trim_end();
            if let Some(text) = report::lab_line(line) {
                println!("{}: {text}", self.name);
                *last = Some(text.to_owned());
                told = now;
            } else if report::is_crash(line) && stop.is_none() {
                stop = Some((now + LAST_WORDS, format!("crashed: {line}")));
            }
        }
    }

    fn start(&self) -> Outcome<Child> {
        let image = |name: &str| self.image.dir().join(name).display().to_string();
        let (accel, cpus) = match self.clock {
            Clock::Wall => (&["-accel", "tcg,thread=multi,tb-size=1024"][..], 2),
            Clock::Instructions => (
                &["-accel", "tcg,thread=single,tb-size=1024", "-icount", "shift=0,sleep=off,align=off"][..],
                1,
            ),
        };
        let dom0_cpus = if self.pinned { 1 } else { cpus };
        let scheduler = if self.pinned && cpus > 1 { "sched=null" } else { "" };
        // smap, smep, pku: a PV dom0 dies at its first page fault with them under TCG. noreboot: a crash stays visible.
        let (noreboot, no_reboot) = if self.reboots { ("", None) } else { ("noreboot", Some("-no-reboot")) };
        let xen = format!(
            "console=com1 com1=115200,8n1 loglvl=warning guest_loglvl=none {noreboot} smap=0 smep=0 pku=0 \
             dom0_mem=2560M,max:2560M dom0_max_vcpus={dom0_cpus} {scheduler}"
        );
        // loglevel=2: only what is as bad as a crash. The detectors of stalls and lockups misfire when this machine is busy.
        let dom0 = "root=/dev/vda ro console=hvc0 panic=-1 loglevel=2 rcupdate.rcu_cpu_stall_suppress=1 watchdog_thresh=60";
        let plugin = self.plugin.map(|plugin| ["-plugin", plugin]);
        let devices = if self.devices { self.devices()? } else { Vec::new() };
        tools::mortal("qemu-system-x86_64")
            .args(accel)
            .args(["-smp", &cpus.to_string(), "-cpu", CPU, "-m", "6G", "-nodefaults"])
            .args(no_reboot)
            .args(plugin.iter().flatten())
            .args(["-display", "none", "-serial", "stdio", "-kernel", &image("xen"), "-append", &xen])
            .args(["-initrd", &format!("{} {dom0},{}", image("vmlinuz"), image("initrd.gz"))])
            .args(["-drive", &format!("file={},format=raw,if=virtio,snapshot=on", image("dom0.img"))])
            .args([
                "-virtfs",
                &format!("local,path={},mount_tag=lab,security_model=none", self.share.display()),
            ])
            .args(devices)
            .stdout(Stdio::piped())
            .stderr(File::create(self.log.with_extension("qemu")).map_err(at(self.log))?)
            .spawn()
            .map_err(|e| format!("QEMU: {e}"))
    }

    /// The devices, with new disks in the share: they go with it, and nobody takes them for logs.
    fn devices(&self) -> Outcome<Vec<String>> {
        let mut arguments = Vec::new();
        let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
        let drive = |id: &str, file: &Path, more: &str| {
            format!("if=none,id={id},format=raw,file={}{more}", file.display())
        };
        for id in ["hd", "ata", "usb"] {
            let file = self.share.join(format!("{id}.img"));
            File::create(&file).and_then(|disk| disk.set_len(64 << 20)).map_err(at(&file))?;
            add("-drive", drive(id, &file, ""));
        }
        add("-drive", drive("cd", &self.image.dir().join("disc.iso"), ",readonly=on,media=cdrom"));
        for device in [
            "virtio-scsi-pci,id=virtio",
            "scsi-hd,bus=virtio.0,drive=hd,serial=lab-hd,wwn=0x5000c500a0b1c2d3",
            "scsi-cd,bus=virtio.0,drive=cd",
            "ich9-ahci,id=ahci",
            "ide-hd,bus=ahci.0,drive=ata,serial=lab-ata",
            // High speed: 120 KiB in a command.
            "usb-ehci,id=ehci",
            "usb-storage,bus=ehci.0,drive=usb,serial=lab-usb",
        ] {
            add("-device", device.to_owned());
        }
        Ok(arguments)
    }
}

/// The lines of the console, read by a thread of their own so that the reader can look at the clock.
fn lines_of(console: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::sync_channel(1024);
    thread::spawn(move || {
        let mut console = BufReader::new(console);
        loop {
            let mut line = Vec::new();
            // A line is cut, so that a console without line ends is bounded too.
            match console.by_ref().take(64 << 10).read_until(b'\n', &mut line) {
                Ok(1..) if sender.send(line).is_ok() => {}
                _ => return,
            }
        }
    });
    receiver
}

/// What QEMU itself complained about, for the user.
pub fn complaints(log: &Path) -> String {
    fs::read_to_string(log.with_extension("qemu")).unwrap_or_default()
}
