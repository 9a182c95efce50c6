//! `backpack-run extract`: the quantities of a batch or of a part of a data set, to a safetensors file.

use std::ops::Range;
use std::path::{Path, PathBuf};

use tch::Tensor;

use super::choices;
use super::extract_args::{ExtractArgs, ScaleChoice};
use super::extract_parts::{identity, in_parts, remove_partial, write};
use super::flags::Launcher;
use super::samples::Opened;
use super::terminal::print;
use crate::backpack::extraction::{Parts, Settings};
use crate::backpack::layers::Mode;
use crate::backpack::quantities::Scale;
use crate::backpack::{Network, tensor_file};
use crate::error::{Error, Result};

/// Reads the files, extracts, and writes Q.
///
/// # Errors
/// [`Error::Usage`], [`Error::Config`], [`Error::Shape`] and [`Error::Unsupported`] for what does not fit together or
/// cannot be had, before the pass; [`Error::Data`] and [`Error::Io`] for files that cannot be read or written;
/// [`Error::Interrupted`] after a signal, with what was done kept.
pub fn run(args: ExtractArgs) -> Result<()> {
    for (flag, input) in [
        ("--batch", args.at.batch.as_ref()),
        ("--weights", args.at.weights.as_ref()),
        ("--products", args.products.as_ref()),
    ] {
        let same =
            |input: &PathBuf| matches!((input.canonicalize(), args.out.canonicalize()), (Ok(a), Ok(b)) if a == b);
        if input.is_some_and(same) {
            return Err(Error::Usage(format!(
                "--out {}: this is the file given with {flag} and would be overwritten; name another one",
                args.out.display()
            )));
        }
    }
    tensor_file::check_writable(&args.out)?;
    if args.launcher == Launcher::Slurm {
        return super::extract_parts::submit_array(&args);
    }
    let definition = args.at.resolved()?;
    let Opened { network, loss, mut samples } = args.at.open(&definition)?;
    let vector = args.products.as_ref().map(|path| vector(&network, path)).transpose()?;
    choices::check_quantity_names(args.quantities.iter().map(|name| name.trim()))?;
    let (table_1, explicit): (Vec<_>, Vec<_>) =
        args.quantities.iter().map(|name| name.trim().to_owned()).partition(|name| name == "all");
    let settings = Settings {
        explicit,
        table_1: !table_1.is_empty(),
        scale: match args.scale {
            ScaleChoice::Backpack => Scale::Backpack,
            ScaleChoice::Paper => Scale::Paper,
        },
        mode: if args.train { Mode::Training { seed: args.at.seed, step: 0 } } else { Mode::Evaluation },
        mc_samples: args.mc_samples,
        mc_seed: args.mc_seed,
        memory_budget: args.at.memory_budget()?,
    };
    let total = samples.len();
    let range = args.shard.map_or(Ok(0..total), |shard| shard.of(total))?;
    let parts = Parts {
        samples: total,
        size: args.at.batch_size.unwrap_or(range.end - range.start),
        range,
        identity: identity(&args, &definition)?,
    };
    let sums = in_parts((&network, loss.as_ref()), &parts, &mut samples, vector.as_deref(), &settings, &args.out)
        .map_err(|error| args.at.locate(error))?;
    if args.shard.is_some() {
        sums.save(&args.out)?;
        remove_partial(&args.out);
        let Range { start, end } = sums.range();
        return print(&format!("{}: samples {start} to {} of {total}\n", args.out.display(), end - 1));
    }
    write(&args.out, sums)?;
    remove_partial(&args.out);
    Ok(())
}

/// The tensors of a file in the order of the network's parameters.
fn vector(network: &Network, path: &Path) -> Result<Vec<Tensor>> {
    let mut tensors = tensor_file::read(path)?.floats()?;
    let mut problems = Vec::new();
    let mut parts = Vec::new();
    for parameter in network.parameters() {
        let (name, shape) = (&parameter.name, parameter.value.size());
        match tensors.remove(name) {
            None => problems.push(format!("`{name}` of shape {shape:?} is missing")),
            Some(part) if part.size() != shape => {
                problems.push(format!("`{name}` has the shape {:?}, the parameter's is {shape:?}", part.size()));
            }
            Some(part) => parts.push(part.to_kind(parameter.value.kind()).to_device(parameter.value.device())),
        }
    }
    problems.extend(tensors.keys().map(|name| format!("`{name}` is not a parameter of the network")));
    if problems.is_empty() {
        Ok(parts)
    } else {
        Err(Error::Shape(format!("{}: {}", path.display(), problems.join("; "))))
    }
}
