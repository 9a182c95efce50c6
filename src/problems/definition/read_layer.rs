//! Reads one layer of a problem file: its type from the registry, its options checked for type and range.

use super::init::{INITS_WITH_NUMBER, PLAIN_INITS};
use super::layer_types::{LAYER_TYPES, layer_type};
use super::{
    AdaptiveAvgPool2d, AvgPool2d, BatchNorm2d, Concat, Conv2d, ConvTranspose2d, Dropout, Elu, Embedding, Flatten, Gain,
    LayerDefinition, LayerOptions, LeakyRelu, Linear, MaxPool2d, Mean, Pad, PaddingOption, Permute, PositionEmbedding,
    Reshape, Scale, Slice, ZeroPad2d,
};
use crate::backpack::init::Init;
use crate::config::item::MAX_SIZE;
use crate::config::{Item, Table};
use crate::error::Result;

/// The keys that every layer has beside its options.
const COMMON: [&str; 3] = ["name", "names", "inputs"];

/// The item of a layer's `type` key. What the other keys may be depends on it.
pub(super) fn kind<'a>(item: &Item<'a>, title: &str) -> Result<Item<'a>> {
    if !item.is_table() {
        return Err(item.expected("a table with a layer's type and options"));
    }
    item.entries().into_iter().find(|entry| entry.key() == "type").ok_or_else(|| {
        let title = format!("{title} lacks `type`");
        item.place().error(title, "every layer has a type, such as type = \"relu\"").into()
    })
}

/// The layer that an entry of a list of layers describes, called `title` in errors, without its name and inputs; and the
/// table itself, for these.
pub(super) fn layer<'a>(item: &Item<'a>, title: &str) -> Result<(LayerDefinition, Table<'a>)> {
    let kind = kind(item, title)?;
    let name = kind.text()?;
    let Some(found) = layer_type(name) else {
        return Err(kind.unknown("layer type", name, LAYER_TYPES.iter().map(|layer| layer.name).chain(["block"])));
    };
    let options = found.options.iter().map(|option| option.name);
    let keys: Vec<&'static str> = ["type"].into_iter().chain(options).chain(COMMON).collect();
    let table = item.table(format!("{title}, {name}"), &keys)?;
    let (options, place) = ((found.read)(&table)?, kind.place());
    let (name, names, inputs) = (None, Default::default(), Vec::new());
    Ok((LayerDefinition { options, name, names, inputs, place }, table))
}

pub(super) fn flatten(table: &Table) -> Result<LayerOptions> {
    Ok(LayerOptions::Flatten(Flatten { start_dim: dim(table, "start_dim", 1)?, end_dim: dim(table, "end_dim", -1)? }))
}

pub(super) fn pad(table: &Table) -> Result<LayerOptions> {
    let padding = table.require("padding")?.list_of_integers(-MAX_SIZE)?;
    let value = number(table, "value", 0.0, f64::is_finite, "a finite number")?;
    Ok(LayerOptions::Pad(Pad { padding, value }))
}

pub(super) fn slice(table: &Table) -> Result<LayerOptions> {
    let item = table.require("index")?;
    let index = item.text()?.to_owned();
    if let Err(error) = index.parse::<crate::backpack::layers::Slice>() {
        return Err(item.error(error.to_string()).into());
    }
    Ok(LayerOptions::Slice(Slice { index }))
}

pub(super) fn permute(table: &Table) -> Result<LayerOptions> {
    Ok(LayerOptions::Permute(Permute { dims: table.require("dims")?.list_of_integers(0)? }))
}

pub(super) fn reshape(table: &Table) -> Result<LayerOptions> {
    Ok(LayerOptions::Reshape(Reshape { shape: table.require("shape")?.list_of_integers(-1)? }))
}

pub(super) fn scale(table: &Table) -> Result<LayerOptions> {
    Ok(LayerOptions::Scale(Scale { factor: table.require("factor")?.number(f64::is_finite, "a finite number")? }))
}

pub(super) fn mean(table: &Table) -> Result<LayerOptions> {
    let item = table.require("dim")?;
    let dim =
        if item.is_array() { item.list_of_integers(-MAX_AXES)? } else { vec![item.integer(-MAX_AXES..=MAX_AXES)?] };
    Ok(LayerOptions::Mean(Mean { dim }))
}

pub(super) fn embedding(table: &Table) -> Result<LayerOptions> {
    Ok(LayerOptions::Embedding(Embedding {
        num_embeddings: size(table, "num_embeddings")?,
        embedding_dim: size(table, "embedding_dim")?,
        weight_init: init_or(table, "weight_init", Init::Normal(1.0))?,
    }))
}

pub(super) fn position_embedding(table: &Table) -> Result<LayerOptions> {
    let weight_init = init_or(table, "weight_init", Init::Normal(0.02))?;
    Ok(LayerOptions::PositionEmbedding(PositionEmbedding { shape: shape(table)?, weight_init }))
}

