//! A torch.export archive: a zip of JSON and raw tensors, read with limits and nothing in it executed; and its tensors,
//! loaded when they are asked for.
//!
//! Its form is that of torch.export.save (torch/export/pt2_archive): every member below one folder, models/NAME.json with
//! the program, data/weights and data/constants with a JSON that tells of the tensors beside it.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tch::{Kind, Tensor};
use zip::{CompressionMethod, ZipArchive};

use super::schema::{Payload, Payloads, SymInt, TensorMeta};
use crate::backpack::memory;
use crate::error::{Error, Result};

/// More members than any archive has.
const MAX_MEMBERS: usize = 200_000;
/// The largest JSON that is read; that of a network of a thousand layers takes a few MiB.
const MAX_JSON: u64 = 64 << 20;
/// What deflate can make of a byte at most, with some room.
const MAX_RATIO: u64 = 1100;

/// A file or bytes in memory.
pub trait Source: Read + Seek {}
impl<T: Read + Seek> Source for T {}

/// An archive whose list of members is sound.
#[derive(Debug)]
pub struct Archive<S> {
    zip: ZipArchive<S>,
    path: PathBuf,
    /// Places by name below the archive's own folder.
    members: HashMap<String, usize>,
}

impl<S: Source> Archive<S> {
    /// Reads the list of members; `path` is for errors.
    ///
    /// # Errors
    /// [`Error::Config`] where it is no archive of torch.export or a damaged or dangerous one, [`Error::Io`] where it cannot
    /// be read.
    pub fn open(mut source: S, path: &Path) -> Result<Self> {
        let broken = |what: &str| damaged(path, what);
        let length = source.seek(SeekFrom::End(0)).map_err(|error| Error::unreadable(path, error))?;
        let mut start = Vec::new();
        source
            .rewind()
            .and_then(|()| Read::by_ref(&mut source).take(8).read_to_end(&mut start))
            .map_err(|error| Error::unreadable(path, error))?;
        if !start.starts_with(b"PK") {
            let what = if start.starts_with(b"\x80") {
                "a pickle, as torch.save wrote it in old versions"
            } else {
                "no zip file"
            };
            return Err(broken(what));
        }
        let mut zip = ZipArchive::new(source).map_err(|error| of_zip(path, error))?;
        if zip.len() > MAX_MEMBERS {
            return Err(broken(&format!("{} members", zip.len())));
        }
        let (mut members, mut root, mut total) = (HashMap::new(), None::<String>, 0u64);
        for place in 0..zip.len() {
            let member = zip.by_index_raw(place).map_err(|error| of_zip(path, error))?;
            let name = String::from_utf8(member.name_raw().to_vec()).map_err(|_| broken("a name that is no text"))?;
            check_name(&name).map_err(|what| broken(&what))?;
            let title = name.escape_debug();
            if member.encrypted() {
                return Err(broken(&format!("`{title}` is encrypted")));
            }
            if member.is_dir() || member.is_symlink() {
                return Err(broken(&format!("`{title}` is a folder or a link, not a file")));
            }
            let (packed, whole) = (member.compressed_size(), member.size());
            let sound = match member.compression() {
                CompressionMethod::Stored => packed == whole,
                CompressionMethod::Deflated => whole / MAX_RATIO <= packed,
                _ => false,
            };
            if !sound {
                let method = member.compression();
                return Err(broken(&format!("`{title}` tells of {whole} bytes in {packed}, packed as {method:?}")));
            }
            total = total.saturating_add(packed);
            // What lies elsewhere than in a folder of its own is found missing below.
            let Some((folder, rest)) = name.split_once('/') else {
                return Err(broken(&format!("`{title}` lies bare")));
            };
            if root.get_or_insert_with(|| folder.to_owned()) != folder {
                return Err(broken(&format!("`{title}` lies beside the archive's folder")));
            }
            if members.insert(rest.to_owned(), place).is_some() {
                return Err(broken(&format!("two members are called `{title}`")));
            }
        }
        if total > length {
            return Err(broken(&format!("members of {total} bytes in a file of {length}: they overlap")));
        }
        let mut archive = Archive { zip, path: path.to_owned(), members };
        archive.check_form()?;
        Ok(archive)
    }

