//! Vectors at a first convolution, summed over positions without going through the layers right behind it.
//!
//! The output factor B of a convolution needs of each vector `v` only its sums over the positions of each channel,
//! `1_c^T v` with `1_c` one at every position of channel c. The vectors arrive from the layers behind,
//! `v = J^T u`, and so
//!
//! ```text
//! 1_c^T J^T u = (J 1_c)^T u:
//! ```
//!
//! one may push the ones forward instead of pulling every vector back. As long as no layer mixes channels one image of
//! ones serves all of them. Behind a pooling layer everything is the smaller by the square of its stride, and nothing is
//! ever formed at the size of the convolution's output, which is the largest of most networks.

use tch::{Kind, Tensor};

use crate::backpack::network::{Network, Trace};
use crate::error::Result;

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
    use super::*;
    use crate::backpack::layers::{
        Activation, Conv2d, Conv2dOptions, Flatten, Linear, MaxPool2d, MaxPool2dOptions, Mode, PaddingChoice, Tanh,
    };
    use tch::Device;

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
