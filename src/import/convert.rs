//! Goes through the calls of an exported program, says each as layers of a network, and writes this as a problem file.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use tch::Tensor;
use toml::{Table, Value as Toml};

use super::archive::Tensors;
use super::calls;
use super::converter::{Activation, Converter, NO_PRODUCT, ParameterView, Value, is_float};
use super::graph::{Call, DAMAGED, Origin, Program, Said, refuse};
use super::layout::{Atoms, Axis, Layout};
use super::network::{Feed, Layer, Network};
use super::schema::SymInt;
use crate::config::write::to_text;
use crate::error::{Error, Result};

/// More entries than any value has.
const MOST: i64 = 1 << 48;

/// The network of a program.
pub struct Converted {
    pub network: Network,
    /// The layer whose output is the network's.
    pub output: Feed,
    pub input_shape: Vec<i64>,
    pub integers: Option<i64>,
    pub notes: Vec<String>,
}

/// Converts a program; `constants` are the values of the buffers that it computes with.
///
/// # Errors
/// [`Error::Unsupported`] for what no layers say, naming the node, the call and the line of source.
pub fn convert(
    path: &Path,
    program: &Program,
    tensors: &Tensors,
    constants: HashMap<String, Tensor>,
) -> Result<Converted> {
    let of_input = |what: &str, instead: &str| {
        Error::Unsupported(format!("{}: the input `{}` {what}; {instead}", path.display(), program.input))
    };
    let meta = program.metas.get(&program.input).ok_or_else(|| of_input("has no sizes", DAMAGED))?;
    let sizes: Option<Vec<i64>> = meta.sizes.iter().map(SymInt::value).collect();
    let fits = |sizes: &Vec<i64>| {
        let count = sizes.iter().try_fold(1i64, |count, &size| count.checked_mul(size).filter(|_| size > 0));
        count.is_some_and(|count| count <= MOST)
    };
    let sizes = sizes.filter(fits);
    let sizes =
        sizes.ok_or_else(|| of_input("has sizes without an example", "export with an example of fixed sizes"))?;
    let [batch, shape @ ..] = sizes.as_slice() else {
        return Err(of_input("is a single number", "export with a batch: samples are its first axis"));
    };
    let mut notes = Vec::new();
    if meta.sizes[1..].iter().any(|size| matches!(size, SymInt::AsExpr(_))) {
        notes.push(format!("the sizes {shape:?} of a sample are those of the example; problem files have fixed sizes"));
    }
    let mut atoms = Atoms::new(*batch);
    let layout = Layout::batch_first(shape, &mut atoms);
    let kind = super::archive::kind(meta.dtype);
    let integer_input = kind.is_some_and(|kind| !is_float(kind));
    let mut converter = Converter {
        program,
        tensors,
        values: HashMap::new(),
        network: Network::default(),
        atoms,
        notes,
        integers: None,
        integer_input,
        place: 0,
        moves: HashMap::new(),
    };
    let arriving = Activation { feed: Feed::Input, layout, shaped_by: 0 };
    converter.values.insert(program.input.clone(), Value::Activation(arriving));
    converter.take_tensors(constants);
    for (place, call) in program.calls.iter().enumerate() {
        converter.place = place;
        converter.say(call).map_err(|refusal| call.error(path, &refusal))?;
    }
    let output = converter.output().map_err(|refusal| match program.calls.last() {
        Some(call) => call.error(path, &refusal),
        None => of_input(&refusal.why, &refusal.instead),
    })?;
    if converter.integer_input && converter.integers.is_none() {
        return Err(of_input("is of integers that no embedding takes", "export with floats"));
    }
    let Converter { network, integers, notes, .. } = converter;
    Ok(Converted { network, output, input_shape: shape.to_vec(), integers, notes })
}

impl Converter<'_> {
    /// Gives parameters and constants their values.
    fn take_tensors(&mut self, mut constants: HashMap<String, Tensor>) {
        for (name, origin) in &self.program.origins {
            let value = match origin {
                Origin::Input => continue,
                Origin::Parameter(parameter) => {
                    // Of several names of one tensor, the first.
                    let first = self.program.parameters.iter().find(|first| self.tensors.same(first, parameter));
                    let parameter = first.unwrap_or(parameter).clone();
                    let Some(sizes) = self.tensors.sizes(&parameter) else { continue };
                    let axes: Vec<Axis> = sizes.iter().map(|&size| self.atoms.axis(size)).collect();
                    let layout = Layout { dims: axes.clone(), axes };
                    Value::Parameter(ParameterView { name: parameter, layout })
                }
                Origin::Buffer(buffer) => match constants.remove(buffer) {
                    Some(tensor) => Value::Constant(tensor),
                    None => continue,
                },
            };
            self.values.insert(name.clone(), value);
        }
    }

    /// Says one call.
    fn say(&mut self, call: &Call) -> Said<()> {
        let given = calls::say(self, call)?;
        if given.len() > call.outputs.len() {
            return refuse(format!("it gives {} values, the graph names {}", given.len(), call.outputs.len()), DAMAGED);
        }
        for (name, value) in call.outputs.iter().zip(given) {
            let count = value.sizes().unwrap_or_default().iter().try_fold(1i64, |count, &size| count.checked_mul(size));
            if count.is_none_or(|count| count > MOST) {
                return refuse("a value of more entries than any memory has", DAMAGED);
            }
            if let (Some(sizes), Some(expected)) = (value.sizes(), self.example_sizes(name))
                && sizes != expected
            {
                return refuse(format!("its sizes are {sizes:?}, and the graph says {expected:?}"), DAMAGED);
            }
            self.values.insert(name.clone(), value);
        }
        Ok(())
    }

    /// The network's output, laid as PyTorch returns it.
    fn output(&mut self) -> Said<Feed> {
        self.place = self.program.calls.len().saturating_sub(1);
        let output = match self.values.get(&self.program.output) {
            Some(Value::Activation(output)) => output.clone(),
            Some(Value::Scores(_)) => return refuse(NO_PRODUCT.0, NO_PRODUCT.1),
            _ => return refuse("the output does not depend on the batch", "return what the network computes of x"),
        };
        if output.layout.batch_dim() != Some(0) {
            return refuse(
                format!("the output {:?} has no first axis of samples alone", output.layout.sizes()),
                "return the output with the samples as its first axis, as [N, classes] or [N, positions, classes]",
            );
        }
        if output.layout.dims.len() < 2 {
            return refuse(
                "the output is one number a sample",
                "keep its last axis: leave out the squeeze, select or sum",
            );
        }
        let target = output.layout.dims[1..].to_vec();
        let feed = self.lay(&output, &target)?;
        if feed == Feed::Input {
            return refuse("the network is empty", "export a model with at least one layer");
        }
        Ok(feed)
    }
}

