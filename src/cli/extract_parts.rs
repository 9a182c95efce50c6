//! What `extract` does with many samples: part by part, going on after an interruption, or as shards of a job array; and
//! `backpack-run merge`, which puts shards together.

use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use sha2::{Digest, Sha256};
use tch::Tensor;

use super::extract_args::ExtractArgs;
use super::samples::Source;
use super::terminal::print;
use crate::backpack::extraction::{Parts, Settings, Sums, extract_parts};
use crate::backpack::losses::Loss;
use crate::backpack::{Network, tensor_file};
use crate::error::{Error, Result};
use crate::problems::data::digest_of;
use crate::problems::definition::ProblemDefinition;
use crate::runtime::program;
use crate::signals::Stop;
use crate::study::launch::slurm::{Cluster, Shards, carry_out_shards};

/// How often what has been done is kept.
const SAVE: Duration = Duration::from_secs(60);
/// How often progress is told.
const TELL: Duration = Duration::from_secs(10);

/// Takes the shares of the samples part by part, and goes on where an earlier process was interrupted.
///
/// # Errors
/// As [`extract_parts`]; [`crate::Error::Interrupted`] after a signal, with what was done kept beside `out`.
pub(super) fn in_parts(
    model: (&Network, &dyn Loss),
    parts: &Parts,
    samples: &mut Source,
    vector: Option<&[Tensor]>,
    settings: &Settings,
    out: &Path,
) -> Result<Sums> {
    let mut load = |range: Range<i64>| samples.part(range);
    if parts.is_one() {
        return extract_parts(model, parts, &mut load, vector, settings, None, &mut |_| Ok(true));
    }
    let stop = Stop::on_signals()?;
    // SLURM's warning before a task's time is up; another task goes on.
    #[cfg(unix)]
    if std::env::var_os("SLURM_ARRAY_TASK_ID").is_some() {
        stop.also_on(signal_hook::consts::SIGUSR1)?;
    }
    let partial = partial(out);
    let begun = begun(&partial, parts);
    let mut start = None;
    let (mut saved, mut told) = (Instant::now(), Instant::now());
    let mut watch = |sums: &Sums| -> Result<bool> {
        let Range { start: first, end: done } = sums.range();
        let (before, began) = *start.get_or_insert((done, Instant::now()));
        if stop.is_requested() || saved.elapsed() >= SAVE {
            sums.save(&partial)?;
            saved = Instant::now();
        }
        if stop.is_requested() {
            tracing::warn!("interrupted; the same command continues from {}", partial.display());
            return Ok(false);
        }
        if told.elapsed() >= TELL && done == parts.range.end {
            tracing::info!("second pass over the samples, in the basis of all of them");
            told = Instant::now();
        } else if told.elapsed() >= TELL && done > before {
            let left = began.elapsed().mul_f64((parts.range.end - done) as f64 / (done - before) as f64);
            let left = humantime::format_duration(Duration::from_secs(left.as_secs() + 1));
            tracing::info!("{} of {} samples, {left} left", done - first, parts.range.end - first);
            told = Instant::now();
        }
        Ok(true)
    };
    extract_parts(model, parts, &mut load, vector, settings, begun, &mut watch)
}

/// What an interrupted extraction of the same samples has left.
fn begun(partial: &Path, parts: &Parts) -> Option<Sums> {
    if !partial.exists() {
        return None;
    }
    let begun = Sums::load(partial).ok().filter(|sums| sums.identity() == parts.identity);
    match &begun {
        Some(sums) => tracing::info!("continuing after sample {} of {}", sums.range().end, partial.display()),
        None => tracing::info!("{} belongs to another extraction; starting over", partial.display()),
    }
    begun
}

/// Where an interrupted extraction keeps what it has done.
fn partial(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Removes what was kept of an extraction that has its result.
pub(super) fn remove_partial(out: &Path) {
    let partial = partial(out);
    match std::fs::remove_file(&partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!("{}: it cannot be removed: {error}", partial.display());
        }
        _ => {}
    }
}

/// Tells problem, parameters and samples of an extraction apart from others.
///
/// # Errors
/// Where a file that takes part cannot be read.
pub(super) fn identity(args: &ExtractArgs, definition: &ProblemDefinition) -> Result<String> {
    let digest = |path: &Option<PathBuf>| path.as_deref().map(digest_of).transpose();
    let content = json!({
        "at": args.at.identity(definition)?,
        "products": digest(&args.products)?,
        "quantities": args.quantities,
        "options": format!("{:?} {} {}", args.scale, args.mc_samples, args.mc_seed),
    });
    Ok(hex::encode(Sha256::digest(content.to_string().as_bytes())))
}

// `backpack-run extract --launcher slurm --shards N`: a job array over N slices of the samples, and their merge behind it.

/// The options that are about the array, and not for its tasks.
const ARRAY_OPTIONS: [&str; 4] = ["--launcher", "--shards", "--slurm", "--out"];

/// Submits the array, waits for it, and merges its shards.
///
/// # Errors
/// As [`carry_out_shards`] and [`merge`].
pub(super) fn submit_array(args: &ExtractArgs) -> Result<()> {
    let count = args.shards.ok_or_else(|| Error::Usage("--launcher slurm needs --shards N".to_owned()))?;
    let arguments = for_tasks(std::env::args_os().skip(1));
    // Named after what decides their content, so that none of another extraction is taken for one of this.
    let mut content = Sha256::new();
    content.update(identity(args, &args.at.resolved()?)?);
    arguments.iter().for_each(|argument| content.update([argument.as_encoded_bytes(), b"\0"].concat()));
    let digest = hex::encode(content.finalize());
    let file = |index: u16| {
        let mut name = args.out.as_os_str().to_owned();
        name.push(format!(".{}-of-{count}.{index}", &digest[..8]));
        PathBuf::from(name)
    };
    let files: Vec<PathBuf> = (0..count).map(file).collect();
    let shards = Shards { arguments, files: files.clone(), threads: args.at.threads.unwrap_or(1).into() };
    let cluster = Cluster { program: program()?, options: args.slurm.clone().unwrap_or_default(), jobs: None };
    carry_out_shards(&shards, &cluster, &Stop::on_signals()?)?;
    merge(&args.out, &files)?;
    for file in files {
        if let Err(error) = std::fs::remove_file(&file) {
            tracing::warn!("{}: it cannot be removed: {error}", file.display());
        }
    }
    Ok(())
}

/// The arguments without those that are for the array.
fn for_tasks(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        if ARRAY_OPTIONS.iter().any(|own| argument == OsStr::new(own)) {
            // Its value.
            let _ = arguments.next();
        } else if !ARRAY_OPTIONS.iter().any(|own| argument.to_string_lossy().starts_with(&format!("{own}="))) {
            kept.push(argument);
        }
    }
    kept
}

// `backpack-run merge`: the quantities of all samples from the files of `extract --shard`.

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
pub(super) fn run_merge(args: &MergeArgs) -> Result<()> {
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
fn merge(out: &Path, shards: &[PathBuf]) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_get_what_is_not_about_the_array() {
        let all =
            ["extract", "--launcher", "slurm", "--shards=4", "--split", "train", "--out", "q", "--slurm", "a=b", "-q"];
        let kept = for_tasks(all.into_iter().map(OsString::from));
        assert_eq!(kept, ["extract", "--split", "train", "-q"].map(OsString::from));
    }
}
