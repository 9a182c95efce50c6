//! One row to be measured: what is compared with libtorch's gradient, on which batches, and how much memory it needs.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::backpack::Request;
use crate::backpack::layers::Mode;
use crate::backpack::memory::Plan;
use crate::backpack::network::Network;
use crate::backpack::quantities::{Source, all, by_name};
use crate::backpack::request::{DEFAULT_CHUNK_BYTES, why_not};
use crate::error::{Error, Result};
use crate::optimizers::{self, Averaging, Hyperparameters, OptimizerName, Options};
use crate::problems::data::{
    Batch, Compared, DataInfo, DataSet, DataSource, Feed, FeedOptions, Fit, Normalization, Samples, Wanted, named_set,
};
use crate::problems::definition::{LossKind, ProblemDefinition};
use crate::random::{Purpose, normal, stream};
use crate::suggest;
use crate::words::count;

/// The step size and the damping of measured steps: so small that nothing goes far from where it starts.
const LEARNING_RATE: f64 = 1e-3;
const DAMPING: f64 = 1e-2;

/// The seed of everything that is drawn for a measurement.
pub const SEED: u64 = 42;
/// How a forward pass is made while measuring.
pub const MODE: Mode = Mode::Training { seed: SEED, step: 0 };

/// The name of the individual gradients by a loop over the samples.
const LOOP: &str = "loop";

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A pass of ours that gives the gradient and the quantity of this name.
    Quantity(String),
    /// libtorch's gradient of every sample by itself, the paper's "for-loop".
    Loop,
    /// A whole step of this optimizer: pass, running mean, inverse and update.
    Step(OptimizerName),
}

impl Subject {
    /// The quantity of this name, or [`LOOP`].
    ///
    /// # Errors
    /// [`Error::Usage`] with the names there are.
    pub fn quantity(name: &str) -> Result<Self> {
        if name == LOOP {
            return Ok(Subject::Loop);
        }
        if by_name(name).is_some() {
            return Ok(Subject::Quantity(name.to_owned()));
        }
        let names: Vec<_> = all().iter().map(|quantity| quantity.name()).chain([LOOP]).collect();
        Err(Error::Usage(format!("quantity `{name}`: {}", suggest::help(name, names))))
    }

    /// A step of the optimizer of this name.
    ///
    /// # Errors
    /// [`Error::Usage`] with the names there are.
    pub fn step(name: &str) -> Result<Self> {
        name.parse().map(Subject::Step)
    }

    /// Its name in bench.csv.
    pub fn name(&self) -> &str {
        match self {
            Subject::Quantity(name) => name,
            Subject::Loop => LOOP,
            Subject::Step(name) => name.as_str(),
        }
    }
}

/// One row to be measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The figure's name in bench.csv.
    pub figure: String,
    /// The name or path that the problem is loaded by.
    pub source: String,
    /// The problem's name in bench.csv.
    pub problem: String,
    /// What is measured.
    pub subject: Subject,
    /// Samples in the batch.
    pub batch_size: usize,
    /// Threads that libtorch computes with.
    pub threads: usize,
    /// Where tensors live.
    pub device: String,
    /// Whether fetching the batch is timed too.
    pub include_data: bool,
    /// How many bytes of back-propagated vectors a quantity's pass may hold at a time.
    pub chunk_bytes: u64,
    /// Whether a quantity's pass leaves the gradient out, for comparisons with what has none.
    pub alone: bool,
}

impl Task {
    /// The task as progress and errors name it.
    pub fn title(&self) -> String {
        let threads = count(self.threads, "thread");
        let step = if matches!(self.subject, Subject::Step(_)) { "step of " } else { "" };
        format!("{}: {step}{}, batch {}, {threads}", self.problem, self.subject.name(), self.batch_size)
    }
}

/// What a pass of ours is asked for: the gradient, unless the quantity is to be alone, and the quantity.
///
/// # Errors
/// As [`Request::new`].
pub fn request(name: &str, alone: bool, chunk_bytes: u64) -> Result<Request> {
    let names = if alone || name == "grad" { vec![name] } else { vec!["grad", name] };
    let mut request = Request::new(names)?;
    request.chunk_bytes = chunk_bytes;
    Ok(request)
}

