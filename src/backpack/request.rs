//! What a pass is asked for, and the checks that it can be done, before anything is computed.

use std::cell::RefCell;
use std::sync::Arc;

use tch::Tensor;

use crate::backpack::draws::Draws;
use crate::backpack::layers::{Layer, Mode};
use crate::backpack::losses::{Evaluated, Loss};
use crate::backpack::network::{Network, Node, Operation, Shapes};
use crate::backpack::quantities::{AsQuantity, Quantity, Scale, Source, by_name};
use crate::error::{Error, Result};
use crate::random::{Purpose, stream};

/// How many bytes of back-propagated vectors a pass holds at a time unless told otherwise. In training it is part of what
/// decides a run's numbers, and of the run's identity. A quarter of it is no faster: small chunks make small products.
pub const DEFAULT_CHUNK_BYTES: u64 = 256 << 20;

/// The quantities of one pass and how they are to be taken: what an optimizer wants of every pass, and what
/// [`Pass`](crate::backpack::Pass) gathers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    entries: Vec<Entry>,
    /// The normalisation of first-order statistics.
    pub scale: Scale,
    /// How many labels are drawn for each sample; given labels bring their own number.
    pub mc_samples: i64,
    /// How many bytes of back-propagated vectors may be held at a time; more are processed in chunks of samples
    /// and, where those of one sample are more, of vectors.
    pub chunk_bytes: u64,
    /// Whether a layer that has the rows of its input factor at hand ([`FactoredSite::flat_rows`]) gives these, as the factor
    /// "X", in place of A, which is X^T X over the number of samples.
    ///
    /// [`FactoredSite::flat_rows`]: crate::backpack::layers::FactoredSite::flat_rows
    pub input_rows: bool,
    /// How many samples the whole batch has, where this one is a part of it: the loss is reduced over them, and every quantity,
    /// those included that another one requires, is the part's share of a sum that nobody has finished.
    pub(crate) part_of: Option<i64>,
}

/// A quantity to be taken.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub quantity: Arc<dyn Quantity>,
    /// Whether it was asked for, or is only needed by another one.
    pub visible: bool,
    /// The parameters, by number, at which alone it is taken; None is all.
    pub only: Option<Vec<usize>>,
}

impl Entry {
    fn new(quantity: Arc<dyn Quantity>, visible: bool) -> Self {
        Entry { quantity, visible, only: None }
    }
}

impl Default for Request {
    /// Of nothing, with BackPACK's scale and one label a sample.
    fn default() -> Self {
        Request {
            entries: Vec::new(),
            scale: Scale::Backpack,
            mc_samples: 1,
            chunk_bytes: DEFAULT_CHUNK_BYTES,
            input_rows: false,
            part_of: None,
        }
    }
}

impl Request {
    /// These quantities, with BackPACK's scale and one label a sample.
    ///
    /// # Errors
    /// As [`AsQuantity::quantity`].
    pub fn new<Q: AsQuantity>(quantities: impl IntoIterator<Item = Q>) -> Result<Self> {
        let mut request = Request::default();
        for quantity in quantities {
            request.add(quantity)?;
        }
        Ok(request)
    }

    /// Asks for one quantity more.
    ///
    /// # Errors
    /// As [`AsQuantity::quantity`].
    pub fn add(&mut self, quantity: impl AsQuantity) -> Result<()> {
        self.enter(quantity.quantity()?, true);
        Ok(())
    }

