//! A network: a tree of modules with layers at its leaves.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::backpack::layers::{Channels, Layer, Mode, Saved};
use crate::error::{Error, Result};

/// A module as it is handed to [`Network::new`].
pub enum Branch {
    /// A layer.
    Layer(Box<dyn Layer>),
    /// Modules applied one after the other.
    Sequential(Vec<Branch>),
}

/// A node of the tree; layers are referred to by their place in execution order.
enum Module {
    Layer(usize),
    Sequential(Vec<Module>),
}

/// A layer in its place.
pub struct Leaf {
    /// The names of its ancestors and its own, as in PyTorch's `nn.Sequential`: "3", or "3.1.0" in a nested one.
    pub path: String,
    /// The layer.
    pub layer: Box<dyn Layer>,
    /// How many parameters of the network come before those of this layer.
    pub first_parameter: usize,
}

impl Leaf {
    /// How errors name the layer: its path and type.
    pub fn title(&self) -> String {
        format!("layer {} ({})", self.path, self.layer.kind())
    }
}

/// A parameter as the network names it.
pub struct NamedParameter<'a> {
    /// The layer's path and the parameter's name: "3.weight".
    pub name: String,
    /// The parameter's name within its layer: "weight" or "bias".
    pub role: &'static str,
    /// The value.
    pub value: &'a Tensor,
}

/// What a forward pass leaves behind, one entry a layer in execution order.
pub type Trace = Vec<Saved>;

/// A network of which the extended backward pass can be asked everything.
pub struct Network {
    root: Module,
    leaves: Vec<Leaf>,
}

impl Network {
    /// A network of these modules, applied one after the other.
    pub fn new(modules: Vec<Branch>) -> Self {
        let mut leaves = Vec::new();
        let root = plant(Branch::Sequential(modules), "", &mut leaves);
        Network { root, leaves }
    }

    /// A network of these layers, applied one after the other.
    pub fn sequential(layers: Vec<Box<dyn Layer>>) -> Self {
        Self::new(layers.into_iter().map(Branch::Layer).collect())
    }

    /// The layers in execution order.
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// Logs, layer by layer, which of several exact ways will be taken.
    pub fn log_choices(&self) {
        for leaf in &self.leaves {
            for choice in leaf.layer.choices() {
                tracing::debug!("{}: {choice}", leaf.title());
            }
        }
    }

