//! Everything a run draws from a data set: the split, the order, the batches.
//!
//! Nothing here has a state: a batch is a function of (seed, epoch or evaluation, index), so a run can be resumed
//! anywhere. The protocol is that of the paper's runs (DeepOBS): every part in batches of the training batch size with
//! the last, smaller batch dropped where a problem says so; the train metrics on samples drawn anew at each evaluation from the whole training
//! file, those for validation included, and augmented as in training.

use tch::{Device, Kind, Tensor};

use super::augmentation::{Draws, Recipe, augment};
use super::fit::Fit;
use super::set::{DataSet, Normalization, Samples, no_augmentation};
use super::split::{check_batches, shuffled, split};
use crate::error::{Error, Result};
use crate::random::{Purpose, permutation, stream};

/// What a run says about its data.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedOptions {
    /// The run's seed.
    pub seed: u64,
    /// N, in training and evaluation.
    pub batch_size: usize,
    /// Whether the last, smaller batch of each part is left out.
    pub drop_last: bool,
    /// How many samples of the training file are for validation.
    pub valid_size: usize,
    /// How many of those left are trained on; all, if `None`.
    pub train_size: Option<usize>,
    /// Whether training and train-eval batches are augmented.
    pub augment: bool,
    /// How samples become what network and loss take.
    pub fit: Fit,
    /// Where the data lives.
    pub device: Device,
    /// The type of samples and float targets in a batch.
    pub kind: Kind,
}

/// A mini-batch.
#[derive(Debug)]
pub struct Batch {
    /// [N, *shape]: normalised, or Int64 where the network takes integers.
    pub x: Tensor,
    /// `[N]` or `[N, ..]` Int64 labels, or `[N, ..]` targets.
    pub y: Tensor,
}

/// What is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Samples of the whole training file, drawn anew at each evaluation.
    TrainEval,
    /// The validation samples, in a new order at each evaluation.
    Valid,
    /// The test file, in its order.
    Test,
}

/// The order of the samples of one pass.
#[derive(Debug)]
pub struct Order(Tensor);

impl Order {
    /// The indices into the file, `[n]` Int64.
    pub fn indices(&self) -> &Tensor {
        &self.0
    }
}

/// A data set on the run's device, split by the run's seed.
#[derive(Debug)]
pub struct Feed {
    train: Samples,
    test: Samples,
    train_indices: Vec<i64>,
    valid_indices: Vec<i64>,
    train_eval_size: usize,
    normalization: Normalization,
    recipe: Option<Recipe>,
    options: FeedOptions,
    shape: Vec<i64>,
}

impl Feed {
    /// Splits the data and moves it to the device (on the CPU, memory is shared with `data`).
    ///
    /// # Errors
    /// [`Error::Usage`] where a part does not fill one batch, sizes exceed the file, or the set has no augmentation.
    pub fn new(data: &DataSet, options: FeedOptions) -> Result<Self> {
        if options.batch_size == 0 {
            return Err(Error::Usage("batch_size = 0: expected at least 1".to_owned()));
        }
        // What follows on a window of a text would tell of it.
        let follow = data.vocabulary.is_some();
        let parts = split(data.train.len(), options.valid_size, options.train_size, follow, options.seed)?;
        let sizes = [
            ("training", parts.train.len(), "train_size"),
            ("train-eval", data.train_eval_size, "train_size"),
            ("validation", parts.valid.len(), "valid_size"),
            ("test", data.test.len(), "the test file"),
        ];
        check_batches(&data.name, if options.drop_last { options.batch_size } else { 1 }, &sizes)?;
        let recipe = match (options.augment, data.augmentation) {
            (false, _) => None,
            (true, Some(recipe)) => Some(recipe),
            (true, None) => return Err(no_augmentation(&data.name)),
        };
        for part in [&data.train, &data.test] {
            options.fit.check_integers(&part.x, &data.name)?;
        }
        let place = |part: &Samples| -> Result<Samples> {
            let y = part.y.f_to_device(options.device)?;
            let y = if y.is_floating_point() { y.f_to_kind(options.kind)? } else { y };
            Ok(Samples { x: part.x.f_to_device(options.device)?, y })
        };
        Ok(Feed {
            train: place(&data.train)?,
            test: place(&data.test)?,
            train_indices: parts.train,
            valid_indices: parts.valid,
            train_eval_size: data.train_eval_size,
            normalization: data.normalization.clone(),
            recipe,
            shape: data.shape.clone(),
            options,
        })
    }

