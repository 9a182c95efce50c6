//! KFRA's recursion, written out: the sum of the loss's Hessians goes back through every layer, at each as the mean
//! over samples of J^T G J with the sample's own Jacobian J.

use tch::{Kind, Tensor};

use super::autograd::gradients;
use super::kronecker::{diagonal_blocks, groups, values};
use super::question::{Expected, Question, alone_among};
use super::samples::{Derivatives, channels_first, has_factors};
use crate::backpack::layers::{Layer, Mode};
use crate::backpack::network::Network;
use crate::error::Result;

/// The output factors, from the last layer to the first one whose matrix is not too large.
pub(super) fn of(
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
