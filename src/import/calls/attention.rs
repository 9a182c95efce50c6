//! Attention: softmax(q k^T / sqrt d) v, in one call or written out.

use tch::{Kind, Tensor};

use super::pointwise::scaled;
use crate::import::converter::{Converter, Given};
use crate::import::graph::{Call, DAMAGED, Said, refuse};
use crate::import::layout::{Axis, Layout, size};
use crate::import::network::{Feed, NewLayer};
use crate::import::schema::Argument;
use crate::import::value::{Activation, Value};

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
pub fn hidden_by_sum(mask: &Tensor) -> Said<Tensor> {
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
pub const HIDES: f64 = -1e4;

/// Whether what is hidden are the later positions; false where nothing is.
///
/// # Errors
/// For any other mask.
pub fn is_causal(hidden: &Tensor, queries: i64, keys: i64) -> Said<bool> {
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
pub fn attend(
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
pub fn replacement(converter: &Converter, call: &Call) -> Said<Option<f64>> {
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
