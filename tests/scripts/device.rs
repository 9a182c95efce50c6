//! No tensor is made without its device: what names the CPU, or makes a tensor of numbers in memory without moving it,
//! stands in a list with its reason. A machine without an accelerator cannot show such a miss in any other way.

use std::path::Path;

/// Where tensors are of the CPU, and why. A folder stands for all that is in it.
const ON_THE_CPU: &[(&str, &str)] = &[
    ("src/backpack/init.rs", "drawn by the CPU's stream, then copied into the parameter"),
    ("src/backpack/layers/activations/functions.rs", "asks whether it is on the CPU, which gelu's kernel is for"),
    ("src/backpack/layers/batch_norm.rs", "a layer is built on the CPU and moved with its network"),
    ("src/backpack/layers/parameter.rs", "a parameter is drawn on the CPU and moved with its network"),
    ("src/backpack/native/kernels.rs", "asks whether it is on the CPU, which the kernels are for"),
    ("src/backpack/oracle/check.rs", "the batch of a check is drawn on the CPU and moved by its caller"),
    ("src/backpack/tensor_file.rs", "what files hold; moved by who reads them"),
    ("src/bench/task.rs", "synthetic samples, moved with the batch"),
    ("src/doctor", "asks whether libtorch computes at all"),
    ("src/import", "constants of an archive, which are read and written and never computed with on a device"),
    ("src/optimizers/averaging.rs", "a count in a checkpoint"),
    ("src/optimizers/damping.rs", "numbers in a checkpoint"),
    ("src/optimizers/diagonal.rs", "a count in a checkpoint"),
    ("src/optimizers/layerwise.rs", "a count in a checkpoint"),
    ("src/optimizers/measure.rs", "a condition number, by a decomposition on the CPU"),
    ("src/optimizers/adam.rs", "a count in a checkpoint"),
    ("src/optimizers/shampoo.rs", "a count in a checkpoint"),
    ("src/optimizers/soap.rs", "a count in a checkpoint"),
    ("src/problems/data", "samples and their order stay on the CPU until a batch is moved"),
    ("src/problems/random_nets", "batches drawn on the CPU, moved by who computes with them"),
    ("src/random.rs", "the counter streams are the CPU's; what draws says where the result goes"),
    ("src/runtime.rs", "reads the device's name"),
    ("src/spectrum", "the small matrices of a Krylov space, decomposed on the CPU"),
    ("src/study/run/diagnose.rs", "a zero without axes, which goes with any device"),
    ("src/study/run/own.rs", "the default device of a trainer from Rust"),
    ("src/study/store/checkpoint.rs", "what a checkpoint holds; moved by who reads it"),
    ("src/cli/flags.rs", "the default of --device"),
];

/// Makes a tensor in memory; a move has to follow.
const IN_MEMORY: &[&str] = &[
    "Tensor::from_slice(",
    "Tensor::f_from_slice(",
    "Tensor::from_data_size(",
    "Tensor::f_from_data_size(",
    "Tensor::from(",
];

/// The lines of a source file, its tests left out, that make a tensor without a device.
fn misses(text: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = text.split("#[cfg(test)]").next().unwrap_or_default().lines().collect();
    let is_miss = |at: &usize| {
        let line = lines[*at].trim();
        if line.starts_with("//") {
            return false;
        }
        let moved = lines[*at..lines.len().min(at + 4)].iter().any(|line| line.contains("to_device("));
        line.contains("Device::Cpu") || (IN_MEMORY.iter().any(|made| line.contains(made)) && !moved)
    };
    (0..lines.len()).filter(is_miss).map(|at| (at + 1, lines[at].trim().to_owned())).collect()
}

pub fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_tensor_is_made_without_its_device() {
    let root = crate::support::repository("");
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let mut unused: Vec<&str> = ON_THE_CPU.iter().map(|(place, _)| *place).collect();
    let mut found = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap();
        let misses = misses(&std::fs::read_to_string(&file).unwrap());
        match ON_THE_CPU.iter().find(|(place, _)| name.starts_with(place)) {
            Some((place, _)) if !misses.is_empty() => unused.retain(|one| one != place),
            Some(_) => {}
            None => found.extend(misses.into_iter().map(|(line, text)| format!("{}:{line}: {text}", name.display()))),
        }
    }
    assert!(found.is_empty(), "made on the CPU, wherever the computation is:\n{}", found.join("\n"));
    assert!(unused.is_empty(), "nothing there is made on the CPU any more: {unused:?}");
}

#[test]
fn a_deliberate_miss_is_found() {
    let text = "let a = Tensor::zeros([2], (Kind::Float, Device::Cpu));\n\
                let b = Tensor::from_slice(&values).view([2, 1]);\n\
                let c = a + b;\n\n\n\
                let d = Tensor::from_slice(&values)\n    .view([2, 1])\n    .to_device(x.device());\n\
                let e = Tensor::zeros([2], (x.kind(), x.device()));\n\
                // Device::Cpu is spoken of.\n\
                #[cfg(test)]\nlet f = Tensor::zeros([2], (Kind::Float, Device::Cpu));\n";
    let lines: Vec<usize> = misses(text).into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, [1, 2]);
}
