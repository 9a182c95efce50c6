//! Initial values of parameters, drawn from the counter-based stream of the parameter's place in the network.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, StandardUniform};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::numbers::read;
use crate::random::{Purpose, stream};

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Every entry this value.
    #[serde(deserialize_with = "read::finite")]
    Constant(f64),
    /// Normal around zero with this standard deviation.
    #[serde(deserialize_with = "read::from_0")]
    Normal(f64),
    /// Uniform between minus and plus this bound.
    #[serde(deserialize_with = "read::from_0")]
    Uniform(f64),
    /// Normal with this scale, cut at two scales on either side (so that the deviation is about 0.88 of it).
    #[serde(deserialize_with = "read::above_0")]
    TruncatedNormal(f64),
    /// Normal with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010).
    XavierNormal,
    /// Uniform with the same variance.
    XavierUniform,
    /// PyTorch's default of linear and convolution layers: uniform within 1 / sqrt(fan_in), for weight and bias;
    /// one and zero for BatchNorm.
    #[default]
    Default,
}

/// The numbers of inputs and outputs that an entry of a weight is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fans {
    /// Inputs of one output.
    pub input: i64,
    /// Outputs of one input.
    pub output: i64,
}

impl Fans {
    /// Of a weight `[out, in, *kernel]`, as PyTorch counts (also for transposed convolutions, whose first axis it
    /// takes for the output).
    pub fn of_weight(shape: &[i64]) -> Self {
        let kernel: i64 = shape.iter().skip(2).product();
        match shape {
            [outputs, inputs, ..] => Fans { input: inputs * kernel, output: outputs * kernel },
            _ => Fans { input: shape.iter().product(), output: shape.iter().product() },
        }
    }
}

impl Init {
    /// Fills `parameter` in place. `place` counts the network's parameters; `fans` are those of its layer's weight.
    pub fn fill(self, parameter: &Tensor, fans: Fans, seed: u64, place: u64) {
        let mut generator = stream(seed, Purpose::Init, place);
        let count = parameter.numel();
        let values: Vec<f64> = match self {
            Init::Constant(value) => vec![value; count],
            Init::Normal(deviation) => normal(&mut generator, count, deviation),
            Init::Uniform(bound) => uniform(&mut generator, count, bound),
            Init::TruncatedNormal(scale) => truncated_normal(&mut generator, count, scale),
            Init::XavierNormal => normal(&mut generator, count, (2.0 / (fans.input + fans.output) as f64).sqrt()),
            Init::XavierUniform => uniform(&mut generator, count, (6.0 / (fans.input + fans.output) as f64).sqrt()),
            Init::Default => uniform(&mut generator, count, 1.0 / (fans.input.max(1) as f64).sqrt()),
        };
        let values = Tensor::from_slice(&values).to_kind(Kind::Double).view(parameter.size().as_slice());
        parameter.shallow_clone().copy_(&values);
    }
}

fn normal(generator: &mut ChaCha8Rng, count: usize, deviation: f64) -> Vec<f64> {
    (0..count)
        .map(|_| {
            let value: f64 = StandardNormal.sample(generator);
            value * deviation
        })
        .collect()
}

fn uniform(generator: &mut ChaCha8Rng, count: usize, bound: f64) -> Vec<f64> {
    (0..count)
        .map(|_| {
            let value: f64 = StandardUniform.sample(generator);
            (2.0 * value - 1.0) * bound
        })
        .collect()
}

/// By rejection: 95 % of the draws lie within two scales.
fn truncated_normal(generator: &mut ChaCha8Rng, count: usize, scale: f64) -> Vec<f64> {
    (0..count)
        .map(|_| {
            loop {
                let value: f64 = StandardNormal.sample(generator);
                if value.abs() <= 2.0 {
                    return value * scale;
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn filled(init: Init, shape: &[i64]) -> Tensor {
        let parameter = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        init.fill(&parameter, Fans::of_weight(shape), 42, 3);
        parameter
    }

    fn deviation(tensor: &Tensor) -> f64 {
        f64::try_from(tensor.to_kind(Kind::Double).square().mean(Kind::Double)).unwrap().sqrt()
    }

    #[test]
    fn deviations_are_those_of_the_definitions() {
        let shape = [64, 32, 5, 5];
        let (inputs, outputs) = (32.0 * 25.0, 64.0 * 25.0);
        let xavier = (2.0f64 / (inputs + outputs)).sqrt();
        for (init, expected) in [
            (Init::Constant(0.05), 0.05),
            (Init::Normal(0.3), 0.3),
            (Init::Uniform(0.3), 0.3 / 3f64.sqrt()),
            (Init::TruncatedNormal(0.05), 0.05 * 0.87962566),
            (Init::XavierNormal, xavier),
            (Init::XavierUniform, xavier),
            (Init::Default, 1.0 / inputs.sqrt() / 3f64.sqrt()),
        ] {
            let measured = deviation(&filled(init, &shape));
            assert!((measured / expected - 1.0).abs() < 0.02, "{init:?}: {measured}, expected {expected}");
        }
    }

    #[test]
    fn the_truncated_normal_ends_at_two_scales() {
        let largest = f64::try_from(filled(Init::TruncatedNormal(0.05), &[100, 1000]).abs().max()).unwrap();
        assert!(largest <= 0.1 + 1e-7 && largest > 0.099, "{largest}");
    }

    #[test]
    fn a_parameters_draw_does_not_depend_on_the_others() {
        let one = filled(Init::Normal(1.0), &[10]);
        let two = filled(Init::Normal(1.0), &[10]);
        assert_eq!(one, two);
    }
}
