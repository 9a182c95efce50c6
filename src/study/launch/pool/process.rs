//! A worker's process, seen from its parent.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::super::super::event::RunEvent;
use super::super::super::store::Cause;
use super::super::Local;
use crate::error::{Error, Result, lacks_memory};
use crate::study::settings::RunTask;

/// What a worker sends.
pub(super) enum Message {
    /// Something happened to its run.
    Event(RunEvent),
    /// A line of its log.
    Log(String),
    /// Its output has ended: it is gone.
    Closed,
}

/// A running worker. Dropping it kills it.
pub(super) struct Worker {
    /// Which of all the workers that there were.
    pub number: usize,
    /// The run it carries out.
    pub run: Option<usize>,
    /// Whether somebody has stopped it: it ends by itself and takes no further run.
    pub leaving: bool,
    child: Child,
    tasks: Option<ChildStdin>,
    /// Tells of lines of its log that say that it got no memory; closed once the log has been read to its end.
    refusals: Option<Receiver<()>>,
}

/// How a worker ended.
pub(super) struct Lost {
    status: Option<ExitStatus>,
    /// Whether it said that it got no memory.
    no_memory: bool,
}

/// How long a worker that is gone may leave its log open: what it started itself may hold it.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Worker {
    /// Starts a worker that sends its messages with its number.
    pub fn start(local: &Local, number: usize, sender: &Sender<(usize, Message)>) -> Result<Self> {
        let mut command = Command::new(&local.program);
        command
            .args(&local.arguments)
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        tie_to_parent(&mut command);
        let fail = |error| Error::io("starting a worker", &local.program, error);
        let mut child = command.spawn().map_err(fail)?;
        let (tasks, out, log) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut worker = Worker { number, run: None, leaving: false, child, tasks, refusals: None };
        if let Some(log) = log {
            let sender = sender.clone();
            let (refused, refusals) = channel();
            worker.refusals = Some(refusals);
            let read = move || {
                for line in lines(log) {
                    if lacks_memory(&line) {
                        // Heard when the worker is gone, if at all.
                        let _ = refused.send(());
                    }
                    if sender.send((number, Message::Log(line))).is_err() {
                        break;
                    }
                }
            };
            std::thread::Builder::new().name(format!("log-{number}")).spawn(read).map_err(fail)?;
        }
        if let Some(out) = out {
            let sender = sender.clone();
            let read = move || {
                for line in lines(out) {
                    let message = match serde_json::from_str(&line) {
                        Ok(event) => Message::Event(event),
                        Err(_) => Message::Log(line),
                    };
                    if sender.send((number, message)).is_err() {
                        return;
                    }
                }
                // Nobody receives once the pool is done.
                let _ = sender.send((number, Message::Closed));
            };
            std::thread::Builder::new().name(format!("events-{number}")).spawn(read).map_err(fail)?;
        }
        Ok(worker)
    }

    /// Hands a run over. A worker that is gone is noticed by the end of its output.
    ///
    /// # Errors
    /// Where the task cannot be written as a line; the worker then has no run.
    pub fn give(&mut self, run: usize, task: &RunTask) -> Result<()> {
        let mut line = serde_json::to_vec(task)
            .map_err(|error| Error::Environment(format!("the run cannot be handed to a worker: {error}")))?;
        line.push(b'\n');
        self.run = Some(run);
        if let Some(tasks) = &mut self.tasks
            && let Err(error) = tasks.write_all(&line).and_then(|()| tasks.flush())
        {
            tracing::debug!("worker {}: {error}", self.number);
        }
        Ok(())
    }

    /// Asks it to finish its step, leave a checkpoint and end.
    pub fn interrupt(&self) {
        #[cfg(unix)]
        // SAFETY: the child has not been waited for, so that its number is still its own.
        unsafe {
            libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM);
        }
    }

    /// Lets it end, having nothing more to do.
    pub fn dismiss(mut self) {
        drop(self.tasks.take());
        if let Err(error) = self.child.wait() {
            tracing::debug!("worker {}: {error}", self.number);
        }
    }

    /// How it ended, once its output has.
    pub fn bury(mut self) -> Lost {
        drop(self.tasks.take());
        let status = self.child.wait().ok();
        let no_memory = self.refusals.take().is_some_and(|refusals| was_refused_memory(&refusals));
        Lost { status, no_memory }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Only where the pool itself fails; a worker that has been waited for is not killed again.
        if let Ok(None) = self.child.try_wait() {
            let killed = self.child.kill().and_then(|()| self.child.wait().map(drop));
            if let Err(error) = killed {
                tracing::debug!("worker {}: {error}", self.number);
            }
        }
    }
}

