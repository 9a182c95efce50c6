//! An optimizer, what it is made from, and what it says of itself: the entry by which flags, files, tables, figures,
//! estimates and a run's identity go.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize, Serializer};
use tch::Tensor;

use super::averaging::Averaging;
use super::clock::StepClock;
use super::measure::Measure;
use super::options::{COMMON, OptionInfo, OptionValue, Options, RETIRED};
use super::schedule::Schedule;
use crate::backpack::quantities::Source;
use crate::backpack::request::DEFAULT_CHUNK_BYTES;
use crate::backpack::{Network, Quantities, Request};
use crate::error::{Error, Result};
use crate::numbers;

/// What an optimizer is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// Which optimizer.
    pub name: OptimizerName,
    /// The step size (the paper's alpha).
    pub learning_rate: f64,
    /// The damping (the paper's lambda) of the curvature rules.
    pub damping: f64,
    /// How curvature is averaged over steps.
    pub averaging: Averaging,
    /// Whether KFRA averages the output factors of linear layers with a bias twice a step, as the runs behind the
    /// paper's Fig. 10 did.
    pub kfra_aliasing: bool,
    /// The factor of the squared weights' half sum that is added to the loss; biases are free of it.
    pub l2: f64,
    /// How many labels are drawn for each sample where the curvature is sampled.
    pub mc_samples: i64,
    /// How many bytes of back-propagated vectors may be held at a time.
    pub chunk_bytes: u64,
    /// Its other options.
    pub options: Options,
}

/// One of [`Hyperparameters::options`]; that an optimizer asks for one that its entry in the registry does not list, or for
/// another kind, is a defect of its code.
impl Hyperparameters {
    /// The value of a number.
    pub fn number(&self, key: &str) -> f64 {
        match self.option(key) {
            OptionValue::Number(number) => number,
            value => self.other_kind(key, &value),
        }
    }

    /// The value of a number that may be left out.
    pub fn number_or_none(&self, key: &str) -> Option<f64> {
        match self.option(key) {
            OptionValue::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The value of a count.
    pub fn count(&self, key: &str) -> u64 {
        match self.option(key) {
            OptionValue::Count(count) => count,
            value => self.other_kind(key, &value),
        }
    }

    /// The value of a flag.
    pub fn flag(&self, key: &str) -> bool {
        match self.option(key) {
            OptionValue::Flag(flag) => flag,
            value => self.other_kind(key, &value),
        }
    }

    /// The value of a choice.
    pub fn text(&self, key: &str) -> String {
        match self.option(key) {
            OptionValue::Text(text) => text,
            value => self.other_kind(key, &value),
        }
    }

    /// The value of a list of `N` numbers.
    pub fn numbers<const N: usize>(&self, key: &str) -> [f64; N] {
        match self.option(key) {
            OptionValue::Numbers(numbers) => {
                numbers.try_into().unwrap_or_else(|numbers| self.other_kind(key, &OptionValue::Numbers(numbers)))
            }
            value => self.other_kind(key, &value),
        }
    }

    /// The schedule of its learning rate.
    pub fn schedule(&self) -> Schedule {
        match self.option("schedule") {
            OptionValue::Schedule(schedule) => schedule,
            value => self.other_kind("schedule", &value),
        }
    }

    fn option(&self, key: &str) -> OptionValue {
        self.options.get(self.name, key)
    }

    fn other_kind(&self, key: &str, value: &OptionValue) -> ! {
        panic!("{}: the option `{key}` is of another kind than `{value}`", self.name)
    }
}

impl Hyperparameters {
    /// The optimizer with this learning rate, a damping of 0.01 where it has one, and everything else at its default.
    pub fn new(name: OptimizerName, learning_rate: f64) -> Self {
        Hyperparameters {
            name,
            learning_rate,
            damping: 0.01,
            averaging: Averaging::default(),
            kfra_aliasing: false,
            l2: 0.0,
            mc_samples: 1,
            chunk_bytes: DEFAULT_CHUNK_BYTES,
            options: Options::default(),
        }
    }
}

/// What happened in a step beside the step itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// How many times a curvature could not be used as it was, and a fallback was taken.
    pub failed_inverses: u64,
}

/// Turns what an extended backward pass tells into steps.
///
/// What an optimizer owes:
/// - **l2**: a problem's l2 is part of its loss. l2 times the weights (never the biases) belongs to the gradient, before
///   anything is made of it; a decay of the optimizer's own is an option beside it.
/// - **the options of all optimizers**: the learning rate changes from step to step under a schedule
///   ([`Self::set_learning_rate`]), and `clip_norm` limits the norm of all gradients together, l2 included.
/// - **state**: everything that a later step depends on, in the form in which a checkpoint brings it back, so that a run
///   that went on from one ends with the same bytes; random numbers come from `random::stream` alone.
/// - **memory**: [`OptimizerInfo::memory()`] bounds what it holds beside a few copies of the parameters, since workers are
///   started by it.
pub trait Optimizer: Send {
    /// What it wants of every pass.
    fn request(&self) -> &Request;

