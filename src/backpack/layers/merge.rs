//! What a merge has to offer, a function of several inputs without parameters; the merges that there are are in
//! `merges.rs`.

use std::fmt;

use tch::Tensor;

use super::Saved;
use crate::error::Result;

/// A function of several inputs, each `[N, *in]`, with its derivatives. It has no parameters.
pub trait Merge: Send {
    /// Its type's name, as in problem files ("add").
    fn kind(&self) -> &'static str;

    /// The shape of the output of one sample, for those of the inputs; an error names what does not fit.
    fn output_shape(&self, inputs: &[&[i64]]) -> Result<Vec<i64>>;

    /// The forward map, and what the Jacobian products need.
    fn forward(&self, inputs: &[&Tensor]) -> Result<Saved>;

    /// The transposed Jacobian with respect to each input that is wanted times `v`: `[V, N, *out]` to `[V, N, *in]` each.
    fn vjp(&self, saved: &Saved, v: &Tensor, wanted: &[bool]) -> Result<Vec<Option<Tensor>>>;

    /// The Jacobian times tangents of the inputs, `[V, N, *in]` each, of which None is zero and at least one is there:
    /// `[V, N, *out]`.
    fn jvp(&self, saved: &Saved, tangents: &[Option<&Tensor>]) -> Result<Tensor>;

    /// How the output bends, where it is not linear in all inputs together.
    fn bend(&self) -> Option<&dyn Bend> {
        None
    }
}

/// The second derivative of a merge that is not linear.
pub trait Bend: Residual {
    /// The derivative of [`Merge::vjp`] of `g` (`[N, *out]`, held fixed) when the inputs move along these tangents
    /// (`[N, *in]` each, None is zero), for each input that is wanted: `[N, *in]`.
    fn vjp_tangent(
        &self,
        saved: &Saved,
        g: &Tensor,
        tangents: &[Option<&Tensor>],
        wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>>;
}

/// What a function whose second derivative is not diagonal adds to the Hessian of what comes before it, as a sum of outer
/// products.
pub trait Residual {
    /// How many vectors the roots of [`Self::signed_root`] have for one sample.
    fn root_width(&self, saved: &Saved) -> i64;

    /// The second derivative of `g` (`[N, *out]`) times the output with respect to all inputs together, a symmetric
    /// matrix for each sample, as a sum of outer products with signs: the vectors `start..start + count` of
    /// [`Self::root_width`], `[count, N, *in]` at each input, and their signs `[count, N]`.
    fn signed_root(&self, saved: &Saved, g: &Tensor, start: i64, count: i64) -> Result<(Vec<Tensor>, Tensor)>;
}

impl fmt::Debug for dyn Merge + '_ {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.kind())
    }
}
