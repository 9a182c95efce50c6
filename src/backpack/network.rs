//! A network: nodes in the order of computation, each an operation on the outputs of earlier ones.
//!
//! What travels between nodes is a [`Value`]: the network's input, or a node's output. A value may be taken by several
//! nodes; what goes back is added up there (`sweep.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tch::Tensor;

use crate::backpack::layers::{Channels, Curvature, Layer, Merge, Mode, Parameter, Residual};
pub use crate::backpack::network_tensors::NamedParameter;
pub use crate::backpack::values::{Shapes, Trace, Value};
use crate::error::{Error, Result};
use crate::interrupt;

/// What a node computes.
pub enum Operation {
    /// A function of one input, perhaps with parameters.
    Layer(Box<dyn Layer>),
    /// A function of several inputs, without parameters.
    Merge(Box<dyn Merge>),
}

/// A node as it is handed to [`Network::new`].
#[derive(Debug)]
pub struct Part {
    /// Its name, unique in the network. Parameters are called NAME.weight.
    pub name: String,
    /// What it computes.
    pub operation: Operation,
    /// What it takes.
    pub inputs: Vec<Value>,
    /// Full names for parameters that are not to be called after the node, by their names within the layer.
    pub parameter_names: BTreeMap<String, String>,
    /// Parameters that are those of earlier nodes: their names within the layer, and the full names of those.
    pub tied: BTreeMap<String, String>,
}

impl Part {
    /// A layer that takes this value.
    pub fn layer(name: impl Into<String>, layer: Box<dyn Layer>, input: Value) -> Self {
        Part::new(name, Operation::Layer(layer), vec![input])
    }

    /// A merge of these values.
    pub fn merge(name: impl Into<String>, merge: Box<dyn Merge>, inputs: Vec<Value>) -> Self {
        Part::new(name, Operation::Merge(merge), inputs)
    }

    /// An operation on these values.
    pub fn new(name: impl Into<String>, operation: Operation, inputs: Vec<Value>) -> Self {
        Part { name: name.into(), operation, inputs, parameter_names: BTreeMap::new(), tied: BTreeMap::new() }
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Operation::Layer(layer) => layer.fmt(formatter),
            Operation::Merge(merge) => merge.fmt(formatter),
        }
    }
}

/// An operation in its place.
#[derive(Debug)]
pub struct Node {
    /// Its name: what it was given, or its place among the layers, as in PyTorch's `nn.Sequential`.
    pub name: String,
    pub(super) operation: Operation,
    inputs: Vec<Value>,
    /// For each input whether it depends on parameters, so that what goes back has to go on to it.
    wanted: Vec<bool>,
    /// The network's number, and full name, of each of the layer's parameters.
    pub(super) parameters: Vec<(usize, String)>,
    /// For each of them whether it is an earlier node's.
    pub(super) tied: Vec<bool>,
}

impl Node {
    /// The layer; None for a merge.
    pub fn layer(&self) -> Option<&dyn Layer> {
        match &self.operation {
            Operation::Layer(layer) => Some(layer.as_ref()),
            Operation::Merge(_) => None,
        }
    }

    /// What it computes.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// What it takes.
    pub fn inputs(&self) -> &[Value] {
        &self.inputs
    }

    /// For each input whether what goes back has to go on to it: whether there are parameters in front.
    pub fn wanted(&self) -> &[bool] {
        &self.wanted
    }

    /// Whether what goes back has to go on to any of its inputs.
    pub fn goes_on(&self) -> bool {
        self.wanted.contains(&true)
    }

    /// Roots of what the Hessian has beyond the Gauss-Newton matrix here, where that is not diagonal.
    pub fn residual(&self) -> Option<&dyn Residual> {
        match &self.operation {
            Operation::Layer(layer) => match layer.curvature() {
                Curvature::Mixed(residual) => Some(residual),
                _ => None,
            },
            Operation::Merge(merge) => merge.bend().map(|bend| bend as &dyn Residual),
        }
    }

