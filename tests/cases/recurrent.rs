//! Cases of recurrent layers, by their options in a problem file and libtorch's own functions.

use super::Case;
use super::activation::ActivationKind::*;
use super::spec::Spec::{self, Averaged, Flat, Permuted, Sliced, Sum, Table, Typed};
use super::spec::linear;
use tch::Tensor;

/// A case: its name, the number of samples, the input's shape, the layers.
macro_rules! case {
    ($name:literal, $samples:literal, [$($size:literal),*], [$($layer:expr),* $(,)?]) => {
        Case::new($name, $samples, &[$($size),*], vec![$($layer.into()),*])
            .refuses(&["diag_hessian", "batch_diag_hessian", "kfra"])
    };
}

fn start(x: &Tensor, p: &[Tensor]) -> Tensor {
    Tensor::zeros([1, x.size()[0], p[1].size()[1]], (x.kind(), x.device()))
}

fn lstm(x: &Tensor, p: &[Tensor]) -> Tensor {
    x.lstm(&[start(x, p), start(x, p)], p, p.len() == 4, 1, 0.0, false, false, true).0
}

fn rnn(x: &Tensor, p: &[Tensor]) -> Tensor {
    x.rnn_tanh(&start(x, p), p, p.len() == 4, 1, 0.0, false, false, true).0
}

fn rnn_relu(x: &Tensor, p: &[Tensor]) -> Tensor {
    x.rnn_relu(&start(x, p), p, p.len() == 4, 1, 0.0, false, false, true).0
}

const RNN: fn(&'static str) -> Spec = |options| Typed("rnn", options, rnn);
const LSTM: fn(&'static str) -> Spec = |options| Typed("lstm", options, lstm);

pub fn recurrent_cases() -> Vec<Case> {
    let relu = |options| Typed("rnn", options, rnn_relu);
    vec![
        case!("rnn", 3, [4, 3], [RNN("hidden_size = 4"), Flat, linear(2)]),
        case!("rnn with relu", 3, [4, 3], [relu("hidden_size = 4, nonlinearity = 'relu'"), Flat, linear(2)]),
        case!("rnn without biases", 2, [3, 2], [RNN("hidden_size = 3, bias = false"), Sliced("1"), linear(3)]),
        case!("rnn, one step", 3, [1, 4], [RNN("hidden_size = 3"), Flat, linear(2)]),
        case!("rnn, many narrow steps", 2, [7, 1], [RNN("hidden_size = 1"), Flat, linear(2)]),
        case!("lstm", 3, [4, 3], [LSTM("hidden_size = 3"), Flat, linear(2)]),
        case!("lstm without biases", 3, [3, 2], [LSTM("hidden_size = 2, bias = false"), Averaged(&[1]), linear(3)]),
        case!("lstm, one step", 2, [1, 3], [LSTM("hidden_size = 2"), Flat, linear(2)]),
        case!("lstm, a batch of one", 1, [5, 2], [LSTM("hidden_size = 2"), Averaged(&[1]), linear(2)]),
        case!("lstm, few wide steps", 2, [2, 5], [LSTM("hidden_size = 5"), Flat, linear(2)]),
        case!("lstm, one unit", 2, [6, 1], [LSTM("hidden_size = 1"), Averaged(&[1]), linear(2)]),
        case!("lstm, saturated", 3, [3, 2], [linear(2), LSTM("hidden_size = 2"), Flat, linear(2)]).gain(12.0),
        case!("two lstm", 2, [3, 2], [LSTM("hidden_size = 3"), LSTM("hidden_size = 2"), Sliced("1"), linear(2)]),
        case!("lstm behind rnn", 2, [3, 3], [linear(2), Sigmoid, RNN("hidden_size = 3"), LSTM("hidden_size = 2"), Averaged(&[1]), linear(3)]),
        case!("rnn behind lstm, residual", 2, [3, 2], [LSTM("hidden_size = 2"), relu("hidden_size = 2, nonlinearity = 'relu'"), Sum(vec![2, 1]), linear(3), Flat, linear(2)]),
        case!("lstm last, with positions", 2, [3, 2], [linear(3), Tanh, LSTM("hidden_size = 2"), Permuted(&[0, 2, 1])]),
        case!("a tagger", 2, [4], [Table(5, 2), LSTM("hidden_size = 2"), linear(3), Permuted(&[0, 2, 1])]),
    ]
}
