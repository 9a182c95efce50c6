//! DeepOBS's JSON files of runs: theirs read as further optimizers, ours written in their form.

mod export;
mod import;

pub use export::export;
pub use import::import;

/// DeepOBS's class names for the program's optimizers.
const CLASSES: [(&str, &str); 8] = [
    ("DiagGGN", "DiagGGNConstantDampingOptimizer"),
    ("DiagGGN-MC", "DiagGGNMCConstantDampingOptimizer"),
    ("KFAC", "KFACConstantDampingOptimizer"),
    ("KFLR", "KFLRConstantDampingOptimizer"),
    ("KFRA", "KFRAConstantDampingOptimizer"),
    ("Momentum", "MomentumOptimizer"),
    ("Adam", "AdamOptimizer"),
    ("SGD", "GradientDescentOptimizer"),
];
