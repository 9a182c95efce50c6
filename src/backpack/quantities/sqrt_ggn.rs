//! `sqrt_ggn`, `sqrt_ggn_mc`: square roots of the generalised Gauss-Newton matrix: with V the result flattened over
//! its first two axes, V^T V is the parameter's block, exactly or in expectation.

use super::{Combine, Pieces, Quantity, Site, Source};
use crate::error::Result;

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
