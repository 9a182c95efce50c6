//! Carries a plan out: all rows are visited in turn, again and again, until each is known well enough or the time is
//! over.
//!
//! A ratio drifts by some per cent over minutes, and differs from process to process. Pairs of one visit share that, so
//! that an interval from them alone is too narrow, and two runs contradict each other. Visits that are spread over the
//! whole run, each in a new process, show it, and the interval takes it in.

use std::path::Path;
use std::time::{Duration, Instant};

use super::measure::{Limits, Pair, Timed, Times, measure};
use super::parts::{Shared, Shares, parts};
use super::plan::{LeftOut, Plan};
use super::record::{Measurement, Outputs, Record, Warning, load_average};
use super::row::Row;
use super::statistics::{Interval, interval_of_grouped_median, outliers};
use super::task::{SEED, Subject, Task};
use super::worker::Worker;
use crate::error::{Error, Result};
use crate::signals::Stop;
use crate::statistics::median;

/// Visits before a row's interval is looked at.
pub const LEAST_VISITS: usize = 4;
/// Visits after which a row is left at what it is.
const MOST_VISITS: usize = 10;

/// What a progress is told.
#[derive(Debug)]
pub enum Event<'a> {
    /// A visit to a row begins.
    Begun {
        /// The row's number, counted from 0.
        number: usize,
        /// The row.
        task: &'a Task,
    },
    /// It is over.
    Visited {
        /// How many visits to the row there were.
        visits: usize,
        /// What is known of it.
        measurement: &'a Measurement,
    },
}

/// Measures every row of the plan and writes the record after each visit; `program` is this program, for processes of
/// their own. Gives whether it came to its end: otherwise it was asked to stop.
///
/// # Errors
/// The first one of a row, or of writing.
pub fn run(
    plan: &Plan,
    record: &mut Record,
    outputs: &Outputs,
    program: &Path,
    stop: &Stop,
    tell: &mut dyn FnMut(Event),
) -> Result<bool> {
    let began = Instant::now();
    let mut shared = Shared::default();
    let mut entries: Vec<Entry> = plan.tasks.iter().map(Entry::new).collect();
    let turns = if plan.rounds.is_some() { 1 } else { MOST_VISITS };
    for turn in 0..turns {
        let open = open(&entries, plan.precision);
        for (place, number) in open.iter().enumerate() {
            if turn == 0 && plan.end.is_some_and(|end| began.elapsed() > end) {
                record.left_out.extend(plan.tasks[*number..].iter().map(LeftOut::for_time));
                outputs.write(record)?;
                entries.truncate(*number);
                break;
            }
            let left = plan.time_for_all().saturating_sub(began.elapsed());
            let limits = of_visit(plan, share(left, turn, open.len() - place, open.len()));
            let entry = &mut entries[*number];
            // Where even the least does not fit, what there is has to do, unless later turns have more time for it.
            if turn > 0 && entry.least > 2 * limits.time {
                continue;
            }
            tell(Event::Begun { number: *number, task: entry.task });
            if !entry.visit(&limits, &mut shared, program, stop)? {
                return Ok(false);
            }
            let Some(measurement) = entry.measurement(plan) else { continue };
            tell(Event::Visited { visits: entry.visits(), measurement: &measurement });
            // In the first turn rows come in their order, so that their numbers are those in the record.
            match record.rows.get_mut(*number) {
                Some(row) => *row = measurement,
                None => record.rows.push(measurement),
            }
            outputs.write(record)?;
        }
    }
    Ok(true)
}

/// The rows of which another visit may tell more; first those that have had the fewest, for which there was no time.
fn open(entries: &[Entry], precision: f64) -> Vec<usize> {
    let known = |interval: Interval| interval.relative_half_width() <= precision;
    let is_open = |entry: &Entry| entry.visits() < LEAST_VISITS || !entry.interval().is_some_and(known);
    let mut open: Vec<usize> = (0..entries.len()).filter(|number| is_open(&entries[*number])).collect();
    open.sort_by_key(|number| entries[*number].visits());
    open
}

/// What a visit may take of the time that is left: the turn has `here` visits to come, each further one `open`.
fn share(left: Duration, turn: usize, here: usize, open: usize) -> Duration {
    let turns = if turn < LEAST_VISITS { LEAST_VISITS } else { MOST_VISITS };
    left / (here + open * (turns - turn - 1)) as u32
}

/// When a visit ends: knowing its own ratio much better than visits differ would gain little.
fn of_visit(plan: &Plan, time: Duration) -> Limits {
    Limits { rounds: plan.rounds, precision: 2.0 * plan.precision, time }
}

// A row while it is being measured: visits of one process each, and what they have found so far.

/// Samples of the bootstrap.
const RESAMPLES: usize = 2000;
/// A pass below this time is too short to say much.
const TOO_FAST: f64 = 50e-6;
/// Outliers are told of above this share of the pairs.
const OUTLIER_SHARE: f64 = 0.1;

