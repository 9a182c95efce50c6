//! Makes a network and a loss from a problem's definition: shapes are inferred, parameters get their initial values.

use crate::backpack::Network;
use crate::backpack::init::{Fans, Init};
use crate::backpack::layers::Layer;
use crate::backpack::losses::{BceWithLogits, CrossEntropy, Loss, MeanSquaredError};
use crate::config::item::MAX_SIZE;
use crate::error::{Error, Result};

use super::data::DataInfo;
use super::definition::{LayerDefinition, LayerOptions, LossKind, ProblemDefinition};
use super::layer_builder::{build_layer, product};

/// The network of a problem for samples of shape `input_shape`, in f32 on the CPU, with the initial parameters of this
/// seed.
///
/// # Errors
/// [`Error::Config`] that points at the layer which does not fit its input and tells the shape that arrives there
/// ([`Error::Shape`] where the definition comes from no file).
pub fn build_network(definition: &ProblemDefinition, input_shape: &[i64], seed: u64) -> Result<Network> {
    let mut network = Network::sequential(build_layers(definition, input_shape)?);
    initialise(&mut network, definition, seed);
    Ok(network)
}

/// The loss of a problem.
pub fn build_loss(definition: &ProblemDefinition) -> Box<dyn Loss> {
    match definition.loss {
        LossKind::CrossEntropy => Box::new(CrossEntropy::new(definition.reduction)),
        LossKind::Mse => Box::new(MeanSquaredError::new(definition.reduction)),
        LossKind::BceWithLogits => Box::new(BceWithLogits::new(definition.reduction)),
    }
}

/// Checks that the network's outputs fit the labels of its data.
///
/// # Errors
/// As [`DataInfo::check_outputs`], pointing at the last layer that has parameters.
pub fn check_outputs(definition: &ProblemDefinition, network: &Network, data: &DataInfo) -> Result<()> {
    let shapes = network.shapes(&data.shape)?;
    let outputs = product(shapes.output()).unwrap_or(0);
    data.check_outputs(outputs as usize).map_err(|error| {
        let mut places = network.nodes().iter().zip(&definition.layers);
        let last = places.rfind(|(node, _)| !node.parameters().is_empty());
        match last {
            Some((_, layer)) if layer.place.source().is_some() => {
                layer.place.error(format!("{} does not fit its data", definition.name), error.to_string()).into()
            }
            _ => error,
        }
    })
}

/// The layers, parameters as their constructors leave them.
pub(crate) fn build_layers(definition: &ProblemDefinition, input_shape: &[i64]) -> Result<Vec<Box<dyn Layer>>> {
    let mut shape = input_shape.to_vec();
    let mut layers = Vec::with_capacity(definition.layers.len());
    for (index, layer) in definition.layers.iter().enumerate() {
        let (built, leaving) = fit(layer, &shape, index).map_err(|error| misfit(layer, index, &shape, &error))?;
        layers.push(built);
        shape = leaving;
    }
    if let (LossKind::CrossEntropy, Some(layer), true) = (definition.loss, definition.layers.last(), shape.len() != 1) {
        let error =
            Error::Shape(format!("the network's output has the shape {shape:?}, {} takes [classes]", definition.loss));
        return Err(misfit(layer, definition.layers.len() - 1, &shape, &error));
    }
    Ok(layers)
}

/// The layer and the shape that leaves it.
fn fit(layer: &LayerDefinition, input: &[i64], index: usize) -> Result<(Box<dyn Layer>, Vec<i64>)> {
    let built = build_layer(&layer.options, input, u32::try_from(index).unwrap_or(u32::MAX))?;
    let output = built.output_shape(input)?;
    match product(&output) {
        Some(count) if (1..=MAX_SIZE).contains(&count) => Ok((built, output)),
        _ => Err(Error::Shape(format!("an output of {output:?} for each sample is too large"))),
    }
}

fn misfit(layer: &LayerDefinition, index: usize, input: &[i64], error: &Error) -> Error {
    let name = layer.options.name();
    if layer.place.source().is_none() {
        return Error::Shape(format!(
            "layer {index} ({name}) does not fit: {error}; the shape that arrives is {input:?}"
        ));
    }
    layer
        .place
        .error(format!("layer {index} ({name}) does not fit"), error.to_string())
        .help(format!("the shape that arrives at layer {index} is {input:?}"))
        .into()
}

/// Gives every parameter its initial value, from the stream of its place among the network's parameters.
fn initialise(network: &mut Network, definition: &ProblemDefinition, seed: u64) {
    for (node, layer) in network.nodes().iter().zip(&definition.layers) {
        let Some(weight) = node.parameters().first() else { continue };
        let fans = Fans::of_weight(&weight.value.size());
        let (weight_init, bias_init, own) = inits(&layer.options);
        for (number, parameter) in node.numbered() {
            let init = if parameter.name == "bias" { bias_init } else { weight_init };
            // BatchNorm starts as its constructor leaves it: weight one, bias zero.
            if !(own && init == Init::Default) {
                init.fill(&parameter.value, fans, seed, number as u64);
            }
        }
    }
}

/// The initial values of weight and bias, and whether the layer's own default is what its constructor leaves.
fn inits(options: &LayerOptions) -> (Init, Init, bool) {
    match options {
        LayerOptions::Linear(linear) => (linear.weight_init, linear.bias_init, false),
        LayerOptions::Conv2d(conv) => (conv.weight_init, conv.bias_init, false),
        LayerOptions::ConvTranspose2d(conv) => (conv.weight_init, conv.bias_init, false),
        LayerOptions::BatchNorm2d(norm) => (norm.weight_init, norm.bias_init, true),
        _ => (Init::Default, Init::Default, true),
    }
}
