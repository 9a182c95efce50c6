//! Where data sets lie: the data folders in the order in which they are searched, and a set's files in one of them; and
//! how a published set is read from there.

use std::path::{Path, PathBuf};

use super::catalog::{Format, Published};
use super::defect::read_small_file;
use super::formats::{Images, cifar, idx, svhn};
use crate::error::{Error, Result};

/// The data folders, the first to be searched first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFolders(pub Vec<PathBuf>);

/// Where a set was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder with the files as published (or an archive's files).
    Folder(PathBuf),
    /// The published archive.
    Archive(PathBuf),
}

impl Place {
    /// The folder or the archive.
    pub fn path(&self) -> &Path {
        match self {
            Place::Folder(path) | Place::Archive(path) => path,
        }
    }
}

impl DataFolders {
    /// The folder that a flag names, else the one that BACKPACK_RUN_DATA names; without either `data/` here, the user's
    /// data folder, and Debian's. In each of them torchvision's layout is recognised too.
    pub fn from_choice(data_dir: Option<&Path>) -> Self {
        let from_environment = || std::env::var_os("BACKPACK_RUN_DATA").filter(|value| !value.is_empty());
        if let Some(folder) = data_dir.map(Path::to_owned).or_else(|| from_environment().map(PathBuf::from)) {
            return DataFolders(vec![folder]);
        }
        let mut folders = vec![PathBuf::from("data")];
        folders.extend(directories::ProjectDirs::from("", "", "backpack-run").map(|dirs| dirs.data_dir().to_owned()));
        folders.push(PathBuf::from("/usr/share/datasets"));
        DataFolders(folders)
    }

    /// Where new files are put: the first folder.
    pub fn target(&self) -> &Path {
        self.0.first().map_or(Path::new("data"), PathBuf::as_path)
    }

    /// Where the set's files lie.
    ///
    /// # Errors
    /// [`Error::MissingData`] that lists where they were looked for, what is there only in part, and what to do.
    pub fn find(&self, set: &Published) -> Result<Place> {
        let mut looked = String::new();
        for root in &self.0 {
            for below in std::iter::once(set.folder).chain(set.also.iter().copied()) {
                let folder = if below.is_empty() { root.clone() } else { root.join(below) };
                let missing: Vec<_> =
                    set.file_names().into_iter().filter(|name| file_in(&folder, name).is_none()).collect();
                if missing.is_empty() {
                    return Ok(Place::Folder(folder));
                }
                let note = if missing.len() < set.file_names().len() {
                    format!(" (without {})", missing.join(", "))
                } else {
                    String::new()
                };
                looked += &format!("\n  {}{note}", folder.display());
            }
            if let Format::Cifar(_) = set.format {
                let archive = root.join(set.files[0].name);
                if archive.is_file() {
                    return Ok(Place::Archive(archive));
                }
                looked += &format!("\n  {}", archive.display());
            }
            for pickle in set.pickles.iter().map(|name| root.join(name)).filter(|path| path.exists()) {
                looked += &format!(
                    "\n  {} is there, but that is the Python version (pickles), which is not read: the binary version \
                     is needed",
                    pickle.display()
                );
            }
        }
        Err(Error::MissingData(format!(
            "data set {}: not found. Looked for it in:{looked}\nGet it with `backpack-run data fetch {}`, copy files \
             that you have with `backpack-run data import {} PATH`, or name the folder that holds {}/ with the option \
             `data_dir` (BACKPACK_RUN_DATA)",
            set.name, set.name, set.name, set.folder
        )))
    }
}

impl Published {
    /// More bytes than a file of this name has, however it is packed.
    pub(crate) fn most_file_bytes(&self, name: &str) -> u64 {
        let largest = self.train.max(self.test);
        // Labels of MAT-files may be doubles.
        let image = self.shape.iter().product::<usize>() + size_of::<f64>();
        let sample = if name.contains("labels") { 1 } else { image };
        (2 * largest * sample + (1 << 20)) as u64
    }

    /// The names of the files that a folder must hold.
    pub(crate) fn file_names(&self) -> Vec<&'static str> {
        match self.format {
            Format::Cifar(variant) => variant.members().iter().map(|member| member.name).collect(),
            _ => self.files.iter().map(|file| file.name).collect(),
        }
    }
}

