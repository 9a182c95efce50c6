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
use crate::study::signals::Stop;

/// Visits before a row's interval is looked at.
pub const LEAST_VISITS: usize = 4;
/// Visits after which a row is left at what it is.
const MOST_VISITS: usize = 10;

/// What a progress is told.
pub enum Event<'a> {
    /// A row is begun: its number, counted from 0, of how many.
    Begun(usize, usize, &'a Task),
    /// A visit to it is over: how many there were, and what is known.
    Visited(usize, &'a Measurement),
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
    let visits = if plan.limits.rounds.is_some() { 1 } else { MOST_VISITS };
    for visit in 0..visits {
        let open: Vec<usize> = (0..entries.len()).filter(|number| is_open(&entries[*number], &plan.limits)).collect();
        for (place, number) in open.iter().enumerate() {
            let left = plan.time_for_all().saturating_sub(began.elapsed());
            let time = share(left, visit, open.len() - place, open.len());
            let entry = &mut entries[*number];
            if visit == 0 && plan.end.is_some_and(|end| began.elapsed() > end) {
                record.left_out.extend(plan.tasks[*number..].iter().map(LeftOut::for_time));
                outputs.write(record)?;
                entries.truncate(*number);
                break;
            }
            // Where even the least does not fit, what there is has to do; a later round may have more time for it.
            if visit > 0 && entry.least > 2 * time {
                continue;
            }
            tell(Event::Begun(*number, plan.tasks.len(), entry.task));
            if !entry.visit(&of_visit(&plan.limits, time), &mut shared, program, stop)? {
                return Ok(false);
            }
            let Some(measurement) = entry.measurement(&plan.limits) else { return Ok(false) };
            tell(Event::Visited(entry.visits(), &measurement));
            match record.rows.get_mut(*number) {
                Some(row) => *row = measurement,
                None => record.rows.push(measurement),
            }
            outputs.write(record)?;
        }
    }
    Ok(true)
}

/// Whether another visit may tell more.
fn is_open(entry: &Entry, limits: &Limits) -> bool {
    let known = |interval: Interval| interval.relative_half_width() <= limits.precision;
    entry.visits() < LEAST_VISITS || !entry.interval().is_some_and(known)
}

/// What a visit may take of the time that is left: the round has `here` visits to come, each further one `open`.
fn share(left: Duration, visit: usize, here: usize, open: usize) -> Duration {
    let rounds = if visit < LEAST_VISITS { LEAST_VISITS } else { MOST_VISITS };
    left / (here + open * (rounds - visit - 1)) as u32
}

/// When a visit ends: pairs of all visits together are known to the square root of their number better than those of
/// one.
fn of_visit(limits: &Limits, time: Duration) -> Limits {
    Limits { precision: limits.precision * (LEAST_VISITS as f64).sqrt(), time, ..*limits }
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
