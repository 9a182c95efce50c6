//! One run from its checkpoint, or its beginning, to its end or an interruption: the protocol of the paper's runs.
//!
//! Evaluation precedes training and follows every epoch. The files on disk never know more than the newest checkpoint
//! can continue from, or the process can compute again; so a run that was killed ends with the same files as one that
//! was not.

use std::time::{Duration, Instant};

use super::super::event::{Evaluation, Outcome, RunEvent, finite};
use super::super::settings::{DataCache, RunTask};
use super::super::state::RunState;
use super::super::store::checkpoint::{self, Checkpoint, Progress};
use super::super::store::event_file::EventFile;
use super::super::store::lock::Lock;
use super::super::store::{DiagnosticRow, RunFolder, RunStatus, SCHEMA_VERSION, StepRow, end};
use super::continuation;
use super::pause::Pause;
use super::trainer::{Step, Trainer, evaluate};
use crate::atomic::{self, Durability};
use crate::error::{Error, Result};
use crate::problems::data;
use crate::problems::definition::Limit;
use crate::provenance::Provenance;
use crate::signals::Stop;
use crate::words::count;

/// Steps between two rows of steps.csv.
const LOG_INTERVAL: usize = 10;
/// Time between two events that tell of a step.
const TELL_INTERVAL: Duration = Duration::from_millis(100);

/// Carries the run out in its locked folder.
pub(super) fn run(
    task: &RunTask,
    folder: &RunFolder,
    lock: &Lock,
    cache: &mut DataCache,
    stop: &Stop,
    tell: &mut dyn FnMut(RunEvent),
) -> Result<Outcome> {
    atomic::remove_unfinished(folder.path())?;
    let settings = &task.settings;
    check_inputs(task, folder)?;
    // Before any other file: a result that was damaged is none from here on.
    let before = folder.read_status()?;
    let state = RunStatus::unfinished(before.as_ref()).enter(RunState::Running);
    let epoch = before.map_or(0, |status| status.epoch);
    folder.write_status(&RunStatus::new(state, epoch, settings.problem.epochs, None))?;
    write_config(task, folder)?;
    let now = Provenance::now(settings.threads, &settings.device);
    atomic::write_json(&folder.provenance(), &now, Durability::Process)?;

    let mut pause = Pause::new(task.pause_file.as_deref(), stop);
    pause.wait(tell);
    let data = cache.get(task)?;
    if let Some(characters) = &data.vocabulary {
        write_vocabulary(folder, characters)?;
    }
    let trainer = Trainer::new(settings, task.seed, data)?;
    check_weights(task)?;
    let mut session = Session {
        task,
        folder,
        lock,
        stop,
        pause,
        tell,
        trainer,
        state,
        progress: Progress::default(),
        saved: Instant::now(),
        told: Instant::now(),
        events: None,
    };
    session.resume()?;
    session.train()
}

/// Checks that a run which is to go on was begun with these data. The first runs did not write down with which they were.
fn check_inputs(task: &RunTask, folder: &RunFolder) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Inputs {
        data_fingerprint: Option<String>,
    }
    if !checkpoint::exists(folder) {
        return Ok(());
    }
    // A damaged file tells nothing, and is written anew.
    let before: Option<Inputs> = folder.read_json(&folder.config()).unwrap_or_default();
    match before.and_then(|inputs| inputs.data_fingerprint) {
        Some(before) if before != task.settings.data_fingerprint => Err(Error::Environment(format!(
            "{}: this run was started with other data (`{before}`; here `{}`) and cannot continue with these. Delete the \
             run's folder, or restore those data",
            folder.config().display(),
            task.settings.data_fingerprint
        ))),
        _ => Ok(()),
    }
}

/// The resolved configuration, with the seed and the versions of files.
fn write_config(task: &RunTask, folder: &RunFolder) -> Result<()> {
    #[derive(serde::Serialize)]
    struct Config<'a> {
        schema_version: u32,
        seed: u64,
        #[serde(flatten)]
        settings: &'a super::super::settings::RunSettings,
    }
    let config = Config { schema_version: SCHEMA_VERSION, seed: task.seed, settings: &task.settings };
    atomic::write_json(&folder.config(), &config, Durability::Process)
}

