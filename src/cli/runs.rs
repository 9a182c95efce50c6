//! What the subcommands with runs share: which runs remain, carrying them out, and showing how they go on.

use clap::{Args, ValueEnum};

use super::flags::{Launcher, StudyFlags};
use super::{Global, logging, progress};
use crate::doctor;
use crate::error::{Error, IoContext, Result};
use crate::runtime::program;
use crate::study::collect::GridResult;
use crate::study::event::{Outcome, RunEvent};
use crate::study::experiment::Select;
use crate::study::launch::{self, Local, Observer, slurm};
use crate::study::plan::{self, Planned, Standing};
use crate::study::prepare::{self, Folders, Prepared};
use crate::study::run;
use crate::study::signals::Stop;
use crate::study::task::RunTask;
use crate::words::count;

/// Which runs that failed by themselves are tried again.
#[derive(Args, Clone, Debug, Default)]
pub struct RetryFlags {
    /// Also retry runs that failed for a reason of their own (those that lacked data, disk or memory are always retried)
    #[arg(long, value_enum, value_name = "WHICH", help_heading = "Running")]
    retry: Option<Retry>,
}

/// Which runs are tried again.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// Failed runs.
    Failed,
}

impl RetryFlags {
    fn failed(&self) -> bool {
        self.retry == Some(Retry::Failed)
    }
}

/// The folders that the flags name.
///
/// # Errors
/// As [`FolderFlags::runs_folder`](super::flags::FolderFlags::runs_folder).
pub(super) fn folders(flags: &StudyFlags) -> Result<Folders> {
    let (runs, data) = (flags.folders.runs_folder()?, flags.folders.data());
    Ok(Folders { runs, data, pause_file: flags.launch.pause_file.clone() })
}

/// These runs and where they stand.
pub(super) fn plan(tasks: Vec<RunTask>, retry: &RetryFlags) -> Result<Vec<Planned>> {
    let tasks: std::io::Result<Vec<RunTask>> = tasks.into_iter().map(RunTask::with_absolute_paths).collect();
    plan::plan(tasks.at("finding the working folder", ".")?, retry.failed())
}

/// Called with each run that has ended.
pub(super) type After<'a> = &'a mut dyn FnMut(&RunTask);

/// Carries runs out in one stage or several, of which one signal stops all.
pub(super) struct Runner<'a> {
    flags: &'a StudyFlags,
    retry: &'a RetryFlags,
    global: &'a Global,
    stop: Stop,
}

impl<'a> Runner<'a> {
    /// From now on signals are taken as the wish to stop after a checkpoint.
    pub fn new(flags: &'a StudyFlags, retry: &'a RetryFlags, global: &'a Global) -> Result<Self> {
        Ok(Runner { flags, retry, global, stop: Stop::on_signals()? })
    }

    /// Carries out what remains of these runs.
    ///
    /// # Errors
    /// [`Error::Interrupted`], or what [`launch::conclude`] makes of the failures.
    pub fn carry_out(&self, tasks: Vec<RunTask>, after: After) -> Result<()> {
        let planned = plan(tasks, self.retry)?;
        let problems: Vec<&str> = planned.iter().map(|run| run.task.settings.problem.name.as_str()).collect();
        let several_problems = problems.windows(2).any(|pair| pair[0] != pair[1]);
        let (to_do, rest): (Vec<Planned>, Vec<Planned>) = planned.into_iter().partition(|run| run.standing.is_to_do());
        let mut outcomes = Vec::new();
        let mut done = 0;
        for planned in rest {
            match planned.standing {
                Standing::Failed(reason) => {
                    let reason = format!("{}: failed before: {reason}", planned.task.label(several_problems));
                    tracing::warn!("{reason}");
                    outcomes.push(Outcome::Failed { reason, exit_code: crate::error::EXIT_FAILED });
                }
                _ => {
                    run::tidy(&planned.task, planned.unsealed);
                    done += 1;
                }
            }
        }
        for planned in &to_do {
            if let Standing::Damaged(damage) = &planned.standing {
                let label = planned.task.label(several_problems);
                tracing::warn!("{label}: {damage}; the run is repeated");
            }
        }
        let continued = to_do.iter().filter(|run| matches!(run.standing, Standing::Continues(_))).count();
        if continued > 0 && !self.global.is_quiet() {
            let go = if continued == 1 { "goes" } else { "go" };
            logging::line(&format!("{} {go} on from the end of a run of fewer epochs", count(continued, "run")));
        }
        let tasks: Vec<RunTask> = to_do.into_iter().map(|run| run.task).collect();
        if tasks.is_empty() && done > 0 && !self.global.is_quiet() {
            let has = if done == 1 { "has its result" } else { "have their results" };
            logging::line(&format!(
                "{} {has} already and {} skipped",
                count(done, "run"),
                if done == 1 { "is" } else { "are" }
            ));
        }
        for task in &tasks {
            prepare::check_data(task)?;
        }
        if let Some(task) = tasks.first() {
            doctor::check_runs_folder(&task.runs_dir)?;
            outcomes.extend(self.start(&tasks, several_problems, done, after)?);
        }
        launch::conclude(&outcomes, done)
    }

