//! Quantities of your own, step by step: the gradient's signal-to-noise ratio, and how well each sample's gradient is
//! aligned with the batch's.
//!
//! Run it with `cargo run --release --example custom_quantity`. It checks both against a plain loop over the samples.

use std::sync::Arc;

use backpack_run::Result;
use backpack_run::backpack::layers::{Activation, Linear, LinearOptions, Mode, Tanh};
use backpack_run::backpack::losses::CrossEntropy;
use backpack_run::backpack::quantities::{Combine, Pieces, Quantity, Site, Source, Whole};
use backpack_run::backpack::{Labels, Network, Request, extended_backward};
use tch::{Device, Kind, Tensor};

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

    // 4. ... but these two, whose sums over the whole batch `finish` gets, in this order. They need not be asked for.
    fn requires(&self) -> &'static [&'static str] {
        &["sum_grad_squared", "grad"]
    }

    // 5. The last step. With u_n the individual gradients of the reduced loss, grad is their sum; the ratio does not
    //    depend on their scale.
    fn finish(&self, _taken: Tensor, required: &[&Tensor], whole: &Whole) -> Tensor {
        let samples = whole.samples as f64;
        let (second_moment, mean) = (required[0] / samples, required[1] / samples);
        let signal = mean.square();
        &signal / (second_moment - &signal)
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
}

/// The example, which is also a test.
pub fn main() -> Result<()> {
    tch::manual_seed(0);
    let mut network = Network::sequential(vec![
        Box::new(Linear::new(&[5], &LinearOptions { out_features: 4, bias: true })?),
        Box::new(Activation::new(Tanh {})),
        Box::new(Linear::new(&[4], &LinearOptions { out_features: 3, bias: true })?),
    ]);
    network.to(Kind::Double, Device::Cpu);
    for parameter in network.parameters() {
        parameter.value.shallow_clone().copy_(&Tensor::randn_like(parameter.value));
    }
    let loss = CrossEntropy::default();
    let (x, y) = (Tensor::randn([6, 5], (Kind::Double, Device::Cpu)), Tensor::from_slice(&[0i64, 1, 2, 2, 1, 0]));
    let labels = Labels::Drawn { seed: 0, step: 0 };

    // One pass for both; built-in quantities could stand beside them.
    let request = Request::of(vec![Arc::new(SignalToNoise), Arc::new(Alignment)]);
    let quantities = extended_backward(&network, &loss, &x, &y, Mode::Evaluation, &request, labels)?;

    // The judge: the gradients of one sample after the other.
    let gradient = Request::new(["grad"])?;
    for (place, parameter) in network.parameters().iter().enumerate() {
        let one = |sample: i64| -> Result<Tensor> {
            let (x, y) = (x.narrow(0, sample, 1), y.narrow(0, sample, 1));
            let pass = extended_backward(&network, &loss, &x, &y, Mode::Evaluation, &gradient, labels)?;
            Ok(pass.get("grad", place).expect("it was asked for").flatten(0, -1))
        };
        let each = Tensor::stack(&(0..6).map(one).collect::<Result<Vec<_>>>()?, 0);
        let mean = each.mean_dim(0, false, Kind::Double);
        let ratio = mean.square() / each.var_dim(0, false, false);
        let cosines = each.mv(&mean) / (each.square().sum_dim_intlist(1, false, Kind::Double).sqrt() * mean.norm());
        for (name, expected) in [("signal_to_noise", ratio), ("alignment", cosines)] {
            let ours = quantities.get(name, place).expect("it was asked for").flatten(0, -1);
            let error = ((&ours - &expected).abs().max() / expected.abs().max()).double_value(&[]);
            assert!(error < 1e-10, "{} {name}: {error:e}", parameter.name);
        }
        let alignment = Vec::<f64>::try_from(quantities.get("alignment", place).expect("it was asked for"))?;
        println!("{:>8}: cosines {alignment:.2?}", parameter.name);
    }
    println!("both agree with a loop over the samples");
    Ok(())
}
