//! `rnn`: Elman's network, h = tanh(W_ih x + b_ih + W_hh h' + b_hh) with h' the step before's output, or with relu.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Recurrent;
use super::cell::{Cell, Slopes, States};
use crate::backpack::layers::activations::{Function, Relu, Tanh};
use crate::backpack::layers::layer_type::{LayerType, Site, Specimen, layer};
use crate::backpack::layers::{ParameterSource, sizes};
use crate::backpack::network::Operation;
use crate::error::Result;

/// What a cell does to its sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Nonlinearity {
    /// The hyperbolic tangent.
    #[default]
    Tanh,
    /// max(x, 0).
    Relu,
}

/// The options of `rnn`, named as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RnnOptions {
    /// units, which are also the outputs per step
    #[serde(deserialize_with = "sizes::size")]
    pub hidden_size: i64,
    /// "tanh" or "relu"
    #[serde(default)]
    pub nonlinearity: Nonlinearity,
    /// whether there are biases
    #[serde(default = "sizes::yes")]
    pub bias: bool,
}

impl LayerType for RnnOptions {
    const NAME: &'static str = "rnn";
    const SUMMARY: &'static str = "recurrent layer with one nonlinearity; gives the whole sequence";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("hidden_size = 3", &[4, 5])];

    fn build(&self, site: &Site) -> Result<Operation> {
        layer(Rnn::made_of(site.input()?, self, site.parameters)?)
    }
}

/// A recurrent layer `[N, T, in]` to `[N, T, H]` with weights `[H, in]` and `[H, H]` and two biases `[H]`.
pub type Rnn = Recurrent<Elman>;

impl Rnn {
    /// A layer for inputs `[T, in]` (without the sample axis), its parameters drawn as PyTorch draws them.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when the input has other axes, or a size is not positive.
    pub fn new(input: &[i64], options: &RnnOptions) -> Result<Self> {
        Self::made_of(input, options, ParameterSource::Drawn)
    }

    fn made_of(input: &[i64], options: &RnnOptions, source: ParameterSource) -> Result<Self> {
        Recurrent::of_cell(Elman(options.nonlinearity), input, options.hidden_size, options.bias, source)
    }
}

/// The cell of `rnn`: one gate, no memory.
#[derive(Clone, Copy, Debug)]
pub struct Elman(Nonlinearity);

impl Cell for Elman {
    fn kind(&self) -> &'static str {
        RnnOptions::NAME
    }

    fn gates(&self) -> i64 {
        1
    }

    fn step(&self, gates: &Tensor, _memory: Option<&Tensor>) -> Result<(Tensor, Option<Tensor>)> {
        let sum = gates.squeeze_dim(1);
        let output = match self.0 {
            Nonlinearity::Tanh => Tanh {}.value(&sum),
            Nonlinearity::Relu => Relu {}.value(&sum),
        };
        Ok((output, None))
    }

    fn slopes(&self, at: &States) -> Result<Slopes> {
        let output = at.output.unsqueeze(2);
        let direct = match self.0 {
            Nonlinearity::Tanh => Tanh {}.derivative(&at.gates, &output),
            Nonlinearity::Relu => Relu {}.derivative(&at.gates, &output),
        };
        Ok(Slopes { direct, memory: None })
    }

    fn bends(&self, at: &States, along: &States) -> Result<Slopes> {
        let output = at.output.unsqueeze(2);
        let second = match self.0 {
            Nonlinearity::Tanh => Tanh {}.second_derivative(&at.gates, &output),
            Nonlinearity::Relu => Relu {}.second_derivative(&at.gates, &output),
        };
        Ok(Slopes { direct: second.f_mul(&along.gates)?, memory: None })
    }

    fn library(&self, input: &Tensor, start: &Tensor, parameters: &[&Tensor], bias: bool) -> Result<Tensor> {
        let (output, _) = match self.0 {
            Nonlinearity::Tanh => input.f_rnn_tanh(start, parameters, bias, 1, 0.0, false, false, true)?,
            Nonlinearity::Relu => input.f_rnn_relu(start, parameters, bias, 1, 0.0, false, false, true)?,
        };
        Ok(output)
    }
}
