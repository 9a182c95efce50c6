//! `backpack-run data`: which data sets there are, and fetching, verifying and importing them.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Subcommand};
use serde_json::json;

use super::flags::{Format, OutputFlags};
use super::progress::download_progress;
use super::tables::Table;
use super::terminal;
use super::terminal::print;
use crate::error::{Error, Result};
use crate::problems::data::obtain::{
    FileState, ImportOptions, Progress, SetReport, SetState, SetStatus, Silent, fetch, import, status, verify,
};
use crate::problems::data::{CATALOG, DataFolders, named_set};
use crate::table;

/// List, fetch, verify and import data sets.
///
/// Example: backpack-run data fetch mnist
///
/// `data list` shows what is installed where. Only `data fetch` uses the network.
#[derive(Args, Clone, Debug)]
pub struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum DataCommand {
    /// Show the data sets, and where those on this machine were found
    List(ListArgs),
    /// Download data sets from their authors' sites or from mirrors
    Fetch(FetchArgs),
    /// Compare files with the published hashes and check their content
    Verify(VerifyArgs),
    /// Copy or link files that are already on this machine into the data folder
    Import(ImportArgs),
}

/// Where data sets lie.
#[derive(Args, Clone, Debug)]
struct FolderArgs {
    /// Data sets [default: $BACKPACK_RUN_DATA, else the usual places: data/, the user's data folder, Debian's]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl FolderArgs {
    fn folders(&self) -> DataFolders {
        DataFolders::from_choice(self.data_dir.as_deref())
    }
}

#[derive(Args, Clone, Debug)]
struct ListArgs {
    #[command(flatten)]
    folder: FolderArgs,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Args, Clone, Debug)]
struct FetchArgs {
    /// The data sets: mnist, fashion_mnist, cifar10, cifar100, svhn
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    folder: FolderArgs,
    /// A server to ask instead of the authors' sites [default: $BACKPACK_RUN_MIRROR]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

#[derive(Args, Clone, Debug)]
struct VerifyArgs {
    /// The data sets [default: all that are found]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    folder: FolderArgs,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Args, Clone, Debug)]
struct ImportArgs {
    /// The data set
    #[arg(value_name = "NAME")]
    name: String,
    /// The archive, or the folder with the files
    #[arg(value_name = "PATH")]
    from: PathBuf,
    #[command(flatten)]
    folder: FolderArgs,
    /// Link to the files instead of copying them
    #[arg(long)]
    link: bool,
    /// Accept files that differ from the published ones if their content is well-formed
    #[arg(long)]
    unpublished: bool,
}

/// Carries out `data`; results go to stdout. With `quiet`, a fetch shows no progress.
///
/// # Errors
/// [`Error::Usage`] for an unknown name; [`Error::MissingData`]; [`Error::Failed`] where `verify` found a defect; and
/// those of the library's functions of the same names.
pub fn run(args: DataArgs, quiet: bool) -> Result<()> {
    match args.command {
        DataCommand::List(args) => list(&args),
        DataCommand::Fetch(args) => fetch_all(&args, quiet),
        DataCommand::Verify(args) => verify_all(&args),
        DataCommand::Import(args) => import_one(&args),
    }
}

fn list(args: &ListArgs) -> Result<()> {
    let sets = status(&args.folder.folders())?;
    match args.output.format {
        Format::Table => print(&listed(&sets)),
        Format::Csv => print_csv(&LISTED, rows(&sets, |bytes| bytes.to_string())),
        Format::Json => print_json(json!({
            "schema_version": 1,
            "data_sets": sets.iter().map(|set| json!({
                "name": set.info.name,
                "title": set.title,
                "shape": set.info.shape,
                "classes": set.info.classes,
                "train": set.info.train,
                "test": set.info.test,
                "download_bytes": set.download_bytes,
                "state": set.state.as_str(),
                "place": match &set.state { SetState::Found(path) => Some(path), _ => None },
            })).collect::<Vec<_>>(),
        })),
    }
}

/// The columns of `data list`.
const LISTED: [&str; 9] = ["name", "title", "shape", "classes", "train", "test", "download", "state", "place"];

fn listed(sets: &[SetStatus]) -> String {
    let readable = |bytes| if bytes == 0 { String::new() } else { ByteSize(bytes).to_string() };
    as_table(&LISTED, rows(sets, readable))
}

/// A row for each data set, with its download's size as `size` writes it.
fn rows(sets: &[SetStatus], size: impl Fn(u64) -> String) -> Vec<Vec<String>> {
    let row = |set: &SetStatus| {
        let info = &set.info;
        let place = match &set.state {
            SetState::Found(path) => path.display().to_string(),
            _ => String::new(),
        };
        vec![
            info.name.clone(),
            set.title.to_owned(),
            info.shape.iter().map(i64::to_string).collect::<Vec<_>>().join("x"),
            info.classes.map(|classes| classes.to_string()).unwrap_or_default(),
            info.train.to_string(),
            info.test.to_string(),
            size(set.download_bytes),
            set.state.as_str().to_owned(),
            place,
        ]
    };
    sets.iter().map(row).collect()
}

fn fetch_all(args: &FetchArgs, quiet: bool) -> Result<()> {
    let folders = args.folder.folders();
    let from_environment = std::env::var("BACKPACK_RUN_MIRROR").ok().filter(|url| !url.is_empty());
    let mirror = args.mirror.clone().or(from_environment);
    // An unknown name is refused before anything is fetched.
    let sets = args.names.iter().map(|name| Ok(named_set(name)?.published())).collect::<Result<Vec<_>>>()?;
    let mut progress: Box<dyn Progress> = if quiet { Box::new(Silent) } else { download_progress() };
    for (name, set) in args.names.iter().zip(sets) {
        match set {
            Some(set) => {
                let folder = fetch(set, folders.target(), mirror.as_deref(), progress.as_mut())?;
                print(&format!("{name}: {}\n", folder.display()))?;
            }
            None => progress.note(&format!("{name}: part of the program; there is nothing to fetch")),
        }
    }
    Ok(())
}

fn verify_all(args: &VerifyArgs) -> Result<()> {
    let folders = args.folder.folders();
    let mut reports = Vec::new();
    if args.names.is_empty() {
        for set in CATALOG.iter().filter(|set| folders.find(set).is_ok()) {
            reports.push(verify(set, &folders)?);
        }
        if reports.is_empty() {
            let places: Vec<_> = folders.0.iter().map(|folder| folder.display().to_string()).collect();
            return Err(Error::MissingData(format!(
                "no data set was found in {}. Get one with `backpack-run data fetch NAME`, or name its folder with \
                 --data-dir",
                places.join(", ")
            )));
        }
    } else {
        let sets = args.names.iter().map(|name| Ok(named_set(name)?.published())).collect::<Result<Vec<_>>>()?;
        for (name, set) in args.names.iter().zip(sets) {
            match set {
                Some(set) => reports.push(verify(set, &folders)?),
                None => terminal::log_line(&format!("{name}: part of the program; there is nothing to verify")),
            }
        }
    }
    print_reports(&reports, args.output.format)?;
    let bad: Vec<_> = reports.iter().filter(|report| !report.ok()).map(|report| report.set).collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "not as published: {}. Delete a set's folder and download it again with `backpack-run data fetch NAME`",
        bad.join(", ")
    )))
}

