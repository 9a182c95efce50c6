//! A parameter of a layer, and where its first value comes from.

use tch::{Device, Kind, Tensor};

use super::sizes::MAX_ENTRIES;
use crate::backpack::init::{Fans, Init};
use crate::error::{Error, Result};

/// A parameter tensor of a layer.
#[derive(Debug)]
pub struct Parameter {
    /// Its name within the layer: `weight` or `bias` in most layers.
    pub name: &'static str,
    /// Its value; the optimizers change it in place.
    pub value: Tensor,
    /// What it starts as where a problem file does not say.
    pub start: Init,
}

impl Parameter {
    /// A parameter with this value.
    pub fn new(name: &'static str, value: Tensor) -> Self {
        Parameter { name, value, start: Init::Default }
    }

    /// Whether it is a bias, which is never regularised: whether its name begins with `bias`.
    pub fn is_bias(&self) -> bool {
        is_bias(self.name)
    }
}

/// Whether a parameter of this name within its layer is a bias.
pub fn is_bias(name: &str) -> bool {
    name.starts_with("bias")
}

/// Where a new layer's parameters come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterSource {
    /// Drawn as PyTorch draws them, from libtorch's own generator (`tch::manual_seed`).
    Drawn,
    /// Zeros, to be filled.
    Zeros,
    /// They have shapes and take no memory: all entries are one, which cannot be written to.
    Outline,
}

impl ParameterSource {
    /// A parameter of a layer of this type, with its shape and what it starts as; `fans` are those of the layer's weight.
    ///
    /// # Errors
    /// [`Error::Shape`] for more entries than libtorch's kernels count.
    pub fn make(self, layer: &str, name: &'static str, shape: &[i64], start: Init, fans: Fans) -> Result<Parameter> {
        let count = shape.iter().try_fold(1i64, |product, size| product.checked_mul(*size));
        if count.is_none_or(|count| count > MAX_ENTRIES) {
            return Err(Error::Shape(format!(
                "{layer}: a {name} of {shape:?} is too large, at most {MAX_ENTRIES} entries are possible"
            )));
        }
        let float = (Kind::Float, Device::Cpu);
        let value = match self {
            ParameterSource::Outline => Tensor::zeros(vec![1; shape.len()].as_slice(), float).expand(shape, false),
            ParameterSource::Zeros => Tensor::zeros(shape, float),
            ParameterSource::Drawn => {
                let value = Tensor::zeros(shape, float);
                let seed = Tensor::randint(i64::MAX, [1], (Kind::Int64, Device::Cpu)).int64_value(&[0]);
                start.fill(&value, fans, seed.unsigned_abs(), 0);
                value
            }
        };
        Ok(Parameter { name, value, start })
    }

    /// The weight of this shape, `[out, in, ..]`, and where it has outputs the bias, of a layer that multiplies.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub fn affine(self, layer: &str, weight: &[i64], bias: Option<i64>) -> Result<Vec<Parameter>> {
        let fans = Fans::of_weight(weight);
        let mut parameters = vec![self.make(layer, "weight", weight, Init::Default, fans)?];
        if let Some(outputs) = bias {
            parameters.push(self.make(layer, "bias", &[outputs], Init::Default, fans)?);
        }
        Ok(parameters)
    }

    /// A parameter whose start does not depend on fans.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub fn plain(self, layer: &str, name: &'static str, shape: &[i64], start: Init) -> Result<Parameter> {
        self.make(layer, name, shape, start, Fans { input: 1, output: 1 })
    }
}
