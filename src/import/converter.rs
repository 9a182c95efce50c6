//! The walk through the calls of an exported program: what is known so far, and how a call reads its arguments and adds
//! layers; and what the program's names stand for.

use std::collections::HashMap;

use tch::Tensor;

use super::archive::Tensors;
use super::graph::{Call, DAMAGED, Program, Refusal, Said, refuse};
use super::layout::{Atoms, Axis, Layout};
use super::network::{Feed, Network, NewLayer};
use super::schema::{Argument, SymFloat, SymInt, Symbol};

/// What a call gives, output by output; nothing where a family does not know the operation.
pub type Given = Said<Option<Vec<Value>>>;

/// The walk through the calls.
pub struct Converter<'a> {
    pub program: &'a Program,
    pub tensors: &'a Tensors,
    pub values: HashMap<String, Value>,
    pub network: Network,
    pub atoms: Atoms,
    /// What the user should know.
    pub notes: Vec<String>,
    /// The rows of the embedding that takes the batch.
    pub integers: Option<i64>,
    /// Whether the batch came as integers, and is not turned into floats.
    pub integer_input: bool,
    /// The call under way, by its place.
    pub place: usize,
    /// Layers without parameters that only move entries, so that each is written once.
    pub(super) moves: HashMap<(Feed, &'static str, String), Feed>,
}

/// Whether a type is one of floats.
pub fn is_float(kind: tch::Kind) -> bool {
    matches!(kind, tch::Kind::Half | tch::Kind::BFloat16 | tch::Kind::Float | tch::Kind::Double)
}

