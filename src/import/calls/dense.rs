//! Linear layers, embeddings and normalisations.

use super::shape::whole_table;
use crate::import::converter::{Activation, Converter, Given, ParameterView, Value};
use crate::import::graph::{Call, DAMAGED, Origin, Said, refuse};
use crate::import::layout::{Axis, Layout, size};
use crate::import::network::{Feed, Holding, NewLayer};
use crate::import::schema::Argument;

/// Says linear layers, products with a parameter, and embeddings.
pub fn say(converter: &mut Converter, call: &Call) -> Given {
    match call.operation() {
        "linear" => {
            let x = converter.activation(call, "input")?;
            let weight = whole(converter, call, "weight")?;
            let bias = optional(converter, call, "bias")?;
            linear(converter, x, &weight, bias).map(Some)
        }
        "matmul" | "mm" => {
            let names = if call.argument("other").is_some() { ["self", "other"] } else { ["self", "mat2"] };
            let [Value::Activation(x), Value::Parameter(weight)] =
                [converter.value(call, names[0])?, converter.value(call, names[1])?]
            else {
                return Ok(None);
            };
            let (x, weight) = (x.clone(), transposed(weight)?);
            linear(converter, x, &weight, None).map(Some)
        }
        "addmm" => {
            let x = converter.activation(call, "mat1")?;
            let bias = optional(converter, call, "self")?;
            let Value::Parameter(weight) = converter.value(call, "mat2")? else {
                return refuse(crate::import::converter::NO_PRODUCT.0, crate::import::converter::NO_PRODUCT.1);
            };
            let weight = transposed(weight)?;
            let factors = [converter.number(call, "alpha")?, converter.number(call, "beta")?];
            if factors.iter().any(|factor| factor.is_some_and(|factor| factor != 1.0)) {
                return refuse("alpha or beta is not 1", "use nn.Linear");
            }
            linear(converter, x, &weight, bias).map(Some)
        }
        "embedding" => embedding(converter, call).map(Some),
        _ => Ok(None),
    }
}

/// A parameter that is used as it is.
///
/// # Errors
/// For a view of one, or anything else.
pub fn whole(converter: &Converter, call: &Call, argument: &str) -> Said<ParameterView> {
    match converter.value(call, argument)? {
        Value::Parameter(view) if view.layout.dims == view.layout.axes => Ok(view.clone()),
        Value::Parameter(view) => refuse(
            format!("its `{argument}` is a view of the parameter `{}`", view.name),
            "give the layer a parameter of its own, in the shape that it has in the layer",
        ),
        Value::Constant(_) => refuse(
            format!("its `{argument}` is a buffer or constant"),
            "make it an nn.Parameter; layers hold parameters",
        ),
        _ => refuse(format!("its `{argument}` is computed"), "give the layer an nn.Parameter"),
    }
}

/// A parameter that may be None.
///
/// # Errors
/// As [`whole`].
pub fn optional(converter: &Converter, call: &Call, argument: &str) -> Said<Option<ParameterView>> {
    match converter.optional(call, argument)? {
        None => Ok(None),
        Some(_) => whole(converter, call, argument).map(Some),
    }
}

/// A layer's holding of a parameter.
pub fn holding(local: &str, view: &ParameterView) -> Holding {
    Holding { local: local.to_owned(), source: view.name.clone(), parameter: true }
}

/// A weight [out, in] that is multiplied as [in, out].
fn transposed(view: &ParameterView) -> Said<ParameterView> {
    let [out, into] = view.layout.axes.as_slice() else {
        return refuse(format!("the parameter `{}` is no matrix", view.name), "use nn.Linear");
    };
    if view.layout.dims != [into.clone(), out.clone()] {
        return refuse(
            format!("the parameter `{}` is stored as [in, out]", view.name),
            "store it as [out, in] and use F.linear(x, weight), or nn.Linear",
        );
    }
    let mut view = view.clone();
    view.layout.dims = view.layout.axes.clone();
    Ok(view)
}

/// The axes of a value with those of its last dimensions behind all others.
///
/// # Errors
/// Where the samples are among them.
fn with_last(layout: &Layout, count: usize) -> Said<Vec<Axis>> {
    let Some(first) = layout.dims.len().checked_sub(count) else {
        return refuse("fewer dimensions than it needs", DAMAGED);
    };
    let last = &layout.dims[first..];
    if last.iter().flatten().any(|atom| atom.is_batch()) {
        return refuse("the samples are in the axis that it works on", "keep the samples in an axis of their own");
    }
    if layout.axes.ends_with(last) {
        return Ok(layout.axes.clone());
    }
    let mut target = layout.axes_without(&last.concat());
    target.extend(last.iter().cloned());
    Ok(target)
}

