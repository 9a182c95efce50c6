//! The derivatives of one sample, from which every quantity is a plain formula.

use tch::Tensor;

use super::autograd::{gradients, hessian, second_derivatives};
use super::losses::LibtorchLoss;
use super::{Question, Way};
use crate::backpack::layers::KroneckerSupport;
use crate::backpack::losses::Loss;
use crate::backpack::network::{Network, Node, Trace};
use crate::error::Result;

/// Which derivatives a question needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    gradient: bool,
    jacobian: bool,
    shifts: bool,
    labels: bool,
    hessian: bool,
    output: bool,
}

impl Wanted {
    pub fn by(question: &Question) -> Self {
        let whole = question.way == Way::WholeBatch;
        Wanted {
            gradient: question.asks(&["batch_grad", "batch_l2", "sum_grad_squared", "variance"])
                || (question.asks(&["grad"]) && !whole),
            jacobian: question.asks(&["diag_ggn", "diag_ggn_mc", "batch_diag_ggn", "sqrt_ggn", "sqrt_ggn_mc"]),
            shifts: question.asks(&["kfac", "kflr"]),
            labels: question.asks(&["diag_ggn_mc", "sqrt_ggn_mc", "kfac"]),
            hessian: question.asks(&["diag_hessian", "batch_diag_hessian"]) && !whole,
            output: question.asks(&["kfra"]),
        }
    }

    pub fn anything(self) -> bool {
        self.gradient || self.jacobian || self.shifts || self.hessian || self.output
    }
}

/// What one sample contributes.
pub(super) struct Derivatives {
    /// The gradient of its share of the loss, each parameter's; empty where not wanted, as everything here.
    pub gradient: Vec<Tensor>,
    /// The Jacobian of its output with respect to each parameter's entries that are looked at: `[C, K]`.
    pub jacobian: Vec<Tensor>,
    /// The Jacobian of its output with respect to one number for each output channel of a layer, added at all
    /// positions: `[C, out]`, for each layer that has Kronecker factors.
    pub shifts: Vec<Option<Tensor>>,
    /// The second derivatives of its share of the loss with respect to its output, `[C, C]`.
    pub loss_hessian: Tensor,
    /// The exact square root of that, `[C, C]`, a column a row.
    pub root: Tensor,
    /// The sampled one, `[M, C]`.
    pub sampled_root: Option<Tensor>,
    /// The second derivatives of its share of the loss with respect to each parameter's entries: `[K]`.
    pub hessian: Vec<Tensor>,
}

/// A sample in the graph that it is differentiated in.
pub(super) struct Place<'a> {
    pub network: &'a Network,
    pub trace: &'a Trace,
    /// The sample's row in the graph's batch.
    pub row: i64,
    /// Its number among the samples that the loss is reduced over.
    pub sample: i64,
    pub samples: i64,
}

impl Place<'_> {
    pub fn derivatives(
        &self,
        loss: &dyn Loss,
        target: &Tensor,
        parameters: &[Tensor],
        question: &Question,
        wanted: Wanted,
    ) -> Result<Derivatives> {
        let output = self.trace.output().narrow(0, self.row, 1);
        let target = target.narrow(0, self.sample, 1);
        let loss = LibtorchLoss::of_batch(loss, self.samples, &output)?;
        let entries: Vec<Option<Tensor>> = parameters
            .iter()
            .enumerate()
            .map(|(number, parameter)| question.coordinates.pick(number, parameter.numel() as i64, parameter.device()))
            .collect();

        let (mut gradient, mut second) = (Vec::new(), Vec::new());
        if wanted.gradient || wanted.hessian {
            gradient = gradients(&loss.share(&output, &target)?, parameters, wanted.hessian)?;
            if wanted.hessian {
                for ((gradient, parameter), entries) in gradient.iter().zip(parameters).zip(&entries) {
                    second.push(second_derivatives(gradient, parameter, entries.as_ref())?);
                }
            }
            gradient = gradient.iter().map(Tensor::detach).collect();
        }
        let (jacobian, shifts) = self.jacobians(&output, parameters, &entries, wanted)?;
        let at = output.detach().set_requires_grad(true);
        let sampled_root = match question.labels {
            Some(labels) if wanted.labels => Some(loss.sampled_root(&at, &labels.select(1, self.sample))?),
            _ => None,
        };
        Ok(Derivatives {
            gradient,
            jacobian,
            shifts,
            loss_hessian: hessian(&loss.share(&at, &target)?, &at)?,
            root: loss.root(&output.detach()),
            sampled_root,
            hessian: second,
        })
    }

    /// One backward pass for every entry of the output.
    fn jacobians(
        &self,
        output: &Tensor,
        parameters: &[Tensor],
        entries: &[Option<Tensor>],
        wanted: Wanted,
    ) -> Result<(Vec<Tensor>, Vec<Option<Tensor>>)> {
        let nodes = self.network.nodes();
        let factored: Vec<usize> = (0..nodes.len()).filter(|&place| has_factors(&nodes[place])).collect();
        let mut sources: Vec<Tensor> = Vec::new();
        if wanted.jacobian {
            sources.extend(parameters.iter().map(Tensor::shallow_clone));
        }
        let split = sources.len();
        if wanted.shifts {
            sources.extend(factored.iter().map(|&place| self.trace[place].output.shallow_clone()));
        }
        let mut shifts: Vec<Option<Tensor>> = self.trace.iter().map(|_| None).collect();
        if sources.is_empty() {
            return Ok((Vec::new(), shifts));
        }
        let mut rows: Vec<Vec<Tensor>> = sources.iter().map(|_| Vec::new()).collect();
        let entries_of_output = output.get(0).flatten(0, -1);
        for component in 0..entries_of_output.size()[0] {
            let found = gradients(&entries_of_output.get(component), &sources, false)?;
            for (number, gradient) in found.into_iter().enumerate() {
                rows[number].push(if number < split {
                    let flat = gradient.reshape([-1]);
                    match &entries[number] {
                        Some(entries) => flat.index_select(0, entries),
                        None => flat,
                    }
                } else {
                    let kind = nodes[factored[number - split]].kind();
                    channels_first(kind, &gradient.get(self.row)).sum_dim_intlist(1, false, None::<tch::Kind>)
                });
            }
        }
        let mut stacked: Vec<Tensor> = rows.iter().map(|rows| Tensor::stack(rows, 0)).collect();
        for (place, shift) in factored.into_iter().zip(stacked.split_off(split)) {
            shifts[place] = Some(shift);
        }
        Ok((stacked, shifts))
    }
}

/// Whether a node's parameters have Kronecker factors.
pub(super) fn has_factors(node: &Node) -> bool {
    node.layer().is_some_and(|layer| layer.kronecker() == KroneckerSupport::Factors)
}

/// One sample's output of a layer with Kronecker factors as `[channels, positions]`: a linear layer has its features
/// last, a convolution its channels first.
pub(super) fn channels_first(kind: &str, output: &Tensor) -> Tensor {
    if kind == "linear" {
        let features = output.size()[output.dim() - 1];
        return output.reshape([-1, features]).tr();
    }
    output.reshape([output.size()[0], -1])
}
