//! Attention: softmax(q k^T / sqrt d) v, in one call, or written out in several.

use tch::{Kind, Tensor};

use super::pointwise::scaled;
use crate::import::converter::{Activation, Converter, Given, Scores, Value};
use crate::import::graph::{Call, DAMAGED, Said, refuse};
use crate::import::layout::{Axis, Layout, size};
use crate::import::network::{Feed, NewLayer};
use crate::import::schema::Argument;

/// Says torch's own attention.
pub fn say(converter: &mut Converter, call: &Call) -> Given {
    if call.operation() != "scaled_dot_product_attention" {
        return Ok(None);
    }
    let [queries, keys, values] = [
        converter.activation(call, "query")?,
        converter.activation(call, "key")?,
        converter.activation(call, "value")?,
    ];
    if converter.number(call, "dropout_p")?.unwrap_or(0.0) != 0.0 {
        return refuse("dropout of attention weights", "export with model.eval(), or with dropout=0 in the attention");
    }
    if converter.flag(call, "enable_gqa", false) {
        return refuse("keys shared by several heads", "give every head its keys and values");
    }
    let rank = queries.layout.dims.len();
    if rank < 2 || keys.layout.dims.len() != rank || values.layout.dims.len() != rank {
        return refuse("queries, keys and values of different dimensions", "give them the same number of axes");
    }
    let mut causal = converter.flag(call, "is_causal", false);
    if let Some(mask) = converter.optional(call, "attn_mask")? {
        let Value::Constant(mask) = mask else {
            return refuse("a mask that depends on the batch or a parameter", "use is_causal, or no mask");
        };
        let (queries, keys) = (queries.layout.sizes()[rank - 2], keys.layout.sizes()[rank - 2]);
        let hidden = if mask.kind() == Kind::Bool { mask.f_logical_not()? } else { hidden_by_sum(mask)? };
        causal |= is_causal(&hidden, queries, keys)?;
    }
    let width = queries.layout.sizes()[rank - 1];
    let factor = converter.number(call, "scale")?.unwrap_or(1.0 / (width as f64).sqrt());
    attend(converter, &queries, &keys, &values, factor, causal).map(Some)
}

/// What an additive mask hides: minus infinity, or so much that nothing is left behind a softmax.
///
/// # Errors
/// For any number but 0 elsewhere.
fn hidden_by_sum(mask: &Tensor) -> Said<Tensor> {
    let hidden = hidden_value_mask(mask)?;
    let rest = mask.f_ne(0.0)?.f_logical_and(&hidden.f_logical_not()?)?;
    if rest.f_any()?.f_int64_value(&[])? != 0 {
        return refuse("a tensor is added to q k^T that is no mask", "use a causal mask, or none");
    }
    Ok(hidden)
}

fn hidden_value_mask(mask: &Tensor) -> Said<Tensor> {
    Ok(mask.f_le(HIDES)?)
}

/// A value this low in place of an entry leaves nothing of it behind a softmax.
const HIDES: f64 = -1e4;

/// Whether what is hidden are the later positions; false where nothing is.
///
/// # Errors
/// For any other mask.
fn is_causal(hidden: &Tensor, queries: i64, keys: i64) -> Said<bool> {
    if queries.saturating_mul(keys) > 1 << 26 {
        return refuse("a mask of too many positions", DAMAGED);
    }
    let hidden = hidden.f_to_kind(Kind::Bool)?;
    if hidden.f_any()?.f_int64_value(&[])? == 0 {
        return Ok(false);
    }
    let later = Tensor::f_ones([queries, keys], (Kind::Bool, tch::Device::Cpu))?.f_triu(1)?;
    let fits = hidden.size().len() >= 2
        && hidden.size().ends_with(&[queries, keys])
        && hidden.f_logical_xor(&later)?.f_any()?.f_int64_value(&[])? == 0;
    match fits {
        true => Ok(true),
        false => refuse("a mask that does not hide exactly the later positions", "use is_causal, or no mask"),
    }
}

