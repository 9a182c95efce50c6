//! What a data set that problem files call by a name has to tell.

use std::fmt;

use super::catalog::Published;
use super::folders::DataFolders;
use super::identity::Identity;
use super::set::{DataInfo, DataSet};
use crate::error::Result;

/// A data set with a name. One of your own has a name and a way to load it; the rest is for sets that take long to load.
pub trait NamedSet: Send + Sync {
    /// What a problem file writes for `dataset`: letters, digits and _.
    fn name(&self) -> &'static str;

    /// Its usual name, as `data list` shows it.
    fn title(&self) -> &'static str {
        self.name()
    }

    /// The samples, the same in every process; [`DataSet::new`] makes a set of tensors.
    ///
    /// # Errors
    /// [`crate::Error::MissingData`] where a file is not found, and what is wrong with it.
    fn load(&self, folders: &DataFolders) -> Result<DataSet>;

    /// What [`Self::load`] is going to give.
    ///
    /// # Errors
    /// As [`Self::load`].
    fn describe(&self, folders: &DataFolders) -> Result<DataInfo> {
        Ok(self.load(folders)?.info())
    }

    /// What tells the content apart from others; it is part of the identity of runs.
    ///
    /// # Errors
    /// As [`Self::load`].
    fn identify(&self, folders: &DataFolders) -> Result<Identity> {
        Ok(Identity::of_content(self.load(folders)?.fingerprint))
    }

    /// Its entry in the catalog of published files, which can be fetched, verified and imported.
    fn published(&self) -> Option<&'static Published> {
        None
    }
}

impl fmt::Debug for dyn NamedSet {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_tuple("NamedSet").field(&self.name()).finish()
    }
}
