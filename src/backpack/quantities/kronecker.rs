//! Kronecker factors of each weight's block of the generalised Gauss-Newton matrix: `kfac`, `kflr` and their readings,
//! `kfra`, and `ekfac`.
//!
//! The weight's block is approximated by B kron A (weight flattened row-major to [out, in * kernel]); the bias has the
//! single factor B. A is the second moment of the layer's (unfolded) input; B comes from sampled labels (KFAC; Martens
//! and Grosse, 2015) or from the exact square root (KFLR; Botev et al., 2017). What becomes of positions that share the
//! weight is a [`Reading`].

use super::{Combine, Extent, Pieces, Quantity, Site, Source};
use crate::backpack::layers::{BatchFactors, KroneckerSupport, Layer, Reading};
use crate::backpack::network::{Network, Shapes};
use crate::error::{Error, Result};

/// Why a parameter that several layers use has no Kronecker factors.
pub(crate) const TIED: &str = "several layers use it, and what it is of has no Kronecker factors";

/// Why a layer with parameters has no Kronecker factors.
fn no_factors(layer: &dyn Layer) -> Option<&'static str> {
    match layer.kronecker() {
        KroneckerSupport::Refuses(reason) => Some(reason),
        KroneckerSupport::Passes | KroneckerSupport::Factors => None,
    }
}

/// Why a layer with parameters has nothing that is made of rows and vectors by position.
fn no_positions(layer: &dyn Layer) -> Option<String> {
    match no_factors(layer) {
        Some(reason) => Some(reason.to_owned()),
        None if layer.factored().is_none_or(|site| site.ordered_rows().is_some()) => None,
        None => Some(format!("{} has the factors of kfac and kflr alone", layer.kind())),
    }
}

/// A layer has one output factor, the weight's and the bias's.
fn one_output_factor(parameter: usize) -> Option<usize> {
    (parameter > 0).then_some(0)
}

/// The numbers of groups, of outputs of each, and of features of each, of a weight with Kronecker factors.
fn sides(extent: &Extent) -> [u64; 3] {
    let Some(site) = extent.layer.factored() else { return [0; 3] };
    let shape = site.matrix(&extent.layer.parameters()[0].value).size();
    match *shape.as_slice() {
        [groups, outputs, features] => [groups, outputs, features].map(|size| size as u64),
        [outputs, features] => [1, outputs, features].map(|size| size as u64),
        _ => [0; 3],
    }
}

/// The entries of A and B of a weight, or of B of a bias.
fn elements(extent: &Extent) -> u64 {
    if extent.layer.kronecker() != KroneckerSupport::Factors {
        return 0;
    }
    let [groups, outputs, features] = sides(extent);
    let input_factor = if extent.parameter.name == "weight" { features * features } else { 0 };
    groups * (outputs * outputs + input_factor)
}

pub(super) struct Kronecker {
    name: &'static str,
    about: &'static str,
    source: Source,
    reading: Reading,
}

pub(super) const KFAC: Kronecker = Kronecker {
    name: "kfac",
    about: "Kronecker factors with labels sampled from the model",
    source: Source::SampledSqrtHessian,
    reading: Reading::Backpack,
};

pub(super) const KFLR: Kronecker = Kronecker {
    name: "kflr",
    about: "Kronecker factors from the exact square root",
    source: Source::SqrtHessian,
    reading: Reading::Backpack,
};

pub(super) const KFAC_EXPAND: Kronecker = Kronecker {
    name: "kfac_expand",
    about: "kfac with each position as a sample of its own",
    reading: Reading::Expand,
    ..KFAC
};

pub(super) const KFAC_REDUCE: Kronecker = Kronecker {
    name: "kfac_reduce",
    about: "kfac with inputs averaged over positions",
    reading: Reading::Reduce,
    ..KFAC
};

pub(super) const KFLR_EXPAND: Kronecker = Kronecker {
    name: "kflr_expand",
    about: "kflr with each position as a sample of its own",
    reading: Reading::Expand,
    ..KFLR
};

