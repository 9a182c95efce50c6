//! Which quantity can be had for which layer type: the table, made by asking the registries.

use std::sync::Arc;

use crate::backpack::layers::{Flatten, Mode, ParameterSource, Site, layer_types};
use crate::backpack::network::{Network, Operation, Part, Value};
use crate::backpack::quantities::{Quantity, all};
use crate::backpack::request::why_not;
use crate::error::Result;

/// A layer of a built-in type that stands for its type, or for a use of it that differs in what it allows.
pub struct Specimen {
    /// The layer type's name, as in problem files.
    pub layer: &'static str,
    /// The circumstance, where it matters: "with extra dimensions".
    pub circumstance: Option<&'static str>,
    /// The shape of one input.
    pub input: Vec<i64>,
    /// How the pass is made.
    pub mode: Mode,
    /// The operation itself, parameters as its constructor leaves them.
    pub built: Operation,
}

impl Specimen {
    /// The layer type and the circumstance.
    pub fn title(&self) -> String {
        match self.circumstance {
            Some(circumstance) => format!("{} {circumstance}", self.layer),
            None => self.layer.to_owned(),
        }
    }

    /// The operation as a part of a network, taking this value; a merge takes it twice.
    pub fn part(self, name: &str, value: Value) -> Part {
        match self.built {
            Operation::Layer(layer) => Part::layer(name, layer, value),
            Operation::Merge(merge) => Part::merge(name, merge, vec![value, value]),
        }
    }
}

/// A row of the table: a layer type, and for every quantity why it cannot be had, or None.
pub struct Row {
    /// The layer type and the circumstance.
    pub layer: String,
    /// Quantity by quantity, in the registry's order: the quantity, and the refusal without the layer's place.
    pub cells: Vec<(Arc<dyn Quantity>, Option<String>)>,
}

/// The support table: a row for every specimen, a cell for every built-in quantity.
///
/// # Errors
/// None but a bug's: what a specimen's own shapes would say.
pub fn table() -> Result<Vec<Row>> {
    specimens()?
        .into_iter()
        .map(|specimen| {
            let (layer, input, mode) = (specimen.title(), specimen.input.clone(), specimen.mode);
            // With one axis of outputs, which every quantity takes.
            let flatten = Part::layer("1", Box::new(Flatten::new()), Value::of_node(0));
            let network = Network::new(vec![specimen.part("0", Value::INPUT), flatten])?;
            let cells = all().into_iter().map(|quantity| {
                let reason = why_not(&network, &input, mode, quantity.as_ref())?;
                Ok((quantity, reason))
            });
            Ok(Row { layer, cells: cells.collect::<Result<_>>()? })
        })
        .collect()
}

/// One layer of every type and circumstance, small.
///
/// # Errors
/// As [`table`].
pub fn specimens() -> Result<Vec<Specimen>> {
    let all = layer_types().into_iter().flat_map(|entry| entry.specimens.iter().map(move |example| (entry, example)));
    all.map(|(entry, example)| {
        let inputs: &[&[i64]] = if entry.is_merge { &[example.input, example.input] } else { &[example.input] };
        let site = Site { inputs, place: 0, parameters: ParameterSource::Drawn };
        Ok(Specimen {
            layer: entry.name,
            circumstance: example.circumstance,
            input: example.input.to_vec(),
            mode: example.mode,
            built: entry.parse(example.options)?.build(&site)?,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpack::layers::LAYER_TYPES;

    #[test]
    fn every_layer_type_has_a_specimen() {
        let specimens = specimens().unwrap();
        for layer in LAYER_TYPES {
            assert!(specimens.iter().any(|specimen| specimen.layer == layer.name), "{} has none", layer.name);
        }
    }

    #[test]
    fn what_is_not_possible_is_known() {
        let mut refused = Vec::new();
        for row in table().unwrap() {
            for (quantity, reason) in row.cells {
                if reason.is_some() && row.layer != "batch_norm2d while training" {
                    refused.push(format!("{} for {}", quantity.name(), row.layer));
                }
            }
        }
        assert_eq!(
            refused,
            [
                "kfra for linear with extra dimensions",
                "kfac for batch_norm2d in evaluation",
                "kflr for batch_norm2d in evaluation",
                "kfra for batch_norm2d in evaluation",
                "kfac for batch_norm2d frozen",
                "kflr for batch_norm2d frozen",
                "kfra for batch_norm2d frozen",
                "kfra for pad",
                "kfra for slice",
                "kfra for permute",
                "kfra for reshape",
                "kfra for scale",
                "kfra for mean",
                "kfac for embedding",
                "kflr for embedding",
                "kfra for embedding",
                "kfac for position_embedding",
                "kflr for position_embedding",
                "kfra for position_embedding",
                "kfac for gain",
                "kflr for gain",
                "kfra for gain",
                "kfra for add",
                "kfra for multiply",
                "kfra for concat",
            ]
        );
    }
}
