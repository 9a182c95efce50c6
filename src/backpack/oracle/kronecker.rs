//! Kronecker factors from their definitions, in every reading, EKFAC, and KFRA's recursion written out.
//!
//! The input factor needs no patch matrix: an output channel is linear in the weights that lead to it, z = a w, so
//! that the second derivatives of half its square with respect to w are a^T a, summed over samples and positions.
//! The output factor is the block of the generalised Gauss-Newton matrix of a number added to a channel everywhere, or
//! the sum of those of a number added at each position.

use tch::{Kind, Tensor};

use super::compare::{Expected, Form, Question, alone_among};
use super::libtorch::{Tracked, gradients};
use super::samples::{Derivatives, channels_first, has_factors};
use crate::backpack::layers::{Layer, Mode, Reading};
use crate::backpack::network::{Network, Trace};
use crate::error::Result;

/// The quantities with their readings.
const QUANTITIES: [(&str, Reading); 8] = [
    ("kfac", Reading::Backpack),
    ("kflr", Reading::Backpack),
    ("kfra", Reading::Backpack),
    ("kfac_expand", Reading::Expand),
    ("kfac_reduce", Reading::Reduce),
    ("kflr_expand", Reading::Expand),
    ("kflr_reduce", Reading::Reduce),
    ("ekfac", Reading::Expand),
];

/// The factors of all readings, KFRA's input factors, and EKFAC.
pub(super) fn factors(
    network: &Network,
    input: &Tensor,
    each: &[Derivatives],
    question: &Question,
) -> Result<Vec<Expected>> {
    let asked: Vec<_> = QUANTITIES.into_iter().filter(|(name, _)| question.asks(&[name])).collect();
    let mut found = Vec::new();
    if asked.is_empty() {
        return Ok(found);
    }
    let trace = values(network, input, question)?;
    for (place, node) in network.nodes().iter().enumerate().filter(|(_, node)| has_factors(node)) {
        let Some(layer) = node.layer() else { continue };
        // Rows by position are those of a linear layer's or a convolution's output; a transposed one has none.
        let of_layer = |(_, reading): &&(&str, Reading)| *reading == Reading::Backpack || !is_transposed(layer);
        let asked: Vec<_> = asked.iter().filter(of_layer).collect();
        let arriving = trace.value(node.inputs()[0]);
        let groups = groups(layer, arriving, &trace[place].output);
        for (number, parameter) in node.numbered().filter(|(number, _)| network.uses(*number) == 1) {
            if parameter.name == "weight" {
                for reading in Reading::ALL {
                    let names: Vec<_> = asked.iter().filter(|one| one.1 == reading).map(|one| one.0).collect();
                    if names.is_empty() {
                        continue;
                    }
                    let columns = question.coordinates.pick(number, width(layer, groups), input.device());
                    let a = input_factor(network, layer, arriving, (groups, reading), columns.as_ref(), question)?;
                    for name in names {
                        let columns = columns.as_ref().map(Tensor::shallow_clone);
                        let expected = Expected::entries(name, number, a.shallow_clone(), a.dim() as i64 - 1, columns);
                        found.push(Expected { factor: "A", form: form(name), ..expected });
                    }
                }
            }
            for (name, _) in &asked {
                if let Some(factor) = output_factor(each, place, name) {
                    let factor = diagonal_blocks(&factor, groups);
                    let leading = factor.dim() as i64 - 1;
                    let expected = Expected::entries(name, number, factor, leading, None);
                    found.push(Expected { factor: "B", form: form(name), ..expected });
                }
                if *name == "ekfac" {
                    found.push(gradients_in_basis(each, number, groups));
                }
            }
        }
    }
    Ok(found)
}

fn form(quantity: &str) -> Form {
    if quantity == "ekfac" { Form::Decomposed } else { Form::Same }
}

/// The sum over samples of a layer's output factor.
fn output_factor(each: &[Derivatives], place: usize, quantity: &str) -> Option<Tensor> {
    let of = |sample: &Derivatives| {
        let named = sample.output_factors[place].iter().find(|(name, _)| *name == quantity)?;
        Some(named.1.shallow_clone())
    };
    each.iter().map(of).collect::<Option<Vec<Tensor>>>()?.into_iter().reduce(|sum, one| sum + one)
}