/// The characters of a text in the order of their numbers, without which nobody could read what a network tells.
fn write_vocabulary(folder: &RunFolder, characters: &[char]) -> Result<()> {
    #[derive(serde::Serialize)]
    struct Vocabulary<'a> {
        schema_version: u32,
        characters: &'a [char],
    }
    let vocabulary = Vocabulary { schema_version: SCHEMA_VERSION, characters };
    atomic::write_json(&folder.vocabulary(), &vocabulary, Durability::Process)
}

/// Checks that the initial parameters are those that the run was planned with: its folder is named after them.
fn check_weights(task: &RunTask) -> Result<()> {
    let (Some(path), Some(planned)) = (&task.settings.problem.weights, &task.settings.weights_fingerprint) else {
        return Ok(());
    };
    if data::digest_of(path)? == *planned {
        return Ok(());
    }
    Err(Error::Environment(format!(
        "{}: the weights have changed since the run was planned; give the command again, and its runs get folders of their \
         own",
        path.display()
    )))
}

struct Session<'a> {
    task: &'a RunTask,
    folder: &'a RunFolder,
    lock: &'a Lock,
    stop: &'a Stop,
    pause: Pause<'a>,
    tell: &'a mut dyn FnMut(RunEvent),
    trainer: Trainer,
    /// Where the run stands, as its status tells.
    state: RunState,
    progress: Progress,
    /// When the last checkpoint was written.
    saved: Instant,
    /// When the last step was told of.
    told: Instant,
    /// What TensorBoard reads, where diagnostics are asked for.
    events: Option<EventFile>,
}

