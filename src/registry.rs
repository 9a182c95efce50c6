//! What a program knows by name: problems, data sets, layer types, quantities and optimizers. Those of this package are
//! entered like any other.

use std::sync::Arc;

use crate::backpack::layers::{self, LAYER_TYPES, LayerEntry, LayerType};
use crate::backpack::quantities::{self, Quantity};
use crate::config::name::{FOLDER_NAME, is_folder_name};
use crate::error::{Error, Result};
use crate::optimizers::{self, COMMON_OPTIONS, OptimizerInfo};
use crate::problems::data::{self, NamedSet};
use crate::problems::definition::{self, NamedProblem};
use crate::study::experiment::reserved_keys;

/// What a program knows by name. What is of your own is entered beside what is built in, and is then like that for
/// problem files, experiment files, flags, checks, benchmarks and reports:
///
/// ```
/// use backpack_run::Registry;
///
/// const PROBLEM: &str = r#"
/// name = "tiny"
/// dataset = { synthetic = { shape = [5], classes = 3, train = 96, test = 32, seed = 0 } }
/// loss = "cross_entropy"
/// layers = [{ type = "linear", out_features = 3 }]
/// "#;
///
/// # fn main() -> backpack_run::Result<()> {
/// Registry::new().problem("tiny", PROBLEM).install()?;
/// assert_eq!(backpack_run::problems::definition::load("tiny")?.name, "tiny");
/// # Ok(())
/// # }
/// ```
///
/// What cannot be entered is told by [`Self::install`], or by the program ([`crate::program`]).
#[derive(Debug)]
pub struct Registry {
    problems: Vec<NamedProblem>,
    data_sets: Vec<&'static dyn NamedSet>,
    layers: Vec<&'static LayerEntry>,
    quantities: Vec<Arc<dyn Quantity>>,
    optimizers: Vec<&'static OptimizerInfo>,
    defects: Vec<String>,
}

impl Default for Registry {
    /// As [`Registry::new`].
    fn default() -> Self {
        Registry::new()
    }
}

impl Registry {
    /// All that is built in.
    pub fn new() -> Self {
        let mut registry = Registry {
            problems: Vec::new(),
            data_sets: Vec::new(),
            layers: Vec::new(),
            quantities: Vec::new(),
            optimizers: Vec::new(),
            defects: Vec::new(),
        };
        for entry in LAYER_TYPES.iter() {
            registry.enter_layer(entry);
        }
        for quantity in quantities::built_in() {
            registry.enter_quantity(quantity);
        }
        for set in data::built_in() {
            registry.enter_data_set(set);
        }
        let registry = optimizers::BUILT_IN.into_iter().fold(registry, Registry::optimizer);
        definition::BUILT_IN.iter().fold(registry, |registry, problem| registry.problem(problem.name, problem.text))
    }

    /// Enters a problem: its name, and the text of its problem file (`include_str!("net.toml")`).
    pub fn problem(mut self, name: &'static str, text: &'static str) -> Self {
        if self.is_free("problem", name, self.problems.iter().any(|problem| problem.name == name)) {
            self.problems.push(NamedProblem { name, text });
        }
        self
    }

    /// Enters a data set, which problem files call by its name.
    pub fn data_set(mut self, set: impl NamedSet + 'static) -> Self {
        // Entries live as long as the program.
        self.enter_data_set(Box::leak(Box::new(set)));
        self
    }

    fn enter_data_set(&mut self, set: &'static dyn NamedSet) {
        let name = set.name();
        if self.is_free("data set", name, self.data_sets.iter().any(|other| other.name() == name)) {
            self.data_sets.push(set);
        }
    }

    /// Enters a layer type.
    pub fn layer<T: LayerType>(mut self) -> Self {
        self.enter_layer(Box::leak(Box::new(LayerEntry::of::<T>())));
        self
    }

    fn enter_layer(&mut self, entry: &'static LayerEntry) {
        if self.is_free("layer type", entry.name, self.layers.iter().any(|other| other.name == entry.name)) {
            self.layers.push(entry);
        }
    }

    /// Enters a quantity.
    pub fn quantity(mut self, quantity: impl Quantity + 'static) -> Self {
        self.enter_quantity(Arc::new(quantity));
        self
    }

    fn enter_quantity(&mut self, quantity: Arc<dyn Quantity>) {
        let name = quantity.name();
        if self.is_free("quantity", name, self.quantities.iter().any(|other| other.name() == name)) {
            self.quantities.push(quantity);
        }
    }

