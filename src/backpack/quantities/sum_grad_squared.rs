//! `sum_grad_squared`: the sum over samples of the squared individual gradients (Table 1, "2nd moment").

use tch::Tensor;

use super::{Combine, Pieces, Quantity, Scale, Site, Source, Whole};
use crate::backpack::losses::Reduction;
use crate::error::Result;

pub(super) struct SumGradSquared;

impl Quantity for SumGradSquared {
    fn name(&self) -> &'static str {
        "sum_grad_squared"
    }

    fn about(&self) -> &'static str {
        "second moment: sum over samples of the squared individual gradients"
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

    fn extract(&self, site: &Site) -> Result<Pieces> {
        Ok(vec![("", site.layer.squares_sum(site.saved, site.parameter, site.v, None)?)])
    }

    fn finish(&self, taken: Tensor, _required: &[&Tensor], whole: &Whole) -> Tensor {
        // Table 1 has (1/N) sum_n g_n^2; the individual gradients of a mean loss are g_n / N.
        match (whole.scale, whole.reduction) {
            (Scale::Paper, Reduction::Mean) => taken * whole.samples as f64,
            _ => taken,
        }
    }
}
