//! The tensors of a network: its parameters and buffers by name, and what replaces them.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::backpack::layers::Layer;
use crate::backpack::network::{Network, Operation};
use crate::error::{Error, Result};

/// A parameter as the network names it.
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

/// A layer with its node's name, its parameters' numbers and full names, and which of them are an earlier node's.
type LayerParts<'a> = (&'a str, (&'a [(usize, String)], &'a [bool]), &'a mut Box<dyn Layer>);

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

    fn layers_mut(&mut self) -> impl Iterator<Item = LayerParts<'_>> {
        self.nodes.iter_mut().filter_map(|node| match &mut node.operation {
            Operation::Layer(layer) => {
                Some((node.name.as_str(), (node.parameters.as_slice(), node.tied.as_slice()), layer))
            }
            Operation::Merge(_) => None,
        })
    }

    /// Moves parameters and buffers to another type or device.
    pub fn to(&mut self, kind: Kind, device: Device) {
        self.replace(|tensor| tensor.to_kind(kind).to_device(device));
    }

    /// Replaces every parameter and buffer by the tensor of its name, converted to the present type and device.
    ///
    /// # Errors
    /// [`Error::Shape`] that lists what is missing, what is there beyond the network's own (PyTorch's
    /// `num_batches_tracked` excepted), and what has another shape.
    pub fn load(&mut self, mut tensors: BTreeMap<String, Tensor>) -> Result<()> {
        tensors.retain(|name, _| !name.ends_with(".num_batches_tracked"));
        let mut problems = Vec::new();
        let mut replace = |full: &str, slot: &mut Tensor| match tensors.remove(full) {
            None => problems.push(format!("`{full}` of shape {:?} is missing", slot.size())),
            Some(value) if value.size() != slot.size() => {
                problems.push(format!("`{full}` has the shape {:?}, the network's is {:?}", value.size(), slot.size()))
            }
            Some(value) => *slot = value.to_kind(slot.kind()).to_device(slot.device()).contiguous(),
        };
        for (name, (parameters, tied), layer) in self.layers_mut() {
            for (parameter, (_, full)) in layer
                .parameters_mut()
                .iter_mut()
                .zip(parameters)
                .zip(tied)
                .filter(|(_, tied)| !**tied)
                .map(|(one, _)| one)
            {
                replace(full, &mut parameter.value);
            }
            for (buffer_name, buffer) in layer.buffers_mut() {
                replace(&format!("{name}.{buffer_name}"), buffer);
            }
        }
        problems.extend(tensors.keys().map(|name| format!("`{name}` is not a parameter of the network")));
        self.share();
        if problems.is_empty() { Ok(()) } else { Err(Error::Shape(problems.join("; "))) }
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
    use crate::backpack::layers::{Linear, LinearOptions};

    #[test]
    fn loading_names_what_does_not_fit() {
        let linear = Linear::new(&[3], &LinearOptions { out_features: 4, bias: true }).unwrap();
        let mut network = Network::sequential(vec![Box::new(linear)]);
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
