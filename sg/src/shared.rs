//! The reservations of a unit in a file that all servers of the host share.
//!
//! Each guest has a process of its own. What they must agree on is small and seldom changes, and each command looks at it, so it is a
//! file in memory (tmpfs) that is read without a lock:
//!
//! ```text
//! 0      generation: a number that grows with each change of the state
//! 1024   for each range of locks, the last generation that began to use it
//! 4096   the state of even generations: its length and JSON
//! 20480  the state of odd generations
//! ```
//!
//! A change writes the place of the next generation, then the number. Locks (fcntl(2), open file description locks, which the
//! kernel takes back when a process dies) say who is doing what; their ranges are far beyond the file's end:
//!
//! * one for whoever changes the state;
//! * one for each initiator that is there;
//! * one for each initiator that has commands under way which were looked at in a generation, in a range of the generation's own. A
//!   generation begins only with a range that is free, so those that are not are left out; there are more than a guest can keep busy.
//!
//! So whoever takes something away from others can wait until nothing is under way that the old rules let through: that is what makes
//! a guest that was preempted a guest that writes no more.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::reservations::{Initiator, Reservations};

/// Where each place for a state begins, and how long it is.
const PLACES: u64 = 4096;
const PLACE: u64 = 16384;
/// Where it is kept which generation began last to use each range.
const BEGUN: u64 = 1024;
/// Ranges of locks for generations: twice what a guest can have under way, for each has only those of every other generation to choose
/// from. It has 16 commands in its ring, and 48 that it has given up.
const GENERATIONS: u64 = 128;
const _: () = assert!(BEGUN + GENERATIONS * 8 <= PLACES);
/// The ranges behind them.
const PRESENT: u64 = GENERATIONS;
const CHANGE: u64 = GENERATIONS + 1;
/// Bits of a lock's offset within its range.
const RANGE_BITS: u32 = 55;
/// How often it is looked whether a lock is free.
const PAUSE: Duration = Duration::from_micros(200);
/// How long a change may wait for the changes of others before a guest has its unit, and when it gives it back.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The directories of the files, one file for each unit.
#[derive(Clone, Debug)]
pub struct Directories {
    /// What a reboot forgets.
    pub run: PathBuf,
    /// What it does not (APTPL).
    pub saved: PathBuf,
}

/// Why reservations cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// A file failed.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nonsense in a file.
    #[error("{} holds no state of reservations: {source}", path.display())]
    Broken {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Somebody else is slow.
    #[error("{} is being changed by another guest's server, or commands under way do not end", .0.display())]
    Slow(PathBuf),
    /// Too many initiators.
    #[error("{} has {} guests already, or their registrations", .0.display(), crate::reservations::MEMBERS)]
    Full(PathBuf),
}

/// One initiator's end of it.
#[derive(Debug)]
pub struct Shared {
    file: File,
    path: PathBuf,
    saved: PathBuf,
    who: Initiator,
}

impl Shared {
    /// Takes part in the reservations of the unit of this name. Who is there holds it; see [`second`](Self::second).
    ///
    /// # Errors
    ///
    /// [`SharedError`] names the file.
    pub fn join(directories: &Directories, unit: &str, who: Initiator) -> Result<Self, SharedError> {
        let path = directories.run.join(unit);
        make_directory(&directories.run)
            .map_err(|source| SharedError::File { path: directories.run.clone(), source })?;
        let shared = Self { file: Self::open(&path)?, path, saved: directories.saved.join(unit), who };
        let deadline = after(PATIENCE);
        shared.begin_change(deadline)?;
        let joined = shared.initialise().and_then(|()| {
            shared.apply(|state| {
                let gone: Vec<_> = state.guests().filter(|guest| !shared.is_present(*guest)).collect();
                // Ourselves too: what a server of ours before us had reserved is free.
                gone.into_iter().chain([who]).for_each(|guest| state.leaves(guest));
                state.arrives(who)
            })
        });
        shared.end_change();
        if !joined?.value {
            return Err(SharedError::Full(shared.path));
        }
        shared.hold(PRESENT, true).map_err(|source| shared.failed(source))?;
        Ok(shared)
    }

