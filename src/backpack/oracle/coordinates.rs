//! Which entries of a tensor the oracle looks at.

use rand::seq::index::sample;
use tch::{Device, Tensor};

use crate::random::{Purpose, stream};

/// Which entries of a tensor are compared where every entry costs a derivative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinates {
    /// All of them.
    All,
    /// At most this many of each tensor, drawn without repetition.
    Drawn {
        /// How many.
        count: usize,
        /// The seed of the draw.
        seed: u64,
    },
}

impl Coordinates {
    /// The entries of a tensor of `size` entries that belongs to the parameter of this number, ascending; None is all.
    pub(super) fn pick(self, parameter: usize, size: i64, device: Device) -> Option<Tensor> {
        match self {
            Coordinates::Drawn { count, seed } if (count as i64) < size => {
                let mut generator = stream(seed, Purpose::Batch, 1000 + parameter as u64);
                let mut picked: Vec<i64> =
                    sample(&mut generator, size as usize, count).into_iter().map(|entry| entry as i64).collect();
                picked.sort_unstable();
                Some(Tensor::from_slice(&picked).to_device(device))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_entry_is_drawn_twice_and_small_tensors_are_looked_at_whole() {
        let drawn = Coordinates::Drawn { count: 64, seed: 1 };
        let mut picked = Vec::<i64>::try_from(drawn.pick(0, 100, Device::Cpu).unwrap()).unwrap();
        picked.dedup();
        assert_eq!(picked.len(), 64);
        assert!(picked.iter().all(|entry| (0..100).contains(entry)));
        assert!(drawn.pick(0, 64, Device::Cpu).is_none());
        assert_ne!(picked, Vec::<i64>::try_from(drawn.pick(1, 100, Device::Cpu).unwrap()).unwrap());
    }
}
