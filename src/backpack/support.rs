//! Which quantity can be had for which layer type: the table, made by asking the registries.

use std::sync::Arc;

use crate::backpack::layers::{
    Activation, ActivationKind, AdaptiveAvgPool2d, Add, AvgPool2d, AvgPool2dOptions, BatchNorm2d, BatchNorm2dOptions,
    Concat, Conv2d, Conv2dOptions, ConvTranspose2d, ConvTranspose2dOptions, Dropout, Embedding, Flatten, Gain, Layer,
    Linear, LinearOptions, MaxPool2d, MaxPool2dOptions, Mean, Merge, Mode, Multiply, Pad, Padding, Permute,
    PoolPadding, PositionEmbedding, Reshape, Scale, Slice, ZeroPad2d,
};
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
        Operation::Merge(merge) => merge.output_shape(&[&specimen.input, &specimen.input])?,
    };
    let linear = Linear::new(&[outputs.iter().product()], &LinearOptions { out_features: 2, bias: true })?;
    Network::new(vec![
        specimen.part(FIRST, Value::INPUT),
        Part::layer("1", Box::new(Flatten::new()), Value::of_node(0)),
        Part::layer("2", Box::new(linear), Value::of_node(1)),
    ])
}

const TRAINING: Mode = Mode::Training { seed: 0, step: 0 };

