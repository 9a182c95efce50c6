//! Quantities of individual gradients: `grad`, `batch_grad`, `batch_l2`, `sum_grad_squared` and `variance`.

use tch::Tensor;

use super::{Combine, Extent, Pieces, Quantity, Scale, Site, Source, Whole};
use crate::backpack::losses::Reduction;
use crate::error::Result;

// `grad`: the gradient of the reduced loss. The pass takes it on the layers' training path
// ([`crate::backpack::layers::Layer::gradient`]); this entry names it and serves sites outside a pass.

pub(super) struct Gradient;

impl Quantity for Gradient {
    fn name(&self) -> &'static str {
        "grad"
    }

    fn about(&self) -> &'static str {
        "gradient of the reduced loss"
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
        Ok(vec![("", site.layer.parameter_vjp_sum(site.saved, site.parameter, site.v)?.squeeze_dim(0))])
    }
}

// `batch_grad`: individual gradients (Table 1, row 1).

pub(super) struct BatchGrad;

impl Quantity for BatchGrad {
    fn name(&self) -> &'static str {
        "batch_grad"
    }

    fn about(&self) -> &'static str {
        "individual gradients: each sample's share of the gradient"
    }

    fn shape(&self) -> &'static str {
        "[N, *p]"
    }

    fn source(&self) -> Source {
        Source::Gradient
    }

    fn combine(&self) -> Combine {
        Combine::Samples
    }

    fn extract(&self, site: &Site) -> Result<Pieces> {
        Ok(vec![("", site.layer.parameter_vjp(site.saved, site.parameter, site.v)?.squeeze_dim(0))])
    }
}

// `batch_l2`: the squared L2 norm of every individual gradient (Table 1, row 3), without forming the gradients.

pub(super) struct BatchL2;

impl Quantity for BatchL2 {
    fn name(&self) -> &'static str {
        "batch_l2"
    }

    fn about(&self) -> &'static str {
        "squared L2 norms of the individual gradients"
    }

    fn shape(&self) -> &'static str {
        "[N]"
    }

    fn source(&self) -> Source {
        Source::Gradient
    }

    fn combine(&self) -> Combine {
        Combine::Samples
    }

    fn extract(&self, site: &Site) -> Result<Pieces> {
        Ok(vec![("", site.layer.squared_norms(site.saved, site.parameter, site.v)?.squeeze_dim(0))])
    }

    fn elements(&self, extent: &Extent) -> u64 {
        extent.samples
    }
}

// `sum_grad_squared`: the sum over samples of the squared individual gradients (Table 1, "2nd moment").

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

// `variance`: the population variance of the individual gradients over the batch (Table 1, row 4).

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
