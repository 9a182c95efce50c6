//! A worker's process, seen from its parent.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;

use super::super::super::event::RunEvent;
use super::super::super::store::Cause;
use super::super::super::task::RunTask;
use super::super::Local;
use crate::error::{Error, Result};

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
}

/// How a worker ended.
pub(super) struct Lost(Option<ExitStatus>);

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
        let worker = Worker { number, run: None, leaving: false, child, tasks };
        if let Some(log) = log {
            let sender = sender.clone();
            let read = move || {
                for line in lines(log) {
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
        Lost(self.child.wait().ok())
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

/// The lines of a worker's output. One that is not UTF-8 is told as well as it can be: if reading ended with it, the
/// worker would wait for ever for somebody to read the rest.
fn lines(out: impl Read) -> impl Iterator<Item = String> {
    BufReader::new(out).split(b'\n').map_while(std::io::Result::ok).map(|line| {
        let text = String::from_utf8_lossy(&line);
        text.strip_suffix('\r').unwrap_or(&text).to_owned()
    })
}

impl Lost {
    /// Where the reason lies: somebody ended the worker (the system does so where memory is short), a library is gone
    /// (the loader then exits with 127), or the run brought it down.
    pub fn cause(&self) -> Cause {
        let no_library = self.0.is_some_and(|status| status.code() == Some(127));
        if no_library || !self.is_fault() { Cause::Environment } else { Cause::Run }
    }

    /// Whether it ended by itself or by a fault, and was not killed from outside.
    pub fn is_fault(&self) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::process::ExitStatusExt;
            let from_outside = [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
            if let Some(signal) = self.0.and_then(|status| status.signal()) {
                return !from_outside.contains(&signal);
            }
        }
        true
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(status) => write!(f, "{status}"),
            None => f.write_str("unknown status"),
        }
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
