//! How far the extended backward pass is from the oracle.

use tch::{Kind, Tensor};

use super::{Expected, largest};
use crate::backpack::results::Quantities;

/// One tensor held against the oracle's.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The quantity's name.
    pub quantity: &'static str,
    /// The parameter, counted as in [`crate::backpack::Network::parameters`].
    pub parameter: usize,
    /// The factor's name; empty where there is only one.
    pub factor: &'static str,
    /// The largest difference over the largest entry (the variance: over the largest second moment); infinite where
    /// the quantity is missing or has another shape, not a number where either has such entries.
    pub error: f64,
    /// How many entries were compared.
    pub compared: usize,
}

/// Holds every tensor that the oracle has against the pass's.
pub fn compare(quantities: &Quantities, expected: &[Expected]) -> Vec<Comparison> {
    expected
        .iter()
        .map(|one| {
            let error = match quantities.factor(one.quantity, one.parameter, one.factor) {
                Some(tensor) if tensor.dim() as i64 > one.leading => {
                    let flat = tensor.to_kind(Kind::Double).flatten(one.leading, -1);
                    let entries = match &one.entries {
                        Some(entries) => flat.index_select(-1, entries),
                        None => flat,
                    };
                    against(&entries, &one.tensor, one.yardstick)
                }
                _ => f64::INFINITY,
            };
            let Expected { quantity, parameter, factor, .. } = *one;
            Comparison { quantity, parameter, factor, error, compared: one.tensor.numel() }
        })
        .collect()
}

/// max |a - b| / max |b|; where b is zero, max |a|; infinite where the shapes differ.
pub fn error_between(a: &Tensor, b: &Tensor) -> f64 {
    against(&a.to_kind(Kind::Double), b, largest(b))
}

fn against(a: &Tensor, b: &Tensor, yardstick: f64) -> f64 {
    if a.size() != b.size() {
        return f64::INFINITY;
    }
    let difference = largest(&(a - b.to_kind(Kind::Double)));
    if yardstick > 0.0 { difference / yardstick } else { difference }
}
