//! Sums, products and concatenations, of values that depend on the batch and with parameters.

use tch::Tensor;

use super::dense::holding;
use super::pointwise::{scaled, shifted};
use crate::import::converter::{Activation, Converter, Given, ParameterView, Value, activation_of};
use crate::import::graph::{Call, DAMAGED, Said, refuse};
use crate::import::layout::{Axis, Layout, size};
use crate::import::network::{Feed, NewLayer};

/// Says sums, differences, products, quotients and concatenations.
pub fn say(converter: &mut Converter, call: &Call) -> Given {
    match call.operation() {
        "add" | "sub" | "rsub" => {
            let alpha = converter.number(call, "alpha")?.unwrap_or(1.0);
            let [one, other] = match call.operation() {
                "add" => [1.0, alpha],
                "sub" => [1.0, -alpha],
                _ => [-alpha, 1.0],
            };
            sum(converter, call, one, other).map(Some)
        }
        "mul" => product(converter, call).map(Some),
        "div" => {
            let x = converter.activation(call, "self")?;
            match operand(converter, call, "other")? {
                Operand::Number(number) if number != 0.0 && call.argument("rounding_mode").is_none() => {
                    Ok(Some(scaled(converter, x, 1.0 / number)))
                }
                Operand::Constant => refuse("a division by a constant tensor", of_constant(&x)),
                Operand::Parameter(view) => refuse(
                    format!("a division by the parameter `{}`", view.name),
                    "hold its reciprocal in the parameter, and multiply",
                ),
                _ => refuse(
                    "a division by something else than a number",
                    "multiply; for a norm that is written out, use nn.LayerNorm, nn.RMSNorm or nn.GroupNorm",
                ),
            }
        }
        "cat" | "concat" | "concatenate" => concat(converter, call).map(Some),
        "stack" => stack(converter, call).map(Some),
        "pad" | "constant_pad_nd" => pad(converter, call).map(Some),
        _ => Ok(None),
    }
}

/// An operand of a sum or product.
enum Operand {
    Number(f64),
    Constant,
    Parameter(ParameterView),
    Activation(Activation),
}

fn operand(converter: &Converter, call: &Call, argument: &str) -> Said<Operand> {
    if let Some(number) = converter.number(call, argument)? {
        return Ok(Operand::Number(number));
    }
    Ok(match converter.value(call, argument)? {
        Value::Constant(tensor) => match single(tensor)? {
            Some(number) => Operand::Number(number),
            None => Operand::Constant,
        },
        Value::Parameter(view) => Operand::Parameter(view.clone()),
        other => Operand::Activation(activation_of(other)?),
    })
}

/// What would do in place of a constant tensor beside a value.
fn of_constant(x: &Activation) -> &'static str {
    match x.feed {
        Feed::Input => "normalise the data before they reach the model, and leave it out here",
        Feed::Layer(_) => {
            "register it as an nn.Parameter, which is then trained; buffers and constants of several values are in no layer"
        }
    }
}

/// The number that every entry of a tensor is, where they are all one and it changes no sizes beside others.
fn single(tensor: &Tensor) -> Said<Option<f64>> {
    if tensor.numel() == 0 {
        return Ok(None);
    }
    let flat = tensor.f_reshape([-1])?.f_to_kind(tch::Kind::Double)?;
    let first = flat.f_double_value(&[0])?;
    let same = flat.f_eq(first)?.f_all()?.f_int64_value(&[])? != 0;
    Ok(same.then_some(first))
}

fn sum(converter: &mut Converter, call: &Call, one: f64, other: f64) -> Said<Vec<Value>> {
    let operands = (operand(converter, call, "self")?, operand(converter, call, "other")?);
    let (x, factor, y, other) = match operands {
        (Operand::Activation(x), y) => (x, one, y, other),
        (y, Operand::Activation(x)) => (x, other, y, one),
        _ => return refuse("a sum that does not depend on the batch", "let every layer take the batch"),
    };
    match y {
        Operand::Number(number) => {
            grown(converter, call, &x)?;
            let x = as_activation(scaled(converter, x, factor))?;
            shifted(converter, x, other * number)
        }
        Operand::Constant => refuse("a constant tensor is added", of_constant(&x)),
        Operand::Parameter(view) if other == 1.0 => {
            let x = as_activation(scaled(converter, x, factor))?;
            with_parameter(converter, call, x, &view, "position_embedding")
        }
        Operand::Parameter(view) => refuse(
            format!("the parameter `{}` is added with a factor", view.name),
            "add it as it is, and scale the sum",
        ),
        Operand::Activation(y) => {
            let x = as_activation(scaled(converter, x, factor))?;
            let y = as_activation(scaled(converter, y, other))?;
            merged(converter, call, "add", &[x, y])
        }
    }
}

