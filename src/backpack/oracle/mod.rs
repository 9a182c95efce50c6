//! The same quantities the slow, obvious way, for tests and `check`: by libtorch's automatic differentiation, on the
//! layers' forward maps alone.
//!
//! There are two ways, which share nothing with the extended backward pass but the forward map, and little with each
//! other: [`Way::WholeBatch`] differentiates one graph of the whole batch, twice where it has to; [`Way::Samples`]
//! loops over the samples, each with a graph of its own, and adds up. Losses are libtorch's own.
//!
//! A derivative is taken for every entry of a parameter, which only small networks allow; [`Coordinates`] picks some.

mod check;
mod compare;
mod kronecker;
mod libtorch;
mod samples;

use tch::Tensor;

use crate::backpack::layers::Mode;
use crate::backpack::losses::Loss;
use crate::backpack::network::Network;
use crate::error::{Error, Result};

use compare::alone_among;
use libtorch::{LibtorchLoss, Tracked, gradients};
use samples::{Derivatives, Wanted};

pub use check::{CheckReport, CheckRow, CheckSettings, Skipped, check};
pub use compare::{Comparison, Coordinates, Expected, Form, Question, Way, compare, error_between};

/// The quantities that are asked for, of this network at this batch. Parameters that a quantity is not defined for
/// (Kronecker factors of layers that have none) are left out.
///
/// # Errors
/// [`Error::Unsupported`] for a loss that is not this crate's, and what libtorch says.
pub fn expected(
    network: &Network,
    loss: &dyn Loss,
    input: &Tensor,
    target: &Tensor,
    question: &Question,
) -> Result<Vec<Expected>> {
    tch::with_grad(|| ask(network, loss, input, target, question))
}

/// The exact block of the generalised Gauss-Newton matrix of one parameter, `[p, p]` with the parameter flattened.
///
/// # Errors
/// As [`expected`].
pub fn ggn_block(
    network: &Network,
    loss: &dyn Loss,
    input: &Tensor,
    target: &Tensor,
    mode: Mode,
    parameter: usize,
) -> Result<Tensor> {
    let question = Question { mode, ..Question::new(&["diag_ggn"], Way::Samples) };
    tch::with_grad(|| {
        let each = derivatives(network, loss, input, target, &question)?;
        let block = |sample: &Derivatives| {
            let jacobian = &sample.jacobian[parameter];
            jacobian.tr().mm(&sample.loss_hessian).mm(jacobian)
        };
        each.iter()
            .map(block)
            .reduce(|sum, one| sum + one)
            .ok_or_else(|| Error::Shape("the batch has no samples".into()))
    })
}

fn ask(
    network: &Network,
    loss: &dyn Loss,
    input: &Tensor,
    target: &Tensor,
    question: &Question,
) -> Result<Vec<Expected>> {
    let mut found = Vec::new();
    if question.way == Way::WholeBatch {
        found.extend(whole_batch(network, loss, input, target, question)?);
    }
    let each = derivatives(network, loss, input, target, question)?;
    found.extend(samples::formulas(network, loss, &each, question));
    found.extend(kronecker::factors(network, input, &each, question)?);
    if question.asks(&["kfra"]) {
        found.extend(kronecker::kfra(network, input, &each, question)?);
    }
    Ok(found)
}

/// The gradient and the Hessian's diagonal of the whole batch's loss, from one graph.
fn whole_batch(
    network: &Network,
    loss: &dyn Loss,
    input: &Tensor,
    target: &Tensor,
    question: &Question,
) -> Result<Vec<Expected>> {
    let mut found = Vec::new();
    if !question.asks(&["grad", "diag_hessian"]) {
        return Ok(found);
    }
    let tracked = Tracked::new(network)?;
    let buffers: Vec<Tensor> = network.buffers().iter().map(|(_, buffer)| buffer.copy()).collect();
    let output = output(network, input, question.mode)?;
    let value = LibtorchLoss::new(loss, &output)?.reduced(&output, target)?;
    let gradient = gradients(&value, &tracked.parameters, true)?;
    for (parameter, (value, gradient)) in tracked.parameters.iter().zip(&gradient).enumerate() {
        if question.asks(&["grad"]) {
            found.push(Expected::whole("grad", parameter, "", gradient.detach()));
        }
        if question.asks(&["diag_hessian"]) {
            let entries = question.coordinates.pick(parameter, value.numel() as i64, value.device());
            let diagonal = libtorch::second_derivatives(gradient, value, entries.as_ref())?;
            found.push(Expected::entries("diag_hessian", parameter, diagonal, 0, entries));
        }
    }
    // BatchNorm has put this batch into its running statistics, with the graph behind it.
    for ((_, buffer), before) in network.buffers().iter().zip(buffers) {
        buffer.shallow_clone().detach_().copy_(&before);
    }
    Ok(found)
}

/// The derivatives of every sample that the question needs.
fn derivatives(
    network: &Network,
    loss: &dyn Loss,
    input: &Tensor,
    target: &Tensor,
    question: &Question,
) -> Result<Vec<Derivatives>> {
    let wanted = Wanted::by(question);
    if !wanted.anything() {
        return Ok(Vec::new());
    }
    let tracked = Tracked::new(network)?;
    let samples = input.size()[0];
    let shared = match question.way {
        Way::WholeBatch => Some(network.forward(input, question.mode)?),
        Way::Samples => None,
    };
    (0..samples)
        .map(|sample| {
            tracing::info!("the oracle: sample {} of {samples}", sample + 1);
            let alone;
            let (trace, row) = match &shared {
                Some(trace) => (trace, sample),
                None => {
                    let (copies, row) = alone_among(input, sample, question.mode);
                    alone = network.forward(&copies, question.mode)?;
                    (&alone, row)
                }
            };
            let place = samples::Place { network, trace, row, sample, samples };
            place.derivatives(loss, target, &tracked.parameters, question, wanted)
        })
        .collect()
}

fn output(network: &Network, input: &Tensor, mode: Mode) -> Result<Tensor> {
    let trace = network.forward(input, mode)?;
    Ok(trace.output().shallow_clone())
}
