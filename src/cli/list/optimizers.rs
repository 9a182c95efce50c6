//! `list optimizers`: the registry, with the grids that are tried where none is given.

use serde_json::{Value, json};

use super::render::{Rows, document};
use crate::cli::flags::Format;
use crate::cli::terminal::wrapped;
use crate::error::Result;
use crate::optimizers::{OptimizerName, OptionInfo};

/// The text for all optimizers.
pub(super) fn list(format: Format) -> Result<String> {
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
        Format::Json => Ok(document("optimizers", OptimizerName::all().map(json_of).collect())),
    }
}

fn json_of(name: OptimizerName) -> Value {
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