/// A row and the visits to it.
#[derive(Debug)]
struct Entry<'a> {
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
    /// The largest of those at the ends of its visits.
    load_average: f64,
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
            load_average: f64::NAN,
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

    /// Times pairs in a new process; the first one is looked at for its memory before it does anything else. Gives
    /// whether that came to its end: otherwise it was asked to stop, and the visit does not count.
    ///
    /// # Errors
    /// The first one of the process, with the row's title.
    pub fn visit(&mut self, limits: &Limits, shared: &mut Shared, program: &Path, stop: &Stop) -> Result<bool> {
        let visited = self.visit_in_process(limits, shared, program, stop);
        // A signal to this process may have ended the other one too.
        if stop.is_requested() {
            return Ok(false);
        }
        let times = visited.map_err(|error| Error::Environment(format!("{}: {error}", self.task.title())))?;
        self.load_average = self.load_average.max(load_average());
        self.visits.push(times);
        let groups: Vec<Vec<f64>> = self.visits.iter().map(Times::ratios).collect();
        self.interval = Some(interval_of_grouped_median(&groups, RESAMPLES, SEED));
        Ok(true)
    }

    fn visit_in_process(&mut self, limits: &Limits, shared: &mut Shared, program: &Path, stop: &Stop) -> Result<Times> {
        let began = Instant::now();
        let mut worker = Worker::start(program, self.task)?;
        self.least = began.elapsed();
        let first = self.visits.is_empty();
        let pass = if first { Some(self.look_at_memory(&mut worker)?) } else { None };
        let times = match pass {
            Some(pass) if limits.rounds == Some(1) => Times { gradient: vec![worker.gradient()?], pass: vec![pass] },
            _ => {
                let warm = pass.map(|pass| Duration::from_secs_f64(pass.seconds));
                let limits = Limits { time: limits.time.saturating_sub(began.elapsed()), ..*limits };
                let start = Instant::now();
                let times = measure(&mut worker, &limits, warm, stop)?.unwrap_or_default();
                let further = times.seconds() * (1.0 - 1.0 / times.pass.len().max(1) as f64);
                self.least +=
                    (start.elapsed() + warm.unwrap_or_default()).saturating_sub(Duration::from_secs_f64(further));
                if first && !stop.is_requested() {
                    self.shares = Some(shared.of(self.task, &mut worker)?);
                }
                times
            }
        };
        self.diverged |= worker.diverged;
        Ok(times)
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
    pub fn measurement(&self, plan: &Plan) -> Option<Measurement> {
        let task = self.task;
        let interval = self.interval?;
        let gradient_times: Vec<f64> = self.visits.iter().flat_map(|times| times.gradient.clone()).collect();
        let passes: Vec<Timed> = self.visits.iter().flat_map(|times| times.pass.clone()).collect();
        let times: Vec<f64> = passes.iter().map(|timed| timed.seconds).collect();
        let (gradient_seconds, seconds) = (median(&gradient_times), median(&times));
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
            load_average: self.load_average,
            include_data: task.include_data,
            warnings: self.warnings(plan, &interval, seconds),
            visits: self.visits.iter().map(|times| times.pass.len()).collect(),
            gradient_times,
            times,
        })
    }

    fn warnings(&self, plan: &Plan, interval: &Interval, seconds: f64) -> Vec<Warning> {
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
        if plan.rounds.is_none() && half_width.is_none_or(|width| width > 1.25 * plan.precision) {
            warnings.push(Warning::Imprecise { half_width });
        }
        if plan.rounds.is_none() && of > 1 && self.visits.len() == 1 {
            warnings.push(Warning::OneVisit);
        }
        if seconds < TOO_FAST {
            warnings.push(Warning::TooFast { seconds });
        }
        // What the process itself takes is no disturbance.
        if self.load_average > self.task.threads as f64 + 0.5 {
            let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
            warnings.push(Warning::Busy { load_average: self.load_average, cores });
        }
        warnings
    }
}

/// Values in units of their median.
fn relative(values: &[f64]) -> Vec<f64> {
    let unit = median(values);
    values.iter().map(|value| value / unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_shared_among_all_visits_to_come() {
        let second = Duration::from_secs(1);
        // Three rows: twelve visits in the first four rounds.
        assert_eq!(share(12 * second, 0, 3, 3), second);
        assert_eq!(share(11 * second, 0, 2, 3), second);
        assert_eq!(share(second, LEAST_VISITS - 1, 1, 3), second);
        // Two rows are still open behind them.
        assert_eq!(share(12 * second, LEAST_VISITS, 2, 2), second);
        assert_eq!(share(Duration::ZERO, 0, 3, 3), Duration::ZERO);
    }
}
