//! What a pass gives back, and how the shares of layers and chunks become whole quantities.

use tch::Tensor;

use crate::backpack::network::Network;
use crate::backpack::quantities::{Combine, Site, Source, Whole};
use crate::backpack::request::Request;
use crate::error::Result;

/// The result of a pass.
pub struct Quantities {
    /// The loss, without dimensions and without any regulariser.
    pub loss: Tensor,
    /// The network's output, `[N, D]`.
    pub output: Tensor,
    /// The labels that the sampled quantities used, `[M, N]` or `[M, N, D]`.
    pub labels: Option<Tensor>,
    /// What the quantities are scaled by.
    pub whole: Whole,
    pub(crate) values: Vec<Value>,
}

/// One tensor of a quantity.
pub struct Value {
    /// The quantity's name.
    pub quantity: &'static str,
    /// The parameter, counted as in [`Network::parameters`].
    pub parameter: usize,
    /// The factor's name; empty where there is only one.
    pub factor: &'static str,
    /// The tensor.
    pub tensor: Tensor,
}

impl Quantities {
    /// The loss as a number.
    ///
    /// # Errors
    /// What libtorch says when it cannot be read.
    pub fn loss_value(&self) -> Result<f64> {
        Ok(f64::try_from(&self.loss)?)
    }

    /// A quantity of a parameter; None where it was not asked for.
    pub fn get(&self, quantity: &str, parameter: usize) -> Option<&Tensor> {
        self.factor(quantity, parameter, "")
    }

    /// A factor ("A", "B") of a quantity of a parameter.
    pub fn factor(&self, quantity: &str, parameter: usize, factor: &str) -> Option<&Tensor> {
        self.values
            .iter()
            .find(|value| value.parameter == parameter && value.quantity == quantity && value.factor == factor)
            .map(|value| &value.tensor)
    }

    /// Everything, quantity by quantity.
    pub fn values(&self) -> &[Value] {
        &self.values
    }
}

/// Gathers shares while a pass runs.
pub(crate) struct Collector<'a> {
    request: &'a Request,
    /// For each entry of the request and each parameter, what has been taken.
    taken: Vec<Vec<Taken>>,
    input_factors: Vec<Option<Tensor>>,
    wants_gradient: bool,
}

/// The pieces of one quantity of one parameter: by chunk of samples, or added up.
#[derive(Default)]
struct Taken {
    chunks: Vec<(usize, Vec<(&'static str, Tensor)>)>,
}

impl Taken {
    fn add(&mut self, combine: Combine, chunk: usize, pieces: Vec<(&'static str, Tensor)>) {
        let chunk = if combine == Combine::Sum { 0 } else { chunk };
        match self.chunks.iter_mut().find(|(number, _)| *number == chunk) {
            None => self.chunks.push((chunk, pieces)),
            Some((_, present)) => {
                for (slot, (_, new)) in present.iter_mut().zip(pieces) {
                    slot.1 = &slot.1 + new;
                }
            }
        }
    }

    fn whole(self, combine: Combine) -> Vec<(&'static str, Tensor)> {
        let axis = match combine {
            Combine::Sum => None,
            Combine::Samples => Some(0),
            Combine::VectorsAndSamples => Some(1),
        };
        let mut chunks = self.chunks;
        chunks.sort_by_key(|(number, _)| *number);
        match (chunks.len(), axis) {
            (0, _) => Vec::new(),
            (1, _) | (_, None) => chunks.swap_remove(0).1,
            (_, Some(axis)) => {
                let names: Vec<_> = chunks[0].1.iter().map(|(name, _)| *name).collect();
                let piece = |place: usize| {
                    let parts: Vec<&Tensor> = chunks.iter().map(|(_, pieces)| &pieces[place].1).collect();
                    Tensor::cat(&parts, axis)
                };
                names.iter().enumerate().map(|(place, name)| (*name, piece(place))).collect()
            }
        }
    }
}

impl<'a> Collector<'a> {
    pub fn new(network: &Network, request: &'a Request) -> Self {
        let parameters = network.leaves().last().map_or(0, |leaf| leaf.first_parameter + leaf.layer.parameters().len());
        let taken = request.entries().iter().map(|_| (0..parameters).map(|_| Taken::default()).collect()).collect();
        let wants_gradient = request.entries().iter().any(|entry| entry.quantity.name() == "grad");
        Collector { request, taken, input_factors: (0..parameters).map(|_| None).collect(), wants_gradient }
    }

    pub fn wants_input_factors(&self) -> bool {
        self.request.entries().iter().any(|entry| entry.quantity.has_input_factor())
    }

    pub fn wants_gradient(&self) -> bool {
        self.wants_gradient
    }

    pub fn put_input_factor(&mut self, parameter: usize, factor: Tensor) {
        self.input_factors[parameter] = Some(factor);
    }

    pub fn put_gradient(&mut self, parameter: usize, gradient: Tensor) {
        if let Some(place) = self.request.entries().iter().position(|entry| entry.quantity.name() == "grad") {
            self.taken[place][parameter].add(Combine::Sum, 0, vec![("", gradient)]);
        }
    }

    /// Lets every quantity of this source take its share at a site. The gradient itself comes by
    /// [`Self::put_gradient`].
    pub fn take(&mut self, source: Source, parameter: usize, chunk: usize, site: &Site) -> Result<()> {
        for (entry, taken) in self.request.entries().iter().zip(&mut self.taken) {
            let quantity = entry.quantity.as_ref();
            if quantity.source() == source && quantity.name() != "grad" {
                taken[parameter].add(quantity.combine(), chunk, quantity.extract(site)?);
            }
        }
        Ok(())
    }

    pub fn finish(self, whole: &Whole) -> Result<Vec<Value>> {
        let entries = self.request.entries();
        let raw: Vec<Vec<Vec<(&'static str, Tensor)>>> = self
            .taken
            .into_iter()
            .zip(entries)
            .map(|(parameters, entry)| {
                parameters.into_iter().map(|taken| taken.whole(entry.quantity.combine())).collect()
            })
            .collect();
        let mut values = Vec::new();
        for (place, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.visible) {
            let quantity = entry.quantity.as_ref();
            let required: Vec<usize> = quantity
                .requires()
                .iter()
                .filter_map(|name| entries.iter().position(|other| other.quantity.name() == *name))
                .collect();
            for (parameter, input_factor) in self.input_factors.iter().enumerate() {
                if quantity.has_input_factor()
                    && let Some(factor) = input_factor
                {
                    let tensor = factor.shallow_clone();
                    values.push(Value { quantity: quantity.name(), parameter, factor: "A", tensor });
                }
                let others: Vec<&Tensor> = required
                    .iter()
                    .filter_map(|other| raw[*other][parameter].first())
                    .map(|(_, tensor)| tensor)
                    .collect();
                let mut push = |factor, taken: Tensor| {
                    let tensor = quantity.finish(taken, &others, whole);
                    values.push(Value { quantity: quantity.name(), parameter, factor, tensor });
                };
                if raw[place][parameter].is_empty() && others.len() == required.len() && !others.is_empty() {
                    push("", Tensor::new());
                }
                for (factor, tensor) in &raw[place][parameter] {
                    push(factor, tensor.shallow_clone());
                }
            }
        }
        Ok(values)
    }
}