/// The file in a folder, or, of a .gz, what it holds (as torchvision leaves it).
pub(crate) fn file_in(folder: &Path, name: &str) -> Option<PathBuf> {
    let plain = name.strip_suffix(".gz").filter(|_| name.contains("ubyte"));
    [Some(name), plain].into_iter().flatten().map(|name| folder.join(name)).find(|path| path.is_file())
}

// Reading a published set from where its files lie.

/// Reads the training and the test images of a published set.
pub(crate) fn read_published(set: &Published, place: &Place) -> Result<(Images, Images)> {
    let open = |folder: &Path, name: &str| {
        let path = file_in(folder, name).unwrap_or_else(|| folder.join(name));
        read_small_file(&path, set.most_file_bytes(name) as usize).map(|bytes| (bytes, path))
    };
    match (set.format, place) {
        (Format::Idx, Place::Folder(folder)) => {
            let half = |images: usize, labels: usize, count: usize| {
                let (images, labels) = (open(folder, set.files[images].name)?, open(folder, set.files[labels].name)?);
                let size = [set.shape[1], set.shape[2]];
                let expected = idx::Expected { size, classes: set.classes as u8, count: Some(count) };
                idx::parse_images((&images.0, &images.1), (&labels.0, &labels.1), expected)
            };
            Ok((half(0, 1, set.train)?, half(2, 3, set.test)?))
        }
        (Format::Svhn, Place::Folder(folder)) => {
            let half = |file: usize, count: usize| {
                let (bytes, path) = open(folder, set.files[file].name)?;
                svhn::parse(&bytes, &path, Some(count))
            };
            Ok((half(0, set.train)?, half(1, set.test)?))
        }
        (Format::Cifar(variant), Place::Folder(folder)) => cifar::read_folder(folder, variant),
        (Format::Cifar(variant), Place::Archive(path)) => {
            cifar::parse_archive(&cifar::read_archive(path, variant)?, path, variant)
        }

        (_, Place::Archive(path)) => Err(Error::Usage(format!("{}: {} has no archive", path.display(), set.title))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problems::data::published;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }

    #[test]
    fn every_layout_is_recognised() {
        for (set, folder, files) in [
            ("mnist", "mnist", &published("mnist").unwrap().file_names()[..]),
            (
                "mnist",
                "MNIST/raw",
                &[
                    "train-images-idx3-ubyte",
                    "train-labels-idx1-ubyte",
                    "t10k-images-idx3-ubyte",
                    "t10k-labels-idx1-ubyte",
                ],
            ),
            ("fashion_mnist", "FashionMNIST/raw", &published("mnist").unwrap().file_names()[..]),
            ("cifar100", "cifar-100-binary", &["train.bin", "test.bin"]),
            ("svhn", "svhn", &["train_32x32.mat", "test_32x32.mat"]),
            ("svhn", "", &["train_32x32.mat", "test_32x32.mat"]),
        ] {
            let root = tempfile::tempdir().unwrap();
            let folders = DataFolders(vec!["/nowhere".into(), root.path().to_owned()]);
            let set = published(set).unwrap();
            for file in &files[1..] {
                touch(&root.path().join(folder).join(file));
            }
            let error = folders.find(set).unwrap_err().to_string();
            assert!(error.contains("without") && error.contains("/nowhere"), "{error}");
            touch(&root.path().join(folder).join(files[0]));
            let place = folders.find(set).unwrap();
            assert_eq!(
                place.path().components().collect::<PathBuf>(),
                root.path().join(folder).components().collect::<PathBuf>()
            );
        }
    }

    #[test]
    fn an_archive_is_found_and_pickles_are_named() {
        let root = tempfile::tempdir().unwrap();
        let folders = DataFolders(vec![root.path().to_owned()]);
        let set = published("cifar10").unwrap();
        touch(&root.path().join("cifar-10-batches-py/data_batch_1"));
        let error = folders.find(set).unwrap_err().to_string();
        assert!(error.contains("pickles") && error.contains("data fetch cifar10"), "{error}");
        touch(&root.path().join("cifar-10-binary.tar.gz"));
        assert_eq!(folders.find(set).unwrap(), Place::Archive(root.path().join("cifar-10-binary.tar.gz")));
    }
}
