//! The binary version of CIFAR-10 and CIFAR-100, as a folder's files or as the published .tar.gz.
//!
//! Records without a header: one label byte (CIFAR-100: the coarse label, then the fine one, which counts), then 3072
//! pixels: 32 rows of 32 of red, then green, then blue.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::Images;
use crate::error::{Error, Result};
use crate::problems::data::defect::{MAX_INFLATION, REMEDY, defect, read_small_file, read_up_to};

/// [channels, height, width].
pub const SHAPE: [usize; 3] = [3, 32, 32];
const PIXELS: usize = 3 * 32 * 32;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// CIFAR-10.
    Ten,
    /// CIFAR-100.
    Hundred,
}

/// Training or test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The training file.
    Train,
    /// The test file.
    Test,
}

/// A file of the binary version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name in the folder and the archive.
    pub name: &'static str,
    /// How many images it holds.
    pub records: usize,
    /// What they are for.
    pub half: Half,
}

impl Variant {
    /// The files, training first, in the order in which their images count.
    pub fn members(self) -> &'static [Member] {
        const fn member(name: &'static str, records: usize, half: Half) -> Member {
            Member { name, records, half }
        }
        const TEN: [Member; 6] = [
            member("data_batch_1.bin", 10_000, Half::Train),
            member("data_batch_2.bin", 10_000, Half::Train),
            member("data_batch_3.bin", 10_000, Half::Train),
            member("data_batch_4.bin", 10_000, Half::Train),
            member("data_batch_5.bin", 10_000, Half::Train),
            member("test_batch.bin", 10_000, Half::Test),
        ];
        const HUNDRED: [Member; 2] = [member("train.bin", 50_000, Half::Train), member("test.bin", 10_000, Half::Test)];
        match self {
            Variant::Ten => &TEN,
            Variant::Hundred => &HUNDRED,
        }
    }

    /// The exclusive bounds of the label bytes of a record; the last is the class.
    fn label_bounds(self) -> &'static [u8] {
        match self {
            Variant::Ten => &[10],
            Variant::Hundred => &[20, 100],
        }
    }

    /// More bytes than the published archive has, packed or not.
    pub(crate) fn most_bytes(self) -> usize {
        2 * self.members().iter().map(|member| member.records * self.record_bytes()).sum::<usize>()
    }

    /// The bytes of one record.
    pub fn record_bytes(self) -> usize {
        self.label_bounds().len() + PIXELS
    }

    /// No images, with room for those of one half.
    fn room(self, half: Half) -> Images {
        let count = self.members().iter().filter(|member| member.half == half).map(|member| member.records).sum();
        Images::with_capacity(SHAPE, count)
    }
}

/// Reads the records of one file and appends them to `images`. `count` is how many there must be, where that is known;
/// `path` is for errors.
///
/// # Errors
/// [`Error::Data`] on a broken record, a wrong count or a label out of range.
pub fn parse(bytes: &[u8], path: &Path, variant: Variant, count: Option<usize>, images: &mut Images) -> Result<()> {
    let (record, bounds) = (variant.record_bytes(), variant.label_bounds());
    let whole = bytes.len() / record;
    if let Some(count) = count
        && count * record != bytes.len()
    {
        let found = format!("{} bytes ({whole} whole records)", bytes.len());
        let expected = format!("{count} records of {record} bytes, {} bytes", count * record);
        return Err(defect(path, bytes.len().min(count * record), found, expected, REMEDY));
    }
    if whole * record != bytes.len() {
        let found = format!("a record of {} bytes", bytes.len() - whole * record);
        return Err(defect(path, whole * record, found, format!("records of {record} bytes"), REMEDY));
    }
    for (place, bytes) in bytes.chunks_exact(record).enumerate() {
        let (labels, pixels) = bytes.split_at(bounds.len());
        for (byte, (&label, &bound)) in labels.iter().zip(bounds).enumerate() {
            if label >= bound {
                let expected = format!("a class from 0 to {}", bound - 1);
                return Err(defect(path, place * record + byte, format!("label {label}"), expected, REMEDY));
            }
        }
        images.labels.push(labels[bounds.len() - 1]);
        images.pixels.extend_from_slice(pixels);
    }
    Ok(())
}