    /// The parameters in execution order; the pass and the optimizers count them like this.
    pub fn parameters(&self) -> Vec<NamedParameter<'_>> {
        self.leaves
            .iter()
            .flat_map(|leaf| {
                leaf.layer.parameters().iter().map(|parameter| NamedParameter {
                    name: format!("{}.{}", leaf.path, parameter.name),
                    role: parameter.name,
                    value: &parameter.value,
                })
            })
            .collect()
    }

    /// The state that is not trained (BatchNorm's running statistics), by name.
    pub fn buffers(&self) -> Vec<(String, &Tensor)> {
        self.leaves
            .iter()
            .flat_map(|leaf| {
                leaf.layer.buffers().into_iter().map(|(name, value)| (format!("{}.{name}", leaf.path), value))
            })
            .collect()
    }

    /// Moves parameters and buffers to another type or device.
    pub fn to(&mut self, kind: Kind, device: Device) {
        for leaf in &mut self.leaves {
            for parameter in leaf.layer.parameters_mut() {
                parameter.value = parameter.value.to_kind(kind).to_device(device);
            }
            for (_, buffer) in leaf.layer.buffers_mut() {
                *buffer = buffer.to_kind(kind).to_device(device);
            }
        }
    }

    /// Replaces every parameter and buffer by the tensor of its name, converted to the present type and device.
    ///
    /// # Errors
    /// [`Error::Shape`] that lists what is missing, what is there beyond the network's own (PyTorch's
    /// `num_batches_tracked` excepted), and what has another shape.
    pub fn load(&mut self, mut tensors: BTreeMap<String, Tensor>) -> Result<()> {
        tensors.retain(|name, _| !name.ends_with(".num_batches_tracked"));
        let mut problems = Vec::new();
        for leaf in &mut self.leaves {
            let path = leaf.path.clone();
            let mut replace = |name: &str, slot: &mut Tensor| {
                let full = format!("{path}.{name}");
                match tensors.remove(&full) {
                    None => problems.push(format!("`{full}` of shape {:?} is missing", slot.size())),
                    Some(value) if value.size() != slot.size() => problems.push(format!(
                        "`{full}` has the shape {:?}, the network's is {:?}",
                        value.size(),
                        slot.size()
                    )),
                    Some(value) => *slot = value.to_kind(slot.kind()).to_device(slot.device()).contiguous(),
                }
            };
            for parameter in leaf.layer.parameters_mut() {
                let name = parameter.name;
                replace(name, &mut parameter.value);
            }
            for (name, buffer) in leaf.layer.buffers_mut() {
                replace(name, buffer);
            }
        }
        problems.extend(tensors.keys().map(|name| format!("`{name}` is not a parameter of the network")));
        if problems.is_empty() { Ok(()) } else { Err(Error::Shape(problems.join("; "))) }
    }

    /// The shapes (without samples) that arrive at each layer, and at last the output's, for an input of this shape.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the layer that does not fit.
    pub fn shapes(&self, input: &[i64]) -> Result<Vec<Vec<i64>>> {
        let mut shapes = vec![input.to_vec()];
        for leaf in &self.leaves {
            let arriving = shapes.last().expect("it starts with the input");
            let leaving = leaf
                .layer
                .output_shape(arriving)
                .map_err(|error| Error::Shape(format!("{}: {error}", leaf.title())))?;
            shapes.push(leaving);
        }
        Ok(shapes)
    }

    /// The forward pass, `[N, *in]` to what every layer keeps of it. The last entry's output is the network's.
    pub fn forward(&self, input: &Tensor, mode: Mode) -> Result<Trace> {
        let mut trace = Vec::with_capacity(self.leaves.len());
        let _output = self.forward_module(&self.root, input.shallow_clone(), mode, &mut trace)?;
        Ok(trace)
    }

    fn forward_module(&self, module: &Module, input: Tensor, mode: Mode, trace: &mut Trace) -> Result<Tensor> {
        match module {
            Module::Layer(place) => {
                let saved = self.leaves[*place].layer.forward(&input, mode)?;
                let output = saved.output.shallow_clone();
                trace.push(saved);
                Ok(output)
            }
            Module::Sequential(modules) => {
                modules.iter().try_fold(input, |input, module| self.forward_module(module, input, mode, trace))
            }
        }
    }

    /// The output alone, in evaluation mode and without keeping the layers' intermediate results.
    pub fn evaluate(&self, input: &Tensor) -> Result<Tensor> {
        self.evaluate_module(&self.root, input.shallow_clone())
    }

    fn evaluate_module(&self, module: &Module, input: Tensor) -> Result<Tensor> {
        match module {
            Module::Layer(place) => Ok(self.leaves[*place].layer.forward(&input, Mode::Evaluation)?.output),
            Module::Sequential(modules) => {
                modules.iter().try_fold(input, |input, module| self.evaluate_module(module, input))
            }
        }
    }

    /// The place of the first layer with parameters, where everything that goes back ends.
    pub fn first_with_parameters(&self) -> Option<usize> {
        self.leaves.iter().position(|leaf| !leaf.layer.parameters().is_empty())
    }

    /// How many layers behind the one at a place have no parameters and keep channels apart.
    pub fn apart_behind(&self, place: usize) -> usize {
        let behind = self.leaves.iter().skip(place + 1);
        behind.take_while(|leaf| leaf.layer.parameters().is_empty() && leaf.layer.channels() != Channels::Mixed).count()
    }

    /// Carries something (tangents) from the input forward to the output, layer by layer; `step` gets the layer's place
    /// and what arrives at its input.
    ///
    /// # Errors
    /// The first one of `step`.
    pub fn carry_forward<C>(&self, at_input: C, step: &mut dyn FnMut(usize, C) -> Result<C>) -> Result<C> {
        carry_module(&self.root, at_input, step)
    }

    /// Carries something (vectors, matrices) from the output back to the input, layer by layer. `step` gets the
    /// layer's place, what has arrived at its output, and whether anything has to go on to its input: nothing does
    /// before the first layer with parameters.
    ///
    /// # Errors
    /// The first one of `step`.
    pub fn backward<C>(&self, at_output: C, step: &mut dyn FnMut(usize, C, bool) -> Result<Option<C>>) -> Result<()> {
        if let Some(first) = self.first_with_parameters() {
            self.backward_module(&self.root, first, at_output, step)?;
        }
        Ok(())
    }

    /// As [`Self::backward`], but from the input of the layer at `place`: what is carried starts there.
    ///
    /// # Errors
    /// The first one of `step`.
    pub fn backward_from<C>(
        &self,
        place: usize,
        at_input: C,
        step: &mut dyn FnMut(usize, C, bool) -> Result<Option<C>>,
    ) -> Result<()> {
        let mut at_input = Some(at_input);
        // Layers behind the start are passed over with nothing in hand; at the start the carried thing is put in.
        self.backward(None, &mut |leaf, carried: Option<C>, goes_on| match carried {
            Some(carried) => Ok(step(leaf, carried, goes_on)?.map(Some)),
            None if leaf == place => Ok(at_input.take().filter(|_| goes_on).map(Some)),
            None => Ok(goes_on.then_some(None)),
        })
    }

    fn backward_module<C>(
        &self,
        module: &Module,
        first: usize,
        carried: C,
        step: &mut dyn FnMut(usize, C, bool) -> Result<Option<C>>,
    ) -> Result<Option<C>> {
        match module {
            Module::Layer(place) => step(*place, carried, *place > first),
            Module::Sequential(modules) => {
                let mut carried = Some(carried);
                for module in modules.iter().rev() {
                    match carried {
                        Some(at_output) => carried = self.backward_module(module, first, at_output, step)?,
                        None => break,
                    }
                }
                Ok(carried)
            }
        }
    }
}

