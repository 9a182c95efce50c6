//! The samples of one part of a data set in the order of its file, for what is measured once rather than trained on.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::feed::Batch;
use super::fit::Fit;
use super::set::{DataSet, Normalization, Samples};
use super::split::split;
use crate::error::{Error, Result};

/// A part of a data set as a run with some seed has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// The samples that are trained on.
    Train,
    /// The validation samples.
    Valid,
    /// The test file.
    Test,
}

/// How samples are chosen.
#[derive(Clone, Debug)]
pub struct SelectionOptions {
    /// Which part.
    pub part: Chosen,
    /// The first so many of it; all, if `None`.
    pub samples: Option<usize>,
    /// The seed of the split.
    pub seed: u64,
    /// How many samples of the training file are for validation.
    pub valid_size: usize,
    /// How many of those left are trained on; all, if `None`.
    pub train_size: Option<usize>,
    /// How samples become what network and loss take.
    pub fit: Fit,
    /// The type of floats.
    pub kind: Kind,
}

/// Chosen samples, in the file's order, normalised and not augmented.
#[derive(Debug)]
pub struct Selection {
    samples: Samples,
    indices: Vec<i64>,
    normalization: Normalization,
    fit: Fit,
    kind: Kind,
}

impl Selection {
    /// Chooses.
    ///
    /// # Errors
    /// [`Error::Usage`] where there are not as many samples.
    pub fn new(data: DataSet, options: SelectionOptions) -> Result<Self> {
        let DataSet { name, train, test, normalization, vocabulary, .. } = data;
        let (part, samples, mut indices) = match options.part {
            Chosen::Test => ("test", &test, (0..test.len() as i64).collect()),
            chosen => {
                let (valid, train_size) = (options.valid_size, options.train_size);
                let parts = split(train.len(), valid, train_size, vocabulary.is_some(), options.seed)?;
                match chosen {
                    Chosen::Valid => ("validation", &train, parts.valid),
                    _ => ("training", &train, parts.train),
                }
            }
        };
        options.fit.check_integers(&samples.x, &name)?;
        indices.sort_unstable();
        if let Some(count) = options.samples {
            if count > indices.len() {
                return Err(Error::Usage(format!(
                    "{count} samples: data set {name} has {} {part} samples",
                    indices.len()
                )));
            }
            indices.truncate(count);
        }
        let samples = if options.part == Chosen::Test { test } else { train };
        Ok(Selection { samples, indices, normalization, fit: options.fit, kind: options.kind })
    }

    /// How many samples.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The samples of a range of them, on the CPU.
    ///
    /// # Errors
    /// [`Error::Torch`] where the memory does not suffice.
    pub fn batch(&self, range: Range<i64>) -> Result<Batch> {
        let indices = Tensor::from_slice(&self.indices[range.start as usize..range.end as usize]);
        let x = self.samples.x.f_index_select(0, &indices)?;
        let bytes = x.kind() == Kind::Uint8;
        let x = self.fit.inputs(&x, bytes, &self.normalization, self.kind)?;
        let y = self.fit.targets(&x, || {
            let y = self.samples.y.f_index_select(0, &indices)?;
            if y.is_floating_point() { Ok(y.f_to_kind(self.kind)?) } else { Ok(y) }
        })?;
        Ok(Batch { x, y })
    }
}
