//! `dropout`: zeroes entries with probability p and scales the others by 1 / (1 - p), in training only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::layer_type::{LayerType, Site, Specimen, layer};
use super::{Channels, Curvature, Layer, Mode, Recursion, Saved, sizes};
use crate::backpack::network::Operation;
use crate::error::{Error, Result};
use crate::random::{Purpose, stream, uniform};

/// The options of dropout.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DropoutOptions {
    /// probability that a value is set to zero
    #[serde(default = "half", deserialize_with = "sizes::probability")]
    pub p: f64,
}

fn half() -> f64 {
    0.5
}

impl LayerType for DropoutOptions {
    const NAME: &'static str = "dropout";
    const SUMMARY: &'static str = "values set to zero at random in training";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("p = 0.4", &[6]).training()];

    fn build(&self, site: &Site) -> Result<Operation> {
        layer(Dropout::new(self.p, site.place)?)
    }
}

/// Dropout with masks from the counter-based stream of its place in the network.
#[derive(Debug)]
pub struct Dropout {
    probability: f64,
    place: u32,
}

impl Dropout {
    /// Dropout with probability `p` in [0, 1), at this place among the network's layers.
    ///
    /// # Errors
    /// [`Error::Usage`] for a probability outside [0, 1).
    pub fn new(p: f64, place: u32) -> Result<Self> {
        if !(0.0..1.0).contains(&p) {
            return Err(Error::Usage(format!(
                "dropout: p = {p}, expected a probability from 0 up to but not including 1"
            )));
        }
        Ok(Dropout { probability: p, place })
    }

    fn masked(saved: &Saved, v: &Tensor) -> Tensor {
        match saved.extra.first() {
            Some(mask) => v * mask,
            None => v.shallow_clone(),
        }
    }
}

impl Layer for Dropout {
    fn kind(&self) -> &'static str {
        "dropout"
    }

    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        Ok(input.to_vec())
    }

    /// In training the extra tensor holds the mask, already scaled.
    fn forward(&self, input: &Tensor, mode: Mode) -> Result<Saved> {
        match mode {
            Mode::Training { seed, step } if self.probability > 0.0 => {
                let mut generator = stream(seed, Purpose::Dropout(self.place), step);
                let draws = uniform(&mut generator, &input.size(), input.device());
                let mask = draws.ge(self.probability).to_kind(input.kind()) / (1.0 - self.probability);
                let output = input * &mask;
                Ok(Saved::new(input, output).with(vec![mask]))
            }
            _ => Ok(Saved::new(input, input.shallow_clone())),
        }
    }

    fn library(&self, input: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(input.f_dropout(self.probability, matches!(mode, Mode::Training { .. }))?)
    }

    fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(Self::masked(saved, v))
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(Self::masked(saved, v))
    }

    fn curvature(&self) -> Curvature<'_> {
        Curvature::Zero
    }

    fn recursion(&self) -> Option<&dyn Recursion> {
        Some(self)
    }

    fn channels(&self) -> Channels {
        Channels::Apart { by_sample: true }
    }
}

impl Recursion for Dropout {
    fn input(&self, saved: &Saved, g: &Tensor) -> Result<Tensor> {
        Ok(match saved.extra.first() {
            Some(mask) => super::averaged_outer(mask) * g,
            None => g.shallow_clone(),
        })
    }
}
