//! Calls that move entries and compute nothing: views, transposes, slices. They are followed; slices alone are layers.

use crate::import::converter::{Activation, Converter, Given, ParameterView, Value};
use crate::import::graph::{Call, DAMAGED, Said, refuse};
use crate::import::layout::{Atoms, Axis, Layout, size, wrap};
use crate::import::network::{Feed, NewLayer};
use crate::import::schema::Argument;

/// Says a call that moves entries.
pub fn say(converter: &mut Converter, call: &Call) -> Given {
    let Some(Argument::AsTensor(name)) = call.argument("self") else { return Ok(None) };
    let operation = call.operation();
    if let "to" | "_to_copy" | "type_as" | "float" | "double" = operation {
        return converted(converter, call, &name.name).map(Some);
    }
    let known = matches!(
        operation,
        "view"
            | "reshape"
            | "_unsafe_view"
            | "flatten"
            | "unflatten"
            | "unsqueeze"
            | "squeeze"
            | "permute"
            | "transpose"
            | "t"
            | "mT"
            | "movedim"
            | "numpy_T"
            | "contiguous"
            | "clone"
            | "alias"
            | "expand"
            | "expand_as"
            | "select"
            | "slice"
            | "narrow"
            | "split"
            | "split_with_sizes"
            | "chunk"
            | "unbind"
            | "swapaxes"
    );
    if !known {
        return Ok(None);
    }
    match converter.named(&name.name)? {
        Value::Activation(x) => {
            let x = x.clone();
            match operation {
                "select" | "slice" | "narrow" | "split" | "split_with_sizes" | "chunk" | "unbind" => {
                    parts(converter, call, x)
                }
                _ => moved(converter, call, x),
            }
        }
        Value::Parameter(view) => {
            let view = view.clone();
            parameter(converter, call, view).map(|value| Some(vec![value]))
        }
        _ => Ok(None),
    }
}

/// A change of type, which is nothing where floats stay floats of the model's width.
fn converted(converter: &mut Converter, call: &Call, name: &str) -> Said<Vec<Value>> {
    let kind = |name: &str| converter.program.metas.get(name).and_then(|meta| crate::import::archive::kind(meta.dtype));
    let (from, to) = (kind(name), kind(&call.name));
    let float = |kind: Option<tch::Kind>| kind.is_some_and(crate::import::converter::is_float);
    let value = converter.named(name)?;
    let value = match value {
        Value::Activation(x) => Value::Activation(x.clone()),
        Value::Parameter(view) => Value::Parameter(view.clone()),
        Value::Scores(scores) => Value::Scores(scores.clone()),
        Value::Constant(tensor) => Value::Constant(tensor.shallow_clone()),
        _ => return refuse("it is no tensor", DAMAGED),
    };
    match (float(from), float(to)) {
        (false, false) => Ok(vec![value]),
        (true, true) if from == to => Ok(vec![value]),
        (false, true) if matches!(&value, Value::Activation(x) if x.feed == Feed::Input) => {
            converter.integer_input = false;
            Ok(vec![value])
        }
        _ => refuse(
            format!("it turns {} into {}", called(from), called(to)),
            "export the model in one type, without autocast; the network is computed in the type that extract is given",
        ),
    }
}

/// A type as an error calls it.
fn called(kind: Option<tch::Kind>) -> String {
    kind.map_or("another type".to_owned(), |kind| format!("{kind:?}"))
}

/// The sizes that a view is to have, the open one filled in.
fn open_size(sizes: &[i64], count: i64) -> Said<Vec<i64>> {
    let known: i64 = sizes
        .iter()
        .filter(|&&size| size != -1)
        .try_fold(1i64, |product, &size| product.checked_mul(size))
        .unwrap_or(0);
    let open = sizes.iter().filter(|&&size| size == -1).count();
    if known < 1 || open > 1 || count % known != 0 || sizes.iter().any(|&size| size < -1) {
        return refuse(format!("a view of {count} entries as {sizes:?}"), DAMAGED);
    }
    Ok(sizes.iter().map(|&size| if size == -1 { count / known } else { size }).collect())
}