/// Refuses a constant that makes a value larger by broadcasting.
fn grown(converter: &Converter, call: &Call, x: &Activation) -> Said<()> {
    match converter.example_sizes(&call.name) {
        Some(sizes) if sizes != x.layout.sizes() => {
            refuse("a constant repeats the values", "let add and multiply broadcast instead")
        }
        _ => Ok(()),
    }
}

fn product(converter: &mut Converter, call: &Call) -> Said<Vec<Value>> {
    let operands = (operand(converter, call, "self")?, operand(converter, call, "other")?);
    let (x, y) = match operands {
        (Operand::Activation(x), y) | (y, Operand::Activation(x)) => (x, y),
        _ => return refuse("a product that does not depend on the batch", "use parameters as they are"),
    };
    match y {
        Operand::Number(number) => {
            grown(converter, call, &x)?;
            Ok(scaled(converter, x, number))
        }
        Operand::Constant => refuse("a product with a constant tensor", of_constant(&x)),
        Operand::Parameter(view) => with_parameter(converter, call, x, &view, "gain"),
        Operand::Activation(y) => merged(converter, call, "multiply", &[x, y]),
    }
}

fn as_activation(mut given: Vec<Value>) -> Said<Activation> {
    match given.pop() {
        Some(Value::Activation(x)) => Ok(x),
        _ => refuse("nothing is given", DAMAGED),
    }
}

/// A learned tensor added to a value or multiplied with it.
fn with_parameter(
    converter: &mut Converter,
    call: &Call,
    mut x: Activation,
    view: &ParameterView,
    kind: &'static str,
) -> Said<Vec<Value>> {
    let misfit = |x: &Activation| {
        refuse(
            format!(
                "the parameter `{}` of sizes {:?} does not broadcast to a value of {:?} as a layer does it",
                view.name,
                view.layout.shape(),
                x.layout.sizes()
            ),
            "give the parameter sizes that broadcast to [N, ..] as it is stored",
        )
    };
    let Some(more) = x.layout.dims.len().checked_sub(view.layout.dims.len()) else { return misfit(&x) };
    // The parts of x's axes that each of the parameter's own axes goes along.
    let mut along: Vec<Option<Axis>> = vec![None; view.layout.axes.len()];
    for (dim, axis) in view.layout.dims.iter().enumerate() {
        let expanded = |atom| !view.layout.axes.iter().any(|own| own.contains(atom));
        if axis.iter().all(expanded) {
            // One entry, or the same for all.
            if !axis.is_empty() && size(axis) != size(&x.layout.dims[more + dim]) {
                return misfit(&x);
            }
            continue;
        }
        let mut owners = Vec::new();
        let mut rest = axis.as_slice();
        while !rest.is_empty() {
            let owner = view.layout.axes.iter().position(|own| !own.is_empty() && rest.starts_with(own));
            let Some(owner) = owner else { return misfit(&x) };
            owners.push(owner);
            rest = &rest[view.layout.axes[owner].len()..];
        }
        if size(axis) != size(&x.layout.dims[more + dim]) {
            return misfit(&x);
        }
        let sizes: Vec<i64> = owners.iter().map(|&owner| size(&view.layout.axes[owner])).collect();
        let groups = x.layout.groups(more + dim, &sizes, &mut converter.atoms)?;
        for (owner, group) in owners.into_iter().zip(groups) {
            along[owner] = Some(group);
        }
    }
    let own = view.layout.shape();
    if own.is_empty() {
        return refuse(format!("the parameter `{}` is a single number", view.name), "give it the sizes [1]");
    }
    let fits = |axes: &[Axis]| {
        own.len() <= axes.len() + 1
            && along.iter().rev().zip(axes.iter().rev().map(Some).chain([None])).all(|(group, axis)| {
                match (group, axis) {
                    (None, _) => true,
                    (Some(group), Some(axis)) => group == axis,
                    (Some(_), None) => false,
                }
            })
    };
    let mut target = x.layout.axes.clone();
    if !fits(&target) {
        let taken: Vec<_> = along.iter().flatten().flatten().copied().collect();
        target = x.layout.axes_without(&taken);
        target.extend(along.iter().skip_while(|group| group.is_none()).map(|group| group.clone().unwrap_or_default()));
        while target.len() + 1 < own.len() {
            target.insert(0, Vec::new());
        }
    }
    if !fits(&target) {
        return misfit(&x);
    }
    let feed = converter.lay(&x, &target)?;
    let layout = Layout { axes: target, dims: x.layout.dims };
    let shape = layout.shape();
    let usual = if kind == "gain" { &shape[shape.len().saturating_sub(1)..] } else { &shape[..] };
    let mut new = NewLayer::new(kind, feed, shape.clone());
    if own != usual {
        new = new.with("shape", own);
    }
    let feed = converter.network.add_with(new, vec![holding("weight", view)], call)?;
    Ok(converter.given(feed, layout))
}