    /// The same for another thread, with locks of its own.
    ///
    /// # Errors
    ///
    /// [`SharedError::File`].
    pub fn second(&self) -> Result<Self, SharedError> {
        let (path, saved) = (self.path.clone(), self.saved.clone());
        Ok(Self { file: Self::open(&path)?, path, saved, who: self.who })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose end it is.
    #[must_use]
    pub fn who(&self) -> Initiator {
        self.who
    }

    /// Gives the place among the others back.
    ///
    /// # Errors
    ///
    /// [`SharedError`].
    pub fn leave(&self) -> Result<(), SharedError> {
        self.change(after(PATIENCE), |state| state.leaves(self.who)).map(|_| ())
    }

    fn open(path: &Path) -> Result<File, SharedError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(path).map_err(|source| SharedError::File { path: path.to_owned(), source })
    }

    fn failed(&self, source: io::Error) -> SharedError {
        SharedError::File { path: self.path.clone(), source }
    }

    /// A new file gets all the room that it will ever need, and what was saved.
    fn initialise(&self) -> Result<(), SharedError> {
        let whole = PLACES.saturating_add(PLACE.saturating_mul(2));
        let len = self.file.metadata().map_err(|source| self.failed(source))?.len();
        // The number comes last: without it, whoever began this has died.
        if len >= whole && self.generation()? != 0 {
            return Ok(());
        }
        let state = self.load_saved()?;
        self.file
            .write_all_at(&vec![0; usize::try_from(whole).unwrap_or(0)], 0)
            .map_err(|source| self.failed(source))?;
        self.write(1, &state)
    }

    fn load_saved(&self) -> Result<Reservations, SharedError> {
        match fs::read(&self.saved) {
            Ok(text) => {
                let state: Reservations = serde_json::from_slice(&text)
                    .map_err(|source| SharedError::Broken { path: self.saved.clone(), source })?;
                Ok(state.after_power_loss())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Reservations::default()),
            Err(source) => Err(SharedError::File { path: self.saved.clone(), source }),
        }
    }

    /// How often the state has changed.
    ///
    /// # Errors
    ///
    /// [`SharedError::File`].
    pub fn generation(&self) -> Result<u64, SharedError> {
        self.number(0)
    }

    fn number(&self, at: u64) -> Result<u64, SharedError> {
        let mut number = [0; 8];
        self.file.read_exact_at(&mut number, at).map_err(|source| self.failed(source))?;
        Ok(u64::from_le_bytes(number))
    }

    /// The state, and its generation.
    ///
    /// # Errors
    ///
    /// [`SharedError`].
    pub fn read(&self) -> Result<(u64, Reservations), SharedError> {
        loop {
            let generation = self.generation()?;
            let state = self.read_place(generation);
            // The place is written anew only two generations later.
            if self.generation()? == generation {
                return Ok((generation, state?));
            }
        }
    }