    /// Enters an optimizer.
    pub fn optimizer(mut self, info: &'static OptimizerInfo) -> Self {
        let OptimizerInfo { name, title, options, .. } = *info;
        let is_taken = self.optimizers.iter().any(|other| other.name == name || other.title == title);
        if !self.is_free("optimizer", name, is_taken) {
            return self;
        }
        let reserved = reserved_keys();
        for option in options {
            let key = option.key;
            if reserved.contains(&key) || COMMON_OPTIONS.iter().any(|common| common.key == key) {
                self.defects
                    .push(format!("optimizer `{name}`: the key `{key}` has a meaning of its own in experiments"));
            }
            // `--set` and the top of an experiment file know no optimizer.
            let others = self.optimizers.iter().flat_map(|other| other.options);
            if let Some(other) = others.into_iter().find(|other| other.key == key && !other.is_like(option)) {
                self.defects.push(format!(
                    "optimizer `{name}`: `{key}` is an option of other optimizers and there {}; give it the same values or \
                     another key",
                    other.values
                ));
            }
        }
        self.optimizers.push(info);
        self
    }

    /// Whether a name can be entered; where not, it is kept for [`Self::install`] to tell.
    fn is_free(&mut self, what: &str, name: &str, is_taken: bool) -> bool {
        if is_taken {
            self.defects.push(format!("there is a {what} `{name}` already; give yours another name"));
        } else if !is_folder_name(name) {
            self.defects.push(format!("{what} `{}`: expected {FOLDER_NAME}", name.escape_debug()));
        } else {
            return true;
        }
        false
    }

    /// Makes this what the process knows, in place of what it knew. [`crate::program`] does this by itself.
    ///
    /// # Errors
    /// [`Error::Usage`] for names that are taken or impossible, and options that clash with others; [`Error::Config`] for
    /// a problem of one's own that is none.
    pub fn install(self) -> Result<()> {
        if !self.defects.is_empty() {
            return Err(Error::Usage(self.defects.join("\n")));
        }
        let own: Vec<&str> =
            self.problems.iter().skip(definition::BUILT_IN.len()).map(|problem| problem.name).collect();
        layers::replace_layer_types(self.layers);
        quantities::replace(self.quantities);
        optimizers::replace(self.optimizers);
        data::replace(self.data_sets);
        definition::replace(self.problems);
        for problem in own {
            let read = definition::load(problem)?;
            if read.name != problem {
                return Err(Error::Usage(format!(
                    "problem `{problem}` is called `{}` in its file; give both the same name",
                    read.name
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpack::Network;
    use crate::backpack::layers::Relu;
    use crate::optimizers::{Hyperparameters, Optimizer, OptionInfo, OptionKind, OptionValue, Sgd};

    fn build(hyperparameters: &Hyperparameters, _: &Network) -> Result<Box<dyn Optimizer>> {
        Ok(Box::new(Sgd::new(hyperparameters)?))
    }

    const fn option(key: &'static str) -> OptionInfo {
        OptionInfo::new(key, OptionKind::Flag, "true, false", || OptionValue::Flag(false), "nothing")
    }

    #[test]
    fn everything_built_in_can_be_entered() {
        assert_eq!(Registry::new().defects, Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_entered_is_told_together() {
        static TAKEN: OptimizerInfo = OptimizerInfo::new("sgd", "SGD II", "", build);
        static CLASHES: OptimizerInfo = OptimizerInfo::new("own", "Own", "", build).options(&[
            option("epochs"),
            option("momentum"),
            option("nesterov"),
            option("of_its_own"),
        ]);
        static NO_FOLDER: OptimizerInfo = OptimizerInfo::new("a/b", "A/B", "", build);
        let registry = Registry::new().layer::<Relu>().optimizer(&TAKEN).optimizer(&CLASHES).optimizer(&NO_FOLDER);
        let text = registry.problem("mnist_mlp", "").install().unwrap_err().to_string();
        let parts = [
            "layer type `relu` already",
            "optimizer `sgd` already",
            "the key `epochs`",
            "`momentum` is an option of other optimizers and there a number",
            "optimizer `a/b`: expected a name",
            "problem `mnist_mlp` already",
        ];
        assert_eq!(text.lines().count(), parts.len(), "{text}");
        for part in parts {
            assert!(text.contains(part), "{text}");
        }
    }
}