impl Converter<'_> {
    /// The sizes of a value in the example, as the graph says.
    pub fn example_sizes(&self, name: &str) -> Option<Vec<i64>> {
        self.program.metas.get(name)?.sizes.iter().map(SymInt::value).collect()
    }

    /// What an argument stands for.
    ///
    /// # Errors
    /// Where there is none, or it is a value that no layer gives.
    pub fn value(&self, call: &Call, argument: &str) -> Said<&Value> {
        self.optional(call, argument)?
            .ok_or_else(|| Refusal { why: format!("`{argument}` is missing"), instead: DAMAGED.into() })
    }

    /// What an argument that may be None stands for.
    ///
    /// # Errors
    /// For a value that no layer gives.
    pub fn optional(&self, call: &Call, argument: &str) -> Said<Option<&Value>> {
        use super::schema::OptionalTensor;
        let name = match call.argument(argument) {
            Some(Argument::AsTensor(name) | Argument::AsOptionalTensor(OptionalTensor::AsTensor(name))) => &name.name,
            None | Some(Argument::AsOptionalTensor(OptionalTensor::AsNone(_))) => return Ok(None),
            Some(_) => return refuse(format!("`{argument}` is no tensor"), "use a tensor there"),
        };
        self.named(name).map(Some)
    }

    /// What a name stands for.
    ///
    /// # Errors
    /// For a value that no layer gives.
    pub fn named(&self, name: &str) -> Said<&Value> {
        match self.values.get(name) {
            Some(Value::Unsaid { why, instead }) => refuse(*why, *instead),
            Some(value) => Ok(value),
            None => refuse(format!("the value `{name}` is not known"), DAMAGED),
        }
    }

    /// The values of an argument that is a list of tensors, by their names.
    ///
    /// # Errors
    /// Where it is none.
    pub fn list(&self, call: &Call, argument: &str) -> Said<Vec<String>> {
        match call.argument(argument) {
            Some(Argument::AsTensors(names)) => Ok(names.iter().map(|name| name.name.clone()).collect()),
            _ => refuse(format!("`{argument}` is no list of tensors"), DAMAGED),
        }
    }

    /// An argument that depends on the batch.
    ///
    /// # Errors
    /// For any other value.
    pub fn activation(&self, call: &Call, argument: &str) -> Said<Activation> {
        activation_of(self.value(call, argument)?)
    }

    /// A whole number; `default` where it is not given.
    ///
    /// # Errors
    /// For another value, and for one that comes from the number of samples.
    pub fn int(&self, call: &Call, argument: &str, default: i64) -> Said<i64> {
        match call.argument(argument) {
            None => Ok(default),
            Some(Argument::AsInt(value)) => Ok(*value),
            Some(Argument::AsSymInt(symbol)) => self.symbol(symbol, false),
            Some(_) => refuse(format!("`{argument}` is no whole number"), DAMAGED),
        }
    }

    /// Whole numbers; nothing where they are not given.
    ///
    /// # Errors
    /// For another value.
    pub fn ints(&self, call: &Call, argument: &str) -> Said<Option<Vec<i64>>> {
        match call.argument(argument) {
            None => Ok(None),
            Some(Argument::AsInts(values)) => Ok(Some(values.clone())),
            Some(Argument::AsInt(value)) => Ok(Some(vec![*value])),
            Some(Argument::AsSymInts(symbols)) => {
                symbols.iter().map(|symbol| self.symbol(symbol, true)).collect::<Said<_>>().map(Some)
            }
            // An empty list is written as one of tensors.
            Some(Argument::AsTensors(names)) if names.is_empty() => Ok(Some(Vec::new())),
            Some(_) => refuse(format!("`{argument}` is no list of whole numbers"), DAMAGED),
        }
    }

    /// A size in the example; that of the samples only where it names an axis.
    fn symbol(&self, symbol: &Symbol, names_axis: bool) -> Said<i64> {
        match symbol {
            Symbol::AsInt(value) => Ok(*value),
            Symbol::AsName(name) => match self.values.get(name) {
                Some(Value::Size { of_batch: true, .. }) if !names_axis => refuse(
                    "it computes with the number of samples",
                    "a problem's network does the same to every sample, whatever their number",
                ),
                Some(Value::Size { value, .. }) => Ok(*value),
                _ => refuse(format!("the size `{name}` is not known"), DAMAGED),
            },
        }
    }

    /// A number; nothing where it is not given or a tensor.
    ///
    /// # Errors
    /// For one that comes from the number of samples.
    pub fn number(&self, call: &Call, argument: &str) -> Said<Option<f64>> {
        match call.argument(argument) {
            Some(Argument::AsFloat(value)) => Ok(Some(*value)),
            Some(Argument::AsInt(value)) => Ok(Some(*value as f64)),
            Some(Argument::AsBool(value)) => Ok(Some(f64::from(u8::from(*value)))),
            Some(Argument::AsSymInt(symbol)) => self.symbol(symbol, false).map(|value| Some(value as f64)),
            Some(Argument::AsSymFloat(SymFloat::AsFloat(value))) => Ok(Some(*value)),
            Some(Argument::AsSymFloat(SymFloat::AsName(name))) => match self.named(name)? {
                Value::Number(value) => Ok(Some(*value)),
                _ => refuse(format!("the number `{name}` is not known"), DAMAGED),
            },
            _ => Ok(None),
        }
    }

    /// Whether a flag is set.
    pub fn flag(&self, call: &Call, argument: &str, default: bool) -> bool {
        match call.argument(argument) {
            Some(Argument::AsBool(value)) => *value,
            Some(Argument::AsInt(value)) => *value != 0,
            _ => default,
        }
    }

    /// An activation that a layer has given.
    pub fn given(&self, feed: Feed, layout: Layout) -> Vec<Value> {
        vec![Value::Activation(Activation { feed, layout, shaped_by: self.place })]
    }

    /// Adds a layer of one input, called after the call under way.
    pub fn add(&mut self, new: NewLayer) -> Feed {
        let call = &self.program.calls[self.place];
        self.network.add(new, call)
    }

    /// A layer that keeps every entry's place.
    pub fn pointwise(
        &mut self,
        x: Activation,
        kind: &'static str,
        options: Vec<(&'static str, toml::Value)>,
    ) -> Vec<Value> {
        let mut new = NewLayer::new(kind, x.feed, x.layout.shape());
        new.options = options;
        let feed = self.add(new);
        self.given(feed, x.layout)
    }

    /// Lays a value's axes as `target`, by reshape and permute layers where they are not so already.
    ///
    /// # Errors
    /// Where these are not the value's axes.
    pub fn lay(&mut self, x: &Activation, target: &[Axis]) -> Said<Feed> {
        let axes = &x.layout.axes;
        if axes == target {
            return Ok(x.feed);
        }
        let (from, to) = (axes.concat(), target.concat());
        let place = |axis: &Axis, flat: &Axis| flat.iter().position(|own| own == &axis[0]);
        if from.len() != to.len() || to.iter().any(|atom| !from.contains(atom)) || to.iter().any(|atom| atom.is_batch())
        {
            return refuse(
                "the samples are merged with another axis",
                "keep the samples in an axis of their own there",
            );
        }
        let shape = |axes: &[Axis]| axes.iter().map(|axis| super::layout::size(axis)).collect::<Vec<_>>();
        let call = &self.program.calls[x.shaped_by.min(self.program.calls.len() - 1)];
        if from == to {
            return Ok(self.reshape(x.feed, &shape(axes), &shape(target), call));
        }
        // Parts that no axis of either side cuts.
        let mut parts: Vec<Axis> = Vec::new();
        for axis in axes {
            let mut part: Axis = Vec::new();
            for &atom in axis {
                let joined = part
                    .last()
                    .is_some_and(|&last| target.iter().any(|t| t.windows(2).any(|pair| pair == [last, atom])));
                if !joined && !part.is_empty() {
                    parts.push(std::mem::take(&mut part));
                }
                part.push(atom);
            }
            if !part.is_empty() {
                parts.push(part);
            }
        }
        let feed = self.reshape(x.feed, &shape(axes), &shape(&parts), call);
        let mut order: Vec<usize> = (0..parts.len()).collect();
        order.sort_by_key(|&part| place(&parts[part], &to));
        let permuted: Vec<i64> = order.iter().map(|&part| super::layout::size(&parts[part])).collect();
        let dims: Vec<i64> = std::iter::once(0).chain(order.iter().map(|&part| part as i64 + 1)).collect();
        let feed = self.move_once(NewLayer::new("permute", feed, permuted.clone()).with("dims", dims), call);
        Ok(self.reshape(feed, &permuted, &shape(target), call))
    }

    /// A reshape or flatten layer, where the shapes differ.
    fn reshape(&mut self, feed: Feed, from: &[i64], to: &[i64], call: &Call) -> Feed {
        if from == to {
            return feed;
        }
        let merged = from.len().checked_sub(to.len()).filter(|&more| more > 0 && !to.is_empty()).and_then(|more| {
            (0..to.len()).find(|&first| {
                let last = first + more;
                from[..first] == to[..first]
                    && from[first..=last].iter().product::<i64>() == to[first]
                    && from[last + 1..] == to[first + 1..]
            })
        });
        let new = match merged {
            Some(first) => {
                let last = first + from.len() - to.len() + 1;
                let end = if last == from.len() { -1 } else { last as i64 };
                let new = NewLayer::new("flatten", feed, to.to_vec()).with_unless("start_dim", first as i64 + 1, 1);
                new.with_unless("end_dim", end, -1)
            }
            None => NewLayer::new("reshape", feed, to.to_vec()).with("shape", to.to_vec()),
        };
        self.move_once(new, call)
    }

    /// A layer that only moves entries, or the one that does the same already.
    pub fn move_once(&mut self, new: NewLayer, call: &Call) -> Feed {
        let key = (new.inputs[0], new.kind, format!("{:?}", new.options));
        if let Some(&feed) = self.moves.get(&key) {
            return feed;
        }
        let feed = self.network.add(new, call);
        self.moves.insert(key, feed);
        feed
    }

    /// Lays a value with its samples first and its other dimensions in PyTorch's order.
    ///
    /// # Errors
    /// Where the samples are not the first dimension.
    pub fn lay_as_seen(&mut self, x: &Activation) -> Said<Feed> {
        if x.layout.batch_dim() != Some(0) {
            return refuse(
                format!("the samples are not the first axis of its input {:?}", x.layout.sizes()),
                "give it the samples as the first axis, unmerged",
            );
        }
        self.lay(x, &x.layout.dims[1..])
    }
}

