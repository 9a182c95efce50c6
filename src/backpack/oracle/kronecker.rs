//! Kronecker factors from their definitions.
//!
//! The input factor needs no patch matrix: an output channel is linear in the weights that lead to it, z = a w, so
//! that the second derivatives of half its square with respect to w are a^T a, summed over samples and positions.
//! The output factor is the block of the generalised Gauss-Newton matrix of a number added to a channel everywhere.

use tch::{Kind, Tensor};

use super::autograd::{Tracked, gradients};
use super::samples::{Derivatives, channels_first, has_factors};
use super::{Expected, Question};
use crate::backpack::layers::Layer;
use crate::backpack::network::{Network, Trace};
use crate::error::Result;

/// The factors of KFAC and KFLR, and KFRA's input factors.
pub(super) fn of(
    network: &Network,
    input: &Tensor,
    each: &[Derivatives],
    question: &Question,
) -> Result<Vec<Expected>> {
    let names: Vec<&'static str> = ["kfac", "kflr", "kfra"].into_iter().filter(|name| question.asks(&[name])).collect();
    let mut found = Vec::new();
    if names.is_empty() {
        return Ok(found);
    }
    let trace = values(network, input, question)?;
    for (place, node) in network.nodes().iter().enumerate().filter(|(_, node)| has_factors(node)) {
        let Some(layer) = node.layer() else { continue };
        let arriving = trace.value(node.inputs()[0]);
        let groups = groups(layer, arriving, &trace[place].output);
        for (number, parameter) in node.numbered() {
            if parameter.name == "weight" {
                let (factor, columns) = input_factor(
                    network,
                    layer,
                    arriving,
                    groups,
                    question.coordinates.pick(number, width(layer, groups), input.device()),
                    question,
                )?;
                for name in &names {
                    let columns = columns.as_ref().map(Tensor::shallow_clone);
                    let leading = factor.dim() as i64 - 1;
                    let tensor = factor.shallow_clone();
                    found.push(Expected { factor: "A", ..Expected::entries(name, number, tensor, leading, columns) });
                }
            }
            for name in &names {
                let factor = match *name {
                    "kfac" => summed(each, |sample| {
                        let shifts = sample.shifts[place].as_ref()?;
                        let root = sample.sampled_root.as_ref()?.mm(shifts);
                        Some(root.tr().mm(&root))
                    }),
                    "kflr" => summed(each, |sample| {
                        let shifts = sample.shifts[place].as_ref()?;
                        Some(shifts.tr().mm(&sample.loss_hessian).mm(shifts))
                    }),
                    _ => None,
                };
                if let Some(factor) = factor {
                    found.push(Expected::whole(name, number, "B", diagonal_blocks(&factor, groups)));
                }
            }
        }
    }
    Ok(found)
}

/// All values of the network, without derivatives.
pub(super) fn values(network: &Network, input: &Tensor, question: &Question) -> Result<Trace> {
    let _guard = tch::no_grad_guard();
    network.forward(input, question.mode)
}

/// The number of groups of channels that do not mix.
pub(super) fn groups(layer: &dyn Layer, input: &Tensor, output: &Tensor) -> i64 {
    let weight = layer.parameters()[0].value.size();
    match layer.kind() {
        "conv2d" => input.size()[1] / weight[1],
        "conv_transpose2d" => output.size()[1] / weight[1],
        _ => 1,
    }
}

/// The number of weights that lead to one output channel.
fn width(layer: &dyn Layer, groups: i64) -> i64 {
    let weight = &layer.parameters()[0].value;
    let channels = weight.size()[usize::from(layer.kind() == "conv_transpose2d")];
    let channels = if layer.kind() == "conv_transpose2d" { channels * groups } else { channels };
    weight.numel() as i64 / channels
}

/// The weights (or their gradients) that lead to one output channel, flattened. A transposed convolution has its
/// inputs on the first axis, those of one group after those of another.
fn leading_to(layer: &dyn Layer, weight: &Tensor, channel: i64, groups: i64) -> Tensor {
    if layer.kind() != "conv_transpose2d" {
        return weight.get(channel).reshape([-1]);
    }
    let each = weight.size()[0] / groups;
    let outputs = weight.size()[1];
    weight.narrow(0, channel / outputs * each, each).select(1, channel % outputs).reshape([-1])
}

/// A over the columns that are looked at: `[d, K]`, or `[groups, d, K]`.
fn input_factor(
    network: &Network,
    layer: &dyn Layer,
    input: &Tensor,
    groups: i64,
    columns: Option<Tensor>,
    question: &Question,
) -> Result<(Tensor, Option<Tensor>)> {
    let _tracked = Tracked::new(network)?;
    let weight = [layer.parameters()[0].value.shallow_clone()];
    let samples = input.size()[0];
    let output = layer.forward(input, question.mode)?.output;
    let channels: Vec<Tensor> = (0..samples).map(|sample| channels_first(layer.kind(), &output.get(sample))).collect();
    let outputs = channels[0].size()[0];
    let chosen: Vec<i64> = match &columns {
        Some(columns) => Vec::<i64>::try_from(columns)?,
        None => (0..width(layer, groups)).collect(),
    };
    let mut factors = Vec::new();
    for group in 0..groups {
        let channel = group * (outputs / groups);
        let squares: Vec<Tensor> = channels.iter().map(|one| one.get(channel).square().sum(None::<Kind>)).collect();
        let half = Tensor::stack(&squares, 0).sum(None::<Kind>) * (0.5 / samples as f64);
        let slope = leading_to(layer, &gradients(&half, &weight, true)?[0], channel, groups);
        let mut rows = Vec::new();
        for column in &chosen {
            let second = gradients(&slope.get(*column), &weight, false)?.remove(0);
            rows.push(leading_to(layer, &second, channel, groups));
        }
        factors.push(Tensor::stack(&rows, 1));
    }
    let factor = if groups == 1 { factors.remove(0) } else { Tensor::stack(&factors, 0) };
    Ok((factor, columns))
}

/// The groups' own blocks of a matrix over all output channels: `[groups, d, d]`; the matrix itself for one group.
pub(super) fn diagonal_blocks(matrix: &Tensor, groups: i64) -> Tensor {
    if groups == 1 {
        return matrix.shallow_clone();
    }
    let each = matrix.size()[0] / groups;
    let blocks: Vec<Tensor> =
        (0..groups).map(|group| matrix.narrow(0, group * each, each).narrow(1, group * each, each)).collect();
    Tensor::stack(&blocks, 0)
}

fn summed(each: &[Derivatives], of: impl Fn(&Derivatives) -> Option<Tensor>) -> Option<Tensor> {
    each.iter().map(of).collect::<Option<Vec<Tensor>>>()?.into_iter().reduce(|sum, one| sum + one)
}