/// softmax(factor q k^T) v.
///
/// # Errors
/// Where the axes before the positions are not the same.
fn attend(
    converter: &mut Converter,
    queries: &Activation,
    keys: &Activation,
    values: &Activation,
    factor: f64,
    causal: bool,
) -> Said<Vec<Value>> {
    let mut inputs = [queries.clone(), keys.clone(), values.clone()];
    let rank = inputs[0].layout.dims.len();
    let width = inputs[0].layout.sizes()[rank - 1];
    let mut factor = factor * (width as f64).sqrt();
    // What was multiplied before counts as one factor.
    for input in &mut inputs[..2] {
        while let Some((feed, own)) = scale_before(converter, input.feed) {
            factor *= own;
            input.feed = feed;
        }
    }
    if (factor - 1.0).abs() > 1e-12 {
        let [queries, ..] = &inputs;
        let mut given = scaled(converter, queries.clone(), factor);
        if let Some(Value::Activation(queries)) = given.pop() {
            inputs[0] = queries;
        }
    }
    if let Some(given) = self_attention(converter, &inputs, causal) {
        return Ok(given);
    }
    let mut leading: Vec<Vec<i64>> = Vec::new();
    let mut feeds = Vec::new();
    let mut axes_of_queries = Vec::new();
    for input in &inputs {
        let layout = &input.layout;
        let front: Axis = layout.dims[..rank - 2].concat();
        let Some(batch) = front.iter().position(|atom| atom.is_batch()) else {
            return refuse("the samples are not among the axes before the positions", "give it [N, .., T, d]");
        };
        let mut target: Vec<Axis> = Vec::new();
        let (before, behind) = (front[..batch].to_vec(), front[batch + 1..].to_vec());
        target.extend([before, behind].into_iter().filter(|axis| !axis.is_empty()));
        leading.push(vec![size(&front[..batch]), size(&front[batch + 1..])]);
        target.extend(layout.dims[rank - 2..].iter().cloned());
        feeds.push(converter.lay(input, &target)?);
        if axes_of_queries.is_empty() {
            axes_of_queries = target;
        }
    }
    if leading.iter().any(|own| *own != leading[0]) {
        return refuse("queries, keys and values with different heads", "give them the same axes before the positions");
    }
    let last = converter.atoms.axis(inputs[2].layout.sizes()[rank - 1]);
    let mut layout = Layout { axes: axes_of_queries, dims: inputs[0].layout.dims.clone() };
    if let (Some(axis), Some(dim)) = (layout.axes.last_mut(), layout.dims.last_mut()) {
        axis.clone_from(&last);
        *dim = last;
    }
    let mut new = NewLayer::new("attention", feeds[0], layout.shape());
    new.inputs = feeds;
    let feed = converter.add(new.with_unless("causal", causal, false));
    Ok(converter.given(feed, layout))
}

/// What a scale layer takes, and its factor.
fn scale_before(converter: &Converter, feed: Feed) -> Option<(Feed, f64)> {
    let layer = converter.network.layer(feed).filter(|layer| layer.kind == "scale")?;
    let (_, factor) = layer.options.first()?;
    Some((layer.inputs[0], factor.as_float()?))
}