    /// Says the learning rate of the next steps, where that is another than it was made with.
    fn set_learning_rate(&mut self, learning_rate: f64);

    /// Changes the network's parameters in place, and perhaps the quantities, which are its own from here on. An
    /// optimizer with parts of its own calls [`StepClock::lap`] behind each; what it leaves uncounted, `bench` counts as
    /// the update.
    ///
    /// # Errors
    /// When a quantity it asked for is missing, or libtorch refuses an operation.
    fn step(&mut self, network: &mut Network, quantities: &mut Quantities, clock: &mut StepClock)
    -> Result<StepReport>;

    /// Everything that a later step depends on, by name; values are restored bit by bit.
    fn state(&self) -> Vec<(String, Tensor)>;

    /// Takes the state of [`Self::state`] back.
    ///
    /// # Errors
    /// [`Error::Environment`] when something is missing.
    fn load_state(&mut self, state: BTreeMap<String, Tensor>) -> Result<()>;

    /// The damping of the next step where its reduction ratio is wanted (see [`Self::take_reduction_ratio`]).
    fn wants_reduction_ratio(&self) -> Option<f64> {
        None
    }

    /// Learns how the last step's change of the mini-batch's loss compares with that of the quadratic model of the
    /// damped generalised Gauss-Newton matrix; NaN where the loss was not finite.
    fn take_reduction_ratio(&mut self, _ratio: f64) {}

    /// What it can tell of its curvature as the last step used it.
    ///
    /// # Errors
    /// What libtorch says.
    fn measures(&self, _network: &Network) -> Result<Vec<Measure>> {
        Ok(Vec::new())
    }
}

impl fmt::Debug for dyn Optimizer + '_ {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_tuple("Optimizer").field(self.request()).finish()
    }
}

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
        self.0.options.iter().chain(&COMMON)
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

impl Options {
    /// These values of an optimizer's options.
    ///
    /// # Errors
    /// [`Error::Usage`] where it has no such option, or the option no such value.
    pub fn new<'a>(name: OptimizerName, values: impl IntoIterator<Item = (&'a str, OptionValue)>) -> Result<Self> {
        let values: Vec<(&str, OptionValue)> = values.into_iter().collect();
        for (key, value) in &values {
            match name.option(key) {
                Some(info) => info.check(value)?,
                None => {
                    let retired = RETIRED.iter().find(|(retired, _)| retired == key);
                    let instead = retired.map_or("leave it out", |(_, instead)| instead);
                    return Err(Error::Usage(format!("{name} has no option `{key}`: {instead}")));
                }
            }
        }
        Ok(Options::changed_of(name, values))
    }

    /// The same of values that were checked before.
    pub(crate) fn changed_of<'a>(
        name: OptimizerName,
        values: impl IntoIterator<Item = (&'a str, OptionValue)>,
    ) -> Self {
        let changed =
            |(key, value): &(&str, OptionValue)| name.option(key).is_some_and(|info| *value != (info.default)());
        Options(values.into_iter().filter(changed).map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// The value of one of an optimizer's options.
    ///
    /// # Panics
    /// Where the optimizer has no such option, which is a defect of its code.
    pub fn get(&self, name: OptimizerName, key: &str) -> OptionValue {
        let own = self.0.get(key).cloned();
        own.or_else(|| name.option(key).map(|info| (info.default)()))
            .unwrap_or_else(|| panic!("{name} reads an option `{key}` that its entry in the registry does not list"))
    }

    /// Refuses values that are out of range, however they came here.
    pub(super) fn check(&self, name: OptimizerName) -> Result<()> {
        Options::new(name, self.changed().map(|(key, value)| (key, value.clone()))).map(|_| ())
    }
}