/// Why a product of two values is refused.
pub const NO_PRODUCT: (&str, &str) = (
    "a product of matrices that both depend on the batch, outside of softmax(q k^T) v",
    "problem files know such products as attention alone",
);

/// A value that depends on the batch.
///
/// # Errors
/// For any other.
pub fn activation_of(value: &Value) -> Said<Activation> {
    match value {
        Value::Activation(activation) => Ok(activation.clone()),
        Value::Scores(_) => refuse(NO_PRODUCT.0, NO_PRODUCT.1),
        Value::Parameter(view) => refuse(
            format!("it computes with the parameter `{}` alone", view.name),
            "let every layer take the batch, and use parameters as they are",
        ),
        _ => refuse("it computes with a constant in place of the batch", "let every layer take the batch"),
    }
}

// What a name of the exported program stands for.

/// The value of a name.
#[derive(Debug)]
pub enum Value {
    /// What a layer of the network gives, as PyTorch sees it.
    Activation(Activation),
    /// A parameter, as PyTorch sees it.
    Parameter(ParameterView),
    /// A tensor that depends on neither batch nor parameters.
    Constant(Tensor),
    /// The product of queries and keys, on its way to attention.
    Scores(Box<Scores>),
    /// A number, and whether it comes from the number of samples.
    Size { value: i64, of_batch: bool },
    /// A number that is not whole.
    Number(f64),
    /// What no layer gives; using it is refused with these words.
    Unsaid { why: &'static str, instead: &'static str },
}

