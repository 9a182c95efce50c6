//! Linear layers and embeddings.

use super::shape::whole_table;
use crate::import::converter::{Converter, Given};
use crate::import::graph::{Call, DAMAGED, Said, refuse};
use crate::import::layout::{Axis, Layout, size};
use crate::import::network::{Feed, Holding, NewLayer};
use crate::import::value::{Activation, ParameterView, Value};

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
pub fn with_last(layout: &Layout, count: usize) -> Said<Vec<Axis>> {
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
