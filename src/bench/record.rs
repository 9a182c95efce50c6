//! bench.csv and bench.json: what was measured, on which machine, and what was left out; written anew after each visit.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::{LeftOut, Selection};
use super::row::{Row, write_rows};
use crate::atomic::{self, Durability};
use crate::error::{Error, IoContext, Result};
use crate::provenance::Provenance;

/// The version of bench.json.
pub const SCHEMA_VERSION: u32 = 1;

/// Where the time of a row goes, in seconds; medians. None where it was not measured.
///
/// Of a pass of ours, forward, backward, extraction, average, inverse and update add up to the whole. The first three are
/// differences between a forward pass alone, the gradient alone, and the whole without the others, which are timed
/// within the step. Forward pass and gradients are measured beside libtorch's gradient, a
/// few rounds for a problem and batch size, and told in the row's units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Parts {
    /// Our forward pass.
    pub forward_seconds: Option<f64>,
    /// Our gradient's way back.
    pub backward_seconds: Option<f64>,
    /// What the quantity takes beyond the gradient.
    pub extraction_seconds: Option<f64>,
    /// Of steps: taking the curvature into its running mean.
    pub average_seconds: Option<f64>,
    /// Of steps: the Cholesky decompositions of damped Kronecker factors, and solving with them.
    pub inverse_seconds: Option<f64>,
    /// Of steps: the rest, with the change of the parameters.
    pub update_seconds: Option<f64>,
    /// Our gradient, forward and backward.
    pub own_gradient_seconds: Option<f64>,
    /// libtorch's gradient with channels last in memory.
    pub channels_last_gradient_seconds: Option<f64>,
}

/// A row and what bench.csv has no column for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// The row.
    #[serde(flatten)]
    pub row: Row,
    /// Where the time goes.
    #[serde(flatten)]
    pub parts: Parts,
    /// The memory of the measuring process before the pass; `peak_bytes` minus this is what the pass takes.
    pub resident_bytes: Option<u64>,
    /// The largest load average of a minute before one of its visits ended.
    pub load_average: f64,
    /// Whether fetching the batch is in all times.
    pub include_data: bool,
    /// What makes the row doubtful.
    pub warnings: Vec<Warning>,
    /// How many of the pairs each visit, a process of its own, has made.
    pub visits: Vec<usize>,
    /// The gradient's time in each pair, in seconds.
    pub gradient_times: Vec<f64>,
    /// The other time of each pair.
    pub times: Vec<f64>,
}

/// All that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// The version of this form.
    pub schema_version: u32,
    /// The machine and the versions.
    pub machine: Provenance,
    /// The load average of the last minute before the first row.
    pub load_average: f64,
    /// The rows.
    pub rows: Vec<Measurement>,
    /// What is missing, and why.
    pub left_out: Vec<LeftOut>,
}

impl Record {
    /// A record without rows, of this machine now.
    pub fn new(threads: usize, device: &str, left_out: Vec<LeftOut>) -> Self {
        Record {
            schema_version: SCHEMA_VERSION,
            machine: Provenance::now(threads, device),
            load_average: load_average(),
            rows: Vec::new(),
            left_out,
        }
    }

    /// The rows as bench.csv has them.
    pub fn table(&self) -> Vec<Row> {
        self.rows.iter().map(|measurement| measurement.row.clone()).collect()
    }
}

/// The load average of the last minute; NaN where the system does not tell.
pub fn load_average() -> f64 {
    sysinfo::System::load_average().map_or(f64::NAN, |load| load.one)
}

/// Where a record is written.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// The folder of bench.csv and bench.json.
    pub folder: Option<PathBuf>,
    /// The baseline.
    pub baseline: Option<PathBuf>,
}

impl Outputs {
    /// Writes the record as it is so far. The first call, before anything is measured, finds out whether that works.
    ///
    /// # Errors
    /// [`Error::Io`] that names the file.
    pub fn write(&self, record: &Record) -> Result<()> {
        if let Some(folder) = &self.folder {
            std::fs::create_dir_all(folder).at("creating the folder", folder)?;
            let mut csv = Vec::new();
            write_rows(&mut csv, &record.table())?;
            atomic::write(&folder.join("bench.csv"), &csv, Durability::Process)?;
            atomic::write_json(&folder.join("bench.json"), record, Durability::Process)?;
        }
        Ok(())
    }