fn plant(branch: Branch, path: &str, leaves: &mut Vec<Leaf>) -> Module {
    match branch {
        Branch::Layer(layer) => {
            let first_parameter =
                leaves.last().map_or(0, |leaf: &Leaf| leaf.first_parameter + leaf.layer.parameters().len());
            leaves.push(Leaf { path: path.to_owned(), layer, first_parameter });
            Module::Layer(leaves.len() - 1)
        }
        Branch::Sequential(branches) => Module::Sequential(
            branches
                .into_iter()
                .enumerate()
                .map(|(index, branch)| {
                    let child = if path.is_empty() { index.to_string() } else { format!("{path}.{index}") };
                    plant(branch, &child, leaves)
                })
                .collect(),
        ),
    }
}

fn carry_module<C>(module: &Module, carried: C, step: &mut dyn FnMut(usize, C) -> Result<C>) -> Result<C> {
    match module {
        Module::Layer(place) => step(*place, carried),
        Module::Sequential(modules) => {
            modules.iter().try_fold(carried, |carried, module| carry_module(module, carried, step))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpack::layers::{Activation, ActivationKind, Linear, LinearOptions};

    fn linear(inputs: i64, outputs: i64) -> Branch {
        Branch::Layer(Box::new(Linear::new(&[inputs], &LinearOptions { out_features: outputs, bias: true }).unwrap()))
    }

    fn relu() -> Branch {
        Branch::Layer(Box::new(Activation::new(ActivationKind::Relu)))
    }

    #[test]
    fn names_are_those_of_nested_sequentials() {
        let network =
            Network::new(vec![linear(3, 4), Branch::Sequential(vec![relu(), Branch::Sequential(vec![linear(4, 2)])])]);
        let names: Vec<String> = network.parameters().into_iter().map(|parameter| parameter.name).collect();
        assert_eq!(names, ["0.weight", "0.bias", "1.1.0.weight", "1.1.0.bias"]);
        assert_eq!(network.leaves()[2].first_parameter, 2);
    }

    #[test]
    fn the_backward_sweep_stops_at_the_first_parameters() {
        let network = Network::new(vec![relu(), linear(3, 4), relu(), linear(4, 2), relu()]);
        let mut visited = Vec::new();
        network
            .backward((), &mut |place, (), goes_on| {
                visited.push((place, goes_on));
                Ok(goes_on.then_some(()))
            })
            .unwrap();
        assert_eq!(visited, [(4, true), (3, true), (2, true), (1, false)]);
    }

    #[test]
    fn loading_names_what_does_not_fit() {
        let mut network = Network::new(vec![linear(3, 4)]);
        let tensors = BTreeMap::from([
            ("0.weight".to_owned(), Tensor::zeros([4, 2], (Kind::Float, Device::Cpu))),
            ("1.bias".to_owned(), Tensor::zeros([4], (Kind::Float, Device::Cpu))),
        ]);
        let message = network.load(tensors).unwrap_err().to_string();
        for part in ["`0.weight` has the shape [4, 2]", "`0.bias` of shape [4] is missing", "`1.bias` is not"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
