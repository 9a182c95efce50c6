//! `diag_ggn`, `diag_ggn_mc`: the diagonal of the generalised Gauss-Newton matrix, exact and by sampled labels
//! (Table 1; Schraudolph, 2002), and `batch_diag_ggn`, each sample's share of it.

use super::{Combine, Pieces, Quantity, Site, Source};
use crate::error::Result;

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
