//! Which quantity can be had for which layer type: the table, made by asking the registries.

use std::sync::Arc;

use crate::backpack::layers::{Flatten, Linear, LinearOptions, Mode, ParameterSource, Site, layer_types};
use crate::backpack::network::{Network, Operation, Part, Value};
use crate::backpack::quantities::{Quantity, all};
use crate::backpack::request::why_not;
use crate::error::Result;

/// A layer of a built-in type that stands for its type, or for a use of it that differs in what it allows.
#[derive(Debug)]
pub struct Specimen {
    /// The layer type's name, as in problem files.
    pub layer: &'static str,
    /// The circumstance, where it matters: "with extra dimensions".
    pub circumstance: Option<&'static str>,
    /// The shape of one input.
    pub input: Vec<i64>,
    /// How the pass is made.
    pub mode: Mode,
    /// How many inputs of this shape it takes.
    pub inputs: usize,
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

    /// The operation as a part of a network, taking this value; a merge takes it as often as it takes inputs.
    pub fn part(self, name: &str, value: Value) -> Part {
        match self.built {
            Operation::Layer(layer) => Part::layer(name, layer, value),
            Operation::Merge(merge) => Part::merge(name, merge, vec![value; self.inputs]),
        }
    }
}

/// Whether a network with such a layer has a quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It has.
    Possible,
    /// It has, without this layer's parameters; the reason.
    LeftOut(String),
    /// It has not; the refusal.
    Refused(String),
}

impl Support {
    /// A word for tables.
    pub fn word(&self) -> &'static str {
        match self {
            Support::Possible => "yes",
            Support::LeftOut(_) => "left out",
            Support::Refused(_) => "no",
        }
    }

    /// Why not; None where it is possible for the layer's parameters too.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Support::Possible => None,
            Support::LeftOut(reason) | Support::Refused(reason) => Some(reason),
        }
    }

    /// Whether the network as a whole does not have it.
    pub fn is_refused(&self) -> bool {
        matches!(self, Support::Refused(_))
    }
}

/// A row of the table: a layer type with its cells.
#[derive(Debug)]
pub struct Row {
    /// The layer type and the circumstance.
    pub layer: String,
    /// Quantity by quantity, in the registry's order.
    pub cells: Vec<(Arc<dyn Quantity>, Support)>,
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
            let network = among_others(specimen)?;
            let cells = all().into_iter().map(|quantity| {
                let reason = why_not(&network, &input, mode, quantity.as_ref())?;
                let layer = network.with_parameters().find(|(node, _)| node.name == FIRST);
                let left_out = || layer.and_then(|(_, layer)| quantity.leaves_out(layer));
                let support = match reason {
                    Some(reason) => Support::Refused(reason),
                    None => left_out().map_or(Support::Possible, Support::LeftOut),
                };
                Ok((quantity, support))
            });
            Ok(Row { layer, cells: cells.collect::<Result<_>>()? })
        })
        .collect()
}

const FIRST: &str = "0";

/// A network of the specimen and a linear layer, which has every quantity, with one axis of outputs, which every
/// quantity takes.
fn among_others(specimen: Specimen) -> Result<Network> {
    let outputs = match &specimen.built {
        Operation::Layer(layer) => layer.output_shape(&specimen.input)?,
        Operation::Merge(merge) => merge.output_shape(&vec![specimen.input.as_slice(); specimen.inputs])?,
    };
    let linear = Linear::new(&[outputs.iter().product()], &LinearOptions { out_features: 2, bias: true })?;
    Network::new(vec![
        specimen.part(FIRST, Value::INPUT),
        Part::layer("1", Box::new(Flatten::new()), Value::of_node(0)),
        Part::layer("2", Box::new(linear), Value::of_node(1)),
    ])
}

/// One layer of every type and circumstance, small.
///
/// # Errors
/// As [`table`].
pub fn specimens() -> Result<Vec<Specimen>> {
    let all = layer_types().into_iter().flat_map(|entry| entry.specimens.iter().map(move |example| (entry, example)));
    all.map(|(entry, example)| {
        let inputs = vec![example.input; entry.inputs];
        let site = Site { inputs: &inputs, place: 0, parameters: ParameterSource::Drawn };
        Ok(Specimen {
            layer: entry.name,
            circumstance: example.circumstance,
            input: example.input.to_vec(),
            mode: example.mode,
            inputs: entry.inputs,
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
        for layer in LAYER_TYPES.iter() {
            assert!(specimens.iter().any(|specimen| specimen.layer == layer.name), "{} has none", layer.name);
        }
    }

    #[test]
    fn what_is_not_possible_is_known() {
        let (mut refused, mut left_out) = (Vec::new(), Vec::new());
        for row in table().unwrap().into_iter().filter(|row| !row.layer.ends_with("while training")) {
            for (quantity, support) in row.cells {
                let cell = (quantity.name(), row.layer.clone());
                match support {
                    Support::Refused(_) => refused.push(cell),
                    Support::LeftOut(_) => left_out.push(cell),
                    Support::Possible => {}
                }
            }
        }
        let norms: Vec<String> = ["batch_norm1d", "batch_norm2d", "batch_norm3d"]
            .iter()
            .flat_map(|norm| ["in evaluation", "frozen"].map(|when| format!("{norm} {when}")))
            .collect();
        let others = [
            "embedding",
            "layer_norm",
            "rms_norm",
            "group_norm",
            "position_embedding",
            "gain",
            "class_token",
            "rnn",
            "lstm",
        ];
        let without_factors = [norms.as_slice(), others.map(str::to_owned).as_slice()].concat();
        let sorted = |mut layers: Vec<String>| {
            layers.sort();
            layers
        };
        let without_factors = sorted(without_factors);
        for quantity in ["kfac", "kflr"] {
            let layers: Vec<&String> =
                left_out.iter().filter(|(name, _)| *name == quantity).map(|(_, at)| at).collect();
            assert_eq!(sorted(layers.into_iter().cloned().collect()), without_factors, "{quantity}");
        }
        // Transposed convolutions have the factors of kfac and kflr alone.
        for quantity in ["kfac_expand", "kfac_reduce", "kflr_expand", "kflr_reduce", "ekfac"] {
            let layers = left_out.iter().filter(|(name, _)| *name == quantity).map(|(_, at)| at);
            let (transposed, others): (Vec<&String>, Vec<&String>) =
                layers.partition(|layer| layer.starts_with("conv_transpose"));
            assert_eq!(transposed.len(), 6, "{quantity}: {transposed:?}");
            assert_eq!(sorted(others.into_iter().cloned().collect()), without_factors, "{quantity}");
        }
        let chains_only = ["linear with extra dimensions", "pad", "slice", "permute", "reshape", "scale", "mean"];
        let mixing = ["self_attention", "attention", "add", "multiply", "concat"];
        let mut without_recursion = without_factors.clone();
        without_recursion.extend(chains_only.into_iter().chain(mixing).map(str::to_owned));
        let of = |quantity: &str| -> Vec<String> {
            refused.iter().filter(|(name, _)| *name == quantity).map(|(_, layer)| layer.clone()).collect()
        };
        assert_eq!(sorted(of("kfra")), sorted(without_recursion));
        for quantity in ["diag_hessian", "batch_diag_hessian"] {
            assert_eq!(of(quantity), ["rnn", "lstm"], "{quantity}");
        }
        assert!(
            refused.iter().all(|(name, _)| ["kfra", "diag_hessian", "batch_diag_hessian"].contains(name)),
            "{refused:?}"
        );
    }
}