    fn read_place(&self, generation: u64) -> Result<Reservations, SharedError> {
        let mut place = vec![0; usize::try_from(PLACE).unwrap_or(0)];
        self.file.read_exact_at(&mut place, place_of(generation)).map_err(|source| self.failed(source))?;
        let text = place
            .split_first_chunk()
            .and_then(|(length, rest)| rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?));
        serde_json::from_slice(text.unwrap_or(&[]))
            .map_err(|source| SharedError::Broken { path: self.path.clone(), source })
    }

    fn write(&self, generation: u64, state: &Reservations) -> Result<(), SharedError> {
        let text = to_json(state);
        let Ok(length) = u32::try_from(text.len()) else { unreachable!("a state of {} bytes", text.len()) };
        let place: Vec<u8> = length.to_le_bytes().into_iter().chain(text).collect();
        assert!(place.len() as u64 <= PLACE, "a state of {length} bytes");
        let written = self.file.write_all_at(&place, place_of(generation));
        let written =
            written.and_then(|()| self.file.write_all_at(&generation.to_le_bytes(), begun(generation)));
        let written = written.and_then(|()| self.file.write_all_at(&generation.to_le_bytes(), 0));
        written.map_err(|source| self.failed(source))
    }

    /// Changes the state, alone. What is to outlast a loss of power is on stable storage before anybody sees it.
    ///
    /// # Errors
    ///
    /// [`SharedError`]; nothing has changed then.
    pub fn change<T>(
        &self,
        deadline: Instant,
        f: impl FnOnce(&mut Reservations) -> T,
    ) -> Result<Changed<T>, SharedError> {
        self.begin_change(deadline)?;
        let changed = self.apply(f);
        self.end_change();
        changed
    }

    fn begin_change(&self, deadline: Instant) -> Result<(), SharedError> {
        loop {
            match self.set_lock(libc::F_WRLCK, offset(CHANGE, 0), 1) {
                Ok(()) => return Ok(()),
                Err(Errno::EAGAIN | Errno::EACCES) if Instant::now() < deadline => thread::sleep(PAUSE),
                Err(Errno::EAGAIN | Errno::EACCES) => return Err(SharedError::Slow(self.path.clone())),
                Err(errno) => return Err(self.failed(errno.into())),
            }
        }
    }

    fn end_change(&self) {
        let unlocked = self.set_lock(libc::F_UNLCK, offset(CHANGE, 0), 1);
        assert!(unlocked.is_ok(), "unlocking {}: {unlocked:?}", self.path.display());
    }

    fn apply<T>(&self, f: impl FnOnce(&mut Reservations) -> T) -> Result<Changed<T>, SharedError> {
        let (generation, before) = self.read()?;
        let mut state = before.clone();
        if let Some(holder) =
            state.reserved().filter(|holder| *holder != self.who && !self.is_present(*holder))
        {
            // Its server died without a word.
            state.leaves(holder);
        }
        let value = f(&mut state);
        if state == before {
            return Ok(Changed { value, before: Before::default() });
        }
        // An odd step further: the other place for a state.
        let next =
            (0..GENERATIONS / 2).map(|n| generation.saturating_add(1).saturating_add(n.saturating_mul(2)));
        let next = self.first_free(next)?.ok_or_else(|| SharedError::Slow(self.path.clone()))?;
        if before.persists() || state.persists() {
            self.save(&state).map_err(|source| SharedError::File { path: self.saved.clone(), source })?;
        }
        self.write(next, &state)?;
        Ok(Changed { value, before: self.before(next)? })
    }

    fn first_free(&self, mut generations: impl Iterator<Item = u64>) -> Result<Option<u64>, SharedError> {
        generations
            .find_map(|generation| {
                self.is_free(generation).map(|free| free.then_some(generation)).transpose()
            })
            .transpose()
    }

    /// What is under way when a generation begins; nobody else changes anything meanwhile.
    fn before(&self, generation: u64) -> Result<Before, SharedError> {
        let own = generation % GENERATIONS;
        let busy =
            (0..GENERATIONS).filter(|range| *range != own).map(|range| Ok((range, self.is_free(range)?)));
        let busy: Result<Vec<(u64, bool)>, SharedError> = busy.collect();
        let ranges = busy?.into_iter().filter(|(_, free)| !free).map(|(range, _)| range).collect();
        Ok(Before { generation, ranges })
    }

    /// In a file beside, which takes the old one's place when it is whole.
    fn save(&self, state: &Reservations) -> io::Result<()> {
        if !state.persists() {
            return match fs::remove_file(&self.saved) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => sync_directory(&self.saved),
            };
        }
        self.saved.parent().map_or(Ok(()), make_directory)?;
        // Not an extension: names have dots in them.
        let mut new = self.saved.clone().into_os_string();
        new.push(".new");
        let new = PathBuf::from(new);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&to_json(state))?;
        file.sync_all()?;
        fs::rename(&new, &self.saved)?;
        sync_directory(&self.saved)
    }

    /// Waits until no command is under way that was looked at before a change.
    ///
    /// # Errors
    ///
    /// [`SharedError::Slow`] when some still are.
    pub fn drain(&self, before: Before, deadline: Instant) -> Result<(), SharedError> {
        let Before { generation, mut ranges } = before;
        loop {
            let mut busy = Vec::with_capacity(ranges.len());
            for range in ranges {
                // A later generation would not use it if it had not been free.
                if !self.is_free(range)? && self.number(begun(range))? <= generation {
                    busy.push(range);
                }
            }
            if busy.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(SharedError::Slow(self.path.clone()));
            }
            ranges = busy;
            thread::sleep(PAUSE);
        }
    }

    /// Says that this initiator has commands under way that were looked at in this generation, or none any more.
    ///
    /// # Errors
    ///
    /// [`SharedError::File`] when the kernel has no room for a lock.
    pub fn mark(&self, generation: u64, under_way: bool) -> Result<(), SharedError> {
        self.hold(generation % GENERATIONS, under_way).map_err(|source| self.failed(source))
    }

    /// Holds this initiator's lock of a range, or lets go of it.
    fn hold(&self, range: u64, held: bool) -> io::Result<()> {
        let kind = if held { libc::F_RDLCK } else { libc::F_UNLCK };
        Ok(self.set_lock(kind, offset(range, self.who.address()), 1)?)
    }

    fn set_lock(&self, kind: libc::c_int, start: i64, len: i64) -> Result<(), Errno> {
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&flock(kind, start, len))).map(|_| ())
    }

    /// Whether nobody has commands under way of this generation, or of one with the same range.
    fn is_free(&self, generation: u64) -> Result<bool, SharedError> {
        self.nobody_holds(offset(generation % GENERATIONS, 0), 1 << RANGE_BITS)
            .map_err(|source| self.failed(source))
    }

    fn is_present(&self, who: Initiator) -> bool {
        // When the kernel does not say, it is.
        !self.nobody_holds(offset(PRESENT, who.address()), 1).unwrap_or(false)
    }

    /// Whether no other open file has a lock there.
    fn nobody_holds(&self, start: i64, len: i64) -> io::Result<bool> {
        let mut found = flock(libc::F_WRLCK, start, len);
        fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut found))?;
        Ok(libc::c_int::from(found.l_type) == libc::F_UNLCK)
    }
}

