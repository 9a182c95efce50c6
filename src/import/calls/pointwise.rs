//! Activations, dropout, means over dimensions, and functions that take several layers (bounds, gates).

use toml::Value as Toml;

use super::shape::{Part, part};
use crate::import::converter::{Activation, Converter, Given, Value, activation_of};
use crate::import::graph::{Call, DAMAGED, Said, refuse};
use crate::import::layout::{Axis, Layout, size};
use crate::import::network::{Feed, NewLayer};

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

// Functions that take several layers, exact in value and in all derivatives.

/// Says bounds, gates, and activations that are made of others.
pub fn say_composed(converter: &mut Converter, call: &Call) -> Given {
    let number =
        |name, default| Ok::<_, crate::import::graph::Refusal>(converter.number(call, name)?.unwrap_or(default));
    let (least, most) = match call.operation() {
        "hardtanh" => (Some(number("min_val", -1.0)?), Some(number("max_val", 1.0)?)),
        "relu6" => (Some(0.0), Some(6.0)),
        "clamp" | "clamp_min" | "clamp_max" => (converter.number(call, "min")?, converter.number(call, "max")?),
        "celu" => {
            let alpha = number("alpha", 1.0)?;
            let x = converter.activation(call, "self")?;
            let inside = only(scaled(converter, x, 1.0 / alpha))?;
            let inside = only(converter.pointwise(inside, "elu", vec![("alpha", toml::Value::Float(1.0))]))?;
            return Ok(Some(scaled(converter, inside, alpha)));
        }
        "hardsigmoid" => {
            let x = converter.activation(call, "self")?;
            return Ok(Some(vec![Value::Activation(hard_sigmoid(converter, x)?)]));
        }
        "hardswish" => {
            let x = converter.activation(call, "self")?;
            let gate = hard_sigmoid(converter, x.clone())?;
            return product(converter, &x, gate).map(Some);
        }
        "glu" => {
            let x = converter.activation(call, "self")?;
            let dim = x.layout.dim(converter.int(call, "dim", -1)?)?;
            let whole = x.layout.sizes()[dim];
            let half = |start, end| Part::Range { start, end, step: 1 };
            let value = activation_of(&part(converter, call, &x, dim, half(0, whole / 2))?)?;
            let gate = activation_of(&part(converter, call, &x, dim, half(whole / 2, whole))?)?;
            let gate = only(converter.pointwise(gate, "sigmoid", Vec::new()))?;
            return product(converter, &value, gate).map(Some);
        }
        _ => return Ok(None),
    };
    let x = converter.activation(call, "self")?;
    Ok(Some(vec![Value::Activation(bounded(converter, x, least, most)?)]))
}

/// The one activation that a layer gives.
fn only(given: Vec<Value>) -> Said<Activation> {
    match given.first() {
        Some(value) => activation_of(value),
        None => refuse("nothing is given", crate::import::graph::DAMAGED),
    }
}

/// Two values of the same form, entry by entry.
fn product(converter: &mut Converter, one: &Activation, other: Activation) -> Said<Vec<Value>> {
    let mut new = NewLayer::new("multiply", one.feed, other.layout.shape());
    new.inputs.push(other.feed);
    let feed = converter.add(new);
    Ok(converter.given(feed, other.layout))
}

/// relu6(x + 3) / 6.
fn hard_sigmoid(converter: &mut Converter, x: Activation) -> Said<Activation> {
    let x = only(shifted(converter, x, 3.0)?)?;
    let x = bounded(converter, x, Some(0.0), Some(6.0))?;
    only(scaled(converter, x, 1.0 / 6.0))
}

/// Plus a number. What is added is an entry that stands beside one of the value's, which leaves no trace of it.
pub fn shifted(converter: &mut Converter, x: Activation, number: f64) -> Said<Vec<Value>> {
    if number == 0.0 {
        return Ok(vec![Value::Activation(x)]);
    }
    let shape = x.layout.shape();
    let Some(last) = shape.len().checked_sub(1) else {
        return refuse("a number is added to one number a sample", "keep its last axis");
    };
    let mut one = vec![1; shape.len()];
    let mut feed = x.feed;
    if shape != one {
        let index = vec!["0:1"; shape.len()].join(", ");
        feed = converter.add(NewLayer::new("slice", feed, one.clone()).with("index", index));
    }
    one[last] = 2;
    let pair = NewLayer::new("pad", feed, one.clone()).with("padding", vec![1, 0]).with("value", number);
    feed = converter.add(pair);
    one[last] = 1;
    let index = [vec![":"; last], vec!["0:1"]].concat().join(", ");
    feed = converter.add(NewLayer::new("slice", feed, one).with("index", index));
    let mut sum = NewLayer::new("add", x.feed, shape);
    sum.inputs.push(feed);
    let feed = converter.add(sum);
    Ok(converter.given(feed, x.layout))
}

/// Values cut at a least and a largest one. A relu where the least is 0; any other bound is an entry of a window beside
/// the value, of which the largest is taken.
fn bounded(converter: &mut Converter, x: Activation, least: Option<f64>, most: Option<f64>) -> Said<Activation> {
    if least.is_none() && most.is_none() || least.zip(most).is_some_and(|(least, most)| least > most) {
        return refuse("bounds that are tensors, or in the wrong order", "clamp between two numbers");
    }
    let shape = x.layout.shape();
    let mut feed = x.feed;
    match least.filter(|least| *least != f64::NEG_INFINITY) {
        Some(0.0) => feed = converter.add(NewLayer::new("relu", feed, shape.clone())),
        Some(least) => feed = largest(converter, feed, &shape, least),
        None => {}
    }
    if let Some(most) = most.filter(|most| *most != f64::INFINITY) {
        feed = converter.add(NewLayer::new("scale", feed, shape.clone()).with("factor", -1.0));
        feed = largest(converter, feed, &shape, -most);
        feed = converter.add(NewLayer::new("scale", feed, shape).with("factor", -1.0));
    }
    only(converter.given(feed, x.layout))
}

/// The larger of every value and a number.
fn largest(converter: &mut Converter, feed: Feed, shape: &[i64], number: f64) -> Feed {
    let count: i64 = shape.iter().product();
    let columns = vec![count, 1];
    let feed = converter.add(NewLayer::new("reshape", feed, columns.clone()).with("shape", columns.clone()));
    let pair = NewLayer::new("pad", feed, vec![count, 2]).with("padding", vec![1, 0]).with("value", number);
    let feed = converter.add(pair);
    let feed = converter.add(NewLayer::new("max_pool1d", feed, columns).with("kernel_size", 2));
    converter.add(NewLayer::new("reshape", feed, shape.to_vec()).with("shape", shape.to_vec()))
}
