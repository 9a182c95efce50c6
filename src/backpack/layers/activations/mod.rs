//! Elementwise layers: the functions that there are, and the layer that they all are.

mod functions;

use tch::Tensor;

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::{Channels, Curvature, Layer, Mode, Recursion, Saved, SecondDerivative, averaged_outer};
use crate::backpack::network::Operation;
use crate::error::Result;

pub use functions::{Elu, Gelu, GeluApproximation, Identity, LeakyRelu, LogSigmoid, Relu, Selu, Sigmoid, Silu, Tanh};

/// A function that acts on each entry by itself. Its fields are its options.
pub trait Function: Clone + Send + Sync + 'static {
    /// The layer type's name in problem files.
    const NAME: &'static str;

    /// What it computes, in a line.
    const SUMMARY: &'static str;

    /// Options for an example, as in a problem file.
    const EXAMPLE: &'static str = "";

    /// Whether the second derivative vanishes (almost) everywhere.
    const IS_PIECEWISE_LINEAR: bool = false;

    /// Whether it is the identity, whose Jacobian is the same for every sample.
    const IS_IDENTITY: bool = false;

    /// The function.
    fn value(&self, x: &Tensor) -> Tensor;

    /// The function by libtorch's own operation.
    ///
    /// # Errors
    /// What libtorch says.
    fn library(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.value(x))
    }

    /// The first derivative, from the input `x` and the output `y`. It has to be taken from the input wherever the output
    /// comes so close to a limit that the difference from it is lost.
    fn derivative(&self, x: &Tensor, y: &Tensor) -> Tensor;

    /// The second derivative, from the same.
    fn second_derivative(&self, x: &Tensor, y: &Tensor) -> Tensor;

    /// `v`, perhaps with vectors in front, times the derivative.
    ///
    /// # Errors
    /// What libtorch says.
    fn scale(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v * self.derivative(&saved.input, &saved.output))
    }

    /// The mean over samples of the derivatives' outer products, entry by entry times `g` (`[features, features]`), for
    /// KFRA.
    fn average_both_sides(&self, saved: &Saved, g: &Tensor) -> Tensor {
        averaged_outer(&self.derivative(&saved.input, &saved.output)) * g
    }
}

impl<F> LayerType for F
where
    F: Function + serde::Serialize + serde::de::DeserializeOwned + schemars::JsonSchema + std::fmt::Debug,
{
    const NAME: &'static str = <F as Function>::NAME;
    const SUMMARY: &'static str = <F as Function>::SUMMARY;
    const SPECIMENS: &'static [Specimen] = &[Specimen::new(F::EXAMPLE, &[6])];

    fn build(&self, _site: &Site) -> Result<Operation> {
        layer(Activation::new(self.clone()))
    }
}

/// A layer that applies one function to every entry.
#[derive(Debug)]
pub struct Activation<F> {
    function: F,
}

impl<F: Function> Activation<F> {
    /// A layer of this function.
    pub fn new(function: F) -> Self {
        Activation { function }
    }
}

impl<F: Function> Layer for Activation<F> {
    fn kind(&self) -> &'static str {
        F::NAME
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        Ok(input.to_vec())
    }

    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        Ok(Saved::new(input, self.function.value(input)))
    }

    fn library(&self, input: &Tensor, _mode: Mode) -> Result<Tensor> {
        self.function.library(input)
    }

    /// The Jacobian is diagonal, so both products are the same.
    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        self.function.scale(saved, v)
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        self.function.scale(saved, v)
    }

    fn curvature(&self) -> Curvature<'_> {
        if F::IS_PIECEWISE_LINEAR { Curvature::Zero } else { Curvature::Elementwise(self) }
    }

    fn recursion(&self) -> Option<&dyn Recursion> {
        Some(self)
    }

    fn channels(&self) -> Channels {
        Channels::Apart { by_sample: !F::IS_IDENTITY }
    }
}

impl<F: Function> SecondDerivative for Activation<F> {
    fn second_derivative(&self, saved: &Saved) -> Result<Tensor> {
        Ok(self.function.second_derivative(&saved.input, &saved.output))
    }
}

impl<F: Function> Recursion for Activation<F> {
    fn input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor> {
        Ok(self.function.average_both_sides(saved, g))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Autograd knows libtorch's own functions; ours have to agree with their first and second derivatives.
    fn agrees<F: Function>(function: F, library: impl Fn(&Tensor) -> Tensor) {
        let x = Tensor::linspace(-4.0, 4.0, 38, (Kind::Double, Device::Cpu)).set_requires_grad(true);
        let y = library(&x);
        let first = Tensor::run_backward(&[y.sum(Kind::Double)], &[&x], true, true).remove(0);
        let plain = x.detach();
        let ours = function.value(&plain);
        let close = |a: &Tensor, b: &Tensor| f64::try_from((a - b).abs().max()).unwrap() < 1e-12;
        assert!(close(&ours, &y.detach()), "{} value", F::NAME);
        assert!(close(&function.derivative(&plain, &ours), &first.detach()), "{} derivative", F::NAME);
        if !F::IS_PIECEWISE_LINEAR {
            let second = Tensor::run_backward(&[first.sum(Kind::Double)], &[&x], false, false).remove(0);
            assert!(close(&function.second_derivative(&plain, &ours), &second), "{} second derivative", F::NAME);
        }
    }

    #[test]
    fn derivatives_are_autograds() {
        agrees(Relu {}, Tensor::relu);
        agrees(LeakyRelu { negative_slope: 0.1 }, |x| x.where_self(&x.gt(0.0), &(x * 0.1)));
        agrees(Elu { alpha: 1.3 }, |x| x.where_self(&x.gt(0.0), &(x.expm1() * 1.3)));
        agrees(Selu {}, Tensor::selu);
        agrees(Sigmoid {}, Tensor::sigmoid);
        agrees(Tanh {}, Tensor::tanh);
        agrees(LogSigmoid {}, Tensor::log_sigmoid);
        agrees(Gelu { approximate: GeluApproximation::None }, |x| x.gelu("none"));
        agrees(Gelu { approximate: GeluApproximation::Tanh }, |x| x.gelu("tanh"));
        agrees(Silu {}, Tensor::silu);
        agrees(Identity {}, Tensor::shallow_clone);
    }
}
