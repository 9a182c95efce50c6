//! Losses: value, gradient, and square roots of the Hessian with respect to the network's output.
//!
//! Shapes: output `[N, *out]`, of cross-entropy `[N, C]` or `[N, C, ..]` with positions behind the classes; vectors
//! `[V, N, *out]` as everywhere. D is the number of entries of one output. Every loss of this crate is convex in the output, so
//! that its Hessian and its generalised Gauss-Newton matrix are the same and have a real square root.

mod cross_entropy;

use std::fmt;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::backpack::draws::Draws;
use crate::error::{Error, Result};

pub use cross_entropy::CrossEntropy;

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

/// The number of samples of an elementwise loss, or an error that names it: targets have the output's shape.
fn elementwise_samples(name: &str, output: &Tensor, target: &Tensor) -> Result<i64> {
    let (samples, _) = output_size(name, output)?;
    if target.size() != output.size() {
        return Err(Error::Shape(format!(
            "{name}: expected targets of the output's shape {:?}, got {:?}",
            output.size(),
            target.size()
        )));
    }
    Ok(samples)
}

/// What the sum over all entries of a batch's outputs, of which these are a part, is multiplied by.
fn elementwise_scale(reduction: Reduction, output: &Tensor, batch: i64) -> f64 {
    scale(reduction, batch * entries(output))
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

// The squared error. With a mean reduction it is divided by samples times outputs, as in PyTorch.

/// `mse`: output and target `[N, *out]`. Its predictive distribution is normal with variance 1/2.
#[derive(Clone, Copy, Debug, Default)]
pub struct MeanSquaredError {
    reduction: Reduction,
}

impl MeanSquaredError {
    /// The squared error with this reduction.
    pub fn new(reduction: Reduction) -> Self {
        MeanSquaredError { reduction }
    }
}

impl Loss for MeanSquaredError {
    fn name(&self) -> &'static str {
        "mse"
    }

    fn reduction(&self) -> Reduction {
        self.reduction
    }

    fn evaluate(&self, output: &Tensor, target: &Tensor) -> Result<Evaluated> {
        let samples = elementwise_samples(self.name(), output, target)?;
        let scale = elementwise_scale(self.reduction, output, samples);
        let difference = output - target.to_kind(output.kind());
        let value = difference.square().sum(None::<Kind>) * scale;
        Ok(Evaluated { value, gradient: difference * (2.0 * scale), predictive: output.shallow_clone() })
    }

    fn sqrt_hessian(&self, at: &Evaluated, batch: i64) -> Result<Tensor> {
        let length = (2.0 * elementwise_scale(self.reduction, &at.predictive, batch)).sqrt();
        Ok(diagonal_vectors(&at.predictive.full_like(length)))
    }

    fn sample(&self, at: &Evaluated, samples: i64, draws: &mut Draws) -> Result<Tensor> {
        let f = &at.predictive;
        let noise = draws.normal(&[&[samples], f.size().as_slice()].concat(), f.device()).to_kind(f.kind());
        Ok(f.unsqueeze(0) + noise * 0.5f64.sqrt())
    }

    fn sqrt_hessian_sampled(&self, at: &Evaluated, targets: &Tensor, batch: i64) -> Result<Tensor> {
        check_values(self.name(), at, targets)?;
        // The gradient of a drawn target has covariance 4 * 1/2 = 2, the Hessian of the squared difference.
        let scale = (elementwise_scale(self.reduction, &at.predictive, batch) / targets.size()[0] as f64).sqrt();
        Ok((at.predictive.unsqueeze(0) - targets.to_kind(at.predictive.kind())) * (2.0 * scale))
    }

    fn hessian_product(&self, at: &Evaluated, v: &Tensor, batch: i64) -> Result<Tensor> {
        Ok(v * (2.0 * elementwise_scale(self.reduction, &at.predictive, batch)))
    }

    fn summed_hessian(&self, at: &Evaluated, batch: i64) -> Result<Tensor> {
        Ok(summed_diagonal(&at.predictive.full_like(2.0 * elementwise_scale(self.reduction, &at.predictive, batch))))
    }

    fn accuracy(&self, _output: &Tensor, _target: &Tensor) -> Result<f64> {
        Ok(f64::NAN)
    }
}

