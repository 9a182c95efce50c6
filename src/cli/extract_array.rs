//! `backpack-run extract --launcher slurm --shards N`: a job array over N slices of the samples, and their merge behind it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::extract_args::ExtractArgs;
use super::extract_parts::identity;
use super::merge::merge;
use crate::error::{Error, Result};
use crate::runtime::program;
use crate::signals::Stop;
use crate::study::launch::slurm::{Cluster, Shards, carry_out_shards};

/// The options that are about the array, and not for its tasks.
const OWN: [&str; 4] = ["--launcher", "--shards", "--slurm", "--out"];

/// Carries it out.
///
/// # Errors
/// As [`carry_out_shards`] and [`merge`].
pub(super) fn run(args: &ExtractArgs) -> Result<()> {
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
        if OWN.iter().any(|own| argument == OsStr::new(own)) {
            // Its value.
            let _ = arguments.next();
        } else if !OWN.iter().any(|own| argument.to_string_lossy().starts_with(&format!("{own}="))) {
            kept.push(argument);
        }
    }
    kept
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
