//! Functions that take several layers, exact in value and in all derivatives.

use super::pointwise::scaled;
use super::shape::{Part, part};
use crate::import::converter::{Converter, Given, activation_of};
use crate::import::graph::{Call, Said, refuse};
use crate::import::network::{Feed, NewLayer};
use crate::import::value::{Activation, Value};

/// Says bounds, gates, and activations that are made of others.
pub fn say(converter: &mut Converter, call: &Call) -> Given {
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
