//! Recurrent layers, batch first: `[N, T, in]` to the outputs of all T steps of time, `[N, T, H]`, from a state of zeros.
//!
//! A step's gates are a = W_ih x + b_ih + W_hh h' + b_hh, with h' the output of the step before; what follows is its
//! cell's (`cell.rs`). Vectors at the outputs are taken back to the gates once (`Steps` there), and all else is what an
//! affine map with the steps as its positions has: the rows of W_ih are the inputs x, those of W_hh the outputs h'.

mod cell;
mod cells;

use tch::{Kind, Tensor};

use super::{
    AffineSite, Curvature, Layer, Mode, Parameter, ParameterSite, ParameterSource, Saved, Tangent, VjpTangent, affine,
    no_parameter,
};
use crate::backpack::init::Init;
use crate::backpack::native::product::{linear, matmul};
use crate::error::{Error, Result};
use cell::{Arriving, Cell, Slopes, States, Steps, earlier, later};

pub use cells::{Lstm, LstmOptions, Nonlinearity, Rnn, RnnOptions};

/// A recurrent layer of one direction: a cell, and its parameters in PyTorch's order.
#[derive(Debug)]
pub struct Recurrent<C> {
    cell: C,
    parameters: Vec<Parameter>,
}

/// Where the parameters stand.
const INPUT_WEIGHT: usize = 0;
const STATE_WEIGHT: usize = 1;

impl<C: Cell> Recurrent<C> {
    fn of_cell(cell: C, input: &[i64], hidden: i64, bias: bool, source: ParameterSource) -> Result<Self> {
        let kind = cell.kind();
        let (_, features) = sequence(kind, input)?;
        if hidden < 1 {
            return Err(Error::Shape(format!("{kind}: hidden_size = {hidden}, expected at least 1")));
        }
        let start = Init::Uniform(1.0 / (hidden as f64).sqrt());
        let units = cell.gates().saturating_mul(hidden);
        let mut parameters = vec![
            source.plain(kind, "weight_ih_l0", &[units, features], start)?,
            source.plain(kind, "weight_hh_l0", &[units, hidden], start)?,
        ];
        if bias {
            parameters.push(source.plain(kind, "bias_ih_l0", &[units], start)?);
            parameters.push(source.plain(kind, "bias_hh_l0", &[units], start)?);
        }
        Ok(Recurrent { cell, parameters })
    }

    fn input_weight(&self) -> &Tensor {
        &self.parameters[INPUT_WEIGHT].value
    }

    fn state_weight(&self) -> &Tensor {
        &self.parameters[STATE_WEIGHT].value
    }

    fn hidden(&self) -> i64 {
        self.state_weight().size()[1]
    }

    /// The sum of both biases, `[G H]`.
    fn bias(&self) -> Result<Option<Tensor>> {
        match &self.parameters[STATE_WEIGHT + 1..] {
            [of_input, of_state] => Ok(Some(of_input.value.f_add(&of_state.value)?)),
            _ => Ok(None),
        }
    }

    fn states(saved: &Saved) -> States {
        let memory = saved.extra.get(1).map(Tensor::shallow_clone);
        States { gates: saved.extra[0].shallow_clone(), memory, output: saved.output.shallow_clone() }
    }

    fn steps<'a>(&'a self, slopes: &'a Slopes) -> Steps<'a> {
        Steps { slopes, weight: self.state_weight() }
    }

    /// Vectors at the outputs, `[V, N, T, H]`, as those at the gates, `[V, N, T, G H]`.
    fn at_gates(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let slopes = self.cell.slopes(&Self::states(saved))?;
        self.steps(&slopes).back(&Arriving::at_output(v), |_, _| {})
    }

    /// As [`Self::at_gates`], for who asks first.
    fn made_at_gates(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        saved.make(v, || self.at_gates(saved, v))
    }

    /// The rows that a weight meets, `[N, T, d]`; None for a bias.
    fn met(saved: &Saved, parameter: usize) -> Result<Option<Tensor>> {
        match parameter {
            INPUT_WEIGHT => Ok(Some(saved.input.shallow_clone())),
            STATE_WEIGHT => Ok(Some(earlier(&saved.output, 1)?)),
            _ => Ok(None),
        }
    }

    /// How a parameter's change along directions `[V, *p]` changes the gates of each step by itself: `[V, N, T, G H]`.
    fn moved_gates(saved: &Saved, parameter: usize, directions: &Tensor) -> Result<Tensor> {
        let (samples, steps, _) = saved.output.size3()?;
        let (vectors, units) = (directions.size()[0], directions.size()[1]);
        Ok(match Self::met(saved, parameter)? {
            Some(rows) => {
                let flat = rows.f_reshape([1, samples * steps, -1])?;
                matmul(&flat, &directions.transpose(1, 2))?.f_view([vectors, samples, steps, units])?
            }
            None => directions.f_view([vectors, 1, 1, units])?.f_expand([vectors, samples, steps, units], false)?,
        })
    }

