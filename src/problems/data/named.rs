//! The data sets that problem files call by a name: those of this package, and a program's own.

use super::catalog::{CATALOG, Published, published};
use super::folders::{DataFolders, read_published};
use super::formats::mini;
use super::identity::{Identity, identify_published};
use super::named_set::NamedSet;
use super::set::{DataInfo, DataSet, Inputs, default_valid_size};
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

/// The sets of this package.
pub(crate) fn built_in() -> Vec<&'static dyn NamedSet> {
    let mut sets: Vec<&'static dyn NamedSet> = CATALOG.iter().map(|set| set as &dyn NamedSet).collect();
    // Behind the set that it is a part of.
    sets.insert(2, &Mini);
    sets
}

impl NamedSet for Published {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> &'static str {
        self.title
    }

    fn load(&self, folders: &DataFolders) -> Result<DataSet> {
        let place = folders.find(self)?;
        tracing::debug!(set = self.name, path = %place.path().display(), "reading the data set");
        let identity = identify_published(self, &place)?;
        let (train, test) = read_published(self, &place)?;
        identity.check_unchanged()?;
        Ok(DataSet {
            name: self.name.to_owned(),
            train: train.into_samples(),
            test: test.into_samples(),
            shape: self.shape.map(|size| size as i64).to_vec(),
            classes: Some(self.classes),
            built_in: true,
            normalization: self.normalization(),
            augmentation: self.recipe,
            train_eval_size: self.valid,
            default_valid_size: self.valid,
            vocabulary: None,
            fingerprint: identity.fingerprint,
        })
    }

    fn describe(&self, _folders: &DataFolders) -> Result<DataInfo> {
        let counts = (self.train, self.test, self.valid);
        Ok(DataInfo { augmentation: self.recipe.is_some(), ..images(self.name, self.shape, self.classes, counts) })
    }

    fn identify(&self, folders: &DataFolders) -> Result<Identity> {
        identify_published(self, &folders.find(self)?)
    }

    fn published(&self) -> Option<&'static Published> {
        published(self.name)
    }
}

/// The set that is part of this package.
struct Mini;

impl NamedSet for Mini {
    fn name(&self) -> &'static str {
        "fashion_mnist_mini"
    }

    fn title(&self) -> &'static str {
        "a part of Fashion-MNIST"
    }

    fn load(&self, _folders: &DataFolders) -> Result<DataSet> {
        let (train, test) = mini::read()?;
        let (train, test) = (train.into_samples(), test.into_samples());
        let plain = DataSet::plain(self.name().to_owned(), train, test, Some(10), self.name().to_owned());
        Ok(DataSet { built_in: true, ..plain })
    }

    fn describe(&self, _folders: &DataFolders) -> Result<DataInfo> {
        let counts = (mini::TRAIN, mini::TEST, default_valid_size(mini::TRAIN));
        Ok(images(self.name(), [1, 28, 28], 10, counts))
    }

    fn identify(&self, _folders: &DataFolders) -> Result<Identity> {
        Ok(Identity::of_content(self.name().to_owned()))
    }
}

fn images(name: &str, shape: [usize; 3], classes: usize, (train, test, valid): (usize, usize, usize)) -> DataInfo {
    DataInfo {
        name: name.to_owned(),
        shape: shape.map(|size| size as i64).to_vec(),
        inputs: Inputs::Integers,
        classes: Some(classes),
        target_shape: Vec::new(),
        train,
        test,
        built_in: true,
        augmentation: false,
        default_valid_size: valid,
    }
}
