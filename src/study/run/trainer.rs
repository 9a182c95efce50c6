//! The numbers of a run: network, optimizer and data, step by step, and the metrics of an evaluation. It knows no
//! files; the one thing that it times is an evaluation.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

use super::judgement::Judgement;
use crate::backpack::layers::Mode;
use crate::backpack::losses::{Loss, Reduction};
use crate::backpack::{Network, Pass};
use crate::error::{Error, Result};
use crate::optimizers::{self, Hyperparameters, Optimizer, Schedule, StepClock};
use crate::problems::builder;
use crate::problems::data::{Batch, DataSet, Feed, FeedOptions, Order, Part};
use crate::problems::definition::Limit;
use crate::runtime::DeviceChoice;
use crate::signals::Stop;
use crate::study::settings::RunSettings;
use crate::study::store::EpochRow;

/// A mini-batch loss above this ends a run, as one that is not finite does.
pub const DIVERGED_ABOVE: f64 = 1e10;

/// Parameters and buffers in a checkpoint begin with this, the optimizer's state with [`OPTIMIZER`].
const NETWORK: &str = "network/";
const OPTIMIZER: &str = "optimizer/";

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// The parameters have changed.
    Taken {
        /// The mini-batch's loss before the step, without the regulariser.
        loss: f64,
        /// The regulariser before the step; zero where it was not asked for.
        regulariser: f64,
        /// How often a curvature could not be inverted as it was.
        failed_inverses: u64,
    },
    /// The loss was not finite or too large; the parameters have not changed.
    Diverged {
        /// The mini-batch's loss, without the regulariser.
        loss: f64,
    },
}

/// A network in training. All of it is a function of settings, seed and steps taken.
#[derive(Debug)]
pub struct Trainer {
    pub(super) seed: u64,
    pub(super) l2: f64,
    pub(super) device: Device,
    pub(super) has_accuracy: bool,
    pub(super) feed: Feed,
    pub(super) network: Network,
    pub(super) loss: Box<dyn Loss>,
    pub(super) optimizer: Box<dyn Optimizer>,
    pub(super) scheduled: Option<Scheduled>,
}

/// A learning rate that changes from step to step.
#[derive(Debug)]
pub(super) struct Scheduled {
    /// What the schedule's factors multiply.
    learning_rate: f64,
    schedule: Schedule,
    /// Steps of the whole run, by which the schedule goes.
    total_steps: u64,
}

impl Trainer {
    /// A network before its first step.
    ///
    /// # Errors
    /// Where data, network, loss and optimizer do not fit together, or the device is not there.
    pub fn new(settings: &RunSettings, seed: u64, data: &DataSet) -> Result<Self> {
        let problem = &settings.problem;
        let device = settings.device.parse::<DeviceChoice>()?.open()?;
        let mut network = builder::build_network(problem, &data.shape, seed)?;
        let feed = Feed::new(
            data,
            FeedOptions {
                seed,
                batch_size: problem.batch_size,
                drop_last: problem.drop_last,
                valid_size: problem.valid_size.unwrap_or(data.default_valid_size),
                train_size: problem.train_size,
                augment: problem.augment,
                fit: builder::fit_data(problem, &network, &data.info())?,
                device,
                kind: Kind::Float,
            },
        )?;
        network.to(Kind::Float, device);
        network.log_choices();
        let loss = builder::build_loss(problem)?;
        let hyperparameters = hyperparameters(settings);
        let optimizer = optimizers::build(&hyperparameters, &network)?;
        let (learning_rate, schedule) = (hyperparameters.learning_rate, hyperparameters.schedule());
        let total_steps = match problem.limit {
            Some(Limit::Steps(steps)) => steps,
            _ => (problem.epochs * feed.steps_per_epoch()) as u64,
        };
        let scheduled = Scheduled { learning_rate, schedule, total_steps };
        let scheduled = (scheduled.schedule != Schedule::Constant).then_some(scheduled);
        Ok(Trainer {
            seed,
            l2: problem.l2,
            device,
            has_accuracy: problem.has_accuracy(),
            feed,
            network,
            loss,
            optimizer,
            scheduled,
        })
    }

