//! The two factors of a linear layer's gradient, D (gradient with respect to the output) and X (input): the weight's
//! gradient is D^T X. Preconditioning the factors takes as many right-hand sides as there are samples, where the
//! gradient itself takes as many as the layer is wide.

use crate::backpack::quantities::{Combine, Pieces, Quantity, Site, Source};
use crate::error::Result;

/// The quantity's name.
pub(super) const NAME: &str = "linear_factors";

pub(super) struct LinearFactors;

impl Quantity for LinearFactors {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> &'static str {
        "the factors D and X of each linear weight's gradient D^T X"
    }

    fn shape(&self) -> &'static str {
        "D [N, out], X [N, in]"
    }

    fn source(&self) -> Source {
        Source::Gradient
    }

    fn combine(&self) -> Combine {
        Combine::Samples
    }

    fn extract(&self, site: &Site) -> Result<Pieces> {
        if site.layer.kind() != "linear" || site.parameter != 0 || site.saved.input.dim() != 2 {
            return Ok(Vec::new());
        }
        Ok(vec![("D", site.v.squeeze_dim(0)), ("X", site.saved.input.shallow_clone())])
    }
}