/// Attention whose queries, keys and values are the three thirds of one value [N, T, 3 d].
fn self_attention(converter: &mut Converter, inputs: &[Activation; 3], causal: bool) -> Option<Vec<Value>> {
    let layout = &inputs[0].layout;
    let rank = layout.dims.len();
    let [time, width] = layout.axes.as_slice() else { return None };
    let batch_free = |axis: &Axis| axis.iter().copied().filter(|atom| !atom.is_batch()).collect::<Axis>();
    let heads = batch_free(&layout.dims[..rank - 2].concat());
    let (positions, inner) = (&layout.dims[rank - 2], &layout.dims[rank - 1]);
    if positions != time || *width != [heads.clone(), inner.clone()].concat() {
        return None;
    }
    let mut whole = None;
    for (third, input) in inputs.iter().enumerate() {
        if !input.layout.same_form(layout) {
            return None;
        }
        let layer = converter.network.layer(input.feed).filter(|layer| layer.kind == "slice")?;
        let start = third as i64 * size(width);
        let (_, index) = layer.options.first()?;
        if index.as_str()? != format!(":, {start}:{}", start + size(width)) {
            return None;
        }
        if *whole.get_or_insert(layer.inputs[0]) != layer.inputs[0] {
            return None;
        }
    }
    let whole = whole?;
    let sizes = match whole {
        Feed::Layer(_) => converter.network.layer(whole)?.shape.clone(),
        Feed::Input => return None,
    };
    if sizes != [size(time), 3 * size(width)] {
        return None;
    }
    let layout = layout.clone();
    let new = NewLayer::new("self_attention", whole, layout.shape()).with("num_heads", size(&heads));
    let feed = converter.add(new.with_unless("causal", causal, false));
    Some(converter.given(feed, layout))
}

