//! What `grid` and `train` share: which runs remain, carrying them out, and showing how they go on.

use clap::{Args, ValueEnum};

use super::flags::{Launcher, StudyFlags};
use super::{Global, progress};
use crate::error::{Error, IoContext, Result};
use crate::study::event::Outcome;
use crate::study::launch::{self, Local, slurm};
use crate::study::plan::{self, Planned, Standing};
use crate::study::prepare::{self, Folders, Prepared};
use crate::study::run;
use crate::study::signals::Stop;
use crate::study::task::RunTask;

/// Which runs with a result that is none are tried again.
#[derive(Args, Clone, Debug, Default)]
pub struct RetryFlags {
    /// Also carry out runs that failed before
    #[arg(long, value_enum, value_name = "WHICH", help_heading = "Running")]
    retry: Option<Retry>,
}

/// Which runs are tried again.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// Those that failed.
    Failed,
}

impl RetryFlags {
    fn failed(&self) -> bool {
        self.retry == Some(Retry::Failed)
    }
}

/// The folders that the flags name.
pub(super) fn folders(flags: &StudyFlags) -> Folders {
    Folders { runs: flags.folders.runs(), data: flags.folders.data() }
}

/// Every run of these pairs and where it stands.
pub(super) fn plan(prepared: &[Prepared], retry: &RetryFlags) -> Result<Vec<Planned>> {
    let tasks: Vec<RunTask> = prepared.iter().flat_map(|pair| pair.tasks.iter().cloned()).collect();
    let tasks: std::io::Result<Vec<RunTask>> = tasks.into_iter().map(RunTask::with_absolute_paths).collect();
    plan::plan(tasks.at("finding the working folder", ".")?, retry.failed())
}

/// Carries out what remains.
///
/// # Errors
/// [`Error::Interrupted`], or what [`launch::conclude`] makes of the failures.
pub(super) fn carry_out(planned: Vec<Planned>, flags: &StudyFlags, global: &Global) -> Result<()> {
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
                run::tidy(&planned.task);
                done += 1;
            }
        }
    }
    let tasks: Vec<RunTask> = to_do.into_iter().map(|run| run.task).collect();
    for task in &tasks {
        prepare::check_data(task)?;
    }
    if !tasks.is_empty() {
        let labels = tasks
            .iter()
            .map(|task| progress::Label { name: task.label(several_problems), epochs: task.settings.problem.epochs });
        let mut observer = progress::observer(labels.collect(), done, global.is_quiet());
        let stop = Stop::on_signals()?;
        let carried_out = match flags.launch.launcher {
            Launcher::Local => {
                crate::runtime::keep_freed_memory();
                let program = program()?;
                let local = Local { jobs: flags.launch.jobs(), program, arguments: global.arguments() };
                launch::carry_out(&tasks, &local, &stop, observer.as_mut())?
            }
            Launcher::Slurm => {
                let options = flags.launch.slurm.as_ref().map(|list| list.0.clone()).unwrap_or_default();
                let jobs = flags.launch.jobs.map(|jobs| jobs as usize);
                slurm::carry_out(
                    &tasks,
                    &slurm::Cluster { program: program()?, options, jobs },
                    &stop,
                    observer.as_mut(),
                )?
            }
        };
        outcomes.extend(carried_out);
    }
    launch::conclude(&outcomes, done)
}

/// This program, as it can be started again.
fn program() -> Result<std::path::PathBuf> {
    std::env::current_exe()
        .map_err(|error| Error::Environment(format!("the program's own file cannot be found: {error}")))
}