/// The gradients of every sample and vector, `[N * M, groups, out(, d)]`.
fn gradients_in_basis(each: &[Derivatives], number: usize, groups: i64) -> Expected {
    let all: Vec<&Tensor> = each.iter().map(|sample| &sample.sampled_gradients[number]).collect();
    let all = Tensor::cat(&all, 0);
    let size = all.size();
    let mut shape = vec![size[0], groups, size[1] / groups];
    shape.extend((size.len() > 2).then(|| size[2..].iter().product::<i64>()));
    let expected = Expected::entries("ekfac", number, all.reshape(shape.as_slice()), 0, None);
    let yardstick = f64::try_from(expected.tensor.square().sum(Kind::Double)).unwrap_or(f64::NAN);
    Expected { factor: "eigenvalues", form: Form::SquaredInBasis, yardstick, ..expected }
}

/// All values of the network, without derivatives.
fn values(network: &Network, input: &Tensor, question: &Question) -> Result<Trace> {
    let _guard = tch::no_grad_guard();
    network.forward(input, question.mode)
}

/// The number of groups of channels that do not mix.
fn groups(layer: &dyn Layer, input: &Tensor, output: &Tensor) -> i64 {
    let weight = layer.parameters()[0].value.size();
    match layer.kind() {
        kind if kind.starts_with("conv_transpose") => output.size()[1] / weight[1],
        kind if kind.starts_with("conv") => input.size()[1] / weight[1],
        _ => 1,
    }
}

fn is_transposed(layer: &dyn Layer) -> bool {
    layer.kind().starts_with("conv_transpose")
}

/// The number of weights that lead to one output channel.
fn width(layer: &dyn Layer, groups: i64) -> i64 {
    let weight = &layer.parameters()[0].value;
    let channels = weight.size()[usize::from(is_transposed(layer))];
    let channels = if is_transposed(layer) { channels * groups } else { channels };
    weight.numel() as i64 / channels
}

