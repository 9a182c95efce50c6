//! The weights that a flag names, by the names that the network has for them.

use std::collections::BTreeMap;
use std::path::Path;

use tch::Tensor;

use super::logging;
use crate::backpack::Network;
use crate::backpack::match_by_shape::{match_by_shape, natural_order};
use crate::backpack::tensor_file;
use crate::error::{Error, Result};
use crate::{files, import};

/// The tensors of a safetensors file or of an archive of torch.export, in the order in which they count.
///
/// # Errors
/// As [`tensor_file::read`] and [`import::state`]; [`Error::Shape`] for parameters that are no floats.
pub fn read(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let (names, mut tensors) = match path.extension().is_some_and(|ending| ending == "pt2") {
        true => {
            let file = files::open(path).map_err(|error| Error::unreadable(path, error))?;
            import::state(std::io::BufReader::new(file), path)?
        }
        false => {
            let tensors = tensor_file::read(path)?.tensors;
            let mut names: Vec<String> = tensors.keys().cloned().collect();
            names.sort_by(|one, other| natural_order(one, other));
            (names, tensors)
        }
    };
    let odd =
        |(name, tensor): &(&String, &Tensor)| !tensor.is_floating_point() && !name.ends_with("num_batches_tracked");
    if let Some((name, tensor)) = tensors.iter().find(odd) {
        let found = format!("{}: the tensor `{name}` is {:?}", path.display(), tensor.kind());
        return Err(Error::Shape(format!("{found}; expected floats")));
    }
    Ok(names.into_iter().filter_map(|name| tensors.remove(&name).map(|tensor| (name, tensor))).collect())
}

/// The tensors by the network's names: as they are, or with `by_shape` matched by shape, which is shown.
///
/// # Errors
/// [`Error::Shape`] where shapes do not match one to one.
pub fn named(network: &Network, tensors: Vec<(String, Tensor)>, by_shape: bool) -> Result<BTreeMap<String, Tensor>> {
    if !by_shape {
        return Ok(tensors.into_iter().collect());
    }
    let matched = match_by_shape(network, tensors)?;
    for (theirs, ours) in &matched.renamed {
        logging::line(&format!("{theirs} is used as {ours}"));
    }
    Ok(matched.tensors)
}

/// Adds to an error about names that they can be matched by shape.
pub fn offer(error: Error) -> Error {
    match error {
        Error::Shape(_) | Error::Weights { .. } => {
            Error::Shape(format!("{error}. --match-by-shape matches tensors with other names by shape"))
        }
        other => other,
    }
}
