//! What depends on neither batch nor parameters, computed here: tensors (masks, positions), and numbers made of sizes.

use tch::{Device, Kind, Tensor};

use crate::import::converter::{Converter, Given, Value};
use crate::import::graph::{Call, DAMAGED, Said, refuse};
use crate::import::schema::{Argument, SymFloat, Symbol};

/// The most entries that a constant may have.
const MOST: i64 = 1 << 26;

/// Computes a call whose tensors are all constants.
pub fn say(converter: &mut Converter, call: &Call) -> Given {
    let Some(kind) = call.outputs.first().and_then(|name| converter.program.metas.get(name)) else { return Ok(None) };
    let Some(kind) = crate::import::archive::kind(kind.dtype) else { return Ok(None) };
    if let Some(made) = made(converter, call, kind)? {
        return Ok(Some(vec![Value::Constant(made)]));
    }
    let mut constants = Vec::new();
    for (_, argument) in &call.arguments {
        let names = match argument {
            Argument::AsTensor(name) => vec![name.name.clone()],
            Argument::AsTensors(names) => names.iter().map(|name| name.name.clone()).collect(),
            _ => continue,
        };
        for name in names {
            match converter.values.get(&name) {
                Some(Value::Constant(tensor)) => constants.push(tensor.shallow_clone()),
                _ => return Ok(None),
            }
        }
    }
    let Some(first) = constants.first() else { return Ok(None) };
    Ok(computed(converter, call, first, &constants, kind)?.map(|tensor| vec![Value::Constant(tensor)]))
}

/// A tensor that is made of nothing.
fn made(converter: &Converter, call: &Call, kind: Kind) -> Said<Option<Tensor>> {
    let sizes = match call.operation() {
        "ones" | "zeros" | "full" | "new_zeros" | "new_ones" | "new_full" => {
            converter.ints(call, "size")?.unwrap_or_default()
        }
        "zeros_like" | "ones_like" | "full_like" => match call.argument("self") {
            Some(Argument::AsTensor(name)) => converter.named(&name.name)?.sizes().unwrap_or_default(),
            _ => return Ok(None),
        },
        "scalar_tensor" => Vec::new(),
        "arange" => {
            let bound = |name, default| {
                Ok::<_, crate::import::graph::Refusal>(converter.number(call, name)?.unwrap_or(default))
            };
            let (start, end, step) = (bound("start", 0.0)?, bound("end", 0.0)?, bound("step", 1.0)?);
            let count = ((end - start) / step).ceil();
            if !(0.0..=MOST as f64).contains(&count) {
                return refuse("a constant of too many entries", DAMAGED);
            }
            let count = Tensor::f_arange(count as i64, (Kind::Double, Device::Cpu))?;
            return Ok(Some((count * step + start).f_to_kind(kind)?));
        }
        _ => return Ok(None),
    };
    room(&sizes)?;
    let value = match call.operation() {
        "ones" | "ones_like" | "new_ones" => Some(1.0),
        "zeros" | "zeros_like" | "new_zeros" => Some(0.0),
        "scalar_tensor" => converter.number(call, "s")?,
        _ => converter.number(call, "fill_value")?,
    };
    let Some(value) = value else { return Ok(None) };
    Ok(Some(Tensor::f_full(sizes.as_slice(), value, (Kind::Double, Device::Cpu))?.f_to_kind(kind)?))
}

/// Refuses sizes of more entries than a constant may have.
fn room(sizes: &[i64]) -> Said<()> {
    let count = sizes.iter().try_fold(1i64, |count, &size| count.checked_mul(size).filter(|_| size >= 0));
    match count {
        Some(count) if count <= MOST => Ok(()),
        _ => refuse(
            format!("a constant of sizes {sizes:?}"),
            "compute masks and positions for the length that is exported",
        ),
    }
}

