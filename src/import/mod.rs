//! From PyTorch: a network exported by `torch.export` becomes a problem file and a weights file, without Python.
//!
//! [`network`] reads the archive ([`archive`], with limits, nothing of it executed), follows the calls of its graph
//! (`convert`, and `calls`, a file a family of ATen's operations), and gives the layers that compute the same, under
//! PyTorch's own names. What no layers say is refused, naming the node and the line of source. [`state`] reads tensors alone.

pub mod archive;
mod calls;
mod convert;
mod emit;
mod graph;
mod layout;
mod network;
mod schema;
mod tensors;
mod value;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use tch::Tensor;

pub use emit::Head;

use crate::error::Result;
use archive::{Archive, Source};
use graph::{Origin, Program};
use schema::Argument;
use tensors::Tensors;

/// An imported network.
#[derive(Debug)]
pub struct Imported {
    /// The text of the problem file.
    pub problem: String,
    /// The parameters by PyTorch's names, and the buffers by those of their layers.
    pub weights: Vec<(String, Tensor)>,
    /// How many layers it has.
    pub layers: usize,
    /// The shape of a sample.
    pub input_shape: Vec<i64>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Reads an archive of torch.export and converts its network; `path` is for errors.
///
/// # Errors
/// [`crate::Error::Config`] where the archive is damaged, dangerous or of an unknown version;
/// [`crate::Error::Unsupported`] for what a problem file cannot say, naming the node and its line of source;
/// [`crate::Error::Io`] and [`crate::Error::Environment`] for disk and memory.
pub fn network(source: impl Source, path: &Path, head: &Head) -> Result<Imported> {
    let mut archive = Archive::open(source, path)?;
    let model = archive.model()?;
    let program = Program::read(&mut archive, &model)?;
    let tensors = Tensors::read(&mut archive, &model)?;
    let mut constants = HashMap::new();
    for name in computed_with(&program) {
        constants.insert(name.clone(), tensors.load(&mut archive, &name)?);
    }
    let converted = convert::convert(path, &program, &tensors, constants)?;
    let mut weights = Vec::new();
    for (name, inside) in emit::tensors(&converted) {
        weights.push((name, tensors.load(&mut archive, &inside)?));
    }
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let comment = format!("Imported from {} (torch {}).", file.escape_debug(), program.torch.escape_debug());
    let mut notes = converted.notes.clone();
    let held: HashSet<String> = emit::tensors(&converted).into_iter().map(|(_, inside)| inside).collect();
    let unused = |name: &&String| !held.iter().any(|held| tensors.same(held, name));
    notes.extend(
        program
            .parameters
            .iter()
            .filter(unused)
            .map(|name| format!("the parameter `{}` takes no part in the output and is left out", name.escape_debug())),
    );
    Ok(Imported {
        problem: emit::problem(head, &converted, &comment),
        weights,
        layers: emit::live(&converted).len(),
        input_shape: converted.input_shape,
        notes,
    })
}

/// The buffers and constants whose values decide what is computed: all but running statistics.
fn computed_with(program: &Program) -> Vec<String> {
    let mut names = Vec::new();
    for call in &program.calls {
        let statistics = |name: &str| call.operation() == "batch_norm" && name.starts_with("running_");
        for (_, argument) in call.arguments.iter().filter(|(name, _)| !statistics(name)) {
            let taken: Vec<&str> = match argument {
                Argument::AsTensor(name) => vec![&name.name],
                Argument::AsTensors(names) => names.iter().map(|name| name.name.as_str()).collect(),
                _ => continue,
            };
            for name in taken {
                if let Some(Origin::Buffer(buffer)) = program.origins.get(name)
                    && !names.contains(buffer)
                {
                    names.push(buffer.clone());
                }
            }
        }
    }
    names
}

/// The parameters and running statistics of an archive by their names in the model, in the archive's order.
///
/// # Errors
/// As [`network`], as far as it reads the archive.
pub fn state(source: impl Source, path: &Path) -> Result<(Vec<String>, BTreeMap<String, Tensor>)> {
    let mut archive = Archive::open(source, path)?;
    let model = archive.model()?;
    let tensors = Tensors::read(&mut archive, &model)?;
    let names: Vec<String> = tensors.names().filter(|name| tensors.is_held(name)).map(str::to_owned).collect();
    let mut state = BTreeMap::new();
    for name in &names {
        state.insert(name.clone(), tensors.load(&mut archive, name)?);
    }
    Ok((names, state))
}
