//! `list`: the problems, layer types, optimizers and quantities that there are.

mod problems;
mod registries;
mod render;

use clap::{Args, Subcommand};

use super::flags::{FolderFlags, OutputFlags};
use super::terminal::print;
use crate::error::Result;
use crate::problems::data::DataFolders;

/// List the problems, layer types, optimizers and quantities.
///
/// Example: backpack-run list problems cifar10_3c3d
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    /// Problems: data, layers, parameters, training defaults; layer by layer for those named
    Problems(ProblemArgs),
    /// Layer types with their options and defaults
    Layers(OutputFlags),
    /// Optimizers with their default grids and options
    Optimizers(OutputFlags),
    /// Quantities of the extended backward pass, and the layers that restrict them
    Quantities(OutputFlags),
}

#[derive(Args, Clone, Debug)]
struct ProblemArgs {
    /// Built-in problems or paths of problem files [default: all built-in ones]
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
        What::Layers(output) => registries::list_layers(output.format)?,
        What::Optimizers(output) => registries::list_optimizers(output.format)?,
        What::Quantities(output) => registries::list_quantities(output.format)?,
    };
    print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpack::layers::LAYER_TYPES;
    use crate::cli::flags::Format;
    use crate::cli::widths::snapshot;
    use crate::problems::definition::built_in_names;

    fn problems(names: &[&str], format: Format) -> String {
        let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
        problems::list(&names, &DataFolders::from_choice(None), format).unwrap()
    }

    #[test]
    fn tables() {
        let texts = [
            problems(&[], Format::Table),
            problems(&["fmnist_2c2d", "cifar100_allcnnc"], Format::Table),
            problems(&["mnist_mlp"], Format::Csv),
            registries::list_layers(Format::Table).unwrap(),
            registries::list_optimizers(Format::Table).unwrap(),
        ];
        let shown = texts.join("\n");
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn lists_fit_the_terminal() {
        insta::assert_snapshot!("problems", snapshot(&|| problems(&[], Format::Table)));
        insta::assert_snapshot!("optimizers", snapshot(&|| registries::list_optimizers(Format::Table).unwrap()));
        for list in [registries::list_layers, registries::list_quantities] {
            snapshot(&|| list(Format::Table).unwrap());
        }
    }

    #[test]
    fn json_names_every_parameter_with_its_shape() {
        let document: serde_json::Value = serde_json::from_str(&problems(&[], Format::Json)).unwrap();
        assert_eq!(document["schema_version"], 1);
        let problems = document["problems"].as_array().unwrap();
        assert_eq!(problems.len(), built_in_names().len());
        let find = |name: &str| problems.iter().find(|problem| problem["name"] == name).unwrap();
        let parameters = find("mnist_2c2d")["parameters"].as_array().unwrap();
        let named = parameters.iter().map(|row| format!("{} {}", row["name"].as_str().unwrap(), row["shape"]));
        assert_eq!(
            named.collect::<Vec<_>>(),
            [
                "0.weight [32,1,5,5]",
                "0.bias [32]",
                "3.weight [64,32,5,5]",
                "3.bias [64]",
                "7.weight [1024,3136]",
                "7.bias [1024]",
                "9.weight [10,1024]",
                "9.bias [10]"
            ]
        );
        assert_eq!(find("cifar100_allcnnc")["parameter_count"], 1_387_108);
        let layers: serde_json::Value = serde_json::from_str(&registries::list_layers(Format::Json).unwrap()).unwrap();
        assert_eq!(layers["layers"].as_array().unwrap().len(), LAYER_TYPES.len());
    }

    #[test]
    fn every_form_of_every_list_has_as_many_rows_as_there_are_things() {
        let quantities = crate::backpack::quantities::all().len();
        for (csv, rows) in [
            (registries::list_layers(Format::Csv), LAYER_TYPES.len()),
            (registries::list_optimizers(Format::Csv), crate::optimizers::OptimizerName::all().count()),
            (registries::list_quantities(Format::Csv), quantities),
        ] {
            assert_eq!(csv.unwrap().lines().count(), rows + 1);
        }
    }
}
