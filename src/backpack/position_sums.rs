//! Sums over the positions of a first convolution: KFRA's output factor without its averaged matrix, and vectors summed
//! without going through the layers right behind it.
//!
//! The recursion ends at the first layer with parameters. Where that layer shares its weights over positions, its
//! output factor holds only sums over positions, for channels c and d `1_c^T G 1_d` with the vector `1_c` that is one at
//! every position of c. Each layer replaces G by the mean over samples of `J_n^T G J_n`, so that
//!
//! ```text
//! 1_c^T (mean_n J_n^T G J_n) 1_d = mean_n (J_n 1_c)^T G (J_n 1_d),
//! ```
//!
//! and one may as well push the vectors forward, through each layer at every sample, to the matrix of a later place:
//! N vectors after one layer whose Jacobian depends on the sample, N^2 after two, as each layer is averaged by itself.
//! As long as no layer mixes channels, one vector that is one everywhere stands for all channels at once. With the
//! vectors of the later place as rows of E, the factor is the sum over positions of `(E^T E) o G`, which is made a few
//! channels at a time. In front of a pooling layer G is the smaller by the fourth power of its stride.

use tch::{Kind, Tensor};

use crate::backpack::layers::{Channels, FactoredSite, Layer, Saved};
use crate::backpack::native::product::matmul;
use crate::backpack::network::{Network, Trace};
use crate::error::Result;

/// How many bytes of vectors, and of their products, are held at a time.
const WORK_BYTES: i64 = 64 << 20;

/// The most layers with a Jacobian for each sample that vectors are pushed through: they are N to this power.
const LAYERS_BY_SAMPLE: u32 = 2;

/// The layers of a network that is a chain, of which alone KFRA is asked: the layer at a place takes the output of the
/// place before.
fn chain(network: &Network) -> Option<Vec<&dyn Layer>> {
    network.nodes().iter().map(|node| node.layer()).collect()
}

/// How far down KFRA's matrices are formed: the place of the layer at whose input the last one is.
///
/// `sizes` are the numbers that arrive at each layer for one sample, and at last the output's. Of the places whose
/// matrices fit `matrix_bytes` that with the fewest multiplications is taken, else the one with the smallest matrix.
pub(crate) fn last_matrix(
    network: &Network,
    sizes: &[u64],
    samples: u64,
    element_bytes: u64,
    matrix_bytes: u64,
) -> Option<usize> {
    let layers = chain(network)?;
    let first = network.first_with_parameters()?;
    if layers[first].factored().and_then(FactoredSite::position_sums).is_none() {
        return Some(first + 1);
    }
    let end = first + 1 + network.apart_behind(first).len();
    let times = |place: usize| match layers[place].channels() {
        Channels::Apart { by_sample: true } => samples,
        _ => 1,
    };
    let square = |place: usize| sizes[place].saturating_mul(sizes[place]);
    let cost = |place: usize| {
        let vectors = (first + 1..place).map(times).fold(1u64, u64::saturating_mul);
        let formed = (place..end).map(|layer| times(layer).saturating_mul(square(layer)));
        // Of the symmetric product only one half is computed.
        formed.fold((vectors.saturating_mul(square(place))) / 2, u64::saturating_add)
    };
    let largest = |place: usize| (place..=end).map(square).max().unwrap_or(0).saturating_mul(element_bytes);
    let allowed =
        |place: &usize| (first + 1..*place).filter(|layer| times(*layer) > 1).count() as u32 <= LAYERS_BY_SAMPLE;
    (first + 1..=end).rev().filter(allowed).min_by_key(|place| match largest(*place) {
        bytes if bytes <= matrix_bytes => (0, cost(*place)),
        bytes => (bytes, cost(*place)),
    })
}

