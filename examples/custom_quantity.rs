//! Quantities of your own, step by step: the gradient's signal-to-noise ratio, and how well each sample's gradient is
//! aligned with the batch's.
//!
//! Run it with `cargo run --release --example custom_quantity`. It checks both against a plain loop over the samples.

use backpack_run::Result;
use backpack_run::backpack::layers::{Activation, Linear, LinearOptions, Tanh};
use backpack_run::backpack::losses::CrossEntropy;
use backpack_run::backpack::quantities::{Combine, Pieces, Quantity, Site, Source, Whole};
use backpack_run::backpack::{BuiltIn::Grad, Network, Pass};
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
    let linear = |inputs: i64, outputs| Linear::new(&[inputs], &LinearOptions { out_features: outputs, bias: true });
    let layers = [Box::new(linear(5, 4)?) as _, Box::new(Activation::new(Tanh {})) as _, Box::new(linear(4, 3)?) as _];
    let mut network = Network::sequential(layers.into());
    network.to(Kind::Double, Device::Cpu);
    let loss = CrossEntropy::default();
    let (x, y) = (Tensor::randn([6, 5], (Kind::Double, Device::Cpu)), Tensor::from_slice(&[0i64, 1, 2, 2, 1, 0]));

    // One pass for both; they are taken as built-in quantities are.
    let result = Pass::new(&network, &loss).take([SignalToNoise])?.take([Alignment])?.run(&x, &y)?;

    // The judge: the gradients of one sample after the other.
    let alone = Pass::new(&network, &loss).take([Grad])?;
    for name in result.parameter_names() {
        let one = |sample| {
            let gradient = alone.run(&x.narrow(0, sample, 1), &y.narrow(0, sample, 1))?;
            Ok(gradient.get(Grad, name)?.flatten(0, -1))
        };
        let each = Tensor::stack(&(0..6).map(one).collect::<Result<Vec<_>>>()?, 0);
        let mean = each.mean_dim(0, false, Kind::Double);
        let ratio = mean.square() / each.var_dim(0, false, false);
        let cosines = each.mv(&mean) / (each.square().sum_dim_intlist(1, false, Kind::Double).sqrt() * mean.norm());
        for (ours, expected) in [(result.get(SignalToNoise, name)?, ratio), (result.get(Alignment, name)?, cosines)] {
            let error = ((ours.flatten(0, -1) - &expected).abs().max() / expected.abs().max()).double_value(&[]);
            assert!(error < 1e-10, "{name}: {error:e}");
        }
        println!("{name:>8}: cosines {:.2?}", Vec::<f64>::try_from(result.get(Alignment, name)?)?);
    }
    println!("both agree with a loop over the samples");
    Ok(())
}
