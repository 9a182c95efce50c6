//! Counter-based random streams keyed by (seed, purpose, step).
//!
//! Every draw of the program comes from such a stream, so that a number depends only on its key: not on the order in
//! which things are computed, on how many workers compute them, or on where a run was interrupted.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

/// What a stream is drawn for; two purposes never share a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Which samples of the training file are for validation. Step 0.
    Split,
    /// The order of the training samples. The step is the epoch.
    Order,
    /// Which samples of the training file the train metrics are measured on. The step is the evaluation.
    TrainEval,
    /// The order of the validation samples. The step is the evaluation.
    ValidOrder,
    /// Crops, flips and colour jitters of training batches. The step is the training step.
    Augmentation,
    /// Crops, flips and colour jitters of train-eval batches. The step is evaluation * batches + batch.
    EvalAugmentation,
    /// The initial parameters. The step is the parameter's place in the network.
    Init,
    /// Dropout masks of the layer with this place in the network. The step is the training step.
    Dropout(u32),
    /// Labels sampled from the model's predictive distribution. The step is the training step.
    SampledLabels,
    /// The synthetic data set. The step tells its parts apart.
    Synthetic,
    /// Batches drawn for `check` and `bench`.
    Batch,
    /// Points of a random search.
    Search,
    /// Settings of a finished grid that a further tuning draws. The step tells optimizers and problems apart.
    Tuning,
    /// Networks of `check --random-nets`, their data and their running statistics.
    RandomNets,
    /// Vectors that probe a matrix for its spectrum. The step is the vector's number.
    Spectrum,
}

/// The stream of `purpose` at `step`, for a run with this `seed`.
pub fn stream(seed: u64, purpose: Purpose, step: u64) -> ChaCha8Rng {
    let (name, place) = match purpose {
        Purpose::Split => ("split", 0),
        Purpose::Order => ("order", 0),
        Purpose::TrainEval => ("train-eval", 0),
        Purpose::ValidOrder => ("valid-order", 0),
        Purpose::Augmentation => ("augmentation", 0),
        Purpose::EvalAugmentation => ("eval-augmentation", 0),
        Purpose::Init => ("init", 0),
        Purpose::Dropout(layer) => ("dropout", layer),
        Purpose::SampledLabels => ("sampled-labels", 0),
        Purpose::Synthetic => ("synthetic", 0),
        Purpose::Batch => ("batch", 0),
        Purpose::Search => ("search", 0),
        Purpose::Tuning => ("tuning", 0),
        Purpose::RandomNets => ("random-nets", 0),
        Purpose::Spectrum => ("spectrum", 0),
    };
    let mut key = Sha256::new();
    key.update(seed.to_le_bytes());
    key.update(place.to_le_bytes());
    key.update(name.as_bytes());
    let mut generator = ChaCha8Rng::from_seed(key.finalize().into());
    generator.set_stream(step);
    generator
}

/// A random permutation of `0..n`.
pub fn permutation(generator: &mut ChaCha8Rng, n: usize) -> Vec<i64> {
    let mut order: Vec<i64> = (0..n as i64).collect();
    order.shuffle(generator);
    order
}

/// Uniform numbers in [0, 1) with 24 bits, shape `shape`, f32 on `device`.
pub fn uniform(generator: &mut ChaCha8Rng, shape: &[i64], device: Device) -> Tensor {
    let count = shape.iter().product::<i64>() as usize;
    let mut bytes = vec![0u8; count * 4];
    generator.fill_bytes(&mut bytes);
    let values: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|chunk| {
            let bits = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
            (bits >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
        })
        .collect();
    Tensor::from_slice(&values).view(shape).to_device(device)
}

/// Standard normal numbers, shape `shape`, f64 on the CPU.
pub fn normal(generator: &mut ChaCha8Rng, shape: &[i64]) -> Tensor {
    use rand_distr::{Distribution, StandardNormal};
    let count = shape.iter().product::<i64>() as usize;
    let values: Vec<f64> = (0..count).map(|_| StandardNormal.sample(generator)).collect();
    Tensor::from_slice(&values).view(shape).to_kind(Kind::Double)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_each_part_of_its_key() {
        let draw = |seed, purpose, step| stream(seed, purpose, step).next_u64();
        let base = draw(42, Purpose::Order, 1);
        assert_eq!(base, draw(42, Purpose::Order, 1));
        assert_ne!(base, draw(43, Purpose::Order, 1));
        assert_ne!(base, draw(42, Purpose::Split, 1));
        assert_ne!(base, draw(42, Purpose::Order, 2));
        assert_ne!(draw(42, Purpose::Dropout(1), 1), draw(42, Purpose::Dropout(2), 1));
    }

    #[test]
    fn a_permutation_holds_every_index_once() {
        let mut order = permutation(&mut stream(1, Purpose::Order, 0), 1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn uniform_numbers_fill_the_interval() {
        let values = uniform(&mut stream(1, Purpose::Dropout(0), 0), &[100, 100], Device::Cpu);
        assert!(f64::try_from(values.min()).unwrap() >= 0.0);
        assert!(f64::try_from(values.max()).unwrap() < 1.0);
        let mean = f64::try_from(values.mean(Kind::Double)).unwrap();
        assert!((mean - 0.5).abs() < 0.02, "mean {mean}");
    }
}
