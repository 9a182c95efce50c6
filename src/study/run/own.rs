//! Training a network that was built in Rust, without a problem file, settings or a run folder.

use tch::{Device, Kind};

use super::trainer::{Step, Trainer, mean_over_batches};
use crate::backpack::Network;
use crate::backpack::losses::Loss;
use crate::error::Result;
use crate::optimizers::Optimizer;
use crate::problems::data::{DataSet, Feed, FeedOptions, Part, Wanted};
use crate::signals::Stop;

/// How a network of one's own is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainerOptions {
    /// The seed of everything that is drawn, initial values apart: split, order, augmentation, dropout, sampled labels.
    pub seed: u64,
    /// N, in training and evaluation.
    pub batch_size: usize,
    /// Whether the last, smaller batch of each part is left out.
    pub drop_last: bool,
    /// Samples split off for validation; as many as the data set has it, if `None`.
    pub valid_size: Option<usize>,
    /// Training samples used, of those left after the split; all, if `None`.
    pub train_size: Option<usize>,
    /// Whether training samples are augmented, by the data set's recipe.
    pub augment: bool,
    /// The factor of half the sum of squared weights (never biases) that is added to the loss; the optimizer's has to be
    /// the same.
    pub l2: f64,
    /// Where tensors live.
    pub device: Device,
}

impl Default for TrainerOptions {
    /// Batches of 128 on the CPU, by seed 0.
    fn default() -> Self {
        TrainerOptions {
            seed: 0,
            batch_size: 128,
            drop_last: true,
            valid_size: None,
            train_size: None,
            augment: false,
            l2: 0.0,
            device: Device::Cpu,
        }
    }
}

/// Loss and accuracy over a part of the data.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Measured {
    /// The mean over batches of the loss, regulariser included.
    pub loss: f64,
    /// The mean over batches of the accuracy; NaN where there is no such notion.
    pub accuracy: f64,
}

impl Trainer {
    /// A network before its first step, with the parameters that it has, layers of one's own included. It is moved to the
    /// device, in single precision; the same parts and options give the same numbers.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when the data do not fit the network, [`crate::Error::Usage`] when a part does not fill a
    /// batch, or the set has no augmentation.
    pub fn of(
        mut network: Network,
        loss: Box<dyn Loss>,
        optimizer: Box<dyn Optimizer>,
        data: &DataSet,
        options: &TrainerOptions,
    ) -> Result<Self> {
        let shapes = network.shapes(&data.shape)?;
        let classes = loss.takes_classes();
        let wanted = Wanted { integers: network.integers(), output: shapes.output(), classes, inputs: false };
        let fit = data.info().fit(&wanted)?;
        let feed = Feed::new(
            data,
            FeedOptions {
                seed: options.seed,
                batch_size: options.batch_size,
                drop_last: options.drop_last,
                valid_size: options.valid_size.unwrap_or(data.default_valid_size),
                train_size: options.train_size,
                augment: options.augment,
                fit,
                device: options.device,
                kind: Kind::Float,
            },
        )?;
        network.to(Kind::Float, options.device);
        let TrainerOptions { seed, l2, device, .. } = *options;
        Ok(Trainer { seed, l2, device, has_accuracy: true, feed, network, loss, optimizer, scheduled: None })
    }

    /// All steps of an epoch, counted from 0: the mean of the mini-batches' losses, each before its step and without the
    /// regulariser. `None` where a loss was not finite or too large; the parameters are those before that step.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn train_epoch(&mut self, epoch: usize) -> Result<Option<f64>> {
        let order = self.train_order(epoch);
        let steps = self.steps_per_epoch();
        let mut sum = 0.0;
        for step in 0..steps {
            match self.step(&order, epoch, step, false)? {
                Step::Taken { loss, .. } => sum += loss,
                Step::Diverged { .. } => return Ok(None),
            }
        }
        Ok(Some(sum / steps as f64))
    }

    /// Loss and accuracy over a part of the data in evaluation mode; the evaluations are counted from 0, by which samples
    /// are drawn.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn evaluate(&self, part: Part, evaluation: usize) -> Result<Measured> {
        let measured = mean_over_batches(self, part, evaluation, &Stop::never(), &mut || {})?;
        let (loss, accuracy) = measured.unwrap_or((f64::NAN, f64::NAN));
        Ok(Measured { loss: loss + self.regulariser()?, accuracy })
    }
}