/// A layout after a call that only changes how its dimensions are seen; nothing where a view does not nest, with the sizes
/// that it is to have.
fn seen(converter: &mut Converter, call: &Call, layout: &mut Layout) -> Said<Result<(), Vec<i64>>> {
    let count = layout.sizes().iter().product();
    let rank = layout.dims.len();
    let dims = |name: &str| converter.ints(call, name);
    match call.operation() {
        "contiguous" | "clone" | "alias" => {}
        "view" | "reshape" | "_unsafe_view" | "flatten" | "unflatten" => {
            let sizes = layout.sizes();
            let wanted = match call.operation() {
                "flatten" => {
                    let first = layout.dim(converter.int(call, "start_dim", 0)?)?;
                    let last = layout.dim(converter.int(call, "end_dim", -1)?)?;
                    if first > last {
                        return refuse("dims in the wrong order", DAMAGED);
                    }
                    let merged = sizes[first..=last].iter().product();
                    [&sizes[..first], &[merged], &sizes[last + 1..]].concat()
                }
                "unflatten" => {
                    let dim = layout.dim(converter.int(call, "dim", 0)?)?;
                    let inner = open_size(&dims("sizes")?.unwrap_or_default(), sizes[dim])?;
                    [&sizes[..dim], &inner, &sizes[dim + 1..]].concat()
                }
                operation => {
                    let name = if operation == "reshape" { "shape" } else { "size" };
                    let Some(wanted) = dims(name)? else {
                        return refuse("a view of another type", "view shapes alone");
                    };
                    open_size(&wanted, count)?
                }
            };
            if wanted.iter().product::<i64>() != count {
                return refuse(format!("a view of {sizes:?} as {wanted:?}"), DAMAGED);
            }
            if !layout.view(&wanted, &mut converter.atoms)? {
                return Ok(Err(wanted));
            }
        }
        "unsqueeze" => {
            let dim = wrap(converter.int(call, "dim", 0)?, rank + 1)?;
            layout.dims.insert(dim, Vec::new());
        }
        "squeeze" => {
            let chosen = match dims("dim")? {
                Some(chosen) => chosen.iter().map(|&dim| layout.dim(dim)).collect::<Said<Vec<_>>>()?,
                None => (0..rank).collect(),
            };
            let mut place = 0;
            layout.dims.retain(|axis| {
                place += 1;
                !(axis.is_empty() && chosen.contains(&(place - 1)))
            });
        }
        "permute" => {
            let order = dims("dims")?.unwrap_or_default();
            let order = order.iter().map(|&dim| layout.dim(dim)).collect::<Said<Vec<_>>>()?;
            let mut sorted = order.clone();
            sorted.sort_unstable();
            if sorted != (0..rank).collect::<Vec<_>>() {
                return refuse("no permutation", DAMAGED);
            }
            layout.dims = order.iter().map(|&dim| layout.dims[dim].clone()).collect();
        }
        "transpose" | "swapaxes" => {
            let names = if call.argument("dim0").is_some() { ["dim0", "dim1"] } else { ["axis0", "axis1"] };
            let [one, other] = [converter.int(call, names[0], 0)?, converter.int(call, names[1], 0)?];
            let (one, other) = (layout.dim(one)?, layout.dim(other)?);
            layout.dims.swap(one, other);
        }
        "t" | "numpy_T" => layout.dims.reverse(),
        "mT" if rank > 1 => layout.dims.swap(rank - 2, rank - 1),
        "movedim" => {
            let source = layout.dim(dims("source")?.and_then(|dims| dims.first().copied()).unwrap_or(0))?;
            let target = layout.dim(dims("destination")?.and_then(|dims| dims.first().copied()).unwrap_or(0))?;
            if dims("source")?.is_some_and(|dims| dims.len() > 1) {
                return refuse("it moves several dimensions", "use permute");
            }
            let axis = layout.dims.remove(source);
            layout.dims.insert(target, axis);
        }
        _ => return refuse("it is not known", DAMAGED),
    }
    Ok(Ok(()))
}