/// What a layer of the network gives, or what arrives at it.
#[derive(Clone, Debug)]
pub struct Activation {
    pub feed: Feed,
    pub layout: Layout,
    /// The call that gave it its present shape, after which a layer that lays it so is named.
    pub shaped_by: usize,
}

/// A parameter seen through views. Atoms that are in `layout.dims` alone are expanded.
#[derive(Clone, Debug)]
pub struct ParameterView {
    /// Its name in the model.
    pub name: String,
    /// The axes are its own.
    pub layout: Layout,
}

/// q k^T, times a number, perhaps with the later positions masked and perhaps behind a softmax.
#[derive(Clone, Debug)]
pub struct Scores {
    pub queries: Activation,
    pub keys: Activation,
    pub factor: f64,
    pub causal: bool,
    pub softmax: bool,
    /// The axes before the two of positions.
    pub leading: Vec<Axis>,
}

impl Scores {
    /// The numbers of query and key positions.
    pub fn positions(&self) -> (i64, i64) {
        let second_last = |value: &Activation| {
            let sizes = value.layout.sizes();
            sizes[sizes.len() - 2]
        };
        (second_last(&self.queries), second_last(&self.keys))
    }

    /// The sizes that PyTorch sees.
    pub fn sizes(&self) -> Vec<i64> {
        let (queries, keys) = self.positions();
        let leading = self.leading.iter().map(|axis| super::layout::size(axis));
        leading.chain([queries, keys]).collect()
    }
}

impl Value {
    /// The sizes that PyTorch sees, where it is a tensor.
    pub fn sizes(&self) -> Option<Vec<i64>> {
        match self {
            Value::Activation(value) => Some(value.layout.sizes()),
            Value::Parameter(value) => Some(value.layout.sizes()),
            Value::Constant(tensor) => Some(tensor.size()),
            Value::Scores(scores) => Some(scores.sizes()),
            Value::Size { .. } | Value::Number(_) | Value::Unsaid { .. } => None,
        }
    }
}
