//! What an optimizer says of itself: the entry by which flags, files, tables, figures, estimates and a run's identity go.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Serialize, Serializer};

use super::options::{OptionInfo, Options};
use super::{Hyperparameters, Optimizer, clip};
use crate::backpack::Network;
use crate::backpack::quantities::Source;
use crate::error::Result;
use crate::numbers;

/// What an optimizer says of itself; one of your own is entered with [`crate::Registry::optimizer`].
#[derive(Debug)]
#[non_exhaustive]
pub struct OptimizerInfo {
    /// The name on the command line and in files, "diag_ggn_mc"; the folder of its runs is called so too.
    pub name: &'static str,
    /// The name in tables and figures, "DiagGGN-MC".
    pub title: &'static str,
    /// What it is, in a few words.
    pub summary: &'static str,
    /// Its options beside learning rate, damping and those that all optimizers have.
    pub options: &'static [OptionInfo],
    /// Whether it is a damped curvature rule: it has a damping, and works through the pass in chunks.
    pub has_damping: bool,
    /// Of the vectors that its pass sends back, those that take the most memory.
    pub vectors: Source,
    /// How many numbers it holds, at most, for a parameter of this shape, beside a few copies of the parameter.
    pub memory: fn(options: &Options, shape: &[i64]) -> u64,
    /// The learning rates that are tried where none are given.
    pub learning_rates: fn() -> Vec<f64>,
    /// The dampings that are tried where none are given; none for an optimizer without damping.
    pub dampings: fn() -> Vec<f64>,
    /// Makes it for a network.
    pub build: fn(&Hyperparameters, &Network) -> Result<Box<dyn Optimizer>>,
}

impl OptimizerInfo {
    /// An optimizer that has no options and no damping, is tried with the learning rates of the paper's baselines, and
    /// holds no more than a few copies of the parameters.
    pub const fn new(
        name: &'static str,
        title: &'static str,
        summary: &'static str,
        build: fn(&Hyperparameters, &Network) -> Result<Box<dyn Optimizer>>,
    ) -> Self {
        OptimizerInfo {
            name,
            title,
            summary,
            options: &[],
            has_damping: false,
            vectors: Source::Gradient,
            memory: no_more_memory,
            learning_rates: baseline_learning_rates,
            dampings: no_dampings,
            build,
        }
    }

    /// The same with these options.
    pub const fn options(self, options: &'static [OptionInfo]) -> Self {
        OptimizerInfo { options, ..self }
    }

    /// The same with a damping, whose averaged curvature is made of these vectors, tried with the paper's grid.
    pub const fn damped(self, vectors: Source) -> Self {
        let (learning_rates, dampings) = (curvature_learning_rates, curvature_dampings);
        OptimizerInfo { has_damping: true, vectors, learning_rates, dampings, ..self }
    }

    /// The same, which holds at most so many numbers for a parameter of a shape beside a few copies of it.
    pub const fn memory(self, memory: fn(options: &Options, shape: &[i64]) -> u64) -> Self {
        OptimizerInfo { memory, ..self }
    }

    /// The same, tried with these learning rates where none are given.
    pub const fn learning_rates(self, learning_rates: fn() -> Vec<f64>) -> Self {
        OptimizerInfo { learning_rates, ..self }
    }
}

/// The learning rates of the paper's baselines.
pub(super) fn baseline_learning_rates() -> Vec<f64> {
    numbers::logspace(-5.0, 2.0, 20)
}

/// The learning rates of the paper's curvature rules.
pub(super) fn curvature_learning_rates() -> Vec<f64> {
    numbers::logspace(-4.0, 0.0, 5)
}

/// The dampings of the paper's curvature rules.
pub(super) fn curvature_dampings() -> Vec<f64> {
    numbers::logspace(-4.0, 1.0, 6)
}

/// No dampings.
pub(super) fn no_dampings() -> Vec<f64> {
    Vec::new()
}

/// Nothing beside a few copies of the parameter.
pub(super) fn no_more_memory(_options: &Options, _shape: &[i64]) -> u64 {
    0
}

/// The two sides of a parameter as a matrix, `[out, rest]`.
pub(super) fn sides(shape: &[i64]) -> [u64; 2] {
    let rows = shape.first().copied().unwrap_or(1).max(1) as u64;
    [rows, shape.iter().product::<i64>() as u64 / rows]
}

/// An optimizer that this program knows. `Display` writes its name on the command line, [`OptimizerName::title`] that of figures.
#[derive(Clone, Copy)]
pub struct OptimizerName(&'static OptimizerInfo);

impl OptimizerName {
    /// Everything that it says of itself.
    pub fn info(self) -> &'static OptimizerInfo {
        self.0
    }

    /// The command line's name.
    pub fn as_str(self) -> &'static str {
        self.0.name
    }

    /// The name in tables and figures.
    pub fn title(self) -> &'static str {
        self.0.title
    }

    /// Whether this is one of the damped curvature rules, which have a damping and an averaging.
    pub fn has_damping(self) -> bool {
        self.0.has_damping
    }

    /// Whether its curvature comes from sampled labels.
    pub fn samples_labels(self) -> bool {
        self.option("mc_samples").is_some()
    }

    /// Its options: its own, and those that all optimizers have.
    pub fn options(self) -> impl Iterator<Item = &'static OptionInfo> {
        self.0.options.iter().chain(&clip::COMMON)
    }

    /// Its option of this key.
    pub fn option(self, key: &str) -> Option<&'static OptionInfo> {
        self.options().find(|option| option.key == key)
    }
}

impl From<&'static OptimizerInfo> for OptimizerName {
    /// That of an optimizer, in the registry or not.
    fn from(info: &'static OptimizerInfo) -> Self {
        OptimizerName(info)
    }
}

impl PartialEq for OptimizerName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for OptimizerName {}

impl Hash for OptimizerName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl fmt::Debug for OptimizerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OptimizerName").field(&self.0.name).finish()
    }
}

impl fmt::Display for OptimizerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for OptimizerName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
