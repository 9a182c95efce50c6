//! Normalisations.

use super::dense::{holding, optional, with_last};
use crate::import::converter::{Converter, Given};
use crate::import::graph::{Call, DAMAGED, Origin, Said, refuse};
use crate::import::layout::Layout;
use crate::import::network::{Holding, NewLayer};
use crate::import::schema::Argument;
use crate::import::value::{ParameterView, Value};

/// Says normalisations.
pub fn say(converter: &mut Converter, call: &Call) -> Given {
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
    let step = match crate::import::tensors::kind(step) {
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
    finish(converter, new.with_unless("elementwise_affine", weight.is_some(), true), holdings, layout)
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
    finish(converter, new.with_unless("affine", weight.is_some(), true), holdings, layout)
}

fn affine(weight: &Option<ParameterView>, bias: &Option<ParameterView>) -> Vec<Holding> {
    let weight = weight.iter().map(|weight| holding("weight", weight));
    weight.chain(bias.iter().map(|bias| holding("bias", bias))).collect()
}

fn finish(converter: &mut Converter, new: NewLayer, holdings: Vec<Holding>, layout: Layout) -> Said<Vec<Value>> {
    let call = &converter.program.calls[converter.place];
    let feed = match holdings.is_empty() {
        true => converter.network.add(new, call),
        false => converter.network.add_with(new, holdings, call)?,
    };
    Ok(converter.given(feed, layout))
}
