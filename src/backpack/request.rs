//! What a pass is asked for, and the checks that it can be done, before anything is computed.

use std::sync::Arc;

use crate::backpack::layers::{Layer, Mode};
use crate::backpack::network::{Network, Node, Operation, Shapes};
use crate::backpack::quantities::{Quantity, Scale, Source, all, by_name};
use crate::error::{Error, Result};

/// How many bytes of back-propagated vectors a pass holds at a time unless told otherwise.
pub const DEFAULT_CHUNK_BYTES: u64 = 64 << 20;

/// The quantities of one pass and how they are to be taken.
#[derive(Clone)]
pub struct Request {
    entries: Vec<Entry>,
    /// The normalisation of first-order statistics.
    pub scale: Scale,
    /// How many labels are drawn for each sample; given labels bring their own number.
    pub mc_samples: i64,
    /// How many bytes of back-propagated vectors may be held at a time; more are worked through in chunks of samples
    /// and, where those of one sample are more, of vectors.
    pub chunk_bytes: u64,
    /// Whether a layer that has the rows of its input factor at hand ([`Layer::input_rows`]) gives these, as the factor
    /// "X", in place of A, which is X^T X over the number of samples.
    ///
    /// [`Layer::input_rows`]: crate::backpack::layers::Layer::input_rows
    pub input_rows: bool,
    /// How many samples the whole batch has, where this one is a part of it: the loss is reduced over them, and every quantity,
    /// those included that another one requires, is the part's share of a sum that nobody has finished.
    pub(crate) part_of: Option<i64>,
}

/// A quantity to be taken.
#[derive(Clone)]
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

impl Request {
    /// The built-in quantities of these names, with BackPACK's scale and one label a sample.
    ///
    /// # Errors
    /// [`Error::Usage`] that lists the names there are.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let quantities: Result<Vec<_>> = names
            .into_iter()
            .map(|name| {
                by_name(name).ok_or_else(|| {
                    let names: Vec<_> = all().iter().map(|quantity| quantity.name()).collect();
                    Error::Usage(format!("quantity `{name}`: expected one of {}", names.join(", ")))
                })
            })
            .collect();
        Ok(Self::of(quantities?))
    }

    /// These quantities, which may be your own.
    pub fn of(quantities: Vec<Arc<dyn Quantity>>) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        for quantity in quantities {
            for name in quantity.requires() {
                if !entries.iter().any(|entry| entry.quantity.name() == *name)
                    && let Some(required) = by_name(name)
                {
                    entries.push(Entry::new(required, false));
                }
            }
            match entries.iter_mut().find(|entry| entry.quantity.name() == quantity.name()) {
                Some(entry) => entry.visible = true,
                None => entries.push(Entry::new(quantity, true)),
            }
        }
        Request {
            entries,
            scale: Scale::Backpack,
            mc_samples: 1,
            chunk_bytes: DEFAULT_CHUNK_BYTES,
            input_rows: false,
            part_of: None,
        }
    }

    /// Adds a quantity that nobody asked for, unless it is there.
    pub(crate) fn require(&mut self, quantity: Arc<dyn Quantity>) {
        if !self.entries.iter().any(|entry| entry.quantity.name() == quantity.name()) {
            self.entries.push(Entry::new(quantity, false));
        }
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

    /// Checks that everything asked for can be had from this network for inputs of this shape.
    ///
    /// # Errors
    /// [`Error::Unsupported`] that names the layer and says what is possible.
    pub fn check(&self, network: &Network, input: &[i64], mode: Mode) -> Result<()> {
        let shapes = network.shapes(input)?;
        // What was asked for before what it requires: the refusal names the former.
        let (asked, required): (Vec<&Entry>, Vec<&Entry>) = self.entries.iter().partition(|entry| entry.visible);
        for entry in asked.into_iter().chain(required) {
            if let Some(reason) = refusal(network, &shapes, mode, entry.quantity.as_ref()) {
                return Err(Error::Unsupported(reason));
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
    Ok(refusal(network, &network.shapes(input)?, mode, quantity))
}

fn refusal(network: &Network, shapes: &Shapes, mode: Mode, quantity: &dyn Quantity) -> Option<String> {
    let of_node = network.nodes().iter().find_map(|node| {
        if quantity.name() != "grad" && !node.samples_are_independent(mode) {
            return Some(format!(
                "{}: while it normalises by the batch's own statistics the samples depend on each other, and {} is not \
                 defined; use evaluation mode or `frozen = true`, or take the gradient alone",
                node.title(),
                quantity.name()
            ));
        }
        match node.operation() {
            Operation::Layer(layer) => {
                let reason = quantity.refuses(layer.as_ref(), &shapes[node.inputs()[0]])?;
                Some(format!("{}: {reason}", node.title()))
            }
            Operation::Merge(_) => None,
        }
    });
    of_node.or_else(|| quantity.refuses_network(network, shapes)).or_else(|| leaves_all_out(network, quantity))
}

/// The parameters that a quantity leaves out of this network, by their numbers, each with the reason.
pub fn left_out(network: &Network, quantity: &dyn Quantity) -> Vec<(usize, String)> {
    let of_layer = |(node, layer): (&Node, &dyn Layer)| {
        let reason = quantity.leaves_out(layer);
        let numbers: Vec<usize> = node.numbered().map(|(number, _)| number).collect();
        reason.map(|reason| numbers.into_iter().map(move |number| (number, reason.clone())))
    };
    let mut all: Vec<(usize, String)> = network.with_parameters().filter_map(of_layer).flatten().collect();
    if let Some(reason) = quantity.leaves_out_tied() {
        let tied = (0..network.parameter_count()).filter(|number| network.uses(*number) > 1);
        let more: Vec<usize> = tied.filter(|number| all.iter().all(|(known, _)| known != number)).collect();
        all.extend(more.into_iter().map(|number| (number, reason.to_owned())));
        all.sort_by_key(|(number, _)| *number);
    }
    all
}

/// The refusal where nothing remains.
fn leaves_all_out(network: &Network, quantity: &dyn Quantity) -> Option<String> {
    let all = left_out(network, quantity);
    let (_, reason) = all.first().filter(|_| all.len() == network.parameter_count())?;
    let (node, _) = network.with_parameters().next()?;
    Some(format!(
        "{}: {} is not possible: {reason}, and no other parameter can have it; diag_ggn and the first-order quantities \
         are",
        node.title(),
        quantity.name()
    ))
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
