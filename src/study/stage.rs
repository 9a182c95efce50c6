//! Runs that are carried out together: which of them remain, their start, and what their ends come to.

use super::event::{Outcome, RunEvent, StudyEvent};
use super::launch::{self, Launcher, Observer};
use super::plan::{self, Planned, Standing};
use super::task::RunTask;
use super::{prepare, run};
use crate::doctor;
use crate::error::{EXIT_FAILED, Result};
use crate::signals::Stop;

/// How runs are carried out.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// What starts them.
    pub launcher: Launcher,
    /// Also carry out runs that failed by themselves before.
    pub retry_failed: bool,
    /// What stops them after a checkpoint.
    pub stop: Stop,
}

/// Who is told what happens.
pub type Tell<'a> = &'a mut dyn FnMut(StudyEvent);

/// Carries out what remains of these runs.
///
/// # Errors
/// [`Error::Interrupted`](crate::Error::Interrupted), or what [`launch::conclude`] makes of the failures; where the data or the
/// folder of runs are not there, before anything is started.
pub fn carry_out(tasks: Vec<RunTask>, terms: &Terms, tell: Tell) -> Result<()> {
    let planned = plan::plan(tasks, terms.retry_failed)?;
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
                outcomes.push(Outcome::Failed { reason, exit_code: EXIT_FAILED });
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
    tell(StudyEvent::Planned { to_do: to_do.len(), continued, done });
    let tasks: Vec<RunTask> = to_do.into_iter().map(|run| run.task).collect();
    tasks.iter().try_for_each(prepare::check_data)?;
    if let Some(task) = tasks.first() {
        doctor::check_runs_folder(&task.runs_dir)?;
        let labels: Vec<String> = tasks.iter().map(|task| task.label(several_problems)).collect();
        tell(StudyEvent::Started { runs: &tasks, labels: &labels, done });
        let ended = terms.launcher.carry_out(&tasks, &terms.stop, &mut Told { tasks: &tasks, tell });
        tell(StudyEvent::Ended);
        outcomes.extend(ended?);
    }
    launch::conclude(&outcomes, done)
}

/// Tells of a launcher's runs.
struct Told<'a> {
    tasks: &'a [RunTask],
    tell: Tell<'a>,
}

impl Observer for Told<'_> {
    fn event(&mut self, number: usize, event: &RunEvent) {
        (self.tell)(StudyEvent::Run { number, run: &self.tasks[number], event });
    }

    fn log(&mut self, line: &str) {
        (self.tell)(StudyEvent::Log { line });
    }
}