/// A call that changes how an activation is seen.
fn moved(converter: &mut Converter, call: &Call, mut x: Activation) -> Given {
    if let "expand" | "expand_as" = call.operation() {
        let wanted = converter.ints(call, "size")?.or_else(|| converter.example_sizes(&call.name)).unwrap_or_default();
        let sizes = x.layout.sizes();
        let Some(more) = wanted.len().checked_sub(sizes.len()) else { return refuse("fewer dims", DAMAGED) };
        let same = wanted[more..].iter().zip(&sizes).all(|(wanted, size)| *wanted == -1 || wanted == size);
        if !same || wanted[..more].iter().any(|&size| size != 1) {
            return refuse("it repeats values that depend on the batch", "let add and multiply broadcast instead");
        }
        for _ in 0..more {
            x.layout.dims.insert(0, Vec::new());
        }
        return Ok(Some(vec![Value::Activation(x)]));
    }
    let before = x.layout.clone();
    if let Err(wanted) = seen(converter, call, &mut x.layout)? {
        // Row-major in PyTorch's order, then cut anew: a reshape that is more than a view of the axes.
        x.layout = before;
        let feed = converter.lay_as_seen(&x)?;
        if wanted.first() != Some(&converter.atoms.batch().size) {
            return refuse("it cuts the batch axis", "keep the samples in an axis of their own");
        }
        let shape = &wanted[1..];
        let layout = Layout::batch_first(shape, &mut converter.atoms);
        let new = NewLayer::new("reshape", feed, shape.to_vec()).with("shape", shape.to_vec());
        let feed = converter.move_once(new, call);
        return Ok(Some(converter.given(feed, layout)));
    }
    x.shaped_by = converter.place;
    Ok(Some(vec![Value::Activation(x)]))
}

/// A call that changes how a parameter is seen.
fn parameter(converter: &mut Converter, call: &Call, mut view: ParameterView) -> Said<Value> {
    let part = |view: &ParameterView| {
        refuse(
            format!("it takes a part of the parameter `{}`, of sizes {:?}", view.name, view.layout.shape()),
            "use parameters whole: one for each layer, and export with an input as long as position parameters are",
        )
    };
    match call.operation() {
        "expand" | "expand_as" => {
            let wanted =
                converter.ints(call, "size")?.or_else(|| converter.example_sizes(&call.name)).unwrap_or_default();
            let batch = converter.atoms.batch();
            let of_batch = sized_by_batch(converter, call);
            let Some(more) = wanted.len().checked_sub(view.layout.dims.len()) else {
                return refuse("fewer dims", DAMAGED);
            };
            for _ in 0..more {
                view.layout.dims.insert(0, Vec::new());
            }
            for (place, (axis, &size)) in view.layout.dims.iter_mut().zip(&wanted).enumerate() {
                if axis.is_empty() && size > 0 && (size != 1 || of_batch.contains(&place)) {
                    let is_batch =
                        of_batch.contains(&place) || (of_batch.is_empty() && place == 0 && size == batch.size);
                    *axis = if is_batch { vec![batch] } else { converter.atoms.axis(size) };
                }
            }
            Ok(Value::Parameter(view))
        }
        "select" => {
            let dim = view.layout.dim(converter.int(call, "dim", 0)?)?;
            if !view.layout.dims[dim].is_empty() {
                return part(&view);
            }
            view.layout.dims.remove(dim);
            Ok(Value::Parameter(view))
        }
        "slice" => {
            let dim = view.layout.dim(converter.int(call, "dim", 0)?)?;
            let size = size(&view.layout.dims[dim]);
            match range(converter, call, size)? {
                (0, end, 1) if end == size => Ok(Value::Parameter(view)),
                _ => part(&view),
            }
        }
        "narrow" | "split" | "split_with_sizes" | "chunk" | "unbind" => part(&view),
        _ => match seen(converter, call, &mut view.layout)? {
            Ok(()) => Ok(Value::Parameter(view)),
            Err(wanted) => refuse(
                format!("it reshapes the parameter `{}` to {wanted:?}", view.name),
                "give the parameter the shape that it is used in",
            ),
        },
    }
}

