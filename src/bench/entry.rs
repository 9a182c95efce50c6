//! A row while it is being measured: visits of one process each, and what they have found so far.

use std::path::Path;
use std::time::{Duration, Instant};

use super::batches::SEED;
use super::contest::Timed;
use super::measure::{Limits, Pair, Times, measure};
use super::parts::{Shared, Shares, parts};
use super::record::{Measurement, load_average};
use super::row::Row;
use super::statistics::{Interval, bootstrap_median_of_groups, outliers};
use super::subject::Subject;
use super::task::Task;
use super::warning::Warning;
use super::worker::Worker;
use crate::error::Result;
use crate::statistics::median;
use crate::study::signals::Stop;

/// Samples of the bootstrap.
const RESAMPLES: usize = 2000;
/// A pass below this time is too short to say much.
const TOO_FAST: f64 = 50e-6;
/// Outliers are told of above this share of the pairs.
const OUTLIER_SHARE: f64 = 0.1;

/// A row and the visits to it.
pub struct Entry<'a> {
    /// What is measured.
    pub task: &'a Task,
    visits: Vec<Times>,
    interval: Option<Interval>,
    /// What one more visit takes at the least: the start of its process, its warm-up and a pair.
    pub least: Duration,
    peak_bytes: Option<u64>,
    resident_bytes: Option<u64>,
    shares: Option<Shares>,
    diverged: bool,
}

impl<'a> Entry<'a> {
    /// A row that nothing is known of.
    pub fn new(task: &'a Task) -> Self {
        Entry {
            task,
            visits: Vec::new(),
            interval: None,
            least: Duration::ZERO,
            peak_bytes: None,
            resident_bytes: None,
            shares: None,
            diverged: false,
        }
    }

    /// How often it was visited.
    pub fn visits(&self) -> usize {
        self.visits.len()
    }

    /// The median ratio over all pairs with its interval, which takes in what differs between visits; none before the
    /// first.
    pub fn interval(&self) -> Option<Interval> {
        self.interval
    }

    fn add(&mut self, times: Times) {
        self.visits.push(times);
        let groups: Vec<Vec<f64>> = self.visits.iter().map(Times::ratios).collect();
        self.interval = Some(bootstrap_median_of_groups(&groups, RESAMPLES, SEED));
    }

    /// Times pairs in a new process; the first one is looked at for its memory before it does anything else. Gives
    /// whether that came to its end: otherwise it was asked to stop, and the visit does not count.
    ///
    /// # Errors
    /// The first one of the process.
    pub fn visit(&mut self, limits: &Limits, shared: &mut Shared, program: &Path, stop: &Stop) -> Result<bool> {
        let visited = self.visit_in_process(limits, shared, program, stop);
        // A signal to this process may have ended the other one too.
        if stop.is_requested() {
            return Ok(false);
        }
        visited.map(|()| true)
    }

    fn visit_in_process(&mut self, limits: &Limits, shared: &mut Shared, program: &Path, stop: &Stop) -> Result<()> {
        let began = Instant::now();
        let mut worker = Worker::start(program, self.task)?;
        let mut least = began.elapsed();
        let first = self.visits.is_empty();
        if first {
            let pass = self.look_at_memory(&mut worker)?;
            if limits.rounds == Some(1) {
                self.add(Times { gradient: vec![worker.gradient()?], pass: vec![pass] });
                return Ok(());
            }
        }
        let limits = Limits { time: limits.time.saturating_sub(began.elapsed()), ..*limits };
        let start = Instant::now();
        let Some(times) = measure(&mut worker, &limits, first, stop)? else { return Ok(()) };
        let further = (times.seconds() * (1.0 - 1.0 / times.pass.len() as f64)).max(0.0);
        least += start.elapsed().saturating_sub(Duration::from_secs_f64(further));
        self.least = least;
        if first {
            self.shares = Some(shared.of(self.task, &mut worker)?);
        }
        self.diverged |= worker.diverged;
        self.add(times);
        Ok(())
    }

    /// The peak memory of a process that has made this pass and nothing else; gives the pass.
    fn look_at_memory(&mut self, worker: &mut Worker) -> Result<Timed> {
        self.resident_bytes = worker.resident_bytes;
        let pass = worker.pass()?;
        if matches!(self.task.subject, Subject::Step(_)) {
            // From the second step on there is a mean of earlier ones beside the mini-batch's own curvature.
            worker.pass()?;
        }
        self.peak_bytes = worker.ask("peak")?.peak_bytes;
        Ok(pass)
    }

    /// What is known so far; none before the first visit.
    pub fn measurement(&self, limits: &Limits) -> Option<Measurement> {
        let task = self.task;
        let interval = self.interval?;
        let gradient_times: Vec<f64> = self.visits.iter().flat_map(|times| times.gradient.clone()).collect();
        let passes: Vec<Timed> = self.visits.iter().flat_map(|times| times.pass.clone()).collect();
        let times: Vec<f64> = passes.iter().map(|timed| timed.seconds).collect();
        let (gradient_seconds, seconds) = (median(&gradient_times), median(&times));
        let load = load_average();
        let row = Row {
            figure: task.figure.clone(),
            problem: task.problem.clone(),
            quantity: task.subject.name().to_owned(),
            batch_size: task.batch_size,
            threads: task.threads,
            rounds: times.len(),
            gradient_seconds,
            seconds,
            ratio: interval.estimate,
            ratio_low: interval.low,
            ratio_high: interval.high,
            peak_bytes: self.peak_bytes,
        };
        Some(Measurement {
            row,
            parts: parts(&task.subject, self.shares, gradient_seconds, &passes),
            resident_bytes: self.resident_bytes,
            load_average: load,
            include_data: task.include_data,
            warnings: self.warnings(limits, &interval, seconds, load),
            visits: self.visits.iter().map(|times| times.pass.len()).collect(),
            gradient_times,
            times,
        })
    }

    fn warnings(&self, limits: &Limits, interval: &Interval, seconds: f64, load: f64) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if self.diverged {
            warnings.push(Warning::Diverged);
        }
        // Each pair beside those of its own visit: from one visit to the next a ratio may drift.
        let relative: Vec<f64> = self.visits.iter().flat_map(|times| relative(&times.ratios())).collect();
        let (far, of) = (outliers(&relative), relative.len());
        if far as f64 > OUTLIER_SHARE * of as f64 {
            warnings.push(Warning::Outliers { count: far, of });
        }
        let half_width = (of > 1).then(|| interval.relative_half_width());
        if limits.rounds.is_none() && half_width.is_none_or(|width| width > 1.25 * limits.precision) {
            warnings.push(Warning::Imprecise { half_width });
        }
        if seconds < TOO_FAST {
            warnings.push(Warning::TooFast { seconds });
        }
        // What the process itself takes is no disturbance.
        if load > self.task.threads as f64 + 0.5 {
            let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
            warnings.push(Warning::Busy { load_average: load, cores });
        }
        warnings
    }
}

/// Values in units of their median.
fn relative(values: &[f64]) -> Vec<f64> {
    let unit = median(values);
    values.iter().map(|value| value / unit).collect()
}
