//! A data set in memory, and what is known of one before it is read.

use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};

use super::augmentation::Recipe;
use super::split::{check_batches, training_samples};
use crate::error::{Error, Result};

/// One part of a data set.
#[derive(Debug)]
pub struct Samples {
    /// [n, *shape]: Uint8 for images as published, else floats, or integers as a file holds them.
    pub x: Tensor,
    /// `[n]` or, by position, `[n, ..]` Int64 class labels, or `[n, ..]` Float targets.
    pub y: Tensor,
}

impl Samples {
    /// How many samples.
    pub fn len(&self) -> usize {
        self.x.size()[0] as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How samples are scaled before the network sees them: images of bytes are divided by 255, then each channel has its
/// mean subtracted and is divided by its standard deviation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Normalization {
    /// One a channel, after the division by 255; empty for none.
    pub mean: Vec<f64>,
    /// One a channel.
    pub std: Vec<f64>,
}

impl Normalization {
    /// Scales a batch [N, *shape] to `kind`. Rounding is torchvision's: divide, subtract, divide.
    pub(crate) fn apply(&self, x: &Tensor, kind: Kind, bytes: bool) -> Result<Tensor> {
        let mut x = x.f_to_kind(kind)?;
        if bytes {
            x = x.f_div_scalar_(255.0)?;
        }
        if !self.mean.is_empty() {
            let channels = self.mean.len() as i64;
            let mut shape = vec![1; x.dim()];
            shape[1] = channels;
            let place = |values: &[f64]| -> Result<Tensor> {
                Ok(Tensor::from_slice(values).to_kind(kind).f_view(shape.as_slice())?.f_to_device(x.device())?)
            };
            let (mean, std) = (place(&self.mean)?, place(&self.std)?);
            x = x.f_sub_(&mean)?.f_div_(&std)?;
        }
        Ok(x)
    }
}

/// A data set in memory.
#[derive(Debug)]
pub struct DataSet {
    /// The name of a built-in set, else the file's.
    pub name: String,
    /// The training file, those samples included that a split takes for validation.
    pub train: Samples,
    /// The test file.
    pub test: Samples,
    /// The shape of one sample as the network sees it, e.g. [3, 32, 32].
    pub shape: Vec<i64>,
    /// How many classes; `None` for float targets.
    pub classes: Option<usize>,
    /// Whether this is a set that the program knows by name.
    pub built_in: bool,
    /// How samples are scaled.
    pub normalization: Normalization,
    /// How training samples are augmented; `None` where the paper has no augmentation for the set.
    pub augmentation: Option<Recipe>,
    /// On how many samples the train metrics are measured.
    pub train_eval_size: usize,
    /// How many training samples are for validation unless a problem says otherwise.
    pub default_valid_size: usize,
    /// The different characters of a text, in the order of their numbers.
    pub vocabulary: Option<Vec<char>>,
    /// Tells this content apart from others: a hash for a user's file, the definition's for a synthetic set, the name
    /// of a published one where it is what is published, else the name and a hash.
    pub fingerprint: String,
}

/// The train metrics are measured on so many samples of a set that is not published (fewer, if it holds fewer).
const TRAIN_EVAL: usize = 10_000;
/// One sample in so many is for validation where neither set nor problem says how many.
const VALIDATION: usize = 5;

pub(super) fn default_valid_size(train: usize) -> usize {
    (train / VALIDATION).min(TRAIN_EVAL)
}

impl DataSet {
    /// A set of tensors, without normalisation and augmentation. Integers in `y` are class labels from 0 on, of as many
    /// classes as the largest tells; a fifth of the training samples, at most 10,000, is for validation. The fingerprint is
    /// a hash of the content.
    ///
    /// # Errors
    /// [`Error::Shape`] where samples and targets, or the parts, do not fit together; what libtorch says.
    pub fn new(name: &str, train: Samples, test: Samples) -> Result<Self> {
        let shape = |tensor: &Tensor| tensor.size().get(1..).map(<[i64]>::to_vec);
        let parts = [&train, &test];
        for part in parts {
            let (x, y) = (part.x.size(), part.y.size());
            if x.is_empty() || x.first() != y.first() {
                return Err(Error::Shape(format!(
                    "data set {name}: x is {x:?} and y {y:?}; the first axis is the samples"
                )));
            }
        }
        if shape(&train.x) != shape(&test.x) || shape(&train.y) != shape(&test.y) {
            return Err(Error::Shape(format!(
                "data set {name}: samples for training and testing have different shapes"
            )));
        }
        let mut hash = Sha256::new();
        let mut largest = -1;
        for tensor in parts.iter().flat_map(|part| [&part.x, &part.y]) {
            let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
            tensor.f_contiguous()?.f_copy_data_u8(&mut bytes, tensor.numel())?;
            hash.update(format!("{:?} {:?} ", tensor.kind(), tensor.size()));
            hash.update(&bytes);
        }
        let has_classes = !train.y.is_floating_point();
        for part in parts.iter().filter(|part| has_classes && part.y.numel() > 0) {
            largest = largest.max(i64::try_from(part.y.max())?);
        }
        let classes = has_classes.then_some((largest + 1) as usize);
        let fingerprint = format!("{name} {}", hex::encode(hash.finalize()));
        Ok(DataSet::plain(name.to_owned(), train, test, classes, fingerprint))
    }