/// The weights (or their gradients) that lead to one output channel, flattened. A transposed convolution has its
/// inputs on the first axis, those of one group after those of another.
fn leading_to(layer: &dyn Layer, weight: &Tensor, channel: i64, groups: i64) -> Tensor {
    if !is_transposed(layer) {
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
    (groups, reading): (i64, Reading),
    columns: Option<&Tensor>,
    question: &Question,
) -> Result<Tensor> {
    let _tracked = Tracked::new(network)?;
    let weight = [layer.parameters()[0].value.shallow_clone()];
    let samples = input.size()[0];
    let output = layer.forward(input, question.mode)?.output;
    let channels: Vec<Tensor> = (0..samples).map(|sample| channels_first(layer.kind(), &output.get(sample))).collect();
    let outputs = channels[0].size()[0];
    let chosen: Vec<i64> = match columns {
        Some(columns) => Vec::<i64>::try_from(columns)?,
        None => (0..width(layer, groups)).collect(),
    };
    let mut factors = Vec::new();
    for group in 0..groups {
        let channel = group * (outputs / groups);
        let squares: Vec<Tensor> = channels.iter().map(|one| square(&one.get(channel), reading)).collect();
        let half = Tensor::stack(&squares, 0).sum(None::<Kind>) * (0.5 / samples as f64);
        let slope = leading_to(layer, &gradients(&half, &weight, true)?[0], channel, groups);
        let mut rows = Vec::new();
        for column in &chosen {
            let second = gradients(&slope.get(*column), &weight, false)?.remove(0);
            rows.push(leading_to(layer, &second, channel, groups));
        }
        factors.push(Tensor::stack(&rows, 1));
    }
    Ok(if groups == 1 { factors.remove(0) } else { Tensor::stack(&factors, 0) })
}

/// The square of one sample's output channel, `[T]`, as a reading takes its positions.
fn square(channel: &Tensor, reading: Reading) -> Tensor {
    match reading {
        Reading::Backpack => channel.square().sum(None::<Kind>),
        Reading::Expand => channel.square().mean(None::<Kind>),
        Reading::Reduce => channel.mean(None::<Kind>).square(),
    }
}

/// The groups' own blocks of a matrix over all output channels: `[groups, d, d]`; the matrix itself for one group.
fn diagonal_blocks(matrix: &Tensor, groups: i64) -> Tensor {
    if groups == 1 {
        return matrix.shallow_clone();
    }
    let each = matrix.size()[0] / groups;
    let blocks: Vec<Tensor> =
        (0..groups).map(|group| matrix.narrow(0, group * each, each).narrow(1, group * each, each)).collect();
    Tensor::stack(&blocks, 0)
}

// KFRA's recursion, written out: the sum of the loss's Hessians goes back through every layer, at each as the mean
// over samples of J^T G J with the sample's own Jacobian J.

/// The output factors, from the last layer to the first one whose matrix is not too large.
pub(super) fn kfra(
    network: &Network,
    input: &Tensor,
    each: &[Derivatives],
    question: &Question,
) -> Result<Vec<Expected>> {
    let trace = values(network, input, question)?;
    let mut found = Vec::new();
    let Some(mut matrix) = each.iter().map(|sample| sample.loss_hessian.shallow_clone()).reduce(|sum, one| sum + one)
    else {
        return Ok(found);
    };
    let nodes = network.nodes();
    let Some(first) = network.first_with_parameters() else {
        return Ok(found);
    };
    for place in (first..nodes.len()).rev() {
        let node = &nodes[place];
        let Some(layer) = node.layer() else { break };
        let (arriving, leaving) = (trace.value(node.inputs()[0]), &trace[place].output);
        if has_factors(node) {
            let factor = over_positions(layer, &matrix, leaving);
            let factor = diagonal_blocks(&factor, groups(layer, arriving, leaving));
            for (number, _) in node.numbered() {
                found.push(Expected::whole("kfra", number, "B", factor.shallow_clone()));
            }
        }
        if place > first {
            if matrix_bytes(arriving) > question.kfra_bytes {
                break;
            }
            matrix = through(layer, &matrix, arriving, question.mode)?;
        }
    }
    Ok(found)
}

/// The bytes of a matrix over the entries of one sample.
fn matrix_bytes(batch: &Tensor) -> u64 {
    let side = batch.numel() as u64 / batch.size()[0].max(1) as u64;
    side * side * batch.kind().elt_size_in_bytes() as u64
}

/// A matrix over a layer's output entries, summed over positions on both sides.
fn over_positions(layer: &dyn Layer, matrix: &Tensor, outputs: &Tensor) -> Tensor {
    let shape = &outputs.size()[1..];
    let once = |matrix: &Tensor| {
        let columns: Vec<Tensor> = (0..matrix.size()[1])
            .map(|column| {
                let one = matrix.select(1, column).reshape(shape);
                channels_first(layer.kind(), &one).sum_dim_intlist(1, false, None::<Kind>)
            })
            .collect();
        Tensor::stack(&columns, 0)
    };
    once(&once(matrix))
}

/// The mean over samples of J^T G J.
fn through(layer: &dyn Layer, matrix: &Tensor, inputs: &Tensor, mode: Mode) -> Result<Tensor> {
    let samples = inputs.size()[0];
    let mut sum = None;
    for sample in 0..samples {
        let half = rows_through(layer, matrix, inputs, sample, mode)?;
        let both = rows_through(layer, &half.tr(), inputs, sample, mode)?;
        sum = Some(match sum {
            Some(sum) => sum + both,
            None => both,
        });
    }
    Ok(sum.expect("a batch has samples") / samples as f64)
}

/// `G J` for one sample's Jacobian: every row of `G` goes back through the layer at that sample.
fn rows_through(layer: &dyn Layer, rows: &Tensor, inputs: &Tensor, sample: i64, mode: Mode) -> Result<Tensor> {
    // In evaluation a batch of copies takes many rows at once; in training the place in the batch matters.
    let step = if mode == Mode::Evaluation { 64 } else { 1 };
    let count = rows.size()[0];
    let mut parts = Vec::new();
    let mut start = 0;
    while start < count {
        let length = step.min(count - start);
        let (copies, row) = alone_among(inputs, sample, mode);
        let copies = if mode == Mode::Evaluation {
            copies.expand([&[length], &inputs.size()[1..]].concat().as_slice(), false).contiguous()
        } else {
            copies
        };
        let copies = [copies.detach().set_requires_grad(true)];
        let output = layer.forward(&copies[0], mode)?.output.narrow(0, row, length);
        let product = (output.flatten(1, -1) * rows.narrow(0, start, length)).sum(None::<Kind>);
        parts.push(gradients(&product, &copies, false)?.remove(0).narrow(0, row, length).flatten(1, -1));
        start += length;
    }
    Ok(Tensor::cat(&parts, 0))
}
