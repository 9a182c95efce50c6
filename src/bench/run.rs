//! Carries a plan out, row by row.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::contest::{Contest, Timed};
use super::measure::{Limits, Times, measure};
use super::plan::{LeftOut, Plan};
use super::record::{Measurement, Outputs, Parts, Record, load_average};
use super::row::Row;
use super::statistics::outliers;
use super::subject::Subject;
use super::task::Task;
use super::warning::Warning;
use super::worker::Worker;
use super::yardstick::Order;
use crate::error::Result;
use crate::optimizers::StepTimes;
use crate::statistics::median;
use crate::study::signals::Stop;

/// A pass below this time is too short to say much.
const TOO_FAST: f64 = 50e-6;
/// Outliers are told of above this share of the pairs.
const OUTLIER_SHARE: f64 = 0.1;
/// Rounds of the parts that are measured once for a problem and batch size.
const PART_ROUNDS: usize = 7;
/// They end after this time.
const PART_TIME: Duration = Duration::from_secs(2);

/// What a progress is told.
pub enum Event<'a> {
    /// A row is begun: its number, counted from 0, of how many.
    Begun(usize, usize, &'a Task),
    /// A row is done.
    Done(&'a Measurement),
}

/// What rows of the same problem, batch size and number of threads share: times in units of libtorch's gradient.
type Shared = HashMap<(String, usize, usize), [f64; 3]>;

/// Measures every row of the plan and writes the record after each; `program` is this program, for processes of their
/// own. Gives whether it came to its end: otherwise it was asked to stop.
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
    let mut shared = Shared::new();
    for (number, task) in plan.tasks.iter().enumerate() {
        if plan.end.is_some_and(|end| began.elapsed() > end) {
            record.left_out.extend(plan.tasks[number..].iter().map(LeftOut::for_time));
            outputs.write(record)?;
            break;
        }
        tell(Event::Begun(number, plan.tasks.len(), task));
        let mut limits = plan.limits;
        if let Some(time) = plan.time {
            limits.time = time.saturating_sub(began.elapsed()) / (plan.tasks.len() - number) as u32;
        }
        let Some(measurement) = row(task, &limits, &mut shared, program, stop)? else { return Ok(false) };
        tell(Event::Done(&measurement));
        record.rows.push(measurement);
        outputs.write(record)?;
    }
    Ok(true)
}

/// One row; none where it was asked to stop.
fn row(task: &Task, limits: &Limits, shared: &mut Shared, program: &Path, stop: &Stop) -> Result<Option<Measurement>> {
    let began = Instant::now();
    let single = limits.rounds == Some(1);
    let alone = alone(task, program, single);
    if stop.is_requested() {
        return Ok(None);
    }
    let mut warnings = Vec::new();
    let (peak_bytes, resident_bytes) = match &alone {
        Ok(alone) => (alone.peak_bytes, alone.resident_bytes),
        Err(error) => {
            warnings.push(Warning::NoPeak { reason: error.to_string() });
            (None, None)
        }
    };
    let (times, mut parts) = match (single, alone) {
        (true, alone) => (alone?.times, Parts::default()),
        (false, _) => {
            let mut contest = Contest::new(task)?;
            let limits = Limits { time: limits.time.saturating_sub(began.elapsed()), ..*limits };
            let Some(times) = measure(&mut contest, &limits, stop)? else { return Ok(None) };
            if contest.has_diverged() {
                warnings.push(Warning::Diverged);
            }
            let parts = parts(task, &times, &mut contest, shared)?;
            (times, parts)
        }
    };
    add_step(task, &times, &mut parts);
    Ok(Some(finish(task, limits, times, parts, (peak_bytes, resident_bytes), warnings)))
}

fn finish(
    task: &Task,
    limits: &Limits,
    times: Times,
    parts: Parts,
    (peak_bytes, resident_bytes): (Option<u64>, Option<u64>),
    mut warnings: Vec<Warning>,
) -> Measurement {
    let interval = times.interval();
    let passes: Vec<f64> = times.pass.iter().map(|timed| timed.seconds).collect();
    let (seconds, rounds) = (median(&passes), passes.len());
    let far = outliers(&times.ratios());
    if far as f64 > OUTLIER_SHARE * rounds as f64 {
        warnings.push(Warning::Outliers { count: far, of: rounds });
    }
    let half_width = (rounds > 1).then(|| interval.relative_half_width());
    if limits.rounds.is_none() && half_width.is_none_or(|width| width > 1.25 * limits.precision) {
        warnings.push(Warning::Imprecise { half_width });
    }
    if seconds < TOO_FAST {
        warnings.push(Warning::TooFast { seconds });
    }
    let (load, cores) = (load_average(), std::thread::available_parallelism().map_or(1, |cores| cores.get()));
    // What this process itself takes is no disturbance.
    if load > task.threads as f64 + 0.5 {
        warnings.push(Warning::Busy { load_average: load, cores });
    }
    let row = Row {
        figure: task.figure.clone(),
        problem: task.problem.clone(),
        quantity: task.subject.name().to_owned(),
        batch_size: task.batch_size,
        threads: task.threads,
        rounds,
        gradient_seconds: median(&times.gradient),
        seconds,
        ratio: interval.estimate,
        ratio_low: interval.low,
        ratio_high: interval.high,
        peak_bytes,
    };
    Measurement {
        row,
        parts,
        resident_bytes,
        load_average: load,
        include_data: task.include_data,
        warnings,
        gradient_times: times.gradient,
        times: passes,
    }
}

