//! The damped rule with Kronecker factors (KFAC, KFLR, KFRA).
//!
//! Weight, with gamma = lambda + l2 and pi = sqrt((tr A / dim A) / (tr B / dim B)):
//! W <- W - alpha (B + sqrt(gamma) / pi I)^-1 (G + l2 W) (A + pi sqrt(gamma) I)^-1 (Eqs. 28 and 29 of the paper, as its
//! code has them; Martens and Grosse, 2015). Bias: b <- b - alpha (B + lambda I)^-1 g. A and B are running estimates.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::{Kind, Tensor};

use super::inverse::DampedInverse;
use super::linear_factors::{self, LinearFactors};
use super::{Averaging, Hyperparameters, Optimizer, RunningEstimate, StepReport, take, wanted};
use crate::backpack::layers::{KroneckerSupport, Layer};
use crate::backpack::native::add_scaled;
use crate::backpack::quantities::by_name;
use crate::backpack::{Network, Quantities, Request};
use crate::error::{Error, Result};

/// The running factors of one layer; weight and bias share B.
#[derive(Debug, Default)]
struct Factors {
    a: RunningEstimate,
    b: RunningEstimate,
}

/// The damped rule with Kronecker factors.
pub struct KroneckerRule {
    request: Request,
    quantity: &'static str,
    learning_rate: f64,
    damping: f64,
    averaging: Averaging,
    kfra_aliasing: bool,
    l2: f64,
    /// One for each layer with parameters.
    factors: Vec<Factors>,
}

impl KroneckerRule {
    /// The rule with these hyperparameters for a network.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when a layer has no Kronecker factors, naming it.
    pub fn new(hyperparameters: &Hyperparameters, network: &Network) -> Result<Self> {
        let quantity = hyperparameters.name.as_str();
        for leaf in network.leaves() {
            if let KroneckerSupport::Refuses(reason) = leaf.layer.kronecker() {
                return Err(Error::Unsupported(format!("{}: {quantity} is not possible: {reason}", leaf.title())));
            }
        }
        let Some(factors) = by_name(quantity) else {
            return Err(Error::Unsupported(format!("{quantity} is not a quantity")));
        };
        let Some(gradient) = by_name("grad") else {
            return Err(Error::Unsupported("grad is not a quantity".into()));
        };
        let mut quantities = vec![gradient, factors];
        // With an l2 term the full gradient has to be preconditioned, and its factors are of no use.
        if hyperparameters.l2 == 0.0 {
            quantities.push(Arc::new(LinearFactors));
        }
        let mut request = Request::of(quantities);
        request.mc_samples = hyperparameters.mc_samples;
        request.chunk_bytes = hyperparameters.chunk_bytes;
        let layers = network.leaves().iter().filter(|leaf| !leaf.layer.parameters().is_empty()).count();
        Ok(KroneckerRule {
            request,
            quantity,
            learning_rate: hyperparameters.learning_rate,
            damping: hyperparameters.damping,
            averaging: hyperparameters.averaging,
            kfra_aliasing: hyperparameters.kfra_aliasing && quantity == "kfra",
            l2: hyperparameters.l2,
            factors: (0..layers).map(|_| Factors::default()).collect(),
        })
    }