/// A tensor that is computed of others.
fn computed(
    converter: &Converter,
    call: &Call,
    first: &Tensor,
    constants: &[Tensor],
    kind: Kind,
) -> Said<Option<Tensor>> {
    let dim = |name| converter.int(call, name, 0);
    let list = |name| Ok::<_, crate::import::graph::Refusal>(converter.ints(call, name)?.unwrap_or_default());
    let other = match (constants.get(1), converter.number(call, "other")?) {
        (Some(other), _) => Some(other.shallow_clone()),
        (None, Some(number)) => Some(Tensor::from(number)),
        (None, None) => None,
    };
    if let Some(other) = &other {
        broadcast_room(first, other)?;
    }
    let alpha = converter.number(call, "alpha")?.unwrap_or(1.0);
    let result = match (call.operation(), &other) {
        ("eq", Some(other)) => first.f_eq_tensor(other)?,
        ("ne", Some(other)) => first.f_ne_tensor(other)?,
        ("lt", Some(other)) => first.f_lt_tensor(other)?,
        ("le", Some(other)) => first.f_le_tensor(other)?,
        ("gt", Some(other)) => first.f_gt_tensor(other)?,
        ("ge", Some(other)) => first.f_ge_tensor(other)?,
        ("logical_and" | "bitwise_and" | "__and__", Some(other)) => first.f_logical_and(other)?,
        ("logical_or" | "bitwise_or" | "__or__", Some(other)) => first.f_logical_or(other)?,
        ("add", Some(other)) => first.f_add(&(other * alpha))?,
        ("sub", Some(other)) => first.f_sub(&(other * alpha))?,
        ("rsub", Some(other)) => other.f_sub(first)?,
        ("mul", Some(other)) => first.f_mul(other)?,
        ("div", Some(other)) => first.f_div(other)?,
        ("neg", _) => first.f_neg()?,
        ("logical_not", _) => first.f_logical_not()?,
        ("bitwise_not", _) if first.kind() == Kind::Bool => first.f_logical_not()?,
        ("tril", _) => first.f_tril(converter.int(call, "diagonal", 0)?)?,
        ("triu", _) => first.f_triu(converter.int(call, "diagonal", 0)?)?,
        ("alias" | "clone" | "detach" | "contiguous" | "lift_fresh_copy" | "to" | "_to_copy" | "type_as", _) => {
            first.shallow_clone()
        }
        ("masked_fill", _) => {
            let (Some(mask), Some(value)) = (constants.get(1), converter.number(call, "value")?) else {
                return Ok(None);
            };
            broadcast_room(first, mask)?;
            first.f_masked_fill(&mask.f_to_kind(Kind::Bool)?, value)?
        }
        ("where", _) => {
            let side = |name: &str, tensor: Option<&Tensor>| match converter.number(call, name)? {
                Some(number) => Ok::<_, crate::import::graph::Refusal>(Some(Tensor::from(number).f_to_kind(kind)?)),
                None => Ok(tensor.map(Tensor::shallow_clone)),
            };
            let one = side("self", constants.get(1))?;
            let other = side("other", constants.last())?;
            let (Some(one), Some(other)) = (one, other) else { return Ok(None) };
            broadcast_room(first, &one)?;
            one.f_to_kind(kind)?.f_where_self(&first.f_to_kind(Kind::Bool)?, &other.f_to_kind(kind)?)?
        }
        ("unsqueeze", _) => first.f_unsqueeze(dim("dim")?)?,
        ("squeeze", _) => match converter.ints(call, "dim")? {
            Some(dims) => {
                dims.iter().rev().try_fold(first.shallow_clone(), |tensor, &dim| tensor.f_squeeze_dim(dim))?
            }
            None => first.f_squeeze()?,
        },
        ("view" | "reshape", _) => {
            let name = if call.operation() == "view" { "size" } else { "shape" };
            first.f_reshape(list(name)?.as_slice())?
        }
        ("expand", _) => {
            let sizes = list("size")?;
            let known: Vec<i64> = sizes.iter().map(|&size| size.max(1)).collect();
            room(&known)?;
            first.f_expand(sizes.as_slice(), false)?
        }
        ("slice", _) => {
            let (start, end) = (converter.int(call, "start", 0)?, converter.int(call, "end", i64::MAX)?);
            first.f_slice(converter.int(call, "dim", 0)?, start, end, converter.int(call, "step", 1)?)?
        }
        ("select", _) => first.f_select(dim("dim")?, dim("index")?)?,
        ("transpose", _) => first.f_transpose(dim("dim0")?, dim("dim1")?)?,
        ("permute", _) => first.f_permute(list("dims")?.as_slice())?,
        ("t", _) => first.f_tr()?,
        ("mT", _) => first.f_transpose(-2, -1)?,
        ("cat", _) => Tensor::f_cat(constants, dim("dim")?)?,
        _ => return Ok(None),
    };
    room(&result.size())?;
    Ok(Some(result.f_to_kind(kind)?))
}