    /// Whether it says that it is what torch.export.save writes.
    fn check_form(&mut self) -> Result<()> {
        if !self.members.contains_key("archive_format") {
            let what = if self.members.contains_key("data.pkl") {
                "a pickle of torch.save, which only Python can read"
            } else if self.members.contains_key("serialized_exported_program.json") {
                "an archive of torch before 2.8"
            } else {
                "no archive of torch.export (no member `archive_format`)"
            };
            return Err(damaged(&self.path, what));
        }
        for (member, expected) in [("archive_format", "pt2"), ("byteorder", "little"), ("archive_version", "0")] {
            if member == "byteorder" && !self.members.contains_key(member) {
                continue;
            }
            let found = self.bytes(member, 64)?;
            if found != expected.as_bytes() {
                let found = String::from_utf8_lossy(&found);
                let what = format!("`{member}` is `{}`; expected `{expected}`", found.escape_debug());
                return Err(damaged(&self.path, &what));
            }
        }
        Ok(())
    }

    /// The archive's file, for errors.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the one model in it.
    ///
    /// # Errors
    /// [`Error::Config`] where there is none, or several.
    pub fn model(&self) -> Result<String> {
        let inside = |name: &String| Some(name.strip_prefix("models/")?.strip_suffix(".json")?.to_owned());
        let mut models: Vec<String> = self.members.keys().filter_map(inside).collect();
        models.sort();
        match models.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(damaged(&self.path, "no member models/NAME.json")),
            several => Err(damaged(&self.path, &format!("several models ({}): export one", several.join(", ")))),
        }
    }

    /// Whether there is such a member.
    pub fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// How long a member is when it is unpacked, as the archive tells.
    pub fn size(&mut self, name: &str) -> Result<u64> {
        let place = self.place(name)?;
        Ok(self.zip.by_index_raw(place).map_err(|error| of_zip(&self.path, error))?.size())
    }

    /// A member that is JSON.
    ///
    /// # Errors
    /// [`Error::Config`] where it is missing, too large, or not the JSON that is expected.
    pub fn json<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let bytes = self.bytes(name, MAX_JSON)?;
        self.parse(name, &bytes)
    }

    /// Reads bytes of a member as JSON.
    pub fn parse<T: DeserializeOwned>(&self, name: &str, bytes: &[u8]) -> Result<T> {
        if bytes.first() == Some(&0x80) || bytes.starts_with(b"PK") {
            return Err(damaged(&self.path, &format!("`{name}` is a pickle where JSON is expected; it is not read")));
        }
        serde_json::from_slice(bytes).map_err(|error| damaged(&self.path, &format!("`{name}`: {error}")))
    }

    /// The JSON bytes of a member.
    pub fn json_bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        self.bytes(name, MAX_JSON)
    }

    /// A member's bytes; not more than `most`.
    ///
    /// # Errors
    /// [`Error::Config`] where it is missing, longer than `most` or than the archive tells, or damaged; [`Error::Io`] where
    /// it cannot be read.
    pub fn bytes(&mut self, name: &str, most: u64) -> Result<Vec<u8>> {
        let place = self.place(name)?;
        let path = &self.path;
        let member = self.zip.by_index(place).map_err(|error| of_zip(path, error))?;
        let size = member.size();
        if size > most {
            return Err(damaged(path, &format!("`{name}` has {size} bytes; expected at most {most}")));
        }
        let mut bytes = Vec::new();
        let room = usize::try_from(size).unwrap_or(usize::MAX);
        bytes.try_reserve_exact(room).map_err(|_| Error::Environment(format!("no memory for {size} bytes")))?;
        let mut limited = member.take(size.saturating_add(1));
        limited.read_to_end(&mut bytes).map_err(|error| of_reading(path, name, error))?;
        if bytes.len() as u64 != size {
            return Err(damaged(path, &format!("`{name}` has {} bytes, not the {size} that it tells of", bytes.len())));
        }
        Ok(bytes)
    }

    fn place(&self, name: &str) -> Result<usize> {
        let missing = || damaged(&self.path, &format!("no member `{}`", name.escape_debug()));
        self.members.get(name).copied().ok_or_else(missing)
    }
}

/// Refuses names that lead out of a folder, and those that no archive of torch has.
fn check_name(name: &str) -> Result<(), String> {
    let title = name.escape_debug();
    let climbs = name.split('/').any(|part| part == ".." || part == ".");
    if climbs || name.starts_with('/') || name.contains(['\\', ':', '\0']) {
        return Err(format!("a member `{title}` that leads out of the archive"));
    }
    Ok(())
}

