//! libtorch's gradient and what is compared with it, side by side in one process, each timed by itself.

use std::time::Instant;

use tch::{Device, Kind, Reduction as Libtorch, Tensor};

use super::measure::{Pair, Timed};
use super::task::{Batches, MODE, SEED, Subject, Task, hyperparameters, request};
use crate::backpack::layers::{Mode, channels_last};
use crate::backpack::losses::{Loss, Reduction};
use crate::backpack::network::Shapes;
use crate::backpack::{Network, Pass, Quantities, Request};
use crate::error::Result;
use crate::optimizers::{self, Optimizer, Phase, StepClock, StepTimes};
use crate::problems::builder::{build_loss, build_network, lay_out, wanted};
use crate::problems::data::{Batch, DataFolders, describe};
use crate::problems::definition::{self, LossKind, ProblemDefinition};
use crate::runtime::{DeviceChoice, set_threads};

/// The two that are timed.
#[derive(Debug)]
pub struct Contest {
    definition: ProblemDefinition,
    network: Network,
    loss: Box<dyn Loss>,
    batches: Batches,
    include_data: bool,
    device: Device,
    side: Side,
    /// Made when it is first needed, so that it takes no memory from what is measured without it.
    yardstick: Option<Yardstick>,
    channels_last: Option<Yardstick>,
    own_gradient: Request,
    /// How many steps it takes until the mean of every Kronecker factor has full rank; 0 where no step is taken.
    full_rank_steps: usize,
    rounds: u64,
    diverged: bool,
}

/// What is compared with the gradient.
#[derive(Debug)]
enum Side {
    Quantity(Request),
    Loop,
    Step(Box<dyn Optimizer>),
}

impl Contest {
    /// Everything that both sides need; sets the number of threads.
    ///
    /// # Errors
    /// Where the problem cannot be loaded or built.
    pub fn new(task: &Task) -> Result<Self> {
        set_threads(task.threads);
        let definition = definition::load(&task.source)?;
        let info = describe(&definition.dataset, &DataFolders::from_choice(None))?;
        let device = task.device.parse::<DeviceChoice>()?.open()?;
        let mut network = build_network(&definition, &info.shape, SEED)?;
        network.to(tch::Kind::Float, device);
        let shapes = network.shapes(&info.shape)?;
        let wanted = wanted(&definition, &network, shapes.output());
        let (side, steps) = match &task.subject {
            Subject::Quantity(name) => (Side::Quantity(request(name, task.alone, task.chunk_bytes)?), 0),
            Subject::Loop => (Side::Loop, 0),
            Subject::Step(name) => {
                let optimizer = optimizers::build(&hyperparameters(*name, definition.l2), &network)?;
                let has_factors = optimizer.request().has_input_factors();
                let steps = if has_factors { steps_to_full_rank(&network, &shapes, task.batch_size) } else { 1 };
                (Side::Step(optimizer), steps)
            }
        };
        let batches = match task.include_data {
            true => Batches::fed(&definition, &info, &wanted, task.batch_size, device)?,
            false => Batches::drawn(&definition, &info, &wanted, task.batch_size, steps.max(1), device)?,
        };
        Ok(Contest {
            loss: build_loss(&definition)?,
            own_gradient: request("grad", false, task.chunk_bytes)?,
            definition,
            network,
            batches,
            include_data: task.include_data,
            device,
            side,
            yardstick: None,
            channels_last: None,
            full_rank_steps: steps,
            rounds: 0,
            diverged: false,
        })
    }

    /// Whether a step has led to numbers that are not finite.
    pub fn has_diverged(&self) -> bool {
        self.diverged
    }

