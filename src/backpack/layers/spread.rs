//! A parameter that is spread over a sample: added or multiplied entry by entry, its sizes of 1 standing for any size.

use tch::{Kind, Tensor};

use crate::error::{Error, Result};

/// How a parameter of one shape goes with samples of another.
#[derive(Clone, Debug)]
pub(super) struct Spread {
    /// The parameter's own shape.
    parameter: Vec<i64>,
    /// The same with as many axes as a sample has.
    aligned: Vec<i64>,
}

impl Spread {
    /// A parameter of this shape, aligned with the last axes of samples of shape `input`; it may have one axis more than
    /// these, for the samples, of size 1.
    ///
    /// # Errors
    /// [`Error::Shape`] when it does not broadcast to the samples.
    pub fn new(kind: &str, parameter: &[i64], input: &[i64]) -> Result<Self> {
        let misfit = || {
            Error::Shape(format!(
                "{kind}: a parameter of shape {parameter:?} does not go with samples of shape {input:?}; its sizes have \
                 to be theirs, or 1, from the last axis on"
            ))
        };
        let own = match parameter {
            [1, own @ ..] if own.len() == input.len() => own,
            own => own,
        };
        let missing = input.len().checked_sub(own.len()).ok_or_else(misfit)?;
        let aligned: Vec<i64> = std::iter::repeat_n(1, missing).chain(own.iter().copied()).collect();
        if aligned.iter().zip(input).any(|(own, size)| *own != 1 && own != size) {
            return Err(misfit());
        }
        Ok(Spread { parameter: parameter.to_vec(), aligned })
    }

    /// Sums over what the parameter is spread over, sample by sample: `[V, N, *out]` to `[V, N, *p]`.
    pub fn gather(&self, v: &Tensor) -> Result<Tensor> {
        let size = v.size();
        let axes: Vec<i64> = (2..size.len())
            .filter(|&axis| self.aligned[axis - 2] == 1 && size[axis] != 1)
            .map(|axis| axis as i64)
            .collect();
        let sum =
            if axes.is_empty() { v.shallow_clone() } else { v.f_sum_dim_intlist(axes.as_slice(), true, None::<Kind>)? };
        Ok(sum.f_reshape([&size[..2], self.parameter.as_slice()].concat().as_slice())?)
    }

    /// The parameter, or vectors `[V, *p]` of its shape, beside samples: `[V, 1, *]` with sizes of 1 where it is spread.
    pub fn beside(&self, vectors: &Tensor) -> Result<Tensor> {
        Ok(vectors.f_reshape([&vectors.size()[..1], &[1], self.aligned.as_slice()].concat().as_slice())?)
    }
}
