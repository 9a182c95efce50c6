//! Makes a network and a loss from a problem's definition: shapes are inferred, parameters get their initial values;
//! and the table of what a network consists of.

use std::collections::BTreeMap;

use serde::Serialize;

use super::data::{DataInfo, DataSource, Fit, Wanted, vocabulary_size};
use super::definition::{LayerDefinition, LossKind, ProblemDefinition, TargetsKind};
use crate::backpack::init::{Fans, Init};
use crate::backpack::layers::{ParameterSource, Site};
use crate::backpack::losses::{BceWithLogits, CrossEntropy, Loss, MeanSquaredError, Reduction};
use crate::backpack::network::{Network, Node, Operation, Part, Value};
use crate::backpack::{memory, tensor_file};
use crate::error::{Error, Result};
use crate::numbers::MAX_SIZE;

/// The network of a problem for samples of shape `input_shape`, in f32 on the CPU, with the initial parameters of this
/// seed, or of the problem's file of weights.
///
/// # Errors
/// [`Error::Config`] that points at the layer which does not fit its input and tells the shape that arrives there
/// ([`Error::Shape`] where the definition comes from no file); [`Error::Environment`] where the memory does not suffice.
pub fn build_network(definition: &ProblemDefinition, input_shape: &[i64], seed: u64) -> Result<Network> {
    check_room(definition, input_shape)?;
    let mut network = assemble(definition, input_shape, ParameterSource::Zeros)?;
    initialise(&mut network, definition, seed);
    if let Some(path) = &definition.weights {
        let tensors = tensor_file::read(path)?.floats()?;
        network.load(tensors).map_err(|error| match error {
            Error::Shape(_) | Error::Weights { .. } => Error::Shape(format!("{}: {error}", path.display())),
            other => other,
        })?;
    }
    Ok(network)
}

/// The same network for its shapes alone: its parameters take no memory, and have no values.
///
/// # Errors
/// As [`build_network`], want of memory apart.
pub fn lay_out(definition: &ProblemDefinition, input_shape: &[i64]) -> Result<Network> {
    assemble(definition, input_shape, ParameterSource::Outline)
}

/// Refuses a network whose parameters do not fit into the memory.
fn check_room(definition: &ProblemDefinition, input_shape: &[i64]) -> Result<()> {
    let network = lay_out(definition, input_shape)?;
    let entries = network.parameters().iter().map(|parameter| parameter.value.numel() as u64).collect::<Vec<_>>();
    // As floats, and one at a time as the doubles that its initial values are drawn in, twice.
    let bytes = 4 * entries.iter().sum::<u64>() + 16 * entries.iter().max().copied().unwrap_or(0);
    memory::check_room(format_args!("the parameters of {}", definition.name), bytes)
}

/// The loss of a problem.
///
/// # Errors
/// [`Error::Usage`] where it names none.
pub fn build_loss(definition: &ProblemDefinition) -> Result<Box<dyn Loss>> {
    Ok(loss(definition.loss()?, definition.reduction))
}

/// A loss.
pub fn loss(kind: LossKind, reduction: Reduction) -> Box<dyn Loss> {
    match kind {
        LossKind::CrossEntropy => Box::new(CrossEntropy::new(reduction)),
        LossKind::Mse => Box::new(MeanSquaredError::new(reduction)),
        LossKind::BceWithLogits => Box::new(BceWithLogits::new(reduction)),
    }
}

/// How the samples of a data set become batches for the network and the problem's loss.
///
/// # Errors
/// As [`DataInfo::fit`]; a misfit of shapes points at the last layer that has parameters.
pub fn fit_data(definition: &ProblemDefinition, network: &Network, data: &DataInfo) -> Result<Fit> {
    let shapes = network.shapes(&data.shape)?;
    data.fit(&wanted(definition, network, shapes.output())).map_err(|error| at_last_layer(definition, network, error))
}

