//! What a network consists of, layer by layer: options, output shapes, and parameters by name with their shapes.

use serde::Serialize;

use crate::error::Result;

use super::builder::lay_out;
use super::definition::{LayerDefinition, ProblemDefinition};
use crate::backpack::Network;
use crate::backpack::network::Node;

/// A layer of a network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerRow {
    /// What it is called: its name, or its place ("3").
    pub index: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its options, those that differ from their defaults.
    pub options: String,
    /// The shape of its output, for one sample.
    pub output_shape: Vec<i64>,
    /// Its parameters.
    pub parameters: Vec<ParameterRow>,
}

/// A parameter of a network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ParameterRow {
    /// "3.weight".
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// How many entries it has.
    pub count: usize,
}

/// The layers of a problem's network for samples of shape `input_shape`.
///
/// # Errors
/// As [`super::builder::build_network`].
pub fn layer_table(definition: &ProblemDefinition, input_shape: &[i64]) -> Result<Vec<LayerRow>> {
    let network = lay_out(definition, input_shape)?;
    table_of(definition, &network, input_shape)
}

/// The layers of a problem's network, which is at hand.
///
/// # Errors
/// As [`Network::shapes`].
pub fn table_of(definition: &ProblemDefinition, network: &Network, input_shape: &[i64]) -> Result<Vec<LayerRow>> {
    let shapes = network.shapes(input_shape)?;
    let named = network.parameters();
    let row = |(place, (node, layer)): (usize, (&Node, &LayerDefinition))| {
        let parameters = node.numbered().map(|(number, parameter)| ParameterRow {
            name: named[number].name.clone(),
            shape: parameter.value.size(),
            count: parameter.value.numel(),
        });
        LayerRow {
            index: node.name.clone(),
            kind: layer.kind(),
            options: layer.summary(),
            output_shape: shapes.of_node(place).to_vec(),
            parameters: parameters.collect(),
        }
    };
    Ok(network.nodes().iter().zip(&definition.layers).enumerate().map(row).collect())
}
