//! The tensors of a network: its parameters and buffers by name, what replaces them, and what a pass moves them by.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::backpack::layers::{Layer, Mode};
use crate::backpack::network::{Network, Node, Operation};
use crate::backpack::results::Quantities;
use crate::backpack::values::Trace;
use crate::error::{Error, Result};

/// A parameter as the network names it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NamedParameter<'a> {
    /// The full name: the node's and the parameter's, "3.weight", or one of its own.
    pub name: String,
    /// The node's name.
    pub node: &'a str,
    /// The parameter's name within its layer: "weight" or "bias".
    pub role: &'static str,
    /// The value.
    pub value: &'a Tensor,
}

impl Network {
    /// The number of parameter tensors.
    pub fn parameter_count(&self) -> usize {
        self.parameters.len()
    }

    /// The parameters in the order of computation; the pass and the optimizers count them like this.
    pub fn parameters(&self) -> Vec<NamedParameter<'_>> {
        let named = |&(place, slot): &(usize, usize)| {
            let node = &self.nodes[place];
            let parameter = &node.parameters()[slot];
            NamedParameter {
                name: node.parameters[slot].1.clone(),
                node: &node.name,
                role: parameter.name,
                value: &parameter.value,
            }
        };
        self.parameters.iter().map(named).collect()
    }

    /// The full names of the parameters in their order, shared.
    pub(super) fn shared_names(&self) -> Arc<[String]> {
        Arc::clone(&self.names)
    }

    /// The number of the parameter of this full name.
    pub fn parameter_named(&self, name: &str) -> Option<usize> {
        self.parameters
            .iter()
            .position(|&(place, slot)| self.nodes.get(place).is_some_and(|node| node.parameters[slot].1 == name))
    }

    /// The state that is not trained (BatchNorm's running statistics), by name.
    pub fn buffers(&self) -> Vec<(String, &Tensor)> {
        let layers = self.nodes.iter().filter_map(|node| Some((node, node.layer()?)));
        layers
            .flat_map(|(node, layer)| {
                layer.buffers().into_iter().map(|(name, value)| (format!("{}.{name}", node.name), value))
            })
            .collect()
    }

    /// Replaces every parameter's and buffer's tensor by what `change` makes of it.
    pub fn replace(&mut self, change: impl Fn(&Tensor) -> Tensor) {
        for (_, _, layer) in self.layers_mut() {
            for parameter in layer.parameters_mut() {
                parameter.value = change(&parameter.value);
            }
            for (_, buffer) in layer.buffers_mut() {
                *buffer = change(buffer);
            }
        }
        self.share();
    }

    /// The layers with their nodes' names, and the full name of each parameter, None for one of an earlier layer.
    fn layers_mut(&mut self) -> impl Iterator<Item = (&str, Vec<Option<&str>>, &mut Box<dyn Layer>)> {
        self.nodes.iter_mut().filter_map(|node| match &mut node.operation {
            Operation::Layer(layer) => {
                let own = node.parameters.iter().zip(&node.tied);
                let names = own.map(|((_, full), tied)| (!tied).then_some(full.as_str())).collect();
                Some((node.name.as_str(), names, layer))
            }
            Operation::Merge(_) => None,
        })
    }

    /// The values of the parameters in their order, for changing them in place.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        self.layers_mut().flat_map(|(_, names, layer)| {
            let own = layer.parameters_mut().iter_mut().zip(names).filter(|(_, name)| name.is_some());
            own.map(|(parameter, _)| &mut parameter.value)
        })
    }

    /// Moves parameters and buffers to another type or device.
    pub fn to(&mut self, kind: Kind, device: Device) {
        self.replace(|tensor| tensor.to_kind(kind).to_device(device));
    }

    /// Replaces every parameter and buffer by the tensor of its name, converted to the present type and device.
    ///
    /// # Errors
    /// [`Error::Weights`] that lists what is missing, what is there beyond the network's own (PyTorch's
    /// `num_batches_tracked` excepted), and what has another shape.
    pub fn load(&mut self, mut tensors: BTreeMap<String, Tensor>) -> Result<()> {
        tensors.retain(|name, _| !name.ends_with(".num_batches_tracked"));
        let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
        let mut replace = |full: &str, slot: &mut Tensor| match tensors.remove(full) {
            None => missing.push((full.to_owned(), slot.size())),
            Some(value) if value.size() != slot.size() => misshapen.push((full.to_owned(), value.size(), slot.size())),
            Some(value) => *slot = value.to_kind(slot.kind()).to_device(slot.device()).contiguous(),
        };
        for (name, parameters, layer) in self.layers_mut() {
            for (parameter, full) in layer.parameters_mut().iter_mut().zip(parameters) {
                if let Some(full) = full {
                    replace(full, &mut parameter.value);
                }
            }
            for (buffer_name, buffer) in layer.buffers_mut() {
                replace(&format!("{name}.{buffer_name}"), buffer);
            }
        }
        let unexpected: Vec<String> = tensors.into_keys().collect();
        self.share();
        if missing.is_empty() && misshapen.is_empty() && unexpected.is_empty() {
            return Ok(());
        }
        Err(Error::Weights { missing, unexpected, misshapen })
    }

    /// What a forward pass in this mode has found that the buffers are to be moved by, for each node that has such.
    pub(super) fn statistics(&self, trace: &Trace, mode: Mode) -> Vec<(usize, Vec<Tensor>)> {
        if mode == Mode::Evaluation {
            return Vec::new();
        }
        let layers = self.nodes.iter().zip(trace.iter()).map(|(node, saved)| Some(node.layer()?.statistics(saved)));
        let found = layers.enumerate().filter_map(|(place, statistics)| Some((place, statistics?)));
        found.filter(|(_, statistics)| !statistics.is_empty()).collect()
    }

    /// Moves the buffers (BatchNorm's running statistics) by what a pass of this network in training mode has found, as
    /// training does once after each pass. A pass itself leaves them as they are.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn update_buffers(&mut self, pass: &Quantities) -> Result<()> {
        for (place, statistics) in &pass.statistics {
            if let Some(Operation::Layer(layer)) = self.nodes.get_mut(*place).map(|node| &mut node.operation) {
                layer.update_buffers(statistics)?;
            }
        }
        Ok(())
    }

    /// The names of parameters and buffers, in the order in which [`Self::put`] takes their tensors.
    pub fn tensor_names(&self) -> Vec<String> {
        let parameters = self.parameters().into_iter().map(|parameter| parameter.name);
        parameters.chain(self.buffers().into_iter().map(|(name, _)| name)).collect()
    }

    /// Makes these tensors the network's own, as they are: with their type, on their device, in their memory. They come in
    /// the order of [`Self::tensor_names`], contiguous.
    ///
    /// # Errors
    /// [`Error::Shape`] where one is missing, or has another shape, type or device than expected.
    pub fn put(&mut self, tensors: Vec<Tensor>) -> Result<()> {
        let places: Vec<(usize, usize)> = self.parameters.clone();
        let count = places.len() + self.buffers().len();
        let first = tensors.first().map(|first| (first.kind(), first.device()));
        let mut tensors = tensors.into_iter();
        if tensors.len() != count {
            return Err(Error::Shape(format!("{} tensors, the network has {count}", tensors.len())));
        }
        let replace = |slot: &mut Tensor, value: Tensor, name: &dyn Fn() -> String| {
            if value.size() != slot.size() || Some((value.kind(), value.device())) != first {
                let (shape, kind, device) = (value.size(), value.kind(), value.device());
                return Err(Error::Shape(format!(
                    "`{}` is {kind:?} of shape {shape:?} on {device:?}; the network's has the shape {:?}, and all its tensors \
                     have the type and device of the first",
                    name(),
                    slot.size()
                )));
            }
            *slot = value;
            Ok(())
        };
        for ((place, slot), value) in places.into_iter().zip(tensors.by_ref()) {
            let Node { operation, parameters, .. } = &mut self.nodes[place];
            if let Operation::Layer(layer) = operation {
                replace(&mut layer.parameters_mut()[slot].value, value, &|| parameters[slot].1.clone())?;
            }
        }
        for (node, _, layer) in self.layers_mut() {
            for ((name, slot), value) in layer.buffers_mut().into_iter().zip(tensors.by_ref()) {
                replace(slot, value, &|| format!("{node}.{name}"))?;
            }
        }
        self.share();
        Ok(())
    }

    /// Makes the tensors of tied parameters those of the nodes that own them.
    pub(super) fn share(&mut self) {
        for place in 0..self.nodes.len() {
            for slot in 0..self.nodes[place].tied.len() {
                if !self.nodes[place].tied[slot] {
                    continue;
                }
                let (owner, own_slot) = self.parameters[self.nodes[place].parameters[slot].0];
                let value = self.nodes[owner].parameters()[own_slot].value.shallow_clone();
                if let Operation::Layer(layer) = &mut self.nodes[place].operation {
                    layer.parameters_mut()[slot].value = value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpack::Pass;
    use crate::backpack::layers::{BatchNorm1d, BatchNorm1dOptions, Linear, LinearOptions};
    use crate::backpack::losses::CrossEntropy;
    use crate::backpack::quantities::BuiltIn::Grad;

    fn linear(inputs: i64, outputs: i64) -> Box<dyn Layer> {
        Box::new(Linear::new(&[inputs], &LinearOptions { out_features: outputs, bias: true }).unwrap())
    }

    #[test]
    fn loading_names_what_does_not_fit() {
        let mut network = Network::sequential(vec![linear(3, 4)]);
        let tensors = BTreeMap::from([
            ("0.weight".to_owned(), Tensor::zeros([4, 2], (Kind::Float, Device::Cpu))),
            ("1.bias".to_owned(), Tensor::zeros([4], (Kind::Float, Device::Cpu))),
        ]);
        let message = network.load(tensors).unwrap_err().to_string();
        for part in ["`0.weight` has the shape [4, 2]", "`0.bias` of shape [4] is missing", "`1.bias` is not"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_pass_leaves_running_statistics_to_the_update() {
        let norm = BatchNorm1d::new(&[4], &BatchNorm1dOptions::default()).unwrap();
        let mut network = Network::sequential(vec![Box::new(norm), linear(4, 3)]);
        let x = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([3, 4]);
        let (y, mode) = (Tensor::zeros([3], (Kind::Int64, Device::Cpu)), Mode::Training { seed: 0, step: 0 });
        let loss = CrossEntropy::default();
        let result = Pass::new(&network, &loss).take([Grad]).unwrap().mode(mode).run(&x, &y).unwrap();
        let mean = |network: &Network| Vec::<f64>::try_from(network.buffers()[0].1).unwrap();
        assert_eq!(mean(&network), [0.0; 4]);
        network.update_buffers(&result).unwrap();
        // A tenth of the columns' means 4, 5, 6 and 7.
        for (mean, column) in mean(&network).into_iter().zip(4..) {
            assert!((mean - 0.1 * f64::from(column)).abs() < 1e-6, "{mean} of {column}");
        }
    }
}