    /// Writes the baseline, once everything is measured.
    ///
    /// # Errors
    /// As [`Outputs::write`].
    pub fn write_baseline(&self, record: &Record) -> Result<()> {
        match &self.baseline {
            Some(file) => atomic::write_json(file, record, Durability::Machine),
            None => Ok(()),
        }
    }

    /// Finds out whether the baseline can be written, without touching what may be there.
    ///
    /// # Errors
    /// [`Error::Io`] that names the file.
    pub fn check_baseline(&self) -> Result<()> {
        let Some(file) = &self.baseline else { return Ok(()) };
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        tempfile::Builder::new().tempfile_in(folder).map(drop).at("writing beside", file)
    }
}

/// The rows of a baseline: bench.json or bench.csv, or what `--save-baseline` wrote.
///
/// # Errors
/// [`Error::Io`] and [`Error::Config`] that name the file; [`Error::Usage`] where the file says that it was measured on
/// another device, or with other parts of a step in its times, than `selection` is. bench.csv says neither.
pub fn read_baseline(file: &Path, selection: &Selection) -> Result<Vec<Row>> {
    #[derive(Deserialize)]
    struct Machine {
        device: String,
    }
    #[derive(Deserialize)]
    struct Measured {
        #[serde(flatten)]
        row: Row,
        include_data: bool,
    }
    #[derive(Deserialize)]
    struct Document {
        schema_version: u32,
        machine: Machine,
        rows: Vec<Measured>,
    }
    let text = crate::files::read_to_string(file).map_err(|error| Error::unreadable(file, error))?;
    if !text.trim_start().starts_with('{') {
        return super::row::read_rows(text.as_bytes(), &file.display().to_string());
    }
    let document: Document = serde_json::from_str(&text)
        .map_err(|error| Error::Config(format!("{}: this is not a record of a benchmark: {error}", file.display())))?;
    if document.schema_version != SCHEMA_VERSION {
        return Err(Error::Config(format!(
            "{}: schema_version {}, expected {SCHEMA_VERSION}; measure the baseline again",
            file.display(),
            document.schema_version
        )));
    }
    if document.machine.device != selection.device {
        return Err(Error::Usage(format!(
            "{}: measured on {}, but this is {}; choose the device with --device",
            file.display(),
            document.machine.device,
            selection.device
        )));
    }
    if let Some(other) = document.rows.iter().find(|measured| measured.include_data != selection.include_data) {
        return Err(Error::Usage(format!(
            "{}: measured {} --include-data; both must be measured in the same way",
            file.display(),
            if other.include_data { "with" } else { "without" }
        )));
    }
    Ok(document.rows.into_iter().map(|measured| measured.row).collect())
}

// What makes a measurement doubtful, and what to do about it.

/// A doubt about a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Warning {
    /// Some pairs lie far from the others.
    Outliers {
        /// How many.
        count: usize,
        /// Of how many pairs.
        of: usize,
    },
    /// The time was over before the interval was as narrow as it should be.
    Imprecise {
        /// Half of the interval's width as a share of the ratio; none of a single pair, which has no interval.
        half_width: Option<f64>,
    },
    /// There was time for one visit, whose pairs share whatever it had of its own.
    OneVisit,
    /// Other processes were at work.
    Busy {
        /// The largest load average of a minute before a visit ended.
        load_average: f64,
        /// The machine's logical cores.
        cores: usize,
    },
    /// A pass is so short that the calls around it count.
    TooFast {
        /// Its time.
        seconds: f64,
    },
    /// The steps led to numbers that are not finite.
    Diverged,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Outliers { count, of } => write!(
                f,
                "{count} of {of} pairs lie far from the others; end other programs and measure again if it matters"
            ),
            Warning::Imprecise { half_width: None } => {
                write!(f, "a single pair has no interval; give more time with --time-budget or --rounds")
            }
            Warning::Imprecise { half_width: Some(half_width) } => write!(
                f,
                "the ratio is known to {:.0} % only; give more time with --time-budget or --rounds",
                (half_width * 100.0).ceil()
            ),
            Warning::OneVisit => {
                write!(f, "there was time for only one visit, and another may differ; give more with --time-budget")
            }
            Warning::Busy { load_average, cores } => write!(
                f,
                "the load average is {load_average:.0} on {cores} cores; it disturbs both sides of a ratio alike, but not seconds"
            ),
            Warning::TooFast { seconds } => {
                write!(f, "a pass takes only {:.0} us, much of it overhead; take a larger batch", seconds * 1e6)
            }
            Warning::Diverged => write!(f, "the steps led to numbers that are not finite, which can change their time"),
        }
    }
}
