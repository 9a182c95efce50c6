//! Whether an optimizer does what it owes ([`Optimizer`]), tried on a small network: for tests, of one's own optimizers too.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::options::OptionValue;
use super::{Hyperparameters, Optimizer, OptimizerInfo, OptimizerName, Options, StepClock, build, is_weight};
use crate::backpack::layers::{Activation, Conv2d, Conv2dOptions, Flatten, Linear, LinearOptions, Tanh};
use crate::backpack::losses::{MeanSquaredError, Reduction};
use crate::backpack::{Network, Pass};
use crate::error::{Error, Result};
use crate::random::{Purpose, normal, stream};

const LEARNING_RATE: f64 = 0.01;
const INPUT: [i64; 4] = [6, 2, 4, 4];
const STEPS: u64 = 4;
/// How many numbers an optimizer may hold for each one of a parameter beside what its entry tells.
const COPIES: u64 = 4;

/// Holds an optimizer to what it owes, with its options at their defaults, on a network of a convolution and two linear
/// layers:
/// - a run that goes on from a saved state, as a checkpoint brings it back, has the same parameters bit by bit;
/// - a learning rate that is changed is that of the next step;
/// - where the loss has no gradient, l2 draws weights towards zero and leaves biases alone;
/// - `clip_norm` changes nothing where gradients are shorter, and something where they are longer;
/// - the state is no larger than a few copies of the parameters and what [`OptimizerInfo::memory()`] tells.
///
/// It need not be in the registry.
///
/// # Errors
/// [`Error::Failed`] with a line for each of these that does not hold; what building the optimizer or a step says.
pub fn conformance(info: &'static OptimizerInfo) -> Result<()> {
    let run = |settings: Hyperparameters, still: bool| Run::new(&settings, still);
    let mut defects = Vec::new();
    let mut hold = |holds: bool, defect: &str| {
        if !holds {
            defects.push(format!("optimizer `{}`: {defect}", info.name));
        }
    };
    let settings = || Hyperparameters::new(OptimizerName::from(info), LEARNING_RATE);

    let mut whole = run(settings(), false)?;
    whole.steps(2)?;
    let mut resumed = run(settings(), false)?;
    resumed.take_over(&whole)?;
    let state = whole.optimizer.state().iter().map(|(_, tensor)| tensor.numel() as u64).sum::<u64>();
    let memory = |shape: Vec<i64>| (info.memory)(&settings().options, &shape).saturating_add(COPIES * count(&shape));
    let most = whole.values().iter().map(|value| memory(value.size())).fold(COPIES, u64::saturating_add);
    hold(state <= most, &format!("its state holds {state} numbers, where its entry's memory allows for {most}"));
    whole.steps(STEPS)?;
    resumed.steps(STEPS)?;
    hold(whole.is_at(&resumed), "a run that resumes from a saved state has other parameters than one without a break");

    let mut changed = run(Hyperparameters { learning_rate: LEARNING_RATE / 4.0, ..settings() }, false)?;
    changed.optimizer.set_learning_rate(LEARNING_RATE);
    changed.steps(2 + STEPS)?;
    hold(changed.is_at(&whole), "a learning rate that is set before the first step is not that of the step");

    let [mut plain, mut regularised] = [run(settings(), true)?, run(Hyperparameters { l2: 0.5, ..settings() }, true)?];
    let start = plain.values();
    plain.steps(STEPS)?;
    regularised.steps(STEPS)?;
    let roles: Vec<bool> = plain.network.parameters().iter().map(|parameter| is_weight(parameter.role)).collect();
    for (((ours, plain), start), is_weight) in regularised.values().iter().zip(plain.values()).zip(&start).zip(roles) {
        let towards_zero = f64::try_from(((ours - &plain) * start).sum(Kind::Double))? < 0.0;
        match is_weight {
            true => hold(towards_zero, "l2 does not draw a weight towards zero where the loss has no gradient"),
            false => hold(*ours == plain, "l2 moves a bias"),
        }
    }

    let clipped = |norm: f64| {
        let options = Options::new(OptimizerName::from(info), [("clip_norm", OptionValue::Number(norm))])?;
        let mut run = run(Hyperparameters { options, ..settings() }, false)?;
        run.steps(2 + STEPS)?;
        Ok::<_, Error>(run)
    };
    hold(clipped(1e9)?.is_at(&whole), "`clip_norm` changes a step though the gradients are shorter");
    hold(!clipped(1e-3)?.is_at(&whole), "`clip_norm` changes nothing though the gradients are longer");
    defects.dedup();
    if defects.is_empty() { Ok(()) } else { Err(Error::Failed(defects.join("\n"))) }
}

fn count(shape: &[i64]) -> u64 {
    shape.iter().product::<i64>() as u64
}

/// An optimizer at a network, whose loss has no gradient where it is to stand still.
struct Run {
    network: Network,
    optimizer: Box<dyn Optimizer>,
    still: bool,
    taken: u64,
}

impl Run {
    fn new(settings: &Hyperparameters, still: bool) -> Result<Self> {
        let conv = Conv2dOptions { out_channels: 3, kernel_size: [3, 3], ..Conv2dOptions::default() };
        let linear =
            |inputs: i64, outputs| Linear::new(&[inputs], &LinearOptions { out_features: outputs, bias: true });
        let mut network = Network::sequential(vec![
            Box::new(Conv2d::new(&INPUT[1..], &conv)?),
            Box::new(Activation::new(Tanh {})),
            Box::new(Flatten::new()),
            Box::new(linear(12, 5)?),
            Box::new(Activation::new(Tanh {})),
            Box::new(linear(5, 3)?),
        ]);
        for (number, value) in network.parameters_mut().enumerate() {
            let drawn = normal(&mut stream(0, Purpose::Init, number as u64), &value.size()) * 0.5;
            *value = drawn.to_kind(Kind::Float);
        }
        let optimizer = build(settings, &network)?;
        Ok(Run { network, optimizer, still, taken: 0 })
    }

    /// As if it had been at it: parameters, state and steps of another.
    fn take_over(&mut self, other: &Run) -> Result<()> {
        for (value, other) in self.network.parameters_mut().zip(other.values()) {
            *value = other;
        }
        // A checkpoint brings tensors back one behind the other.
        let state: BTreeMap<String, Tensor> =
            other.optimizer.state().into_iter().map(|(name, tensor)| (name, tensor.contiguous().copy())).collect();
        self.taken = other.taken;
        self.optimizer.load_state(state)
    }

    fn steps(&mut self, count: u64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let loss = MeanSquaredError::new(Reduction::Mean);
        for step in self.taken..self.taken + count {
            let drawn =
                |shape: &[i64], part| normal(&mut stream(part, Purpose::Batch, step), shape).to_kind(Kind::Float);
            let x = drawn(&INPUT, 0);
            let y = if self.still { self.network.evaluate(&x)? } else { drawn(&[INPUT[0], 3], 1) };
            let pass = Pass::new(&self.network, &loss).request(self.optimizer.request()).step(step);
            let mut quantities = pass.run(&x, &y)?;
            self.optimizer.step(&mut self.network, &mut quantities, &mut StepClock::off())?;
        }
        self.taken += count;
        Ok(())
    }

    fn values(&self) -> Vec<Tensor> {
        self.network.parameters().iter().map(|parameter| parameter.value.copy()).collect()
    }

    /// Whether the parameters are the same, bit by bit, and numbers.
    fn is_at(&self, other: &Run) -> bool {
        self.values().iter().zip(other.values()).all(|(one, other)| *one == other)
    }
}