/// What a measured optimizer is made from; l2 is the problem's.
pub fn hyperparameters(name: OptimizerName, l2: f64) -> Hyperparameters {
    Hyperparameters {
        name,
        learning_rate: LEARNING_RATE,
        damping: DAMPING,
        averaging: Averaging::Cumulative,
        kfra_aliasing: false,
        l2,
        mc_samples: 1,
        chunk_bytes: DEFAULT_CHUNK_BYTES,
        options: Options::default(),
    }
}

/// Whether something can be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feasible {
    /// With about this many bytes, and chunks of so many.
    Yes {
        /// An estimate of the memory.
        needed: u64,
        /// The chunks that fit.
        chunk_bytes: u64,
    },
    /// Not within the budget: it needs about this many bytes.
    TooLarge {
        /// An estimate of the memory.
        needed: u64,
    },
    /// Not at all; the reason.
    No(String),
}

/// Whether a subject can be measured on this network, at this batch size and within this many bytes.
///
/// # Errors
/// Where shapes do not fit.
pub fn feasible(
    network: &Network,
    shape: &[i64],
    l2: f64,
    subject: &Subject,
    batch: usize,
    budget: u64,
) -> Result<Feasible> {
    let plan = Plan::new(network, shape, batch as i64, 1, 4)?;
    let mut state: u64 = 0;
    let (request, step) = match subject {
        Subject::Quantity(name) => (request(name, false, 1)?, false),
        Subject::Step(name) => match optimizers::build(&hyperparameters(*name, l2), network) {
            Ok(optimizer) => {
                // What a curvature rule holds is counted with its quantities.
                if !name.has_damping() {
                    let own = |shape: Vec<i64>| (name.info().memory)(&Options::default(), &shape);
                    let parameters = network.parameters();
                    state = parameters.iter().map(|parameter| own(parameter.value.size()) * 4).sum();
                }
                (optimizer.request().clone(), true)
            }
            Err(error) => return Ok(Feasible::No(error.to_string())),
        },
        Subject::Loop => {
            // The gradients of all samples are there at last; libtorch keeps one sample's forward pass.
            let needed = plan.base().saturating_add(plan.parameters().saturating_mul(batch as u64));
            return Ok(within(needed, budget, 1));
        }
    };
    let mut fixed = plan.base().saturating_add(state);
    let mut sweep = plan.sweep(Source::Gradient, 1);
    // In chunks a step takes what training takes, whatever there is; a quantity by itself can do with less.
    let least = if step { DEFAULT_CHUNK_BYTES } else { 1 };
    for entry in request.entries() {
        let quantity = entry.quantity.as_ref();
        if let Some(reason) = why_not(network, shape, MODE, quantity)? {
            return Ok(Feasible::No(reason));
        }
        // Of a step's curvature there are the mini-batch's, its running mean and the inverse.
        let copies = if step { 3 } else { 1 };
        fixed = fixed.saturating_add(plan.result(quantity).saturating_mul(copies));
        sweep = sweep.max(plan.sweep(quantity.source(), least));
    }
    let chunk_bytes = plan.chunk_bytes(budget, fixed);
    Ok(within(fixed.saturating_add(sweep), budget, chunk_bytes))
}

fn within(needed: u64, budget: u64, chunk_bytes: u64) -> Feasible {
    if needed <= budget { Feasible::Yes { needed, chunk_bytes } } else { Feasible::TooLarge { needed } }
}

// The batches that are measured on: drawn in the shape of the problem's data, or fetched from a drawn data set as in
// training.

/// The batches in a drawn data set.
const FEED_BATCHES: usize = 8;

/// Batches in turn.
#[derive(Debug)]
pub enum Batches {
    /// These, on the device.
    Drawn(Vec<Batch>),
    /// Fetched anew each time.
    Fed {
        /// From where.
        feed: Box<Feed>,
        /// Their order.
        order: crate::problems::data::Order,
    },
}

impl Batches {
    /// `count` different batches of normal inputs, or drawn integers, and drawn targets.
    ///
    /// # Errors
    /// Where the problem names no loss.
    pub fn drawn(
        definition: &ProblemDefinition,
        info: &DataInfo,
        wanted: &Wanted,
        batch_size: usize,
        count: usize,
        device: Device,
    ) -> Result<Self> {
        let loss = definition.loss()?;
        let batch = |number: usize| {
            let mut generator = stream(SEED, Purpose::Batch, number as u64);
            let shape = [&[batch_size as i64], info.shape.as_slice()].concat();
            let x = inputs(wanted, &shape, &mut generator).to_device(device);
            let y = targets(loss, batch_size as i64, wanted.output, &mut generator).to_device(device);
            Batch { x, y }
        };
        Ok(Batches::Drawn((0..count.max(1)).map(batch).collect()))
    }

