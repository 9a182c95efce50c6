//! Runs in worker processes: each worker carries out one run at a time and gets the next when it is done.
//!
//! A worker that is lost (killed, out of memory, a fault in native code) costs nothing but the time since its last
//! checkpoint: its run goes to another worker, unless that keeps happening without the run getting anywhere.

mod process;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use bytesize::ByteSize;

use super::super::event::{Outcome, RunEvent};
use super::super::run::{self, BUSY_WAIT};
use super::super::settings::RunTask;
use super::super::store::{Cause, lock};
use super::memory::{self, Admission};
use super::{Local, Observer};
use crate::backpack::memory::free as free_memory;
use crate::error::{EXIT_ENVIRONMENT, EXIT_FAILED, Error, Result};
use crate::signals::Stop;
use process::{Lost, Message, Worker};

/// How often signals and runs of other processes are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Times that a run's worker may be killed from outside without the run getting further.
const MAX_KILLS: u32 = 20;
/// Times that a run may bring its worker down by a fault of its own.
const MAX_FAULTS: u32 = 2;

struct Pool<'a> {
    tasks: &'a [RunTask],
    /// Bytes that a worker will take at most.
    needed: u64,
    told_of_memory: bool,
    local: &'a Local,
    observer: &'a mut dyn Observer,
    /// Runs that nobody carries out yet.
    queue: VecDeque<usize>,
    /// Runs that a process outside of this pool carries out.
    elsewhere: Vec<usize>,
    looked: Instant,
    workers: Vec<Worker>,
    made: usize,
    outcomes: Vec<Option<Outcome>>,
    losses: Vec<Losses>,
    sender: Sender<(usize, Message)>,
    stopping: bool,
}

/// How often a run's worker was lost since the run last got further.
#[derive(Clone, Copy, Default)]
struct Losses {
    kills: u32,
    faults: u32,
    /// Where the run began when it was last taken up.
    began: (usize, usize),
}

/// Carries out the tasks without an outcome by at most `local.jobs` workers, fewer where memory is short by these
/// estimates. What remains without an outcome was interrupted.
pub(super) fn carry_out(
    tasks: &[RunTask],
    estimates: &[u64],
    local: &Local,
    stop: &Stop,
    observer: &mut dyn Observer,
    outcomes: &mut Vec<Option<Outcome>>,
) -> Result<()> {
    let (sender, receiver) = channel();
    let mut pool = Pool {
        tasks,
        needed: estimates
            .iter()
            .zip(&*outcomes)
            .filter(|(_, ended)| ended.is_none())
            .map(|(&bytes, _)| bytes)
            .max()
            .unwrap_or(0),
        told_of_memory: false,
        local,
        observer,
        queue: (0..tasks.len()).filter(|run| outcomes[*run].is_none()).collect(),
        elsewhere: Vec::new(),
        looked: Instant::now(),
        workers: Vec::new(),
        made: 0,
        outcomes: std::mem::take(outcomes),
        losses: vec![Losses::default(); tasks.len()],
        sender,
        stopping: false,
    };
    let worked = pool.work(stop, &receiver);
    *outcomes = pool.outcomes;
    worked
}

