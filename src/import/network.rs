//! The layers of a problem file in the making: types, options, inputs, names, and which tensors are their parameters.

use std::collections::{HashMap, HashSet};

use toml::Value as Toml;

use super::graph::{Call, Said, refuse};

/// What a layer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feed {
    /// What arrives at the network.
    Input,
    /// The output of a layer, by its place.
    Layer(usize),
}

/// A tensor of a layer.
#[derive(Clone, Debug)]
pub struct Holding {
    /// Its name in the layer: weight, bias, running_mean.
    pub local: String,
    /// Its name in the archive.
    pub source: String,
    /// Whether it is trained.
    pub parameter: bool,
}

/// A layer.
#[derive(Clone, Debug)]
pub struct Layer {
    pub kind: &'static str,
    pub name: String,
    pub options: Vec<(&'static str, Toml)>,
    pub inputs: Vec<Feed>,
    pub holdings: Vec<Holding>,
    /// The earlier layer whose weight it uses.
    pub tied: Option<usize>,
    /// The shape of its output behind the samples.
    pub shape: Vec<i64>,
}

/// The layers so far.
#[derive(Default)]
pub struct Network {
    pub layers: Vec<Layer>,
    names: HashSet<String>,
    /// The layer that has each parameter.
    owners: HashMap<String, usize>,
}

/// A layer to be added.
pub struct NewLayer {
    pub kind: &'static str,
    pub options: Vec<(&'static str, Toml)>,
    pub inputs: Vec<Feed>,
    pub shape: Vec<i64>,
}

impl NewLayer {
    /// A layer of one input.
    pub fn new(kind: &'static str, input: Feed, shape: Vec<i64>) -> Self {
        NewLayer { kind, options: Vec::new(), inputs: vec![input], shape }
    }

    /// With an option.
    pub fn with(mut self, key: &'static str, value: impl Into<Toml>) -> Self {
        self.options.push((key, value.into()));
        self
    }

    /// With an option where it is not at its default.
    pub fn with_unless<T: PartialEq + Into<Toml>>(self, key: &'static str, value: T, default: T) -> Self {
        if value == default { self } else { self.with(key, value) }
    }
}

impl Network {
    /// Adds a layer without parameters, called after the module that `call` stands in.
    pub fn add(&mut self, new: NewLayer, call: &Call) -> Feed {
        let name = self.free_name(&module_name(call, new.kind));
        self.push(new, name, Vec::new(), None)
    }

    /// Adds a layer with parameters and buffers, called after the first of them. One parameter of two layers is tied where
    /// it is a linear layer's weight.
    ///
    /// # Errors
    /// For a parameter that two layers would have otherwise, or whose name cannot be written.
    pub fn add_with(&mut self, new: NewLayer, mut holdings: Vec<Holding>, call: &Call) -> Said<Feed> {
        let mut tied = None;
        for holding in holdings.iter().filter(|holding| holding.parameter) {
            let Some(&owner) = self.owners.get(&holding.source) else { continue };
            let both = [self.layers[owner].kind, new.kind];
            let weight = holding.local == "weight" && both[1] == "linear" && ["linear", "embedding"].contains(&both[0]);
            let own =
                self.layers[owner].holdings.iter().any(|own| own.source == holding.source && own.local == "weight");
            if !(weight && own) {
                return refuse(
                    format!("the parameter `{}` is used by layer {} already", holding.source, self.layers[owner].name),
                    "use a parameter once; only the weight of a linear layer may be that of an earlier embedding or linear",
                );
            }
            tied = Some(owner);
        }
        let called = holdings.first().map_or_else(|| module_name(call, new.kind), |first| layer_name(first, new.kind));
        if tied.is_some() {
            holdings.retain(|holding| holding.local != "weight");
        }
        let called = if tied.is_some() { module_name(call, new.kind) } else { called };
        for holding in &holdings {
            if !is_name(&holding.source) && holding.parameter {
                return refuse(
                    format!(
                        "the name of the parameter `{}` cannot be written in a problem file",
                        holding.source.escape_debug()
                    ),
                    "rename its module: names are letters, digits and _ with dots between them, not `input` or `previous`",
                );
            }
        }
        let name = self.free_name(&called);
        let place = self.layers.len();
        for holding in holdings.iter().filter(|holding| holding.parameter) {
            self.owners.insert(holding.source.clone(), place);
        }
        Ok(self.push(new, name, holdings, tied))
    }

    fn push(&mut self, new: NewLayer, name: String, holdings: Vec<Holding>, tied: Option<usize>) -> Feed {
        let NewLayer { kind, options, inputs, shape } = new;
        self.layers.push(Layer { kind, name, options, inputs, holdings, tied, shape });
        Feed::Layer(self.layers.len() - 1)
    }

    /// The layer whose output this is.
    pub fn layer(&self, feed: Feed) -> Option<&Layer> {
        match feed {
            Feed::Input => None,
            Feed::Layer(place) => self.layers.get(place),
        }
    }

    /// A name that no layer has yet.
    fn free_name(&mut self, wanted: &str) -> String {
        let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
        let parts =
            wanted.split('.').filter(|part| !part.is_empty()).map(|part| part.chars().map(letter).collect::<String>());
        let mut wanted = parts.collect::<Vec<_>>().join(".");
        if wanted.is_empty() || ["input", "previous"].contains(&wanted.as_str()) {
            wanted.push('_');
        }
        let name = std::iter::once(wanted.clone())
            .chain((1..).map(|number| format!("{wanted}_{number}")))
            .find(|name| !self.names.contains(name))
            .unwrap_or(wanted);
        self.names.insert(name.clone());
        name
    }
}

/// Whether a problem file takes this as the name of a parameter.
fn is_name(name: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    name.split('.').all(plain) && !["input", "previous"].contains(&name)
}

/// What a layer is called after its first parameter: "conv1" for conv1.weight, "attn.in_proj" for attn.in_proj_weight.
fn layer_name(first: &Holding, kind: &str) -> String {
    let stem = first.source.strip_suffix(first.local.as_str());
    match stem.and_then(|stem| stem.strip_suffix(['.', '_'])) {
        Some(stem) if !stem.is_empty() && !stem.ends_with('.') => stem.to_owned(),
        _ if first.source == first.local => kind.to_owned(),
        _ => first.source.clone(),
    }
}

/// What a layer without parameters is called: after its module where the module is that layer, else the module and the
/// layer's type.
fn module_name(call: &Call, kind: &str) -> String {
    const SINGLE: [&str; 6] = ["activation", "dropout", "flatten", "pooling", "linear", "padding"];
    let Some((path, class)) = call.modules.last() else { return kind.to_owned() };
    let inside = class.strip_prefix("torch.nn.modules.").unwrap_or_default();
    let single = inside.split('.').next().is_some_and(|file| SINGLE.contains(&file));
    match path.as_str() {
        "" => kind.to_owned(),
        path if single && !inside.ends_with("MultiheadAttention") => path.to_owned(),
        path => format!("{path}.{kind}"),
    }
}
