//! One row to be measured, and how much memory it needs.

use serde::{Deserialize, Serialize};

use super::subject::Subject;
use crate::backpack::Request;
use crate::backpack::layers::Mode;
use crate::backpack::memory::Plan;
use crate::backpack::network::Network;
use crate::backpack::quantities::Source;
use crate::backpack::request::DEFAULT_CHUNK_BYTES;
use crate::backpack::request::why_not;
use crate::error::Result;
use crate::optimizers::{self, Averaging, Hyperparameters, OptimizerName, Options};
use crate::words::count;

/// The step size and the damping of measured steps: so small that nothing goes far from where it starts.
const LEARNING_RATE: f64 = 1e-3;
const DAMPING: f64 = 1e-2;

/// How a forward pass is made while measuring.
pub const MODE: Mode = Mode::Training { seed: super::batches::SEED, step: 0 };

/// One row to be measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The figure's name in bench.csv.
    pub figure: String,
    /// The name or path that the problem is loaded by.
    pub source: String,
    /// The problem's name in bench.csv.
    pub problem: String,
    /// What is measured.
    pub subject: Subject,
    /// Samples in the batch.
    pub batch_size: usize,
    /// Threads that libtorch computes with.
    pub threads: usize,
    /// Where tensors live.
    pub device: String,
    /// Whether fetching the batch is timed too.
    pub include_data: bool,
    /// How many bytes of back-propagated vectors a quantity's pass may hold at a time.
    pub chunk_bytes: u64,
    /// Whether a quantity's pass leaves the gradient out, for comparisons with what has none.
    pub alone: bool,
}

impl Task {
    /// The task as progress and errors name it.
    pub fn title(&self) -> String {
        let threads = count(self.threads, "thread");
        let step = if matches!(self.subject, Subject::Step(_)) { "step of " } else { "" };
        format!("{}: {step}{}, batch {}, {threads}", self.problem, self.subject.name(), self.batch_size)
    }
}

/// What a pass of ours is asked for: the gradient, unless the quantity is to be alone, and the quantity.
///
/// # Errors
/// As [`Request::new`].
pub fn request(name: &str, alone: bool, chunk_bytes: u64) -> Result<Request> {
    let names = if alone || name == "grad" { vec![name] } else { vec!["grad", name] };
    let mut request = Request::new(names)?;
    request.chunk_bytes = chunk_bytes;
    Ok(request)
}

/// What a measured optimizer is made from; l2 is the problem's.
pub fn hyperparameters(name: OptimizerName, l2: f64) -> Hyperparameters {
    Hyperparameters {
        name,
        learning_rate: LEARNING_RATE,
        damping: DAMPING,
        averaging: Averaging::Cumulative,
        kfra_aliasing: false,
        l2,
        mc_samples: 1,
        chunk_bytes: DEFAULT_CHUNK_BYTES,
        options: Options::default(),
    }
}

/// Whether something can be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feasible {
    /// With about this many bytes, and chunks of so many.
    Yes {
        /// An estimate of the memory.
        needed: u64,
        /// The chunks that fit.
        chunk_bytes: u64,
    },
    /// Not within the budget: it needs about this many bytes.
    TooLarge {
        /// An estimate of the memory.
        needed: u64,
    },
    /// Not at all; the reason.
    No(String),
}

/// Whether a subject can be measured on this network, at this batch size and within this many bytes.
///
/// # Errors
/// Where shapes do not fit.
pub fn feasible(
    network: &Network,
    shape: &[i64],
    l2: f64,
    subject: &Subject,
    batch: usize,
    budget: u64,
) -> Result<Feasible> {
    let plan = Plan::new(network, shape, batch as i64, 1, 4)?;
    let mut state: u64 = 0;
    let (request, step) = match subject {
        Subject::Quantity(name) => (request(name, false, 1)?, false),
        Subject::Step(name) => match optimizers::build(&hyperparameters(*name, l2), network) {
            Ok(optimizer) => {
                // What a curvature rule holds is counted with its quantities.
                if !name.has_damping() {
                    let own = |shape: Vec<i64>| (name.info().memory)(&Options::default(), &shape);
                    let parameters = network.parameters();
                    state = parameters.iter().map(|parameter| own(parameter.value.size()) * 4).sum();
                }
                (optimizer.request().clone(), true)
            }
            Err(error) => return Ok(Feasible::No(error.to_string())),
        },
        Subject::Loop => {
            // The gradients of all samples are there at last; libtorch keeps one sample's forward pass.
            let needed = plan.base().saturating_add(plan.parameters().saturating_mul(batch as u64));
            return Ok(within(needed, budget, 1));
        }
    };
    let mut fixed = plan.base().saturating_add(state);
    let mut sweep = plan.sweep(Source::Gradient, 1);
    // In chunks a step takes what training takes, whatever there is; a quantity by itself can do with less.
    let least = if step { DEFAULT_CHUNK_BYTES } else { 1 };
    for entry in request.entries() {
        let quantity = entry.quantity.as_ref();
        if let Some(reason) = why_not(network, shape, MODE, quantity)? {
            return Ok(Feasible::No(reason));
        }
        // Of a step's curvature there are the mini-batch's, its running mean and the inverse.
        let copies = if step { 3 } else { 1 };
        fixed = fixed.saturating_add(plan.result(quantity).saturating_mul(copies));
        sweep = sweep.max(plan.sweep(quantity.source(), least));
    }
    let chunk_bytes = plan.chunk_bytes(budget, fixed);
    Ok(within(fixed.saturating_add(sweep), budget, chunk_bytes))
}

fn within(needed: u64, budget: u64, chunk_bytes: u64) -> Feasible {
    if needed <= budget { Feasible::Yes { needed, chunk_bytes } } else { Feasible::TooLarge { needed } }
}
