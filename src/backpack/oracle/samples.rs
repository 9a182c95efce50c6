//! The derivatives of one sample, and the quantities that are plain formulas of them.

use tch::{Kind, Tensor};

use super::compare::{Expected, Question, Way, largest};
use super::libtorch::{LibtorchLoss, gradients, hessian, second_derivatives};
use crate::backpack::layers::KroneckerSupport;
use crate::backpack::losses::{Loss, Reduction};
use crate::backpack::network::{Network, Node, Trace};
use crate::backpack::quantities::{Scale, by_name, is_own};
use crate::error::Result;

/// An output factor: a block of the generalised Gauss-Newton matrix of what a layer gives.
struct OutputFactor {
    quantity: &'static str,
    /// Whether the loss's Hessian is the sampled one.
    sampled: bool,
    /// Whether it is the sum over positions of the blocks of each of them, or the block of a number added to a channel
    /// at all positions.
    each_position: bool,
}

const fn output_factor(quantity: &'static str, sampled: bool, each_position: bool) -> OutputFactor {
    OutputFactor { quantity, sampled, each_position }
}

/// All output factors that are made sample by sample; ekfac's basis is that of kfac_expand.
const OUTPUT_FACTORS: [OutputFactor; 7] = [
    output_factor("kfac", true, false),
    output_factor("kflr", false, false),
    output_factor("kfac_expand", true, true),
    output_factor("kfac_reduce", true, false),
    output_factor("kflr_expand", false, true),
    output_factor("kflr_reduce", false, false),
    output_factor("ekfac", true, true),
];

/// Which derivatives a question needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    gradient: bool,
    jacobian: bool,
    outputs: bool,
    sampled: bool,
    labels: bool,
    hessian: bool,
    output: bool,
}

impl Wanted {
    pub fn by(question: &Question) -> Self {
        let whole = question.way == Way::WholeBatch;
        Wanted {
            gradient: question.asks(&["batch_grad", "batch_l2", "sum_grad_squared", "variance"])
                || (question.asks(&["grad"]) && !whole)
                || question.quantities.iter().any(|name| is_own(name)),
            jacobian: question.asks(&["diag_ggn", "diag_ggn_mc", "batch_diag_ggn", "sqrt_ggn", "sqrt_ggn_mc"]),
            outputs: OUTPUT_FACTORS.iter().any(|one| question.asks(&[one.quantity])),
            sampled: question.asks(&["ekfac"]),
            labels: question.asks(&["diag_ggn_mc", "sqrt_ggn_mc", "kfac", "kfac_expand", "kfac_reduce", "ekfac"]),
            hessian: question.asks(&["diag_hessian", "batch_diag_hessian"]) && !whole,
            output: question.asks(&["kfra"]),
        }
    }

    pub fn anything(self) -> bool {
        self.gradient || self.jacobian || self.outputs || self.sampled || self.hessian || self.output
    }
}

/// What one sample contributes.
pub(super) struct Derivatives {
    /// The gradient of its share of the loss, each parameter's; empty where not wanted, as everything here.
    pub gradient: Vec<Tensor>,
    /// The Jacobian of its output with respect to each parameter's entries that are looked at: `[C, K]`.
    pub jacobian: Vec<Tensor>,
    /// Its share of the output factors that are asked for, by quantity, of each layer that has Kronecker factors.
    pub output_factors: Vec<Vec<(&'static str, Tensor)>>,
    /// The gradients of the sampled root's vectors times its output with respect to each parameter, `[M, *p]`.
    pub sampled_gradients: Vec<Tensor>,
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
        let (jacobian, outputs) = self.jacobians(&output, parameters, &entries, question, wanted)?;
        let at = output.detach().set_requires_grad(true);
        let sampled_root = match question.labels {
            Some(labels) if wanted.labels => Some(loss.sampled_root(&at, &labels.select(1, self.sample))?),
            _ => None,
        };
        let loss_hessian = hessian(&loss.share(&at, &target)?, &at)?;
        let asked = || OUTPUT_FACTORS.iter().filter(|one| question.asks(&[one.quantity]));
        let of_layer = |jacobian: &Option<Tensor>| {
            let Some(jacobian) = jacobian else { return Vec::new() };
            let block = |one: &OutputFactor| {
                let root = if one.sampled { Some(sampled_root.as_ref()?) } else { None };
                Some((one.quantity, block(jacobian, one.each_position, root, &loss_hessian)))
            };
            asked().filter_map(block).collect()
        };
        let output_factors = outputs.iter().map(of_layer).collect();
        let mut sampled_gradients = Vec::new();
        if let Some(root) = sampled_root.as_ref().filter(|_| wanted.sampled) {
            let each = (0..root.size()[0])
                .map(|draw| gradients(&(output.reshape([-1]) * root.get(draw).detach()).sum(None), parameters, false))
                .collect::<Result<Vec<_>>>()?;
            let stack = |parameter: usize| each.iter().map(|draw| draw[parameter].detach()).collect::<Vec<_>>();
            sampled_gradients = (0..parameters.len()).map(|parameter| Tensor::stack(&stack(parameter), 0)).collect();
        }
        Ok(Derivatives {
            gradient,
            jacobian,
            output_factors,
            sampled_gradients,
            loss_hessian,
            root: loss.root(&output.detach()),
            sampled_root,
            hessian: second,
        })
    }