    /// The operation's type, as in problem files.
    pub fn kind(&self) -> &'static str {
        match &self.operation {
            Operation::Layer(layer) => layer.kind(),
            Operation::Merge(merge) => merge.kind(),
        }
    }

    /// How errors name it: its name and type.
    pub fn title(&self) -> String {
        format!("layer {} ({})", self.name, self.kind())
    }

    /// Its parameters; none for a merge.
    pub fn parameters(&self) -> &[Parameter] {
        self.layer().map_or(&[], |layer| layer.parameters())
    }

    /// The network's number of its parameter at this place.
    pub fn parameter(&self, place: usize) -> usize {
        self.parameters[place].0
    }

    /// Its own parameters with the network's numbers; those that are an earlier node's are left out.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &Parameter)> {
        let all = self.parameters.iter().zip(self.parameters()).zip(&self.tied);
        all.filter(|(_, tied)| !**tied).map(|(((number, _), parameter), _)| (*number, parameter))
    }

    /// The network's numbers of all parameters that it uses, an earlier node's included.
    pub fn used(&self) -> impl Iterator<Item = usize> {
        self.parameters.iter().map(|(number, _)| *number)
    }

    /// The places of its parameters that are an earlier node's.
    pub fn tied_slots(&self) -> impl Iterator<Item = usize> {
        self.tied.iter().enumerate().filter(|(_, tied)| **tied).map(|(slot, _)| slot)
    }

    /// The places of its parameters that are the network's parameter of this number.
    pub fn slots_of(&self, number: usize) -> impl Iterator<Item = usize> {
        self.parameters.iter().enumerate().filter(move |(_, (own, _))| *own == number).map(|(slot, _)| slot)
    }

    /// Whether the samples of a batch are independent of each other here.
    pub fn samples_are_independent(&self, mode: Mode) -> bool {
        self.layer().is_none_or(|layer| layer.samples_are_independent(mode))
    }

    fn output_shape(&self, inputs: &[&[i64]]) -> Result<Vec<i64>> {
        match &self.operation {
            Operation::Layer(layer) => layer.output_shape(inputs[0]),
            Operation::Merge(merge) => merge.output_shape(inputs),
        }
    }
}

/// A network of which the extended backward pass can be asked everything.
pub struct Network {
    pub(super) nodes: Vec<Node>,
    /// The nodes that take each value.
    users: Vec<Vec<usize>>,
    /// Where each parameter is: the node's place, and the parameter's in its layer.
    pub(super) parameters: Vec<(usize, usize)>,
    /// How many nodes use each parameter.
    uses: Vec<usize>,
    /// The full name of each.
    pub(super) names: Arc<[String]>,
}

impl fmt::Debug for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_list().entries(&self.nodes).finish()
    }
}

impl Network {
    /// A network of these nodes, in the order of computation. The last one's output is the network's.
    ///
    /// # Errors
    /// [`Error::Shape`] for a name that is taken, a value that comes later, a layer with another number of inputs than
    /// one, and an output that nothing takes.
    pub fn new(parts: Vec<Part>) -> Result<Self> {
        let (users, names) = (vec![Vec::new()], Arc::new([]));
        let mut network = Network { nodes: Vec::new(), users, parameters: Vec::new(), uses: Vec::new(), names };
        for part in parts {
            network.push(part)?;
        }
        network.names = network.parameters().into_iter().map(|parameter| parameter.name).collect();
        let last = network.nodes.len();
        if let Some(value) = (1..last).find(|&value| network.users[value].is_empty()) {
            let title = network.nodes[value - 1].title();
            return Err(Error::Shape(format!("nothing takes the output of {title}, which is not the last one")));
        }
        Ok(network)
    }

    /// A network of these layers, applied one after the other.
    pub fn sequential(layers: Vec<Box<dyn Layer>>) -> Self {
        let parts = layers
            .into_iter()
            .enumerate()
            .map(|(place, layer)| Part::layer(place.to_string(), layer, Value(place)))
            .collect();
        Self::new(parts).expect("a chain has distinct names, and each value a taker")
    }

    fn push(&mut self, part: Part) -> Result<()> {
        let Part { name, operation, inputs, parameter_names, tied } = part;
        let place = self.nodes.len();
        if self.nodes.iter().any(|node| node.name == name) {
            return Err(Error::Shape(format!("there are two layers of the name `{name}`")));
        }
        if matches!(operation, Operation::Layer(_)) && inputs.len() != 1 {
            return Err(Error::Shape(format!("layer {name}: one input is expected, not {}", inputs.len())));
        }
        if inputs.is_empty() || inputs.iter().any(|input| input.0 > place) {
            return Err(Error::Shape(format!("layer {name}: its inputs have to be outputs of earlier layers")));
        }
        let wanted = inputs.iter().map(|input| input.node().is_some_and(|node| self.leads_to_parameters(node)));
        let (wanted, nothing) = (wanted.collect(), Vec::new());
        let mut node = Node { name, operation, wanted, inputs, parameters: nothing, tied: Vec::new() };
        let mut names: Vec<(usize, String)> = Vec::new();
        for slot in 0..node.parameters().len() {
            let parameter = &node.parameters()[slot];
            if let Some(source) = tied.get(parameter.name) {
                let number = self.source_of(&node, parameter, source)?;
                names.push((number, source.clone()));
                node.tied.push(true);
                self.uses[number] += 1;
                continue;
            }
            let own = parameter_names.get(parameter.name).cloned();
            let full = own.unwrap_or_else(|| format!("{}.{}", node.name, parameter.name));
            if self.parameter_named(&full).is_some() || names.iter().any(|(_, other)| *other == full) {
                return Err(Error::Shape(format!("there are two parameters of the name `{full}`")));
            }
            names.push((self.parameters.len(), full));
            node.tied.push(false);
            self.parameters.push((place, slot));
            self.uses.push(1);
        }
        for input in &node.inputs {
            if !self.users[input.0].contains(&place) {
                self.users[input.0].push(place);
            }
        }
        self.users.push(Vec::new());
        node.parameters = names;
        self.nodes.push(node);
        self.share();
        Ok(())
    }

