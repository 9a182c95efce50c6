//! Where the time of a row goes: forward, backward, extraction, and the parts of a step.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::measure::{Pair, Timed};
use super::record::Parts;
use super::task::{Subject, Task};
use super::worker::Worker;
use crate::error::Result;
use crate::optimizers::StepTimes;
use crate::statistics::median;

/// Rounds in which the parts are measured.
const ROUNDS: usize = 7;
/// They end after this time.
const TIME: Duration = Duration::from_secs(2);

/// What rows of the same problem, batch size and number of threads share, measured once for all of them.
#[derive(Debug, Default)]
pub struct Shared(HashMap<(String, usize, usize), Shares>);

/// Times in units of libtorch's gradient beside them: the speed of a machine drifts between rows.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    forward: f64,
    own_gradient: f64,
    channels_last: f64,
}

impl Shared {
    /// The shares of a task's problem, measured in its process where they are not known yet.
    ///
    /// # Errors
    /// The first one of the process.
    pub fn of(&mut self, task: &Task, worker: &mut Worker) -> Result<Shares> {
        let key = (task.source.clone(), task.batch_size, task.threads);
        if let Some(known) = self.0.get(&key) {
            return Ok(*known);
        }
        let requests = ["forward", "own_gradient", "channels_last"];
        let mut found = [(); 3].map(|()| Vec::new());
        let began = Instant::now();
        for round in 0..=ROUNDS {
            let unit = worker.gradient()?;
            for (shares, request) in found.iter_mut().zip(requests) {
                let seconds = worker.time(request)?;
                // The first round warms up.
                if round > 0 {
                    shares.push(seconds / unit);
                }
            }
            if round > 0 && began.elapsed() > TIME {
                break;
            }
        }
        let [forward, own_gradient, channels_last] = found.map(|shares| median(&shares));
        let shares = Shares { forward, own_gradient, channels_last };
        self.0.insert(key, shares);
        Ok(shares)
    }
}

/// The parts of a row's median pass, given libtorch's median gradient. A step's own are taken from what else would
/// count as extraction: so all parts add up to the median of the whole, which medians of differences would not.
pub fn parts(subject: &Subject, shares: Option<Shares>, gradient_seconds: f64, passes: &[Timed]) -> Parts {
    let median_of = |part: fn(&Timed) -> f64| median(&passes.iter().map(part).collect::<Vec<_>>());
    let mut parts = Parts::default();
    if let Some(Shares { forward, own_gradient, channels_last }) = shares {
        parts.own_gradient_seconds = Some(own_gradient * gradient_seconds);
        parts.channels_last_gradient_seconds = Some(channels_last * gradient_seconds);
        if !matches!(subject, Subject::Loop) {
            parts.forward_seconds = Some(forward * gradient_seconds);
            parts.backward_seconds = Some((own_gradient - forward) * gradient_seconds);
            parts.extraction_seconds = Some(median_of(|timed| timed.seconds) - own_gradient * gradient_seconds);
        }
    }
    if matches!(subject, Subject::Step(_)) {
        let step = StepTimes {
            average_seconds: median_of(|timed| timed.step.average_seconds),
            inverse_seconds: median_of(|timed| timed.step.inverse_seconds),
            update_seconds: median_of(|timed| timed.step.update_seconds),
        };
        let behind = step.average_seconds + step.inverse_seconds + step.update_seconds;
        parts.extraction_seconds = parts.extraction_seconds.map(|seconds| seconds - behind);
        parts.average_seconds = Some(step.average_seconds);
        parts.inverse_seconds = Some(step.inverse_seconds);
        parts.update_seconds = Some(step.update_seconds);
    }
    parts
}