/// One layer of every built-in type and circumstance, small.
///
/// # Errors
/// As [`table`].
pub fn specimens() -> Result<Vec<Specimen>> {
    let mut found = Vec::new();
    let mut put = |circumstance, input: &[i64], mode, layer: Box<dyn Layer>| {
        let (kind, built) = (layer.kind(), Operation::Layer(layer));
        found.push(Specimen { layer: kind, circumstance, input: input.to_vec(), mode, built });
    };
    let image = [4, 5, 6];
    let features = [6];
    let linear = LinearOptions { out_features: 3, bias: true };
    put(None, &features, Mode::Evaluation, Box::new(Linear::new(&features, &linear)?));
    put(Some("with extra dimensions"), &[2, 6], Mode::Evaluation, Box::new(Linear::new(&[2, 6], &linear)?));
    for (circumstance, groups) in [(None, 1), (Some("with groups"), 2)] {
        let options = Conv2dOptions { out_channels: 2, kernel_size: [2, 3], groups, ..Default::default() };
        put(circumstance, &image, Mode::Evaluation, Box::new(Conv2d::new(&image, &options)?));
    }
    for (circumstance, groups) in [(None, 1), (Some("with groups"), 2)] {
        let options = ConvTranspose2dOptions { out_channels: 2, kernel_size: [2, 3], groups, ..Default::default() };
        put(circumstance, &image, Mode::Evaluation, Box::new(ConvTranspose2d::new(&image, &options)?));
    }
    let (kernel_size, stride, padding) = ([2, 3], [2, 2], PoolPadding::default());
    let max = MaxPool2dOptions { kernel_size, stride, padding, dilation: [1, 1], ceil_mode: false };
    put(None, &image, Mode::Evaluation, Box::new(MaxPool2d::new(&image, &max)?));
    let average = AvgPool2dOptions { kernel_size, stride, padding, ceil_mode: false };
    put(None, &image, Mode::Evaluation, Box::new(AvgPool2d::new(&image, &average)?));
    put(None, &image, Mode::Evaluation, Box::new(AdaptiveAvgPool2d::new(&image, [2, 3])?));
    for (circumstance, frozen, mode) in
        [("in evaluation", false, Mode::Evaluation), ("frozen", true, TRAINING), ("while training", false, TRAINING)]
    {
        let options = BatchNorm2dOptions { frozen, ..Default::default() };
        put(Some(circumstance), &image, mode, Box::new(BatchNorm2d::new(&image, &options)?));
    }
    let sides = Padding { left: 1, right: 0, top: 2, bottom: 1 };
    put(None, &image, Mode::Evaluation, Box::new(ZeroPad2d::new(&image, sides)?));
    put(None, &image, Mode::Evaluation, Box::new(Flatten::new()));
    put(None, &features, TRAINING, Box::new(Dropout::new(0.4, 1)?));
    for kind in [
        ActivationKind::Relu,
        ActivationKind::LeakyRelu { negative_slope: 0.1 },
        ActivationKind::Elu { alpha: 1.0 },
        ActivationKind::Selu,
        ActivationKind::Sigmoid,
        ActivationKind::Tanh,
        ActivationKind::LogSigmoid,
        ActivationKind::Gelu,
        ActivationKind::Silu,
        ActivationKind::Identity,
    ] {
        put(None, &features, Mode::Evaluation, Box::new(Activation::new(kind)));
    }
    put(None, &image, Mode::Evaluation, Box::new(Pad::new(&[1, 0, 2, 1], 0.5)?));
    put(None, &image, Mode::Evaluation, Box::new("1:, ::2, -1".parse::<Slice>()?));
    put(None, &image, Mode::Evaluation, Box::new(Permute::new(&[0, 2, 3, 1])?));
    put(None, &image, Mode::Evaluation, Box::new(Reshape::new(&[2, -1, 6])?));
    put(None, &features, Mode::Evaluation, Box::new(Scale::new(-0.7)));
    put(None, &image, Mode::Evaluation, Box::new(Mean::new(&[-1, 2])));
    put(None, &[5], Mode::Evaluation, Box::new(Embedding::new(7, 3)?));
    put(None, &image, Mode::Evaluation, Box::new(PositionEmbedding::new(&image, Some(&[5, 1]))?));
    put(None, &image, Mode::Evaluation, Box::new(Gain::new(&image, Some(&[4, 1, 6]), 0.8)?));
    let merges: [Box<dyn Merge>; 3] = [Box::new(Add), Box::new(Multiply), Box::new(Concat::new(1)?)];
    found.extend(merges.into_iter().map(|merge| Specimen {
        layer: merge.kind(),
        circumstance: None,
        input: features.to_vec(),
        mode: Mode::Evaluation,
        built: Operation::Merge(merge),
    }));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problems::definition::LAYER_TYPES;

    #[test]
    fn every_layer_type_of_problem_files_has_a_specimen() {
        let specimens = specimens().unwrap();
        for layer in LAYER_TYPES {
            assert!(specimens.iter().any(|specimen| specimen.layer == layer.name), "{} has none", layer.name);
        }
        for specimen in &specimens {
            assert!(LAYER_TYPES.iter().any(|layer| layer.name == specimen.layer), "{} is unknown", specimen.layer);
        }
    }

    #[test]
    fn what_is_not_possible_is_known() {
        let (mut refused, mut left_out) = (Vec::new(), Vec::new());
        for row in table().unwrap() {
            for (quantity, support) in row.cells {
                let cell = format!("{} for {}", quantity.name(), row.layer);
                match support {
                    Support::Refused(_) if row.layer != "batch_norm2d while training" => refused.push(cell),
                    Support::LeftOut(_) => left_out.push(cell),
                    _ => {}
                }
            }
        }
        assert_eq!(
            left_out,
            [
                "kfac for batch_norm2d in evaluation",
                "kflr for batch_norm2d in evaluation",
                "kfac for batch_norm2d frozen",
                "kflr for batch_norm2d frozen",
                "kfac for embedding",
                "kflr for embedding",
                "kfac for position_embedding",
                "kflr for position_embedding",
                "kfac for gain",
                "kflr for gain",
            ]
        );
        assert_eq!(
            refused,
            [
                "kfra for linear with extra dimensions",
                "kfra for batch_norm2d in evaluation",
                "kfra for batch_norm2d frozen",
                "kfra for pad",
                "kfra for slice",
                "kfra for permute",
                "kfra for reshape",
                "kfra for scale",
                "kfra for mean",
                "kfra for embedding",
                "kfra for position_embedding",
                "kfra for gain",
                "kfra for add",
                "kfra for multiply",
                "kfra for concat",
            ]
        );
    }
}
