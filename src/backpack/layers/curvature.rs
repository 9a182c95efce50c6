//! What only some layers can do: a second derivative or roots of it, products that move (for the Hessian), and KFRA's
//! recursion. Each is a trait of its own that a layer may offer.

use std::fmt;

use tch::Tensor;

use super::{Residual, Saved};
use crate::error::Result;

/// How far a layer's output is from being linear in its input, which decides what second-order quantities need.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Curvature<'a> {
    /// The second derivative with respect to the input vanishes (almost everywhere): linear layers, ReLU, pooling.
    Zero,
    /// The layer acts on each entry by itself, and has this second derivative.
    Elementwise(&'a dyn SecondDerivative),
    /// The second derivative mixes entries, and has these roots.
    Mixed(&'a dyn Residual),
    /// The second derivative mixes entries and has no root here, for this reason: products with the Hessian go through
    /// the layer ([`super::Layer::tangent`]), its diagonal does not.
    Unrooted(&'static str),
    /// Anything else: neither the Hessian's diagonal nor products with it can be taken through this layer.
    General,
}

impl fmt::Debug for Curvature<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Curvature::Zero => "Zero",
            Curvature::Elementwise(_) => "Elementwise",
            Curvature::Mixed(_) => "Mixed",
            Curvature::Unrooted(_) => "Unrooted",
            Curvature::General => "General",
        })
    }
}

/// The second derivative of a layer that acts on each entry by itself.
pub trait SecondDerivative {
    /// Of each output entry with respect to its input entry, `[N, *in]`.
    fn second_derivative(&self, saved: &Saved) -> Result<Tensor>;
}

/// The directional derivative of a layer's transposed Jacobian products; see [`Tangent`].
#[derive(Debug, Default)]
pub struct VjpTangent {
    /// That of the product with respect to the input, `[N, *in]`; None is zero.
    pub input: Option<Tensor>,
    /// Those with respect to each parameter, summed over samples, `[*p]`; None is zero.
    pub parameters: Vec<Option<Tensor>>,
}

/// How a layer's transposed Jacobian products move with its input and parameters (Pearlmutter, 1994).
pub trait Tangent {
    /// The directional derivative, with `g` (`[N, *out]`) held fixed, of `vjp(g)` and of the summed parameter products
    /// of `g` when the input moves along `input` (`[N, *in]`) and the parameters along `parameters` (each `[*p]`).
    fn vjp_tangent(
        &self,
        saved: &Saved,
        g: &Tensor,
        input: Option<&Tensor>,
        parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent>;
}

/// How parameter and input of a layer meet in its second derivative.
pub trait MixedDerivative {
    /// What the diagonal of the Hessian gets at a parameter that layers in front use too: twice the sum over input
    /// entries x_j of `d(parameter_vjp(g)) / dx_j`, entry by entry times `dx_j / dp`. `g` is `[N, *out]`; `products` are the
    /// derivatives of V entries of the input, counted row-major from `start` on, `[V, N, *p]`. The result is `[N, *p]`.
    fn mixed_squares(&self, parameter: usize, g: &Tensor, start: i64, products: &Tensor) -> Result<Tensor>;
}

/// KFRA's backward recursion through a layer (Botev et al., 2017).
pub trait Recursion {
    /// Why it cannot go through inputs of this shape; None where it can.
    fn refuses(&self, _input: &[i64]) -> Option<String> {
        None
    }

    /// The batch-averaged GGN with respect to the output, `[out, out]` with the output flattened, to that with respect to
    /// the input.
    fn input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor>;
}