    /// libtorch's gradient, as this order of memory has it.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn gradient_in(&mut self, order: Order) -> Result<f64> {
        self.prepare(order)?;
        let slot = if order == Order::ChannelsFirst { &self.yardstick } else { &self.channels_last };
        let Some(yardstick) = slot else { return Ok(f64::NAN) };
        let (batch, mut began) = self.begin()?;
        let x = yardstick.arrange(&batch.x);
        // A given batch lies as this network takes it; one that is fetched has to be brought there.
        if !self.include_data {
            began = Instant::now();
        }
        let gradient = yardstick.gradient(&x, &batch.y)?;
        Ok(self.end(began, gradient))
    }

    /// One pass of what is compared.
    ///
    /// # Errors
    /// What libtorch says.
    fn one_pass(&mut self) -> Result<Timed> {
        self.rounds += 1;
        if matches!(self.side, Side::Loop) {
            self.prepare(Order::ChannelsFirst)?;
        }
        let (batch, began) = self.begin()?;
        match &mut self.side {
            Side::Loop => {
                let Some(yardstick) = &self.yardstick else { return Ok(Timed::default()) };
                let gradients = yardstick.individual_gradients(&batch.x, &batch.y)?;
                Ok(Timed { seconds: self.end(began, gradients), step: StepTimes::default() })
            }
            Side::Quantity(request) => {
                let quantities = backward(&mut self.network, self.loss.as_ref(), &batch, request, self.rounds)?;
                Ok(Timed { seconds: self.end(began, quantities), step: StepTimes::default() })
            }
            Side::Step(optimizer) => {
                let _guard = tch::no_grad_guard();
                let request = optimizer.request();
                let mut quantities = backward(&mut self.network, self.loss.as_ref(), &batch, request, self.rounds)?;
                // Training looks at the loss before it goes on.
                let loss = quantities.loss_value()?;
                let mut clock = StepClock::started(self.device);
                optimizer.step(&mut self.network, &mut quantities, &mut clock)?;
                clock.lap(Phase::Update);
                self.diverged |= !loss.is_finite();
                Ok(Timed { seconds: self.end(began, quantities), step: clock.times() })
            }
        }
    }

    /// Our gradient alone.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn own_gradient(&mut self) -> Result<f64> {
        self.rounds += 1;
        let (batch, began) = self.begin()?;
        let quantities = backward(&mut self.network, self.loss.as_ref(), &batch, &self.own_gradient, self.rounds)?;
        Ok(self.end(began, quantities))
    }

    /// Our forward pass alone.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn forward(&mut self) -> Result<f64> {
        let (batch, began) = self.begin()?;
        let _guard = tch::no_grad_guard();
        let trace = self.network.forward(&batch.x, MODE)?;
        Ok(self.end(began, trace))
    }

    /// How far libtorch's gradients lie from ours, as a share of the largest entry; for networks without
    /// dropout, whose masks differ.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn disagreement(&mut self, order: Order) -> Result<f64> {
        self.prepare(order)?;
        let slot = if order == Order::ChannelsFirst { &self.yardstick } else { &self.channels_last };
        let Some(yardstick) = slot else { return Ok(f64::NAN) };
        let batch = self.batches.get(0)?;
        let theirs = yardstick.gradient(&yardstick.arrange(&batch.x), &batch.y)?;
        let ours = backward(&mut self.network, self.loss.as_ref(), &batch, &self.own_gradient, 0)?;
        let ours: Vec<Tensor> =
            (0..theirs.len()).filter_map(|place| ours.find("grad", place, "").map(Tensor::shallow_clone)).collect();
        Ok(difference(&ours, &theirs))
    }

    fn prepare(&mut self, order: Order) -> Result<()> {
        let input_shape = self.batches.get(0)?.x.size()[1..].to_vec();
        let slot = match order {
            Order::ChannelsFirst => &mut self.yardstick,
            Order::ChannelsLast => &mut self.channels_last,
        };
        if slot.is_none() {
            *slot = Some(Yardstick::new(&self.definition, &self.network, &input_shape, order)?);
        }
        Ok(())
    }

    /// The round's batch, and when the clock started: before it is fetched where data are timed, else after.
    fn begin(&self) -> Result<(Batch, Instant)> {
        let before = Instant::now();
        let batch = self.batches.get(self.rounds)?;
        if self.include_data {
            return Ok((batch, before));
        }
        Ok((batch, Instant::now()))
    }

    /// The time until now, when the result is there; it is given back to the allocator after the clock has stopped.
    fn end<T>(&self, began: Instant, result: T) -> f64 {
        if let Device::Cuda(index) = self.device {
            tch::Cuda::synchronize(index as i64);
        }
        let seconds = began.elapsed().as_secs_f64();
        drop(std::hint::black_box(result));
        seconds
    }
}

impl Pair for Contest {
    fn warm_up(&mut self) -> Result<()> {
        for _ in 0..self.full_rank_steps {
            self.pass()?;
        }
        Ok(())
    }

    fn gradient(&mut self) -> Result<f64> {
        self.gradient_in(Order::ChannelsFirst)
    }

    fn pass(&mut self) -> Result<Timed> {
        self.one_pass()
    }
}

/// A pass as training makes it, running statistics included.
fn backward(network: &mut Network, loss: &dyn Loss, batch: &Batch, request: &Request, step: u64) -> Result<Quantities> {
    let pass = Pass::new(network, loss).request(request).mode(Mode::Training { seed: SEED, step });
    let quantities = pass.run(&batch.x, &batch.y)?;
    network.update_buffers(&quantities)?;
    Ok(quantities)
}

/// How many different batches it takes until the sum of each Kronecker factor can have full rank: a step adds at most
/// one to the rank of A for each sample and position, and one to that of B for each sample.
fn steps_to_full_rank(network: &Network, shapes: &Shapes, batch_size: usize) -> usize {
    let samples = batch_size as i64;
    let layers =
        network.nodes().iter().enumerate().filter_map(|(place, node)| Some((shapes.of_node(place), node.layer()?)));
    let factored = layers.filter_map(|(output, layer)| Some((output, layer, layer.factored()?)));
    let steps = factored.map(|(output, layer, site)| {
        let matrix = site.matrix(&layer.parameters()[0].value).size();
        let inputs = matrix[matrix.len() - 1];
        let channels = matrix.iter().product::<i64>() / inputs.max(1);
        let outputs = matrix[matrix.len() - 2];
        let positions = (output.iter().product::<i64>() / channels.max(1)).max(1);
        ((inputs + samples * positions - 1) / (samples * positions)).max((outputs + samples - 1) / samples)
    });
    steps.max().unwrap_or(1) as usize + 1
}

// libtorch's own gradient of a problem, which everything is measured against: the layers as plain libtorch operations,
// forward and backward by automatic differentiation.
//
// Parameters and images lie in memory as PyTorch has them unless told otherwise (channels first); the program's own
// pass does not take part.

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
struct Yardstick {
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
fn difference(one: &[Tensor], other: &[Tensor]) -> f64 {
    let largest = |tensor: &Tensor| tensor.abs().max().to_kind(Kind::Double).double_value(&[]);
    let far = one.iter().zip(other).map(|(one, other)| largest(&(one - other))).fold(0.0, f64::max);
    far / other.iter().map(largest).fold(f64::MIN_POSITIVE, f64::max)
}