pub(super) fn gain(table: &Table) -> Result<LayerOptions> {
    let value = number(table, "value", 1.0, f64::is_finite, "a finite number")?;
    Ok(LayerOptions::Gain(Gain { shape: shape(table)?, value }))
}

fn shape(table: &Table) -> Result<Option<Vec<i64>>> {
    table.get("shape").map(|item| item.list_of_integers(1)).transpose()
}

/// The init of a layer type that has a default of its own.
fn init_or(table: &Table, key: &str, default: Init) -> Result<Init> {
    Ok(match init(table, key)? {
        Init::Default => default,
        other => other,
    })
}

pub(super) fn concat(table: &Table) -> Result<LayerOptions> {
    Ok(LayerOptions::Concat(Concat { dim: dim(table, "dim", 1)? }))
}

/// More axes than any tensor has.
const MAX_AXES: i64 = 64;

fn dim(table: &Table, key: &str, default: i64) -> Result<i64> {
    table.get(key).map_or(Ok(default), |item| item.integer(-MAX_AXES..=MAX_AXES))
}

pub(super) fn linear(table: &Table) -> Result<LayerOptions> {
    let (bias, weight_init, bias_init) = parameters(table)?;
    let out_features = size(table, "out_features")?;
    Ok(LayerOptions::Linear(Linear { out_features, bias, weight_init, bias_init }))
}

pub(super) fn conv2d(table: &Table) -> Result<LayerOptions> {
    let (bias, weight_init, bias_init) = parameters(table)?;
    // Zeros on four sides that are equal in pairs are the same thing as a pair.
    let padding = match padding(table)? {
        PaddingOption::Sides([left, right, top, bottom]) if left == right && top == bottom => {
            PaddingOption::Symmetric([top, left])
        }
        other => other,
    };
    Ok(LayerOptions::Conv2d(Conv2d {
        out_channels: size(table, "out_channels")?,
        kernel_size: table.require("kernel_size")?.pair(1)?,
        stride: pair(table, "stride", 1, [1, 1])?,
        padding,
        dilation: pair(table, "dilation", 1, [1, 1])?,
        groups: groups(table)?,
        bias,
        weight_init,
        bias_init,
    }))
}

pub(super) fn conv_transpose2d(table: &Table) -> Result<LayerOptions> {
    let (bias, weight_init, bias_init) = parameters(table)?;
    Ok(LayerOptions::ConvTranspose2d(ConvTranspose2d {
        out_channels: size(table, "out_channels")?,
        kernel_size: table.require("kernel_size")?.pair(1)?,
        stride: pair(table, "stride", 1, [1, 1])?,
        padding: pair(table, "padding", 0, [0, 0])?,
        output_padding: pair(table, "output_padding", 0, [0, 0])?,
        dilation: pair(table, "dilation", 1, [1, 1])?,
        groups: groups(table)?,
        bias,
        weight_init,
        bias_init,
    }))
}

pub(super) fn max_pool2d(table: &Table) -> Result<LayerOptions> {
    let kernel_size = table.require("kernel_size")?.pair(1)?;
    Ok(LayerOptions::MaxPool2d(MaxPool2d {
        kernel_size,
        stride: pair(table, "stride", 1, kernel_size)?,
        padding: padding(table)?,
        dilation: pair(table, "dilation", 1, [1, 1])?,
        ceil_mode: boolean(table, "ceil_mode", false)?,
    }))
}

pub(super) fn avg_pool2d(table: &Table) -> Result<LayerOptions> {
    let kernel_size = table.require("kernel_size")?.pair(1)?;
    Ok(LayerOptions::AvgPool2d(AvgPool2d {
        kernel_size,
        stride: pair(table, "stride", 1, kernel_size)?,
        padding: padding(table)?,
        ceil_mode: boolean(table, "ceil_mode", false)?,
    }))
}

pub(super) fn adaptive_avg_pool2d(table: &Table) -> Result<LayerOptions> {
    let output_size = table.require("output_size")?.pair(1)?;
    Ok(LayerOptions::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output_size }))
}

pub(super) fn batch_norm2d(table: &Table) -> Result<LayerOptions> {
    Ok(LayerOptions::BatchNorm2d(BatchNorm2d {
        eps: number(table, "eps", 1e-5, |value| value > 0.0 && value.is_finite(), "a number above 0")?,
        momentum: number(table, "momentum", 0.1, |value| (0.0..=1.0).contains(&value), "a number from 0 to 1")?,
        frozen: boolean(table, "frozen", false)?,
        weight_init: init(table, "weight_init")?,
        bias_init: init(table, "bias_init")?,
    }))
}

pub(super) fn zero_pad2d(table: &Table) -> Result<LayerOptions> {
    let expected = "an integer of at least 0, [height, width] or [left, right, top, bottom]";
    let item = table.require("padding")?;
    let padding = match item.integers(0, &[2, 4], expected)?[..] {
        [all] => [all; 4],
        [height, width] => [width, width, height, height],
        [left, right, top, bottom] => [left, right, top, bottom],
        _ => return Err(item.expected(expected)),
    };
    Ok(LayerOptions::ZeroPad2d(ZeroPad2d { padding }))
}