    /// Steps of one epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.feed.steps_per_epoch()
    }

    /// Steps taken before `step` of `epoch`, both counted from 0.
    pub fn global_step(&self, epoch: usize, step: usize) -> u64 {
        (epoch * self.steps_per_epoch() + step) as u64
    }

    /// The order of the training samples in `epoch`, counted from 0.
    pub fn train_order(&self, epoch: usize) -> Order {
        self.feed.train_order(epoch)
    }

    /// One step: the gradient and whatever else the optimizer wants from one backward pass, then its update.
    pub fn step(&mut self, order: &Order, epoch: usize, step: usize, want_regulariser: bool) -> Result<Step> {
        let (taken, ratio) = self.step_unjudged(order, epoch, step, want_regulariser)?;
        self.judge(ratio);
        Ok(taken)
    }

    /// A step before the optimizer hears of its reduction ratio, and that ratio where the optimizer wants it.
    pub(super) fn step_unjudged(
        &mut self,
        order: &Order,
        epoch: usize,
        step: usize,
        want_regulariser: bool,
    ) -> Result<(Step, Option<f64>)> {
        let _guard = tch::no_grad_guard();
        let global = self.global_step(epoch, step);
        let batch = self.feed.train_batch(order, step, global)?;
        let mode = Mode::Training { seed: self.seed, step: global };
        let pass = Pass::new(&self.network, self.loss.as_ref()).request(self.optimizer.request()).mode(mode);
        let mut quantities = pass.run(&batch.x, &batch.y)?;
        self.network.update_buffers(&quantities)?;
        let loss = quantities.loss_value()?;
        if !loss.is_finite() || loss > DIVERGED_ABOVE {
            return Ok((Step::Diverged { loss }, None));
        }
        let regulariser = if want_regulariser { self.regulariser()? } else { 0.0 };
        let judged = match self.optimizer.wants_reduction_ratio() {
            Some(damping) => Some(Judgement::before(&self.network, &quantities, damping, self.l2)?),
            None => None,
        };
        if let Some(Scheduled { learning_rate, schedule, total_steps }) = &self.scheduled {
            self.optimizer.set_learning_rate(learning_rate * schedule.factor(global, *total_steps));
        }
        let report = self.optimizer.step(&mut self.network, &mut quantities, &mut StepClock::off())?;
        let ratio =
            judged.map(|judged| judged.ratio(&mut self.network, self.loss.as_ref(), &batch, mode)).transpose()?;
        Ok((Step::Taken { loss, regulariser, failed_inverses: report.failed_inverses }, ratio))
    }

    /// Lets the optimizer adapt the damping of the next step.
    pub(super) fn judge(&mut self, ratio: Option<f64>) {
        if let Some(ratio) = ratio {
            self.optimizer.take_reduction_ratio(ratio);
        }
    }

    /// l2 / 2 times the sum of squared weights.
    pub fn regulariser(&self) -> Result<f64> {
        optimizers::regulariser(&self.network, self.l2)
    }

    /// Loss, without the regulariser, and accuracy of a batch in evaluation mode; NaN where there is none.
    pub fn measure(&self, batch: &Batch) -> Result<(f64, f64)> {
        let _guard = tch::no_grad_guard();
        let output = self.network.evaluate(&batch.x)?;
        let loss = f64::try_from(self.loss.value(&output, &batch.y)?)?;
        let accuracy = if self.has_accuracy { self.loss.accuracy(&output, &batch.y)? } else { f64::NAN };
        Ok((loss, accuracy))
    }

    /// Whether the loss of a batch is a mean over its samples.
    fn is_mean(&self) -> bool {
        self.loss.reduction() == Reduction::Mean
    }

    /// Where the batches come from.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Everything that steps change, by names of its own.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let network = self.weights().into_iter().map(|(name, tensor)| (format!("{NETWORK}{name}"), tensor));
        let optimizer = self.optimizer.state().into_iter().map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor));
        network.chain(optimizer).collect()
    }

    /// Parameters and buffers by the network's names.
    pub fn weights(&self) -> Vec<(String, Tensor)> {
        let parameters = self.network.parameters();
        let parameters = parameters.iter().map(|parameter| (parameter.name.clone(), parameter.value.shallow_clone()));
        let buffers = self.network.buffers().into_iter().map(|(name, tensor)| (name, tensor.shallow_clone()));
        parameters.chain(buffers).collect()
    }

    /// Brings back what [`Trainer::state`] gave.
    ///
    /// # Errors
    /// [`Error::Shape`] where the state is not one of this network and optimizer.
    pub fn restore(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let mut network = BTreeMap::new();
        let mut optimizer = BTreeMap::new();
        for (name, tensor) in state {
            if let Some(name) = name.strip_prefix(NETWORK) {
                network.insert(name.to_owned(), tensor.shallow_clone());
            } else if let Some(name) = name.strip_prefix(OPTIMIZER) {
                optimizer.insert(name.to_owned(), tensor.f_to_device(self.device)?);
            } else {
                return Err(Error::Shape(format!(
                    "checkpoint: `{name}` belongs neither to the network nor the optimizer"
                )));
            }
        }
        self.network.load(network)?;
        self.optimizer.load_state(optimizer)
    }
}

/// What the settings say of the optimizer and its passes.
pub fn hyperparameters(settings: &RunSettings) -> Hyperparameters {
    let optimizer = &settings.optimizer;
    Hyperparameters {
        name: optimizer.name,
        learning_rate: optimizer.learning_rate,
        damping: optimizer.damping.unwrap_or(0.0),
        averaging: optimizer.averaging,
        kfra_aliasing: optimizer.kfra_aliasing,
        l2: settings.problem.l2,
        mc_samples: settings.mc_samples as i64,
        chunk_bytes: settings.chunk_bytes,
        options: optimizer.options.clone(),
    }
}

// The metrics of one evaluation: loss and accuracy on train-eval, validation and test samples.

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
