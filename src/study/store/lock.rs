//! The lock on a run's folder: one process at a time carries a run out, also between machines that share the folder.
//!
//! The lock is a file made by exclusive creation, so that it holds on network file systems. It names its host, process
//! and the process's start, and its owner rewrites it every few seconds. A lock whose process is gone on this host is
//! taken over at once; whether a process of another host is gone cannot be seen, so its lock is waited for until it
//! has not been rewritten for [`STALE_AFTER`], by the file system's own clock.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use fs4::{FileExt, TryLockError};
use serde::{Deserialize, Serialize};

use super::SCHEMA_VERSION;
use crate::error::{Error, IoContext, Result};
use crate::{atomic, files};

/// How often the owner of a lock rewrites it.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a lock of another host stands without having been rewritten.
pub const STALE_AFTER: Duration = Duration::from_secs(120);

/// How long the few steps of taking a lock may last in another process; one that was stopped in the midst of them would
/// be waited for without end.
const GUARD_WAIT: Duration = Duration::from_secs(60);

static LOCKS_MADE: AtomicU64 = AtomicU64::new(0);

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The version of this file's form.
    pub schema_version: u32,
    /// The machine's name.
    pub host: String,
    /// This boot of the machine and this space of process numbers; empty where the system does not tell.
    pub boot: String,
    /// The process.
    pub pid: u32,
    /// When the process started, in the system's own units; with the number it tells one process from all others.
    pub start: u64,
    /// Tells this lock from the process's others.
    pub token: String,
}

/// What an attempt to lock came to.
#[derive(Debug)]
pub enum Attempt {
    /// The folder is ours until the lock is dropped.
    Locked(Lock),
    /// A process that lives, or may live, holds it.
    Held(Holder),
}

/// A lock that is held. Dropping it releases the folder.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    holder: Holder,
    lost: Arc<AtomicBool>,
    heart: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Lock {
    /// Tries to lock the run whose lock file is `path`; the folder must exist.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be written to.
    pub fn try_acquire(path: &Path) -> Result<Attempt> {
        Lock::try_acquire_as(path, Holder::this_process(), STALE_AFTER)
    }

    fn try_acquire_as(path: &Path, holder: Holder, stale_after: Duration) -> Result<Attempt> {
        // Looking at a lock and removing it must be one act: otherwise two processes that both saw a dead owner could
        // each remove a lock, the second one the first one's new lock.
        let _guard = Guard::enter(&path.with_file_name(".lock.guard"))?;
        loop {
            if create(path, &holder)? {
                let lost = Arc::new(AtomicBool::new(false));
                let heart = Some(beat(path.to_owned(), holder.clone(), Arc::clone(&lost))?);
                return Ok(Attempt::Locked(Lock { path: path.to_owned(), holder, lost, heart }));
            }
            let owner = match read(path)? {
                Some(owner) if owner.may_live(path, &holder, stale_after)? => {
                    bring_back_from_the_future(path);
                    return Ok(Attempt::Held(owner));
                }
                owner => owner,
            };
            if let Some(owner) = owner {
                tracing::info!(
                    "{}: process {} on {} is gone; its lock is taken over",
                    path.display(),
                    owner.pid,
                    owner.host
                );
            }
            atomic::remove(path)?;
        }
    }

    /// Whether another process has taken this lock over, because this one did not rewrite it for too long (a machine
    /// that slept, a file system that did not answer). What is held is then no longer ours to write to.
    pub fn is_lost(&self) -> bool {
        // A process that was stopped for a while goes on before its heartbeat has looked.
        let taken = || matches!(read(&self.path), Ok(owner) if owner.as_ref() != Some(&self.holder));
        self.lost.load(Ordering::Relaxed) || taken()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.heart.take() {
            drop(stop);
            if thread.join().is_err() {
                tracing::warn!("{}: the heartbeat ended early", self.path.display());
            }
        }
        // A lock that cannot be removed is taken over once this process is gone.
        if matches!(read(&self.path), Ok(Some(owner)) if owner == self.holder)
            && let Err(error) = atomic::remove(&self.path)
        {
            tracing::warn!("{error}");
        }
    }
}

impl Holder {
    fn this_process() -> Self {
        let pid = std::process::id();
        let start = process_start(pid).unwrap_or(0);
        let host = sysinfo::System::host_name().unwrap_or_else(|_| "unknown".to_owned());
        let count = LOCKS_MADE.fetch_add(1, Ordering::Relaxed);
        let token = format!("{pid}-{start}-{count}");
        Holder { schema_version: SCHEMA_VERSION, host, boot: boot(), pid, start, token }
    }

    /// Whether the holder may still be at work, seen from the process `me`.
    fn may_live(&self, path: &Path, me: &Holder, stale_after: Duration) -> Result<bool> {
        if self.host == me.host && self.boot == me.boot {
            return Ok(process_start(self.pid).is_some_and(|start| start == self.start));
        }
        let same_machine_before_a_reboot = self.host == me.host
            && kernel(&self.boot) != kernel(&me.boot)
            && !self.boot.is_empty()
            && !me.boot.is_empty();
        Ok(!same_machine_before_a_reboot && age(path)? < stale_after)
    }
}

