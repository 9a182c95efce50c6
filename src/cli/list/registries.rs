//! `list layers`, `list optimizers` and `list quantities`: what the registries hold.

use serde_json::{Value, json};

use super::render::{Rows, document};
use crate::backpack::layers::{LayerEntry, LayerOption, layer_types};
use crate::backpack::quantities;
use crate::backpack::support::{Row, Support, table};
use crate::cli::flags::Format;
use crate::cli::terminal::wrapped;
use crate::error::Result;
use crate::optimizers::{OptimizerName, OptionInfo};

// `list layers`: layer types with their options.

/// The text for all layer types.
pub(super) fn list_layers(format: Format) -> Result<String> {
    let options = |layer: &LayerEntry| {
        let options = layer.options().iter().map(|option| match &option.default {
            Some(default) => format!("{} = {default}", option.name),
            None => option.name.clone(),
        });
        options.collect::<Vec<_>>().join(", ")
    };
    let row = |layer: &LayerEntry| [layer.name.to_owned(), options(layer), layer.summary.to_owned()];
    let rows = Rows { header: ["layer", "options", "summary"], rows: layer_types().into_iter().map(row).collect() };
    match format {
        Format::Table => Ok(rows.table(&["options"])),
        Format::Csv => rows.csv(),
        Format::Json => Ok(document("layers", layer_types().into_iter().map(layer_json).collect())),
    }
}

fn layer_json(layer: &LayerEntry) -> Value {
    let option = |option: &LayerOption| {
        json!({
            "name": option.name,
            "required": option.default.is_none(),
            "default": option.default,
            "meaning": option.meaning,
        })
    };
    json!({
        "name": layer.name,
        "summary": layer.summary,
        "options": layer.options().iter().map(option).collect::<Vec<_>>(),
    })
}

// `list optimizers`: the registry, with the grids that are tried where none is given.

/// The text for all optimizers.
pub(super) fn list_optimizers(format: Format) -> Result<String> {
    let row = |name: OptimizerName, options: Vec<&str>| {
        let info = name.info();
        [
            name.as_str().to_owned(),
            name.title().to_owned(),
            info.summary.to_owned(),
            values(&(info.learning_rates)()),
            values(&(info.dampings)()),
            options.join(", "),
        ]
    };
    let all = |name: OptimizerName| row(name, name.options().map(|option| option.key).collect());
    // What all of them have is told below the table.
    let own = |name: OptimizerName| row(name, name.info().options.iter().map(|option| option.key).collect());
    let rows = |rows: Vec<[String; 6]>| Rows {
        header: ["optimizer", "title", "summary", "learning_rates", "dampings", "options"],
        rows,
    };
    match format {
        Format::Table => Ok(rows(OptimizerName::all().map(own).collect()).table(&["title", "options", "dampings"])
            + "\n"
            + &option_lines()),
        Format::Csv => rows(OptimizerName::all().map(all).collect()).csv(),
        Format::Json => Ok(document("optimizers", OptimizerName::all().map(optimizer_json).collect())),
    }
}

fn optimizer_json(name: OptimizerName) -> Value {
    let info = name.info();
    let meaning = |option: &OptionInfo| {
        json!({
            "key": option.key,
            "about": option.about,
            "values": option.values,
            "default": (option.default)(),
        })
    };
    json!({
        "name": name.as_str(),
        "title": name.title(),
        "summary": info.summary,
        "learning_rates": (info.learning_rates)(),
        "dampings": (info.dampings)(),
        "options": name.options().map(|option| option.key).collect::<Vec<_>>(),
        "option_details": name.options().map(meaning).collect::<Vec<_>>(),
        "samples_labels": name.samples_labels(),
    })
}

/// A line for each option; one that differs from optimizer to optimizer has several.
fn option_lines() -> String {
    let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
    for key in OptimizerName::all_options().into_iter().map(|option| option.key) {
        for name in OptimizerName::all() {
            let Some(option) = name.option(key) else { continue };
            let line = format!("{key}: {} ({}; default {})", option.about, option.values, (option.default)());
            match lines.iter_mut().find(|(known, _)| *known == line) {
                Some((_, names)) => names.push(name.as_str()),
                None => lines.push((line, vec![name.as_str()])),
            }
        }
    }
    let all = OptimizerName::all().count();
    let who = |names: &[&str]| if names.len() == all { "all".to_owned() } else { names.join(", ") };
    let lines = lines.iter().map(|(line, names)| wrapped(&format!("{line}: {}", who(names)), 0));
    "Options; each can be a list, which is gridded:\n".to_owned() + &lines.collect::<String>()
}

