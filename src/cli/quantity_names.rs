//! Names of quantities as they are given on the command line.

use crate::backpack::quantities;
use crate::error::{Error, Result};
use crate::suggest;

/// Refuses names that no quantity has, all of them at once.
///
/// # Errors
/// [`Error::UnknownQuantity`] for one, [`Error::Usage`] for several.
pub(super) fn check<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let known: Vec<&'static str> = quantities::names().into_iter().chain(["all"]).collect();
    let unknown: Vec<&str> = names.into_iter().filter(|name| !known.contains(name)).collect();
    match unknown[..] {
        [] => Ok(()),
        [name] => Err(Error::UnknownQuantity { name: name.to_owned(), known }),
        _ => {
            let closest = |name: &&str| Some(format!("`{}`", suggest::closest(name, known.iter().copied())?));
            let help = match unknown.iter().map(closest).collect::<Option<Vec<_>>>() {
                Some(meant) => format!("did you mean {}?", meant.join(", ")),
                None => format!("known: {}", known.join(", ")),
            };
            let names: Vec<String> = unknown.iter().map(|name| format!("`{}`", name.escape_debug())).collect();
            Err(Error::Usage(format!("unknown quantities {}: {help}", names.join(", "))))
        }
    }
}