    /// The number of the earlier parameter that one of a node is.
    fn source_of(&self, node: &Node, parameter: &Parameter, source: &str) -> Result<usize> {
        let title = node.title();
        let number = self.parameter_named(source).ok_or_else(|| {
            Error::Shape(format!(
                "{title}: `{source}` is no parameter of an earlier layer that its {} could be",
                parameter.name
            ))
        })?;
        let (place, slot) = self.parameters[number];
        let shape = self.nodes[place].parameters()[slot].value.size();
        if shape != parameter.value.size() {
            return Err(Error::Shape(format!(
                "{title}: its {} has the shape {:?}, `{source}`, which it is to be, {shape:?}",
                parameter.name,
                parameter.value.size()
            )));
        }
        Ok(number)
    }

    /// How many nodes use a parameter.
    pub fn uses(&self, parameter: usize) -> usize {
        self.uses[parameter]
    }

    fn leads_to_parameters(&self, place: usize) -> bool {
        let node = &self.nodes[place];
        !node.parameters.is_empty() || node.goes_on()
    }

    /// The nodes in the order of computation.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The layers that have parameters, with their nodes.
    pub fn with_parameters(&self) -> impl Iterator<Item = (&Node, &dyn Layer)> {
        let layers = self.nodes.iter().filter_map(|node| Some((node, node.layer()?)));
        layers.filter(|(node, _)| !node.parameters.is_empty())
    }

    /// Logs, layer by layer, which of several exact ways will be taken.
    pub fn log_choices(&self) {
        for node in &self.nodes {
            for choice in node.layer().map_or_else(Vec::new, |layer| layer.choices()) {
                tracing::debug!("{}: {choice}", node.title());
            }
        }
    }

    /// The shapes (without samples) of all values, for an input of this shape.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the layer that does not fit.
    pub fn shapes(&self, input: &[i64]) -> Result<Shapes> {
        let mut shapes = vec![input.to_vec()];
        for node in &self.nodes {
            let arriving: Vec<&[i64]> = node.inputs.iter().map(|value| shapes[value.0].as_slice()).collect();
            let leaving =
                node.output_shape(&arriving).map_err(|error| Error::Shape(format!("{}: {error}", node.title())))?;
            shapes.push(leaving);
        }
        Ok(Shapes::new(shapes))
    }

    /// The forward pass, `[N, *in]` to what every node keeps of it.
    pub fn forward(&self, input: &Tensor, mode: Mode) -> Result<Trace> {
        let mut trace = Trace::new(input, self.nodes.len());
        for node in &self.nodes {
            interrupt::check()?;
            let saved = match &node.operation {
                Operation::Layer(layer) => layer.forward(trace.value(node.inputs[0]), mode)?,
                Operation::Merge(merge) => {
                    let inputs: Vec<&Tensor> = node.inputs.iter().map(|value| trace.value(*value)).collect();
                    merge.forward(&inputs)?
                }
            };
            trace.push(saved);
        }
        Ok(trace)
    }

