//! Quantities of your own in the whole program: the gradient's signal-to-noise ratio, and how well each sample's gradient is
//! aligned with the batch's.
//!
//! `cargo run --release --example custom_quantity -- check --problem mnist_logreg --quantities signal_to_noise,alignment`
//! compares both with a loop over the samples by automatic differentiation; `extract` and `bench` take them by name.

use std::process::ExitCode;

use backpack_run::backpack::quantities::{Combine, Pieces, Quantity, Site, Source, Whole};
use backpack_run::{Registry, Result};
use tch::{Kind, Tensor};

/// The signal-to-noise ratio of each gradient entry, mean^2 / variance over the samples (Liu et al., "Understanding why
/// neural networks generalize well through GSNR of parameters", ICLR 2020).
///
/// It is made at the end, from two quantities that are there anyway.
struct SignalToNoise;

impl Quantity for SignalToNoise {
    fn name(&self) -> &'static str {
        "signal_to_noise"
    }

    fn about(&self) -> &'static str {
        "squared mean over variance of the individual gradients"
    }

    fn shape(&self) -> &'static str {
        "[*p]"
    }

    // 1. Which vectors it is made of. The pass pushes each kind back once, for all quantities together.
    fn source(&self) -> Source {
        Source::Gradient
    }

    // 2. How the shares of parts of a batch combine: added, or put one after the other.
    fn combine(&self) -> Combine {
        Combine::Sum
    }

    // 3. What it takes at a layer: nothing of its own ...
    fn extract(&self, _site: &Site) -> Result<Pieces> {
        Ok(Vec::new())
    }

    // 4. ... but these two, which `finish` gets, in this order. They need not be asked for, and may be your own.
    fn requires(&self) -> &'static [&'static str] {
        &["sum_grad_squared", "grad"]
    }

    // 5. The last step. With u_n the individual gradients of the reduced loss, grad is their sum; the ratio does not
    //    depend on their scale.
    fn finish(&self, _taken: Tensor, required: &[&Tensor], whole: &Whole) -> Tensor {
        let samples = whole.samples as f64;
        let (second_moment, mean) = (required[0] / samples, required[1] / samples);
        let signal = mean.square();
        &signal / (second_moment - &signal).clamp_min(1e-30)
    }

    // 6. What `check` compares with, of individual gradients [N, *p] by automatic differentiation.
    fn of_gradients(&self, gradients: &Tensor) -> Option<Tensor> {
        let variance = gradients.var_dim(0, false, false).clamp_min(1e-30);
        Some(gradients.mean_dim(0, false, Kind::Double).square() / variance)
    }
}

/// The cosine of the angle between each individual gradient and the gradient of the batch, parameter by parameter:
/// `[N]`. It takes its share at every layer.
struct Alignment;

impl Quantity for Alignment {
    fn name(&self) -> &'static str {
        "alignment"
    }

    fn about(&self) -> &'static str {
        "cosine between each individual gradient and the gradient"
    }

    fn shape(&self) -> &'static str {
        "[N]"
    }

    fn source(&self) -> Source {
        Source::Gradient
    }

    fn combine(&self) -> Combine {
        Combine::Samples
    }

    // A site is one layer, one of its parameters, and what has arrived at the layer's output: here the loss's gradient,
    // [1, N, *out]. The layer's products turn that into parameter space; squared norms need no individual gradients.
    fn extract(&self, site: &Site) -> Result<Pieces> {
        let Site { layer, saved, parameter, v, .. } = *site;
        let gradient = layer.parameter_vjp_sum(saved, parameter, v)?.flatten(0, -1);
        let each = layer.parameter_vjp(saved, parameter, v)?.squeeze_dim(0).flatten(1, -1);
        let norms = layer.squared_norms(saved, parameter, v)?.squeeze_dim(0).sqrt() * gradient.norm();
        // The name of a piece is that of a factor ("A", "B"); empty where there is only one.
        Ok(vec![("", each.mv(&gradient) / norms)])
    }

    fn of_gradients(&self, gradients: &Tensor) -> Option<Tensor> {
        let each = gradients.flatten(1, -1);
        let gradient = each.sum_dim_intlist(0, false, Kind::Double);
        let norms = each.square().sum_dim_intlist(1, false, Kind::Double).sqrt() * gradient.norm();
        Some(each.mv(&gradient) / norms)
    }
}

/// The program with both in it.
pub fn main() -> ExitCode {
    backpack_run::program(Registry::new().quantity(SignalToNoise).quantity(Alignment))
}
