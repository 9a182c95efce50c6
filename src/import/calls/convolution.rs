//! Convolutions, transposed convolutions, pooling and upsampling.

use super::dense::{holding, optional, whole};
use crate::import::converter::{Activation, Converter, Given, Value};
use crate::import::graph::{Call, DAMAGED, Said, refuse};
use crate::import::layout::Layout;
use crate::import::network::{Feed, NewLayer};
use crate::import::schema::Argument;

const PLAIN: [&str; 3] = ["conv1d", "conv2d", "conv3d"];
const TRANSPOSED: [&str; 3] = ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"];

/// Says convolutions.
pub fn say(converter: &mut Converter, call: &Call) -> Given {
    let operation = call.operation();
    let (dims, is_transposed) = match operation {
        "convolution" => {
            let x = converter.activation(call, "input")?;
            (x.layout.dims.len().wrapping_sub(2), converter.flag(call, "transposed", false))
        }
        _ => {
            let place = |list: [&str; 3]| list.iter().position(|name| *name == operation).map(|place| place + 1);
            match (place(PLAIN), place(TRANSPOSED)) {
                (Some(dims), _) => (dims, false),
                (_, Some(dims)) => (dims, true),
                _ => return Ok(None),
            }
        }
    };
    if !(1..=3).contains(&dims) {
        return refuse(format!("a convolution of {dims} dimensions"), DAMAGED);
    }
    convolution(converter, call, dims, is_transposed).map(Some)
}

fn convolution(
    converter: &mut Converter,
    call: &Call,
    dims: usize,
    transposed: bool,
) -> Said<Vec<crate::import::converter::Value>> {
    let x = converter.activation(call, "input")?;
    let weight = whole(converter, call, "weight")?;
    let bias = optional(converter, call, "bias")?;
    let sizes = x.layout.sizes();
    let kernel = weight.layout.sizes();
    if kernel.len() != dims + 2 || sizes.len() != dims + 2 {
        return refuse(format!("an input {sizes:?} and a weight {kernel:?}"), "give it a batch [N, channels, ..]");
    }
    let options = Options {
        kernel: kernel[2..].to_vec(),
        stride: list(converter, call, "stride", dims, 1)?,
        dilation: list(converter, call, "dilation", dims, 1)?,
        padding: Vec::new(),
        added: list(converter, call, "output_padding", dims, 0)?,
    };
    let groups = converter.int(call, "groups", 1)?;
    let (padding, behind) = padding(converter, call, dims, &options)?;
    let options = Options { padding, ..options };
    let channels = if transposed { kernel[1].checked_mul(groups).unwrap_or(0) } else { kernel[0] };
    let arriving = if transposed { kernel[0] } else { kernel[1].checked_mul(groups).unwrap_or(0) };
    if sizes[1] != arriving || groups < 1 {
        return refuse(format!("{arriving} channels, and {sizes:?} arrives"), DAMAGED);
    }
    let mut feed = converter.lay_as_seen(&x)?;
    let mut arriving: Vec<i64> = sizes[2..].to_vec();
    if behind.iter().any(|&more| more > 0) {
        feed = pad_behind(converter, &x, feed, &behind);
        arriving = arriving.iter().zip(&behind).map(|(size, more)| size + more).collect();
    }
    let leaving: Option<Vec<i64>> = (0..dims).map(|dim| options.output(dim, arriving[dim], transposed)).collect();
    let leaving = leaving.ok_or_else(|| crate::import::graph::Refusal {
        why: format!("a kernel {:?} beyond its input {arriving:?}", options.kernel),
        instead: DAMAGED.into(),
    })?;
    let shape = [&[channels], leaving.as_slice()].concat();
    let kind = if transposed { TRANSPOSED[dims - 1] } else { PLAIN[dims - 1] };
    let mut new = NewLayer::new(kind, feed, shape.clone()).with("out_channels", channels);
    new = new.with("kernel_size", alike(&options.kernel));
    for (key, value, default) in
        [("stride", &options.stride, 1), ("padding", &options.padding, 0), ("dilation", &options.dilation, 1)]
    {
        new = unless(new, key, value, default);
    }
    if transposed {
        new = unless(new, "output_padding", &options.added, 0);
    }
    new = new.with_unless("groups", groups, 1).with_unless("bias", bias.is_some(), true);
    let holdings = std::iter::once(holding("weight", &weight)).chain(bias.iter().map(|bias| holding("bias", bias)));
    let feed = converter.network.add_with(new, holdings.collect(), call)?;
    let layout = Layout::batch_first(&shape, &mut converter.atoms);
    Ok(converter.given(feed, layout))
}

/// The sizes of a convolution.
struct Options {
    kernel: Vec<i64>,
    stride: Vec<i64>,
    padding: Vec<i64>,
    dilation: Vec<i64>,
    added: Vec<i64>,
}

