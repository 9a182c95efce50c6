//! The examination of a machine: what a run needs, whether it is there, and what to do where it is not.

mod finding;
mod folders;
mod libtorch;
mod machine;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::runtime::DeviceChoice;

pub use finding::{Finding, State};

/// How another runs folder is chosen.
const RUNS_FOLDER: &str = "--runs-dir or BACKPACK_RUN_RUNS";

/// What to examine: the places and the device that a run would use.
#[derive(Clone, Debug)]
pub struct Places {
    /// The device that runs are to use.
    pub device: DeviceChoice,
    /// The one folder to look for data sets in; None for the usual ones.
    pub data: Option<PathBuf>,
    /// Where runs are kept.
    pub runs: PathBuf,
    /// Where results are written.
    pub results: PathBuf,
}

/// Makes sure that runs can be kept in `runs`.
///
/// # Errors
/// [`Error::Environment`] with a remedy.
pub fn check_runs_folder(runs: &Path) -> Result<()> {
    let finding = folders::writable("runs folder", runs, RUNS_FOLDER, State::Fail);
    match finding.state {
        State::Fail => Err(Error::Environment(format!("{}. {}", finding.found, finding.remedy))),
        _ => Ok(()),
    }
}

/// Examines everything; never fails itself, for every defect is a finding.
pub fn examine(places: &Places) -> Vec<Finding> {
    let mut findings = libtorch::examine();
    findings.extend(machine::devices(places.device));
    findings.extend([machine::processor(), machine::threads(), machine::memory()]);
    findings.push(folders::writable("runs folder", &places.runs, RUNS_FOLDER, State::Fail));
    findings.push(folders::writable(
        "results folder",
        &places.results,
        "--results-dir or BACKPACK_RUN_RESULTS",
        State::Fail,
    ));
    findings.extend(folders::data_sets(places.data.as_deref()));
    // Only `data fetch` and `data import` write there.
    let data = places.data.clone().unwrap_or_else(|| PathBuf::from("data"));
    findings.push(folders::writable("data folder", &data, "--data-dir or BACKPACK_RUN_DATA", State::Warn));
    findings
}