/// Exclusive entry to the few steps of taking a lock, released by the system when a process dies.
struct Guard(#[expect(dead_code, reason = "held open for its lock")] File);

impl Guard {
    fn enter(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            // A named pipe in its place is an error and not waited for.
            options.custom_flags(libc::O_NONBLOCK);
        }
        let file = options.open(path).at("locking", path)?;
        let began = Instant::now();
        loop {
            let error = match FileExt::try_lock(&file) {
                Ok(()) => return Ok(Guard(file)),
                Err(TryLockError::WouldBlock) if began.elapsed() < GUARD_WAIT => {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                Err(TryLockError::WouldBlock) => ErrorKind::TimedOut.into(),
                Err(TryLockError::Error(error)) => error,
            };
            // Some network file systems have no such locks; exclusive creation still keeps two owners apart there.
            return match error.kind() == ErrorKind::Unsupported || error.raw_os_error() == Some(libc::ENOLCK) {
                true => Ok(Guard(file)),
                false => Err(Error::io("locking", path, error)),
            };
        }
    }
}

/// Makes the lock file with its whole content, unless there is one: a hard link either exists or does not.
fn create(path: &Path, holder: &Holder) -> Result<bool> {
    let beside = path.with_extension(format!("{}.tmp", holder.token));
    fs::write(&beside, content(holder)?).at("locking", path)?;
    let linked = match fs::hard_link(&beside, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        // A file system without hard links: exclusive creation, whose content comes an instant later.
        Err(_) => match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(mut file) => file.write_all(&content(holder)?).at("locking", path).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Error::io("locking", path, error)),
        },
    };
    atomic::remove(&beside)?;
    linked
}

/// The owner; nothing where the file is gone or cannot be understood.
fn read(path: &Path) -> Result<Option<Holder>> {
    match files::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::io("reading", path, error)),
    }
}

/// The live process that holds the lock at `path`, if any, without taking it.
pub fn holder(path: &Path) -> Result<Option<Holder>> {
    let Some(owner) = read(path)? else { return Ok(None) };
    Ok(owner.may_live(path, &Holder::this_process(), STALE_AFTER)?.then_some(owner))
}

fn content(holder: &Holder) -> Result<Vec<u8>> {
    serde_json::to_vec(holder).map_err(|error| Error::Environment(format!("a lock cannot be written: {error}")))
}

/// Rewrites the lock until the sender is dropped, and notices when it has become another's.
fn beat(path: PathBuf, holder: Holder, lost: Arc<AtomicBool>) -> Result<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = channel::<()>();
    let bytes = content(&holder)?;
    let thread = std::thread::Builder::new().name("heartbeat".to_owned()).spawn({
        let path = path.clone();
        move || {
            while stopped.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
                match read(&path) {
                    Ok(Some(owner)) if owner == holder => {
                        // The same bytes in the same place: a reader never sees another content, the file's time moves.
                        let rewritten =
                            OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(&bytes));
                        if let Err(error) = rewritten {
                            tracing::warn!("{}: rewriting the lock failed: {error}", path.display());
                        }
                    }
                    Ok(_) => lost.store(true, Ordering::Relaxed),
                    Err(error) => tracing::warn!("{error}"),
                }
            }
        }
    });
    Ok((stop, thread.at("starting the heartbeat of", &path)?))
}

/// Gives a lock that was written in the future, because a clock has gone back since, the present time: one whose owner
/// lives will be rewritten anyway, and the others become old as they should.
fn bring_back_from_the_future(path: &Path) {
    let Ok(now) = now_in(path) else { return };
    if fs::metadata(path).and_then(|metadata| metadata.modified()).is_ok_and(|written| written > now + HEARTBEAT)
        && let Err(error) = OpenOptions::new().write(true).open(path).and_then(|file| file.set_modified(now))
    {
        tracing::debug!("{}: {error}", path.display());
    }
}

/// How long ago the file was written, both ends by the clock of the file system that holds it.
fn age(path: &Path) -> Result<Duration> {
    let written = match fs::metadata(path).and_then(|metadata| metadata.modified()) {
        Ok(written) => written,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Duration::MAX),
        Err(error) => return Err(Error::io("reading", path, error)),
    };
    let now = now_in(path).unwrap_or_else(|_| SystemTime::now());
    Ok(now.duration_since(written).unwrap_or_default())
}

/// The present time by the clock of the file system that holds the file.
fn now_in(path: &Path) -> std::io::Result<SystemTime> {
    let folder = path.parent().unwrap_or(Path::new("."));
    tempfile::tempfile_in(folder)
        .and_then(|mut probe| probe.write_all(b"now").and_then(|()| probe.metadata()?.modified()))
}