/// What the network, with an output of this shape for each sample, and the problem's loss want of data.
pub fn wanted<'a>(definition: &ProblemDefinition, network: &Network, output: &'a [i64]) -> Wanted<'a> {
    Wanted {
        integers: network.integers(),
        output,
        classes: definition.loss == Some(LossKind::CrossEntropy),
        inputs: definition.targets == TargetsKind::Input,
    }
}

/// Checks that the network's outputs fit the labels of its data; a problem whose loss is for other targets may be measured
/// on drawn ones, if its outputs are as many as the classes.
///
/// # Errors
/// As [`fit_data`].
pub fn check_outputs(definition: &ProblemDefinition, network: &Network, data: &DataInfo) -> Result<()> {
    if matches!(definition.dataset, DataSource::Absent(_)) || definition.loss.is_none() {
        return Ok(());
    }
    let takes_labels = definition.loss == Some(LossKind::CrossEntropy);
    if definition.targets == TargetsKind::Input || data.classes.is_some() == takes_labels {
        return fit_data(definition, network, data).map(drop);
    }
    let shapes = network.shapes(&data.shape)?;
    data.check_outputs(shapes.output().iter().product()).map_err(|error| at_last_layer(definition, network, error))
}

/// Points an error about shapes at the last layer that has parameters.
fn at_last_layer(definition: &ProblemDefinition, network: &Network, error: Error) -> Error {
    let mut places = network.nodes().iter().zip(&definition.layers);
    let last = places.rfind(|(node, _)| !node.parameters().is_empty());
    match (last, &error) {
        (Some((_, layer)), Error::Shape(_)) if layer.place.source().is_some() => {
            layer.place.error(format!("{} does not fit its data", definition.name), error.to_string()).into()
        }
        _ => error,
    }
}

/// The network, with parameters from this source.
fn assemble(definition: &ProblemDefinition, input_shape: &[i64], parameters: ParameterSource) -> Result<Network> {
    let takes_vocabulary = definition.layers.iter().any(|layer| layer.vocabulary.is_some());
    let vocabulary = if takes_vocabulary { vocabulary_size(&definition.dataset)? } else { None };
    let mut values = BTreeMap::from([("input".to_owned(), Value::INPUT)]);
    let mut shapes = BTreeMap::from([(Value::INPUT, input_shape.to_vec())]);
    let mut parts: Vec<Part> = Vec::with_capacity(definition.layers.len());
    let mut before = Value::INPUT;
    for (index, layer) in definition.layers.iter().enumerate() {
        let inputs = match layer.inputs.as_slice() {
            [] => vec![before],
            names => names
                .iter()
                .map(|name| {
                    values.get(name).copied().ok_or_else(|| Error::Shape(format!("`{name}` is no earlier layer")))
                })
                .collect::<Result<_>>()?,
        };
        let arriving: Vec<&[i64]> = inputs.iter().map(|value| shapes[value].as_slice()).collect();
        let (operation, leaving) = fit(layer, &arriving, index, vocabulary, parameters)
            .map_err(|error| misfit(layer, index, &arriving, &error))?;
        let name = layer.name.clone().unwrap_or_else(|| index.to_string());
        before = Value::of_node(index);
        values.insert(name.clone(), before);
        shapes.insert(before, leaving);
        check_names(layer, &operation)?;
        let tied = layer.tied.as_ref().map(|source| {
            let owner = definition.layers[..index].iter().zip(&parts).find(|(_, part)| part.name == *source);
            let own = owner.and_then(|(layer, _)| layer.names.get("weight").cloned());
            ("weight".to_owned(), own.unwrap_or_else(|| format!("{source}.weight")))
        });
        parts.push(Part {
            parameter_names: layer.names.clone(),
            tied: tied.into_iter().collect(),
            ..Part::new(name, operation, inputs)
        });
    }
    let last = &shapes[&before];
    if let (Some(layer), true) = (definition.layers.last(), last.is_empty()) {
        let error = Error::Shape("the network's output is a single number, a loss takes a list".to_owned());
        return Err(misfit(layer, definition.layers.len() - 1, &[last], &error));
    }
    let network = Network::new(parts)?;
    check_input(definition, &network)?;
    Ok(network)
}