    /// The output by libtorch's own operations ([`Layer::library`]), for automatic differentiation.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn library(&self, input: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut values = vec![input.shallow_clone()];
        for node in &self.nodes {
            let inputs: Vec<&Tensor> = node.inputs.iter().map(|value| &values[value.0]).collect();
            values.push(match &node.operation {
                Operation::Layer(layer) => layer.library(inputs[0], mode)?,
                Operation::Merge(merge) => merge.forward(&inputs)?.output,
            });
        }
        values.pop().ok_or_else(|| Error::Shape("the network has no output".into()))
    }

    /// The output alone, in evaluation mode and without keeping what no later node takes.
    pub fn evaluate(&self, input: &Tensor) -> Result<Tensor> {
        let mut values: Vec<Option<Tensor>> = vec![Some(input.shallow_clone())];
        let mut left: Vec<usize> = self.users.iter().map(Vec::len).collect();
        for (place, node) in self.nodes.iter().enumerate() {
            let inputs: Vec<&Tensor> = node.inputs.iter().filter_map(|value| values[value.0].as_ref()).collect();
            let saved = match &node.operation {
                Operation::Layer(layer) => layer.forward(inputs[0], Mode::Evaluation)?,
                Operation::Merge(merge) => merge.forward(&inputs)?,
            };
            values.push(Some(saved.output));
            for value in &node.inputs {
                if self.users[value.0].last() == Some(&place) {
                    left[value.0] = 0;
                    values[value.0] = None;
                }
            }
        }
        values.pop().flatten().ok_or_else(|| Error::Shape("the network has no output".into()))
    }

    /// Where the network takes integers, how many different ones there are, from 0 on; None where it takes numbers.
    pub fn integers(&self) -> Option<i64> {
        let takers = self.users[0].iter().filter_map(|&place| self.nodes[place].layer());
        takers.filter_map(|layer| layer.integers()).min()
    }

    /// The network's output.
    pub fn output(&self) -> Value {
        Value(self.nodes.len())
    }

    /// The place of the first layer with parameters. In front of it there is nothing to take back.
    pub fn first_with_parameters(&self) -> Option<usize> {
        self.nodes.iter().position(|node| !node.parameters.is_empty())
    }

    /// The node that alone takes the output of the one at a place, where it is a layer.
    fn only_layer_behind(&self, place: usize) -> Option<usize> {
        match self.users[Value::of_node(place).0][..] {
            [next] if self.nodes[next].layer().is_some() => Some(next),
            _ => None,
        }
    }

    /// The layers behind the one at a place, each taking the output of the one before and nothing else doing so, that
    /// have no parameters and keep channels apart.
    pub fn apart_behind(&self, place: usize) -> Vec<usize> {
        let apart = |next: &usize| {
            let node = &self.nodes[*next];
            node.parameters.is_empty() && node.layer().is_some_and(|layer| layer.channels() != Channels::Mixed)
        };
        std::iter::successors(self.only_layer_behind(place).filter(apart), |&place| {
            self.only_layer_behind(place).filter(apart)
        })
        .collect()
    }

    /// Why the network is no chain of layers, each taking the output of the one before it; None where it is one.
    pub fn refuses_chain(&self) -> Option<String> {
        let is_next = |place: usize, node: &Node| node.layer().is_some() && node.inputs == [Value(place)];
        let (_, node) = self.nodes.iter().enumerate().find(|(place, node)| !is_next(*place, node))?;
        Some(format!("{} takes other outputs than that of the layer before it alone", node.title()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpack::layers::{Activation, Add, Linear, LinearOptions, Relu};

    fn linear(inputs: i64, outputs: i64) -> Box<dyn Layer> {
        Box::new(Linear::new(&[inputs], &LinearOptions { out_features: outputs, bias: true }).unwrap())
    }

    fn relu() -> Box<dyn Layer> {
        Box::new(Activation::new(Relu {}))
    }

    /// relu, a linear layer, and its output added to what it got.
    fn residual() -> Vec<Part> {
        vec![
            Part::layer("in", relu(), Value::INPUT),
            Part::layer("fc", linear(3, 3), Value::of_node(0)),
            Part::merge("sum", Box::new(Add), vec![Value::of_node(1), Value::of_node(0)]),
        ]
    }

    #[test]
    fn parameters_are_called_after_their_layers() {
        let mut parts = residual();
        parts[1].parameter_names.insert("bias".to_owned(), "shift".to_owned());
        let network = Network::new(parts).unwrap();
        let names: Vec<String> = network.parameters().into_iter().map(|parameter| parameter.name).collect();
        assert_eq!(names, ["fc.weight", "shift"]);
        assert_eq!(network.parameter_named("shift"), Some(1));
    }

    #[test]
    fn only_what_leads_to_parameters_is_wanted() {
        let network = Network::new(residual()).unwrap();
        assert_eq!(network.nodes()[2].wanted(), [true, false]);
        assert!(!network.nodes()[1].goes_on());
    }

    #[test]
    fn networks_that_are_none_are_refused() {
        let taken = vec![Part::layer("a", relu(), Value::INPUT), Part::layer("a", relu(), Value::of_node(0))];
        let later = vec![Part::layer("a", relu(), Value::of_node(0))];
        let unused = vec![Part::layer("a", relu(), Value::INPUT), Part::layer("b", relu(), Value::INPUT)];
        for (parts, message) in [(taken, "two layers"), (later, "earlier"), (unused, "nothing takes")] {
            let error = Network::new(parts).err().unwrap().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_fork_is_no_chain() {
        assert_eq!(Network::sequential(vec![relu(), linear(3, 3)]).refuses_chain(), None);
        let reason = Network::new(residual()).unwrap().refuses_chain().unwrap();
        assert!(reason.contains("layer sum (add)"), "{reason}");
    }
}