/// A linear layer on the last dimension.
fn linear(
    converter: &mut Converter,
    x: Activation,
    weight: &ParameterView,
    bias: Option<ParameterView>,
) -> Said<Vec<Value>> {
    let [out, into] = weight.layout.sizes()[..] else {
        return refuse(format!("the weight `{}` is no matrix", weight.name), "use nn.Linear");
    };
    let target = with_last(&x.layout, 1)?;
    if x.layout.dims.last().is_none_or(|axis| size(axis) != into) {
        return refuse(format!("{into} inputs, and {:?} arrive", x.layout.sizes()), DAMAGED);
    }
    let feed = converter.lay(&x, &target)?;
    let last = converter.atoms.axis(out);
    let mut layout = Layout { axes: target, dims: x.layout.dims };
    if let (Some(axis), Some(dim)) = (layout.axes.last_mut(), layout.dims.last_mut()) {
        axis.clone_from(&last);
        *dim = last;
    }
    let new = NewLayer::new("linear", feed, layout.shape()).with("out_features", out).with_unless(
        "bias",
        bias.is_some(),
        true,
    );
    let holdings = std::iter::once(holding("weight", weight)).chain(bias.iter().map(|bias| holding("bias", bias)));
    let call = &converter.program.calls[converter.place];
    let feed = converter.network.add_with(new, holdings.collect(), call)?;
    Ok(converter.given(feed, layout))
}

fn embedding(converter: &mut Converter, call: &Call) -> Said<Vec<Value>> {
    let table = whole(converter, call, "weight")?;
    let [rows, width] = table.layout.sizes()[..] else {
        return refuse(format!("the table `{}` is no matrix", table.name), "use nn.Embedding");
    };
    if converter.int(call, "padding_idx", -1)? >= 0 {
        return refuse("padding_idx: that row has no gradient", "leave out padding_idx");
    }
    if converter.flag(call, "scale_grad_by_freq", false) || converter.flag(call, "sparse", false) {
        return refuse("a gradient scaled by frequency or sparse", "leave out scale_grad_by_freq and sparse");
    }
    if let Value::Constant(places) = converter.value(call, "indices")? {
        let places = places.shallow_clone();
        let view = whole_table(&places, &table, &mut converter.atoms)?;
        return match view {
            Some(view) => Ok(vec![Value::Parameter(view)]),
            None => refuse(
                format!("it takes some of the {rows} rows of `{}`, or in another order", table.name),
                "export with an input as long as the table of positions, and take its rows in order",
            ),
        };
    }
    let x = converter.activation(call, "indices")?;
    if x.feed != Feed::Input || !converter.integer_input {
        return refuse("its indices are computed", "give the integers to the model as its input");
    }
    converter.integers = Some(converter.integers.map_or(rows, |known| known.min(rows)));
    let last = converter.atoms.axis(width);
    let mut layout = x.layout;
    layout.axes.push(last.clone());
    layout.dims.push(last);
    let new = NewLayer::new("embedding", x.feed, layout.shape());
    let new = new.with("num_embeddings", rows).with("embedding_dim", width);
    let feed = converter.network.add_with(new, vec![holding("weight", &table)], call)?;
    Ok(converter.given(feed, layout))
}

// Normalisations.

/// Says normalisations.
pub fn say_norm(converter: &mut Converter, call: &Call) -> Given {
    match call.operation() {
        "batch_norm" => batch_norm(converter, call).map(Some),
        "layer_norm" | "rms_norm" => last_axes(converter, call).map(Some),
        "group_norm" | "instance_norm" => groups(converter, call).map(Some),
        _ => Ok(None),
    }
}

fn batch_norm(converter: &mut Converter, call: &Call) -> Said<Vec<Value>> {
    let x = converter.activation(call, "input")?;
    let sizes = x.layout.sizes();
    let kind = match sizes.len() {
        2 | 3 => "batch_norm1d",
        4 => "batch_norm2d",
        5 => "batch_norm3d",
        _ => return refuse(format!("an input {sizes:?}"), "give it a batch [N, channels, ..]"),
    };
    let (Some(weight), Some(bias)) = (optional(converter, call, "weight")?, optional(converter, call, "bias")?) else {
        return refuse("it has no weight and bias", "leave out affine=False");
    };
    let buffer = |name: &str| match call.argument(name) {
        Some(Argument::AsTensor(tensor)) => match converter.program.origins.get(&tensor.name) {
            Some(Origin::Buffer(buffer)) => {
                Ok(Holding { local: name.to_owned(), source: buffer.clone(), parameter: false })
            }
            _ => refuse(format!("its {name} is computed"), "use nn.BatchNorm2d as it is"),
        },
        _ => refuse("it keeps no running statistics", "leave out track_running_stats=False, or use nn.GroupNorm"),
    };
    let holdings =
        vec![holding("weight", &weight), holding("bias", &bias), buffer("running_mean")?, buffer("running_var")?];
    let channels = sizes[1];
    for holding in &holdings {
        if converter.tensors.sizes(&holding.source) != Some(&[channels]) {
            return refuse(format!("`{}` does not have {channels} entries", holding.source), DAMAGED);
        }
    }
    let feed = converter.lay_as_seen(&x)?;
    let new = NewLayer::new(kind, feed, sizes[1..].to_vec()).with("eps", eps(converter, call, 1e-5)?);
    let momentum = converter.number(call, "momentum")?.unwrap_or(0.1);
    let frozen = !converter.flag(call, "training", false);
    let new = new.with_unless("momentum", momentum, 0.1).with_unless("frozen", frozen, false);
    let feed = converter.network.add_with(new, holdings, call)?;
    let layout = Layout { axes: x.layout.dims[1..].to_vec(), dims: x.layout.dims };
    Ok(converter.given(feed, layout))
}

