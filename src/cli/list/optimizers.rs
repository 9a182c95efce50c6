//! `list optimizers`: the optimizers with the grids that are tried where none is given.

use serde_json::{Value, json};

use super::render::{Rows, document};
use crate::cli::flags::Format;
use crate::error::Result;
use crate::optimizers::{OPTIONS, OptimizerName, OptionInfo};
use crate::study::experiment::{default_dampings, default_learning_rates};

/// The text for all optimizers.
pub(super) fn list(format: Format) -> Result<String> {
    let row = |name: OptimizerName| {
        [
            name.as_str().to_owned(),
            name.title().to_owned(),
            summary(name).to_owned(),
            values(&default_learning_rates(name)),
            values(&default_dampings(name)),
            options(name).join(", "),
        ]
    };
    let rows = Rows {
        header: ["optimizer", "title", "summary", "learning_rates", "dampings", "options"],
        rows: OptimizerName::ALL.into_iter().map(row).collect(),
    };
    match format {
        Format::Table => Ok(rows.table() + &option_lines()),
        Format::Csv => rows.csv(),
        Format::Json => Ok(document("optimizers", OptimizerName::ALL.into_iter().map(json_of).collect())),
    }
}

fn json_of(name: OptimizerName) -> Value {
    json!({
        "name": name.as_str(),
        "title": name.title(),
        "summary": summary(name),
        "learning_rates": default_learning_rates(name),
        "dampings": default_dampings(name),
        "options": options(name),
        "samples_labels": name.samples_labels(),
    })
}

fn summary(name: OptimizerName) -> &'static str {
    match name {
        OptimizerName::Sgd => "stochastic gradient descent",
        OptimizerName::Momentum => "SGD with momentum 0.9",
        OptimizerName::Adam => "Adam with PyTorch's defaults",
        OptimizerName::DiagGgn => "damped step with the exact diagonal of the GGN",
        OptimizerName::DiagGgnMc => "damped step with a sampled diagonal of the GGN",
        OptimizerName::Kfac => "damped step with Kronecker factors from sampled labels",
        OptimizerName::Kflr => "damped step with Kronecker factors from the exact square root",
        OptimizerName::Kfra => "damped step with Kronecker factors of the averaged recursion",
    }
}

fn options(name: OptimizerName) -> Vec<&'static str> {
    OPTIONS.iter().filter(|option| option.fits(name)).map(|option| option.key).collect()
}

/// A line for each option.
fn option_lines() -> String {
    let line = |option: &OptionInfo| {
        format!("{}: {} ({}; default {})\n", option.key, option.about, option.values, option.default)
    };
    OPTIONS.iter().map(line).collect()
}

/// A few values, or the first and last of many.
fn values(values: &[f64]) -> String {
    let text: Vec<String> = values.iter().map(f64::to_string).collect();
    match &text[..] {
        [first, .., last] if text.len() > 6 => format!("{} from {first} to {last}", text.len()),
        all => all.join(", "),
    }
}
