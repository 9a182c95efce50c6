//! What the subcommands with runs share: from flags to how runs are carried out, and showing how they go on.

use clap::{Args, ValueEnum};

use super::flags::{LaunchFlags, Launcher, StudyFlags};
use super::terminal::Global;
use super::{progress, terminal};
use crate::error::Result;
use crate::runtime::program;
use crate::signals::Stop;
use crate::study::conduct::Terms;
use crate::study::event::StudyEvent;
use crate::study::launch::{self, Local, Observer, slurm};
use crate::study::prepare::Folders;
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
    pub fn failed(&self) -> bool {
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

/// How runs are carried out. From now on signals are taken as the wish to stop after a checkpoint.
pub(super) fn terms(flags: &StudyFlags, retry: &RetryFlags, global: &Global) -> Result<Terms> {
    let launcher = launcher(&flags.launch, global)?;
    Ok(Terms { launcher, retry_failed: retry.failed(), stop: Stop::on_signals()? })
}

fn launcher(launch: &LaunchFlags, global: &Global) -> Result<launch::Launcher> {
    Ok(match launch.launcher {
        Launcher::Local => {
            let (jobs, arguments) = (launch.jobs(), global.arguments());
            launch::Launcher::Local(Local { jobs, program: program()?, arguments })
        }
        Launcher::Slurm => {
            let options = launch.slurm.clone().unwrap_or_default();
            let jobs = launch.jobs.map(|jobs| jobs as usize);
            launch::Launcher::Slurm(slurm::Cluster { program: program()?, options, jobs })
        }
    })
}

/// Shows on stderr how runs go on.
pub(super) struct Shown {
    quiet: bool,
    runs: Option<Box<dyn Observer>>,
}

impl Shown {
    pub fn new(global: &Global) -> Self {
        Shown { quiet: global.is_quiet(), runs: None }
    }

    pub fn tell(&mut self, event: StudyEvent) {
        match event {
            StudyEvent::Planned { to_do, continued, done } if !self.quiet => planned(to_do, continued, done),
            StudyEvent::Planned { .. } => {}
            StudyEvent::Started { runs, labels, done } => {
                let labels = labels
                    .iter()
                    .zip(runs)
                    .map(|(name, run)| progress::Label { name: name.clone(), epochs: run.settings.problem.epochs });
                self.runs = Some(progress::observer(labels.collect(), done, self.quiet));
            }
            StudyEvent::Run { number, event, .. } => {
                if let Some(runs) = &mut self.runs {
                    runs.event(number, event);
                }
            }
            StudyEvent::Log { line } => terminal::log_line(line),
            StudyEvent::Ended => self.runs = None,
        }
    }
}

fn planned(to_do: usize, continued: usize, done: usize) {
    if continued > 0 {
        let go = if continued == 1 { "continues" } else { "continue" };
        terminal::log_line(&format!("{} {go} from the end of a run of fewer epochs", count(continued, "run")));
    }
    if to_do == 0 && done > 0 {
        let has = if done == 1 { "has its result" } else { "have their results" };
        let is = if done == 1 { "is" } else { "are" };
        terminal::log_line(&format!("{} {has} already and {is} skipped", count(done, "run")));
    }
}