/// The order in which a value's dimensions lie in the network, without that of the samples; nothing where its axes are
/// not its dimensions.
fn order(layout: &Layout) -> Option<Vec<usize>> {
    let batch = layout.batch_dim()?;
    let mut order: Vec<usize> = (0..layout.dims.len()).filter(|&dim| dim != batch).collect();
    let flat = layout.axes.concat();
    let place = |dim: usize| layout.dims[dim].first().and_then(|atom| flat.iter().position(|own| own == atom));
    let whole = order.iter().all(|&dim| layout.axes.contains(&layout.dims[dim]) && !layout.dims[dim].is_empty());
    if whole && layout.axes.len() == order.len() {
        order.sort_by_key(|&dim| place(dim));
    }
    Some(order)
}

/// A sum or product of values, which broadcast.
fn merged(converter: &mut Converter, call: &Call, kind: &'static str, xs: &[Activation]) -> Said<Vec<Value>> {
    if xs.iter().all(|x| x.layout.same_form(&xs[0].layout)) {
        let mut new = NewLayer::new(kind, xs[0].feed, xs[0].layout.shape());
        new.inputs = xs.iter().map(|x| x.feed).collect();
        let feed = converter.network.add(new, call);
        return Ok(converter.given(feed, xs[0].layout.clone()));
    }
    let rank = xs.iter().map(|x| x.layout.dims.len()).max().unwrap_or(0);
    let mut xs = xs.to_vec();
    for x in &mut xs {
        while x.layout.dims.len() < rank {
            x.layout.dims.insert(0, Vec::new());
        }
    }
    aligned(converter, call, &xs, None, kind)
}

/// Merges values dimension by dimension: entry by entry, or one after the other along `joined`.
fn aligned(
    converter: &mut Converter,
    call: &Call,
    xs: &[Activation],
    joined: Option<usize>,
    kind: &'static str,
) -> Said<Vec<Value>> {
    let batch = xs[0].layout.batch_dim();
    let largest = xs.iter().max_by_key(|x| x.layout.sizes().iter().product::<i64>());
    let (Some(batch), Some(order)) = (batch, largest.and_then(|x| order(&x.layout))) else {
        return refuse("the samples are merged with another axis", "keep the samples in an axis of their own there");
    };
    if xs.iter().any(|x| x.layout.batch_dim() != Some(batch) || x.layout.dims.len() != xs[0].layout.dims.len()) {
        return refuse(
            "the samples are not the same axis of its inputs",
            "give all inputs the samples as the first axis",
        );
    }
    let mut feeds = Vec::new();
    for x in xs {
        let target: Vec<Axis> = order.iter().map(|&dim| x.layout.dims[dim].clone()).collect();
        feeds.push(converter.lay(x, &target)?);
    }
    let all: Vec<Vec<i64>> = xs.iter().map(|x| x.layout.sizes()).collect();
    let mut dims: Vec<Axis> = Vec::new();
    for dim in 0..all[0].len() {
        let sizes: Vec<i64> = all.iter().map(|sizes| sizes[dim]).collect();
        let largest = sizes.iter().copied().max().unwrap_or(1);
        let fits = |&size: &i64| size == largest || (joined.is_none() && size == 1);
        dims.push(if dim == batch {
            vec![converter.atoms.batch()]
        } else if joined == Some(dim) {
            converter.atoms.axis(sizes.iter().sum())
        } else if sizes.iter().all(fits) {
            converter.atoms.axis(largest)
        } else {
            return refuse(format!("sizes {all:?}"), DAMAGED);
        });
    }
    let axes: Vec<Axis> = order.iter().map(|&dim| dims[dim].clone()).collect();
    let layout = Layout { axes, dims };
    let mut new = NewLayer::new(kind, feeds[0], layout.shape());
    if let Some(joined) = joined {
        let Some(place) = order.iter().position(|&dim| dim == joined) else {
            return refuse("it joins samples", "a problem's network does the same to every sample");
        };
        new = new.with_unless("dim", place as i64 + 1, 1);
    }
    new.inputs = feeds;
    let feed = converter.network.add(new, call);
    Ok(converter.given(feed, layout))
}