/// A change that was made, if there was anything to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed<T> {
    /// What came of it.
    pub value: T,
    /// What was under way when it was made.
    pub before: Before,
}

/// Commands that were under way when a generation began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before {
    generation: u64,
    /// The ranges of locks that were not free.
    ranges: Vec<u64>,
}

fn to_json(state: &Reservations) -> Vec<u8> {
    let Ok(text) = serde_json::to_vec(state) else { unreachable!("numbers and names only") };
    text
}

fn make_directory(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn sync_directory(of: &Path) -> io::Result<()> {
    of.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

fn place_of(generation: u64) -> u64 {
    PLACES.saturating_add(PLACE.saturating_mul(generation % 2))
}

fn begun(generation: u64) -> u64 {
    BEGUN.saturating_add((generation % GENERATIONS).saturating_mul(8))
}

/// Where in its range a lock is: the low bits of the initiator's address are those of a hash.
fn offset(range: u64, within: u64) -> i64 {
    let within = within & ((1 << RANGE_BITS) - 1);
    let Ok(offset) = i64::try_from((range << RANGE_BITS) | within) else { unreachable!("range {range}") };
    offset
}

pub(crate) fn flock(kind: libc::c_int, start: i64, len: i64) -> libc::flock {
    let (Ok(l_type), Ok(l_whence)) = (i16::try_from(kind), i16::try_from(libc::SEEK_SET)) else {
        unreachable!("lock types are small")
    };
    libc::flock { l_type, l_whence, l_start: start, l_len: len, l_pid: 0 }
}

pub(crate) fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}

#[cfg(test)]
pub(crate) mod tests;