/// A few values, or the first and last of many.
fn values(values: &[f64]) -> String {
    let text: Vec<String> = values.iter().map(f64::to_string).collect();
    match &text[..] {
        [first, .., last] if text.len() > 3 => format!("{} from {first} to {last}", text.len()),
        all => all.join(", "),
    }
}

// `list quantities`: what the extended backward pass extracts, and for which layer types.

/// The text for all quantities.
pub(super) fn list_quantities(format: Format) -> Result<String> {
    let support = table()?;
    let quantities = quantities::all();
    let rows = quantities.iter().map(|one| [one.name(), one.shape(), one.about()].map(str::to_owned)).collect();
    let rows = Rows { header: ["quantity", "shape", "about"], rows };
    match format {
        Format::Table => Ok(rows.table(&["shape"]) + "\n" + &exceptions(&support)),
        Format::Csv => {
            let widened = rows.rows.into_iter().enumerate().map(|(number, [quantity, shape, about])| {
                let refused =
                    support.iter().filter(|row| row.cells[number].1.is_refused()).map(|row| row.layer.as_str());
                let refused = refused.collect::<Vec<_>>().join("; ");
                let left_out = support.iter().filter(|row| matches!(row.cells[number].1, Support::LeftOut(_)));
                let left_out = left_out.map(|row| row.layer.as_str()).collect::<Vec<_>>().join("; ");
                [quantity, shape, about, refused, left_out]
            });
            Rows { header: ["quantity", "shape", "about", "not_for", "left_out"], rows: widened.collect() }.csv()
        }
        Format::Json => {
            let mut objects = rows.objects();
            for (number, object) in objects.as_array_mut().into_iter().flatten().enumerate() {
                object["layers"] = support.iter().map(|row| cell(row, number)).collect();
            }
            Ok(document("quantities", objects))
        }
    }
}

fn cell(row: &Row, number: usize) -> Value {
    let support = &row.cells[number].1;
    let left_out = matches!(support, Support::LeftOut(_));
    json!({
        "layer": row.layer,
        "possible": !support.is_refused(),
        "left_out": left_out,
        "reason": support.reason(),
    })
}

/// The layer types that quantities are not for; quantities with the same exceptions share a line.
fn exceptions(support: &[Row]) -> String {
    let number_of_quantities = support.first().map_or(0, |row| row.cells.len());
    let word = |row: &Row, number: usize| row.cells[number].1.word();
    let everywhere: Vec<usize> =
        (0..number_of_quantities).filter(|number| support.iter().all(|row| word(row, *number) == "yes")).collect();
    let name = |number: &usize| support[0].cells[*number].0.name();
    // Layers beside which nothing else is possible are named once, not with every quantity.
    let is_strict =
        |row: &&Row| (0..number_of_quantities).all(|number| everywhere.contains(&number) || word(row, number) == "no");
    let (strict, others): (Vec<&Row>, Vec<&Row>) = support.iter().partition(is_strict);
    let mut groups: Vec<(Vec<&str>, Vec<&str>)> = Vec::new();
    for number in 0..number_of_quantities {
        let own: Vec<&str> = others.iter().map(|row| word(row, number)).collect();
        match groups.iter_mut().find(|(known, _)| *known == own) {
            Some((_, names)) => names.push(name(&number)),
            None => groups.push((own, vec![name(&number)])),
        }
    }
    let mut text = wrapped("Every quantity goes through every layer type, with these exceptions:", 0);
    if !strict.is_empty() {
        let layers: Vec<&str> = strict.iter().map(|row| row.layer.as_str()).collect();
        let alone: Vec<&str> = everywhere.iter().map(name).collect();
        text += &wrapped(&format!("only {}: networks with {}", alone.join(", "), layers.join(", ")), 2);
    }
    for (own, names) in groups {
        for (answer, what) in [("no", "not for networks with"), ("left out", "not for the parameters of")] {
            let layers =
                others.iter().zip(&own).filter(|(_, cell)| **cell == answer).map(|(row, _)| row.layer.as_str());
            let layers: Vec<&str> = layers.collect();
            if !layers.is_empty() {
                text += &wrapped(&format!("{}: {what} {}", names.join(", "), layers.join(", ")), 2);
            }
        }
    }
    text
}