/// Checks that the network takes what a problem without data says of its input.
fn check_input(definition: &ProblemDefinition, network: &Network) -> Result<()> {
    let DataSource::Absent(input) = &definition.dataset else { return Ok(()) };
    match (input.integers, network.integers()) {
        (None, None) => Ok(()),
        (Some(count), Some(rows)) if count <= rows => Ok(()),
        (Some(count), Some(rows)) => Err(Error::Shape(format!(
            "input.integers = {count}, but the network's embedding has {rows} rows: change num_embeddings"
        ))),
        (Some(_), None) => Err(Error::Shape("input.integers is given, but the network takes floats".to_owned())),
        (None, Some(rows)) => Err(Error::Shape(format!(
            "the network takes integers: say how many different ones, input = {{ shape = .., integers = {rows} }}"
        ))),
    }
}

/// The operation and the shape that leaves it.
fn fit(
    layer: &LayerDefinition,
    inputs: &[&[i64]],
    index: usize,
    vocabulary: Option<i64>,
    parameters: ParameterSource,
) -> Result<(Operation, Vec<i64>)> {
    let place = u32::try_from(index).unwrap_or(u32::MAX);
    let operation = layer.sized(vocabulary)?.build(&Site { inputs, place, parameters })?;
    let output = match &operation {
        Operation::Layer(layer) => layer.output_shape(inputs[0])?,
        Operation::Merge(merge) => merge.output_shape(inputs)?,
    };
    let count = output.iter().try_fold(1i64, |product, size| product.checked_mul(*size));
    match count {
        Some(count) if (1..=MAX_SIZE).contains(&count) => Ok((operation, output)),
        _ => Err(Error::Shape(format!("an output of {output:?} for each sample is too large"))),
    }
}

/// Checks that `names` are for parameters that the layer has.
fn check_names(layer: &LayerDefinition, operation: &Operation) -> Result<()> {
    let parameters: Vec<&str> = match operation {
        Operation::Layer(layer) => layer.parameters().iter().map(|parameter| parameter.name).collect(),
        Operation::Merge(_) => Vec::new(),
    };
    let Some(unknown) = layer.names.keys().find(|name| !parameters.contains(&name.as_str())) else { return Ok(()) };
    let known = if parameters.is_empty() { "none".to_owned() } else { parameters.join(", ") };
    let title = format!("`names` has `{unknown}`, which is no parameter of {}", layer.kind());
    Err(layer.place.error(title, format!("its parameters: {known}")).into())
}

fn misfit(layer: &LayerDefinition, index: usize, inputs: &[&[i64]], error: &Error) -> Error {
    let name = layer.kind();
    let arriving = match inputs {
        [one] => format!("the shape that arrives at layer {index} is {one:?}"),
        several => format!("the shapes that arrive at layer {index} are {several:?}"),
    };
    if layer.place.source().is_none() {
        return Error::Shape(format!("layer {index} ({name}) does not fit: {error}; {arriving}"));
    }
    layer.place.error(format!("layer {index} ({name}) does not fit"), error.to_string()).help(arriving).into()
}

/// Gives every parameter its initial value, from the stream of its place among the network's parameters.
fn initialise(network: &mut Network, definition: &ProblemDefinition, seed: u64) {
    for (node, layer) in network.nodes().iter().zip(&definition.layers) {
        let Some(weight) = node.parameters().first() else { continue };
        let fans = Fans::of_weight(&weight.value.size());
        for (number, parameter) in node.numbered() {
            let init = match layer.inits.get(parameter.name) {
                Some(init) if *init != Init::Default => *init,
                _ => parameter.start,
            };
            init.fill(&parameter.value, fans, seed, number as u64);
        }
    }
}

// What a network consists of, layer by layer: options, output shapes, and parameters by name with their shapes.

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
/// As [`build_network`].
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
