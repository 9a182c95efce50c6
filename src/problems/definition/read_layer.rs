//! Reads one layer of a problem file: its type from the registry, its options checked for type and range.

use std::collections::BTreeMap;

use serde_json::Value;

use super::LayerDefinition;
use super::init::{INITS_WITH_NUMBER, PLAIN_INITS};
use super::layer::{SIZED, VOCABULARY};
use crate::backpack::init::Init;
use crate::backpack::layers::{layer_type, layer_types};
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
    let Some(entry) = layer_type(name) else {
        let known: Vec<&str> = layer_types().into_iter().map(|entry| entry.name).chain(["block"]).collect();
        return Err(kind.unknown("layer type", name, known));
    };
    let described = entry.options();
    let options = described.iter().map(|option| option.name.as_str());
    let keys: Vec<&str> = ["type"].into_iter().chain(options).chain(COMMON).collect();
    let table = item.table(format!("{title}, {name}"), &keys)?;
    for option in described.iter().filter(|option| option.default.is_none()) {
        table.require(&option.name)?;
    }
    let init_keys: Vec<String> = entry.inits.iter().map(|(parameter, _)| format!("{parameter}_init")).collect();
    let beside: Vec<&str> = init_keys.iter().map(String::as_str).chain(["type", "tied"]).chain(COMMON).collect();
    let is_vocabulary =
        |key: &&'static str| table.get(key).is_some_and(|item| item.text().is_ok_and(|text| text == VOCABULARY));
    let vocabulary = SIZED.into_iter().find(is_vocabulary);
    let options = table.read_without(&beside, vocabulary, |values| entry.read(values))?;
    let mut inits = BTreeMap::new();
    for ((parameter, default), key) in entry.inits.iter().zip(&init_keys) {
        let init = init(&table, key)?;
        inits.insert(*parameter, if init == Init::Default { *default } else { init });
    }
    let without_bias = options.values().get("bias") == Some(&Value::Bool(false));
    if let (true, Some(item), Some(init)) = (without_bias, table.get("bias_init"), inits.get("bias"))
        && *init != Init::Default
    {
        return Err(item.key_place().error("`bias_init` without a bias", "leave it out, or set bias = true").into());
    }
    let (name, names, inputs, place) = (None, BTreeMap::new(), Vec::new(), kind.place());
    Ok((LayerDefinition { entry, options, vocabulary, inits, name, names, inputs, tied: None, place }, table))
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
