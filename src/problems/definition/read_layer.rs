//! Reads one layer of a problem file: its type from the registry, its options checked for type and range.

use super::init::{INITS_WITH_NUMBER, PLAIN_INITS};
use super::layer_types::{LAYER_TYPES, layer_type};
use super::{
    AdaptiveAvgPool2d, AvgPool2d, BatchNorm2d, Conv2d, ConvTranspose2d, Dropout, Elu, LayerDefinition, LayerOptions,
    LeakyRelu, Linear, MaxPool2d, PaddingOption, ZeroPad2d,
};
use crate::backpack::init::Init;
use crate::config::{Item, Table};
use crate::error::Result;

/// The layer that an entry of `layers` describes; `index` is its place in the list.
pub(super) fn layer(item: &Item, index: usize) -> Result<LayerDefinition> {
    if !item.is_table() {
        return Err(item.expected("a table with a layer's type and options"));
    }
    // The type first: what the other keys may be depends on it.
    let kind = item.entries().into_iter().find(|entry| entry.key() == "type").ok_or_else(|| {
        let title = format!("layer {index} lacks `type`");
        item.place().error(title, "every layer has a type, such as type = \"relu\"")
    })?;
    let name = kind.text()?;
    let Some(found) = layer_type(name) else {
        return Err(kind.unknown("layer type", name, LAYER_TYPES.iter().map(|layer| layer.name)));
    };
    let keys: Vec<&'static str> = ["type"].into_iter().chain(found.options.iter().map(|option| option.name)).collect();
    let table = item.table(format!("layer {index}, {name}"), &keys)?;
    Ok(LayerDefinition { options: (found.read)(&table)?, place: kind.place() })
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
