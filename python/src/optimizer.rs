//! An optimizer of the library that steps a model's own parameters.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use backpack_run::backpack::Pass;
use backpack_run::backpack::layers::Mode;
use backpack_run::backpack::request::DEFAULT_CHUNK_BYTES;
use backpack_run::optimizers::{self, Averaging, Hyperparameters, OptimizerName, Options, StepClock};
use backpack_run::problems::data;
use backpack_run::study::run::Judgement;
use backpack_run::{Error, Result};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tch::Tensor;

use crate::errors::{compute, to_python};
use crate::network::{Network, Samples, loss};
use crate::tensors::{give, take, take_all};

/// A damped curvature rule. It holds its estimates of curvature; network and parameters come with each step.
#[pyclass(frozen, module = "backpack_run._native")]
#[derive(Debug)]
pub struct Optimizer {
    rule: Mutex<Rule>,
}

#[derive(Debug)]
struct Rule {
    hyperparameters: Hyperparameters,
    optimizer: Box<dyn optimizers::Optimizer>,
}

impl Rule {
    /// One with another damping, which keeps its estimates.
    fn set_damping(&mut self, damping: f64, network: &backpack_run::backpack::Network) -> Result<()> {
        if damping != self.hyperparameters.damping {
            let hyperparameters = Hyperparameters { damping, ..self.hyperparameters.clone() };
            let mut optimizer = optimizers::build(&hyperparameters, network)?;
            optimizer.load_state(self.optimizer.state().into_iter().collect())?;
            *self = Rule { hyperparameters, optimizer };
        }
        Ok(())
    }
}

/// What a rule is made from; `options` is a JSON object.
fn hyperparameters(
    curvature: &str,
    (learning_rate, damping, l2): (f64, f64, f64),
    averaging: &str,
    mc_samples: i64,
    options: &str,
) -> Result<Hyperparameters> {
    let rules = || OptimizerName::all().filter(|name| name.has_damping());
    let name = rules().find(|name| name.as_str() == curvature).ok_or_else(|| {
        let names: Vec<&str> = rules().map(OptimizerName::as_str).collect();
        Error::Usage(format!("curvature {curvature:?}: expected one of {}", names.join(", ")))
    })?;
    let given: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(options).map_err(|error| Error::Usage(format!("options: {error}")))?;
    let mut read = Vec::new();
    for (key, value) in given {
        if key == "schedule" {
            return Err(Error::Usage("schedule: take one of torch.optim.lr_scheduler".to_owned()));
        }
        // Those that are always part of a run are arguments of their own.
        let known = || name.options().filter(|info| !info.always && info.key != "schedule");
        let info = known().find(|info| info.key == key).ok_or_else(|| {
            let keys: Vec<&str> = known().map(|info| info.key).collect();
            Error::Usage(format!("{name} has no option {key:?}; it has {}", keys.join(", ")))
        })?;
        let shown = value.to_string();
        let value = info.kind.read(value);
        let value = value.ok_or_else(|| Error::Usage(format!("{key}={shown}: expected {}", info.values)))?;
        read.push((info.key, value));
    }
    Ok(Hyperparameters {
        name,
        learning_rate,
        damping,
        averaging: averaging.parse::<Averaging>()?,
        kfra_aliasing: false,
        l2,
        mc_samples,
        chunk_bytes: DEFAULT_CHUNK_BYTES,
        options: Options::new(name, read)?,
    })
}

