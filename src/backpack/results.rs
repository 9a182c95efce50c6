//! What a pass gives back, and the last step to it.

use std::sync::Arc;

use tch::Tensor;

use crate::backpack::quantities::{AsQuantity, Quantity, Scale, Whole};
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

// The last step: from what was taken of a whole batch to the quantities, those first that others are made of.

/// What was taken of a quantity.
pub(crate) struct Taken<'q, 'f> {
    pub quantity: &'q dyn Quantity,
    /// Whether it was asked for, or is only needed by another one.
    pub visible: bool,
    /// The places of those that it requires among all.
    pub required: Vec<usize>,
    /// Parameter by parameter; None where it is left out.
    pub shares: Vec<Option<Vec<Share<'f>>>>,
}

/// A tensor of a quantity of a parameter, before the last step.
pub(crate) struct Share<'f> {
    /// The factor's name; empty where there is only one.
    pub factor: &'f str,
    pub tensor: Tensor,
    /// Whether it is the result already.
    pub is_done: bool,
}

/// A tensor of a quantity of a parameter.
pub(crate) struct Finished<'f> {
    /// The quantity's place among all.
    pub quantity: usize,
    pub parameter: usize,
    pub factor: &'f str,
    pub tensor: Tensor,
}

/// Finishes what is visible, each quantity made of its shares and of those that it requires, which have to be there and
/// not to go round in a circle.
pub(crate) fn finish<'f>(all: &[Taken<'_, 'f>], whole: &Whole) -> Vec<Finished<'f>> {
    let as_backpack = Whole { scale: Scale::Backpack, ..*whole };
    // Of each quantity, once it is finished, the tensors of each parameter in BackPACK's scale, for those that require it.
    let mut done: Vec<Option<Vec<Vec<Tensor>>>> = all.iter().map(|_| None).collect();
    let mut results: Vec<Vec<Finished>> = all.iter().map(|_| Vec::new()).collect();
    let ready = |done: &[Option<Vec<Vec<Tensor>>>]| {
        let is_ready = |taken: &Taken| taken.required.iter().all(|&other| done[other].is_some());
        (0..all.len()).find(|&place| done[place].is_none() && is_ready(&all[place]))
    };
    while let Some(place) = ready(&done) {
        let taken = &all[place];
        let is_required = all.iter().any(|other| other.required.contains(&place));
        let mut for_others = Vec::with_capacity(taken.shares.len());
        for (parameter, shares) in taken.shares.iter().enumerate() {
            let of_other = |&other: &usize| done[other].as_ref().map_or(&[][..], |all| all[parameter].as_slice());
            let required: Vec<&[Tensor]> = taken.required.iter().map(of_other).collect();
            let shares = match shares {
                Some(shares) if required.iter().all(|tensors| !tensors.is_empty()) => shares.as_slice(),
                _ => {
                    for_others.push(Vec::new());
                    continue;
                }
            };
            let required: Vec<&Tensor> = required.into_iter().flatten().collect();
            let own = if is_required { taken.of(shares, &required, &as_backpack) } else { Vec::new() };
            for_others.push(own.iter().map(|(_, tensor)| tensor.shallow_clone()).collect());
            if taken.visible {
                let same = is_required && whole.scale == Scale::Backpack;
                let own = if same { own } else { taken.of(shares, &required, whole) };
                let result = |(factor, tensor)| Finished { quantity: place, parameter, factor, tensor };
                results[place].extend(own.into_iter().map(result));
            }
        }
        done[place] = Some(for_others);
    }
    results.into_iter().flatten().collect()
}

impl<'f> Taken<'_, 'f> {
    /// The finished tensors of a parameter.
    fn of(&self, shares: &[Share<'f>], required: &[&Tensor], whole: &Whole) -> Vec<(&'f str, Tensor)> {
        let finished = |taken: Tensor| self.quantity.finish(taken, required, whole);
        let is_made_of_others = !required.is_empty() && shares.iter().all(|share| share.is_done);
        let of_others = is_made_of_others.then(|| ("", finished(Tensor::new())));
        let own = shares.iter().map(|share| {
            let tensor = share.tensor.shallow_clone();
            (share.factor, if share.is_done { tensor } else { finished(tensor) })
        });
        own.chain(of_others).collect()
    }
}