pub(super) fn dropout(table: &Table) -> Result<LayerOptions> {
    let expected = "a probability from 0 up to, not including, 1";
    let p = number(table, "p", 0.5, |value| (0.0..1.0).contains(&value), expected)?;
    Ok(LayerOptions::Dropout(Dropout { p }))
}

pub(super) fn leaky_relu(table: &Table) -> Result<LayerOptions> {
    let negative_slope = number(table, "negative_slope", 0.01, f64::is_finite, "a finite number")?;
    Ok(LayerOptions::LeakyRelu(LeakyRelu { negative_slope }))
}

pub(super) fn elu(table: &Table) -> Result<LayerOptions> {
    let alpha = number(table, "alpha", 1.0, f64::is_finite, "a finite number")?;
    Ok(LayerOptions::Elu(Elu { alpha }))
}

fn parameters(table: &Table) -> Result<(bool, Init, Init)> {
    let bias = boolean(table, "bias", true)?;
    let bias_init = init(table, "bias_init")?;
    if let (false, Some(item), true) = (bias, table.get("bias_init"), bias_init != Init::Default) {
        return Err(item.key_place().error("`bias_init` without a bias", "leave it out, or set bias = true").into());
    }
    Ok((bias, init(table, "weight_init")?, bias_init))
}

fn size(table: &Table, key: &str) -> Result<i64> {
    Ok(table.require(key)?.count(1)? as i64)
}

fn groups(table: &Table) -> Result<i64> {
    table.get("groups").map_or(Ok(1), |item| Ok(item.count(1)? as i64))
}

fn pair(table: &Table, key: &str, least: i64, default: [i64; 2]) -> Result<[i64; 2]> {
    table.get(key).map_or(Ok(default), |item| item.pair(least))
}

fn boolean(table: &Table, key: &str, default: bool) -> Result<bool> {
    table.get(key).map_or(Ok(default), |item| item.boolean())
}

fn number(table: &Table, key: &str, default: f64, fits: impl Fn(f64) -> bool, expected: &str) -> Result<f64> {
    table.get(key).map_or(Ok(default), |item| item.number(fits, expected))
}

fn padding(table: &Table) -> Result<PaddingOption> {
    let expected = "an integer of at least 0, [height, width], [left, right, top, bottom] or \"same\"";
    let Some(item) = table.get("padding") else { return Ok(PaddingOption::default()) };
    if item.is_text() && item.text()? == "same" {
        return Ok(PaddingOption::Same);
    }
    match item.integers(0, &[2, 4], expected)?[..] {
        [all] => Ok(PaddingOption::Symmetric([all, all])),
        [height, width] => Ok(PaddingOption::Symmetric([height, width])),
        [left, right, top, bottom] => Ok(PaddingOption::Sides([left, right, top, bottom])),
        _ => Err(item.expected(expected)),
    }
}

fn init(table: &Table, key: &str) -> Result<Init> {
    let Some(item) = table.get(key) else { return Ok(Init::Default) };
    let with_number = INITS_WITH_NUMBER.map(|(name, _)| name).into_iter();
    let names = || with_number.clone().chain(PLAIN_INITS.map(|(name, _)| name));
    if item.is_text() {
        let name = item.text()?;
        if let Some((_, meaning)) = INITS_WITH_NUMBER.iter().find(|(with_number, _)| *with_number == name) {
            return Err(item.expected(&format!("{{ {name} = .. }} with {meaning}")));
        }
        let plain = PLAIN_INITS.iter().find(|(plain, _)| *plain == name);
        return plain.map(|(_, choice)| *choice).ok_or_else(|| item.unknown("init", name, names()));
    }
    if !item.is_table() {
        return Err(item.expected("an init such as { constant = 0.05 } or \"xavier_normal\""));
    }
    let entries = item.entries();
    let [entry] = &entries[..] else {
        return Err(item.expected("exactly one init, such as { constant = 0.05 }"));
    };
    let finite = |value: f64| value.is_finite();
    let spread = |value: f64| value.is_finite() && value >= 0.0;
    let scale = |value: f64| value.is_finite() && value > 0.0;
    match entry.key() {
        "constant" => Ok(Init::Constant(entry.number(finite, "a finite number")?)),
        "normal" => Ok(Init::Normal(entry.number(spread, "a standard deviation of at least 0")?)),
        "uniform" => Ok(Init::Uniform(entry.number(spread, "a bound of at least 0")?)),
        "truncated_normal" => Ok(Init::TruncatedNormal(entry.number(scale, "a scale above 0")?)),
        name => match PLAIN_INITS.iter().find(|(plain, _)| *plain == name) {
            Some(_) => Err(entry.expected(&format!("no number: {key} = \"{name}\""))),
            None => Err(entry.unknown_key("init", names())),
        },
    }
}
