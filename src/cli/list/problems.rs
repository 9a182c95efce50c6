//! `list problems`: data, network and training defaults of problems.

use serde_json::{Value, json};

use super::render::{Rows, document, grouped, shape};
use crate::cli::flags::Format;
use crate::cli::tables::whole;
use crate::cli::terminal::wrapped;
use crate::error::Result;
use crate::problems::builder::{check_outputs, lay_out};
use crate::problems::data::{self, DataFolders, DataInfo, DataSource};
use crate::problems::definition::{self, ProblemDefinition, built_in_names};
use crate::problems::{LayerRow, table_of};

struct Problem {
    definition: ProblemDefinition,
    data: DataInfo,
    layers: Vec<LayerRow>,
}

/// The text for problems of these names, or for all that are built in: overview, and layer by layer where named.
pub(super) fn list(names: &[String], folders: &DataFolders, format: Format) -> Result<String> {
    let all: Vec<String> = built_in_names().iter().map(|name| name.to_string()).collect();
    let problems = (if names.is_empty() { &all[..] } else { names })
        .iter()
        .map(|name| Problem::load(name, folders))
        .collect::<Result<Vec<_>>>()?;
    match format {
        Format::Table if names.is_empty() => {
            Ok(overview(&problems).table(&["layers", "augment", "l2", "batch size", "epochs"]))
        }
        Format::Table => Ok(problems.iter().map(Problem::details).collect::<Vec<_>>().join("\n")),
        Format::Csv => layers(&problems).csv(),
        Format::Json => Ok(document("problems", problems.iter().map(Problem::json).collect())),
    }
}

impl Problem {
    fn load(name: &str, folders: &DataFolders) -> Result<Self> {
        let definition = definition::load(name)?;
        let data = data::describe(&definition.dataset, folders)?;
        let network = lay_out(&definition, &data.shape)?;
        check_outputs(&definition, &network, &data)?;
        let layers = table_of(&definition, &network, &data.shape)?;
        Ok(Problem { definition, data, layers })
    }

    fn parameters(&self) -> usize {
        self.layers.iter().flat_map(|layer| &layer.parameters).map(|parameter| parameter.count).sum()
    }

    fn valid_size(&self) -> usize {
        self.definition.valid_size.unwrap_or(self.data.default_valid_size)
    }

    /// The problem layer by layer.
    fn details(&self) -> String {
        let problem = &self.definition;
        let classes = self.data.classes.map_or("float targets".to_owned(), |classes| format!("{classes} classes"));
        let layer = |layer: &LayerRow| {
            let parameters = layer.parameters.iter();
            [
                layer.index.clone(),
                layer.kind.to_owned(),
                layer.options.clone(),
                whole(&shape(&layer.output_shape)),
                parameters.map(|row| whole(&format!("{} {:?}", row.name, row.shape))).collect::<Vec<_>>().join("\n"),
            ]
        };
        let rows = Rows {
            header: ["layer", "type", "options", "output", "parameters"],
            rows: self.layers.iter().map(layer).collect(),
        };
        let training = format!(
            "{}: {} parameters, {} ({}), batch size {}, {}, l2 {}{}",
            problem.name,
            grouped(self.parameters()),
            problem.loss.map_or_else(|| "no loss".to_owned(), |loss| loss.to_string()),
            problem.reduction.as_str(),
            problem.batch_size,
            problem.limit.map_or_else(|| format!("{} epochs", problem.epochs), |limit| limit.to_string()),
            problem.l2,
            if problem.augment { ", augmented" } else { "" }
        );
        let data = match &problem.dataset {
            DataSource::Absent(_) => format!("data: your own, samples of {}", shape(&self.data.shape)),
            _ => format!(
                "data: {}, {}, {classes}, {} training, {} validation and {} test samples",
                self.data.name,
                shape(&self.data.shape),
                grouped(self.data.train.saturating_sub(self.valid_size())),
                grouped(self.valid_size()),
                grouped(self.data.test)
            ),
        };
        wrapped(&training, 0) + &wrapped(&data, 0) + &rows.table(&["options"])
    }

    fn json(&self) -> Value {
        let problem = &self.definition;
        json!({
            "name": problem.name,
            "dataset": problem.dataset,
            "data": {
                "name": self.data.name,
                "shape": self.data.shape,
                "classes": self.data.classes,
                "train": self.data.train,
                "test": self.data.test,
            },
            "loss": problem.loss,
            "reduction": problem.reduction,
            "targets": problem.targets,
            "batch_size": problem.batch_size,
            "drop_last": problem.drop_last,
            "epochs": problem.epochs,
            "l2": problem.l2,
            "augment": problem.augment,
            "valid_size": self.valid_size(),
            "parameter_count": self.parameters(),
            "parameters": self.layers.iter().flat_map(|layer| &layer.parameters).collect::<Vec<_>>(),
            "layers": self.layers,
        })
    }
}

fn overview(problems: &[Problem]) -> Rows<8> {
    let row = |problem: &Problem| {
        let definition = &problem.definition;
        let mut kinds: Vec<(&str, usize)> = Vec::new();
        for layer in problem.layers.iter().filter(|layer| !layer.parameters.is_empty()) {
            match kinds.iter_mut().find(|(kind, _)| *kind == layer.kind) {
                Some((_, number)) => *number += 1,
                None => kinds.push((layer.kind, 1)),
            }
        }
        let kinds: Vec<String> = kinds.iter().map(|(kind, number)| whole(&format!("{number} {kind}"))).collect();
        let data = match &definition.dataset {
            DataSource::Absent(_) => "your own",
            _ => problem.data.name.as_str(),
        };
        [
            definition.name.clone(),
            format!("{data}, {}", shape(&problem.data.shape).replace(' ', "")),
            grouped(problem.parameters()),
            format!("{} ({} with parameters)", problem.layers.len(), kinds.join(", ")),
            definition.batch_size.to_string(),
            definition.limit.map_or_else(|| definition.epochs.to_string(), |limit| limit.to_string()),
            definition.l2.to_string(),
            if definition.augment { "yes" } else { "no" }.to_owned(),
        ]
    };
    Rows {
        header: ["problem", "data", "parameters", "layers", "batch_size", "epochs", "l2", "augment"],
        rows: problems.iter().map(row).collect(),
    }
}

/// A row for each layer.
fn layers(problems: &[Problem]) -> Rows<7> {
    let row = |problem: &Problem, layer: &LayerRow| {
        [
            problem.definition.name.clone(),
            problem.data.name.clone(),
            layer.index.clone(),
            layer.kind.to_owned(),
            layer.options.clone(),
            shape(&layer.output_shape),
            layer.parameters.iter().map(|parameter| parameter.count).sum::<usize>().to_string(),
        ]
    };
    Rows {
        header: ["problem", "dataset", "layer", "type", "options", "output_shape", "parameters"],
        rows: problems.iter().flat_map(|problem| problem.layers.iter().map(move |layer| row(problem, layer))).collect(),
    }
}
