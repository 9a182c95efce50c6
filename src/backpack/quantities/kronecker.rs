//! `kfac`, `kflr`, `kfra`: Kronecker factors of each weight's block of the generalised Gauss-Newton matrix.
//!
//! The weight's block is approximated by B kron A (weight flattened row-major to [out, in * kernel]); the bias has the
//! single factor B. A is the second moment of the layer's (unfolded) input, averaged over samples and summed over
//! positions, the same in all three; B comes from sampled labels (KFAC; Martens and Grosse, 2015), from the exact
//! square root (KFLR; Botev et al., 2017), or from the batch-averaged recursion (KFRA; the same).

use super::{Combine, Extent, Pieces, Quantity, Site, Source};
use crate::backpack::layers::{KroneckerSupport, Layer};
use crate::backpack::network::{Network, Shapes};
use crate::error::Result;

/// Why a layer with parameters has no Kronecker factors.
fn no_factors(layer: &dyn Layer) -> Option<&'static str> {
    match layer.kronecker() {
        KroneckerSupport::Refuses(reason) => Some(reason),
        KroneckerSupport::Passes | KroneckerSupport::Factors => None,
    }
}

/// A layer has one output factor, the weight's and the bias's.
fn one_output_factor(parameter: usize) -> Option<usize> {
    (parameter > 0).then_some(0)
}

/// The entries of A and B of a weight, or of B of a bias.
fn elements(extent: &Extent) -> u64 {
    if extent.layer.kronecker() != KroneckerSupport::Factors {
        return 0;
    }
    if extent.parameter.name != "weight" {
        return (extent.parameter.value.numel() as u64).pow(2);
    }
    let shape = extent.layer.kronecker_matrix(&extent.parameter.value).size();
    let (groups, sides) = match shape.as_slice() {
        [groups, sides @ ..] if sides.len() == 2 => (*groups as u64, sides),
        sides => (1, sides),
    };
    sides.iter().map(|&side| groups * (side as u64).pow(2)).sum()
}

pub(super) struct Kronecker {
    name: &'static str,
    about: &'static str,
    source: Source,
}

pub(super) const KFAC: Kronecker = Kronecker {
    name: "kfac",
    about: "Kronecker factors with labels sampled from the model",
    source: Source::SampledSqrtHessian,
};

pub(super) const KFLR: Kronecker =
    Kronecker { name: "kflr", about: "Kronecker factors from the exact square root", source: Source::SqrtHessian };

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
        Ok(vec![("B", site.layer.output_factor(site.saved, site.v)?)])
    }

    fn leaves_out(&self, layer: &dyn Layer) -> Option<String> {
        no_factors(layer).map(str::to_owned)
    }

    fn has_input_factor(&self) -> bool {
        true
    }

    fn shared_with(&self, parameter: usize) -> Option<usize> {
        one_output_factor(parameter)
    }

    fn takes_position_sums(&self) -> bool {
        true
    }

    fn elements(&self, extent: &Extent) -> u64 {
        elements(extent)
    }
}

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
        Ok(vec![("B", site.layer.kfra_output_factor(site.v)?)])
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
        let reason = network.refuses_chain()?;
        Some(format!("kfra's recursion is for layers one after the other, and {reason}; kfac and kflr may be possible"))
    }

    fn has_input_factor(&self) -> bool {
        true
    }

    fn shared_with(&self, parameter: usize) -> Option<usize> {
        one_output_factor(parameter)
    }

    fn elements(&self, extent: &Extent) -> u64 {
        elements(extent)
    }
}
