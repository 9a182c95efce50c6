//! From PyTorch: a network exported by `torch.export` becomes a problem file and a weights file, without Python.
//!
//! [`network`] reads the archive ([`archive`], with limits, nothing of it executed), follows the calls of its graph
//! (`convert`, and `calls`, by families of ATen's operations), and gives the layers that compute the same, under
//! PyTorch's own names. What no layers say is refused, naming the node and the line of source. [`state`] reads tensors alone.

pub mod archive;
mod calls;
mod convert;
mod converter;
mod graph;
mod layout;
mod network;
mod schema;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use tch::Tensor;

pub use convert::Head;

use crate::error::Result;
use archive::{Archive, Source, Tensors};
use graph::{Origin, Program};
use schema::Argument;

/// An imported network.
#[derive(Debug)]
pub struct Imported {
    /// The text of the problem file.
    pub problem: String,
    /// Parameters and buffers: the network's name, which for a parameter is PyTorch's, and the name in the model.
    pub names: Vec<(String, String)>,
    /// How many layers it has.
    pub layers: usize,
    /// The shape of a sample.
    pub input_shape: Vec<i64>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Reads an archive of torch.export and converts its network; `path` is for errors. Gives its weights too, by the network's
/// names.
///
/// # Errors
/// [`crate::Error::Config`] where the archive is damaged, dangerous or of an unknown version;
/// [`crate::Error::Unsupported`] for what a problem file cannot say, naming the node and its line of source;
/// [`crate::Error::Io`] and [`crate::Error::Environment`] for disk and memory.
pub fn network(source: impl Source, path: &Path, head: &Head) -> Result<(Imported, Vec<(String, Tensor)>)> {
    let mut archive = Archive::open(source, path)?;
    let (imported, tensors) = read(&mut archive, path, head)?;
    let mut weights = Vec::new();
    for (name, inside) in &imported.names {
        weights.push((name.clone(), tensors.load(&mut archive, inside)?));
    }
    Ok((imported, weights))
}

/// The same without the weights, for whom the model itself is at hand.
///
/// # Errors
/// As [`network`].
pub fn outline(source: impl Source, path: &Path, head: &Head) -> Result<Imported> {
    read(&mut Archive::open(source, path)?, path, head).map(|(imported, _)| imported)
}

fn read<S: Source>(archive: &mut Archive<S>, path: &Path, head: &Head) -> Result<(Imported, Tensors)> {
    let model = archive.model()?;
    let program = Program::read(archive, &model)?;
    let tensors = Tensors::read(archive, &model)?;
    let mut constants = HashMap::new();
    for name in computed_with(&program) {
        constants.insert(name.clone(), tensors.load(archive, &name)?);
    }
    let converted = convert::convert(path, &program, &tensors, constants)?;
    let names = convert::tensors(&converted);
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let comment = format!("Imported from {} (torch {}).", file.escape_debug(), program.torch.escape_debug());
    let mut notes = converted.notes.clone();
    let unused = |name: &&String| !names.iter().any(|(_, held)| tensors.same(held, name));
    notes.extend(
        program
            .parameters
            .iter()
            .filter(unused)
            .map(|name| format!("the parameter `{}` takes no part in the output and is left out", name.escape_debug())),
    );
    let imported = Imported {
        problem: convert::problem(head, &converted, &comment),
        names,
        layers: convert::live(&converted).len(),
        input_shape: converted.input_shape,
        notes,
    };
    Ok((imported, tensors))
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
