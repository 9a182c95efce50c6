//! Carries a plan out: all rows are visited in turn, again and again, until each is known well enough or the time is
//! over.
//!
//! A ratio drifts by some per cent over minutes, and differs from process to process. Pairs of one visit share that, so
//! that an interval from them alone is too narrow, and two runs contradict each other. Visits that are spread over the
//! whole run, each in a new process, show it, and the interval takes it in.

use std::path::Path;
use std::time::{Duration, Instant};

use super::entry::Entry;
use super::measure::Limits;
use super::parts::Shared;
use super::plan::{LeftOut, Plan};
use super::record::{Measurement, Outputs, Record};
use super::statistics::Interval;
use super::task::Task;
use crate::error::Result;
use crate::signals::Stop;

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