    /// One layer's step: its parameters start at `first` among the network's.
    fn step_layer(&mut self, place: usize, layer: &dyn Layer, first: usize, quantities: &Quantities) -> Result<u64> {
        let parameters = layer.parameters();
        let factors = &mut self.factors[place];
        let mut failures = 0;
        factors.a.observe(wanted(quantities, self.quantity, first, "A")?, self.averaging, 1);
        let aliased = self.kfra_aliasing && layer.kind() == "linear" && parameters.len() == 2;
        let times = if aliased { 2 } else { 1 };
        factors.b.observe(wanted(quantities, self.quantity, first, "B")?, self.averaging, times);
        let (Some(a), Some(b)) = (factors.a.value(), factors.b.value()) else {
            return Ok(0);
        };
        let root = (self.damping + self.l2).sqrt();
        let pi = trace_norm_pi(a, b)?;
        failures += u64::from(pi.is_none());
        let pi = pi.unwrap_or(1.0);
        let (a_inverse, a_failures) = DampedInverse::new(a, pi * root)?;
        let (b_inverse, b_failures) = DampedInverse::new(b, root / pi)?;
        failures += a_failures + b_failures;
        let weight = &parameters[0].value;
        let step = match (self.l2 == 0.0).then(|| gradient_factors(quantities, first)).flatten() {
            Some((d, x)) => b_inverse.apply(&d.tr())?.mm(&a_inverse.apply(&x.tr())?.tr()),
            None => {
                let gradient = wanted(quantities, "grad", first, "")?;
                if self.l2 != 0.0 {
                    add_scaled(gradient, weight, self.l2)?;
                }
                let half = b_inverse.apply(&layer.kronecker_matrix(gradient))?;
                a_inverse.apply(&half.transpose(-2, -1))?.transpose(-2, -1)
            }
        };
        add_scaled(weight, &layer.kronecker_weight(&step), -self.learning_rate)?;
        if let Some(bias) = parameters.get(1) {
            let (inverse, bias_failures) = DampedInverse::new(b, self.damping)?;
            failures += bias_failures;
            let gradient = wanted(quantities, "grad", first + 1, "")?;
            let columns = [&b.size()[..b.dim() - 1], &[1]].concat();
            let step = inverse.apply(&gradient.reshape(columns.as_slice()))?;
            add_scaled(&bias.value, &step.reshape(bias.value.size().as_slice()), -self.learning_rate)?;
        }
        Ok(failures)
    }
}

/// D and X of a linear weight's gradient, where they are there and narrower than the gradient.
fn gradient_factors(quantities: &Quantities, parameter: usize) -> Option<(&Tensor, &Tensor)> {
    let d = quantities.factor(linear_factors::NAME, parameter, "D")?;
    let x = quantities.factor(linear_factors::NAME, parameter, "X")?;
    (d.size()[0] < d.size()[1]).then_some((d, x))
}

/// sqrt((tr A / dim A) / (tr B / dim B)); None where that is no positive number.
fn trace_norm_pi(a: &Tensor, b: &Tensor) -> Result<Option<f64>> {
    let mean = |factor: &Tensor| -> Result<f64> { Ok(f64::try_from(factor.diagonal(0, -2, -1).mean(Kind::Double))?) };
    let pi = (mean(a)? / mean(b)?).sqrt();
    Ok((pi.is_finite() && pi > 0.0).then_some(pi))
}

impl Optimizer for KroneckerRule {
    fn request(&self) -> &Request {
        &self.request
    }

    fn step(&mut self, network: &Network, quantities: &Quantities) -> Result<StepReport> {
        let mut report = StepReport::default();
        let with_parameters = network.leaves().iter().filter(|leaf| !leaf.layer.parameters().is_empty());
        for (place, leaf) in with_parameters.enumerate() {
            report.failed_inverses += self.step_layer(place, leaf.layer.as_ref(), leaf.first_parameter, quantities)?;
        }
        Ok(report)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = Vec::new();
        for (place, factors) in self.factors.iter().enumerate() {
            for (name, estimate) in [("a", &factors.a), ("b", &factors.b)] {
                if let Some(value) = estimate.value() {
                    state.push((format!("{name}.{place}"), value.shallow_clone()));
                    state
                        .push((format!("{name}.{place}.observations"), Tensor::from_slice(&[estimate.observations()])));
                }
            }
        }
        state
    }

    fn load_state(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<()> {
        if state.is_empty() {
            return Ok(());
        }
        for (place, factors) in self.factors.iter_mut().enumerate() {
            for (name, estimate) in [("a", &mut factors.a), ("b", &mut factors.b)] {
                let value = take(&mut state, &format!("{name}.{place}"))?;
                let observations = take(&mut state, &format!("{name}.{place}.observations"))?;
                *estimate = RunningEstimate::restore(value, observations.to_kind(Kind::Int64).int64_value(&[0]));
            }
        }
        Ok(())
    }
}
