//! Activations, dropout, and means over dimensions.

use toml::Value as Toml;

use crate::import::converter::{Converter, Given};
use crate::import::graph::{Call, DAMAGED, Said, refuse};
use crate::import::layout::{Axis, Layout, size};
use crate::import::network::NewLayer;
use crate::import::value::{Activation, Value};

/// Says what is computed entry by entry of one value, and means.
pub fn say(converter: &mut Converter, call: &Call) -> Given {
    let operation = call.operation();
    let plain = match operation {
        "relu" => Some("relu"),
        "selu" => Some("selu"),
        "sigmoid" => Some("sigmoid"),
        "tanh" => Some("tanh"),
        "log_sigmoid" => Some("log_sigmoid"),
        "silu" => Some("silu"),
        _ => None,
    };
    if let Some(kind) = plain {
        let x = converter.activation(call, "self")?;
        return Ok(Some(converter.pointwise(x, kind, Vec::new())));
    }
    let number =
        |name, default| Ok::<_, crate::import::graph::Refusal>(converter.number(call, name)?.unwrap_or(default));
    match operation {
        "leaky_relu" => {
            let slope = number("negative_slope", 0.01)?;
            let x = converter.activation(call, "self")?;
            Ok(Some(converter.pointwise(x, "leaky_relu", vec![("negative_slope", slope.into())])))
        }
        "elu" => {
            let (alpha, scale, inner) = (number("alpha", 1.0)?, number("scale", 1.0)?, number("input_scale", 1.0)?);
            if scale != 1.0 || inner != 1.0 {
                return refuse("an elu with scales", "use nn.ELU or nn.SELU");
            }
            let x = converter.activation(call, "self")?;
            Ok(Some(converter.pointwise(x, "elu", vec![("alpha", alpha.into())])))
        }
        "gelu" => {
            let approximate = match call.argument("approximate") {
                Some(crate::import::schema::Argument::AsString(text)) if text != "none" => {
                    vec![("approximate", Toml::from(text.as_str()))]
                }
                _ => Vec::new(),
            };
            let x = converter.activation(call, "self")?;
            Ok(Some(converter.pointwise(x, "gelu", approximate)))
        }
        "neg" => {
            let x = converter.activation(call, "self")?;
            Ok(Some(scaled(converter, x, -1.0)))
        }
        "square" => {
            let x = converter.activation(call, "self")?;
            square(converter, x).map(Some)
        }
        "pow" if converter.number(call, "exponent")? == Some(2.0) => {
            let x = converter.activation(call, "self")?;
            square(converter, x).map(Some)
        }
        "dropout" => {
            let p = number("p", 0.5)?;
            let x = converter.activation(call, "input")?;
            if p == 0.0 {
                return Ok(Some(vec![Value::Activation(x)]));
            }
            if !(0.0..1.0).contains(&p) {
                return refuse(format!("dropout of everything, p = {p}"), "use a p below 1");
            }
            Ok(Some(converter.pointwise(x, "dropout", vec![("p", p.into())])))
        }
        "feature_dropout" | "alpha_dropout" | "feature_alpha_dropout" => {
            let x = converter.activation(call, "input")?;
            if converter.flag(call, "train", false) && number("p", 0.5)? != 0.0 {
                return refuse("dropout of whole channels, or to alpha", "use nn.Dropout, or export with model.eval()");
            }
            Ok(Some(vec![Value::Activation(x)]))
        }
        "mean" | "sum" => mean(converter, call, operation == "sum").map(Some),
        _ => Ok(None),
    }
}

/// Times a number, which is nothing where it is 1.
pub fn scaled(converter: &mut Converter, x: Activation, factor: f64) -> Vec<Value> {
    if factor == 1.0 {
        return vec![Value::Activation(x)];
    }
    converter.pointwise(x, "scale", vec![("factor", factor.into())])
}

fn square(converter: &mut Converter, x: Activation) -> Said<Vec<Value>> {
    let mut new = NewLayer::new("multiply", x.feed, x.layout.shape());
    new.inputs.push(x.feed);
    let feed = converter.add(new);
    Ok(converter.given(feed, x.layout))
}

/// The mean over dimensions, or as many times it as makes the sum.
fn mean(converter: &mut Converter, call: &Call, sum: bool) -> Said<Vec<Value>> {
    let x = converter.activation(call, "self")?;
    let dims = converter.ints(call, "dim")?.filter(|dims| !dims.is_empty());
    let dims = dims.unwrap_or_else(|| (0..x.layout.dims.len() as i64).collect());
    let dims = dims.iter().map(|&dim| x.layout.dim(dim)).collect::<Said<Vec<_>>>()?;
    let taken: Axis = dims.iter().flat_map(|&dim| x.layout.dims[dim].iter().copied()).collect();
    if taken.iter().any(|atom| atom.is_batch()) {
        return refuse("a mean over samples", "leave means over samples to the loss");
    }
    let keep = converter.flag(call, "keepdim", false);
    let count = size(&taken);
    // The axes of the dimensions by themselves, in the places that they have.
    let mut target: Vec<Axis> = Vec::new();
    for axis in &x.layout.axes {
        let mut part: Axis = Vec::new();
        for &atom in axis {
            if part.last().is_some_and(|last| taken.contains(last) != taken.contains(&atom)) {
                target.push(std::mem::take(&mut part));
            }
            part.push(atom);
        }
        target.push(part);
    }
    let mut feed = converter.lay(&x, &target)?;
    let gone = |axis: &Axis| axis.first().is_some_and(|atom| taken.contains(atom));
    let places: Vec<i64> = (1..).zip(&target).filter(|(_, axis)| gone(axis)).map(|(place, _)| place).collect();
    let axes: Vec<Axis> = target.into_iter().filter(|axis| !gone(axis)).collect();
    let mut place = 0;
    let mut layout = Layout { axes, dims: x.layout.dims };
    if keep {
        dims.iter().for_each(|&dim| layout.dims[dim].clear());
    } else {
        layout.dims.retain(|_| {
            place += 1;
            !dims.contains(&(place - 1))
        });
    }
    if !places.is_empty() {
        let dim = match places.as_slice() {
            [one] => Toml::from(*one),
            _ => places.into(),
        };
        feed = converter.add(NewLayer::new("mean", feed, layout.shape()).with("dim", dim));
    }
    if sum && count > 1 {
        feed = converter.add(NewLayer::new("scale", feed, layout.shape()).with("factor", count as f64));
    }
    if layout.dims.is_empty() {
        return refuse("nothing is left", DAMAGED);
    }
    Ok(converter.given(feed, layout))
}
