//! The figures that are measured: which quantities or optimizers, on which problems, at which batch sizes.

use crate::backpack::quantities::TABLE_1;

/// What is measured in a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subjects {
    /// These quantities, or [`super::task::LOOP`].
    Quantities(&'static [&'static str]),
    /// Whole steps of these optimizers.
    Steps(&'static [&'static str]),
}

/// One problem's part of a figure.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// A built-in problem.
    pub problem: &'static str,
    /// What is measured.
    pub subjects: Subjects,
    /// At these batch sizes.
    pub batch_sizes: &'static [usize],
    /// What is measured, and where, in the quick form.
    pub quick: (Subjects, &'static [usize]),
}

/// A figure.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Its name on the command line and in bench.csv: the paper's number, or `steps`.
    pub name: &'static str,
    /// What it shows.
    pub title: &'static str,
    /// Its panels.
    pub panels: &'static [Panel],
}

const TABLE: Subjects = Subjects::Quantities(&TABLE_1);
const INDIVIDUAL: Subjects = Subjects::Quantities(&["loop", "batch_grad", "grad"]);
const EXACT: Subjects = Subjects::Quantities(&["grad", "kflr", "diag_ggn"]);
const DIAGONALS: Subjects = Subjects::Quantities(&["grad", "diag_ggn", "diag_hessian"]);
const ALL_STEPS: Subjects = Subjects::Steps(&[
    "sgd",
    "momentum",
    "adam",
    "adamw",
    "muon",
    "soap",
    "shampoo",
    "diag_ggn",
    "diag_ggn_mc",
    "kfac",
    "kflr",
    "kfra",
    "ekfac",
    "foof",
]);
const CONVOLUTION_STEPS: Subjects =
    Subjects::Steps(&["sgd", "momentum", "adam", "adamw", "muon", "soap", "diag_ggn", "diag_ggn_mc", "kfac", "kflr"]);
const LARGE_STEPS: Subjects =
    Subjects::Steps(&["sgd", "momentum", "adam", "adamw", "muon", "soap", "diag_ggn_mc", "kfac", "foof"]);

/// All figures.
pub const FIGURES: [Figure; 5] = [
    Figure {
        name: "3",
        title: "individual gradients: a loop over the samples, one pass, the gradient alone",
        panels: &[Panel {
            problem: "cifar10_3c3d",
            subjects: INDIVIDUAL,
            batch_sizes: &[2, 4, 8, 16, 32, 64, 128, 256],
            quick: (INDIVIDUAL, &[4, 16, 64]),
        }],
    },
    Figure {
        name: "6",
        title: "every quantity over the gradient",
        panels: &[
            Panel { problem: "cifar10_3c3d", subjects: TABLE, batch_sizes: &[32, 64, 128], quick: (TABLE, &[16]) },
            Panel { problem: "cifar100_allcnnc", subjects: TABLE, batch_sizes: &[16, 32, 64], quick: (TABLE, &[2]) },
        ],
    },
    Figure {
        name: "8",
        title: "KFLR and DiagGGN with 100 classes",
        panels: &[Panel { problem: "cifar100_allcnnc", subjects: EXACT, batch_sizes: &[16], quick: (EXACT, &[4]) }],
    },
    Figure {
        name: "9",
        title: "the Hessian diagonal against DiagGGN, with and without one sigmoid",
        panels: &[
            Panel {
                problem: "cifar10_3c3d_sigmoid",
                subjects: DIAGONALS,
                batch_sizes: &[4, 8, 16, 32],
                quick: (DIAGONALS, &[4, 8]),
            },
            Panel {
                problem: "cifar10_3c3d",
                subjects: DIAGONALS,
                batch_sizes: &[4, 8, 16, 32],
                quick: (DIAGONALS, &[4, 8]),
            },
        ],
    },
    Figure {
        name: STEPS,
        title: "whole optimizer steps over the gradient",
        panels: &[
            Panel { problem: "mnist_logreg", subjects: ALL_STEPS, batch_sizes: &[128], quick: (ALL_STEPS, &[128]) },
            Panel {
                problem: "fmnist_2c2d",
                subjects: CONVOLUTION_STEPS,
                batch_sizes: &[128],
                quick: (Subjects::Steps(&["momentum", "kfac"]), &[128]),
            },
            Panel {
                problem: "cifar10_3c3d",
                subjects: CONVOLUTION_STEPS,
                batch_sizes: &[128],
                quick: (CONVOLUTION_STEPS, &[32]),
            },
            Panel {
                problem: "cifar100_allcnnc",
                subjects: LARGE_STEPS,
                batch_sizes: &[64],
                quick: (Subjects::Steps(&["diag_ggn_mc", "kfac"]), &[8]),
            },
        ],
    },
];

/// The name of the figure of whole steps.
pub const STEPS: &str = "steps";

/// The figure's name of what was measured on a problem of the user's choice.
pub const PROBLEM: &str = "problem";

/// The figure of this name.
pub fn figure(name: &str) -> Option<&'static Figure> {
    FIGURES.iter().find(|figure| figure.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::task::Subject;
    use crate::problems::definition::built_in;

    #[test]
    fn every_figure_names_what_there_is() {
        for panel in FIGURES.iter().flat_map(|figure| figure.panels) {
            assert!(built_in(panel.problem).is_some(), "{}", panel.problem);
            for subjects in [panel.subjects, panel.quick.0] {
                match subjects {
                    Subjects::Quantities(names) => names.iter().for_each(|name| drop(Subject::quantity(name).unwrap())),
                    Subjects::Steps(names) => names.iter().for_each(|name| drop(Subject::step(name).unwrap())),
                }
            }
        }
    }
}
