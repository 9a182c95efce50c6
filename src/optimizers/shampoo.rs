//! Shampoo (Gupta, Koren and Singer, 2018, algorithm 1): L <- L + G G^T and R <- R + G^T G from epsilon I on, and
//! W <- W - alpha L^(-1/4) G R^(-1/4). Kernels are matrices `[out, rest]`; a vector has one side and the exponent -1/2.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::info::{OptimizerInfo, no_dampings, sides};
use super::matrices::Form;
use super::options::{ABOVE_0, OptionInfo, OptionKind, OptionValue, STEPS, above_0};
use super::sgd::Gradients;
use super::{Hyperparameters, Optimizer, Phase, StepClock, StepReport, take};
use crate::backpack::eigen::decompose;
use crate::backpack::native::{add_scaled, product::matmul};
use crate::backpack::quantities::Source;
use crate::backpack::{Network, Quantities, Request};
use crate::error::Result;
use crate::numbers::logspace;

pub(super) static INFO: OptimizerInfo = OptimizerInfo {
    name: "shampoo",
    title: "Shampoo",
    summary: "preconditioned by roots of summed second moments of rows and columns",
    options: &[
        OptionInfo::new(
            "epsilon",
            OptionKind::Number(above_0),
            ABOVE_0,
            || OptionValue::Number(1e-4),
            "the multiple of the identity that the sums start from",
        ),
        OptionInfo::new(
            "inverse_every",
            OptionKind::Count,
            STEPS,
            || OptionValue::Count(1),
            "steps from one computation of the roots to the next",
        ),
    ],
    has_damping: false,
    vectors: Source::Gradient,
    // Each sum, its eigenvectors, its root, and the decomposition's own.
    memory: |_, shape| {
        let [rows, columns] = sides(shape);
        4 * (rows.pow(2) + if shape.len() > 1 { columns.pow(2) } else { 0 })
    },
    learning_rates: || logspace(-4.0, 1.0, 11),
    dampings: no_dampings,
    build: |hyperparameters, network| Ok(Box::new(Shampoo::new(hyperparameters, network)?)),
};

/// One side of a parameter.
#[derive(Debug)]
struct Side {
    /// The sum of second moments, symmetric.
    sum: Tensor,
    /// Its inverse root, once there is one.
    root: Option<Tensor>,
}

/// Shampoo.
#[derive(Debug)]
pub struct Shampoo {
    gradients: Gradients,
    learning_rate: f64,
    epsilon: f64,
    inverse_every: u64,
    steps: u64,
    /// Of each parameter, how it is a matrix.
    forms: Vec<Form>,
    /// Of each parameter, its rows and, unless it is a vector, its columns.
    sides: Vec<Vec<Side>>,
}

impl Shampoo {
    /// Shampoo with this learning rate, l2 and options.
    ///
    /// # Errors
    /// None at present; the signature is that of the other optimizers.
    pub fn new(hyperparameters: &Hyperparameters, network: &Network) -> Result<Self> {
        let mut forms = vec![Form::Vector; network.parameters().len()];
        for (node, _) in network.with_parameters() {
            node.numbered().for_each(|(number, parameter)| forms[number] = Form::of(node, &parameter.value));
        }
        Ok(Shampoo {
            gradients: Gradients::new(hyperparameters)?,
            learning_rate: hyperparameters.learning_rate,
            epsilon: hyperparameters.number("epsilon"),
            inverse_every: hyperparameters.count("inverse_every"),
            steps: 0,
            sides: forms.iter().map(|_| Vec::new()).collect(),
            forms,
        })
    }

    /// The sums at their start for a gradient, `[out, rest]`.
    fn start(&self, form: Form, gradient: &Tensor) -> Vec<Side> {
        let side = |size: i64| {
            let sum = Tensor::eye(size, (gradient.kind(), gradient.device())) * self.epsilon;
            Side { sum, root: None }
        };
        let sizes = gradient.size();
        let count = if form == Form::Vector { 1 } else { 2 };
        sizes[..count].iter().map(|&size| side(size)).collect()
    }
}

impl Side {
    /// Computes the inverse root of this order; says whether that was not possible, and the last one stays in use.
    fn renew(&mut self, order: f64, epsilon: f64) -> Result<bool> {
        let Some((values, vectors)) = decompose(&self.sum)? else {
            return Ok(true);
        };
        // No eigenvalue is below epsilon, apart from rounding.
        let roots = values.clamp_min(epsilon).pow_tensor_scalar(-1.0 / order);
        self.root = Some(matmul(&(&vectors * &roots), &vectors.tr())?);
        Ok(false)
    }
}

impl Optimizer for Shampoo {
    fn request(&self) -> &Request {
        &self.gradients.request
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    fn step(
        &mut self,
        network: &mut Network,
        quantities: &mut Quantities,
        clock: &mut StepClock,
    ) -> Result<StepReport> {
        let mut report = StepReport::default();
        for (number, (parameter, gradient)) in self.gradients.take(network, quantities)?.into_iter().enumerate() {
            let form = self.forms[number];
            let gradient = form.matrix(&gradient);
            clock.lap(Phase::Update);
            if self.sides[number].is_empty() {
                self.sides[number] = self.start(form, &gradient);
            }
            let sides = &mut self.sides[number];
            let transposed = gradient.tr();
            for (side, [one, other]) in sides.iter_mut().zip([[&gradient, &transposed], [&transposed, &gradient]]) {
                add_scaled(&side.sum, &matmul(one, other)?, 1.0)?;
            }
            clock.lap(Phase::Average);
            if self.steps.is_multiple_of(self.inverse_every) {
                let order = 2.0 * sides.len() as f64;
                for side in sides.iter_mut() {
                    report.failed_inverses += u64::from(side.renew(order, self.epsilon)?);
                }
            }
            let mut step = gradient;
            if let Some(root) = &sides[0].root {
                step = matmul(root, &step)?;
            }
            if let Some(root) = sides.get(1).and_then(|side| side.root.as_ref()) {
                step = matmul(&step, root)?;
            }
            clock.lap(Phase::Inverse);
            add_scaled(parameter, &form.back(&step, parameter), -self.learning_rate)?;
            clock.lap(Phase::Update);
        }
        self.steps += 1;
        Ok(report)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = vec![("steps".to_owned(), Tensor::from_slice(&[self.steps as i64]))];
        for (number, sides) in self.sides.iter().enumerate() {
            for (place, side) in sides.iter().enumerate() {
                state.push((format!("sum.{number}.{place}"), side.sum.shallow_clone()));
                // Also where the next step will renew it: it may fail to.
                if let Some(root) = &side.root {
                    state.push((format!("root.{number}.{place}"), root.shallow_clone()));
                }
            }
        }
        state
    }

    fn load_state(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<()> {
        self.steps = take(&mut state, "steps")?.to_kind(Kind::Int64).int64_value(&[0]) as u64;
        for (number, sides) in self.sides.iter_mut().enumerate() {
            sides.clear();
            for place in 0..2 {
                let Some(sum) = state.remove(&format!("sum.{number}.{place}")) else { break };
                sides.push(Side { sum, root: state.remove(&format!("root.{number}.{place}")) });
            }
        }
        Ok(())
    }
}