/// When a process started, in clock ticks since the machine's boot; nothing where it is gone or only its exit code is
/// left to be fetched.
#[cfg(target_os = "linux")]
fn process_start(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may itself hold blanks and parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// When a process started, in seconds; nothing where it is gone.
#[cfg(not(target_os = "linux"))]
fn process_start(pid: u32) -> Option<u64> {
    let pid = sysinfo::Pid::from_u32(pid);
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_processes(sysinfo::ProcessesToUpdate::Some(&[pid]), true);
    system.process(pid).map(sysinfo::Process::start_time)
}

/// This boot of the kernel and this space of process numbers, which containers of one name may have of their own.
fn boot() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned()).unwrap_or_default();
    if boot.is_empty() { String::new() } else { format!("{} {space}", boot.trim()) }
}

fn kernel(boot: &str) -> &str {
    boot.split(' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock.json");
        (folder, path)
    }

    fn write(path: &Path, holder: &Holder) {
        fs::write(path, content(holder).unwrap()).unwrap();
    }

    fn locked(attempt: Attempt) -> Option<Lock> {
        match attempt {
            Attempt::Locked(lock) => Some(lock),
            Attempt::Held(_) => None,
        }
    }

    #[test]
    fn one_process_at_a_time_and_dropping_releases() {
        let (_folder, path) = path();
        let lock = locked(Lock::try_acquire(&path).unwrap()).unwrap();
        assert!(locked(Lock::try_acquire(&path).unwrap()).is_none());
        assert_eq!(holder(&path).unwrap().unwrap().pid, std::process::id());
        drop(lock);
        assert!(!path.exists());
        assert!(locked(Lock::try_acquire(&path).unwrap()).is_some());
    }

    #[test]
    fn a_process_that_is_gone_is_taken_over_at_once() {
        let (_folder, path) = path();
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let start = process_start(child.id()).unwrap();
        let owner = Holder { pid: child.id(), start, ..Holder::this_process() };
        write(&path, &owner);
        assert!(locked(Lock::try_acquire(&path).unwrap()).is_none());
        child.kill().unwrap();
        // The child is not yet waited for: a zombie holds no lock.
        while process_start(child.id()).is_some() {
            std::thread::yield_now();
        }
        assert!(locked(Lock::try_acquire(&path).unwrap()).is_some());
        child.wait().unwrap();
    }

    #[test]
    fn a_reused_process_number_is_not_the_owner() {
        let (_folder, path) = path();
        let me = Holder::this_process();
        write(&path, &Holder { start: me.start + 1, ..me });
        assert!(locked(Lock::try_acquire(&path).unwrap()).is_some());
    }

    #[test]
    fn another_host_is_waited_for_until_its_heart_has_stopped() {
        let (_folder, path) = path();
        let me = Holder::this_process();
        let owner = Holder { host: format!("not-{}", me.host), boot: "another".to_owned(), ..me.clone() };
        write(&path, &owner);
        assert!(locked(Lock::try_acquire(&path).unwrap()).is_none());
        let old = SystemTime::now() - STALE_AFTER - Duration::from_secs(5);
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        assert!(locked(Lock::try_acquire(&path).unwrap()).is_some());
    }

    #[test]
    fn a_clock_that_went_back_does_not_keep_a_dead_owner() {
        let (_folder, path) = path();
        let me = Holder::this_process();
        write(&path, &Holder { host: format!("not-{}", me.host), boot: "another".to_owned(), ..me });
        let future = SystemTime::now() + Duration::from_secs(3600);
        File::options().write(true).open(&path).unwrap().set_modified(future).unwrap();
        let attempt =
            || locked(Lock::try_acquire_as(&path, Holder::this_process(), Duration::from_millis(200)).unwrap());
        assert!(attempt().is_none(), "the owner may live and be about to rewrite it");
        std::thread::sleep(Duration::from_millis(300));
        assert!(attempt().is_some());
    }

    #[test]
    fn a_lock_taken_over_is_noticed_at_once() {
        let (_folder, path) = path();
        let lock = locked(Lock::try_acquire(&path).unwrap()).unwrap();
        assert!(!lock.is_lost());
        write(&path, &Holder { host: "another".to_owned(), ..Holder::this_process() });
        assert!(lock.is_lost());
        drop(lock);
        assert!(path.exists(), "the lock of another must stay");
    }

    #[test]
    fn a_reboot_of_this_machine_ends_every_lock() {
        let (_folder, path) = path();
        let me = Holder::this_process();
        write(&path, &Holder { boot: "00000000-0000-0000-0000-000000000000 pid:[1]".to_owned(), ..me });
        assert!(locked(Lock::try_acquire(&path).unwrap()).is_some());
    }

    #[test]
    fn a_lock_that_cannot_be_understood_is_replaced() {
        let (_folder, path) = path();
        fs::write(&path, "{").unwrap();
        assert!(locked(Lock::try_acquire(&path).unwrap()).is_some());
    }

    #[test]
    fn of_many_that_see_a_dead_owner_one_wins() {
        let (_folder, path) = path();
        for _ in 0..20 {
            let me = Holder::this_process();
            write(&path, &Holder { start: me.start + 1, ..me });
            let attempts: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> =
                    (0..8).map(|_| scope.spawn(|| locked(Lock::try_acquire(&path).unwrap()))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(attempts.iter().flatten().count(), 1);
            drop(attempts);
        }
    }
}
