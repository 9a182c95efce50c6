//! `backpack-run import`: a network exported by torch.export, as a problem file and a weights file.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::print;
use crate::backpack::tensor_file;
use crate::config::name::{FOLDER_NAME, is_folder_name};
use crate::error::{Error, IoContext, Result};
use crate::files;
use crate::import::{Head, network};
use crate::problems::definition::LossKind;

/// Reads a network that torch.export.save wrote and writes it as a problem file, with its weights as safetensors.
///
/// In Python: torch.export.save(torch.export.export(model.eval(), (x,)), "net.pt2"). Nothing of the archive is executed.
/// Parameters keep PyTorch's names. What a problem file cannot say is refused with the line of source that computes it,
/// and neither file is written.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// The archive
    #[arg(value_name = "NET.pt2")]
    pub archive: PathBuf,
    /// The problem file to write
    #[arg(long, value_name = "NET.toml")]
    pub out: PathBuf,
    /// The safetensors file to write
    #[arg(long, value_name = "W.safetensors")]
    pub weights: PathBuf,
    /// The problem's data set: a name, a .safetensors file, or TOML as { text = "file.txt", context = 64 }; without it the
    /// problem says the shape of its input and is not trained
    #[arg(long, value_name = "D")]
    pub dataset: Option<String>,
    /// The problem's loss: cross_entropy, mse or bce_with_logits
    #[arg(long, value_name = "L")]
    pub loss: Option<String>,
    /// The problem's name [default: that of the archive's file]
    #[arg(long, value_name = "N")]
    pub name: Option<String>,
    /// Let the problem start from these weights: with every seed, all runs start alike
    #[arg(long)]
    pub start_from_weights: bool,
}

/// Reads the archive and writes both files, or neither.
///
/// # Errors
/// What [`network`] says; [`Error::Usage`] for flags; [`Error::Io`] where a file cannot be written.
pub fn run(args: ImportArgs) -> Result<()> {
    let name = name(&args)?;
    let dataset = args.dataset.as_deref().map(dataset).transpose()?;
    if let Some(loss) = &args.loss
        && !LossKind::NAMES.iter().any(|(known, _)| known == loss)
    {
        let known: Vec<&str> = LossKind::NAMES.iter().map(|(known, _)| *known).collect();
        return Err(Error::Usage(format!("--loss {loss}: unknown; losses are {}", known.join(", "))));
    }
    check_paths(&args)?;
    let weights = args.start_from_weights.then(|| beside(&args.out, &args.weights)).transpose()?;
    let head = Head { name, dataset, loss: args.loss.clone(), weights };
    let file = files::open(&args.archive).map_err(|error| Error::unreadable(&args.archive, error))?;
    let imported = network(std::io::BufReader::new(file), &args.archive, &head)?;
    for note in &imported.notes {
        tracing::warn!("{}: {note}", args.archive.display());
    }
    if args.start_from_weights {
        tracing::warn!("the problem starts from {}: runs of several seeds all start alike", args.weights.display());
    }
    write(&args, &imported.problem, &imported.weights)?;
    let (out, weights) = (args.out.display(), args.weights.display());
    let (layers, tensors, shape) = (imported.layers, imported.weights.len(), &imported.input_shape);
    print(&format!("{out}: {layers} layers for samples of shape {shape:?}\n{weights}: {tensors} tensors\n"))
}

/// Writes both files beside their places before either is put there.
fn write(args: &ImportArgs, problem: &str, weights: &[(String, tch::Tensor)]) -> Result<()> {
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut options = tempfile::Builder::new();
    options.prefix(".backpack-run-");
    #[cfg(unix)]
    {
        // What any new file gets: the umask takes its share.
        use std::os::unix::fs::PermissionsExt;
        options.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = options.tempfile_in(folder).at("creating a file beside it", &args.out)?;
    file.write_all(problem.as_bytes()).at("writing", &args.out)?;
    file.as_file().sync_all().at("writing", &args.out)?;
    tensor_file::write(&args.weights, weights, &BTreeMap::from([("format".to_owned(), "pt".to_owned())]))?;
    if let Err(failed) = file.persist(&args.out) {
        // Neither is there without the other.
        let _ = std::fs::remove_file(&args.weights);
        return Err(Error::io("putting it in place", &args.out, failed.error));
    }
    Ok(())
}

/// The problem's name: what is asked for, or the archive's file without its ending, as far as it is a folder's name.
fn name(args: &ImportArgs) -> Result<String> {
    if let Some(name) = &args.name {
        return match is_folder_name(name) {
            true => Ok(name.clone()),
            false => Err(Error::Usage(format!("--name {name}: expected {FOLDER_NAME}"))),
        };
    }
    let stem = args.archive.file_stem().unwrap_or_default().to_string_lossy();
    match is_folder_name(&stem) {
        true => Ok(stem.into_owned()),
        false => Err(Error::Usage(format!("`{stem}` is no name for a problem; give one with --name"))),
    }
}

/// The value of the key `dataset`.
fn dataset(text: &str) -> Result<toml::Value> {
    let text = text.trim();
    if text.starts_with('{') {
        let table: toml::Table = format!("dataset = {text}")
            .parse()
            .map_err(|error: toml::de::Error| Error::Usage(format!("--dataset {text}: {}", error.message())))?;
        return table.get("dataset").cloned().ok_or_else(|| Error::Usage(format!("--dataset {text}: no data set")));
    }
    if text.ends_with(".safetensors") {
        return Ok(toml::Table::from_iter([("safetensors".to_owned(), text.into())]).into());
    }
    Ok(text.into())
}

/// Checks that three different files are named, of which two can be written.
fn check_paths(args: &ImportArgs) -> Result<()> {
    let place = |path: &PathBuf| path.canonicalize().or_else(|_| std::path::absolute(path));
    let same =
        |one: &PathBuf, other: &PathBuf| matches!((place(one), place(other)), (Ok(one), Ok(other)) if one == other);
    for (flag, one, other) in [
        ("--out", &args.out, &args.archive),
        ("--weights", &args.weights, &args.archive),
        ("--weights", &args.weights, &args.out),
    ] {
        if same(one, other) {
            return Err(Error::Usage(format!(
                "{flag} {}: this is another file of this command; name one of its own",
                one.display()
            )));
        }
    }
    tensor_file::check_writable(&args.out)?;
    tensor_file::check_writable(&args.weights)
}

/// A file's path as one beside it names it.
fn beside(from: &Path, to: &Path) -> Result<String> {
    let absolute = |path: &Path| std::path::absolute(path).at("finding", path);
    let (from, to) = (absolute(from)?, absolute(to)?);
    let inside = from.parent().and_then(|folder| to.strip_prefix(folder).ok()).unwrap_or(&to);
    let text = inside.to_str().ok_or_else(|| {
        Error::Usage(format!("--weights {}: a problem file can only name a path that is text", to.display()))
    })?;
    Ok(text.to_owned())
}
