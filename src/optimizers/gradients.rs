//! What rules that follow the gradient share: the gradients of a pass with l2 times the weights, clipped.

use tch::Tensor;

use super::clip::Clip;
use super::{Hyperparameters, is_weight, wanted};
use crate::backpack::native::add_scaled;
use crate::backpack::{Network, Quantities, Request};
use crate::error::Result;

/// Asks for gradients and makes them ready for a step, so that an optimizer owes no more for l2 and clipping.
#[derive(Debug)]
#[non_exhaustive]
pub struct Gradients {
    /// What it asks a pass for, to which more may be added.
    pub request: Request,
    l2: f64,
    clip: Clip,
}

impl Gradients {
    /// With the l2 and the clipping of these hyperparameters.
    ///
    /// # Errors
    /// None at present: there is a gradient.
    pub fn new(hyperparameters: &Hyperparameters) -> Result<Self> {
        let clip = Clip::new(hyperparameters);
        Ok(Gradients { request: Request::new(["grad"])?, l2: hyperparameters.l2, clip })
    }

    /// Every parameter with its gradient, in the network's order; l2 times the weight is added to the weights' (and to no
    /// bias's). A gradient is made ready in place.
    ///
    /// # Errors
    /// [`crate::Error::NotTaken`] where the pass was not asked for gradients; what libtorch says.
    pub fn take<'a>(&self, network: &'a Network, quantities: &mut Quantities) -> Result<Vec<(&'a Tensor, Tensor)>> {
        let mut pairs = Vec::new();
        for node in network.nodes() {
            for (number, parameter) in node.numbered() {
                let gradient = wanted(quantities, "grad", number, "")?.shallow_clone();
                if self.l2 != 0.0 && is_weight(parameter.name) {
                    add_scaled(&gradient, &parameter.value, self.l2)?;
                }
                pairs.push((&parameter.value, gradient));
            }
        }
        self.clip.apply(pairs.iter().map(|(_, gradient)| gradient))?;
        Ok(pairs)
    }
}
