//! The batches that are measured on: drawn in the shape of the problem's data, or fetched from a drawn data set as in
//! training.

use rand::{Rng, RngExt};
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::problems::data::DataSource;
use crate::problems::data::{
    Batch, Compared, DataInfo, DataSet, Feed, FeedOptions, Fit, Normalization, Samples, Wanted, named_set,
};
use crate::problems::definition::{LossKind, ProblemDefinition};
use crate::random::{Purpose, normal, stream};

/// The seed of everything that is drawn for a measurement.
pub const SEED: u64 = 42;
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
