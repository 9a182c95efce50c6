//! What a name of the exported program stands for.

use tch::Tensor;

use super::layout::{Axis, Layout};
use super::network::Feed;

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
