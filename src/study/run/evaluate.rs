//! The metrics of one evaluation: loss and accuracy on train-eval, validation and test samples.

use std::time::{Duration, Instant};

use super::super::store::EpochRow;
use super::trainer::Trainer;
use crate::error::Result;
use crate::problems::data::Part;
use crate::signals::Stop;

/// Measures all parts after `epoch` epochs; nothing where it was asked to stop meanwhile. `train_seconds` is zero. Before each
/// batch `suspend` is called, whose time, which it tells, is none of the evaluation's.
///
/// Each loss is the mean over batches of loss and regulariser, each accuracy that of the batch accuracies, without dropout
/// and with BatchNorm's running statistics. A last, smaller batch counts for the part of a batch that it is.
pub(super) fn evaluate(
    trainer: &Trainer,
    epoch: usize,
    stop: &Stop,
    suspend: &mut dyn FnMut() -> Duration,
) -> Result<Option<EpochRow>> {
    let mut suspended = Duration::ZERO;
    let mut wait = || suspended += suspend();
    let began = Instant::now();
    let regulariser = trainer.regulariser()?;
    let mut measured = [(0.0, 0.0); 3];
    for (part, measured) in [Part::TrainEval, Part::Valid, Part::Test].into_iter().zip(&mut measured) {
        let Some((loss, accuracy)) = mean_over_batches(trainer, part, epoch, stop, &mut wait)? else { return Ok(None) };
        *measured = (loss + regulariser, accuracy);
    }
    let [train, valid, test] = measured;
    Ok(Some(EpochRow {
        epoch,
        train_loss: train.0,
        train_accuracy: train.1,
        valid_loss: valid.0,
        valid_accuracy: valid.1,
        test_loss: test.0,
        test_accuracy: test.1,
        train_seconds: 0.0,
        eval_seconds: began.elapsed().saturating_sub(suspended).as_secs_f64(),
    }))
}

/// Mean loss, without the regulariser, and mean accuracy.
pub(super) fn mean_over_batches(
    trainer: &Trainer,
    part: Part,
    evaluation: usize,
    stop: &Stop,
    wait: &mut dyn FnMut(),
) -> Result<Option<(f64, f64)>> {
    let feed = trainer.feed();
    let order = feed.evaluation_order(part, evaluation);
    let count = feed.evaluation_batches(part);
    let (mut losses, mut accuracies, mut weights) = (0.0, 0.0, 0.0);
    for index in 0..count {
        wait();
        if stop.is_requested() {
            return Ok(None);
        }
        let batch = feed.evaluation_batch(part, &order, evaluation, index)?;
        let (loss, accuracy) = trainer.measure(&batch)?;
        let weight = batch.x.size()[0] as f64 / feed.batch_size() as f64;
        // A sum over a smaller batch is smaller by itself.
        losses += if trainer.is_mean() { weight * loss } else { loss };
        accuracies += weight * accuracy;
        weights += weight;
    }
    Ok(Some((losses / weights, accuracies / weights)))
}
