//! The running Kronecker factors of a layer, taken from a pass by the reading of its quantity.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::{Averaging, RunningEstimate, wanted};
use crate::backpack::Quantities;
use crate::backpack::layers::Reading;
use crate::backpack::quantities::by_name;
use crate::error::Result;

/// The running factors of one layer; weight and bias share B. Of both the upper triangle is what counts: the lower one
/// of an A that is made of rows is not kept up.
#[derive(Debug, Default)]
pub(super) struct Factors {
    pub a: RunningEstimate,
    pub b: RunningEstimate,
}

impl Factors {
    /// Takes in the factors of a quantity at the weight of this number; B `b_times` times.
    pub fn observe(
        &mut self,
        quantities: &Quantities,
        quantity: &str,
        weight: usize,
        averaging: Averaging,
        b_times: i32,
    ) -> Result<()> {
        let reading = by_name(quantity).and_then(|quantity| quantity.input_factor());
        observe_input(&mut self.a, quantities, (quantity, reading.unwrap_or(Reading::Expand)), weight, averaging)?;
        self.b.observe(wanted(quantities, quantity, weight, "B")?, averaging, b_times);
        Ok(())
    }

    /// What later steps depend on, of the layer at this place.
    pub fn state(&self, place: usize) -> Vec<(String, Tensor)> {
        let of = |name: &str, estimate: &RunningEstimate| estimate.saved(&format!("{name}.{place}"), symmetric);
        of("a", &self.a).into_iter().chain(of("b", &self.b)).collect()
    }

    /// Takes its part out of a saved state.
    pub fn load_state(&mut self, place: usize, state: &mut BTreeMap<String, Tensor>) -> Result<()> {
        for (name, estimate) in [("a", &mut self.a), ("b", &mut self.b)] {
            *estimate = RunningEstimate::take(state, &format!("{name}.{place}"))?;
        }
        Ok(())
    }
}

/// Takes the input factor of a quantity, which has this reading, at the weight of this number into a running one.
pub(super) fn observe_input(
    estimate: &mut RunningEstimate,
    quantities: &Quantities,
    (quantity, reading): (&str, Reading),
    weight: usize,
    averaging: Averaging,
) -> Result<()> {
    let Some(x) = quantities.find(quantity, weight, "X") else {
        estimate.observe(wanted(quantities, quantity, weight, "A")?, averaging, 1);
        return Ok(());
    };
    // Of the other readings each row stands for a sample.
    let samples = if reading == Reading::Backpack { quantities.whole.samples } else { x.size()[0] };
    estimate.observe_second_moment(x, samples, averaging)
}

/// The whole of a factor whose upper triangle is kept up.
pub(super) fn symmetric(factor: &Tensor) -> Tensor {
    factor.triu(0) + factor.triu(1).transpose(-2, -1)
}

/// The trace over the dimension.
pub(super) fn mean_diagonal(factor: &Tensor) -> Result<f64> {
    Ok(f64::try_from(factor.diagonal(0, -2, -1).mean(Kind::Double))?)
}