impl Options {
    /// The size of the output's dimension; nothing where there is none.
    fn output(&self, dim: usize, size: i64, transposed: bool) -> Option<i64> {
        let (stride, padding) = (self.stride[dim], self.padding[dim]);
        let reach = self.dilation[dim].checked_mul(self.kernel[dim] - 1)?.checked_add(1)?;
        let output = if transposed {
            (size - 1)
                .checked_mul(stride)?
                .checked_sub(padding.checked_mul(2)?)?
                .checked_add(reach)?
                .checked_add(self.added[dim])?
        } else {
            size.checked_add(padding.checked_mul(2)?)?
                .checked_sub(reach)
                .filter(|room| *room >= 0)?
                .checked_div(stride)?
                + 1
        };
        (output > 0 && stride > 0).then_some(output)
    }
}

/// Zeros before and behind each dimension alike, and those behind it alone.
fn padding(converter: &Converter, call: &Call, dims: usize, options: &Options) -> Said<(Vec<i64>, Vec<i64>)> {
    let none = vec![0; dims];
    match call.argument("padding") {
        Some(Argument::AsString(text)) if text == "valid" => Ok((none.clone(), none)),
        Some(Argument::AsString(text)) if text == "same" => {
            // PyTorch takes it at stride 1 alone, and puts an odd zero behind.
            let total = |dim: usize| options.dilation[dim].saturating_mul(options.kernel[dim] - 1);
            Ok(((0..dims).map(|dim| total(dim) / 2).collect(), (0..dims).map(|dim| total(dim) % 2).collect()))
        }
        Some(Argument::AsString(text)) => refuse(format!("padding `{text}`"), "pad by a number"),
        _ => Ok((list(converter, call, "padding", dims, 0)?, none)),
    }
}

/// A pad layer for zeros that lie behind each dimension alone.
fn pad_behind(converter: &mut Converter, x: &Activation, feed: Feed, behind: &[i64]) -> Feed {
    let shape = x.layout.sizes()[1..].to_vec();
    let first = shape.len() - behind.len();
    let padded =
        shape.iter().enumerate().map(|(place, size)| size + if place < first { 0 } else { behind[place - first] });
    let padding: Vec<i64> = behind.iter().rev().flat_map(|&more| [0, more]).collect();
    let new = NewLayer::new("pad", feed, padded.collect()).with("padding", padding);
    converter.add(new)
}

/// One whole number for each dimension; a single one stands for all.
///
/// # Errors
/// For another number of them, or a negative one.
fn list(converter: &Converter, call: &Call, argument: &str, dims: usize, default: i64) -> Said<Vec<i64>> {
    let given = converter.ints(call, argument)?.filter(|list| !list.is_empty()).unwrap_or_else(|| vec![default]);
    let given = if given.len() == 1 { vec![given[0]; dims] } else { given };
    if given.len() != dims || given.iter().any(|&number| !(0..=1 << 31).contains(&number)) {
        return refuse(format!("`{argument}` is {given:?}"), DAMAGED);
    }
    Ok(given)
}

/// One number where all are alike, else the list.
fn alike(list: &[i64]) -> toml::Value {
    match list {
        [first, rest @ ..] if rest.iter().all(|other| other == first) => (*first).into(),
        _ => list.to_vec().into(),
    }
}

/// With an option where it is not `default` everywhere.
fn unless(new: NewLayer, key: &'static str, list: &[i64], default: i64) -> NewLayer {
    if list.iter().all(|&number| number == default) { new } else { new.with(key, alike(list)) }
}

// Pooling.

const MAX: [&str; 3] = ["max_pool1d", "max_pool2d", "max_pool3d"];
const AVG: [&str; 3] = ["avg_pool1d", "avg_pool2d", "avg_pool3d"];
const ADAPTIVE: [&str; 3] = ["adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"];

/// Says pooling.
pub fn say_pool(converter: &mut Converter, call: &Call) -> Given {
    let operation = call.operation();
    let operation = operation.strip_suffix("_with_indices").unwrap_or(operation);
    for (kinds, number) in [(MAX, 0), (AVG, 1), (ADAPTIVE, 2)] {
        if let Some(place) = kinds.iter().position(|kind| *kind == operation) {
            return match number {
                2 => adaptive(converter, call, kinds[place], place + 1).map(Some),
                _ => pool(converter, call, kinds[place], place + 1, number == 0).map(Some),
            };
        }
    }
    Ok(None)
}

