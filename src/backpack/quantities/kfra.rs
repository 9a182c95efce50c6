//! `kfra`: Kronecker factors from the batch-averaged recursion (Botev et al., 2017), which goes through chains alone.

use super::kronecker::{elements, no_factors, one_output_factor};
use super::{Combine, Extent, Pieces, Quantity, Site, Source};
use crate::backpack::layers::{Layer, Reading};
use crate::backpack::network::{Network, Shapes};
use crate::error::Result;

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
