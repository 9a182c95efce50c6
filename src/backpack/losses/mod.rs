//! Losses: value, gradient, and square roots of the Hessian with respect to the network's output.
//!
//! Shapes: output `[N, *out]`, of cross-entropy `[N, C]` or `[N, C, ..]` with positions behind the classes; vectors
//! `[V, N, *out]` as everywhere. D is the number of entries of one output. Every loss of this crate is convex in the output, so
//! that its Hessian and its generalised Gauss-Newton matrix are the same and have a real square root.

mod bce_with_logits;
mod cross_entropy;
mod mean_squared_error;

use std::fmt;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::backpack::draws::Draws;
use crate::error::{Error, Result};

pub use bce_with_logits::BceWithLogits;
pub use cross_entropy::CrossEntropy;
pub use mean_squared_error::MeanSquaredError;

/// How the samples' losses become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// PyTorch's mean: over samples, and for the elementwise losses over outputs too.
    #[default]
    Mean,
    /// The sum over samples and outputs.
    Sum,
}

impl Reduction {
    /// The name in problem files.
    pub fn as_str(self) -> &'static str {
        match self {
            Reduction::Mean => "mean",
            Reduction::Sum => "sum",
        }
    }
}

/// A loss at one batch: what its derivatives share.
#[derive(Debug)]
pub struct Evaluated {
    /// The loss, without dimensions.
    pub value: Tensor,
    /// Its gradient with respect to the output, `[N, *out]`.
    pub gradient: Tensor,
    /// The predictive distribution's parameter, `[N, *out]`: the probabilities of cross-entropy, the mean of the squared
    /// error, the logits of binary cross-entropy.
    pub predictive: Tensor,
}

impl Evaluated {
    /// These samples as a part of a batch of `total`, whose loss with this reduction they have a share in.
    pub(crate) fn into_part(self, total: i64, reduction: Reduction) -> Self {
        let samples = self.predictive.size()[0];
        if samples == total || reduction == Reduction::Sum {
            return self;
        }
        let share = samples as f64 / total as f64;
        Evaluated { value: self.value * share, gradient: self.gradient * share, predictive: self.predictive }
    }

    /// The samples `start..start + length` alone, the loss and its scale still those of the whole batch.
    pub fn narrow(&self, start: i64, length: i64) -> Self {
        Evaluated {
            value: self.value.shallow_clone(),
            gradient: self.gradient.narrow(0, start, length),
            predictive: self.predictive.narrow(0, start, length),
        }
    }
}

/// A loss function of output and target. `batch` is the number of samples that the loss is reduced over, which
/// chunks of a batch have to be told.
pub trait Loss: Send {
    /// The name in problem files.
    fn name(&self) -> &'static str;

    /// How samples are reduced.
    fn reduction(&self) -> Reduction;

    /// Whether outputs `[N, C, ..]` are compared with int64 classes `[N, ..]`; else with numbers of their own shape.
    fn takes_classes(&self) -> bool {
        false
    }

    /// Value and gradient at a batch.
    ///
    /// # Errors
    /// [`Error::Shape`] when output and target do not fit together.
    fn evaluate(&self, output: &Tensor, target: &Tensor) -> Result<Evaluated>;

    /// The loss alone, without dimensions.
    fn value(&self, output: &Tensor, target: &Tensor) -> Result<Tensor> {
        Ok(self.evaluate(output, target)?.value)
    }

    /// A square root of the Hessian: vectors `s` with `sum_v s_v s_v^T` the Hessian of the reduced loss with respect
    /// to each sample's output, one for each of its entries in row-major order: `[D, N, *out]`.
    fn sqrt_hessian(&self, at: &Evaluated, batch: i64) -> Result<Tensor>;

    /// Any square root of the Hessian with as few vectors as there need be, `[V, N, *out]`: what is summed over vectors
    /// does not depend on which root it is made from.
    fn narrow_sqrt_hessian(&self, at: &Evaluated, batch: i64) -> Result<Tensor> {
        self.sqrt_hessian(at, batch)
    }

    /// Targets drawn from the model's own predictive distribution, in the form that [`Self::sqrt_hessian_sampled`]
    /// takes: classes `[M, N, ..]`, or values `[M, N, *out]`.
    fn sample(&self, at: &Evaluated, samples: i64, draws: &mut Draws) -> Result<Tensor>;

    /// A sampled square root: vectors whose outer products sum to the Hessian in expectation over the drawn targets:
    /// `[M, N, *out]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the targets do not fit the output.
    fn sqrt_hessian_sampled(&self, at: &Evaluated, targets: &Tensor, batch: i64) -> Result<Tensor>;

    /// The Hessian times vectors, sample by sample: `[V, N, *out]` to the same.
    fn hessian_product(&self, at: &Evaluated, v: &Tensor, batch: i64) -> Result<Tensor>;

    /// The sum over samples of the Hessians of the reduced loss, for outputs `[N, D]`: `[D, D]`.
    fn summed_hessian(&self, at: &Evaluated, batch: i64) -> Result<Tensor>;

    /// The share of correct predictions in a batch, from 0 to 1; NaN where there is no such notion.
    fn accuracy(&self, output: &Tensor, target: &Tensor) -> Result<f64>;
}

impl fmt::Debug for dyn Loss + '_ {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{} ({})", self.name(), self.reduction().as_str())
    }
}

/// One over what a mean divides by, or one for a sum; `elements` counts what is averaged.
fn scale(reduction: Reduction, elements: i64) -> f64 {
    match reduction {
        Reduction::Mean => 1.0 / elements as f64,
        Reduction::Sum => 1.0,
    }
}

/// The number of samples and of the entries of each one's output, or an error that names the loss.
fn output_size(name: &str, output: &Tensor) -> Result<(i64, i64)> {
    match output.size().as_slice() {
        [samples, entries @ ..] if !entries.is_empty() => Ok((*samples, entries.iter().product())),
        shape => Err(Error::Shape(format!("{name}: expected an output of shape [N, ..], got {shape:?}"))),
    }
}

/// The number of entries of one sample's output.
fn entries(output: &Tensor) -> i64 {
    output.size()[1..].iter().product()
}

/// Vectors along each entry of the output, `[D, N, *out]`, from their lengths `[N, *out]`: the square root of a diagonal
/// Hessian.
fn diagonal_vectors(lengths: &Tensor) -> Tensor {
    let vectors = lengths.flatten(1, -1).diag_embed(0, 1, 2).transpose(0, 1).contiguous();
    if lengths.dim() == 2 {
        return vectors;
    }
    let shape = [&[vectors.size()[0]], lengths.size().as_slice()].concat();
    vectors.view(shape.as_slice())
}

/// The sum over samples of diagonal Hessians `[N, D]`: `[D, D]`.
fn summed_diagonal(diagonals: &Tensor) -> Tensor {
    diagonals.sum_dim_intlist(0, false, None::<Kind>).diag(0)
}

/// Checks that drawn targets of an elementwise loss are `[M, N, *out]`.
fn check_values(name: &str, at: &Evaluated, targets: &Tensor) -> Result<()> {
    if targets.dim() == 0 || targets.size()[1..] != at.predictive.size() {
        return Err(Error::Shape(format!(
            "{name}: sampled targets of shape {:?}, expected [M, N, ..] with [N, ..] = {:?}",
            targets.size(),
            at.predictive.size()
        )));
    }
    Ok(())
}