    /// One backward pass for every entry of the output: the Jacobian of the output with respect to the parameters'
    /// entries, and to the outputs of layers with Kronecker factors, `[C, out, T]`, or summed over positions where
    /// nothing needs each of them.
    fn jacobians(
        &self,
        output: &Tensor,
        parameters: &[Tensor],
        entries: &[Option<Tensor>],
        question: &Question,
        wanted: Wanted,
    ) -> Result<(Vec<Tensor>, Vec<Option<Tensor>>)> {
        let nodes = self.network.nodes();
        let factored: Vec<usize> = (0..nodes.len()).filter(|&place| has_factors(&nodes[place])).collect();
        let mut sources: Vec<Tensor> = Vec::new();
        if wanted.jacobian {
            sources.extend(parameters.iter().map(Tensor::shallow_clone));
        }
        let split = sources.len();
        let each_position = OUTPUT_FACTORS.iter().any(|one| one.each_position && question.asks(&[one.quantity]));
        if wanted.outputs {
            sources.extend(factored.iter().map(|&place| self.trace[place].output.shallow_clone()));
        }
        let mut outputs: Vec<Option<Tensor>> = self.trace.iter().map(|_| None).collect();
        if sources.is_empty() {
            return Ok((Vec::new(), outputs));
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
                    let own = channels_first(kind, &gradient.get(self.row));
                    if each_position { own } else { own.sum_dim_intlist(1, true, None::<Kind>) }
                });
            }
        }
        let mut stacked: Vec<Tensor> = rows.iter().map(|rows| Tensor::stack(rows, 0)).collect();
        for (place, jacobian) in factored.into_iter().zip(stacked.split_off(split)) {
            outputs[place] = Some(jacobian);
        }
        Ok((stacked, outputs))
    }
}