pub(super) const KFLR_REDUCE: Kronecker = Kronecker {
    name: "kflr_reduce",
    about: "kflr with inputs averaged over positions",
    reading: Reading::Reduce,
    ..KFLR
};

impl Quantity for Kronecker {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn shape(&self) -> &'static str {
        "weight: A [d, d], B [out, out]; bias: B"
    }

    fn source(&self) -> Source {
        self.source
    }

    fn combine(&self) -> Combine {
        Combine::Sum
    }

    fn extract(&self, site: &Site) -> Result<Pieces> {
        Ok(vec![("B", BatchFactors::of(site.layer, site.saved)?.output(site.v, self.reading)?)])
    }

    fn leaves_out_tied(&self, _later: &[&dyn Layer]) -> Option<&'static str> {
        Some(TIED)
    }

    fn leaves_out(&self, layer: &dyn Layer) -> Option<String> {
        match self.reading {
            Reading::Backpack => no_factors(layer).map(str::to_owned),
            Reading::Expand | Reading::Reduce => no_positions(layer),
        }
    }

    fn input_factor(&self) -> Option<Reading> {
        Some(self.reading)
    }

    fn shared_with(&self, parameter: usize) -> Option<usize> {
        one_output_factor(parameter)
    }

    fn takes_position_sums(&self) -> bool {
        self.reading != Reading::Expand
    }

    fn elements(&self, extent: &Extent) -> u64 {
        elements(extent)
    }
}

// `kfra`: Kronecker factors from the batch-averaged recursion (Botev et al., 2017), which goes through chains alone.

pub(super) struct Kfra;

impl Quantity for Kfra {
    fn name(&self) -> &'static str {
        "kfra"
    }

    fn about(&self) -> &'static str {
        "Kronecker factors from the batch-averaged recursion"
    }

    fn shape(&self) -> &'static str {
        "weight: A [d, d], B [out, out]; bias: B"
    }

    fn source(&self) -> Source {
        Source::AveragedMatrix
    }

    fn combine(&self) -> Combine {
        Combine::Sum
    }

    fn extract(&self, site: &Site) -> Result<Pieces> {
        match site.layer.factored() {
            Some(factored) => Ok(vec![("B", factored.averaged_output_factor(site.v)?)]),
            None => Ok(Pieces::new()),
        }
    }

    fn refuses(&self, layer: &dyn Layer, input: &[i64]) -> Option<String> {
        let no_factors = no_factors(layer).map(|reason| {
            let kind = layer.kind();
            format!("kfra is not possible for {kind}: {reason}; diag_ggn and the first-order quantities are")
        });
        no_factors.or_else(|| layer.refuses_kfra(input))
    }

    fn refuses_network(&self, network: &Network, shapes: &Shapes) -> Option<String> {
        if shapes.output().len() != 1 {
            let output = shapes.output();
            return Some(format!("kfra is for outputs of one axis, not of {output:?}; kfac and kflr may be possible"));
        }
        let parameters = network.parameters();
        if let Some(tied) = (0..parameters.len()).find(|number| network.uses(*number) > 1) {
            let name = &parameters[tied].name;
            return Some(format!(
                "kfra's recursion is for parameters of one layer each, and several use `{name}`; kfac and kflr may be possible"
            ));
        }
        let reason = network.refuses_chain()?;
        Some(format!("kfra's recursion is for layers one after the other, and {reason}; kfac and kflr may be possible"))
    }

    fn input_factor(&self) -> Option<Reading> {
        Some(Reading::Backpack)
    }

    fn shared_with(&self, parameter: usize) -> Option<usize> {
        one_output_factor(parameter)
    }

    fn elements(&self, extent: &Extent) -> u64 {
        elements(extent)
    }
}

// `ekfac`: the eigenvectors of the factors of `kfac_expand`, and in that basis the second moments of the gradients of
// samples and vectors, in place of the products of the factors' eigenvalues (George et al., 2018).

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
        Some(TIED)
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