/// About how many bytes [`position_sums`] holds beside the matrix at the input of the layer at `last`.
pub(crate) fn pushed_bytes(
    network: &Network,
    sizes: &[u64],
    samples: u64,
    element_bytes: u64,
    last: Option<usize>,
) -> u64 {
    match (network.first_with_parameters(), last) {
        (Some(first), Some(last)) if first + 1 < last => {
            let widest = sizes[first + 1..=last].iter().copied().max().unwrap_or(1).saturating_mul(element_bytes);
            // The vectors behind one layer are there at once, those behind the next in chunks of samples.
            let most = widest.saturating_mul(samples).saturating_mul(samples);
            3 * most.min(widest.saturating_mul(samples).saturating_add(WORK_BYTES as u64))
        }
        _ => 0,
    }
}

/// The matrix at the input of the layer at `place`, as sums over positions at the output of the layer at `first`:
/// `[channels, channels]`.
pub(crate) fn position_sums(
    network: &Network,
    trace: &Trace,
    first: usize,
    place: usize,
    matrix: &Tensor,
) -> Result<Tensor> {
    within(network, trace, first, place, matrix, WORK_BYTES)
}

fn within(
    network: &Network,
    trace: &Trace,
    first: usize,
    place: usize,
    matrix: &Tensor,
    work_bytes: i64,
) -> Result<Tensor> {
    let output = &trace[first].output;
    let shape = [&[1], &output.size()[1..]].concat();
    let layers = chain(network).unwrap_or_default();
    let channels = layers[first].factored().and_then(FactoredSite::position_sums).unwrap_or(1);
    let options = (matrix.kind(), matrix.device());
    let mut sums = Sums {
        layers,
        trace,
        place,
        matrix,
        channels,
        work_bytes,
        sum: Tensor::zeros([channels; 2], options),
        count: 0,
    };
    sums.push(first + 1, Tensor::ones(shape.as_slice(), options))?;
    let lower = sums.sum / sums.count as f64;
    Ok(lower.tril(0) + lower.tril(-1).tr())
}

/// Sums over positions on their way.
struct Sums<'a> {
    /// The layers of the chain, place by place.
    layers: Vec<&'a dyn Layer>,
    trace: &'a Trace,
    /// Where the vectors meet the matrix.
    place: usize,
    matrix: &'a Tensor,
    channels: i64,
    work_bytes: i64,
    /// The lower triangle, of which the blocks' upper halves are filled too.
    sum: Tensor,
    /// How many vectors have been added up.
    count: i64,
}

impl Sums<'_> {
    /// Pushes vectors `[K, *in]` through the layer at a place and on.
    fn push(&mut self, place: usize, vectors: Tensor) -> Result<()> {
        if place == self.place {
            return self.add(&vectors);
        }
        let (layer, saved) = (self.layers[place], &self.trace[place]);
        let each = vectors.unsqueeze(1);
        let samples = match layer.channels() {
            Channels::Apart { by_sample: true } => saved.samples(),
            _ => 1,
        };
        let count = vectors.size()[0];
        let one = saved.output.numel() as i64 / saved.samples() * vectors.kind().elt_size_in_bytes() as i64;
        let step = (self.work_bytes / (count * one).max(1)).clamp(1, samples);
        let mut start = 0;
        while start < samples {
            let length = step.min(samples - start);
            self.push(place + 1, through(layer, &saved.narrow(start, length), &each)?)?;
            start += length;
        }
        Ok(())
    }

    /// Adds the sums over positions of `(E^T E) o G`, with these vectors as the rows of E.
    fn add(&mut self, vectors: &Tensor) -> Result<()> {
        let rows = vectors.reshape([vectors.size()[0], -1]);
        let width = rows.size()[1];
        let positions = width / self.channels;
        let element = rows.kind().elt_size_in_bytes() as i64;
        let step = (self.work_bytes / (positions * width * element).max(1)).clamp(1, self.channels);
        let mut start = 0;
        while start < self.channels {
            let length = step.min(self.channels - start);
            let (from, many, upto) = (start * positions, length * positions, (start + length) * positions);
            let mut products = matmul(&rows.narrow(1, from, many).tr(), &rows.narrow(1, 0, upto))?;
            let _ = products.g_mul_(&self.matrix.narrow(0, from, many).narrow(1, 0, upto));
            let block = products
                .view([many, start + length, positions])
                .sum_dim_intlist(2, false, None::<Kind>)
                .view([length, positions, start + length])
                .sum_dim_intlist(1, false, None::<Kind>);
            let _ = self.sum.narrow(0, start, length).narrow(1, 0, start + length).g_add_(&block);
            start += length;
        }
        self.count += vectors.size()[0];
        Ok(())
    }
}