    /// The shape of one sample.
    pub fn shape(&self) -> &[i64] {
        &self.shape
    }

    /// N, of all batches but a last, smaller one.
    pub fn batch_size(&self) -> usize {
        self.options.batch_size
    }

    /// The samples that are trained on, as indices into the training file, in the order of the split.
    pub fn train_indices(&self) -> &[i64] {
        &self.train_indices
    }

    /// The samples for validation, as indices into the training file.
    pub fn valid_indices(&self) -> &[i64] {
        &self.valid_indices
    }

    /// Steps an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.batches(self.train_indices.len())
    }

    /// Batches that samples make.
    fn batches(&self, samples: usize) -> usize {
        let size = self.options.batch_size;
        if self.options.drop_last { samples / size } else { samples.div_ceil(size) }
    }

    /// The order of the training samples in an epoch, counted from 0.
    pub fn train_order(&self, epoch: usize) -> Order {
        let order = shuffled(&self.train_indices, Purpose::Order, self.options.seed, epoch as u64);
        Order(order.to_device(self.options.device))
    }

    /// Batch `index` of an epoch with this order; `step` counts all steps of the run and keys the augmentation.
    ///
    /// # Errors
    /// [`Error::Torch`] where the batch does not exist or memory does not suffice.
    pub fn train_batch(&self, order: &Order, index: usize, step: u64) -> Result<Batch> {
        self.batch(&self.train, order, index, Purpose::Augmentation, step, self.recipe.as_ref())
    }

    /// Batches of one evaluation of a part.
    pub fn evaluation_batches(&self, part: Part) -> usize {
        let count = match part {
            Part::TrainEval => self.train_eval_size,
            Part::Valid => self.valid_indices.len(),
            Part::Test => self.test.len(),
        };
        self.batches(count)
    }

    /// The order of a part in an evaluation, counted from 0.
    pub fn evaluation_order(&self, part: Part, evaluation: usize) -> Order {
        let (seed, evaluation) = (self.options.seed, evaluation as u64);
        let order = match part {
            Part::TrainEval => {
                let mut order = permutation(&mut stream(seed, Purpose::TrainEval, evaluation), self.train.len());
                order.truncate(self.train_eval_size);
                Tensor::from_slice(&order)
            }
            Part::Valid => shuffled(&self.valid_indices, Purpose::ValidOrder, seed, evaluation),
            Part::Test => Tensor::arange(self.test.len() as i64, (Kind::Int64, Device::Cpu)),
        };
        Order(order.to_device(self.options.device))
    }

    /// Batch `index` of an evaluation of a part with this order.
    ///
    /// # Errors
    /// As [`Feed::train_batch`].
    pub fn evaluation_batch(&self, part: Part, order: &Order, evaluation: usize, index: usize) -> Result<Batch> {
        let (samples, recipe) = match part {
            Part::TrainEval => (&self.train, self.recipe.as_ref()),
            Part::Valid => (&self.train, None),
            Part::Test => (&self.test, None),
        };
        let step = (evaluation * self.evaluation_batches(part) + index) as u64;
        self.batch(samples, order, index, Purpose::EvalAugmentation, step, recipe)
    }

    fn batch(
        &self,
        samples: &Samples,
        order: &Order,
        index: usize,
        purpose: Purpose,
        step: u64,
        recipe: Option<&Recipe>,
    ) -> Result<Batch> {
        let size = self.options.batch_size as i64;
        let start = index as i64 * size;
        let size = size.min(order.0.size()[0] - start);
        let indices = order.0.f_narrow(0, start, size)?;
        let x = samples.x.f_index_select(0, &indices)?;
        let bytes = x.kind() == Kind::Uint8;
        let x = match recipe {
            Some(recipe) => {
                let draws = Draws::draw(recipe, size as usize, &mut stream(self.options.seed, purpose, step));
                augment(&x, recipe, &draws)?
            }
            None => x,
        };
        let x = self.options.fit.inputs(&x, bytes, &self.normalization, self.options.kind)?;
        let y = self.options.fit.targets(&x, || Ok(samples.y.f_index_select(0, &indices)?))?;
        Ok(Batch { x, y })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::problems::data::Compared;

    /// A set whose samples are their own indices; those of the test file count from 10,000.
    fn counted(train: i64, test: i64) -> DataSet {
        let part = |n: i64, start: i64| {
            let y = Tensor::arange_start(start, start + n, (Kind::Int64, Device::Cpu));
            Samples { x: y.to_kind(Kind::Float).view([-1, 1]), y }
        };
        DataSet {
            name: "counted".to_owned(),
            train: part(train, 0),
            test: part(test, 10_000),
            shape: vec![1],
            classes: None,
            built_in: false,
            normalization: Normalization::default(),
            augmentation: None,
            train_eval_size: 300,
            default_valid_size: 100,
            vocabulary: None,
            fingerprint: String::new(),
        }
    }

    fn options(seed: u64) -> FeedOptions {
        FeedOptions {
            seed,
            batch_size: 32,
            drop_last: true,
            valid_size: 100,
            train_size: None,
            augment: false,
            fit: Fit { integers: None, targets: Compared::Targets(Vec::new()) },
            device: Device::Cpu,
            kind: Kind::Float,
        }
    }

    fn labels(batch: &Batch) -> Vec<i64> {
        assert_eq!(Vec::<f32>::try_from(batch.x.view([-1])).unwrap().len() as i64, batch.y.size()[0]);
        assert_eq!(batch.x.view([-1]).to_kind(Kind::Int64), batch.y, "x and y belong together");
        Vec::<i64>::try_from(&batch.y).unwrap()
    }

    fn epoch(feed: &Feed, epoch: usize) -> Vec<i64> {
        let order = feed.train_order(epoch);
        (0..feed.steps_per_epoch()).flat_map(|index| labels(&feed.train_batch(&order, index, 0).unwrap())).collect()
    }

    fn evaluation(feed: &Feed, part: Part, evaluation: usize) -> Vec<i64> {
        let order = feed.evaluation_order(part, evaluation);
        (0..feed.evaluation_batches(part))
            .flat_map(|index| labels(&feed.evaluation_batch(part, &order, evaluation, index).unwrap()))
            .collect()
    }

    #[test]
    fn an_epoch_visits_training_samples_once_in_its_own_order_and_drops_the_rest() {
        let data = counted(500, 70);
        let feed = Feed::new(&data, options(42)).unwrap();
        assert_eq!(feed.steps_per_epoch(), 12);
        let (first, second) = (epoch(&feed, 0), epoch(&feed, 1));
        let valid: BTreeSet<_> = feed.valid_indices().iter().copied().collect();
        for order in [&first, &second] {
            let distinct: BTreeSet<_> = order.iter().copied().collect();
            assert_eq!(distinct.len(), 12 * 32);
            assert!(distinct.is_disjoint(&valid));
        }
        assert_ne!(first, second);
        assert_eq!(first, epoch(&Feed::new(&data, options(42)).unwrap(), 0), "a function of seed and epoch");
        assert_ne!(first, epoch(&Feed::new(&data, options(43)).unwrap(), 0));
    }

    #[test]
    fn a_last_smaller_batch_is_kept_where_it_is_asked_for() {
        let data = counted(500, 70);
        let feed = Feed::new(&data, FeedOptions { drop_last: false, ..options(42) }).unwrap();
        assert_eq!(feed.steps_per_epoch(), 13);
        let whole = epoch(&feed, 0);
        assert_eq!(whole.iter().copied().collect::<BTreeSet<_>>().len(), 400);
        assert_eq!(whole[..384], epoch(&Feed::new(&data, options(42)).unwrap(), 0), "the others are the same");
        assert_eq!(evaluation(&feed, Part::Test, 0), (10_000..10_070).collect::<Vec<_>>());
        let few = FeedOptions { drop_last: false, batch_size: 1000, ..options(42) };
        assert_eq!(Feed::new(&data, few).unwrap().steps_per_epoch(), 1);
    }

    #[test]
    fn evaluations_are_those_of_the_paper() {
        let data = counted(500, 70);
        let feed = Feed::new(&data, options(42)).unwrap();
        let batches = |part| feed.evaluation_batches(part);
        assert_eq!((batches(Part::TrainEval), batches(Part::Valid), batches(Part::Test)), (9, 3, 2));

        let (first, second) = (evaluation(&feed, Part::TrainEval, 0), evaluation(&feed, Part::TrainEval, 1));
        assert_ne!(first, second, "drawn anew");
        let distinct: BTreeSet<_> = first.iter().copied().collect();
        assert_eq!(distinct.len(), 9 * 32);
        let valid: BTreeSet<_> = feed.valid_indices().iter().copied().collect();
        assert!(!distinct.is_disjoint(&valid), "from the whole file, validation included");

        let (first, second) = (evaluation(&feed, Part::Valid, 0), evaluation(&feed, Part::Valid, 1));
        assert_ne!(first, second);
        assert!(first.iter().chain(&second).all(|index| valid.contains(index)));

        assert_eq!(evaluation(&feed, Part::Test, 0), (10_000..10_064).collect::<Vec<_>>(), "in the file's order");
        assert_eq!(evaluation(&feed, Part::Test, 3), evaluation(&feed, Part::Test, 0));
    }

    #[test]
    fn train_size_leaves_validation_alone() {
        let data = counted(500, 70);
        let whole = Feed::new(&data, options(42)).unwrap();
        let part = Feed::new(&data, FeedOptions { train_size: Some(64), ..options(42) }).unwrap();
        assert_eq!(part.steps_per_epoch(), 2);
        assert_eq!(part.valid_indices(), whole.valid_indices());
        assert_eq!(part.train_indices(), &whole.train_indices()[..64]);
    }

    #[test]
    fn what_cannot_fill_a_batch_is_refused() {
        let data = counted(500, 20);
        let refuse = |data: &DataSet, options| Feed::new(data, options).unwrap_err().to_string();
        assert!(refuse(&data, options(1)).contains("20 test samples"));
        let data = counted(500, 70);
        assert!(refuse(&data, FeedOptions { valid_size: 10, ..options(1) }).contains("valid_size"));
        assert!(refuse(&data, FeedOptions { train_size: Some(10), ..options(1) }).contains("train_size"));
        assert!(refuse(&data, FeedOptions { batch_size: 0, ..options(1) }).contains("batch_size"));
        assert!(refuse(&data, FeedOptions { augment: true, ..options(1) }).contains("augment"));
    }

    #[test]
    fn images_are_scaled_as_torchvision_scales_them() {
        let mut data = counted(500, 70);
        data.train.x = Tensor::arange(500 * 3 * 4, (Kind::Int64, Device::Cpu)).remainder(256).to_kind(Kind::Uint8);
        data.train.x = data.train.x.view([500, 3, 2, 2]);
        data.normalization = Normalization { mean: vec![0.5, 0.25, 0.125], std: vec![0.5, 0.2, 0.3] };
        let feed = Feed::new(&data, options(7)).unwrap();
        let order = feed.train_order(0);
        let batch = feed.train_batch(&order, 1, 0).unwrap();
        let index = order.indices().int64_value(&[32 + 5]);
        for channel in 0..3 {
            let byte = data.train.x.int64_value(&[index, channel, 1, 0]) as f64;
            let (mean, std) = (data.normalization.mean[channel as usize], data.normalization.std[channel as usize]);
            let got = batch.x.double_value(&[5, channel, 1, 0]);
            assert!((got - (byte / 255.0 - mean) / std).abs() < 1e-6);
        }
    }
}