    /// The sums over samples and steps of the products of vectors at the gates, `[V, N, T, G H]`, with a parameter's rows
    /// `[N, T, d]`, or without any: `[V, *p]`.
    fn sums(rows: Option<&Tensor>, at_gates: &Tensor) -> Result<Tensor> {
        let flat = at_gates.f_flatten(1, 2)?;
        Ok(match rows {
            Some(rows) => matmul(&flat.f_transpose(1, 2)?, &rows.f_flatten(0, 1)?)?,
            None => flat.f_sum_dim_intlist(1, false, None::<Kind>)?,
        })
    }
}

/// Steps and features of a sample's shape.
fn sequence(kind: &str, input: &[i64]) -> Result<(i64, i64)> {
    match *input {
        [steps, features] if steps > 0 && features > 0 => Ok((steps, features)),
        _ => Err(Error::Shape(format!(
            "{kind}: expected samples of shape [steps, features], got {input:?}; a permute or reshape in front of it can \
             make them so"
        ))),
    }
}

impl<C: Cell> Layer for Recurrent<C> {
    fn kind(&self) -> &'static str {
        self.cell.kind()
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        let (steps, features) = sequence(self.kind(), input)?;
        let expected = self.input_weight().size()[1];
        if features != expected {
            return Err(Error::Shape(format!(
                "{}: expected {expected} features on the last axis, got the shape {input:?}",
                self.kind()
            )));
        }
        Ok(vec![steps, self.hidden()])
    }

    /// The extra tensors are the gates before their nonlinearities, `[N, T, G, H]`, and the memory, if there is one.
    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        let (samples, steps, _) = input.size3()?;
        let shape = [samples, self.cell.gates(), self.hidden()];
        let of_input = linear(&input.f_transpose(0, 1)?, self.input_weight(), self.bias()?.as_ref())?;
        let across = self.state_weight().f_tr()?;
        let (mut gates, mut outputs, mut memories) = (Vec::new(), Vec::<Tensor>::new(), Vec::<Tensor>::new());
        for step in 0..steps {
            let mut sums = of_input.f_get(step)?;
            if let Some(before) = outputs.last() {
                sums = sums.f_addmm(before, &across)?;
            }
            let sums = sums.f_view(shape)?;
            let (output, memory) = self.cell.step(&sums, memories.last())?;
            gates.push(sums);
            outputs.push(output);
            memories.extend(memory);
        }
        let mut extra = vec![Tensor::f_stack(&gates, 1)?];
        if !memories.is_empty() {
            extra.push(Tensor::f_stack(&memories, 1)?);
        }
        Ok(Saved::new(input, Tensor::f_stack(&outputs, 1)?).with(extra))
    }

    fn library(&self, input: &Tensor, _mode: Mode) -> Result<Tensor> {
        let start = Tensor::f_zeros([1, input.size()[0], self.hidden()], (input.kind(), input.device()))?;
        let parameters: Vec<&Tensor> = self.parameters.iter().map(|parameter| &parameter.value).collect();
        self.cell.library(input, &start, &parameters, parameters.len() > 2)
    }

    fn held_within(&self, input: &[i64]) -> i64 {
        // Gates and memory forward, with their slopes; the vectors at the gates back, once by steps and once by samples.
        let steps = input.first().copied().unwrap_or(0);
        steps.saturating_mul(2 * self.state_weight().size()[0])
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let at_gates = saved.take_or_make(v, || self.at_gates(saved, v))?;
        matmul(&at_gates, self.input_weight())
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        let slopes = self.cell.slopes(&Self::states(saved))?;
        Ok(self.steps(&slopes).onward(&matmul(v, &self.input_weight().tr())?)?.output)
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    fn site(&self, parameter: usize) -> ParameterSite<'_> {
        let reason = "the weights of a recurrent layer are used at steps of time that depend on each other";
        if parameter <= STATE_WEIGHT { ParameterSite::Affine(self, reason) } else { ParameterSite::Products(reason) }
    }

    fn parameter_vjp(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        if let ParameterSite::Affine(site, _) = self.site(parameter) {
            return affine::products(site, saved, parameter, v);
        }
        Ok(self.made_at_gates(saved, v)?.f_sum_dim_intlist(2, false, None::<Kind>)?)
    }

    fn parameter_jvp(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        let slopes = self.cell.slopes(&Self::states(saved))?;
        Ok(self.steps(&slopes).onward(&Self::moved_gates(saved, parameter, v)?)?.output)
    }

    fn curvature(&self) -> Curvature<'_> {
        Curvature::Unrooted("the second derivative of a recurrent layer mixes steps of time")
    }

    fn tangent(&self) -> Option<&dyn Tangent> {
        Some(self)
    }

    /// One sweep through time for all of them.
    fn gradient(&self, saved: &Saved, g: &Tensor, want_input: bool) -> Result<(Vec<Tensor>, Option<Tensor>)> {
        let v = g.unsqueeze(0);
        let at_gates = saved.take_or_make(&v, || self.at_gates(saved, &v))?;
        let parameters = (0..self.parameters.len()).map(|number| {
            let sum = Self::sums(Self::met(saved, number)?.as_ref(), &at_gates)?;
            Ok(sum.squeeze_dim(0))
        });
        let parameters = parameters.collect::<Result<_>>()?;
        let input = want_input.then(|| matmul(&at_gates, self.input_weight())).transpose()?;
        Ok((parameters, input.map(|input| input.squeeze_dim(0))))
    }

    fn parameter_vjp_sum(&self, saved: &Saved, parameter: usize, v: &Tensor) -> Result<Tensor> {
        Self::sums(Self::met(saved, parameter)?.as_ref(), &self.made_at_gates(saved, v)?)
    }
}