impl Session<'_> {
    /// Goes to where the newest whole checkpoint stands, and brings the tables back to what it knows.
    fn resume(&mut self) -> Result<()> {
        let loaded = checkpoint::load(self.folder)?;
        let damaged = !loaded.damage.is_empty();
        for damage in loaded.damage {
            self.note(damage);
        }
        if let Some(Checkpoint { progress, tensors }) = loaded.checkpoint {
            self.trainer.restore(&tensors)?;
            self.progress = progress;
            self.note(format!("continues in epoch {} at step {}", self.progress.epoch + 1, self.progress.step));
        } else {
            if damaged {
                self.note("none of its checkpoints is intact; it starts over".to_owned());
            }
            if let Some((Checkpoint { progress, tensors }, from)) = continuation::load(self.task)? {
                self.trainer.restore(&tensors)?;
                self.progress = progress;
                let epochs = count(self.progress.epoch, "epoch");
                self.note(format!("continues from the end of a run of {epochs}, {}", from.path().display()));
            }
        }
        // What an earlier start left and this one may not write anew is no part of its result.
        atomic::remove(&self.folder.weights())?;
        atomic::remove(&self.folder.end())?;
        atomic::remove(&self.folder.diagnostics())?;
        self.write_rows(Durability::Process)?;
        if self.task.diagnostics.is_some() {
            self.events = Some(EventFile::start(&self.folder.tensorboard())?);
            self.write_events()?;
        }
        self.write_status(RunState::Running)?;
        let (epoch, step) = (self.progress.epoch, self.progress.step);
        let (epochs, steps_per_epoch) = (self.epochs(), self.trainer.steps_per_epoch());
        (self.tell)(RunEvent::Started { epoch, step, epochs, steps_per_epoch });
        self.saved = Instant::now();
        Ok(())
    }

    fn train(mut self) -> Result<Outcome> {
        loop {
            if self.progress.epochs.len() == self.progress.epoch {
                let (pause, tell) = (&mut self.pause, &mut *self.tell);
                let mut suspend = || pause.wait(tell);
                match evaluate(&self.trainer, self.progress.epoch, self.stop, &mut suspend)? {
                    Some(mut row) => {
                        row.train_seconds = std::mem::take(&mut self.progress.train_seconds);
                        self.progress.epochs.push(row);
                        self.write_events()?;
                        (self.tell)(RunEvent::Evaluated(Evaluation::from(&row)));
                    }
                    None => return self.interrupt(),
                }
                if !self.is_over() {
                    self.write_rows(Durability::Process)?;
                    self.write_status(RunState::Running)?;
                }
            }
            if self.is_over() {
                return self.finish(RunState::Done, None);
            }
            if let Some(outcome) = self.train_epoch()? {
                return Ok(outcome);
            }
        }
    }

    /// The rest of the present epoch's steps; an outcome where it is the run's last.
    fn train_epoch(&mut self) -> Result<Option<Outcome>> {
        let order = self.trainer.train_order(self.progress.epoch);
        let mut began = Instant::now();
        let steps_per_epoch = self.trainer.steps_per_epoch();
        while self.progress.step < steps_per_epoch && !self.is_spent(began) {
            // The time of a suspension is none of the training's.
            began += self.pause.wait(self.tell);
            let (epoch, step) = (self.progress.epoch, self.progress.step);
            let log = step % LOG_INTERVAL == 0;
            let global = self.trainer.global_step(epoch, step);
            let diagnosed = self.task.diagnostics.filter(|every| global.is_multiple_of(*every)).is_some();
            let (taken, measures) = match diagnosed {
                true => {
                    // Its time is none of the training's.
                    self.progress.train_seconds += began.elapsed().as_secs_f64();
                    let (taken, measures, seconds) = self.trainer.step_diagnosed(&order, epoch, step, log)?;
                    self.progress.train_seconds += seconds;
                    began = Instant::now();
                    (taken, measures)
                }
                false => (self.trainer.step(&order, epoch, step, log)?, Vec::new()),
            };
            match taken {
                Step::Taken { loss, regulariser, failed_inverses } => {
                    self.progress.failed_inverses += failed_inverses;
                    if log {
                        self.progress.steps.push(StepRow { epoch: epoch + 1, step: global, loss: loss + regulariser });
                    }
                    if diagnosed {
                        let row = |name: &str, layer: &str, value| DiagnosticRow {
                            step: global,
                            epoch: epoch + 1,
                            name: name.to_owned(),
                            layer: layer.to_owned(),
                            value,
                        };
                        let rows = measures.iter().map(|measure| row(measure.name, &measure.layer, measure.value));
                        self.progress.diagnostics.extend(rows);
                        let failed = self.progress.failed_inverses as f64;
                        self.progress.diagnostics.push(row("failed_inverses", "all", failed));
                        self.write_events()?;
                    }
                    self.progress.step += 1;
                    if self.told.elapsed() >= TELL_INTERVAL {
                        self.told = Instant::now();
                        (self.tell)(RunEvent::Stepped { epoch, step: step + 1, loss: finite(loss) });
                    }
                }
                Step::Diverged { loss } => {
                    let reason = format!("the loss of a mini-batch was {loss} in epoch {} at step {step}", epoch + 1);
                    return self.finish(RunState::Diverged, Some(reason)).map(Some);
                }
            }
            let stop = self.stop.is_requested();
            if stop || self.saved.elapsed().as_secs_f64() >= self.task.checkpoint_seconds {
                self.progress.train_seconds += began.elapsed().as_secs_f64();
                if stop {
                    return self.interrupt().map(Some);
                }
                self.save()?;
                began = Instant::now();
            }
        }
        self.progress.train_seconds += began.elapsed().as_secs_f64();
        self.progress.epoch += 1;
        // The last epoch of a run with a limit may be a part of one, whose steps are not forgotten.
        self.progress.step = if self.progress.step < steps_per_epoch { self.progress.step } else { 0 };
        Ok(None)
    }

    fn finish(&mut self, state: RunState, reason: Option<String>) -> Result<Outcome> {
        self.check_lock()?;
        self.write_rows(Durability::Machine)?;
        if state == RunState::Done {
            checkpoint::save_tensors(&self.folder.weights(), &self.trainer.weights())?;
            let state = self.trainer.state();
            if self.task.settings.can_be_continued() && self.task.keep_end.keeps(end::bytes(&state)) {
                end::save(self.folder, &self.progress, &state)?;
            }
        }
        let status = self.enter(state, reason.clone()).sealed(self.folder)?;
        self.folder.write_status(&status)?;
        // The result stands whether or not its checkpoints can be removed.
        if let Err(error) = checkpoint::remove(self.folder) {
            self.note(error.to_string());
        }
        Ok(match reason {
            Some(reason) => Outcome::Diverged { reason },
            None => Outcome::Done,
        })
    }

    fn interrupt(&mut self) -> Result<Outcome> {
        self.save()?;
        self.write_status(RunState::Interrupted)?;
        Ok(Outcome::Interrupted)
    }

    /// Leaves a checkpoint and the tables as it knows them.
    fn save(&mut self) -> Result<()> {
        self.check_lock()?;
        let tensors = self.trainer.state();
        checkpoint::save(self.folder, &Checkpoint { progress: self.progress.clone(), tensors })?;
        self.write_rows(Durability::Process)?;
        self.saved = Instant::now();
        Ok(())
    }

    fn write_rows(&self, durability: Durability) -> Result<()> {
        if self.task.diagnostics.is_some() || !self.progress.diagnostics.is_empty() {
            self.folder.write_diagnostics(&self.progress.diagnostics, durability)?;
        }
        self.folder.write_rows(&self.progress.epochs, &self.progress.steps, durability)
    }

    /// Puts what is new at the end of TensorBoard's file.
    fn write_events(&mut self) -> Result<()> {
        let steps_per_epoch = self.trainer.steps_per_epoch();
        match &mut self.events {
            Some(events) => events.append(&self.progress, steps_per_epoch),
            None => Ok(()),
        }
    }

    fn write_status(&mut self, next: RunState) -> Result<()> {
        let status = self.enter(next, None);
        self.folder.write_status(&status)
    }

    /// The next state, as a status.
    fn enter(&mut self, next: RunState, reason: Option<String>) -> RunStatus {
        self.state = self.state.enter(next);
        let done = self.state == RunState::Done;
        // How many epochs there are within a limit of seconds is known at its end.
        let epochs = if done { self.progress.epoch } else { self.epochs() };
        let status = RunStatus::new(self.state, self.progress.epoch, epochs, reason);
        let steps = if done { self.steps() } else { None };
        RunStatus { failed_inverses: self.progress.failed_inverses, steps, ..status }
    }

    fn check_lock(&self) -> Result<()> {
        match self.lock.is_lost() {
            true => Err(Error::Environment(format!(
                "{}: another process has taken this run over, because this one did not answer for too long",
                self.folder.path().display()
            ))),
            false => Ok(()),
        }
    }

    fn epochs(&self) -> usize {
        self.task.settings.problem.epochs
    }

    /// Whether nothing is left to be trained. The seconds of an epoch count from its evaluation on: one within which a
    /// checkpoint knows the limit to be reached has still to be ended and evaluated.
    fn is_over(&self) -> bool {
        match self.task.settings.problem.limit {
            Some(Limit::Seconds(seconds)) => self.evaluated_seconds() >= seconds,
            _ => self.progress.epoch >= self.epochs(),
        }
    }

    /// Whether a limit is reached within an epoch, of which the clock runs since `began`.
    fn is_spent(&self, began: Instant) -> bool {
        match self.task.settings.problem.limit {
            Some(Limit::Steps(steps)) => self.trainer.global_step(self.progress.epoch, self.progress.step) >= steps,
            // Added in the order in which the epoch's row will be, so that what is spent here is over there.
            Some(Limit::Seconds(seconds)) => {
                self.evaluated_seconds() + (self.progress.train_seconds + began.elapsed().as_secs_f64()) >= seconds
            }
            None => false,
        }
    }

    /// Seconds of training up to the last evaluation.
    fn evaluated_seconds(&self) -> f64 {
        self.progress.epochs.iter().map(|row| row.train_seconds).sum()
    }

    /// Steps made, where nothing else tells.
    fn steps(&self) -> Option<u64> {
        let Progress { epoch, step, .. } = self.progress;
        let whole = if step > 0 { epoch.saturating_sub(1) } else { epoch };
        let in_seconds = matches!(self.task.settings.problem.limit, Some(Limit::Seconds(_)));
        in_seconds.then(|| self.trainer.global_step(whole, step))
    }

    fn note(&mut self, text: String) {
        (self.tell)(RunEvent::Note { text });
    }
}