/// What a process that does nothing else tells.
struct Alone {
    peak_bytes: Option<u64>,
    resident_bytes: Option<u64>,
    times: Times,
}

/// Makes one pass in a process of its own and looks at its peak; `single` times it and then a gradient.
fn alone(task: &Task, program: &Path, single: bool) -> Result<Alone> {
    let mut worker = Worker::start(program, task)?;
    let resident_bytes = worker.resident_bytes;
    let pass = worker.ask("pass")?;
    if matches!(task.subject, Subject::Step(_)) {
        // From the second step on there is a mean of earlier ones beside the mini-batch's own curvature.
        worker.ask("pass")?;
    }
    let peak_bytes = worker.ask("peak")?.peak_bytes;
    let mut times = Times::default();
    if single {
        times.gradient.push(worker.ask("gradient")?.seconds.unwrap_or(f64::NAN));
        times.pass.push(Timed { seconds: pass.seconds.unwrap_or(f64::NAN), step: pass.step.unwrap_or_default() });
    }
    Ok(Alone { peak_bytes, resident_bytes, times })
}

/// Where the time goes. A forward pass alone, our gradient and libtorch's with channels last are measured once for a
/// problem, batch size and number of threads, in units of libtorch's gradient beside them: a machine's speed drifts
/// between rows.
fn parts(task: &Task, times: &Times, contest: &mut Contest, shared: &mut Shared) -> Result<Parts> {
    let key = (task.source.clone(), task.batch_size, task.threads);
    let shares = match shared.get(&key) {
        Some(known) => *known,
        None => {
            let mut found = [(); 3].map(|()| Vec::new());
            let began = Instant::now();
            for round in 0..=PART_ROUNDS {
                let unit = contest.gradient_in(Order::ChannelsFirst)?;
                let once = [contest.forward()?, contest.own_gradient()?, contest.gradient_in(Order::ChannelsLast)?];
                // The first round warms up.
                if round > 0 {
                    found.iter_mut().zip(once).for_each(|(shares, seconds)| shares.push(seconds / unit));
                    if began.elapsed() > PART_TIME {
                        break;
                    }
                }
            }
            let medians = found.map(|shares| median(&shares));
            shared.insert(key, medians);
            medians
        }
    };
    let unit = median(&times.gradient);
    let [forward, own, last] = shares.map(|share| share * unit);
    let passes: Vec<f64> = times.pass.iter().map(|timed| timed.seconds).collect();
    let ours = !matches!(task.subject, Subject::Loop);
    Ok(Parts {
        forward_seconds: ours.then_some(forward),
        backward_seconds: ours.then_some(own - forward),
        extraction_seconds: ours.then(|| median(&passes) - own),
        own_gradient_seconds: Some(own),
        channels_last_gradient_seconds: Some(last),
        ..Parts::default()
    })
}

/// Adds the parts of a step, as far as there is one, and takes them from what else would count as extraction: so all
/// parts add up to the median of the whole, which medians of differences would not.
fn add_step(task: &Task, times: &Times, parts: &mut Parts) {
    if !matches!(task.subject, Subject::Step(_)) {
        return;
    }
    let of = |part: fn(&StepTimes) -> f64| {
        let seconds: Vec<f64> = times.pass.iter().map(|timed| part(&timed.step)).collect();
        median(&seconds)
    };
    let average = of(|step| step.average_seconds);
    let inverse = of(|step| step.inverse_seconds);
    let update = of(|step| step.update_seconds);
    parts.extraction_seconds = parts.extraction_seconds.map(|seconds| seconds - average - inverse - update);
    (parts.average_seconds, parts.inverse_seconds, parts.update_seconds) = (Some(average), Some(inverse), Some(update));
}