    /// Enters a quantity behind those that it requires, as far as they are known by name.
    fn enter(&mut self, quantity: Arc<dyn Quantity>, visible: bool) {
        if let Some(place) = self.place_of(quantity.name()) {
            self.entries[place].visible |= visible;
            return;
        }
        let place = self.entries.len();
        self.entries.push(Entry::new(Arc::clone(&quantity), visible));
        for required in quantity.requires().iter().filter_map(|name| by_name(name)) {
            self.enter(required, false);
        }
        // Behind what it requires, which is the order of the results.
        self.entries[place..].rotate_left(1);
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.quantity.name() == name)
    }

    /// Adds a quantity that nobody asked for, unless it is there.
    pub(crate) fn require(&mut self, quantity: Arc<dyn Quantity>) {
        self.enter(quantity, false);
    }

    /// The names of the quantities that were asked for.
    pub fn asked(&self) -> impl Iterator<Item = &'static str> {
        self.entries.iter().filter(|entry| entry.visible).map(|entry| entry.quantity.name())
    }

    /// Has a quantity of the request taken at these parameters alone, which are counted as in [`Network::parameters`]; at
    /// others it is not computed.
    pub fn only_at(&mut self, quantity: &str, parameters: Vec<usize>) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.quantity.name() == quantity) {
            entry.only = Some(parameters);
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether any quantity is made of these vectors.
    pub fn needs(&self, source: Source) -> bool {
        self.entries.iter().any(|entry| entry.quantity.source() == source)
    }

    /// Whether a quantity has the input factors of weights.
    pub fn has_input_factors(&self) -> bool {
        self.entries.iter().any(|entry| entry.quantity.input_factor().is_some())
    }

    /// For each entry the places of those that it requires.
    ///
    /// # Errors
    /// [`Error::Usage`] for a quantity that is not there, or that requires itself in the end.
    pub(crate) fn required(&self) -> Result<Vec<Vec<usize>>> {
        let of_entry = |entry: &Entry| {
            let name = entry.quantity.name();
            let place = |required: &&str| {
                self.place_of(required).ok_or_else(|| {
                    Error::Usage(format!(
                        "quantity `{name}` requires `{required}`, which is neither in the registry nor taken in \
                         the same pass"
                    ))
                })
            };
            entry.quantity.requires().iter().map(place).collect::<Result<Vec<_>>>()
        };
        let required = self.entries.iter().map(of_entry).collect::<Result<Vec<_>>>()?;
        // What no order of their last steps would do for goes round in a circle.
        let mut done = vec![false; required.len()];
        while let Some(next) = (0..done.len()).find(|&at| !done[at] && required[at].iter().all(|&other| done[other])) {
            done[next] = true;
        }
        match done.iter().position(|done| !done) {
            Some(place) => {
                let name = self.entries[place].quantity.name();
                Err(Error::Usage(format!("quantity `{name}` requires itself, by way of what it requires")))
            }
            None => Ok(required),
        }
    }

    /// Checks that everything asked for can be had from this network for inputs of this shape.
    ///
    /// # Errors
    /// [`Error::Refused`] that names the layer and says what is possible.
    pub fn check(&self, network: &Network, input: &[i64], mode: Mode) -> Result<()> {
        let shapes = network.shapes(input)?;
        // What was asked for before what it requires: the refusal names the former.
        let (asked, required): (Vec<&Entry>, Vec<&Entry>) = self.entries.iter().partition(|entry| entry.visible);
        for entry in asked.into_iter().chain(required) {
            if let Some((layer, reason)) = refusal(network, &shapes, mode, entry.quantity.as_ref()) {
                return Err(Error::Refused { quantity: entry.quantity.name().to_owned(), layer, reason });
            }
        }
        Ok(())
    }
}

/// Why a quantity cannot be had from this network for inputs of this shape; None where it can.
///
/// # Errors
/// [`Error::Shape`] when the input does not fit the network.
pub fn why_not(network: &Network, input: &[i64], mode: Mode, quantity: &dyn Quantity) -> Result<Option<String>> {
    Ok(refusal(network, &network.shapes(input)?, mode, quantity).map(|(_, reason)| reason))
}

/// Why a quantity cannot be had: the layer that it lies with, by name, and the reason.
pub(crate) type Refusal = (Option<String>, String);

pub(crate) fn refusal(network: &Network, shapes: &Shapes, mode: Mode, quantity: &dyn Quantity) -> Option<Refusal> {
    let of_node = network.nodes().iter().find_map(|node| {
        let refused = |reason: String| (Some(node.name.clone()), format!("{}: {reason}", node.title()));
        if quantity.name() != "grad" && !node.samples_are_independent(mode) {
            return Some(refused(format!(
                "while it normalises by the batch's own statistics the samples depend on each other, and {} is not \
                 defined; use evaluation mode or `frozen = true`, or take the gradient alone",
                quantity.name()
            )));
        }
        match node.operation() {
            Operation::Layer(layer) => quantity.refuses(layer.as_ref(), &shapes[node.inputs()[0]]).map(refused),
            Operation::Merge(_) => None,
        }
    });
    let of_network = || Some((None, quantity.refuses_network(network, shapes)?));
    of_node.or_else(of_network).or_else(|| leaves_all_out(network, quantity))
}

