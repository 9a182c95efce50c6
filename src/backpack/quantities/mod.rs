//! The quantities that the extended backward pass extracts, and their registry.
//!
//! A quantity says which vectors it needs at every layer (its [`Source`]), takes its share of a layer from them, and
//! says how shares of parts of a batch combine. The pass does the rest: it pushes each kind of vectors back once, for
//! all quantities that need it. A quantity of your own implements [`Quantity`]; `examples/custom_quantity.rs` shows one.

mod first_order;
mod kronecker;
mod registry;
mod second_order;

use std::fmt;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::backpack::layers::{Basis, Layer, Parameter, Reading, Saved};
use crate::backpack::losses::Reduction;
use crate::backpack::network::{Network, Shapes};
use crate::error::Result;
pub(crate) use kronecker::TIED;
pub use registry::{AsQuantity, BuiltIn, all, by_name, names};
pub(crate) use registry::{built_in, is_own, replace};

/// Which vectors a quantity is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The loss's gradient with respect to the layer's output, `[1, N, *out]`.
    Gradient,
    /// An exact square root of the loss's Hessian, `[V, N, *out]`, whichever has the fewest vectors: for what is summed
    /// over them.
    SqrtHessian,
    /// The exact square root of the loss's Hessian with one vector for each of the network's outputs, `[C, N, *out]`.
    SqrtHessianByOutput,
    /// The square root sampled from the model's predictive distribution, `[M, N, *out]`.
    SampledSqrtHessian,
    /// The same vectors once more, when the factors of `kfac_expand`, which has to be required, are known:
    /// [`Site::basis`].
    SampledSqrtHessianAgain,
    /// Square roots with signs of the whole Hessian's share at the layer's output: the exact square root of the
    /// loss's Hessian and one for every activation behind the layer that is not piecewise linear.
    SignedSqrtHessian,
    /// KFRA's batch-averaged matrix `[out, out]`, with the layer's output flattened; at the first layer perhaps its sums
    /// over positions, where these are all that [`FactoredSite::averaged_output_factor`] takes.
    ///
    /// [`FactoredSite::averaged_output_factor`]: crate::backpack::layers::FactoredSite::averaged_output_factor
    AveragedMatrix,
}

/// How the shares that chunks of vectors and samples contribute become the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Combine {
    /// They are added: the quantity is a sum over vectors and samples.
    Sum,
    /// Added over vectors, put one after the other over samples: the first axis counts samples.
    Samples,
    /// Put one after the other over both: the first axis counts vectors, the second samples.
    VectorsAndSamples,
}

/// Which normalisation the quantities have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// BackPACK's: each sample's share is that of the reduced loss (a mean loss puts 1/N into individual gradients).
    #[default]
    Backpack,
    /// Table 1 of the paper: for a mean loss the second moment is N times, and the variance N^2 times BackPACK's.
    Paper,
}

impl Scale {
    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Scale::Backpack => "backpack",
            Scale::Paper => "paper",
        }
    }
}

/// One layer, one of its parameters, and what has arrived at its output.
#[derive(Debug)]
pub struct Site<'a> {
    /// The layer.
    pub layer: &'a dyn Layer,
    /// What it kept of the forward pass, for the samples at hand.
    pub saved: &'a Saved,
    /// Which of its parameters.
    pub parameter: usize,
    /// The vectors of the quantity's source, `[V, N, *out]`, or the matrix `[out, out]`.
    pub v: &'a Tensor,
    /// The vectors' signs, `[V, N]`; None is all ones.
    pub signs: Option<&'a Tensor>,
    /// For what is made of [`Source::SampledSqrtHessianAgain`], the eigenvectors of the layer's factors.
    pub basis: Option<&'a Basis>,
}

/// One layer, one of its parameters, and how much will arrive there.
#[derive(Debug)]
pub struct Extent<'a> {
    /// The layer.
    pub layer: &'a dyn Layer,
    /// The parameter.
    pub parameter: &'a Parameter,
    /// The number of samples N.
    pub samples: u64,
    /// The number of vectors V of the quantity's source.
    pub vectors: u64,
}

