//! libtorch's own gradient of a problem, which everything is measured against: the layers as plain libtorch operations,
//! forward and backward by automatic differentiation.
//!
//! Parameters and images lie in memory as PyTorch has them unless told otherwise (channels first); the program's own
//! pass does not take part.

use tch::{Kind, Reduction as Libtorch, Tensor};

use crate::backpack::Network;
use crate::backpack::layers::{Mode, channels_last};
use crate::backpack::losses::Reduction;
use crate::error::Result;
use crate::problems::builder::lay_out;
use crate::problems::definition::{LossKind, ProblemDefinition};

/// How images and kernels lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As PyTorch has them: `[N, C, H, W]`, contiguous.
    ChannelsFirst,
    /// The same shapes with channels last in memory.
    ChannelsLast,
}

impl Order {
    fn arrange(self, tensor: &Tensor) -> Tensor {
        match self {
            Order::ChannelsFirst => tensor.contiguous(),
            Order::ChannelsLast => channels_last(tensor),
        }
    }
}

/// A problem's network in training mode, with copies of another one's parameters.
#[derive(Debug)]
pub struct Yardstick {
    order: Order,
    network: Network,
    loss: LossKind,
    reduction: Libtorch,
}

impl Yardstick {
    /// The problem's network for samples of this shape, with the parameters and buffers that `network`, built from it,
    /// has now.
    ///
    /// # Errors
    /// As [`lay_out`].
    pub fn new(definition: &ProblemDefinition, network: &Network, input_shape: &[i64], order: Order) -> Result<Self> {
        let mut own = lay_out(definition, input_shape)?;
        let parameters = network.parameters().into_iter().map(|parameter| (parameter.name, parameter.value.copy()));
        let buffers = network.buffers().into_iter().map(|(name, buffer)| (name, buffer.copy()));
        own.load(parameters.chain(buffers).collect())?;
        let kind = network.parameters().first().map_or(Kind::Float, |parameter| parameter.value.kind());
        own.replace(|tensor| order.arrange(&tensor.to_kind(kind)).detach());
        for parameter in own.parameters() {
            let _ = parameter.value.set_requires_grad(true);
        }
        let reduction = match definition.reduction {
            Reduction::Mean => Libtorch::Mean,
            Reduction::Sum => Libtorch::Sum,
        };
        Ok(Yardstick { order, network: own, loss: definition.loss()?, reduction })
    }

    /// The batch as this network takes it best; not part of what is timed.
    pub fn arrange(&self, x: &Tensor) -> Tensor {
        self.order.arrange(x)
    }

    /// The loss's gradients with respect to every parameter, in the network's order, at inputs `[N, *in]`.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn gradient(&self, x: &Tensor, y: &Tensor) -> Result<Vec<Tensor>> {
        tch::with_grad(|| {
            let output = self.network.library(x, Mode::Training { seed: 0, step: 0 })?;
            let loss = self.loss(&output, y)?;
            let parameters: Vec<&Tensor> = self.network.parameters().into_iter().map(|one| one.value).collect();
            Ok(Tensor::f_run_backward(&[&loss], &parameters, false, false)?)
        })
    }

    /// The gradient of every sample's loss by itself, sample by sample.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn individual_gradients(&self, x: &Tensor, y: &Tensor) -> Result<Vec<Vec<Tensor>>> {
        (0..x.size()[0]).map(|sample| self.gradient(&x.narrow(0, sample, 1), &y.narrow(0, sample, 1))).collect()
    }

    fn loss(&self, output: &Tensor, y: &Tensor) -> Result<Tensor> {
        let none = None::<&Tensor>;
        Ok(match self.loss {
            LossKind::CrossEntropy => output.f_cross_entropy_loss(y, none, self.reduction, -100, 0.0)?,
            LossKind::Mse => output.f_mse_loss(y, self.reduction)?,
            LossKind::BceWithLogits => output.f_binary_cross_entropy_with_logits(y, none, none, self.reduction)?,
        })
    }
}

/// The largest difference between two lists of tensors, as a share of the largest entry of all of them.
pub fn difference(one: &[Tensor], other: &[Tensor]) -> f64 {
    let largest = |tensor: &Tensor| tensor.abs().max().to_kind(Kind::Double).double_value(&[]);
    let far = one.iter().zip(other).map(|(one, other)| largest(&(one - other))).fold(0.0, f64::max);
    far / other.iter().map(largest).fold(f64::MIN_POSITIVE, f64::max)
}