fn pool(converter: &mut Converter, call: &Call, kind: &'static str, dims: usize, max: bool) -> Said<Vec<Value>> {
    let x = converter.activation(call, "self")?;
    let sizes = x.layout.sizes();
    if sizes.len() != dims + 2 {
        return refuse(format!("an input {sizes:?}"), "give it a batch [N, channels, ..]");
    }
    let kernel = list(converter, call, "kernel_size", dims, 1)?;
    let stride = match converter.ints(call, "stride")? {
        Some(stride) if !stride.is_empty() => list(converter, call, "stride", dims, 1)?,
        _ => kernel.clone(),
    };
    let padding = list(converter, call, "padding", dims, 0)?;
    let dilation = list(converter, call, "dilation", dims, 1)?;
    let ceil = converter.flag(call, "ceil_mode", false);
    if call.argument("divisor_override").is_some() {
        return refuse("divisor_override", "leave it out and multiply by a number");
    }
    let feed = converter.lay_as_seen(&x)?;
    let output = |dim: usize| {
        let reach = dilation[dim].checked_mul(kernel[dim] - 1)?.checked_add(1)?;
        let room = sizes[dim + 2].checked_add(padding[dim].checked_mul(2)?)?.checked_sub(reach)?;
        let round = if ceil { stride[dim] - 1 } else { 0 };
        let count = room.checked_add(round).filter(|_| stride[dim] > 0)?.div_euclid(stride[dim]) + 1;
        // The last window begins in the input or the zeros before it.
        let beyond = ceil && (count - 1) * stride[dim] >= sizes[dim + 2] + padding[dim];
        Some(count - i64::from(beyond)).filter(|&count| count > 0)
    };
    let leaving: Option<Vec<i64>> = (0..dims).map(output).collect();
    let Some(leaving) = leaving else { return refuse("a window beyond its input", DAMAGED) };
    let shape = [&sizes[1..2], leaving.as_slice()].concat();
    let mut new = NewLayer::new(kind, feed, shape.clone()).with("kernel_size", alike(&kernel));
    if stride != kernel {
        new = new.with("stride", alike(&stride));
    }
    new = unless(new, "padding", &padding, 0);
    new = unless(new, "dilation", &dilation, 1).with_unless("ceil_mode", ceil, false);
    let counts =
        max || converter.flag(call, "count_include_pad", true) || padding.iter().all(|&zeros| zeros == 0) && !ceil;
    let feed = converter.add(new.with_unless("count_include_pad", counts, true));
    let layout = Layout::batch_first(&shape, &mut converter.atoms);
    let mut given = converter.given(feed, layout);
    if call.outputs.len() > 1 {
        given.push(Value::Unsaid { why: "the places of the largest values", instead: "use the values alone" });
    }
    Ok(given)
}

fn adaptive(converter: &mut Converter, call: &Call, kind: &'static str, dims: usize) -> Said<Vec<Value>> {
    let x = converter.activation(call, "self")?;
    let sizes = x.layout.sizes();
    let output = list(converter, call, "output_size", dims, 1)?;
    if sizes.len() != dims + 2 || output.contains(&0) {
        return refuse(format!("an input {sizes:?}"), "give it a batch [N, channels, ..]");
    }
    let feed = converter.lay_as_seen(&x)?;
    let shape = [&sizes[1..2], output.as_slice()].concat();
    let feed = converter.add(NewLayer::new(kind, feed, shape.clone()).with("output_size", alike(&output)));
    let layout = Layout::batch_first(&shape, &mut converter.atoms);
    Ok(converter.given(feed, layout))
}

// Upsampling by repetition: copies of a value joined in a new axis.

/// The largest factor by which the nearest entry is always the one of whole division, as PyTorch rounds.
const LARGEST_FACTOR: i64 = 8;

/// Says nearest-neighbour upsampling by whole factors.
pub fn say_upsample(converter: &mut Converter, call: &Call) -> Given {
    let dims = match call.operation() {
        "upsample_nearest1d" => 1,
        "upsample_nearest2d" => 2,
        "upsample_nearest3d" => 3,
        _ => return Ok(None),
    };
    // The overload of two names calls it `input`, the others `self`.
    let name = if call.argument("input").is_some() { "input" } else { "self" };
    let x = converter.activation(call, name)?;
    let (from, to) = (x.layout.sizes(), converter.example_sizes(&call.name).unwrap_or_default());
    let whole = |(from, to): (&i64, &i64)| to % from == 0 && to / from <= LARGEST_FACTOR;
    if from.len() != dims + 2 || to.len() != from.len() || !from.iter().zip(&to).skip(2).all(whole) {
        return refuse(
            format!("upsampling of {from:?} to {to:?}"),
            format!("upsample by whole factors up to {LARGEST_FACTOR}, or by nn.ConvTranspose2d"),
        );
    }
    let mut feed = converter.lay_as_seen(&x)?;
    let mut shape = from[1..].to_vec();
    for axis in 1..shape.len() {
        let factor = to[axis + 1] / from[axis + 1];
        feed = repeated(converter, feed, &mut shape, axis, factor)?;
    }
    let layout = Layout::batch_first(&shape, &mut converter.atoms);
    Ok(Some(converter.given(feed, layout)))
}

/// Every entry of an axis so often, one after the other.
fn repeated(converter: &mut Converter, feed: Feed, shape: &mut [i64], axis: usize, factor: i64) -> Said<Feed> {
    if factor == 1 {
        return Ok(feed);
    }
    let mut apart = shape.to_vec();
    apart.insert(axis + 1, 1);
    let feed = converter.add(NewLayer::new("reshape", feed, apart.clone()).with("shape", apart.clone()));
    apart[axis + 1] = factor;
    let mut copies = NewLayer::new("concat", feed, apart).with("dim", axis as i64 + 2);
    copies.inputs.extend((1..factor).map(|_| feed));
    let feed = converter.add(copies);
    shape[axis] *= factor;
    Ok(converter.add(NewLayer::new("reshape", feed, shape.to_vec()).with("shape", shape.to_vec())))
}
