//! The tensors of an archive: where each lies, and its values when they are asked for.

use std::collections::HashMap;

use tch::{Kind, Tensor};

use super::archive::{Archive, Source, damaged};
use super::schema::{Payload, Payloads, SymInt, TensorMeta};
use crate::backpack::memory;
use crate::error::Result;

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
