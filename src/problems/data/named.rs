//! The data sets that problem files call by a name: those of this package, and a program's own.

use super::built_in::built_in;
use super::named_set::NamedSet;
use crate::entries::Entries;
use crate::error::{Error, Result};
use crate::suggest;

static ENTRIES: Entries<&'static dyn NamedSet> = Entries::new(built_in);

/// Has these sets in place of those that there are.
pub(crate) fn replace(entries: Vec<&'static dyn NamedSet>) {
    ENTRIES.replace(entries);
}

/// All named sets, a program's own last.
pub fn named_sets() -> Vec<&'static dyn NamedSet> {
    ENTRIES.all()
}

/// Their names.
pub fn set_names() -> Vec<&'static str> {
    named_sets().into_iter().map(|set| set.name()).collect()
}

/// The set of this name.
///
/// # Errors
/// [`Error::Usage`] for an unknown name, with the nearest one.
pub fn named_set(name: &str) -> Result<&'static dyn NamedSet> {
    ENTRIES.find(|set| set.name() == name).ok_or_else(|| {
        let names = set_names();
        let near = suggest::closest(name, names.iter().copied());
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Error::Usage(format!("data set `{name}`: expected one of {}{hint}", names.join(", ")))
    })
}
