//! Which quantities of a batch can be had: what was asked for by name, and of Table 1 what layers and memory allow.

use std::sync::Arc;

use bytesize::ByteSize;
use tch::{Kind, Tensor};

use super::{Parts, Settings};
use crate::backpack::memory::Plan;
use crate::backpack::network::Network;
use crate::backpack::quantities::{AsQuantity, Quantity, Source, TABLE_1};
use crate::backpack::request::{Refusal, left_out, refusal};
use crate::error::{Error, Result};

/// What will be taken, in which chunks, and what was left out.
pub(super) struct Chosen {
    pub quantities: Vec<Arc<dyn Quantity>>,
    pub chunk_bytes: u64,
    /// The quantities of Table 1 that are left out, and the parameters that a quantity leaves out, and why.
    pub skipped: Vec<(String, String)>,
}

/// Chooses for a part's inputs `x`, computation in floats of this `kind`, `mc_samples` labels a sample, and whether products will be taken too.
///
/// # Errors
/// [`Error::UnknownQuantity`]; [`Error::Refused`] for what was asked for by name and cannot be had, and
/// [`Error::Unsupported`] where there is no room for it.
pub(super) fn choose(
    network: &Network,
    (x, kind): (&Tensor, Kind),
    parts: &Parts,
    mc_samples: i64,
    products: bool,
    settings: &Settings,
) -> Result<Chosen> {
    let input = &x.size()[1..];
    let plan_of = |samples: i64| Plan::new(network, input, samples, mc_samples, kind.elt_size_in_bytes());
    // The pass sees a part at a time; rows of all samples are kept.
    let (plan, results) = (plan_of(parts.size.min(parts.samples))?, plan_of(parts.range.end - parts.range.start)?);
    let mut budget = Budget::new(&plan, &results, settings.memory_budget, products);
    let shapes = network.shapes(input)?;
    let why_not = |quantity: &dyn Quantity| -> Option<Refusal> {
        let reason = match quantity.source() {
            Source::AveragedMatrix if !parts.is_one() => {
                "is a recursion over all samples at once, and has no parts; leave out the option `batch_size` and the option `shard`"
            }
            Source::SampledSqrtHessianAgain if !parts.is_whole() => {
                "is made in a basis of all samples, and has no shards; leave out the option `shard`"
            }
            _ => return refusal(network, &shapes, settings.mode, quantity),
        };
        Some((None, format!("{} {reason}", quantity.name())))
    };
    let mut quantities: Vec<Arc<dyn Quantity>> = Vec::new();
    for name in &settings.explicit {
        let quantity = find(name)?;
        if quantities.iter().any(|chosen| chosen.name() == quantity.name()) {
            continue;
        }
        if let Some((layer, reason)) = why_not(quantity.as_ref()) {
            return Err(Error::Refused {
                quantity: name.clone(),
                layer,
                reason: format!("quantity `{name}`: {reason}"),
            });
        }
        budget.add(quantity.as_ref());
        quantities.push(quantity);
    }
    if budget.is_exceeded() {
        let what = if settings.explicit.is_empty() { "the forward pass".into() } else { settings.explicit.join(", ") };
        return Err(Error::Unsupported(format!(
            "{what}: this needs about {}, the memory budget is {}; take fewer samples or quantities, or raise \
             the option `memory_budget`",
            size(budget.needed()),
            size(budget.limit)
        )));
    }
    let mut skipped = Vec::new();
    for name in TABLE_1.iter().filter(|_| settings.table_1) {
        let quantity = find(name)?;
        if quantities.iter().any(|chosen| chosen.name() == quantity.name()) {
            continue;
        }
        let refused = match why_not(quantity.as_ref()) {
            None => budget.try_add(quantity.as_ref()),
            Some((_, reason)) => Some(reason),
        };
        match refused {
            Some(reason) => skipped.push(((*name).to_owned(), reason)),
            None => quantities.push(quantity),
        }
    }
    let parameters = network.parameters();
    for quantity in &quantities {
        let of_parameter = |(number, reason): (usize, String)| {
            let name: &str = &parameters[number].name;
            (format!("{}.{name}", quantity.name()), reason)
        };
        skipped.extend(left_out(network, quantity.as_ref()).into_iter().map(of_parameter));
    }
    tracing::info!("this needs about {} of memory", size(budget.needed()));
    Ok(Chosen { quantities, chunk_bytes: plan.chunk_bytes(budget.limit, budget.fixed), skipped })
}

/// The quantity of this name; where there is none, the error knows of "all" too.
fn find(name: &str) -> Result<Arc<dyn Quantity>> {
    name.quantity().map_err(|error| match error {
        Error::UnknownQuantity { name, mut known } => {
            known.push("all");
            Error::UnknownQuantity { name, known }
        }
        other => other,
    })
}

/// Memory that is spoken for, of what may be taken.
struct Budget<'a> {
    plan: &'a Plan<'a>,
    /// Of all samples.
    results: &'a Plan<'a>,
    limit: u64,
    /// What is there all the time: forward pass and results.
    fixed: u64,
    sources: Vec<Source>,
}

impl<'a> Budget<'a> {
    fn new(plan: &'a Plan<'a>, results: &'a Plan<'a>, limit: u64, products: bool) -> Self {
        // The vector, the three products, and the gradient's sweep with its tangents.
        let fixed = plan.base() + if products { 4 * plan.parameters() } else { 0 };
        Budget { plan, results, limit, fixed, sources: if products { vec![Source::Gradient] } else { Vec::new() } }
    }

    fn add(&mut self, quantity: &dyn Quantity) {
        self.fixed = self.fixed.saturating_add(self.results.result(quantity));
        self.sources.push(quantity.source());
    }

    /// Adds a quantity, or says why there is no room for it.
    fn try_add(&mut self, quantity: &dyn Quantity) -> Option<String> {
        self.add(quantity);
        if !self.is_exceeded() {
            return None;
        }
        let needed = self.needed();
        self.sources.pop();
        self.fixed -= self.results.result(quantity);
        Some(format!("with it the pass needs about {}, beyond the memory budget of {}", size(needed), size(self.limit)))
    }

    /// What is needed at least, with the smallest chunks.
    fn needed(&self) -> u64 {
        let sweep = self.sources.iter().map(|source| self.plan.sweep(*source, 1)).max().unwrap_or(0);
        self.fixed.saturating_add(sweep)
    }

    fn is_exceeded(&self) -> bool {
        self.needed() > self.limit
    }
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpack::network::Value;
    use crate::backpack::support::specimens;

    /// What is left out for want of room takes none from what comes after it.
    #[test]
    fn what_does_not_fit_leaves_its_room() {
        let specimen = specimens().unwrap().swap_remove(0);
        let network = Network::new(vec![specimen.part("0", Value::INPUT)]).unwrap();
        let plan = Plan::new(&network, &[6], 512, 1, 4).unwrap();
        let (small, large) = (find("grad").unwrap(), find("sqrt_ggn").unwrap());
        let needed = |quantity: &dyn Quantity| {
            let mut budget = Budget::new(&plan, &plan, u64::MAX, false);
            budget.add(quantity);
            budget.needed()
        };
        let limit = needed(small.as_ref());
        assert!(needed(large.as_ref()) > limit);
        let mut budget = Budget::new(&plan, &plan, limit, false);
        let before = budget.needed();
        let reason = budget.try_add(large.as_ref()).unwrap();
        assert!(reason.contains(&size(needed(large.as_ref()))), "{reason}");
        assert_eq!((budget.needed(), budget.sources.len()), (before, 0));
        assert_eq!(budget.try_add(small.as_ref()), None);
    }
}