/// Vectors `[K, 1, *in]` through a layer at each of the saved samples: `[K * samples, *out]`.
fn through(layer: &dyn Layer, saved: &Saved, vectors: &Tensor) -> Result<Tensor> {
    let mut shape = vectors.size();
    shape[1] = saved.samples();
    Ok(layer.jvp(saved, &vectors.expand(shape.as_slice(), false))?.flatten(0, 1))
}

// Vectors at a first convolution, summed over positions without going through the layers right behind it.
//
// The output factor B of a convolution needs of each vector `v` only its sums over the positions of each channel,
// `1_c^T v` with `1_c` one at every position of channel c. The vectors arrive from the layers behind,
// `v = J^T u`, and so
//
// ```text
// 1_c^T J^T u = (J 1_c)^T u:
// ```
//
// one may push the ones forward instead of pulling every vector back. As long as no layer mixes channels one image of
// ones serves all of them. Behind a pooling layer everything is the smaller by the square of its stride, and nothing is
// ever formed at the size of the convolution's output, which is the largest of most networks.

/// Fewer vectors are through the layers as fast as the ones.
const FEWEST_VECTORS: i64 = 3;

/// The layers between a first convolution and the first one behind it that mixes channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelSums {
    /// The convolution's place.
    pub first: usize,
    /// The places of the layers that keep channels apart, one behind the other; there is at least one.
    behind: Vec<usize>,
    channels: i64,
}

impl ChannelSums {
    /// The way that pays for so many vectors; None where there is none.
    pub fn of(network: &Network, vectors: i64) -> Option<Self> {
        let first = network.first_with_parameters()?;
        let channels = network.nodes()[first].layer()?.factored()?.position_sums()?;
        let behind = network.apart_behind(first);
        (!behind.is_empty() && vectors >= FEWEST_VECTORS).then_some(ChannelSums { first, behind, channels })
    }

    /// The place of the last layer that keeps channels apart.
    pub fn last(&self) -> usize {
        self.behind[self.behind.len() - 1]
    }

    /// Vectors at the output of the last of these layers, `[V, N, *out]`, as their sums over the positions of the
    /// convolution's output: `[V, N, channels, 1]`.
    pub fn sum(&self, network: &Network, trace: &Trace, v: &Tensor) -> Result<Tensor> {
        let mut ones = trace[self.first].output.ones_like().unsqueeze(0);
        for &place in &self.behind {
            if let Some(layer) = network.nodes()[place].layer() {
                ones = layer.jvp(&trace[place], &ones)?;
            }
        }
        let (vectors, samples) = (v.size()[0], v.size()[1]);
        let ones = ones.reshape([samples, self.channels, -1]);
        let v = v.reshape([vectors, samples, self.channels, -1]);
        let sums = Tensor::empty([vectors, samples, self.channels, 1], (v.kind(), v.device()));
        for vector in 0..vectors {
            // One vector at a time, so that the product is summed while it is in the cache.
            sums.get(vector).copy_(&(v.get(vector) * &ones).sum_dim_intlist(2, true, None::<Kind>));
        }
        Ok(sums)
    }
}

#[cfg(test)]
pub(in crate::backpack) mod tests {
    use tch::Device;

    use super::*;
    use crate::backpack::layers::{
        Activation, Conv2d, Conv2dOptions, Flatten, Identity, Linear, MaxPool2d, MaxPool2dOptions, Mode, PaddingChoice,
        Relu, Tanh,
    };