/// The error about an archive that is not what it should be.
pub fn damaged(path: &Path, what: &str) -> Error {
    Error::Config(format!(
        "{}: {what}. Expected an archive as torch.export.save(torch.export.export(model, (x,)), \"net.pt2\") writes it",
        path.display()
    ))
}

fn of_zip(path: &Path, error: zip::result::ZipError) -> Error {
    match error {
        zip::result::ZipError::Io(error) => of_reading(path, "the list of members", error),
        other => damaged(path, &format!("a damaged zip ({other})")),
    }
}

/// What is wrong with the bytes, told from what is wrong with the disk.
fn of_reading(path: &Path, name: &str, error: std::io::Error) -> Error {
    use std::io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    match error.kind() {
        InvalidData | InvalidInput | UnexpectedEof | Other => damaged(path, &format!("`{name}` is damaged ({error})")),
        _ => Error::io("reading", path, error),
    }
}

// The tensors of an archive: where each lies, and its values when they are asked for.

/// The types of torch that are read, by their number in the schema.
const KINDS: [(i64, Kind); 9] = [
    (1, Kind::Uint8),
    (2, Kind::Int8),
    (3, Kind::Int16),
    (4, Kind::Int),
    (5, Kind::Int64),
    (6, Kind::Half),
    (7, Kind::Float),
    (8, Kind::Double),
    (12, Kind::Bool),
];
/// The number of bfloat16.
const BFLOAT16: i64 = 13;

/// The type of this number in the schema.
pub fn kind(dtype: i64) -> Option<Kind> {
    if dtype == BFLOAT16 {
        return Some(Kind::BFloat16);
    }
    KINDS.iter().find(|(number, _)| *number == dtype).map(|(_, kind)| *kind)
}

/// A tensor that the archive tells of.
#[derive(Clone, Debug)]
struct Entry {
    /// The member with its storage.
    member: String,
    kind: Kind,
    sizes: Vec<i64>,
    strides: Vec<i64>,
    offset: i64,
    parameter: bool,
}

/// Every tensor that an archive tells of, by its name.
pub struct Tensors {
    entries: HashMap<String, Entry>,
    /// The names, in the archive's order.
    names: Vec<String>,
}

impl Tensors {
    /// Reads what the archive tells of its weights and constants, and compares it with the sizes of their members.
    ///
    /// # Errors
    /// [`Error::Config`] for what is damaged, pickled, or of a type that is not read.
    pub fn read<S: Source>(archive: &mut Archive<S>, model: &str) -> Result<Self> {
        let mut tensors = Tensors { entries: HashMap::new(), names: Vec::new() };
        for kind in ["weights", "constants"] {
            let config = format!("data/{kind}/{model}_{kind}_config.json");
            if kind == "constants" && !archive.has(&config) {
                continue;
            }
            let payloads: Payloads = archive.json(&config)?;
            for (name, json) in payloads.config {
                let payload: Payload = serde_json::from_value(json).map_err(|error| {
                    damaged(archive.path(), &format!("`{config}`, `{}`: {error}", name.escape_debug()))
                })?;
                let entry = tensors.entry(archive, &format!("data/{kind}"), &name, payload)?;
                if tensors.entries.insert(name.clone(), entry).is_some() {
                    return Err(damaged(archive.path(), &format!("two tensors are called `{}`", name.escape_debug())));
                }
                tensors.names.push(name);
            }
        }
        Ok(tensors)
    }

