//! `ekfac`: the eigenvectors of the factors of `kfac_expand`, and in that basis the second moments of the gradients of
//! samples and vectors, in place of the products of the factors' eigenvalues (George et al., 2018).

use super::kronecker::{elements, no_positions, sides};
use super::{Combine, Extent, Pieces, Quantity, Site, Source};
use crate::backpack::layers::{BatchFactors, Layer};
use crate::error::{Error, Result};

pub(super) struct Ekfac;

impl Quantity for Ekfac {
    fn name(&self) -> &'static str {
        "ekfac"
    }

    fn about(&self) -> &'static str {
        "eigenvectors of kfac_expand's factors, and the sampled curvature along them"
    }

    fn shape(&self) -> &'static str {
        "weight: A [d, d], B [out, out], eigenvalues [out, d]; bias: B, eigenvalues [out]"
    }

    fn source(&self) -> Source {
        Source::SampledSqrtHessianAgain
    }

    fn combine(&self) -> Combine {
        Combine::Sum
    }

    fn extract(&self, site: &Site) -> Result<Pieces> {
        let Some(basis) = site.basis else {
            return Err(Error::Unsupported(format!("ekfac: {} has no factors to decompose", site.layer.kind())));
        };
        Ok(vec![("eigenvalues", BatchFactors::of(site.layer, site.saved)?.eigenvalues(site.parameter, site.v, basis)?)])
    }

    fn leaves_out_tied(&self, _later: &[&dyn Layer]) -> Option<&'static str> {
        Some(super::kronecker::TIED)
    }

    fn leaves_out(&self, layer: &dyn Layer) -> Option<String> {
        no_positions(layer)
    }

    fn requires(&self) -> &'static [&'static str] {
        &["kfac_expand"]
    }

    fn elements(&self, extent: &Extent) -> u64 {
        let [groups, outputs, features] = if no_positions(extent.layer).is_none() { sides(extent) } else { [0; 3] };
        let eigenvalues = groups * outputs * if extent.parameter.name == "weight" { features } else { 1 };
        // The factors and their eigenvectors.
        2 * elements(extent) + eigenvalues
    }
}
