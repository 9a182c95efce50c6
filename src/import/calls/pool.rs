//! Pooling.

use super::convolution::{alike, list, unless};
use crate::import::converter::{Converter, Given};
use crate::import::graph::{Call, DAMAGED, Said, refuse};
use crate::import::layout::Layout;
use crate::import::network::NewLayer;
use crate::import::value::Value;

const MAX: [&str; 3] = ["max_pool1d", "max_pool2d", "max_pool3d"];
const AVG: [&str; 3] = ["avg_pool1d", "avg_pool2d", "avg_pool3d"];
const ADAPTIVE: [&str; 3] = ["adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"];

/// Says pooling.
pub fn say(converter: &mut Converter, call: &Call) -> Given {
    let operation = call.operation();
    let operation = operation.strip_suffix("_with_indices").unwrap_or(operation);
    for (kinds, number) in [(MAX, 0), (AVG, 1), (ADAPTIVE, 2)] {
        if let Some(place) = kinds.iter().position(|kind| *kind == operation) {
            return match number {
                2 => adaptive(converter, call, kinds[place], place + 1).map(Some),
                _ => pool(converter, call, kinds[place], place + 1, number == 0).map(Some),
            };
        }
    }
    Ok(None)
}

fn pool(converter: &mut Converter, call: &Call, kind: &'static str, dims: usize, max: bool) -> Said<Vec<Value>> {
    let x = converter.activation(call, "self")?;
    let sizes = x.layout.sizes();
    if sizes.len() != dims + 2 {
        return refuse(format!("an input {sizes:?}"), "give it a batch [N, channels, ..]");
    }
    let kernel = list(converter, call, "kernel_size", dims, 1)?;
    let stride = match converter.ints(call, "stride")? {
        Some(stride) if !stride.is_empty() => list(converter, call, "stride", dims, 1)?,
        _ => kernel.clone(),
    };
    let padding = list(converter, call, "padding", dims, 0)?;
    let dilation = list(converter, call, "dilation", dims, 1)?;
    let ceil = converter.flag(call, "ceil_mode", false);
    if call.argument("divisor_override").is_some() {
        return refuse("divisor_override", "leave it out and multiply by a number");
    }
    let feed = converter.lay_as_seen(&x)?;
    let output = |dim: usize| {
        let reach = dilation[dim].checked_mul(kernel[dim] - 1)?.checked_add(1)?;
        let room = sizes[dim + 2].checked_add(padding[dim].checked_mul(2)?)?.checked_sub(reach)?;
        let round = if ceil { stride[dim] - 1 } else { 0 };
        let count = room.checked_add(round).filter(|_| stride[dim] > 0)?.div_euclid(stride[dim]) + 1;
        // The last window begins in the input or the zeros before it.
        let beyond = ceil && (count - 1) * stride[dim] >= sizes[dim + 2] + padding[dim];
        Some(count - i64::from(beyond)).filter(|&count| count > 0)
    };
    let leaving: Option<Vec<i64>> = (0..dims).map(output).collect();
    let Some(leaving) = leaving else { return refuse("a window beyond its input", DAMAGED) };
    let shape = [&sizes[1..2], leaving.as_slice()].concat();
    let mut new = NewLayer::new(kind, feed, shape.clone()).with("kernel_size", alike(&kernel));
    if stride != kernel {
        new = new.with("stride", alike(&stride));
    }
    new = unless(new, "padding", &padding, 0);
    new = unless(new, "dilation", &dilation, 1).with_unless("ceil_mode", ceil, false);
    let counts =
        max || converter.flag(call, "count_include_pad", true) || padding.iter().all(|&zeros| zeros == 0) && !ceil;
    let feed = converter.add(new.with_unless("count_include_pad", counts, true));
    let layout = Layout::batch_first(&shape, &mut converter.atoms);
    let mut given = converter.given(feed, layout);
    if call.outputs.len() > 1 {
        given.push(Value::Unsaid { why: "the places of the largest values", instead: "use the values alone" });
    }
    Ok(given)
}

fn adaptive(converter: &mut Converter, call: &Call, kind: &'static str, dims: usize) -> Said<Vec<Value>> {
    let x = converter.activation(call, "self")?;
    let sizes = x.layout.sizes();
    let output = list(converter, call, "output_size", dims, 1)?;
    if sizes.len() != dims + 2 || output.contains(&0) {
        return refuse(format!("an input {sizes:?}"), "give it a batch [N, channels, ..]");
    }
    let feed = converter.lay_as_seen(&x)?;
    let shape = [&sizes[1..2], output.as_slice()].concat();
    let feed = converter.add(NewLayer::new(kind, feed, shape.clone()).with("output_size", alike(&output)));
    let layout = Layout::batch_first(&shape, &mut converter.atoms);
    Ok(converter.given(feed, layout))
}