/// The places of an argument `size` that name the number of samples.
fn sized_by_batch(converter: &Converter, call: &Call) -> Vec<usize> {
    use crate::import::schema::Symbol;
    let Some(Argument::AsSymInts(symbols)) = call.argument("size") else { return Vec::new() };
    let of_batch = |symbol: &Symbol| match symbol {
        Symbol::AsName(name) => matches!(converter.values.get(name), Some(Value::Size { of_batch: true, .. })),
        Symbol::AsInt(_) => false,
    };
    symbols.iter().enumerate().filter(|(_, symbol)| of_batch(symbol)).map(|(place, _)| place).collect()
}

/// Start, end and step of a slice of a dimension of this size.
fn range(converter: &Converter, call: &Call, size: i64) -> Said<(i64, i64, i64)> {
    let clamp = |bound: i64| if bound < 0 { (bound.saturating_add(size)).max(0) } else { bound.min(size) };
    let (start, end) = (clamp(converter.int(call, "start", 0)?), clamp(converter.int(call, "end", i64::MAX)?));
    let step = converter.int(call, "step", 1)?;
    if step < 1 || start >= end {
        return refuse("an empty slice", "leave it out");
    }
    Ok((start, end, step))
}

/// A call that takes parts of a dimension.
fn parts(converter: &mut Converter, call: &Call, x: Activation) -> Given {
    let dim = x.layout.dim(converter.int(call, "dim", 0)?)?;
    let whole = size(&x.layout.dims[dim]);
    let lengths = match call.operation() {
        "select" => {
            let index = wrap(converter.int(call, "index", 0)?, usize::try_from(whole).unwrap_or(0))? as i64;
            return Ok(Some(vec![part(converter, call, &x, dim, Part::Index(index))?]));
        }
        "unbind" => {
            let parts = (0..whole).map(|index| part(converter, call, &x, dim, Part::Index(index)));
            return parts.collect::<Said<_>>().map(Some);
        }
        "slice" => {
            let (start, end, step) = range(converter, call, whole)?;
            return Ok(Some(vec![part(converter, call, &x, dim, Part::Range { start, end, step })?]));
        }
        "narrow" => {
            let start = converter.int(call, "start", 0)?;
            let end = start.saturating_add(converter.int(call, "length", 0)?);
            if start < 0 || end > whole || start >= end {
                return refuse("a part outside of the dimension", DAMAGED);
            }
            return Ok(Some(vec![part(converter, call, &x, dim, Part::Range { start, end, step: 1 })?]));
        }
        "chunk" => {
            let chunks = converter.int(call, "chunks", 1)?.clamp(1, 1 << 31);
            vec![(whole + chunks - 1) / chunks; usize::try_from(chunks.min(whole)).unwrap_or(0)]
        }
        _ => {
            let given =
                ["split_size", "split_sizes"].into_iter().find_map(|name| converter.ints(call, name).transpose());
            match given.transpose()?.unwrap_or_default().as_slice() {
                &[length] if (1..=1 << 31).contains(&length) && call.argument("split_size").is_some() => {
                    vec![length; usize::try_from((whole + length - 1) / length).unwrap_or(0)]
                }
                lengths if !lengths.is_empty() && lengths.iter().all(|&length| length > 0) => lengths.to_vec(),
                _ => return refuse("parts without lengths", DAMAGED),
            }
        }
    };
    let mut start = 0;
    let mut given = Vec::new();
    for length in lengths {
        let end = start + length.min(whole - start);
        if end > start {
            given.push(part(converter, call, &x, dim, Part::Range { start, end, step: 1 })?);
        }
        start = end;
    }
    Ok(Some(given))
}

/// What is taken of a dimension.
#[derive(Clone, Copy)]
pub enum Part {
    /// One place; the dimension goes.
    Index(i64),
    /// Places from a start, before an end.
    Range { start: i64, end: i64, step: i64 },
}