// Writes a converted network: a problem file, and the tensors under the names that it has for them.

/// What a problem file says beside its layers.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The problem's name.
    pub name: String,
    /// The data set, as TOML; without it the file says what its input is.
    pub dataset: Option<Toml>,
    /// The loss.
    pub loss: Option<String>,
    /// The weights that it starts from, as the file names them.
    pub weights: Option<String>,
}

/// The places of the layers that the output depends on, in order.
pub fn live(converted: &Converted) -> Vec<usize> {
    let layers = &converted.network.layers;
    let mut needed = HashSet::from([converted.output]);
    for (place, layer) in layers.iter().enumerate().rev() {
        if needed.contains(&Feed::Layer(place)) {
            needed.extend(&layer.inputs);
            needed.extend(layer.tied.map(Feed::Layer));
        }
    }
    (0..layers.len()).filter(|&place| needed.contains(&Feed::Layer(place))).collect()
}

/// The text of the problem file.
pub fn problem(head: &Head, converted: &Converted, comment: &str) -> String {
    let mut table = Table::new();
    table.insert("name".into(), head.name.as_str().into());
    match &head.dataset {
        Some(dataset) => {
            table.insert("dataset".into(), dataset.clone());
        }
        None => {
            let mut input = Table::new();
            input.insert("shape".into(), converted.input_shape.clone().into());
            if let Some(integers) = converted.integers {
                input.insert("integers".into(), integers.into());
            }
            table.insert("input".into(), input.into());
        }
    }
    for (key, value) in [("loss", &head.loss), ("weights", &head.weights)] {
        if let Some(value) = value {
            table.insert(key.into(), value.as_str().into());
        }
    }
    let layers = &converted.network.layers;
    let live = live(converted);
    let list: Vec<Toml> =
        live.iter().enumerate().map(|(index, &place)| layer(layers, &live, index, place).into()).collect();
    table.insert("layers".into(), list.into());
    let comment: String = comment.lines().map(|line| format!("# {line}\n")).collect();
    format!("{comment}{}", to_text(&table))
}

/// The table of a layer.
fn layer(layers: &[Layer], live: &[usize], index: usize, place: usize) -> Table {
    let layer = &layers[place];
    let mut table = Table::new();
    if layer.name != index.to_string() {
        table.insert("name".into(), layer.name.as_str().into());
    }
    table.insert("type".into(), layer.kind.into());
    let before = index.checked_sub(1).map_or(Feed::Input, |before| Feed::Layer(live[before]));
    if layer.inputs != [before] {
        let name = |feed: &Feed| match feed {
            Feed::Input => "input",
            feed if *feed == before => "previous",
            Feed::Layer(place) => layers[*place].name.as_str(),
        };
        let inputs: Vec<Toml> = layer.inputs.iter().map(|feed| name(feed).into()).collect();
        table.insert("inputs".into(), inputs.into());
    }
    for (key, value) in &layer.options {
        table.insert((*key).into(), value.clone());
    }
    if let Some(tied) = layer.tied {
        table.insert("tied".into(), layers[tied].name.as_str().into());
    }
    let mut names = Table::new();
    for holding in layer.holdings.iter().filter(|holding| holding.parameter) {
        if holding.source != format!("{}.{}", layer.name, holding.local) {
            names.insert(holding.local.clone(), holding.source.as_str().into());
        }
    }
    if !names.is_empty() {
        table.insert("names".into(), names.into());
    }
    table
}

/// The tensors of the weights file: the name there, and the name in the archive.
pub fn tensors(converted: &Converted) -> Vec<(String, String)> {
    let layers = &converted.network.layers;
    let held = live(converted).into_iter().flat_map(|place| {
        let layer = &layers[place];
        layer.holdings.iter().map(|holding| match holding.parameter {
            true => (holding.source.clone(), holding.source.clone()),
            false => (format!("{}.{}", layer.name, holding.local), holding.source.clone()),
        })
    });
    held.collect()
}
