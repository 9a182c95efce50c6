//! What a pass gives back.

use std::sync::Arc;

use tch::Tensor;

use crate::backpack::quantities::{AsQuantity, Whole};
use crate::error::{Error, Result};

/// The result of a pass.
#[derive(Debug)]
#[non_exhaustive]
pub struct Quantities {
    /// The loss, without dimensions and without any regulariser.
    pub loss: Tensor,
    /// The network's output, `[N, *out]`.
    pub output: Tensor,
    /// The labels that the sampled quantities used, `[M, N, ..]` or `[M, N, *out]`.
    pub labels: Option<Tensor>,
    /// What the quantities are scaled by.
    pub whole: Whole,
    pub(crate) values: Vec<Value>,
    /// What moves the buffers of the node at each place ([`crate::backpack::Network::update_buffers`]).
    pub(crate) statistics: Vec<(usize, Vec<Tensor>)>,
    /// The full names of the network's parameters.
    pub(crate) names: Arc<[String]>,
}

/// One tensor of a quantity.
#[derive(Debug)]
#[non_exhaustive]
pub struct Value {
    /// The quantity's name.
    pub quantity: &'static str,
    /// The parameter, counted as in [`crate::backpack::Network::parameters`].
    pub parameter: usize,
    /// The factor's name; empty where there is only one.
    pub factor: &'static str,
    /// The tensor.
    pub tensor: Tensor,
}

/// What stands for a parameter of a network: its full name ("0.weight"), or its number as in [`crate::backpack::Network::parameters`].
pub trait AsParameter {
    /// Its number among these names.
    fn number(&self, names: &[String]) -> Option<usize>;

    /// How errors name it.
    fn title(&self, names: &[String]) -> String;
}

impl AsParameter for usize {
    fn number(&self, names: &[String]) -> Option<usize> {
        (*self < names.len()).then_some(*self)
    }

    fn title(&self, names: &[String]) -> String {
        names.get(*self).map_or_else(|| self.to_string(), String::clone)
    }
}

impl AsParameter for &str {
    fn number(&self, names: &[String]) -> Option<usize> {
        names.iter().position(|name| name == self)
    }

    fn title(&self, _names: &[String]) -> String {
        (*self).to_owned()
    }
}

impl AsParameter for &String {
    fn number(&self, names: &[String]) -> Option<usize> {
        self.as_str().number(names)
    }

    fn title(&self, _names: &[String]) -> String {
        (*self).clone()
    }
}

impl Quantities {
    /// The loss as a number.
    ///
    /// # Errors
    /// What libtorch says when it cannot be read.
    pub fn loss_value(&self) -> Result<f64> {
        Ok(f64::try_from(&self.loss)?)
    }

    /// A quantity of a parameter, by typed name or text, and by the parameter's name or number.
    ///
    /// # Errors
    /// [`Error::NotTaken`] where it was not asked for, is left out for this parameter, or comes in factors.
    pub fn get(&self, quantity: impl AsQuantity, parameter: impl AsParameter) -> Result<&Tensor> {
        self.factor(quantity, parameter, "")
    }

    /// A factor ("A", "B") of a quantity of a parameter.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn factor(&self, quantity: impl AsQuantity, parameter: impl AsParameter, factor: &str) -> Result<&Tensor> {
        let name = quantity.quantity_name();
        let number = parameter.number(&self.names);
        number.and_then(|number| self.find(name, number, factor)).ok_or_else(|| Error::NotTaken {
            quantity: name.to_owned(),
            parameter: parameter.title(&self.names),
            reason: self.why_not(name, number, factor),
        })
    }

    /// A factor of a quantity of the parameter of this number, where there is one.
    pub(crate) fn find(&self, quantity: &str, parameter: usize, factor: &str) -> Option<&Tensor> {
        self.values
            .iter()
            .find(|value| value.parameter == parameter && value.quantity == quantity && value.factor == factor)
            .map(|value| &value.tensor)
    }

    /// Why there is no such value.
    fn why_not(&self, quantity: &str, parameter: Option<usize>, factor: &str) -> String {
        let Some(parameter) = parameter else {
            return format!("there is no such parameter; {}", listed("the network has", &self.names));
        };
        let taken: Vec<&Value> = self.values.iter().filter(|value| value.quantity == quantity).collect();
        let factors: Vec<&str> =
            taken.iter().filter(|value| value.parameter == parameter).map(|value| value.factor).collect();
        match (taken.is_empty(), factors.as_slice()) {
            (true, _) => {
                let mut names: Vec<&str> = self.values.iter().map(|value| value.quantity).collect();
                names.dedup();
                format!("the pass did not take it; {}", listed("it took", &names))
            }
            (false, []) => "it is left out for this parameter".to_owned(),
            (false, [""]) => format!("it has no factor `{factor}`"),
            (false, factors) => listed(&format!("there is no factor `{factor}`, it comes in"), factors),
        }
    }

    /// Everything, quantity by quantity.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The full names of the network's parameters, in the order of their numbers.
    pub fn parameter_names(&self) -> &[String] {
        &self.names
    }
}

fn listed(what: &str, names: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    if names.is_empty() { format!("{what} nothing") } else { format!("{what} {}", names.join(", ")) }
}
