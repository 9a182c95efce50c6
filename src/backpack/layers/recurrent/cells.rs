//! The recurrent layers that there are, by what their cells do in a step: `rnn` and `lstm`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Recurrent;
use super::cell::{Cell, MemorySlopes, Slopes, States, earlier};
use crate::backpack::layers::activations::{Function, Relu, Sigmoid, Tanh};
use crate::backpack::layers::layer_type::{LayerType, Site, Specimen, layer};
use crate::backpack::layers::{ParameterSource, sizes};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};

// `rnn`: Elman's network, h = tanh(W_ih x + b_ih + W_hh h' + b_hh) with h' the step before's output, or with relu.

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

// `lstm`: long short-term memory (Hochreiter and Schmidhuber, 1997), with a forget gate (Gers et al., 2000).
//
// Of the four gates i, f, g, o, in PyTorch's order, each the sum of what input and output of the step before give,
// c = sigmoid(f) c' + sigmoid(i) tanh(g) and h = sigmoid(o) tanh(c).

/// The options of `lstm`, named as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LstmOptions {
    /// units, which are also the outputs per step
    #[serde(deserialize_with = "sizes::size")]
    pub hidden_size: i64,
    /// whether there are biases
    #[serde(default = "sizes::yes")]
    pub bias: bool,
}

impl LayerType for LstmOptions {
    const NAME: &'static str = "lstm";
    const SUMMARY: &'static str = "recurrent layer with a memory cell and gates; gives the whole sequence";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("hidden_size = 2", &[4, 3])];

    fn build(&self, site: &Site) -> Result<Operation> {
        layer(Lstm::made_of(site.input()?, self, site.parameters)?)
    }
}

/// A recurrent layer `[N, T, in]` to `[N, T, H]` with weights `[4 H, in]` and `[4 H, H]` and two biases `[4 H]`.
pub type Lstm = Recurrent<LongShortTerm>;

impl Lstm {
    /// A layer for inputs `[T, in]` (without the sample axis), its parameters drawn as PyTorch draws them.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when the input has other axes, or a size is not positive.
    pub fn new(input: &[i64], options: &LstmOptions) -> Result<Self> {
        Self::made_of(input, options, ParameterSource::Drawn)
    }

    fn made_of(input: &[i64], options: &LstmOptions, source: ParameterSource) -> Result<Self> {
        Recurrent::of_cell(LongShortTerm, input, options.hidden_size, options.bias, source)
    }
}

/// The cell of `lstm`: the gates i, f and g lead into the memory, o does not.
#[derive(Clone, Copy, Debug)]
pub struct LongShortTerm;

/// A nonlinearity at its place: its value and first derivative, and where wanted the second one.
struct Bent {
    value: Tensor,
    slope: Tensor,
    second: Tensor,
}

impl Bent {
    fn of(function: &impl Function, x: &Tensor) -> Self {
        let value = function.value(x);
        Bent { slope: function.derivative(x, &value), second: function.second_derivative(x, &value), value }
    }
}

/// Value and first derivative.
fn sloped(function: &impl Function, x: &Tensor) -> (Tensor, Tensor) {
    let value = function.value(x);
    let slope = function.derivative(x, &value);
    (value, slope)
}

/// One of the gates i, f, g, o.
fn gate(states: &States, number: i64) -> Tensor {
    states.gates.select(2, number)
}

fn memory(states: &States) -> Result<&Tensor> {
    states.memory.as_ref().ok_or_else(|| Error::Shape("lstm: the memory is missing".into()))
}

impl Cell for LongShortTerm {
    fn kind(&self) -> &'static str {
        LstmOptions::NAME
    }

    fn gates(&self) -> i64 {
        4
    }

    fn step(&self, gates: &Tensor, memory: Option<&Tensor>) -> Result<(Tensor, Option<Tensor>)> {
        let in_and_forget = gates.f_narrow(1, 0, 2)?.f_sigmoid()?;
        let new = in_and_forget.f_select(1, 0)?.f_mul(&gates.f_select(1, 2)?.f_tanh()?)?;
        let memory = match memory {
            Some(before) => new.f_addcmul(&in_and_forget.f_select(1, 1)?, before)?,
            None => new,
        };
        let output = gates.f_select(1, 3)?.f_sigmoid()?.f_mul(&memory.f_tanh()?)?;
        Ok((output, Some(memory)))
    }

    fn slopes(&self, at: &States) -> Result<Slopes> {
        let memory = memory(at)?;
        let [(i, i_slope), (f, f_slope), (o, o_slope)] = [0, 1, 3].map(|number| sloped(&Sigmoid {}, &gate(at, number)));
        let (g, g_slope) = sloped(&Tanh {}, &gate(at, 2));
        let (c, c_slope) = sloped(&Tanh {}, memory);
        let into = [i_slope.f_mul(&g)?, f_slope.f_mul(&earlier(memory, 1)?)?, g_slope.f_mul(&i)?];
        Ok(Slopes {
            direct: o_slope.f_mul(&c)?.unsqueeze(2),
            memory: Some(MemorySlopes { into: Tensor::f_stack(&into, 2)?, keep: f, out: o.f_mul(&c_slope)? }),
        })
    }

    fn bends(&self, at: &States, along: &States) -> Result<Slopes> {
        let (memory, moving) = (memory(at)?, memory(along)?);
        let [i, f, o] = [0, 1, 3].map(|number| Bent::of(&Sigmoid {}, &gate(at, number)));
        let (g, c) = (Bent::of(&Tanh {}, &gate(at, 2)), Bent::of(&Tanh {}, memory));
        let [di, df, dg, d_o] = [0, 1, 2, 3].map(|number| gate(along, number));
        let i_slope = i.second * &di;
        let into = [
            i_slope * &g.value + &i.slope * &g.slope * &dg,
            f.second * &df * earlier(memory, 1)? + &f.slope * earlier(moving, 1)?,
            g.second * &dg * &i.value + &g.slope * &i.slope * &di,
        ];
        Ok(Slopes {
            direct: (o.second * &d_o * &c.value + &o.slope * &c.slope * moving).unsqueeze(2),
            memory: Some(MemorySlopes {
                into: Tensor::f_stack(&into, 2)?,
                keep: f.slope * df,
                out: o.slope * d_o * c.slope + o.value * c.second * moving,
            }),
        })
    }

    fn library(&self, input: &Tensor, start: &Tensor, parameters: &[&Tensor], bias: bool) -> Result<Tensor> {
        Ok(input.f_lstm(&[start, start], parameters, bias, 1, 0.0, false, false, true)?.0)
    }
}
