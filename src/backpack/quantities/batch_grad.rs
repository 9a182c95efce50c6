//! `batch_grad`: individual gradients (Table 1, row 1).

use super::{Combine, Pieces, Quantity, Site, Source};
use crate::error::Result;

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
