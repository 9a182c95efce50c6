//! What `extract` does with many samples: progress with the time that is left, and going on after an interruption.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest, Sha256};
use tch::Tensor;

use super::extract_args::ExtractArgs;
use super::samples::Source;
use crate::backpack::Network;
use crate::backpack::extraction::{Parts, Settings, Sums, extract_parts};
use crate::backpack::losses::Loss;
use crate::error::Result;
use crate::problems::data::digest_of;
use crate::problems::definition::ProblemDefinition;
use crate::signals::Stop;

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
