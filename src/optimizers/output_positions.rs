//! The number of output positions of a convolution, by which the KFC paper divides B (Grosse and Martens, 2016).

use tch::Tensor;

use crate::backpack::quantities::{Combine, Pieces, Quantity, Site, Source};
use crate::error::Result;

/// The quantity's name.
pub(super) const NAME: &str = "output_positions";

pub(super) struct OutputPositions;

impl Quantity for OutputPositions {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> &'static str {
        "the number of output positions of each convolution"
    }

    fn shape(&self) -> &'static str {
        "T [1]"
    }

    fn source(&self) -> Source {
        Source::Gradient
    }

    fn combine(&self) -> Combine {
        Combine::Sum
    }

    fn extract(&self, site: &Site) -> Result<Pieces> {
        if site.parameter != 0 || !matches!(site.layer.kind(), "conv2d" | "conv_transpose2d") {
            return Ok(Vec::new());
        }
        // The output is [N, channels, *positions].
        let positions: i64 = site.saved.output.size()[2..].iter().product();
        Ok(vec![("T", Tensor::from_slice(&[positions as f64]))])
    }
}