/// J^T H J of a Jacobian `[C, out, T]`: at each position, added up, or of the sum over positions. H is the product of the
/// sampled root `[M, C]` with itself, or the loss's Hessian `[C, C]`.
fn block(jacobian: &Tensor, each_position: bool, root: Option<&Tensor>, loss_hessian: &Tensor) -> Tensor {
    let jacobian = match each_position {
        true => jacobian.shallow_clone(),
        false => jacobian.sum_dim_intlist(2, true, None::<Kind>),
    };
    let (outputs, positions) = (jacobian.size()[1], jacobian.size()[2]);
    let times = |matrix: &Tensor| {
        let product = matrix.mm(&jacobian.flatten(1, 2)).view([-1, outputs, positions]);
        product.permute([0, 2, 1]).reshape([-1, outputs])
    };
    match root {
        Some(root) => times(root).tr().mm(&times(root)),
        None => jacobian.permute([0, 2, 1]).reshape([-1, outputs]).tr().mm(&times(loss_hessian)),
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

// First-order statistics, diagonals and square roots, as their definitions have them.

/// Everything but the Kronecker factors.
pub(super) fn formulas(network: &Network, loss: &dyn Loss, each: &[Derivatives], question: &Question) -> Vec<Expected> {
    let mut found = Vec::new();
    let parameters = network.parameters();
    for (parameter, value) in parameters.iter().enumerate() {
        let entries = question.coordinates.pick(parameter, value.value.numel() as i64, value.value.device());
        if each.iter().any(|sample| !sample.gradient.is_empty()) {
            first_order(loss, each, question, parameter, &mut found);
        }
        let mut push = |quantity: &'static str, leading: i64, tensor: Tensor| {
            if question.asks(&[quantity]) {
                let entries = entries.as_ref().map(Tensor::shallow_clone);
                found.push(Expected::entries(quantity, parameter, tensor, leading, entries));
            }
        };
        if each.iter().any(|sample| !sample.jacobian.is_empty()) {
            // diag(J^T H J), sample by sample.
            let diagonals = stack(each, 0, |sample| {
                let jacobian = &sample.jacobian[parameter];
                (sample.loss_hessian.mm(jacobian) * jacobian).sum_dim_intlist(0, false, None::<Kind>)
            });
            push("diag_ggn", 0, sum(&diagonals));
            push("batch_diag_ggn", 1, diagonals);
            push("sqrt_ggn", 2, stack(each, 1, |sample| sample.root.mm(&sample.jacobian[parameter])));
            if each.iter().all(|sample| sample.sampled_root.is_some()) {
                let root = stack(each, 1, |sample| {
                    let root = sample.sampled_root.as_ref().expect("all samples have one");
                    root.mm(&sample.jacobian[parameter])
                });
                push("diag_ggn_mc", 0, sum(&sum(&root.square())));
                push("sqrt_ggn_mc", 2, root);
            }
        }
        if each.iter().any(|sample| !sample.hessian.is_empty()) {
            let diagonals = stack(each, 0, |sample| sample.hessian[parameter].shallow_clone());
            push("diag_hessian", 0, sum(&diagonals));
            push("batch_diag_hessian", 1, diagonals);
        }
    }
    found
}

fn first_order(
    loss: &dyn Loss,
    each: &[Derivatives],
    question: &Question,
    parameter: usize,
    found: &mut Vec<Expected>,
) {
    let samples = each.len() as f64;
    let individual = stack(each, 0, |sample| sample.gradient[parameter].shallow_clone());
    // Table 1 is about the gradients of the unreduced losses; a mean loss has put 1/N into each of them.
    let table = match (question.scale, loss.reduction()) {
        (Scale::Paper, Reduction::Mean) => &individual * samples,
        _ => individual.shallow_clone(),
    };
    let moment = sum(&table.square());
    let moment = match (question.scale, loss.reduction()) {
        (Scale::Paper, Reduction::Mean) => moment / samples,
        _ => moment,
    };
    let centred = &table - table.mean_dim(0, true, None::<Kind>);
    let variance = sum(&centred.square()) / samples;
    let yardstick = largest(&(sum(&table.square()) / samples));
    if !matches!(question.way, Way::WholeBatch) && question.asks(&["grad"]) {
        found.push(Expected::whole("grad", parameter, "", sum(&individual)));
    }
    for quantity in question.quantities.iter().filter(|name| is_own(name)).filter_map(|name| by_name(name)) {
        if let Some(tensor) = quantity.of_gradients(&individual) {
            found.push(Expected::whole(quantity.name(), parameter, "", tensor));
        }
    }
    let norms = individual.square().flatten(1, -1).sum_dim_intlist(1, false, None::<Kind>);
    for (name, tensor) in
        [("batch_grad", individual), ("batch_l2", norms), ("sum_grad_squared", moment), ("variance", variance)]
    {
        if question.asks(&[name]) {
            let mut expected = Expected::whole(name, parameter, "", tensor);
            if name == "variance" {
                expected.yardstick = yardstick;
            }
            found.push(expected);
        }
    }
}

fn stack(each: &[Derivatives], axis: i64, of: impl Fn(&Derivatives) -> Tensor) -> Tensor {
    let parts: Vec<Tensor> = each.iter().map(of).collect();
    Tensor::stack(&parts, axis)
}

fn sum(tensor: &Tensor) -> Tensor {
    tensor.sum_dim_intlist(0, false, None::<Kind>)
}