/// A part of a dimension: a slice layer, where it is not all of it.
///
/// # Errors
/// Where the dimension is that of the samples.
pub fn part(converter: &mut Converter, call: &Call, x: &Activation, dim: usize, part: Part) -> Said<Value> {
    let mut x = x.clone();
    let taken = x.layout.dims[dim].clone();
    let whole = size(&taken);
    if taken.iter().any(|atom| atom.is_batch()) {
        return match part {
            Part::Range { start: 0, end, step: 1 } if end == whole => Ok(Value::Activation(x)),
            _ => refuse("it takes a part of the samples", "a problem's network does the same to every sample"),
        };
    }
    let (start, end, step) = match part {
        Part::Index(index) => (index, index + 1, 1),
        Part::Range { start, end, step } => (start, end, step),
    };
    if whole == 1 || (start == 0 && end == whole && step == 1) {
        if let Part::Index(_) = part {
            x.layout.dims.remove(dim);
        }
        return Ok(Value::Activation(x));
    }
    let found = x.layout.axes.iter().position(|axis| axis.starts_with(&taken));
    let outer = found.filter(|&place| step == 1 || x.layout.axes[place].len() == taken.len());
    let (place, inner): (usize, Axis) = match outer {
        // The outermost part of an axis: an interval of it.
        Some(place) => (place, x.layout.axes[place][taken.len()..].to_vec()),
        None => {
            let mut target = Vec::new();
            for axis in &x.layout.axes {
                let own = axis.iter().position(|atom| *atom == taken[0]);
                match own.filter(|&own| axis[own..].starts_with(&taken)) {
                    Some(own) => {
                        let around = [&axis[..own], &taken, &axis[own + taken.len()..]];
                        target.extend(around.into_iter().filter(|axis| !axis.is_empty()).map(<[_]>::to_vec));
                    }
                    None => target.push(axis.clone()),
                }
            }
            if !target.contains(&taken) {
                target = x.layout.axes_without(&taken);
                target.push(taken.clone());
            }
            let feed = converter.lay(&x, &target)?;
            x = Activation { feed, layout: Layout { axes: target, dims: x.layout.dims }, shaped_by: x.shaped_by };
            (x.layout.axes.iter().position(|axis| *axis == taken).unwrap_or(0), Vec::new())
        }
    };
    let unit = size(&inner);
    let dropped = matches!(part, Part::Index(_)) && unit == 1;
    let index = match (dropped, step) {
        (true, _) => start.to_string(),
        (false, 1) => format!("{}:{}", start * unit, end * unit),
        (false, step) => format!("{start}:{end}:{step}"),
    };
    let mut texts = vec![":".to_owned(); place];
    texts.push(index);
    let count = (end - start + step - 1) / step;
    let outer = if let Part::Index(_) = part { Vec::new() } else { converter.atoms.axis(count) };
    if dropped {
        x.layout.axes.remove(place);
    } else {
        x.layout.axes[place] = [outer.clone(), inner].concat();
    }
    match part {
        Part::Index(_) => {
            x.layout.dims.remove(dim);
        }
        Part::Range { .. } => x.layout.dims[dim] = outer,
    }
    let new = NewLayer::new("slice", x.feed, x.layout.shape()).with("index", texts.join(", "));
    x.feed = converter.move_once(new, call);
    x.shaped_by = converter.place;
    Ok(Value::Activation(x))
}

/// The rows of a table that all of its places in order choose: the parameter itself, seen in the shape of the places.
pub fn whole_table(places: &tch::Tensor, view: &ParameterView, atoms: &mut Atoms) -> Said<Option<ParameterView>> {
    let sizes = places.size();
    let [rows, ..] = view.layout.dims.as_slice() else { return Ok(None) };
    let count = size(rows);
    let all = tch::Tensor::f_arange(count, (tch::Kind::Int64, tch::Device::Cpu))?;
    let flat = places.f_reshape([-1])?.f_to_kind(tch::Kind::Int64)?;
    if flat.size() != [count] || !flat.f_equal(&all)? {
        return Ok(None);
    }
    let mut view = view.clone();
    let width = view.layout.sizes()[1..].to_vec();
    let wanted = [sizes, width].concat();
    Ok(view.layout.view(&wanted, atoms)?.then_some(view))
}