fn eps(converter: &Converter, call: &Call, default: f64) -> Said<f64> {
    Ok(converter.number(call, "eps")?.unwrap_or(default))
}

fn last_axes(converter: &mut Converter, call: &Call) -> Said<Vec<Value>> {
    let x = converter.activation(call, "input")?;
    let normalized = converter.ints(call, "normalized_shape")?.unwrap_or_default();
    let sizes = x.layout.sizes();
    if normalized.is_empty() || !sizes.ends_with(&normalized) || sizes.len() == normalized.len() {
        return refuse(format!("it normalises {normalized:?} of {sizes:?}"), DAMAGED);
    }
    let (weight, bias) = (optional(converter, call, "weight")?, optional(converter, call, "bias")?);
    for view in weight.iter().chain(&bias) {
        if view.layout.sizes() != normalized {
            return refuse(format!("`{}` does not have the sizes {normalized:?}", view.name), DAMAGED);
        }
    }
    let target = with_last(&x.layout, normalized.len())?;
    let feed = converter.lay(&x, &target)?;
    let layout = Layout { axes: target, dims: x.layout.dims };
    let rms = call.operation() == "rms_norm";
    // Without an eps, rms_norm takes the smallest step of the type behind 1.
    let step = converter.program.metas.get(&call.name).map_or(0, |meta| meta.dtype);
    let step = match crate::import::archive::kind(step) {
        Some(tch::Kind::Double) => f64::EPSILON,
        Some(tch::Kind::Half) => 2f64.powi(-10),
        Some(tch::Kind::BFloat16) => 2f64.powi(-7),
        _ => f64::from(f32::EPSILON),
    };
    let eps = eps(converter, call, if rms { step } else { 1e-5 })?;
    let mut new = NewLayer::new(if rms { "rms_norm" } else { "layer_norm" }, feed, layout.shape());
    if normalized.len() > 1 {
        new = new.with("normalized_shape", normalized);
    }
    new = new.with("eps", eps);
    let holdings = match (&weight, &bias) {
        (None, Some(bias)) => {
            return refuse(
                format!("it has the bias `{}` and no weight", bias.name),
                "give it a weight, or add the bias behind it",
            );
        }
        _ => affine(&weight, &bias),
    };
    if !rms && weight.is_some() {
        new = new.with_unless("bias", bias.is_some(), true);
    }
    finish_norm(converter, new.with_unless("elementwise_affine", weight.is_some(), true), holdings, layout)
}

fn groups(converter: &mut Converter, call: &Call) -> Said<Vec<Value>> {
    let x = converter.activation(call, "input")?;
    let sizes = x.layout.sizes();
    let instance = call.operation() == "instance_norm";
    if instance && (call.argument("running_mean").is_some() || !converter.flag(call, "use_input_stats", true)) {
        return refuse("it uses running statistics", "leave out track_running_stats=True");
    }
    if sizes.len() < 2 {
        return refuse(format!("an input {sizes:?}"), DAMAGED);
    }
    let count = if instance { sizes[1] } else { converter.int(call, "num_groups", 1)? };
    let (weight, bias) = (optional(converter, call, "weight")?, optional(converter, call, "bias")?);
    if weight.is_some() != bias.is_some() || count < 1 || sizes[1] % count != 0 {
        return refuse(
            format!("{count} groups, with one of weight and bias"),
            "give it both of weight and bias, or neither",
        );
    }
    let feed = converter.lay_as_seen(&x)?;
    let layout = Layout { axes: x.layout.dims[1..].to_vec(), dims: x.layout.dims };
    let new = NewLayer::new("group_norm", feed, layout.shape())
        .with("num_groups", count)
        .with("eps", eps(converter, call, 1e-5)?);
    let holdings = affine(&weight, &bias);
    finish_norm(converter, new.with_unless("affine", weight.is_some(), true), holdings, layout)
}

fn affine(weight: &Option<ParameterView>, bias: &Option<ParameterView>) -> Vec<Holding> {
    let weight = weight.iter().map(|weight| holding("weight", weight));
    weight.chain(bias.iter().map(|bias| holding("bias", bias))).collect()
}

fn finish_norm(converter: &mut Converter, new: NewLayer, holdings: Vec<Holding>, layout: Layout) -> Said<Vec<Value>> {
    let call = &converter.program.calls[converter.place];
    let feed = match holdings.is_empty() {
        true => converter.network.add(new, call),
        false => converter.network.add_with(new, holdings, call)?,
    };
    Ok(converter.given(feed, layout))
}
