//! Convolutions and transposed convolutions.

use super::dense::{holding, optional, whole};
use crate::import::converter::{Converter, Given};
use crate::import::graph::{Call, DAMAGED, Said, refuse};
use crate::import::layout::Layout;
use crate::import::network::{Feed, NewLayer};
use crate::import::schema::Argument;
use crate::import::value::Activation;

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
) -> Said<Vec<crate::import::value::Value>> {
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
pub fn list(converter: &Converter, call: &Call, argument: &str, dims: usize, default: i64) -> Said<Vec<i64>> {
    let given = converter.ints(call, argument)?.filter(|list| !list.is_empty()).unwrap_or_else(|| vec![default]);
    let given = if given.len() == 1 { vec![given[0]; dims] } else { given };
    if given.len() != dims || given.iter().any(|&number| !(0..=1 << 31).contains(&number)) {
        return refuse(format!("`{argument}` is {given:?}"), DAMAGED);
    }
    Ok(given)
}

/// One number where all are alike, else the list.
pub fn alike(list: &[i64]) -> toml::Value {
    match list {
        [first, rest @ ..] if rest.iter().all(|other| other == first) => (*first).into(),
        _ => list.to_vec().into(),
    }
}

/// With an option where it is not `default` everywhere.
pub fn unless(new: NewLayer, key: &'static str, list: &[i64], default: i64) -> NewLayer {
    if list.iter().all(|&number| number == default) { new } else { new.with(key, alike(list)) }
}
