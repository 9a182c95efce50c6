//! What an optimizer can tell of its curvature, for diagnostics; telling it changes nothing.

use tch::{Kind, Tensor};

use crate::error::Result;

/// One number about one layer, or about all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// What it is, as docs/diagnostics.md lists it.
    pub name: &'static str,
    /// The layer's path, as in the names of parameters; `all` for the whole network.
    pub layer: String,
    /// The number.
    pub value: f64,
}

impl Measure {
    /// A measure of a layer.
    pub fn new(name: &'static str, layer: impl Into<String>, value: f64) -> Self {
        Measure { name, layer: layer.into(), value }
    }
}

/// Curvature over all layers, from that of each.
pub(super) struct Overall {
    largest: f64,
    sum: f64,
    entries: f64,
}

impl Overall {
    /// Of no layer.
    pub fn new() -> Self {
        Overall { largest: f64::NEG_INFINITY, sum: 0.0, entries: 0.0 }
    }

    /// Adds a layer's largest diagonal entry, and the sum of so many entries.
    pub fn add(&mut self, largest: f64, sum: f64, entries: f64) {
        (self.largest, self.sum, self.entries) = (self.largest.max(largest), self.sum + sum, self.entries + entries);
    }

    /// Largest and mean curvature; nothing where no layer has any.
    pub fn measures(&self) -> Vec<Measure> {
        if self.entries == 0.0 {
            return Vec::new();
        }
        vec![
            Measure::new("largest_curvature", "all", self.largest),
            Measure::new("mean_curvature", "all", self.sum / self.entries),
        ]
    }
}

/// (largest eigenvalue + shift) / (smallest + shift) of `factor`, `[d, d]` or `[groups, d, d]` (the worst group's);
/// infinite where the damped factor is not positive definite, NaN where it holds no numbers.
pub(super) fn condition_number(factor: &Tensor, shift: f64) -> Result<f64> {
    let factor = factor.to_kind(Kind::Double).to_device(tch::Device::Cpu);
    if f64::try_from(factor.isfinite().all().to_kind(Kind::Double))? == 0.0 {
        return Ok(f64::NAN);
    }
    let values = factor.f_linalg_eigvalsh("L")? + shift;
    let last = values.size()[values.dim() - 1] - 1;
    let (least, most) = (values.select(-1, 0), values.select(-1, last));
    if f64::try_from(least.min())? <= 0.0 {
        return Ok(f64::INFINITY);
    }
    Ok(f64::try_from((most / least).max())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_number_is_that_of_the_damped_factor() {
        let factor = Tensor::from_slice(&[4.0f64, 0.0, 0.0, 1.0]).view([2, 2]);
        assert!((condition_number(&factor, 1.0).unwrap() - 2.5).abs() < 1e-12);
        let singular = Tensor::from_slice(&[1.0f64, 1.0, 1.0, 1.0]).view([1, 2, 2]);
        assert!((condition_number(&singular, 0.5).unwrap() - 5.0).abs() < 1e-9);
        assert_eq!(condition_number(&(-&factor), 0.0).unwrap(), f64::INFINITY);
        assert_eq!(condition_number(&(&factor * 0.0), 0.0).unwrap(), f64::INFINITY);
        assert!(condition_number(&(factor * f64::NAN), 1.0).unwrap().is_nan());
    }
}
