//! `list`: the problems, layer types, optimizers and quantities that there are.

mod layers;
mod optimizers;
mod problems;
mod quantities;
mod render;

use std::io::Write;

use clap::{Args, Subcommand};

use super::flags::{FolderFlags, OutputFlags};
use crate::error::{IoContext, Result};
use crate::problems::data::DataFolders;

/// What to list, and how.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    /// Problems: data, layers, parameters, training defaults; for problems named here, layer by layer
    Problems(ProblemArgs),
    /// Layer types with their options and defaults
    Layers(OutputFlags),
    /// Optimizers with their default grids
    Optimizers(OutputFlags),
    /// Quantities of the extended backward pass
    Quantities(OutputFlags),
}

#[derive(Args, Clone, Debug)]
struct ProblemArgs {
    /// Built-in problems or paths of problem files; all built-in ones if none is given
    #[arg(value_name = "PROBLEM")]
    names: Vec<String>,
    #[command(flatten)]
    folders: FolderFlags,
    #[command(flatten)]
    output: OutputFlags,
}

/// Prints the list on stdout.
///
/// # Errors
/// For a problem that cannot be read or whose network does not fit its data, and where stdout cannot be written.
pub fn run(args: ListArgs) -> Result<()> {
    let text = match args.what {
        What::Problems(args) => {
            let folders = DataFolders::from_choice(args.folders.data().as_deref());
            problems::list(&args.names, &folders, args.output.format)?
        }
        What::Layers(output) => layers::list(output.format)?,
        What::Optimizers(output) => optimizers::list(output.format)?,
        What::Quantities(output) => quantities::list(output.format)?,
    };
    std::io::stdout().lock().write_all(text.as_bytes()).at("writing", "stdout")
}