    fn entry<S: Source>(&self, archive: &mut Archive<S>, folder: &str, name: &str, payload: Payload) -> Result<Entry> {
        let path = archive.path().to_owned();
        let odd = |what: String| damaged(&path, &format!("the tensor `{}`: {what}", name.escape_debug()));
        if payload.use_pickle {
            return Err(odd("it is pickled, and only raw tensors are read".into()));
        }
        let meta = payload.tensor_meta.ok_or_else(|| odd("nothing tells its sizes".into()))?;
        let kind =
            kind(meta.dtype).ok_or_else(|| odd(format!("type {} is not read; convert it to float", meta.dtype)))?;
        let (sizes, strides, offset) = extent(&meta).ok_or_else(|| odd("sizes that no tensor has".into()))?;
        let member = format!("{folder}/{}", payload.path_name);
        let width = kind.elt_size_in_bytes() as u64;
        let bytes = archive.size(&member)?;
        let last = reach(&sizes, &strides, offset).ok_or_else(|| odd("strides that no tensor has".into()))?;
        let count = sizes.iter().product::<i64>() as u64;
        if !bytes.is_multiple_of(width) || last.max(count) > bytes / width {
            let needed = last.max(count).saturating_mul(width);
            return Err(odd(format!("sizes {sizes:?} of {kind:?} take {needed} bytes, `{member}` has {bytes}")));
        }
        // Room for a small part of a larger tensor, not for a bomb.
        if bytes / 64 > last.max(count).saturating_mul(width) + (1 << 14) {
            let (needed, remedy) = (last.max(count) * width, "clone the parameter before the export");
            return Err(odd(format!("it takes {needed} bytes of the {bytes} of `{member}`; {remedy}")));
        }
        Ok(Entry { member, kind, sizes, strides, offset, parameter: payload.is_param })
    }

    /// The names, in the archive's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether a network holds it: a parameter, or a running statistic; masks and the like are its layers' own.
    pub fn is_held(&self, name: &str) -> bool {
        let statistic = name.ends_with("running_mean") || name.ends_with("running_var");
        statistic || self.entries.get(name).is_some_and(|entry| entry.parameter)
    }

    /// The sizes of a tensor.
    pub fn sizes(&self, name: &str) -> Option<&[i64]> {
        self.entries.get(name).map(|entry| entry.sizes.as_slice())
    }

    /// Whether two names are of one tensor, the same part of the same storage.
    pub fn same(&self, one: &str, other: &str) -> bool {
        let part = |name| {
            self.entries.get(name).map(|entry| (&entry.member, &entry.sizes, &entry.strides, entry.offset, entry.kind))
        };
        one == other || (part(one).is_some() && part(one) == part(other))
    }

    /// The values of a tensor.
    ///
    /// # Errors
    /// [`Error::Config`] where it is missing or damaged, [`Error::Environment`] where the memory does not suffice.
    pub fn load<S: Source>(&self, archive: &mut Archive<S>, name: &str) -> Result<Tensor> {
        let missing = || damaged(archive.path(), &format!("no tensor `{}`", name.escape_debug()));
        let entry = self.entries.get(name).ok_or_else(missing)?.clone();
        let size = archive.size(&entry.member)?;
        // The bytes, and the tensors made of them.
        memory::check_room(format_args!("{} in {}", entry.member, archive.path().display()), size.saturating_mul(3))?;
        let bytes = archive.bytes(&entry.member, size)?;
        if bytes.is_empty() || entry.sizes.contains(&0) {
            return Ok(Tensor::f_zeros(entry.sizes.as_slice(), (entry.kind, tch::Device::Cpu))?);
        }
        let count = bytes.len() / entry.kind.elt_size_in_bytes();
        let storage = Tensor::f_from_data_size(&bytes, &[count as i64], entry.kind)?;
        let view = storage.f_as_strided(entry.sizes.as_slice(), entry.strides.as_slice(), entry.offset)?;
        Ok(view.f_contiguous()?)
    }
}

/// Sizes, strides and offset that are numbers of one tensor.
fn extent(meta: &TensorMeta) -> Option<(Vec<i64>, Vec<i64>, i64)> {
    let numbers =
        |list: &[SymInt]| list.iter().map(|size| size.value().filter(|&size| size >= 0)).collect::<Option<Vec<i64>>>();
    let (sizes, strides) = (numbers(&meta.sizes)?, numbers(&meta.strides)?);
    let offset = meta.storage_offset.as_ref().map_or(Some(0), SymInt::value).filter(|&offset| offset >= 0)?;
    crate::tensor_head::sizes(&sizes.iter().map(|&size| size as usize).collect::<Vec<_>>())?;
    (sizes.len() == strides.len() && sizes.len() <= 64).then_some((sizes, strides, offset))
}

/// How many entries of the storage there have to be.
fn reach(sizes: &[i64], strides: &[i64], offset: i64) -> Option<u64> {
    if sizes.contains(&0) {
        return Some(0);
    }
    let mut last = offset;
    for (size, stride) in sizes.iter().zip(strides) {
        last = last.checked_add((size - 1).checked_mul(*stride)?)?;
    }
    Some(last as u64 + 1)
}

impl std::fmt::Debug for Tensors {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(&self.names).finish()
    }
}