    /// Batches from a drawn data set in the form of the problem's: bytes for published images, with their scaling and,
    /// where the problem says so, their augmentation.
    ///
    /// # Errors
    /// As [`Feed::new`].
    pub fn fed(
        definition: &ProblemDefinition,
        info: &DataInfo,
        wanted: &Wanted,
        batch_size: usize,
        device: Device,
    ) -> Result<Self> {
        let mut generator = stream(SEED, Purpose::Batch, 0);
        let published = match &definition.dataset {
            DataSource::Named(name) => named_set(name)?.published(),
            _ => None,
        };
        let count = (FEED_BATCHES * batch_size) as i64;
        let shape = [&[count], info.shape.as_slice()].concat();
        let x = match published {
            Some(_) if wanted.integers.is_none() => {
                let mut bytes = vec![0u8; shape.iter().product::<i64>() as usize];
                generator.fill_bytes(&mut bytes);
                Tensor::from_slice(&bytes).view(shape.as_slice())
            }
            _ => inputs(wanted, &shape, &mut generator),
        };
        let y = targets(definition.loss()?, count, wanted.output, &mut generator);
        let fit = Fit { integers: wanted.integers, targets: Compared::Targets(y.size().split_off(1)) };
        let part = |start: i64, length: i64| Samples { x: x.narrow(0, start, length), y: y.narrow(0, start, length) };
        let one = batch_size as i64;
        let data = DataSet {
            name: info.name.clone(),
            train: part(0, count),
            test: part(0, one),
            shape: info.shape.clone(),
            classes: info.classes,
            built_in: info.built_in,
            normalization: published.map_or_else(Normalization::default, |set| set.normalization()),
            augmentation: published.and_then(|set| set.recipe),
            train_eval_size: batch_size,
            default_valid_size: batch_size,
            vocabulary: None,
            fingerprint: String::new(),
        };
        let options = FeedOptions {
            seed: SEED,
            batch_size,
            drop_last: true,
            valid_size: batch_size,
            train_size: None,
            augment: definition.augment && data.augmentation.is_some() && wanted.integers.is_none(),
            fit,
            device,
            kind: Kind::Float,
        };
        let feed = Box::new(Feed::new(&data, options)?);
        let order = feed.train_order(0);
        Ok(Batches::Fed { feed, order })
    }

    /// The batch of a round.
    ///
    /// # Errors
    /// As [`Feed::train_batch`].
    pub fn get(&self, round: u64) -> Result<Batch> {
        match self {
            Batches::Drawn(batches) => {
                let batch = &batches[(round % batches.len() as u64) as usize];
                Ok(Batch { x: batch.x.shallow_clone(), y: batch.y.shallow_clone() })
            }
            Batches::Fed { feed, order } => {
                feed.train_batch(order, (round % feed.steps_per_epoch() as u64) as usize, round)
            }
        }
    }
}

/// Normal inputs, or integers where the network takes them.
fn inputs(wanted: &Wanted, shape: &[i64], generator: &mut rand_chacha::ChaCha8Rng) -> Tensor {
    match wanted.integers {
        Some(count) => integers(count, shape, generator),
        None => normal(generator, shape).to_kind(Kind::Float),
    }
}

fn integers(count: i64, shape: &[i64], generator: &mut rand_chacha::ChaCha8Rng) -> Tensor {
    let drawn: Vec<i64> = (0..shape.iter().product()).map(|_| generator.random_range(0..count.max(1))).collect();
    Tensor::from_slice(&drawn).view(shape)
}

/// Targets that suit the loss: classes `[N, ..]` for outputs `[N, C, ..]`, or numbers or zeros and ones of their shape.
fn targets(loss: LossKind, samples: i64, output: &[i64], generator: &mut rand_chacha::ChaCha8Rng) -> Tensor {
    let shape = [&[samples], output].concat();
    match (loss, output) {
        (LossKind::CrossEntropy, [classes, positions @ ..]) => {
            integers(*classes, &[&[samples], positions].concat(), generator)
        }
        (LossKind::BceWithLogits, _) => normal(generator, &shape).gt(0.0).to_kind(Kind::Float),
        _ => normal(generator, &shape).to_kind(Kind::Float),
    }
}
