//! Where the time of a step goes, for `bench`: a clock that a step is handed and that is off in training.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use tch::Device;

/// The parts of a step behind its backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Taking the mini-batch's curvature into the running estimate.
    Average,
    /// Decomposing the damped Kronecker factors, and solving with them for the step.
    Inverse,
    /// All else: the regularised gradient, moments and velocities, and the change of the parameters. A diagonal
    /// curvature is divided by within it.
    Update,
}

/// The seconds of each part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepTimes {
    /// Of [`Phase::Average`].
    pub average_seconds: f64,
    /// Of [`Phase::Inverse`].
    pub inverse_seconds: f64,
    /// Of [`Phase::Update`].
    pub update_seconds: f64,
}

impl StepTimes {
    /// All parts together.
    pub fn sum(&self) -> f64 {
        self.average_seconds + self.inverse_seconds + self.update_seconds
    }
}

/// Adds up the times between the seams of a step. One that is off looks at no clock and waits for no device.
#[derive(Debug)]
pub struct StepClock {
    running: Option<(Instant, Device)>,
    times: StepTimes,
}

impl StepClock {
    /// A clock that measures nothing, for training.
    pub fn off() -> Self {
        StepClock { running: None, times: StepTimes::default() }
    }

    /// A clock that runs from now on; at each seam it waits until `device` is done.
    pub fn started(device: Device) -> Self {
        StepClock { running: Some((Instant::now(), device)), times: StepTimes::default() }
    }

    /// Counts the time since the last seam, or since the start, as `phase`.
    pub fn lap(&mut self, phase: Phase) {
        let Some((last, device)) = &mut self.running else { return };
        if let Device::Cuda(index) = *device {
            tch::Cuda::synchronize(index as i64);
        }
        let now = Instant::now();
        let part = match phase {
            Phase::Average => &mut self.times.average_seconds,
            Phase::Inverse => &mut self.times.inverse_seconds,
            Phase::Update => &mut self.times.update_seconds,
        };
        *part += (now - *last).as_secs_f64();
        *last = now;
    }

    /// What was counted up to now.
    pub fn times(&self) -> StepTimes {
        self.times
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_lap_counts_for_its_phase_and_nothing_is_lost() {
        let nap = Duration::from_millis(3);
        let (began, mut clock) = (Instant::now(), StepClock::started(Device::Cpu));
        for (phase, naps) in [(Phase::Average, 1), (Phase::Inverse, 4), (Phase::Update, 2), (Phase::Average, 1)] {
            (0..naps).for_each(|_| std::thread::sleep(nap));
            clock.lap(phase);
        }
        let (all, times) = (began.elapsed().as_secs_f64(), clock.times());
        assert!(times.average_seconds >= 0.006 && times.inverse_seconds >= 0.012 && times.update_seconds >= 0.006);
        assert!(times.sum() <= all && times.sum() >= 0.024, "{times:?} of {all}");
    }

    #[test]
    fn a_clock_that_is_off_counts_nothing() {
        let mut clock = StepClock::off();
        clock.lap(Phase::Inverse);
        assert_eq!(clock.times(), StepTimes::default());
    }
}
