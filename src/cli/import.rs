//! `backpack-run import`: a network exported by torch.export, as a problem file and a weights file.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use tch::Tensor;

use super::samples;
use super::terminal::print;
use crate::backpack::{Network, tensor_file};
use crate::config::name::{FOLDER_NAME, is_folder_name};
use crate::error::{Error, IoContext, Result};
use crate::files;
use crate::import::{Head, network};
use crate::problems::builder::lay_out;
use crate::problems::data::{DataFolders, describe};
use crate::problems::definition::{self, LossKind};

/// Turn a network saved by torch.export into a problem file and weights.
///
/// Example: backpack-run import net.pt2 --out net.toml --weights w.safetensors --loss cross_entropy
///
/// In Python, save the network with torch.export.save(torch.export.export(model.eval(), (x,)), "net.pt2"). Nothing in the
/// archive is executed. Parameters keep PyTorch's names. An operation that problem files cannot express is refused with the
/// line of source code that computes it, and neither file is written.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// The archive; with --weights-only, also a state_dict saved as safetensors
    #[arg(value_name = "NET.pt2")]
    pub archive: PathBuf,
    /// The problem file to write
    #[arg(long, value_name = "NET.toml", required_unless_present = "weights_only")]
    pub out: Option<PathBuf>,
    /// The safetensors file to write
    #[arg(long, value_name = "W.safetensors")]
    pub weights: PathBuf,
    /// Only write the weights, under the parameter names of --problem
    #[arg(long, requires = "problem", conflicts_with_all = ["out", "dataset", "loss", "name", "start_from_weights"])]
    pub weights_only: bool,
    /// The problem the weights are for: a built-in name or the path of a problem file
    #[arg(long, value_name = "P", requires = "weights_only")]
    pub problem: Option<String>,
    /// Match weights with other names by shape, in order, and show the matches
    #[arg(long, requires = "weights_only")]
    pub match_by_shape: bool,
    /// The problem's data set: a name, a .safetensors file, or TOML such as { text = "file.txt", context = 64 }; without it, the
    /// problem only states its input shape and cannot be trained
    #[arg(long, value_name = "D")]
    pub dataset: Option<String>,
    /// The problem's loss: cross_entropy, mse or bce_with_logits
    #[arg(long, value_name = "L")]
    pub loss: Option<String>,
    /// The problem's name [default: the archive's file name without its extension]
    #[arg(long, value_name = "N")]
    pub name: Option<String>,
    /// Start all runs of the problem from these weights, whatever their seed
    #[arg(long)]
    pub start_from_weights: bool,
}

/// Reads the archive and writes both files, or neither.
///
/// # Errors
/// What [`network`] says; [`Error::Usage`] for flags; [`Error::Io`] where a file cannot be written.
pub fn run(args: ImportArgs) -> Result<()> {
    match (&args.out, &args.problem) {
        (Some(out), _) => network_and_weights(&args, out),
        (None, Some(problem)) => weights_only(&args, problem),
        (None, None) => Err(Error::Usage("name the problem file to write with --out".into())),
    }
}

/// Writes a state_dict by the names of a problem.
fn weights_only(args: &ImportArgs, problem: &str) -> Result<()> {
    check_paths(&[("--weights", &args.weights)], &[&args.archive])?;
    let definition = definition::load(problem)?;
    let info = describe(&definition.dataset, &DataFolders::from_choice(None))?;
    let network = lay_out(&definition, &info.shape)?;
    let given = samples::read_weights(&args.archive)?;
    let of_network: HashSet<String> = names(&network).map(|(name, _)| name).collect();
    // A tensor that PyTorch knows by several names is there once for each.
    let twin = |place: usize| {
        let (name, tensor) = &given[place];
        let same = |(other, twin): &(String, Tensor)| other != name && of_network.contains(other) && twin == tensor;
        !of_network.contains(name) && given.iter().any(same)
    };
    let extra: Vec<bool> = (0..given.len()).map(twin).collect();
    let kept = given.into_iter().zip(extra).filter(|(_, extra)| !extra).map(|(tensor, _)| tensor).collect();
    let path = args.archive.display();
    let of = |error| match error {
        Error::Shape(text) => Error::Shape(format!("{path}: {text}")),
        other => other,
    };
    let mut tensors = samples::named_weights(&network, kept, args.match_by_shape).map_err(of)?;
    tensors.retain(|name, _| !name.ends_with("num_batches_tracked"));
    let mut problems = Vec::new();
    let mut written = Vec::new();
    for (name, shape) in names(&network) {
        match tensors.remove(&name) {
            None => problems.push(format!("`{name}` of shape {shape:?} is missing")),
            Some(tensor) if tensor.size() != shape => {
                problems.push(format!("`{name}` has the shape {:?}, the network's is {shape:?}", tensor.size()));
            }
            Some(tensor) => written.push((name, tensor)),
        }
    }
    problems.extend(tensors.keys().map(|name| format!("`{name}` is not a parameter of the network")));
    if !problems.is_empty() {
        let error = Error::Shape(format!("{path}: {}", problems.join("; ")));
        return Err(if args.match_by_shape { error } else { samples::offer_by_shape(error) });
    }
    tensor_file::write(&args.weights, &written, &metadata())?;
    print(&format!("{}: {} tensors\n", args.weights.display(), written.len()))
}

