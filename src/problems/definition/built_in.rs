//! The problems that problem files and commands call by a name: those of this package, one TOML file each in
//! `definitions/`, and a program's own.

use crate::entries::Entries;

/// A problem and the text of its file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamedProblem {
    pub name: &'static str,
    pub text: &'static str,
}

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        /// The problems of this package.
        pub(crate) const BUILT_IN: &[NamedProblem] =
            &[$(NamedProblem { name: $name, text: include_str!(concat!("../definitions/", $name, ".toml")) }),*];
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

static ENTRIES: Entries<NamedProblem> = Entries::new(|| BUILT_IN.to_vec());

/// Has these problems in place of those that there are.
pub(crate) fn replace(entries: Vec<NamedProblem>) {
    ENTRIES.replace(entries);
}

/// The names of the built-in problems, a program's own last.
pub fn built_in_names() -> Vec<&'static str> {
    ENTRIES.all().into_iter().map(|problem| problem.name).collect()
}

/// The file of the built-in problem of this name, if there is one.
pub(super) fn built_in_text(name: &str) -> Option<&'static str> {
    ENTRIES.find(|problem| problem.name == name).map(|problem| problem.text)
}
