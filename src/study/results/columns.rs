//! Which options of optimizers are columns of a study's tables.

use super::super::settings::{Grid, RunSettings};
use crate::optimizers::{OptimizerName, OptionValue};

/// Options that say which method it is that bears an optimizer's name: a column wherever one is not at its default.
const TELLING: [&str; 2] = ["averaging", "kfac_approx"];

/// The options, in the registry's order, that are columns beside these grids: those of which the settings of an optimizer
/// have several values, in one grid or in several under different labels, and those that say which method bears an optimizer's name, wherever
/// one is not at its default.
pub fn option_columns<'a>(grids: impl IntoIterator<Item = &'a Grid>) -> Vec<&'static str> {
    let settings: Vec<&RunSettings> = grids.into_iter().flat_map(|grid| &grid.settings).collect();
    let is_column = |key: &str| {
        let with_it = || settings.iter().filter_map(|settings| Some((settings.optimizer.name, settings.option(key)?)));
        let mut first: Vec<(OptimizerName, OptionValue)> = Vec::new();
        with_it().any(|(name, value)| {
            let default = name.option(key).map(|info| (info.default)());
            if TELLING.contains(&key) && Some(&value) != default.as_ref() {
                return true;
            }
            match first.iter().find(|(known, _)| *known == name) {
                Some((_, other)) => *other != value,
                None => {
                    first.push((name, value));
                    false
                }
            }
        })
    };
    OptimizerName::all_options().into_iter().map(|info| info.key).filter(|key| is_column(key)).collect()
}

/// The values of these columns for a setting, empty where its optimizer has no such option.
pub fn option_cells(columns: &[&'static str], settings: &RunSettings) -> Vec<String> {
    let cell = |key: &&str| settings.option(key).map(|value| value.to_string()).unwrap_or_default();
    columns.iter().map(cell).collect()
}
