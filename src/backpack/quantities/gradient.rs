//! `grad`: the gradient of the reduced loss. The pass takes it on the layers' training path
//! ([`crate::backpack::layers::Layer::gradient`]); this entry names it and serves sites outside a pass.

use super::{Combine, Pieces, Quantity, Site, Source};
use crate::error::Result;

/// The name under which the pass looks for it.
pub(crate) const NAME: &str = "grad";

pub(super) struct Gradient;

impl Quantity for Gradient {
    fn name(&self) -> &'static str {
        NAME
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
