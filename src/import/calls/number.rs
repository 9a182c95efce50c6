//! Numbers that are computed of sizes.

use crate::import::converter::{Converter, Given};
use crate::import::graph::{Call, DAMAGED, Said, refuse};
use crate::import::schema::{Argument, SymFloat, Symbol};
use crate::import::value::Value;

/// A number, whether it is whole, and whether it comes from the number of samples.
#[derive(Clone, Copy)]
struct Operand {
    value: f64,
    whole: bool,
    of_batch: bool,
}

/// Says a size or what is computed of sizes.
pub fn say(converter: &mut Converter, call: &Call) -> Given {
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