    /// A set without normalisation and augmentation.
    pub(super) fn plain(
        name: String,
        train: Samples,
        test: Samples,
        classes: Option<usize>,
        fingerprint: String,
    ) -> DataSet {
        DataSet {
            name,
            shape: train.x.size().split_off(1),
            train_eval_size: TRAIN_EVAL.min(train.len()),
            default_valid_size: default_valid_size(train.len()),
            train,
            test,
            classes,
            built_in: false,
            normalization: Normalization::default(),
            augmentation: None,
            vocabulary: None,
            fingerprint,
        }
    }

    /// What is known of the set without its samples.
    pub fn info(&self) -> DataInfo {
        DataInfo {
            name: self.name.clone(),
            shape: self.shape.clone(),
            inputs: match (&self.vocabulary, self.train.x.is_floating_point()) {
                (Some(_), _) => Inputs::Tokens,
                (None, true) => Inputs::Floats,
                (None, false) => Inputs::Integers,
            },
            classes: self.classes,
            target_shape: self.train.y.size().split_off(1),
            train: self.train.len(),
            test: self.test.len(),
            built_in: self.built_in,
            augmentation: self.augmentation.is_some(),
            default_valid_size: self.default_valid_size,
        }
    }
}

/// What samples are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inputs {
    /// Floats.
    Floats,
    /// Integers, bytes included, that a network may look up in an embedding or take as numbers.
    Integers,
    /// Integers that stand for something else and are no quantities.
    Tokens,
}

/// What is known of a data set without reading its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct DataInfo {
    /// The name of a built-in set, else the file's.
    pub name: String,
    /// The shape of one sample as the network sees it.
    pub shape: Vec<i64>,
    /// What samples are made of.
    pub inputs: Inputs,
    /// How many classes; of a user's file, one more than its largest label; `None` for float targets.
    pub classes: Option<usize>,
    /// The shape of one sample's targets: `[]` for one label, the positions of several, `[D]` or more for floats.
    pub target_shape: Vec<i64>,
    /// Training samples, those for validation included.
    pub train: usize,
    /// Test samples.
    pub test: usize,
    /// Whether this is a set that the program knows by name.
    pub built_in: bool,
    /// Whether the set has an augmentation.
    pub augmentation: bool,
    /// How many training samples are for validation unless a problem says otherwise.
    pub default_valid_size: usize,
}

/// The error of `augment = true` where the paper has no augmentation.
pub(super) fn no_augmentation(name: &str) -> Error {
    Error::Usage(format!("augment = true: data set {name} has no augmentation; set augment = false"))
}

impl DataInfo {
    /// Steps of one epoch of a run that draws its batches from the set.
    ///
    /// # Errors
    /// [`Error::Usage`] where no samples are left to train on.
    pub fn steps_per_epoch(
        &self,
        (batch_size, drop_last): (usize, bool),
        valid_size: Option<usize>,
        train_size: Option<usize>,
    ) -> Result<usize> {
        let samples = training_samples(self.train, valid_size.unwrap_or(self.default_valid_size), train_size)?;
        Ok(if drop_last { samples / batch_size } else { samples.div_ceil(batch_size) })
    }

    /// Checks that a run can draw its batches from the set: sizes of the parts, which fill a batch each where the last,
    /// smaller one is dropped, and augmentation where it is asked for.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the key to change, as [`super::Feed::new`] would give for every run.
    pub fn check_protocol(
        &self,
        (batch_size, drop_last): (usize, bool),
        valid_size: Option<usize>,
        train_size: Option<usize>,
        augment: bool,
    ) -> Result<()> {
        let valid = valid_size.unwrap_or(self.default_valid_size);
        let sizes = [
            ("training", training_samples(self.train, valid, train_size)?, "train_size"),
            ("validation", valid, "valid_size"),
            ("test", self.test, "the test file"),
        ];
        check_batches(&self.name, if drop_last { batch_size } else { 1 }, &sizes)?;
        if augment && !self.augmentation { Err(no_augmentation(&self.name)) } else { Ok(()) }
    }
}