impl Pool<'_> {
    fn work(&mut self, stop: &Stop, receiver: &Receiver<(usize, Message)>) -> Result<()> {
        while !self.is_over() {
            if stop.is_requested() && !self.stopping {
                self.stopping = true;
                self.workers.iter().for_each(Worker::interrupt);
            }
            if !self.stopping {
                self.look_elsewhere();
                self.assign()?;
            }
            match receiver.recv_timeout(TICK) {
                Ok((worker, message)) => self.handle(worker, message)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
        self.workers.drain(..).for_each(Worker::dismiss);
        Ok(())
    }

    fn is_over(&self) -> bool {
        let busy = self.workers.iter().any(|worker| worker.run.is_some());
        !busy && (self.stopping || (self.queue.is_empty() && self.elsewhere.is_empty()))
    }

    /// Gives runs to idle workers, and starts workers where there are fewer than wanted.
    ///
    /// Workers are started by the thread that lives as long as the process: on Linux a worker dies with the thread
    /// that started it.
    fn assign(&mut self) -> Result<()> {
        while let Some(&run) = self.queue.front() {
            let idle = match self.workers.iter().position(|worker| worker.run.is_none() && !worker.leaving) {
                Some(idle) => idle,
                None if self.workers.len() < self.local.jobs => {
                    if !self.has_room() {
                        return Ok(());
                    }
                    match Worker::start(self.local, self.made, &self.sender) {
                        Ok(worker) => {
                            self.made += 1;
                            self.workers.push(worker);
                            self.workers.len() - 1
                        }
                        Err(error) if self.workers.is_empty() => return Err(error),
                        Err(error) => {
                            self.observer.log(&format!("{error}; continuing with {} workers", self.workers.len()));
                            return Ok(());
                        }
                    }
                }
                None => return Ok(()),
            };
            self.queue.pop_front();
            // Where the line cannot be written the worker is gone, and the end of its output will tell so.
            if let Err(error) = self.workers[idle].give(run, &self.tasks[run]) {
                let outcome = Outcome::Failed { reason: error.to_string(), exit_code: error.exit_code() };
                self.observer.event(run, &RunEvent::Ended { outcome: outcome.clone() });
                self.outcomes[run] = Some(outcome);
            }
        }
        Ok(())
    }

    /// Whether the memory suffices for a further worker; tells of it once where it does not.
    fn has_room(&mut self) -> bool {
        let working = self.workers.len();
        // Where the system does not tell what is free, nothing is waited for.
        let free = if working == 0 { u64::MAX } else { free_memory().unwrap_or(u64::MAX) };
        let waits = memory::admit(self.needed, free, working) == Admission::Wait;
        if waits && !self.told_of_memory {
            self.told_of_memory = true;
            self.observer.log(&format!(
                "another worker would need about {} of memory and {} are free: going on with {working} until there is \
                 room",
                ByteSize(self.needed),
                ByteSize(free)
            ));
        }
        !waits
    }

    fn handle(&mut self, worker: usize, message: Message) -> Result<()> {
        let Some(place) = self.workers.iter().position(|known| known.number == worker) else { return Ok(()) };
        match message {
            Message::Log(line) => self.observer.log(&line),
            Message::Event(event) => {
                let Some(run) = self.workers[place].run else { return Ok(()) };
                match &event {
                    RunEvent::Started { epoch, step, .. } => {
                        let losses = &mut self.losses[run];
                        if (*epoch, *step) > losses.began {
                            *losses = Losses { began: (*epoch, *step), ..Losses::default() };
                        }
                    }
                    RunEvent::Ended { outcome } => {
                        self.workers[place].run = None;
                        self.workers[place].leaving = *outcome == Outcome::Interrupted;
                        self.ended(run, outcome.clone());
                    }
                    _ => {}
                }
                self.observer.event(run, &event);
            }
            Message::Closed => {
                let gone = self.workers.swap_remove(place);
                let (run, leaving) = (gone.run, gone.leaving);
                let lost = gone.bury();
                if let Some(run) = run {
                    self.lost(run, lost);
                } else if !self.stopping && !leaving && lost.is_fault() {
                    return Err(Error::Environment(format!("a worker cannot work: {lost}")));
                }
            }
        }
        Ok(())
    }

    fn ended(&mut self, run: usize, outcome: Outcome) {
        match outcome {
            Outcome::Busy { .. } => self.elsewhere.push(run),
            // Somebody stopped the worker, not this program.
            Outcome::Interrupted if !self.stopping => self.queue.push_back(run),
            outcome => self.outcomes[run] = Some(outcome),
        }
    }

    /// A run whose worker is gone: to be taken up again, or given up.
    fn lost(&mut self, run: usize, lost: Lost) {
        if self.stopping {
            return;
        }
        let losses = &mut self.losses[run];
        if lost.is_fault() {
            losses.faults += 1;
        } else {
            losses.kills += 1;
        }
        if losses.faults < MAX_FAULTS && losses.kills < MAX_KILLS {
            let text = format!("its worker was lost ({lost}); another continues from the last checkpoint");
            self.observer.event(run, &RunEvent::Note { text });
            self.queue.push_front(run);
            return;
        }
        let reason = format!("its worker was lost repeatedly, the last time by {lost}");
        let cause = lost.cause();
        if let Err(error) = run::record_loss(&self.tasks[run], &reason, cause) {
            self.observer.log(&error.to_string());
        }
        let exit_code = if cause == Cause::Environment { EXIT_ENVIRONMENT } else { EXIT_FAILED };
        let outcome = Outcome::Failed { reason, exit_code };
        self.observer.event(run, &RunEvent::Ended { outcome: outcome.clone() });
        self.outcomes[run] = Some(outcome);
    }

    /// Takes over what other processes have finished, or left.
    fn look_elsewhere(&mut self) {
        if self.elsewhere.is_empty() || self.looked.elapsed() < BUSY_WAIT {
            return;
        }
        self.looked = Instant::now();
        for run in std::mem::take(&mut self.elsewhere) {
            let folder = self.tasks[run].folder();
            match run::finished(&folder) {
                Ok(Some(outcome)) => {
                    self.observer.event(run, &RunEvent::Ended { outcome: outcome.clone() });
                    self.outcomes[run] = Some(outcome);
                }
                // A worker finds out what cannot be read, and says so in the run's outcome.
                Err(_) => self.queue.push_back(run),
                Ok(None) => match lock::holder(&folder.lock()) {
                    Ok(Some(_)) => self.elsewhere.push(run),
                    _ => self.queue.push_back(run),
                },
            }
        }
    }
}
