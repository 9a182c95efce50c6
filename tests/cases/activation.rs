//! The activations as the cases name them.

use backpack_run::backpack::layers::{
    Activation, Elu, Gelu, GeluApproximation, Identity, Layer, LeakyRelu, LogSigmoid, Relu, Selu, Sigmoid, Silu, Tanh,
};

/// An activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ActivationKind {
    Relu,
    LeakyRelu { negative_slope: f64 },
    Elu { alpha: f64 },
    Selu,
    Sigmoid,
    Tanh,
    LogSigmoid,
    Gelu,
    TanhGelu,
    Silu,
    Identity,
}

impl ActivationKind {
    pub fn layer(self) -> Box<dyn Layer> {
        match self {
            ActivationKind::Relu => Box::new(Activation::new(Relu {})),
            ActivationKind::LeakyRelu { negative_slope } => Box::new(Activation::new(LeakyRelu { negative_slope })),
            ActivationKind::Elu { alpha } => Box::new(Activation::new(Elu { alpha })),
            ActivationKind::Selu => Box::new(Activation::new(Selu {})),
            ActivationKind::Sigmoid => Box::new(Activation::new(Sigmoid {})),
            ActivationKind::Tanh => Box::new(Activation::new(Tanh {})),
            ActivationKind::LogSigmoid => Box::new(Activation::new(LogSigmoid {})),
            ActivationKind::Gelu => Box::new(Activation::new(Gelu { approximate: GeluApproximation::None })),
            ActivationKind::TanhGelu => Box::new(Activation::new(Gelu { approximate: GeluApproximation::Tanh })),
            ActivationKind::Silu => Box::new(Activation::new(Silu {})),
            ActivationKind::Identity => Box::new(Activation::new(Identity {})),
        }
    }
}