/// Whether the log of a worker that is gone tells that it got no memory.
fn was_refused_memory(refusals: &Receiver<()>) -> bool {
    let until = Instant::now() + LAST_WORDS;
    let mut refused = false;
    loop {
        match refusals.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(()) => refused = true,
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => return refused,
        }
    }
}

/// The lines of a worker's output. One that is not UTF-8 is told as well as it can be: if reading ended with it, the
/// worker would wait for ever for somebody to read the rest.
fn lines(out: impl Read) -> impl Iterator<Item = String> {
    BufReader::new(out).split(b'\n').map_while(std::io::Result::ok).map(|line| {
        let text = String::from_utf8_lossy(&line);
        text.strip_suffix('\r').unwrap_or(&text).to_owned()
    })
}

impl Lost {
    /// Where the reason lies: somebody ended the worker (the system does so where memory is short), an allocator did so
    /// because it got no memory, a library is gone (the loader then exits with 127), or the run brought it down.
    pub fn cause(&self) -> Cause {
        let no_library = self.status.is_some_and(|status| status.code() == Some(127));
        let no_memory = self.no_memory && self.is_aborted();
        if no_library || no_memory || !self.is_fault() { Cause::Environment } else { Cause::Run }
    }

    /// Whether it ended itself at once, as allocators do that have no other way to tell.
    fn is_aborted(&self) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::process::ExitStatusExt;
            self.status.is_some_and(|status| status.signal() == Some(libc::SIGABRT))
        }
        #[cfg(not(unix))]
        {
            true
        }
    }

    /// Whether it ended by itself or by a fault, and was not killed from outside.
    pub fn is_fault(&self) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::process::ExitStatusExt;
            let from_outside = [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
            if let Some(signal) = self.status.and_then(|status| status.signal()) {
                return !from_outside.contains(&signal);
            }
        }
        true
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{status}")?,
            None => f.write_str("unknown status")?,
        }
        if self.no_memory && self.is_aborted() {
            f.write_str("; it got no memory")?;
        }
        Ok(())
    }
}

/// A worker is out of reach of the terminal's Ctrl-C, which its parent passes on, and dies with its parent.
#[cfg(unix)]
fn tie_to_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
    #[cfg(target_os = "linux")]
    {
        let parent = std::process::id() as libc::pid_t;
        // SAFETY: prctl and getppid may be called between fork and exec.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                // The parent may have died before the request.
                if libc::getppid() != parent {
                    return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
                }
                Ok(())
            });
        }
    }
}

#[cfg(not(unix))]
fn tie_to_parent(_: &mut Command) {}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// How a worker ends that is this script.
    fn lost(script: &str) -> Lost {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        let (sender, receiver) = channel();
        let worker = Worker::start(&Local { jobs: 1, program: "sh".into(), arguments }, 0, &sender).unwrap();
        while !matches!(receiver.recv().unwrap(), (0, Message::Closed)) {}
        worker.bury()
    }

    #[test]
    fn an_allocator_that_aborts_lies_outside_of_the_run() {
        let abort = "kill -ABRT $$";
        for (script, expected, fault) in [
            (format!("echo 'memory allocation of 80 bytes failed' >&2; {abort}"), Cause::Environment, true),
            (format!("echo \"  what():  std::bad_alloc\" >&2; {abort}"), Cause::Environment, true),
            (format!("echo 'double free or corruption' >&2; {abort}"), Cause::Run, true),
            (abort.to_owned(), Cause::Run, true),
            ("echo 'memory allocation of 80 bytes failed' >&2; exit 101".to_owned(), Cause::Run, true),
            ("kill -KILL $$".to_owned(), Cause::Environment, false),
            ("exit 127".to_owned(), Cause::Environment, true),
        ] {
            let lost = lost(&script);
            assert_eq!((lost.cause(), lost.is_fault()), (expected, fault), "{script}: {lost}");
        }
        // What the worker started holds its log open, and is not waited for.
        let began = Instant::now();
        let lost = lost(&format!("sleep 100 >/dev/null & echo bad_alloc >&2; {abort}"));
        assert!(lost.cause() == Cause::Environment && began.elapsed() < Duration::from_secs(60));
    }
}
