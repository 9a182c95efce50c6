//! `diag_hessian`: the diagonal of the Hessian (Table 1; section A.3 of the paper), and `batch_diag_hessian`, each
//! sample's share of it.
//!
//! The Hessian is the generalised Gauss-Newton matrix plus a diagonal residual f''(x) g at every activation that is
//! not piecewise linear. The residual's square root, with the sign of each entry kept aside, travels back with the
//! others; a parameter's diagonal is the signed sum of squares. Where a parameter is used more than once its products of
//! all uses are added before they are squared, and a use behind another has one more term: the layer's second derivative
//! with respect to parameter and input together, which the pass takes entry by entry of the input.

use super::{Combine, Pieces, Quantity, Site, Source};
use crate::backpack::layers::{Curvature, Layer};
use crate::error::Result;

fn refuses(name: &str, layer: &dyn Layer) -> Option<String> {
    let kind = layer.kind();
    match layer.curvature() {
        Curvature::Zero | Curvature::Elementwise(_) | Curvature::Mixed(_) => None,
        Curvature::Unrooted(reason) => Some(format!(
            "{name} is not possible through {kind}: {reason}; products with the Hessian, diag_ggn and the first-order \
             quantities are"
        )),
        Curvature::General => Some(format!(
            "the Hessian's diagonal can only go through layers that are linear or act on each entry by itself, which \
             {kind} does not say of itself; the gradient, the first-order quantities and diag_ggn are possible"
        )),
    }
}

/// Why the diagonal of a parameter that several layers use is left out.
const TIED: &str = "several layers use it, and one of them does not say how parameter and input meet in its second \
                    derivative; products with the Hessian do";

fn leaves_out_tied(later: &[&dyn Layer]) -> Option<&'static str> {
    later.iter().any(|layer| layer.mixed().is_none()).then_some(TIED)
}

pub(super) struct DiagHessian;

impl Quantity for DiagHessian {
    fn name(&self) -> &'static str {
        "diag_hessian"
    }

    fn about(&self) -> &'static str {
        "diagonal of the Hessian"
    }

    fn shape(&self) -> &'static str {
        "[*p]"
    }

    fn source(&self) -> Source {
        Source::SignedSqrtHessian
    }

    fn combine(&self) -> Combine {
        Combine::Sum
    }

    fn extract(&self, site: &Site) -> Result<Pieces> {
        Ok(vec![("", site.layer.squares_sum(site.saved, site.parameter, site.v, site.signs)?)])
    }

    fn leaves_out_tied(&self, later: &[&dyn Layer]) -> Option<&'static str> {
        leaves_out_tied(later)
    }

    fn refuses(&self, layer: &dyn Layer, _input: &[i64]) -> Option<String> {
        refuses(self.name(), layer)
    }
}

pub(super) struct BatchDiagHessian;

impl Quantity for BatchDiagHessian {
    fn name(&self) -> &'static str {
        "batch_diag_hessian"
    }

    fn about(&self) -> &'static str {
        "each sample's share of the diagonal of the Hessian"
    }

    fn shape(&self) -> &'static str {
        "[N, *p]"
    }

    fn source(&self) -> Source {
        Source::SignedSqrtHessian
    }

    fn combine(&self) -> Combine {
        Combine::Samples
    }

    fn extract(&self, site: &Site) -> Result<Pieces> {
        Ok(vec![("", site.layer.squares_per_sample(site.saved, site.parameter, site.v, site.signs)?)])
    }

    fn leaves_out_tied(&self, later: &[&dyn Layer]) -> Option<&'static str> {
        leaves_out_tied(later)
    }

    fn refuses(&self, layer: &dyn Layer, _input: &[i64]) -> Option<String> {
        refuses(self.name(), layer)
    }
}