impl Optimizer {
    fn with<T>(&self, work: impl FnOnce(&mut Rule) -> T) -> T {
        work(&mut self.rule.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[pymethods]
impl Optimizer {
    /// The rule `curvature` for a network; `rates` are learning rate, damping and l2.
    #[new]
    fn new(
        py: Python<'_>,
        network: &Network,
        tensors: Vec<Bound<'_, PyAny>>,
        curvature: String,
        rates: (f64, f64, f64),
        averaging: String,
        mc_samples: i64,
        options: String,
    ) -> PyResult<Self> {
        let tensors = take_all(&tensors)?;
        compute(py, move || {
            let hyperparameters = hyperparameters(&curvature, rates, &averaging, mc_samples, &options)?;
            if !(rates.2.is_finite() && rates.2 >= 0.0) {
                return Err(Error::Usage(format!("l2={}: expected a number of at least 0", rates.2)));
            }
            let network = network.with(tensors)?;
            let optimizer = optimizers::build(&hyperparameters, &network)?;
            Ok(Optimizer { rule: Mutex::new(Rule { hyperparameters, optimizer }) })
        })
    }

    /// One step on a batch: changes the tensors of the parameters in place, unless the loss is not finite. Gives the loss
    /// before it, without l2, and how often a curvature could not be inverted as it was.
    ///
    /// `rates` are the learning rate and the damping of this step; `draws` the seed and the number of the step, by which
    /// labels and dropout masks are drawn.
    fn step(
        &self,
        py: Python<'_>,
        network: &Network,
        tensors: Vec<Bound<'_, PyAny>>,
        samples: (Bound<'_, PyAny>, Bound<'_, PyAny>),
        loss: (String, String),
        rates: (f64, f64),
        draws: (u64, u64),
        training: bool,
    ) -> PyResult<(f64, u64)> {
        let tensors = take_all(&tensors)?;
        let samples = Samples::from_python(&samples.0, &samples.1, None)?;
        let own: Vec<Tensor> = tensors.iter().map(Tensor::shallow_clone).collect();
        network.compute(py, move || {
            let _guard = tch::no_grad_guard();
            let loss = self::loss(&loss.0, &loss.1)?;
            let mut network = network.with(tensors)?;
            let batch = samples.fit(&network, loss.as_ref())?;
            let ((learning_rate, damping), (seed, step)) = (rates, draws);
            if !(learning_rate.is_finite() && learning_rate >= 0.0) {
                return Err(Error::Usage(format!("lr={learning_rate}: expected a number of at least 0")));
            }
            self.with(|rule| {
                rule.set_damping(damping, &network)?;
                let mode = if training { Mode::Training { seed, step } } else { Mode::Evaluation };
                let optimizer = &mut rule.optimizer;
                let pass = Pass::new(&network, loss.as_ref()).request(optimizer.request()).mode(mode);
                let mut quantities = pass.seed(seed).step(step).run(&batch.x, &batch.y)?;
                let value = quantities.loss_value()?;
                if !value.is_finite() {
                    return Ok((value, 0));
                }
                let l2 = rule.hyperparameters.l2;
                let judged = optimizer.wants_reduction_ratio();
                let judged = judged.map(|damping| Judgement::before(&network, &quantities, damping, l2)).transpose()?;
                optimizer.set_learning_rate(learning_rate);
                let report = optimizer.step(&mut network, &mut quantities, &mut StepClock::off())?;
                if let Some(judged) = judged {
                    let batch = data::Batch { x: batch.x.shallow_clone(), y: batch.y.shallow_clone() };
                    let ratio = judged.ratio(&mut network, loss.as_ref(), &batch, mode)?;
                    optimizer.take_reduction_ratio(ratio);
                }
                // What is not contiguous was stepped in a copy.
                for (own, parameter) in own.iter().zip(network.parameters()) {
                    if own.data_ptr() != parameter.value.data_ptr() {
                        own.shallow_clone().copy_(parameter.value);
                    }
                }
                Ok((value, report.failed_inverses))
            })
        })
    }

    /// Everything that a later step depends on, by name.
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let state = PyDict::new(py);
        for (name, tensor) in self.with(|rule| rule.optimizer.state()) {
            state.set_item(name, give(py, &tensor.copy())?)?;
        }
        Ok(state)
    }

    /// Takes the state of an earlier one back.
    fn load_state(&self, py: Python<'_>, state: BTreeMap<String, Bound<'_, PyAny>>) -> PyResult<()> {
        let state = state.into_iter().map(|(name, tensor)| Ok((name, take(&tensor)?.copy())));
        let state: BTreeMap<String, Tensor> = state.collect::<PyResult<_>>()?;
        self.with(|rule| rule.optimizer.load_state(state)).map_err(|error| to_python(py, error))
    }
}
