//! [`Pass`]: what is to be taken of an extended backward pass and how, and the way to run it.

use std::borrow::Cow;

use tch::Tensor;

use super::request::{Labels, Request};
use crate::backpack::layers::Mode;
use crate::backpack::losses::Loss;
use crate::backpack::network::Network;
use crate::backpack::pass;
use crate::backpack::quantities::{AsQuantity, Scale};
use crate::backpack::results::Quantities;
use crate::error::Result;

/// An extended backward pass through a network and a loss, which can be run on any number of batches.
///
/// ```
/// use backpack_run::backpack::layers::{Linear, LinearOptions};
/// use backpack_run::backpack::{BuiltIn::{DiagGgnMc, Grad}, Network, Pass, losses::CrossEntropy};
/// use tch::{Device, Kind, Tensor};
///
/// # fn main() -> backpack_run::Result<()> {
/// let linear = Linear::new(&[5], &LinearOptions { out_features: 3, bias: true })?;
/// let (network, loss) = (Network::sequential(vec![Box::new(linear)]), CrossEntropy::default());
/// let (x, y) = (Tensor::randn([8, 5], (Kind::Float, Device::Cpu)), Tensor::zeros([8], (Kind::Int64, Device::Cpu)));
/// let result = Pass::new(&network, &loss).take([Grad, DiagGgnMc])?.mc_samples(10).seed(1).run(&x, &y)?;
/// assert_eq!(result.get(DiagGgnMc, "0.weight")?.size(), [3, 5]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Pass<'a> {
    network: &'a Network,
    loss: &'a dyn Loss,
    request: Cow<'a, Request>,
    mode: Mode,
    seed: Option<u64>,
    step: Option<u64>,
    labels: Option<&'a Tensor>,
}

impl<'a> Pass<'a> {
    /// A pass in evaluation mode that as yet takes nothing.
    pub fn new(network: &'a Network, loss: &'a dyn Loss) -> Self {
        let request = Cow::Owned(Request::default());
        Pass { network, loss, request, mode: Mode::Evaluation, seed: None, step: None, labels: None }
    }

    /// Takes these quantities too: typed names ([`crate::backpack::BuiltIn`]), names as text, or quantities of your own.
    ///
    /// # Errors
    /// As [`AsQuantity::quantity`]; never for typed names.
    pub fn take<Q: AsQuantity>(mut self, quantities: impl IntoIterator<Item = Q>) -> Result<Self> {
        let request = self.request.to_mut();
        for quantity in quantities {
            request.add(quantity)?;
        }
        Ok(self)
    }

    /// Takes what is requested here, as it says, in place of all that was said before: what an optimizer wants of a pass.
    pub fn request(self, request: &'a Request) -> Self {
        Pass { request: Cow::Borrowed(request), ..self }
    }

    /// Makes the forward pass in this mode; without it, in evaluation mode.
    pub fn mode(self, mode: Mode) -> Self {
        Pass { mode, ..self }
    }

    /// Gives the quantities this normalisation; without it, BackPACK's.
    pub fn scale(mut self, scale: Scale) -> Self {
        self.request.to_mut().scale = scale;
        self
    }

    /// Holds so many bytes of back-propagated vectors at a time, and works through more in chunks; without it, 256 MiB.
    pub fn chunk_bytes(mut self, bytes: u64) -> Self {
        self.request.to_mut().chunk_bytes = bytes;
        self
    }

    /// Draws so many labels for each sample, where some quantity is sampled; without it, one.
    pub fn mc_samples(mut self, count: i64) -> Self {
        self.request.to_mut().mc_samples = count;
        self
    }

    /// Draws labels by this seed; without it, by that of training mode, or 0.
    pub fn seed(self, seed: u64) -> Self {
        Pass { seed: Some(seed), ..self }
    }

    /// Draws the labels of this step: other ones for each step of a seed. Without it, of that of training mode, or 0.
    pub fn step(self, step: u64) -> Self {
        Pass { step: Some(step), ..self }
    }

    /// Takes these labels for sampled quantities in place of drawn ones: classes `[M, N, ..]`, or values `[M, N, *out]`.
    pub fn labels(self, labels: &'a Tensor) -> Self {
        Pass { labels: Some(labels), ..self }
    }

    /// Runs the network forward on `input` (`[N, *in]`) and back from the loss at `target`, and takes the quantities.
    ///
    /// The network is not changed. In training mode the result holds what moves running statistics:
    /// [`Network::update_buffers`].
    ///
    /// # Errors
    /// Before anything is computed: [`crate::Error::Refused`] when a quantity cannot be had,
    /// [`crate::Error::Usage`] when one requires something that is not there, [`crate::Error::Shape`] when shapes do not
    /// fit.
    pub fn run(&self, input: &Tensor, target: &Tensor) -> Result<Quantities> {
        let (seed, step) = match self.mode {
            Mode::Training { seed, step } => (seed, step),
            Mode::Evaluation => (0, 0),
        };
        let drawn = Labels::Drawn { seed: self.seed.unwrap_or(seed), step: self.step.unwrap_or(step) };
        let labels = self.labels.map_or(drawn, Labels::Given);
        pass::run(self.network, self.loss, (input, target), self.mode, &self.request, labels, None)
    }
}
