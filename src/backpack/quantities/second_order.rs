//! Diagonals and square roots of curvature: `diag_ggn`, `diag_hessian`, their readings by sample, and `sqrt_ggn`.

use super::{Combine, Pieces, Quantity, Site, Source};
use crate::backpack::layers::{Curvature, Layer};
use crate::error::Result;

// `diag_ggn`, `diag_ggn_mc`: the diagonal of the generalised Gauss-Newton matrix, exact and by sampled labels
// (Table 1; Schraudolph, 2002), and `batch_diag_ggn`, each sample's share of it.

pub(super) struct DiagGgn {
    name: &'static str,
    about: &'static str,
    source: Source,
}

impl DiagGgn {
    pub(super) const EXACT: DiagGgn = DiagGgn {
        name: "diag_ggn",
        about: "diagonal of the generalised Gauss-Newton matrix",
        source: Source::SqrtHessian,
    };
    pub(super) const SAMPLED: DiagGgn = DiagGgn {
        name: "diag_ggn_mc",
        about: "the same diagonal, estimated with labels sampled from the model",
        source: Source::SampledSqrtHessian,
    };
}

impl Quantity for DiagGgn {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn shape(&self) -> &'static str {
        "[*p]"
    }

    fn source(&self) -> Source {
        self.source
    }

    fn combine(&self) -> Combine {
        Combine::Sum
    }

    fn extract(&self, site: &Site) -> Result<Pieces> {
        Ok(vec![("", site.layer.squares_sum(site.saved, site.parameter, site.v, None)?)])
    }
}

pub(super) struct BatchDiagGgn;

impl Quantity for BatchDiagGgn {
    fn name(&self) -> &'static str {
        "batch_diag_ggn"
    }

    fn about(&self) -> &'static str {
        "each sample's share of the diagonal of the generalised Gauss-Newton matrix"
    }

    fn shape(&self) -> &'static str {
        "[N, *p]"
    }

    fn source(&self) -> Source {
        Source::SqrtHessian
    }

    fn combine(&self) -> Combine {
        Combine::Samples
    }

    fn extract(&self, site: &Site) -> Result<Pieces> {
        Ok(vec![("", site.layer.squares_per_sample(site.saved, site.parameter, site.v, None)?)])
    }
}

// `diag_hessian`: the diagonal of the Hessian (Table 1; section A.3 of the paper), and `batch_diag_hessian`, each
// sample's share of it.
//
// The Hessian is the generalised Gauss-Newton matrix plus a diagonal residual f''(x) g at every activation that is
// not piecewise linear. The residual's square root, with the sign of each entry kept aside, travels back with the
// others; a parameter's diagonal is the signed sum of squares. Where a parameter is used more than once its products of
// all uses are added before they are squared, and a use behind another has one more term: the layer's second derivative
// with respect to parameter and input together, which the pass takes entry by entry of the input.

fn refuses_hessian(name: &str, layer: &dyn Layer) -> Option<String> {
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
const TIED_HESSIAN: &str = "several layers use it, and one of them does not say how parameter and input meet in its second \
                    derivative; products with the Hessian do";

fn leaves_out_tied_hessian(later: &[&dyn Layer]) -> Option<&'static str> {
    later.iter().any(|layer| layer.mixed().is_none()).then_some(TIED_HESSIAN)
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
        leaves_out_tied_hessian(later)
    }

    fn refuses(&self, layer: &dyn Layer, _input: &[i64]) -> Option<String> {
        refuses_hessian(self.name(), layer)
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
        leaves_out_tied_hessian(later)
    }

    fn refuses(&self, layer: &dyn Layer, _input: &[i64]) -> Option<String> {
        refuses_hessian(self.name(), layer)
    }
}

// `sqrt_ggn`, `sqrt_ggn_mc`: square roots of the generalised Gauss-Newton matrix: with V the result flattened over
// its first two axes, V^T V is the parameter's block, exactly or in expectation.

pub(super) struct SqrtGgn {
    name: &'static str,
    about: &'static str,
    shape: &'static str,
    source: Source,
}

impl SqrtGgn {
    pub(super) const EXACT: SqrtGgn = SqrtGgn {
        name: "sqrt_ggn",
        about: "exact square root of the generalised Gauss-Newton matrix",
        shape: "[C, N, *p]",
        source: Source::SqrtHessianByOutput,
    };
    pub(super) const SAMPLED: SqrtGgn = SqrtGgn {
        name: "sqrt_ggn_mc",
        about: "square root of the matrix's estimate with sampled labels",
        shape: "[M, N, *p]",
        source: Source::SampledSqrtHessian,
    };
}

impl Quantity for SqrtGgn {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn shape(&self) -> &'static str {
        self.shape
    }

    fn source(&self) -> Source {
        self.source
    }

    fn combine(&self) -> Combine {
        Combine::VectorsAndSamples
    }

    fn extract(&self, site: &Site) -> Result<Pieces> {
        Ok(vec![("", site.layer.parameter_vjp(site.saved, site.parameter, site.v)?)])
    }
}