/// The steps are the positions.
impl<C: Cell> AffineSite for Recurrent<C> {
    fn rows(&self, saved: &Saved, parameter: usize) -> Result<Tensor> {
        let rows = Self::met(saved, parameter)?.ok_or_else(|| no_parameter(self.kind(), parameter))?;
        Ok(rows.transpose(1, 2).unsqueeze(1))
    }

    fn vectors(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(self.made_at_gates(saved, v)?.transpose(2, 3).unsqueeze(2))
    }

    fn as_weight(&self, _parameter: usize, products: &Tensor, leading: &[i64]) -> Tensor {
        products.squeeze_dim(leading.len() as i64)
    }
}

impl<C: Cell> Tangent for Recurrent<C> {
    /// What moves is a step's gates; along them move the cell's slopes, and with these what goes back through time.
    fn vjp_tangent(
        &self,
        saved: &Saved,
        g: &Tensor,
        input: Option<&Tensor>,
        parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent> {
        let mut sources: Vec<Tensor> = Vec::new();
        if let Some(tangent) = input {
            sources.push(matmul(tangent, &self.input_weight().tr())?.unsqueeze(0));
        }
        for (number, direction) in parameters.iter().enumerate() {
            if let Some(direction) = direction {
                sources.push(Self::moved_gates(saved, number, &direction.unsqueeze(0))?);
            }
        }
        let Some(source) = sources.into_iter().reduce(|sum, source| sum + source) else {
            return Ok(VjpTangent::default());
        };
        let states = Self::states(saved);
        let slopes = self.cell.slopes(&states)?;
        let steps = self.steps(&slopes);
        let moving = steps.onward(&source)?;
        let moving = States {
            gates: moving.gates.squeeze_dim(0),
            memory: moving.memory.map(|memory| memory.squeeze_dim(0)),
            output: moving.output.squeeze_dim(0),
        };
        let bends = self.cell.bends(&states, &moving)?;

        // The vectors, and what has arrived at every step's output and memory on their way.
        let (mut outputs, mut memories) = (Vec::new(), Vec::new());
        let at_gates = steps.back(&Arriving::at_output(&g.unsqueeze(0)), |output, memory| {
            outputs.push(output.shallow_clone());
            memories.extend(memory.map(Tensor::shallow_clone));
        })?;
        let in_order = |steps: &[Tensor]| Tensor::f_stack(steps, 2).and_then(|all| all.f_flip([2]));
        let output = in_order(&outputs)?;

        // Their derivative goes the same way, from where the weight between steps and the slopes move.
        let arriving = match parameters.get(STATE_WEIGHT).and_then(Option::as_ref) {
            Some(direction) => matmul(&later(&at_gates, 2)?, direction)?,
            None => output.f_zeros_like()?,
        };
        let direct = output.f_unsqueeze(3)?.f_mul(&bends.direct)?;
        let (at_memory, at_moved_gates) = match &bends.memory {
            Some(bend) => {
                let memory = in_order(&memories)?;
                let into = memory.f_unsqueeze(3)?.f_mul(&bend.into)?;
                let kept = later(&memory.f_mul(&bend.keep)?, 2)?;
                (Some(kept.f_add(&output.f_mul(&bend.out)?)?), Tensor::f_cat(&[into, direct], 3)?)
            }
            None => (None, direct),
        };
        let arriving = Arriving { output: &arriving, memory: at_memory.as_ref(), gates: Some(&at_moved_gates) };
        let tangent = steps.back(&arriving, |_, _| {})?;

        let mut of_input = matmul(&tangent, self.input_weight())?;
        if let Some(direction) = parameters.first().and_then(Option::as_ref) {
            of_input = of_input.f_add(&matmul(&at_gates, direction)?)?;
        }
        let of_parameter = |number: usize| -> Result<Option<Tensor>> {
            let straight = Self::sums(Self::met(saved, number)?.as_ref(), &tangent)?;
            let moved_rows = match number {
                INPUT_WEIGHT => input.map(Tensor::shallow_clone),
                STATE_WEIGHT => Some(earlier(&moving.output, 1)?),
                _ => None,
            };
            let share = match moved_rows {
                Some(rows) => straight.f_add(&Self::sums(Some(&rows), &at_gates)?)?,
                None => straight,
            };
            Ok(Some(share.squeeze_dim(0)))
        };
        Ok(VjpTangent {
            input: Some(of_input.squeeze_dim(0)),
            parameters: (0..self.parameters.len()).map(of_parameter).collect::<Result<_>>()?,
        })
    }
}