/// Reads the training and the test images from a folder with the files of the binary version.
///
/// # Errors
/// [`Error::Io`] on a missing file, [`Error::Data`] as [`parse`].
pub fn read_folder(folder: &Path, variant: Variant) -> Result<(Images, Images)> {
    let (mut train, mut test) = (variant.room(Half::Train), variant.room(Half::Test));
    for member in variant.members() {
        let path = folder.join(member.name);
        let bytes = read_small_file(&path, 2 * member.records * variant.record_bytes())?;
        let images = if member.half == Half::Train { &mut train } else { &mut test };
        parse(&bytes, &path, variant, Some(member.records), images)?;
    }
    Ok((train, test))
}

/// The bytes of an archive, unless it is larger than the published one can be.
pub(crate) fn read_archive(path: &Path, variant: Variant) -> Result<Vec<u8>> {
    read_small_file(path, variant.most_bytes())
}

/// Hands the files of the binary version in the bytes of the published .tar.gz to `use_member`, in the archive's order.
///
/// # Errors
/// [`Error::Data`] where the archive cannot be read, a member has a wrong size or is missing.
pub fn read_members(
    bytes: &[u8],
    path: &Path,
    variant: Variant,
    mut use_member: impl FnMut(&'static Member, Vec<u8>, &Path) -> Result<()>,
) -> Result<()> {
    // The published archives hold little beside the members; nothing makes it worth reading on for long.
    let limit = bytes.len().saturating_mul(MAX_INFLATION).min(variant.most_bytes());
    let unreadable = |offset: u64, error: std::io::Error| {
        let expected = "the published .tar.gz of the binary version";
        defect(path, offset as usize, format!("an unreadable archive ({error})"), expected, REMEDY)
    };
    let mut archive = tar::Archive::new(MultiGzDecoder::new(bytes).take(limit as u64));
    let mut seen: Vec<&str> = Vec::new();
    for entry in archive.entries().map_err(|error| unreadable(0, error))? {
        let mut entry = entry.map_err(|error| unreadable(0, error))?;
        let offset = entry.raw_file_position();
        let name = entry.path().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let Some(member) = variant.members().iter().find(|member| Some(member.name) == name.as_deref()) else {
            continue;
        };
        if seen.contains(&member.name) {
            let found = format!("{} for the second time", member.name);
            return Err(defect(path, offset as usize, found, "it once", REMEDY));
        }
        let wanted = member.records * variant.record_bytes();
        if entry.size() != wanted as u64 {
            let found = format!("{} of {} bytes", member.name, entry.size());
            return Err(defect(path, offset as usize, found, format!("{wanted} bytes"), REMEDY));
        }
        let (content, outcome) = read_up_to(&mut entry, wanted, 1 << 26);
        outcome.map_err(|error| unreadable(offset + content.len() as u64, error))?;
        if content.len() != wanted {
            let found = format!("the end of the archive inside {}", member.name);
            return Err(defect(path, offset as usize + content.len(), found, format!("{wanted} bytes"), REMEDY));
        }
        seen.push(member.name);
        use_member(member, content, &path.join(member.name))?;
    }
    let missing: Vec<_> =
        variant.members().iter().map(|member| member.name).filter(|name| !seen.contains(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let end = archive.into_inner().limit();
    let found = format!("the end of the archive without {}", missing.join(", "));
    Err(defect(path, limit - end as usize, found, "every file of the binary version", REMEDY))
}

/// Reads the training and the test images from the bytes of the published .tar.gz.
///
/// # Errors
/// [`Error::Data`] as [`read_members`] and [`parse`].
pub fn parse_archive(bytes: &[u8], path: &Path, variant: Variant) -> Result<(Images, Images)> {
    // The files may stand in any order in the archive, but count in that of `members`.
    let mut parts: Vec<Option<Images>> = vec![None; variant.members().len()];
    read_members(bytes, path, variant, |member, content, path| {
        let mut images = Images::with_capacity(SHAPE, member.records);
        parse(&content, path, variant, Some(member.records), &mut images)?;
        let place = variant.members().iter().position(|other| other.name == member.name);
        parts[place.expect("the member is one of the variant's")] = Some(images);
        Ok(())
    })?;
    let (mut train, mut test) = (variant.room(Half::Train), variant.room(Half::Test));
    for (member, part) in variant.members().iter().zip(parts) {
        let part = part.ok_or_else(|| Error::MissingData(format!("{}: {} is missing", path.display(), member.name)))?;
        let images = if member.half == Half::Train { &mut train } else { &mut test };
        images.pixels.extend_from_slice(&part.pixels);
        images.labels.extend_from_slice(&part.labels);
    }
    Ok((train, test))
}
