//! `backpack-run results`: the runs of a study into one file beside its results, and back.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::{Args, Subcommand};

use super::flags::FolderFlags;
use super::report::place;
use super::terminal::print;
use crate::error::{Error, IoContext, Result};
use crate::study::packing::{self, PackOptions, Packed, Unpacked};
use crate::study::prepare::Folders;
use crate::study::store::archive::ARCHIVE;
use crate::words::count;

/// Pack the runs of a study into one file, or unpack them.
///
/// Example: backpack-run results unpack fig10 --runs-dir results/runs
///
/// An archive, RESULTS/NAME/runs.tar.zst, is an ordinary tar compressed by Zstandard. Unpacked runs count as done, so a study can
/// continue from them on another machine.
#[derive(Args, Clone, Debug)]
pub struct ResultsArgs {
    #[command(subcommand)]
    command: ResultsCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum ResultsCommand {
    Pack(PackArgs),
    Unpack(UnpackArgs),
}

/// Write the finished runs of a study to RESULTS/NAME/runs.tar.zst.
///
/// Runs that the archive already holds and that are no longer in the runs folder stay in it.
#[derive(Args, Clone, Debug)]
struct PackArgs {
    /// The study's name or results folder
    #[arg(value_name = "NAME")]
    study: String,
    /// Leave out weights and final states, which are most of a run's bytes; such runs cannot be continued for more epochs
    #[arg(long)]
    without_weights: bool,
    /// Remove the packed runs from the runs folder once the archive has been written and read back
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    folders: FolderFlags,
}

/// Put the runs of archives back into the runs folder, where they count as done.
///
/// A run that is already there is left as it is.
#[derive(Args, Clone, Debug)]
struct UnpackArgs {
    /// The study's name or results folder, or an archive [default: all archives in the results folder]
    #[arg(value_name = "NAME")]
    study: Option<String>,
    #[command(flatten)]
    folders: FolderFlags,
}

/// Packs or unpacks, and prints what came of it.
pub(super) fn run(args: ResultsArgs) -> Result<()> {
    print(&match args.command {
        ResultsCommand::Pack(args) => {
            let folders = Folders { runs: args.folders.runs_folder()?, data: args.folders.data(), pause_file: None };
            let options = PackOptions { without_weights: args.without_weights, remove: args.remove };
            packed(&packing::pack(&place(&args.study, &args.folders.results()), &folders, options)?)
        }
        ResultsCommand::Unpack(args) => {
            let runs = args.folders.runs_folder()?;
            let archives = match &args.study {
                Some(study) => vec![archive(study, &args.folders.results())?],
                None => all(&args.folders.results())?,
            };
            let lines = archives.iter().map(|archive| Ok(unpacked(archive, &runs, packing::unpack(archive, &runs)?)));
            lines.collect::<Result<String>>()?
        }
    })
}

/// All archives in the results folder.
fn all(results: &Path) -> Result<Vec<PathBuf>> {
    if !results.is_dir() {
        return Err(Error::Usage(format!(
            "{}: there is no such folder; --results-dir names the folder with the results of studies",
            results.display()
        )));
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(results).at("reading the folder", results)? {
        let path = entry.at("reading the folder", results)?.path().join(ARCHIVE);
        if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    match found.is_empty() {
        true => Err(Error::Usage(format!("{}: no study here has a {ARCHIVE}", results.display()))),
        false => Ok(found),
    }
}

/// The archive that a name stands for.
fn archive(study: &str, results: &Path) -> Result<PathBuf> {
    let folder = place(study, results);
    let candidates = [folder.join(ARCHIVE), PathBuf::from(study)];
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Error::Usage(format!(
            "{}: there is no {ARCHIVE} here; `backpack-run results pack {study}` makes one",
            folder.display()
        ))
    })
}

fn packed(packed: &Packed) -> String {
    let mut text = format!("{}: {}, {}", packed.archive.display(), count(packed.runs, "run"), ByteSize(packed.bytes));
    let parts = [
        (packed.kept, "kept from before"),
        (packed.removed, "removed from the runs folder"),
        (packed.unfinished, "without a result left out"),
    ];
    for (number, what) in parts.into_iter().filter(|(number, _)| *number > 0) {
        text += &format!("; {number} {what}");
    }
    text + "\n"
}

fn unpacked(archive: &Path, runs: &Path, unpacked: Unpacked) -> String {
    let mut text = format!("{}: {} put into {}", archive.display(), count(unpacked.runs, "run"), runs.display());
    for (number, what) in [(unpacked.there, "there already"), (unpacked.busy, "in progress there and left alone")]
        .into_iter()
        .filter(|(number, _)| *number > 0)
    {
        text += &format!("; {number} {what}");
    }
    text + "\n"
}
