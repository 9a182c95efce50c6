//! `backpack-run merge`: the quantities of all samples from the files of `extract --shard`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::terminal::print;
use crate::backpack::extraction::Sums;
use crate::backpack::tensor_file;
use crate::error::{Error, Result};

/// Merge the shards of an extraction into one file.
///
/// Example: backpack-run merge --out q.safetensors q0.safetensors q1.safetensors
///
/// The shards are files written by `extract --shard I/N`, in any order. The result is what one extraction of all samples gives.
#[derive(Args, Clone, Debug)]
pub struct MergeArgs {
    /// The file to write
    #[arg(long, value_name = "Q")]
    out: PathBuf,
    /// The files of all shards, in any order
    #[arg(value_name = "FILE", required = true)]
    shards: Vec<PathBuf>,
}

/// Merges, and writes Q.
///
/// # Errors
/// [`Error::Usage`] for shards that are missing, there twice, or of another extraction; [`Error::Io`].
pub(super) fn run(args: &MergeArgs) -> Result<()> {
    if let Some(shard) = args.shards.iter().find(|shard| **shard == args.out) {
        return Err(Error::Usage(format!(
            "--out {}: this is the file of a shard and would be overwritten; name another one",
            shard.display()
        )));
    }
    tensor_file::check_writable(&args.out)?;
    merge(&args.out, &args.shards)
}

/// Writes the quantities of the shards in these files.
pub(super) fn merge(out: &Path, shards: &[PathBuf]) -> Result<()> {
    let parts = shards.iter().map(|path| Ok((path.as_path(), Sums::load(path)?))).collect::<Result<Vec<_>>>()?;
    write(out, Sums::merge(parts)?)
}

/// Finishes quantities, writes them, and says so.
pub(super) fn write(out: &Path, sums: Sums) -> Result<()> {
    let extraction = sums.finish()?;
    let mut by_reason: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, reason) in &extraction.skipped {
        match by_reason.iter_mut().find(|(known, _)| known == reason) {
            Some((_, names)) => names.push(name),
            None => by_reason.push((reason, vec![name])),
        }
    }
    for (reason, names) in by_reason {
        tracing::warn!("left out: {}: {reason}", names.join(", "));
    }
    let tensors = extraction.named();
    tensor_file::write(out, &tensors, &extraction.metadata)?;
    print(&format!("{}: {} tensors\n", out.display(), tensors.len()))
}