    fn start(&self, tasks: &[RunTask], several_problems: bool, done: usize, after: After) -> Result<Vec<Outcome>> {
        let label = |task: &RunTask| progress::Label {
            name: task.label(several_problems),
            epochs: task.settings.problem.epochs,
        };
        let shown = progress::observer(tasks.iter().map(label).collect(), done, self.global.is_quiet());
        let mut observer = Watched { shown, tasks, after };
        let launch = &self.flags.launch;
        match launch.launcher {
            Launcher::Local => {
                crate::runtime::keep_freed_memory();
                let local = Local { jobs: launch.jobs(), program: program()?, arguments: self.global.arguments() };
                launch::carry_out(tasks, &local, &self.stop, &mut observer)
            }
            Launcher::Slurm => {
                let options = launch.slurm.clone().unwrap_or_default();
                let jobs = launch.jobs.map(|jobs| jobs as usize);
                let cluster = slurm::Cluster { program: program()?, options, jobs };
                slurm::carry_out(tasks, &cluster, &self.stop, &mut observer)
            }
        }
    }

    /// Carries out grids, rung by rung where they are halved; the runs of all grids in one go.
    ///
    /// # Errors
    /// As [`Runner::carry_out`]. Where runs of a grid failed, the other grids are carried out to their end first.
    pub fn carry_out_grids(&self, grids: &[&Prepared], select: Select, after: After) -> Result<()> {
        let mut failure = Ok(());
        // How many rungs of each grid were tried.
        let mut tried = vec![0; grids.len()];
        loop {
            let mut tasks = Vec::new();
            for (tried, grid) in tried.iter_mut().zip(grids).filter(|(tried, grid)| **tried < grid.rungs()) {
                let result = GridResult::collect(grid, select)?;
                let new = result.rungs.into_iter().skip(*tried).collect::<Vec<_>>();
                *tried += new.len();
                tasks.extend(new.into_iter().flatten());
            }
            if tasks.is_empty() {
                grids.iter().filter(|grid| grid.rungs() > 1).for_each(|grid| grid.drop_ends());
                return failure;
            }
            match self.carry_out(tasks, after) {
                Err(error @ Error::Failed(_)) => failure = failure.and(Err(error)),
                outcome => outcome?,
            }
        }
    }
}

/// An observer beside which somebody is called with each run that has ended.
struct Watched<'a> {
    shown: Box<dyn Observer>,
    tasks: &'a [RunTask],
    after: After<'a>,
}

impl Observer for Watched<'_> {
    fn event(&mut self, run: usize, event: &RunEvent) {
        self.shown.event(run, event);
        if let RunEvent::Ended { outcome: Outcome::Done | Outcome::Diverged { .. } | Outcome::Failed { .. } } = event {
            (self.after)(&self.tasks[run]);
        }
    }

    fn log(&mut self, line: &str) {
        self.shown.log(line);
    }
}
