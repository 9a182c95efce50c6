//! The problems that are part of the program, one TOML file each in `definitions/`.

use super::ProblemDefinition;
use super::load::parse;
use crate::config::Source;
use crate::error::Result;

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        const NAMES: &[&str] = &[$($name),*];
        const TEXTS: &[&str] = &[$(include_str!(concat!("../definitions/", $name, ".toml"))),*];
    };
}

built_in![
    "mnist_logreg",
    "mnist_mlp",
    "mnist_2c2d",
    "fmnist_logreg",
    "fmnist_mlp",
    "fmnist_2c2d",
    "cifar10_3c3d",
    "cifar10_3c3d_sigmoid",
    "cifar100_3c3d",
    "cifar100_allcnnc",
    "svhn_3c3d",
    "cifar10_resnet20",
    "cifar10_vit",
    "text_gpt",
    "text_lstm",
    "mnist_autoencoder",
    "fmnist_autoencoder",
];

/// The names of the built-in problems.
pub fn built_in_names() -> &'static [&'static str] {
    NAMES
}

/// The built-in problem of this name, if there is one.
pub fn built_in(name: &str) -> Option<Result<ProblemDefinition>> {
    let index = NAMES.iter().position(|known| *known == name)?;
    Some(parse(&Source::built_in(&format!("{name}.toml (built in)"), TEXTS[index])))
}