/// The parameters that a quantity leaves out of this network, by their numbers, each with the reason.
///
/// What is made of others is left out where one of them is; the pass sees to that, since they may be known to it alone.
pub fn left_out(network: &Network, quantity: &dyn Quantity) -> Vec<(usize, String)> {
    let of_layer = |(node, layer): (&Node, &dyn Layer)| {
        let reason = quantity.leaves_out(layer);
        let numbers: Vec<usize> = node.numbered().map(|(number, _)| number).collect();
        reason.map(|reason| numbers.into_iter().map(move |number| (number, reason.clone())))
    };
    let mut all: Vec<(usize, String)> = network.with_parameters().filter_map(of_layer).flatten().collect();
    for number in (0..network.parameter_count()).filter(|number| network.uses(*number) > 1) {
        let users = network.nodes().iter().filter(|node| node.slots_of(number).next().is_some());
        let later: Vec<&dyn Layer> = users.filter_map(Node::layer).skip(1).collect();
        if let Some(reason) = quantity.leaves_out_tied(&later).filter(|_| all.iter().all(|(known, _)| *known != number))
        {
            all.push((number, reason.to_owned()));
        }
    }
    all.sort_by_key(|(number, _)| *number);
    all
}

/// The refusal where nothing remains.
fn leaves_all_out(network: &Network, quantity: &dyn Quantity) -> Option<Refusal> {
    let all = left_out(network, quantity);
    let (_, reason) = all.first().filter(|_| all.len() == network.parameter_count())?;
    let (node, _) = network.with_parameters().next()?;
    let reason = format!(
        "{}: {} is not possible: {reason}, and no other parameter can have it; diag_ggn and the first-order quantities \
         are",
        node.title(),
        quantity.name()
    );
    Some((Some(node.name.clone()), reason))
}

/// Where the labels of sampled quantities come from.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Labels<'a> {
    /// They are drawn from the model, from the counter-based stream of this seed and step.
    Drawn {
        /// The seed.
        seed: u64,
        /// The training step.
        step: u64,
    },
    /// These: classes `[M, N, ..]`, or values `[M, N, *out]`.
    Given(&'a Tensor),
    /// They are drawn from the model, for the samples behind those that were drawn for before.
    Following(&'a RefCell<Draws>),
}

impl Labels<'_> {
    /// The labels at a batch, `mc_samples` for each sample where they are drawn.
    ///
    /// # Errors
    /// What libtorch says when the output is not one to draw from.
    pub(crate) fn at(self, loss: &dyn Loss, at: &Evaluated, mc_samples: i64) -> Result<Tensor> {
        match self {
            Labels::Given(labels) => Ok(labels.shallow_clone()),
            Labels::Drawn { seed, step } => {
                loss.sample(at, mc_samples, &mut Draws::whole(stream(seed, Purpose::SampledLabels, step)))
            }
            Labels::Following(draws) => loss.sample(at, mc_samples, &mut draws.borrow_mut()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpack::layers::{Gain, Linear, LinearOptions};
    use crate::backpack::network::{Part, Value};

    #[test]
    fn what_no_parameter_can_have_is_refused() {
        let gain = || Part::layer("scale", Box::new(Gain::new(&[4], None, 1.0).unwrap()), Value::INPUT);
        let kfac = by_name("kfac").unwrap();
        let alone = Network::new(vec![gain()]).unwrap();
        let refusal = why_not(&alone, &[4], Mode::Evaluation, kfac.as_ref()).unwrap().unwrap();
        for part in ["layer scale (gain)", "kfac", "no other parameter", "diag_ggn"] {
            assert!(refusal.contains(part), "{refusal} does not say {part}");
        }
        let linear = Linear::new(&[4], &LinearOptions { out_features: 2, bias: true }).unwrap();
        let both = Network::new(vec![gain(), Part::layer("1", Box::new(linear), Value::of_node(0))]).unwrap();
        assert_eq!(why_not(&both, &[4], Mode::Evaluation, kfac.as_ref()).unwrap(), None);
        let numbers: Vec<usize> = left_out(&both, kfac.as_ref()).into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [0]);
    }
}