    /// The sums through the pushed vectors are those of the matrix that the recursion forms, whatever is held at a time.
    #[test]
    fn sums_are_those_of_the_whole_matrix() {
        tch::manual_seed(0);
        let network = network();
        let trace =
            network.forward(&Tensor::randn([5, 2, 7, 6], (Kind::Double, Device::Cpu)), Mode::Evaluation).unwrap();
        let side = 3 * 3 * 2;
        let root = Tensor::randn([side, 4], (Kind::Double, Device::Cpu));
        let matrix = root.mm(&root.tr());
        let mut whole = matrix.shallow_clone();
        for place in [2, 1] {
            whole = network.nodes()[place].layer().unwrap().kfra_input(&trace[place], &whole).unwrap();
        }
        let expected = network.nodes()[0].layer().unwrap().factored().unwrap().averaged_output_factor(&whole).unwrap();
        for work_bytes in [1, 2 * side * 6 * 8, WORK_BYTES] {
            let found = within(&network, &trace, 0, 3, &matrix, work_bytes).unwrap();
            let error = f64::try_from((&found - &expected).abs().max() / expected.abs().max()).unwrap();
            assert!(error < 1e-14, "{work_bytes}: {error}");
        }
    }

    /// The matrix behind the pooling where the others are too large, the cheapest one where they fit.
    #[test]
    fn the_smallest_matrix_is_taken_where_none_fits() {
        let network = Network::sequential(vec![
            Box::new(Conv2d::new(&[2, 7, 7], &Conv2dOptions::default()).unwrap()),
            Box::new(Activation::new(Relu {})),
            Box::new(Activation::new(Identity {})),
        ]);
        let sizes = [98, 49, 49, 20];
        assert_eq!(last_matrix(&network, &sizes, 8, 4, 1), Some(3));
        assert_eq!(last_matrix(&network, &sizes, 8, 4, 1 << 20), Some(3));
        // The matrix at the output is the largest whatever is done; behind the relu it takes fewest multiplications.
        assert_eq!(last_matrix(&network, &[98, 20, 20, 49], 8, 4, 1), Some(2));
    }

    /// A convolution, tanh, max-pooling of windows that overlap, and a linear layer, in double precision.
    pub fn network() -> Network {
        let options = Conv2dOptions { out_channels: 3, kernel_size: [2, 2], ..Conv2dOptions::default() };
        let pool = MaxPool2dOptions {
            kernel_size: [3, 3],
            stride: Some([2, 2]),
            padding: PaddingChoice::default(),
            dilation: [1, 1],
            ceil_mode: true,
        };
        let double = (Kind::Double, Device::Cpu);
        let mut network = Network::sequential(vec![
            Box::new(Conv2d::new(&[2, 7, 6], &options).unwrap()),
            Box::new(Activation::new(Tanh {})),
            Box::new(MaxPool2d::new(&[3, 6, 5], &pool).unwrap()),
            Box::new(Flatten),
            Box::new(Linear::from_tensors(Tensor::randn([4, 18], double), None)),
        ]);
        network.to(Kind::Double, Device::Cpu);
        for parameter in network.parameters() {
            let _ = parameter.value.shallow_clone().normal_(0.0, 1.0);
        }
        network
    }

    #[test]
    fn sums_are_those_of_the_vectors_pulled_back() {
        tch::manual_seed(0);
        let network = network();
        let trace =
            network.forward(&Tensor::randn([5, 2, 7, 6], (Kind::Double, Device::Cpu)), Mode::Evaluation).unwrap();
        let way = ChannelSums::of(&network, FEWEST_VECTORS).unwrap();
        assert_eq!((way.first, way.last()), (0, 3));
        let v = Tensor::randn([4, 5, 18], (Kind::Double, Device::Cpu));
        let mut pulled = v.shallow_clone();
        for place in (way.first + 1..=way.last()).rev() {
            pulled = network.nodes()[place].layer().unwrap().vjp(&trace[place], &pulled).unwrap();
        }
        let expected = pulled.flatten(3, -1).sum_dim_intlist(3, true, None::<Kind>);
        let found = way.sum(&network, &trace, &v).unwrap();
        assert_eq!(found.size(), expected.size());
        let error = f64::try_from((&found - &expected).abs().max() / expected.abs().max()).unwrap();
        assert!(error < 1e-14, "{error}");
    }

    #[test]
    fn few_vectors_go_through_the_layers() {
        assert_eq!(ChannelSums::of(&network(), FEWEST_VECTORS - 1), None);
    }
}
