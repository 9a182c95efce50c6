//! `variance`: the population variance of the individual gradients over the batch (Table 1, row 4).

use tch::Tensor;

use super::{Combine, Pieces, Quantity, Scale, Site, Source, Whole};
use crate::backpack::losses::Reduction;
use crate::error::Result;

pub(super) struct Variance;

impl Quantity for Variance {
    fn name(&self) -> &'static str {
        "variance"
    }

    fn about(&self) -> &'static str {
        "population variance of the individual gradients over the batch"
    }

    fn shape(&self) -> &'static str {
        "[*p]"
    }

    fn source(&self) -> Source {
        Source::Gradient
    }

    fn combine(&self) -> Combine {
        Combine::Sum
    }

    fn extract(&self, _site: &Site) -> Result<Pieces> {
        Ok(Vec::new())
    }

    fn requires(&self) -> &'static [&'static str] {
        &["sum_grad_squared", "grad"]
    }

    fn finish(&self, _taken: Tensor, required: &[&Tensor], whole: &Whole) -> Tensor {
        // With u_n the individual gradients, which sum to the gradient: mean of u_n^2 minus the squared mean of u_n.
        let samples = whole.samples as f64;
        let variance = required[0] / samples - (required[1] / samples).square();
        match (whole.scale, whole.reduction) {
            (Scale::Paper, Reduction::Mean) => variance * (samples * samples),
            _ => variance,
        }
    }
}
