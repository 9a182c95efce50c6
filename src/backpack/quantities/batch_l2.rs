//! `batch_l2`: the squared L2 norm of every individual gradient (Table 1, row 3), without forming the gradients.

use super::{Combine, Extent, Pieces, Quantity, Site, Source};
use crate::error::Result;

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