// Binary cross-entropy of each output's sigmoid. With a mean reduction it is divided by samples times outputs.

/// `bce_with_logits`: output and target `[N, *out]`, targets from 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct BceWithLogits {
    reduction: Reduction,
}

impl BceWithLogits {
    /// Binary cross-entropy with this reduction.
    pub fn new(reduction: Reduction) -> Self {
        BceWithLogits { reduction }
    }

    /// p (1 - p), `[N, *out]`.
    fn variance(at: &Evaluated) -> Tensor {
        at.predictive.sigmoid() * at.predictive.neg().sigmoid()
    }

    /// p - y at these logits, without the cancellation of a p that is nearly y = 1.
    fn difference(logits: &Tensor, target: &Tensor) -> Tensor {
        logits.sigmoid() * (1.0 - target) - logits.neg().sigmoid() * target
    }
}

impl Loss for BceWithLogits {
    fn name(&self) -> &'static str {
        "bce_with_logits"
    }

    fn reduction(&self) -> Reduction {
        self.reduction
    }

    fn evaluate(&self, output: &Tensor, target: &Tensor) -> Result<Evaluated> {
        let samples = elementwise_samples(self.name(), output, target)?;
        let scale = elementwise_scale(self.reduction, output, samples);
        let target = target.to_kind(output.kind());
        // log(1 + exp(f)) - y f, without overflow.
        let value = (output.relu() - output * &target + (-output.abs()).exp().log1p()).sum(None::<Kind>) * scale;
        let gradient = Self::difference(output, &target) * scale;
        Ok(Evaluated { value, gradient, predictive: output.shallow_clone() })
    }

    fn sqrt_hessian(&self, at: &Evaluated, batch: i64) -> Result<Tensor> {
        Ok(diagonal_vectors(&(Self::variance(at) * elementwise_scale(self.reduction, &at.predictive, batch)).sqrt()))
    }

    fn sample(&self, at: &Evaluated, samples: i64, draws: &mut Draws) -> Result<Tensor> {
        let p = at.predictive.sigmoid();
        let draws = draws.uniform(&[&[samples], p.size().as_slice()].concat(), p.device()).to_kind(p.kind());
        Ok(draws.lt_tensor(&p.unsqueeze(0)).to_kind(p.kind()))
    }

    fn sqrt_hessian_sampled(&self, at: &Evaluated, targets: &Tensor, batch: i64) -> Result<Tensor> {
        check_values(self.name(), at, targets)?;
        let scale = (elementwise_scale(self.reduction, &at.predictive, batch) / targets.size()[0] as f64).sqrt();
        Ok(Self::difference(&at.predictive.unsqueeze(0), &targets.to_kind(at.predictive.kind())) * scale)
    }

    fn hessian_product(&self, at: &Evaluated, v: &Tensor, batch: i64) -> Result<Tensor> {
        Ok(v * (Self::variance(at) * elementwise_scale(self.reduction, &at.predictive, batch)).unsqueeze(0))
    }

    fn summed_hessian(&self, at: &Evaluated, batch: i64) -> Result<Tensor> {
        Ok(summed_diagonal(&(Self::variance(at) * elementwise_scale(self.reduction, &at.predictive, batch))))
    }

    fn accuracy(&self, output: &Tensor, target: &Tensor) -> Result<f64> {
        let correct = output.gt(0.0).f_eq_tensor(&target.gt(0.5))?;
        Ok(f64::try_from(correct.to_kind(Kind::Double).mean(Kind::Double))?)
    }
}