/// What a quantity has taken at a site: tensors by the name of the factor, which is empty where there is only one.
pub type Pieces = Vec<(&'static str, Tensor)>;

/// The whole batch, for what is scaled by its size.
#[derive(Clone, Copy, Debug)]
pub struct Whole {
    /// The number of samples N.
    pub samples: i64,
    /// The loss's reduction.
    pub reduction: Reduction,
    /// The normalisation asked for.
    pub scale: Scale,
}

/// Something that can be taken from the extended backward pass.
pub trait Quantity: Send + Sync {
    /// The name on the command line and in files.
    fn name(&self) -> &'static str;

    /// What it is, in a line.
    fn about(&self) -> &'static str;

    /// Its shape for a parameter of shape p, in words.
    fn shape(&self) -> &'static str;

    /// The vectors it is made of.
    fn source(&self) -> Source;

    /// How parts of a batch combine.
    fn combine(&self) -> Combine;

    /// Its share at a site.
    fn extract(&self, site: &Site) -> Result<Pieces>;

    /// Why it cannot be had for this layer with inputs of this shape, and what is possible instead. Layers without
    /// parameters are asked too: vectors and matrices have to go through them.
    fn refuses(&self, _layer: &dyn Layer, _input: &[i64]) -> Option<String> {
        None
    }

    /// Why it leaves the parameters of this layer out, where it can be had for those of other layers. A network all of
    /// whose parameters are left out is refused.
    fn leaves_out(&self, _layer: &dyn Layer) -> Option<String> {
        None
    }

    /// Why it leaves out a parameter that several layers use; these are all but the first of them.
    fn leaves_out_tied(&self, _later: &[&dyn Layer]) -> Option<&'static str> {
        None
    }

    /// Why it cannot be had from a network of this form and with values of these shapes, whatever its layers are.
    fn refuses_network(&self, _network: &Network, _shapes: &Shapes) -> Option<String> {
        None
    }

    /// The reading of which the weight's input factor A belongs to it, under the factor name "A"; None where none does.
    /// The pass computes each once for all quantities.
    fn input_factor(&self) -> Option<Reading> {
        None
    }

    /// A parameter of the same layer whose share is this one's as well, so that it need not be taken twice.
    fn shared_with(&self, _parameter: usize) -> Option<usize> {
        None
    }

    /// Whether at a layer with [`FactoredSite::position_sums`] it takes vectors that are summed over positions already,
    /// `[V, N, channels, 1]`. Where all layers behind keep channels apart, these cost less than the vectors.
    ///
    /// [`FactoredSite::position_sums`]: crate::backpack::layers::FactoredSite::position_sums
    fn takes_position_sums(&self) -> bool {
        false
    }

    /// The names of other quantities that [`Self::finish`] needs: those that this program knows by name ([`crate::Registry`]), or
    /// those that are taken in the same pass. They need not be asked for.
    fn requires(&self) -> &'static [&'static str] {
        &[]
    }

    /// For a quantity of one's own: what it is of a parameter's individual gradients `[N, *p]`, each with the 1/N of a mean
    /// loss, which the oracle has from automatic differentiation. `check` compares with that; what says nothing here is not
    /// compared.
    fn of_gradients(&self, _gradients: &Tensor) -> Option<Tensor> {
        None
    }

    /// How many numbers it holds for a parameter, by which the memory of a pass is estimated.
    fn elements(&self, extent: &Extent) -> u64 {
        let each = extent.parameter.value.numel() as u64;
        match self.combine() {
            Combine::Sum => each,
            Combine::Samples => each.saturating_mul(extent.samples),
            Combine::VectorsAndSamples => each.saturating_mul(extent.samples).saturating_mul(extent.vectors),
        }
    }

    /// The last step, once the whole batch has been seen: from what has been taken to the result. It is called for
    /// each piece, or once with an empty tensor where nothing was taken and there are required quantities.
    ///
    /// `required` are the required quantities of the parameter in their order, finished, with BackPACK's scale whatever
    /// `whole` says; of one with several factors each of them, in the order of [`crate::backpack::Quantities::values`].
    /// What lacks one for a parameter is left out there too.
    fn finish(&self, taken: Tensor, _required: &[&Tensor], _whole: &Whole) -> Tensor {
        taken
    }
}

impl fmt::Debug for dyn Quantity + '_ {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_tuple("Quantity").field(&self.name()).finish()
    }
}

/// The names that `all` stands for on the command line: the gradient and the ten quantities of Table 1.
pub const TABLE_1: [&str; 11] = [
    "grad",
    "batch_grad",
    "batch_l2",
    "sum_grad_squared",
    "variance",
    "diag_ggn",
    "diag_ggn_mc",
    "diag_hessian",
    "kfac",
    "kflr",
    "kfra",
];