/// The names and shapes of a network's parameters and buffers.
fn names(network: &Network) -> impl Iterator<Item = (String, Vec<i64>)> {
    let parameters =
        network.parameters().into_iter().map(|parameter| (parameter.name.to_owned(), parameter.value.size()));
    parameters.chain(network.buffers().into_iter().map(|(name, buffer)| (name, buffer.size())))
}

/// What Python's safetensors writes into files of tensors.
fn metadata() -> BTreeMap<String, String> {
    BTreeMap::from([("format".to_owned(), "pt".to_owned())])
}

/// Writes a network's problem file and weights.
fn network_and_weights(args: &ImportArgs, out: &Path) -> Result<()> {
    let name = name(args)?;
    let dataset = args.dataset.as_deref().map(dataset).transpose()?;
    if let Some(loss) = &args.loss
        && !LossKind::NAMES.iter().any(|(known, _)| known == loss)
    {
        let known: Vec<&str> = LossKind::NAMES.iter().map(|(known, _)| *known).collect();
        return Err(Error::Usage(format!("--loss {loss}: unknown; losses are {}", known.join(", "))));
    }
    check_paths(&[("--out", out), ("--weights", &args.weights)], &[&args.archive])?;
    let weights = args.start_from_weights.then(|| beside(out, &args.weights)).transpose()?;
    let head = Head { name, dataset, loss: args.loss.clone(), weights };
    let file = files::open(&args.archive).map_err(|error| Error::unreadable(&args.archive, error))?;
    let (imported, tensors) = network(std::io::BufReader::new(file), &args.archive, &head)?;
    for note in &imported.notes {
        tracing::warn!("{}: {note}", args.archive.display());
    }
    if args.start_from_weights {
        tracing::warn!("the problem starts from {}: runs start alike whatever their seed", args.weights.display());
    }
    write(out, &args.weights, &imported.problem, &tensors)?;
    let (out, weights) = (out.display(), args.weights.display());
    let (layers, tensors, shape) = (imported.layers, tensors.len(), &imported.input_shape);
    print(&format!("{out}: {layers} layers for samples of shape {shape:?}\n{weights}: {tensors} tensors\n"))
}

/// Writes both files beside their places before either is put there.
fn write(out: &Path, place: &Path, problem: &str, weights: &[(String, Tensor)]) -> Result<()> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut options = tempfile::Builder::new();
    options.prefix(".backpack-run-");
    #[cfg(unix)]
    {
        // What any new file gets: the umask takes its share.
        use std::os::unix::fs::PermissionsExt;
        options.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = options.tempfile_in(folder).at("creating a file beside it", out)?;
    file.write_all(problem.as_bytes()).at("writing", out)?;
    file.as_file().sync_all().at("writing", out)?;
    tensor_file::write(place, weights, &metadata())?;
    if let Err(failed) = file.persist(out) {
        // Neither is there without the other.
        let _ = std::fs::remove_file(place);
        return Err(Error::io("putting it in place", out, failed.error));
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
        false => Err(Error::Usage(format!("`{stem}` is not a valid problem name; give one with --name"))),
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

/// Checks that what is written is no other file of the command, and can be written.
fn check_paths(written: &[(&str, &Path)], read: &[&Path]) -> Result<()> {
    let place = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path));
    let same = |one: &Path, other: &Path| matches!((place(one), place(other)), (Ok(one), Ok(other)) if one == other);
    for (number, (flag, one)) in written.iter().enumerate() {
        if read.iter().chain(written[..number].iter().map(|(_, other)| other)).any(|other| same(one, other)) {
            let one = one.display();
            return Err(Error::Usage(format!("{flag} {one}: this command already uses that file; name another one")));
        }
        tensor_file::check_writable(one)?;
    }
    Ok(())
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
