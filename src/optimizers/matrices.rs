//! Parameters as matrices `[out, rest]`, as Muon and Shampoo take them.

use tch::Tensor;

use crate::backpack::network::Node;

/// How a parameter is turned into a matrix and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// No matrix: of one dimension, or none.
    Vector,
    /// Its first dimension counts outputs.
    OutputsFirst,
    /// Its second does, as in transposed convolutions.
    OutputsSecond,
}

impl Form {
    /// That of a parameter of this layer.
    pub fn of(node: &Node, parameter: &Tensor) -> Self {
        match parameter.dim() {
            0 | 1 => Form::Vector,
            _ if node.kind().starts_with("conv_transpose") => Form::OutputsSecond,
            _ => Form::OutputsFirst,
        }
    }

    /// The tensor as `[out, rest]`, contiguous; a vector as `[d, 1]`.
    pub fn matrix(self, tensor: &Tensor) -> Tensor {
        match self {
            Form::Vector => tensor.reshape([-1, 1]),
            Form::OutputsFirst => tensor.flatten(1, -1).contiguous(),
            Form::OutputsSecond => tensor.transpose(0, 1).flatten(1, -1).contiguous(),
        }
    }

    /// A matrix of [`Form::matrix`] in the shape of `like`.
    pub fn back(self, matrix: &Tensor, like: &Tensor) -> Tensor {
        let mut shape = like.size();
        match self {
            Form::Vector | Form::OutputsFirst => matrix.reshape(shape.as_slice()),
            Form::OutputsSecond => {
                shape.swap(0, 1);
                matrix.reshape(shape.as_slice()).transpose(0, 1)
            }
        }
    }
}