/// Refuses operands whose common shape is too large.
fn broadcast_room(one: &Tensor, other: &Tensor) -> Said<()> {
    let (one, other) = (one.size(), other.size());
    let rank = one.len().max(other.len());
    let at = |sizes: &[i64], place: usize| (place + sizes.len()).checked_sub(rank).map_or(1, |place| sizes[place]);
    let common: Vec<i64> = (0..rank).map(|place| at(&one, place).max(at(&other, place))).collect();
    room(&common)
}

// Numbers that are computed of sizes.

/// A number, whether it is whole, and whether it comes from the number of samples.
#[derive(Clone, Copy)]
struct Operand {
    value: f64,
    whole: bool,
    of_batch: bool,
}

/// Says a size or what is computed of sizes.
pub fn say_number(converter: &mut Converter, call: &Call) -> Given {
    let operation = call.operation();
    if operation == "sym_size" {
        let dim = converter.int(call, "dim", 0)?;
        let of_batch = match converter.value(call, "self")? {
            Value::Activation(x) => x.layout.dims[x.layout.dim(dim)?].iter().any(|atom| atom.is_batch()),
            _ => false,
        };
        let sizes = converter.value(call, "self")?.sizes().unwrap_or_default();
        let dim = crate::import::layout::wrap(dim, sizes.len())?;
        return Ok(Some(vec![Value::Size { value: sizes[dim], of_batch }]));
    }
    let names = match operation {
        "sym_float" | "torch.sym_float" => ["a", ""],
        _ if operation.starts_with("_operator.") => ["a", "b"],
        _ if call.target.starts_with("math.") || call.target.starts_with("torch.sym_") => ["a", ""],
        _ => return Ok(None),
    };
    let operands = names.iter().filter(|name| !name.is_empty()).map(|name| operand(converter, call, name));
    let operands: Vec<Operand> = operands.collect::<Said<_>>()?;
    let (a, b) = (operands[0], operands.get(1).copied());
    let (whole, of_batch) = (operands.iter().all(|one| one.whole), operands.iter().any(|one| one.of_batch));
    let (value, whole) = match (operation.rsplit('.').next().unwrap_or(operation), b) {
        ("add", Some(b)) => (a.value + b.value, whole),
        ("sub", Some(b)) => (a.value - b.value, whole),
        ("mul", Some(b)) => (a.value * b.value, whole),
        ("floordiv", Some(b)) if b.value != 0.0 => ((a.value / b.value).floor(), whole),
        ("mod", Some(b)) if b.value != 0.0 => (a.value.rem_euclid(b.value), whole),
        ("truediv", Some(b)) if b.value != 0.0 => (a.value / b.value, false),
        ("pow", Some(b)) => (a.value.powf(b.value), whole && b.value >= 0.0),
        ("neg", _) => (-a.value, whole),
        ("sym_float", _) => (a.value, false),
        ("sqrt" | "sym_sqrt" | "_sym_sqrt", _) => (a.value.sqrt(), false),
        _ => return Ok(None),
    };
    if value.is_nan() || value.abs() > 9e15 {
        return refuse("a size that no tensor has", DAMAGED);
    }
    Ok(Some(vec![match (whole, of_batch) {
        (true, _) => Value::Size { value: value as i64, of_batch },
        (false, false) => Value::Number(value),
        (false, true) => Value::Unsaid {
            why: "it computes with the number of samples",
            instead: "a problem's network does the same to every sample, whatever their number",
        },
    }]))
}

fn operand(converter: &Converter, call: &Call, name: &str) -> Said<Operand> {
    let known = |name: &str| match converter.named(name)? {
        Value::Size { value, of_batch } => Ok(Operand { value: *value as f64, whole: true, of_batch: *of_batch }),
        Value::Number(value) => Ok(Operand { value: *value, whole: false, of_batch: false }),
        _ => refuse(format!("`{name}` is no size"), DAMAGED),
    };
    // The names of Python's operators differ between versions; the place decides where the name is another.
    let by_place = call.arguments.get(usize::from(name == "b")).map(|(_, argument)| argument);
    match call.argument(name).or(by_place) {
        Some(Argument::AsSymInt(Symbol::AsName(name)) | Argument::AsSymFloat(SymFloat::AsName(name))) => known(name),
        Some(Argument::AsInt(value) | Argument::AsSymInt(Symbol::AsInt(value))) => {
            Ok(Operand { value: *value as f64, whole: true, of_batch: false })
        }
        Some(Argument::AsFloat(value) | Argument::AsSymFloat(SymFloat::AsFloat(value))) => {
            Ok(Operand { value: *value, whole: false, of_batch: false })
        }
        _ => refuse(format!("`{name}` is no size"), DAMAGED),
    }
}