fn concat(converter: &mut Converter, call: &Call) -> Said<Vec<Value>> {
    let names = converter.list(call, "tensors")?;
    let rank = |value: &Value| value.sizes().map_or(0, |sizes| sizes.len());
    let Some(first) = names.first() else { return refuse("nothing is joined", DAMAGED) };
    let dim = crate::import::layout::wrap(converter.int(call, "dim", 0)?, rank(converter.named(first)?))?;
    if let [one] = names.as_slice() {
        return Ok(vec![Value::Activation(activation_of(converter.named(one)?)?)]);
    }
    let (mut xs, mut before, mut behind, mut token) = (Vec::new(), Vec::new(), Vec::new(), None);
    for (place, name) in names.iter().enumerate() {
        match converter.named(name)? {
            Value::Parameter(view) if place == 0 => token = Some(view.clone()),
            Value::Constant(tensor) => {
                let tensor = tensor.shallow_clone();
                let Some(number) = single(&tensor)? else {
                    return refuse("a constant of several values is joined", "join values that depend on the batch");
                };
                let length = tensor.size().get(dim).copied().unwrap_or(0);
                if xs.is_empty() { before.push((length, number)) } else { behind.push((length, number)) }
            }
            Value::Parameter(view) => {
                return refuse(
                    format!("the parameter `{}` is put behind", view.name),
                    "put it before the sequence, once",
                );
            }
            other => xs.push(activation_of(other)?),
        }
    }
    if let (Some(token), [x], true) = (&token, xs.as_slice(), before.is_empty() && behind.is_empty()) {
        return class_token(converter, call, token, x, dim);
    }
    if token.is_some() || xs.is_empty() || before.len() + behind.len() + xs.len() != names.len() {
        return refuse("a parameter is joined with several values", "put it before one sequence [N, T, d]");
    }
    let value = match xs.as_slice() {
        [x] => x.clone(),
        _ => as_activation(aligned(converter, call, &xs, Some(dim), "concat")?)?,
    };
    let amounts = [before, behind];
    let numbers: Vec<f64> = amounts.iter().flatten().map(|(_, number)| *number).collect();
    match numbers.as_slice() {
        [] => Ok(vec![Value::Activation(value)]),
        [first, rest @ ..] if rest.iter().all(|number| number == first) => {
            let sum = |side: &[(i64, f64)]| side.iter().map(|(length, _)| length).sum::<i64>();
            let padding = [(dim, sum(&amounts[0]), sum(&amounts[1]))];
            padded(converter, call, &value, &padding, *first)
        }
        _ => refuse("constants of several values are joined", "pad with one number"),
    }
}

/// A parameter [1, 1, d] before a sequence [N, T, d].
fn class_token(
    converter: &mut Converter,
    call: &Call,
    token: &ParameterView,
    x: &Activation,
    dim: usize,
) -> Said<Vec<Value>> {
    let sizes = x.layout.sizes();
    let width = sizes.last().copied().unwrap_or(0);
    let batch = token.layout.dims.first().is_some_and(|axis| match axis.as_slice() {
        [atom] => atom.is_batch(),
        other => other.is_empty() && converter.atoms.batch().size == 1,
    });
    let fits = sizes.len() == 3
        && dim == 1
        && token.layout.shape() == [1, 1, width]
        && token.layout.sizes().get(1..) == Some(&[1, width]);
    if !fits || !batch {
        return refuse(
            format!("the parameter `{}` of sizes {:?} is put before {sizes:?}", token.name, token.layout.shape()),
            "let it have the sizes [1, 1, d], expand it to [N, 1, d], and put it before a sequence [N, T, d] at dim 1",
        );
    }
    let feed = converter.lay_as_seen(x)?;
    let shape = vec![sizes[1] + 1, width];
    let layout = Layout::batch_first(&shape, &mut converter.atoms);
    let new = NewLayer::new("class_token", feed, shape);
    let feed = converter.network.add_with(new, vec![holding("weight", token)], call)?;
    Ok(converter.given(feed, layout))
}

