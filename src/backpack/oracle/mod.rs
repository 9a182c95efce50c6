//! The same quantities the slow, obvious way, for tests and `check`: by libtorch's automatic differentiation, on the
//! layers' forward maps alone.
//!
//! There are two ways, which share nothing with the extended backward pass but the forward map, and little with each
//! other: [`Way::WholeBatch`] differentiates one graph of the whole batch, twice where it has to; [`Way::Samples`]
//! loops over the samples, each with a graph of its own, and adds up. Losses are libtorch's own.
//!
//! A derivative is taken for every entry of a parameter, which only small networks allow; [`Coordinates`] picks some.

mod autograd;
mod check;
mod compare;
mod coordinates;
mod kfra;
mod kronecker;
mod losses;
mod samples;
mod statistics;

use tch::{Kind, Tensor};

use crate::backpack::layers::Mode;
use crate::backpack::losses::Loss;
use crate::backpack::network::Network;
use crate::backpack::quantities::Scale;
use crate::error::{Error, Result};

use autograd::{Tracked, gradients};
use losses::LibtorchLoss;
use samples::{Derivatives, Wanted};

pub use check::{CheckReport, CheckRow, CheckSettings, Skipped, check};
pub use compare::{Comparison, compare, error_between};
pub use coordinates::Coordinates;

/// How the oracle differentiates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One graph of the whole batch. Everything but `batch_diag_hessian`.
    WholeBatch,
    /// Every sample alone, the results added up.
    Samples,
}

/// What the oracle is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The names of the quantities.
    pub quantities: &'a [&'a str],
    /// How it differentiates.
    pub way: Way,
    /// How the forward pass is made.
    pub mode: Mode,
    /// The normalisation of first-order statistics.
    pub scale: Scale,
    /// The labels of the sampled quantities, `[M, N]` or `[M, N, D]`.
    pub labels: Option<&'a Tensor>,
    /// Which entries are looked at, of what takes a derivative an entry.
    pub coordinates: Coordinates,
    /// The largest matrix of KFRA's recursion in bytes; layers that need a larger one are left out.
    pub kfra_bytes: u64,
}

impl Question<'_> {
    /// All entries of every quantity named, by this way, in evaluation mode with BackPACK's scale.
    pub fn new<'a>(quantities: &'a [&'a str], way: Way) -> Question<'a> {
        Question {
            quantities,
            way,
            mode: Mode::Evaluation,
            scale: Scale::Backpack,
            labels: None,
            coordinates: Coordinates::All,
            kfra_bytes: u64::MAX,
        }
    }

    fn asks(&self, names: &[&str]) -> bool {
        self.quantities.iter().any(|name| names.contains(name))
    }
}

/// One tensor as the oracle has it.
#[derive(Debug)]
pub struct Expected {
    /// The quantity's name.
    pub quantity: &'static str,
    /// The parameter, counted as in [`Network::parameters`].
    pub parameter: usize,
    /// The factor's name; empty where there is only one.
    pub factor: &'static str,
    /// The entries looked at: the quantity with its axes from `leading` on flattened to one, of which `entries` are
    /// taken.
    pub tensor: Tensor,
    /// The number of axes that are kept.
    pub leading: i64,
    /// Which entries of the flattened last axis; None is all.
    pub entries: Option<Tensor>,
    /// What an error is measured against: the tensor's largest absolute entry, except for the variance, which is a
    /// difference of second moments and is measured against the largest of those.
    pub yardstick: f64,
    /// What the tensor says of the quantity's.
    pub form: Form,
}

/// What the oracle's tensor says of a quantity's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// It is the same.
    Same,
    /// It is a symmetric matrix of which the quantity's has the eigenvectors, in the order of rising eigenvalues; signs,
    /// and bases of what has equal eigenvalues, are free.
    Decomposed,
    /// It holds vectors or matrices `[K, groups, out(, d)]`, of whose squared entries in the basis of the quantity's
    /// factors B (and A) the quantity's is the sum.
    SquaredInBasis,
}

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
    found.extend(statistics::of(network, loss, &each, question));
    found.extend(kronecker::of(network, input, &each, question)?);
    if question.asks(&["kfra"]) {
        found.extend(kfra::of(network, input, &each, question)?);
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
            let diagonal = autograd::second_derivatives(gradient, value, entries.as_ref())?;
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

/// A batch whose one row is this sample by itself. Dropout's mask is that of a place in a batch, so that in training
/// the batch is of copies of the sample, and the row is its own.
fn alone_among(input: &Tensor, sample: i64, mode: Mode) -> (Tensor, i64) {
    let alone = input.narrow(0, sample, 1);
    match mode {
        Mode::Evaluation => (alone, 0),
        Mode::Training { .. } => (alone.expand_as(input).contiguous(), sample),
    }
}

fn output(network: &Network, input: &Tensor, mode: Mode) -> Result<Tensor> {
    let trace = network.forward(input, mode)?;
    Ok(trace.output().shallow_clone())
}

impl Expected {
    /// A quantity looked at as a whole.
    fn whole(quantity: &'static str, parameter: usize, factor: &'static str, tensor: Tensor) -> Self {
        Expected { factor, ..Self::entries(quantity, parameter, tensor.flatten(0, -1), 0, None) }
    }

    /// Entries of a quantity.
    fn entries(
        quantity: &'static str,
        parameter: usize,
        tensor: Tensor,
        leading: i64,
        entries: Option<Tensor>,
    ) -> Self {
        let yardstick = largest(&tensor);
        Expected { quantity, parameter, factor: "", tensor, leading, entries, yardstick, form: Form::Same }
    }
}

fn largest(tensor: &Tensor) -> f64 {
    if tensor.numel() == 0 { 0.0 } else { tensor.abs().max().to_kind(Kind::Double).double_value(&[]) }
}
