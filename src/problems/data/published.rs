//! Reading a published set from where its files lie.

use std::path::Path;

use super::catalog::{Format, Published};
use super::defect::read_small_file;
use super::folders::{Place, file_in};
use super::formats::{Images, cifar, idx, svhn};
use crate::error::{Error, Result};

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
