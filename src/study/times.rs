//! Seconds of training that can be trusted where the machine was busy with other things meanwhile.
//!
//! On one problem every evaluation is the same work, whatever the optimizer, so that its time tells how busy the machine
//! was. The quiet machine's evaluation is the lower quartile of all evaluations on the problem. An epoch between two
//! evaluations that both took more than [`BUSY`] times as long is scaled by the faster of them; one that even then took
//! [`FREAK`] times the optimizer's median, as when the machine slept, is dropped: the median takes its place.

use crate::statistics::{median, quantile, sorted};

/// Evaluations this many times as long as those of the quiet machine tell of a busy one.
pub const BUSY: f64 = 1.25;
/// No honest epoch takes this many times its optimizer's median.
pub const FREAK: f64 = 5.0;

/// One evaluation and the training before it, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timed {
    /// Of the training since the evaluation before; 0 before training.
    pub training: f64,
    /// Of the evaluation.
    pub evaluation: f64,
}

/// What became of an epoch's seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// They are as measured.
    Kept,
    /// The machine was busy: they are divided by how much longer evaluations took.
    Scaled,
    /// They cannot be right: the optimizer's median stands in their place.
    Dropped,
}

/// An epoch's seconds on a quiet machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quiet {
    /// Seconds of training.
    pub seconds: f64,
    /// How they came about.
    pub mark: Mark,
}

/// The seconds of every epoch as on a quiet machine: of each optimizer on one problem its runs, of each run its
/// evaluations from the one before training on.
pub fn quiet(optimizers: &[Vec<Vec<Timed>>]) -> Vec<Vec<Vec<Quiet>>> {
    let all = optimizers.iter().flatten().flatten().map(|timed| timed.evaluation);
    let usual = quantile(&sorted(&all.filter(|seconds| *seconds > 0.0).collect::<Vec<_>>()), 0.25);
    let scaled = |run: &Vec<Timed>| -> Vec<Quiet> {
        let epoch = |(place, timed): (usize, &Timed)| {
            let before = run[place.saturating_sub(1)].evaluation;
            let load = before.min(timed.evaluation) / usual;
            match load > BUSY && place > 0 {
                true => Quiet { seconds: timed.training / load, mark: Mark::Scaled },
                false => Quiet { seconds: timed.training, mark: Mark::Kept },
            }
        };
        run.iter().enumerate().map(epoch).collect()
    };
    let mut quiet: Vec<Vec<Vec<Quiet>>> = optimizers.iter().map(|runs| runs.iter().map(scaled).collect()).collect();
    for runs in &mut quiet {
        let epochs = || runs.iter().flat_map(|run| run.iter().skip(1));
        let usual = median(&epochs().map(|epoch| epoch.seconds).collect::<Vec<_>>());
        for epoch in runs.iter_mut().flat_map(|run| run.iter_mut().skip(1)) {
            if epoch.seconds > FREAK * usual {
                *epoch = Quiet { seconds: usual, mark: Mark::Dropped };
            }
        }
    }
    quiet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(epochs: &[(f64, f64)]) -> Vec<Timed> {
        epochs.iter().map(|&(training, evaluation)| Timed { training, evaluation }).collect()
    }

    fn seconds(run: &[Quiet]) -> Vec<f64> {
        run.iter().map(|epoch| epoch.seconds).collect()
    }

    #[test]
    fn a_quiet_machines_seconds_are_kept() {
        let found = quiet(&[vec![run(&[(0.0, 0.1), (1.0, 0.1), (1.1, 0.12)])], vec![run(&[(0.0, 0.11), (3.0, 0.1)])]]);
        assert_eq!(seconds(&found[0][0]), [0.0, 1.0, 1.1]);
        assert!(found.iter().flatten().flatten().all(|epoch| epoch.mark == Mark::Kept));
    }

    #[test]
    fn a_busy_machines_seconds_are_scaled_by_the_evaluations_beside_them() {
        // The machine is twice as slow from the middle of epoch 2 on; only where both evaluations tell is it believed.
        let busy = run(&[(0.0, 0.1), (1.0, 0.1), (1.5, 0.2), (2.0, 0.2), (2.0, 0.25)]);
        let found = quiet(&[vec![busy, run(&[(0.0, 0.1), (1.0, 0.1), (1.0, 0.1), (1.0, 0.1)])]]);
        assert_eq!(seconds(&found[0][0]), [0.0, 1.0, 1.5, 1.0, 1.0]);
        let marks: Vec<Mark> = found[0][0].iter().map(|epoch| epoch.mark).collect();
        assert_eq!(marks, [Mark::Kept, Mark::Kept, Mark::Kept, Mark::Scaled, Mark::Scaled]);
        // A slow first evaluation, with its warm-up, says nothing of the first epoch.
        let cold = quiet(&[vec![run(&[(0.0, 0.5), (1.0, 0.1), (1.0, 0.1), (1.0, 0.1)])]]);
        assert_eq!(seconds(&cold[0][0]), [0.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn an_epoch_during_which_the_machine_slept_is_dropped() {
        let slept = run(&[(0.0, 0.1), (1.0, 0.1), (421.0, 0.1), (1.2, 0.1)]);
        let found = quiet(&[vec![slept, run(&[(0.0, 0.1), (1.0, 0.1), (1.0, 0.1)])]]);
        assert_eq!(found[0][0][2], Quiet { seconds: 1.0, mark: Mark::Dropped });
        assert_eq!(found[0][0][3].mark, Mark::Kept);
        // Another optimizer may be slower by any factor.
        let slow = run(&[(0.0, 0.1), (90.0, 0.1), (91.0, 0.1)]);
        let both = quiet(&[vec![run(&[(0.0, 0.1), (1.0, 0.1)])], vec![slow]]);
        assert_eq!(seconds(&both[1][0]), [0.0, 90.0, 91.0]);
        assert_eq!(quiet(&[vec![Vec::new()]]), [vec![Vec::new()]]);
    }
}