/// Values in a new dimension: each with an axis of size 1, joined.
fn stack(converter: &mut Converter, call: &Call) -> Said<Vec<Value>> {
    let names = converter.list(call, "tensors")?;
    let mut xs = names.iter().map(|name| activation_of(converter.named(name)?)).collect::<Said<Vec<_>>>()?;
    let rank = xs.first().map_or(0, |x| x.layout.dims.len());
    let dim = crate::import::layout::wrap(converter.int(call, "dim", 0)?, rank + 1)?;
    for x in &mut xs {
        if x.layout.dims.len() != rank {
            return refuse("values of different dimensions", DAMAGED);
        }
        x.layout.dims.insert(dim, Vec::new());
    }
    match xs.as_slice() {
        [] => refuse("nothing is joined", DAMAGED),
        [one] => Ok(vec![Value::Activation(one.clone())]),
        _ => aligned(converter, call, &xs, Some(dim), "concat"),
    }
}

fn pad(converter: &mut Converter, call: &Call) -> Said<Vec<Value>> {
    use crate::import::schema::Argument;
    let x = converter.activation(call, "self")?;
    if let Some(Argument::AsString(mode)) = call.argument("mode")
        && mode != "constant"
    {
        return refuse(format!("padding by `{mode}`"), "pad by a number");
    }
    let given = converter.ints(call, "pad")?.unwrap_or_default();
    let value = converter.number(call, "value")?.unwrap_or(0.0);
    let rank = x.layout.dims.len();
    if !given.len().is_multiple_of(2) || given.len() / 2 > rank || given.iter().any(|amount| amount.abs() > 1 << 31) {
        return refuse(format!("`pad` is {given:?}"), DAMAGED);
    }
    let amounts: Vec<_> =
        given.chunks_exact(2).enumerate().map(|(place, pair)| (rank - 1 - place, pair[0], pair[1])).collect();
    padded(converter, call, &x, &amounts, value)
}

/// A number before and behind dimensions.
fn padded(
    converter: &mut Converter,
    call: &Call,
    x: &Activation,
    amounts: &[(usize, i64, i64)],
    value: f64,
) -> Said<Vec<Value>> {
    let Some(order) = order(&x.layout) else {
        return refuse("the samples are merged with another axis", "keep the samples in an axis of their own there");
    };
    let target: Vec<Axis> = order.iter().map(|&dim| x.layout.dims[dim].clone()).collect();
    let mut sizes = x.layout.sizes();
    let mut padding = vec![0; 2 * order.len()];
    for &(dim, before, behind) in amounts.iter().filter(|(_, before, behind)| (*before, *behind) != (0, 0)) {
        let Some(place) = order.iter().position(|&own| own == dim) else {
            return refuse("it adds samples", "a problem's network does the same to every sample");
        };
        sizes[dim] += before + behind;
        if sizes[dim] < 1 {
            return refuse("nothing is left", DAMAGED);
        }
        let place = 2 * (order.len() - 1 - place);
        padding[place] = before;
        padding[place + 1] = behind;
    }
    while padding.len() > 2 && padding.ends_with(&[0, 0]) {
        padding.truncate(padding.len() - 2);
    }
    if padding.iter().all(|&amount| amount == 0) {
        return Ok(vec![Value::Activation(x.clone())]);
    }
    let feed = converter.lay(x, &target)?;
    let batch = converter.atoms.batch();
    let is_batch = |dim: usize| x.layout.dims[dim] == [batch];
    let dims: Vec<Axis> = (0..sizes.len())
        .map(|dim| if is_batch(dim) { vec![batch] } else { converter.atoms.axis(sizes[dim]) })
        .collect();
    let layout = Layout { axes: order.iter().map(|&dim| dims[dim].clone()).collect(), dims };
    let new = NewLayer::new("pad", feed, layout.shape()).with("padding", padding).with_unless("value", value, 0.0);
    let feed = converter.network.add(new, call);
    Ok(converter.given(feed, layout))
}