fn print_reports(reports: &[SetReport], format: Format) -> Result<()> {
    let header = ["name", "file", "hash", "content"];
    let content = |report: &SetReport| match &report.defect {
        None => "ok".to_owned(),
        Some(defect) => defect.clone(),
    };
    let rows = reports.iter().flat_map(|report| {
        report.files.iter().map(move |file| {
            let path = file.path.display().to_string();
            vec![report.set.to_owned(), path, file.state.as_str().to_owned(), content(report)]
        })
    });
    match format {
        Format::Table => print(&as_table(&header, rows.collect())),
        Format::Csv => print_csv(&header, rows.collect()),
        Format::Json => print_json(json!({
            "schema_version": 1,
            "data_sets": reports.iter().map(|report| json!({
                "name": report.set,
                "place": report.place,
                "ok": report.ok(),
                "defect": report.defect,
                "files": report.files.iter().map(|file| json!({
                    "path": file.path,
                    "hash": file.state.as_str(),
                    "ok": file.state != FileState::Differs,
                })).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })),
    }
}

fn import_one(args: &ImportArgs) -> Result<()> {
    let Some(set) = named_set(&args.name)?.published() else {
        return Err(Error::Usage(format!("{}: part of the program; there is nothing to import", args.name)));
    };
    let options = ImportOptions { link: args.link, unpublished: args.unpublished };
    let place = import(set, &args.from, args.folder.folders().target(), options)?;
    print(&format!("{}: {}\n", set.name, place.display()))
}

fn as_table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table =
        Table::new(header.iter().copied()).droppable(&["download", "title", "classes", "test", "train", "shape"]);
    rows.into_iter().for_each(|row| table.row(row));
    format!("{table}\n")
}

fn print_csv(header: &[&str], rows: Vec<Vec<String>>) -> Result<()> {
    print(&table::csv(header, rows)?)
}

fn print_json(value: serde_json::Value) -> Result<()> {
    print(&format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::widths::snapshot;

    #[test]
    fn the_list_is_whole_at_every_width() {
        let mut sets = status(&DataFolders::from_choice(Some(Path::new("nowhere")))).unwrap();
        sets[0].state = SetState::Found("folder/of/a/user/share/backpack-run/data-sets/mnist".into());
        insta::assert_snapshot!(snapshot(&|| listed(&sets)));
    }
}