/// The number that a mask puts in place of what it hides.
fn replacement(converter: &Converter, call: &Call) -> Said<Option<f64>> {
    if let Some(number) = converter.number(call, "value")? {
        return Ok(Some(number));
    }
    match call.argument("value") {
        Some(Argument::AsTensor(name)) => match converter.named(&name.name)? {
            Value::Constant(tensor) if tensor.numel() == 1 => {
                Ok(Some(tensor.f_reshape([1])?.f_to_kind(Kind::Double)?.f_double_value(&[0])?))
            }
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

// Attention written out: q k^T, times a number, masked, softmax, times v.

/// Says products of two values that depend on the batch, and what is done to them until they are attention.
pub fn say_written_out(converter: &mut Converter, call: &Call) -> Given {
    let names = match call.operation() {
        "matmul" if call.argument("other").is_some() => ["self", "other"],
        "bmm" => ["self", "mat2"],
        "baddbmm" => ["batch1", "batch2"],
        _ => return on_scores(converter, call),
    };
    let given = match (converter.value(call, names[0])?, converter.value(call, names[1])?) {
        (Value::Activation(queries), Value::Activation(keys)) => {
            let (queries, mut keys) = (queries.clone(), keys.clone());
            let rank = queries.layout.dims.len();
            if rank < 3 || keys.layout.dims.len() != rank {
                return refuse(crate::import::converter::NO_PRODUCT.0, crate::import::converter::NO_PRODUCT.1);
            }
            keys.layout.dims.swap(rank - 2, rank - 1);
            let leading = queries.layout.dims[..rank - 2].to_vec();
            let mut scores = Scores { queries, keys, factor: 1.0, causal: false, softmax: false, leading };
            if call.operation() == "baddbmm" {
                scores.factor = converter.number(call, "alpha")?.unwrap_or(1.0);
                if converter.number(call, "beta")?.is_some_and(|beta| beta != 1.0) {
                    return refuse("a mask with a factor", "add the mask as it is");
                }
                add_mask(converter, call, &mut scores, "self")?;
            }
            Value::Scores(Box::new(scores))
        }
        (Value::Scores(scores), Value::Activation(values)) => {
            if !scores.softmax {
                return refuse("q k^T v without a softmax", "put the softmax over the last axis between them");
            }
            let (scores, values) = (scores.clone(), values.clone());
            return product_with_values(converter, &scores, values).map(Some);
        }
        (Value::Scores(_), _) | (_, Value::Scores(_)) => {
            return refuse(crate::import::converter::NO_PRODUCT.0, crate::import::converter::NO_PRODUCT.1);
        }
        _ => return Ok(None),
    };
    Ok(Some(vec![given]))
}

/// softmax(q k^T) v, where the scores may have been seen with other axes before the positions than the queries.
fn product_with_values(
    converter: &mut Converter,
    scores: &Scores,
    values: crate::import::converter::Activation,
) -> Said<Vec<Value>> {
    let seen = |layout: &Layout| -> Layout {
        let last = layout.dims[layout.dims.len() - 2..].to_vec();
        Layout { axes: layout.axes.clone(), dims: [scores.leading.clone(), last].concat() }
    };
    let mut queries = scores.queries.clone();
    queries.layout = seen(&queries.layout);
    let mut keys = scores.keys.clone();
    // The keys' axes are their own; as many in the order of the queries'.
    let sizes: Vec<i64> = queries.layout.sizes();
    let mut wanted = sizes[..sizes.len() - 2].to_vec();
    wanted.extend(&keys.layout.sizes()[keys.layout.dims.len() - 2..]);
    if !keys.layout.view(&wanted, &mut converter.atoms)? || values.layout.dims.len() != wanted.len() {
        return refuse("queries, keys and values with different axes", "give them the same axes before the positions");
    }
    attend(converter, &queries, &keys, &values, scores.factor, scores.causal)
}

/// What is done to q k^T.
fn on_scores(converter: &mut Converter, call: &Call) -> Given {
    let operation = call.operation();
    let argument = match operation {
        "dropout" => "input",
        _ => "self",
    };
    let places: &[&str] = match operation {
        "add" | "mul" => &["self", "other"],
        "where" => &["self", "other"],
        _ => &[argument],
    };
    let found = places.iter().find_map(|place| match call.argument(place) {
        Some(crate::import::schema::Argument::AsTensor(name)) => match converter.values.get(&name.name) {
            Some(Value::Scores(scores)) => Some((*place, scores.clone())),
            _ => None,
        },
        _ => None,
    });
    let Some((place, mut scores)) = found else { return Ok(None) };
    let other = if place == "self" { "other" } else { "self" };
    if scores.softmax
        && !matches!(operation, "dropout" | "view" | "reshape" | "contiguous" | "clone" | "alias" | "to" | "type_as")
    {
        return refuse(
            "attention weights are used otherwise than for softmax(q k^T) v",
            "return the attention's output alone",
        );
    }
    match operation {
        "mul" | "div" => {
            let number = match converter.number(call, other)? {
                Some(number) => number,
                None => match converter.value(call, other)? {
                    Value::Constant(tensor) if tensor.numel() == 1 => tensor.f_reshape([1])?.f_double_value(&[0])?,
                    _ => return refuse("q k^T is multiplied with a tensor", "multiply it with a number"),
                },
            };
            if scores.causal || number == 0.0 {
                return refuse("a masked q k^T is multiplied", "multiply before masking");
            }
            scores.factor *= if operation == "div" { 1.0 / number } else { number };
        }
        "add" => {
            if converter.number(call, "alpha")?.is_some_and(|alpha| alpha != 1.0) {
                return refuse("a mask with a factor", "add the mask as it is");
            }
            add_mask(converter, call, &mut scores, other)?;
        }
        "masked_fill" => {
            let Value::Constant(mask) = converter.value(call, "mask")? else {
                return refuse("a mask that depends on the batch or a parameter", "use a causal mask, or none");
            };
            if replacement(converter, call)?.is_none_or(|value| value > HIDES) {
                return refuse("it puts a number in place of what is masked", "put minus infinity there");
            }
            let (queries, keys) = scores.positions();
            scores.causal |= is_causal(&mask.f_expand(common(mask, queries, keys)?.as_slice(), false)?, queries, keys)?;
        }
        "where" => {
            let Value::Constant(condition) = converter.value(call, "condition")? else {
                return refuse("a mask that depends on the batch or a parameter", "use a causal mask, or none");
            };
            let replaced = match converter.number(call, other)? {
                Some(number) => number,
                None => match converter.value(call, other)? {
                    Value::Constant(tensor) if tensor.numel() == 1 => {
                        tensor.f_reshape([1])?.f_to_kind(tch::Kind::Double)?.f_double_value(&[0])?
                    }
                    _ => return refuse("it puts a tensor in place of what is masked", "put minus infinity there"),
                },
            };
            if replaced > HIDES || replaced.is_nan() {
                return refuse("it puts a number in place of what is masked", "put minus infinity there");
            }
            let hidden = if place == "self" { condition.f_logical_not()? } else { condition.shallow_clone() };
            let (queries, keys) = scores.positions();
            scores.causal |=
                is_causal(&hidden.f_expand(common(&hidden, queries, keys)?.as_slice(), false)?, queries, keys)?;
        }
        "softmax" | "_softmax" => {
            let rank = scores.sizes().len();
            if crate::import::layout::wrap(converter.int(call, "dim", -1)?, rank)? != rank - 1 {
                return refuse("a softmax over another axis than the keys", "take it over the last axis");
            }
            scores.softmax = true;
        }
        "dropout" => {
            if converter.flag(call, "train", false) && converter.number(call, "p")?.unwrap_or(0.5) != 0.0 {
                return refuse(
                    "dropout of attention weights",
                    "export with model.eval(), or with dropout=0 in the attention",
                );
            }
        }
        "contiguous" | "clone" | "alias" | "to" | "type_as" | "_to_copy" => {}
        "view" | "reshape" | "_unsafe_view" => {
            let name = if operation == "reshape" { "shape" } else { "size" };
            let sizes = scores.sizes();
            let wanted = converter.ints(call, name)?.unwrap_or_default();
            let wanted =
                if wanted.contains(&-1) { converter.example_sizes(&call.name).unwrap_or_default() } else { wanted };
            if wanted.len() < 3 || wanted[wanted.len() - 2..] != sizes[sizes.len() - 2..] {
                return refuse("q k^T is seen in another shape", "keep the axes of queries and keys the last");
            }
            // The axes before the positions are those of the queries, cut or merged.
            let rank = scores.queries.layout.dims.len();
            let last = scores.queries.layout.dims.split_off(rank - 2);
            scores.queries.layout.dims = [scores.leading.clone(), last].concat();
            let front = scores.leading.len();
            let groups = scores.queries.layout.regroup(0..front, &wanted[..wanted.len() - 2], &mut converter.atoms)?;
            let Some(groups) = groups else { return refuse("its axes do not nest", DAMAGED) };
            let last = scores.queries.layout.dims.split_off(front);
            scores.queries.layout.dims = [groups.clone(), last].concat();
            scores.leading = groups;
        }
        "unsqueeze" | "squeeze" | "mean" | "sum" | "transpose" | "permute" => {
            return refuse(
                "attention weights are used otherwise than for softmax(q k^T) v",
                "return the attention's output alone",
            );
        }
        _ => return Ok(None),
    }
    Ok(Some(vec![Value::Scores(scores)]))
}

/// The sizes of a mask with those of the positions where it broadcasts to them.
fn common(mask: &tch::Tensor, queries: i64, keys: i64) -> Said<Vec<i64>> {
    let mut sizes = mask.size();
    while sizes.len() < 2 {
        sizes.insert(0, 1);
    }
    let rank = sizes.len();
    for (size, whole) in sizes[rank - 2..].iter_mut().zip([queries, keys]) {
        if *size != 1 && *size != whole {
            return refuse(format!("a mask of {:?} for {queries} and {keys} positions", mask.size()), DAMAGED);
        }
        *size = whole;
    }
    Ok(sizes)
}

/// A constant that is added to q k^T.
fn add_mask(converter: &Converter, call: &Call, scores: &mut Scores, argument: &str) -> Said<()> {
    if let Some(number) = converter.number(call, argument)? {
        return if number == 0.0 {
            Ok(())
        } else {
            refuse("a number is added to q k^T", "leave it out: a softmax does not see it")
        };
    }
    let Value::Constant(mask) = converter.value(call, argument)? else {
        return refuse(
            "a bias that depends on the batch or a parameter is added to q k^T",
            "use a causal mask, or none",
        );
    };
    let (queries, keys) = scores.positions();
    let hidden = hidden_by_sum(mask)?;
    scores.causal |= is_causal(&hidden.f_expand(common(&hidden, queries, keys)?.as_slice(), false)?, queries, keys)?;
    Ok(())
}
