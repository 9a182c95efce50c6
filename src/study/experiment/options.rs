//! The keys of optimizers' options, as `[[optimizer]]`, the top of an experiment file and `--set` share them. Every key
//! takes a value or a list of them, which is gridded.

use std::collections::BTreeMap;

use crate::config::{Item, Table};
use crate::error::{Error, Result};
use crate::numbers::read::{self, Number, Numbers};
use crate::numbers::{MAX_SIZE, check_count};
use crate::optimizers::{Averaging, NONE, OptimizerName, OptionInfo, OptionKind, OptionValue, RETIRED};
use crate::suggest;

/// What a text says of the options.
#[derive(Clone, Debug, Default)]
pub struct OptionKeys(BTreeMap<&'static str, Vec<OptionValue>>);

impl OptionKeys {
    /// Reads the keys that are there.
    pub(super) fn read(table: &Table) -> Result<Self> {
        for (key, instead) in RETIRED {
            if let Some(item) = table.get(key) {
                let title = format!("there is no longer a `{key}`");
                return Err(item.key_place().error(title, "leave it out").help(instead).into());
            }
        }
        let mut keys = BTreeMap::new();
        for info in OptimizerName::all_options() {
            if let Some(item) = table.get(info.key) {
                keys.insert(info.key, distinct(values(info, &item)?));
            }
        }
        Ok(OptionKeys(keys))
    }

    /// The same with these values, as a flag gives them.
    pub fn with(mut self, key: &'static str, value: Option<OptionValue>) -> Self {
        if let Some(value) = value {
            self.0.insert(key, vec![value]);
        }
        self
    }

    /// These, and what they do not say from `lower`.
    pub(super) fn or(mut self, lower: OptionKeys) -> Self {
        for (key, values) in lower.0 {
            self.0.entry(key).or_insert(values);
        }
        self
    }

    /// Without what is said for all optimizers and not meant for this one: `momentum` is that of the curvature rules
    /// wherever there is one, as it was before other optimizers had it.
    pub(super) fn meant_for(mut self, name: OptimizerName, beside_curvature: bool) -> Self {
        if beside_curvature && !name.has_damping() {
            self.0.remove("momentum");
        }
        self
    }

    /// The values of a key, if it is given.
    pub(super) fn get(&self, key: &str) -> Option<&[OptionValue]> {
        self.0.get(key).map(Vec::as_slice)
    }

    /// The options of an optimizer, each with its values, in the order of its entry in the registry.
    pub(super) fn resolve(&self, name: OptimizerName) -> Vec<(&'static str, Vec<OptionValue>)> {
        let value = |info: &OptionInfo| self.0.get(info.key).cloned().unwrap_or_else(|| vec![(info.default)()]);
        name.options().map(|info| (info.key, value(info))).collect()
    }

    /// Refuses an option that none of the optimizers has. That labels are sampled for none of them is told elsewhere.
    pub(super) fn check(&self, optimizers: &[OptimizerName]) -> Result<()> {
        for key in self.0.keys().filter(|key| **key != "mc_samples") {
            if optimizers.iter().all(|name| name.option(key).is_none()) {
                let (what, it) = match *key {
                    "averaging" => ("an averaging of curvature", "one"),
                    key => (key, "it"),
                };
                return Err(Error::Usage(format!(
                    "{what} is given, but none of the optimizers has {it}: leave it out"
                )));
            }
        }
        Ok(())
    }
}

/// The values without those that occurred before.
fn distinct(mut values: Vec<OptionValue>) -> Vec<OptionValue> {
    let mut known: Vec<OptionValue> = Vec::new();
    values.retain(|value| {
        let new = !known.contains(value);
        known.push(value.clone());
        new
    });
    values
}

/// One value or a list of them.
fn values(info: &OptionInfo, item: &Item) -> Result<Vec<OptionValue>> {
    let values = match info.kind {
        OptionKind::Number(fits) => numbers(info, item, fits)?,
        OptionKind::Numbers(length, fits) => {
            let lists = if item.one_or_more().iter().any(Item::is_array) { item.items()? } else { vec![item.clone()] };
            lists.iter().map(|list| list_of_numbers(info, list, length, fits)).collect::<Result<_>>()?
        }
        _ => {
            let items = item.one_or_more();
            let each = items.iter().map(|item| entries(info, item)).collect::<Result<Vec<_>>>()?;
            each.concat()
        }
    };
    if values.is_empty() {
        return Err(item.expected(&format!("{}, or a list of such", info.values)));
    }
    check_count(values.len()).map_err(|message| item.error(message))?;
    Ok(values)
}

fn numbers(info: &OptionInfo, item: &Item, fits: fn(f64) -> bool) -> Result<Vec<OptionValue>> {
    let numbers = item.read_seed(Numbers(Number { fits, expected: info.values }))?;
    Ok(numbers.into_iter().map(OptionValue::Number).collect())
}

/// An entry of a list; on the command line a text may hold several words.
fn entries(info: &OptionInfo, item: &Item) -> Result<Vec<OptionValue>> {
    let is_text = item.text().is_some();
    /// What each of the words stands for, if all stand for something.
    fn each<T>(item: &Item, read: impl Fn(&str) -> Option<T>, expected: &str) -> Result<Vec<T>> {
        let values: Option<Vec<T>> = item.words()?.into_iter().map(read).collect();
        values.ok_or_else(|| item.expected(expected))
    }
    match info.kind {
        OptionKind::Count if is_text => {
            let counts = 1..=MAX_SIZE as u64;
            let count = |word: &str| word.parse().ok().filter(|count| counts.contains(count)).map(OptionValue::Count);
            each(item, count, info.values)
        }
        OptionKind::Count => {
            let count: usize = item.read_with(read::size)?;
            Ok(vec![OptionValue::Count(count as u64)])
        }
        OptionKind::NumberOrNone(_) if is_text && item.words()?.iter().all(|word| *word == NONE) => {
            Ok(vec![OptionValue::Text(NONE.to_owned())])
        }
        OptionKind::NumberOrNone(fits) | OptionKind::Number(fits) => numbers(info, item, fits),
        OptionKind::Flag if is_text => each(item, |word| word.parse().ok().map(OptionValue::Flag), "true or false"),
        OptionKind::Flag => Ok(vec![OptionValue::Flag(item.read()?)]),
        OptionKind::Choice(known) => {
            let choice = |word: &str| match known.contains(&word) {
                true => Ok(OptionValue::Text(word.to_owned())),
                false => Err(item.unknown(info.key, word, known.iter().copied())),
            };
            item.words()?.into_iter().map(choice).collect()
        }
        OptionKind::Averaging if is_text => averagings(info, item),
        OptionKind::Schedule => Ok(vec![OptionValue::Schedule(item.read()?)]),
        OptionKind::Averaging | OptionKind::Numbers(..) => Err(item.expected(info.values)),
    }
}

fn list_of_numbers(info: &OptionInfo, item: &Item, length: usize, fits: fn(f64) -> bool) -> Result<OptionValue> {
    let expected = || item.expected(&format!("{} in brackets, or a list of such lists", info.values));
    if !item.is_array() {
        return Err(expected());
    }
    let one = |item: &Item| item.read_seed(Number { fits, expected: info.values });
    let numbers = item.items()?.iter().map(one).collect::<Result<Vec<f64>>>()?;
    if numbers.len() == length { Ok(OptionValue::Numbers(numbers)) } else { Err(expected()) }
}

fn averagings(info: &OptionInfo, item: &Item) -> Result<Vec<OptionValue>> {
    let averaging = |text: &str| -> Result<OptionValue> {
        text.parse::<Averaging>().map(OptionValue::Averaging).map_err(|_| {
            let nearest = suggest::closest(text, ["none", "cumulative"]);
            let help = nearest.map(|word| format!("did you mean `{word}`?"));
            item.error(format!("expected {}", info.values)).maybe_help(help).into()
        })
    };
    item.words()?.into_iter().map(averaging).collect()
}
