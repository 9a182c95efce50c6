//! What has been taken of a batch so far: shares that add up, rows that follow one another, and the last step to quantities.
//!
//! Shares of parts can be kept in a file, with which an extraction goes on or which is merged with those of other parts.
//! Such a file holds what [`Quantity::finish`] is made of, under names of its own; it is no file of quantities.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{Extraction, LABELS, SCHEMA_VERSION, Taken};
use crate::backpack::layers::Basis;
use crate::backpack::losses::Reduction;
use crate::backpack::network::Network;
use crate::backpack::quantities::{Combine, Quantity, Scale, Source, Whole, by_name};
use crate::backpack::results::{self, Quantities, Share};
use crate::backpack::tensor_file;
use crate::error::{Error, Result};

/// The key of a file's metadata that tells what it is a part of.
const PART: &str = "backpack_run_part";

/// What all parts of one extraction have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct About {
    /// Tells problem, parameters and samples apart from others.
    pub identity: String,
    /// The samples of the whole batch.
    pub samples: i64,
    /// The quantities that were asked for, or of Table 1 are possible.
    pub quantities: Vec<String>,
    /// The products beside them.
    pub products: Vec<String>,
    /// The names of the network's parameters.
    pub parameters: Vec<String>,
    pub reduction: Reduction,
    pub scale: Scale,
    /// Labels for each sample, as far as any are used.
    pub mc_samples: i64,
    /// The seed of labels that are drawn.
    pub mc_seed: Option<u64>,
    pub dtype: String,
    /// What of Table 1 was left out, and why.
    pub skipped: Vec<(String, String)>,
}

/// A part's metadata.
#[derive(Serialize, Deserialize)]
struct Head {
    schema_version: u32,
    about: About,
    range: Range<i64>,
}

/// A tensor's quantity, or product, its parameter and its factor, which is empty where there is only one.
type Key = (String, usize, String);

/// The shares of the samples of a range.
#[derive(Debug)]
pub struct Sums {
    pub(super) about: About,
    range: Range<i64>,
    loss: Option<Tensor>,
    outputs: Vec<Tensor>,
    labels: Vec<Tensor>,
    /// One tensor where shares are added, else one after the other.
    shares: BTreeMap<Key, Vec<Tensor>>,
}

impl Sums {
    /// Those of no samples yet, behind `start`.
    pub(super) fn new(about: About, start: i64) -> Self {
        let range = start..start;
        Sums { about, range, loss: None, outputs: Vec::new(), labels: Vec::new(), shares: BTreeMap::new() }
    }

    /// The samples that have their share in it.
    pub fn range(&self) -> Range<i64> {
        self.range.clone()
    }

    /// What tells problem, parameters and samples apart from others.
    pub fn identity(&self) -> &str {
        &self.about.identity
    }

    /// The samples of the whole.
    pub fn samples(&self) -> i64 {
        self.about.samples
    }

    /// Adds the shares of the samples that follow, as a pass gives them for a part.
    pub(super) fn add(
        &mut self,
        part: Quantities,
        products: Vec<(&'static str, Vec<Tensor>)>,
        labels: Option<Tensor>,
    ) -> Result<()> {
        self.range.end += part.output.size()[0];
        self.loss = Some(match self.loss.take() {
            Some(before) => before + part.loss,
            None => part.loss,
        });
        self.outputs.push(part.output);
        self.labels.extend(labels);
        for value in part.values {
            self.put((value.quantity.to_owned(), value.parameter, value.factor.to_owned()), value.tensor)?;
        }
        for (name, product) in products {
            for (parameter, tensor) in product.into_iter().enumerate() {
                self.put((name.to_owned(), parameter, String::new()), tensor)?;
            }
        }
        Ok(())
    }

    /// The bases in which the layers' factors of all samples so far are diagonal, for each parameter that has one.
    ///
    /// # Errors
    /// What libtorch says when a decomposition does not converge.
    pub(super) fn bases(&self, network: &Network) -> Result<Vec<Option<Rc<Basis>>>> {
        let mut bases = vec![None; network.parameter_count()];
        for node in network.nodes() {
            let numbers: Vec<usize> = node.numbered().map(|(number, _)| number).collect();
            let factor = |factor: &str| {
                numbers.iter().find_map(|number| {
                    self.shares.get(&("kfac_expand".to_owned(), *number, factor.to_owned()))?.first()
                })
            };
            if let Some(b) = factor("B") {
                let basis = Rc::new(Basis::of(factor("A"), b)?);
                numbers.iter().for_each(|number| bases[*number] = Some(Rc::clone(&basis)));
            }
        }
        Ok(bases)
    }

    /// The labels of all samples so far.
    pub(super) fn labels(&self) -> Result<Tensor> {
        joined(&self.labels, 1)?.ok_or_else(|| Error::Shape("no labels were drawn".to_owned()))
    }

    /// Adds the shares of a part that were taken in the basis of all samples; the basis itself is kept once.
    pub(super) fn add_in_basis(&mut self, part: Quantities) -> Result<()> {
        for value in part.values {
            if by_name(value.quantity).is_none_or(|quantity| quantity.source() != Source::SampledSqrtHessianAgain) {
                continue;
            }
            let key = (value.quantity.to_owned(), value.parameter, value.factor.to_owned());
            match value.factor {
                "A" | "B" => drop(self.shares.insert(key, vec![value.tensor])),
                _ => self.put(key, value.tensor)?,
            }
        }
        Ok(())
    }

    /// Takes the shares of other quantities of the same samples.
    pub(super) fn join(&mut self, other: Sums) {
        self.shares.extend(other.shares);
    }

    fn put(&mut self, key: Key, share: Tensor) -> Result<()> {
        let is_sum = combine(&key) == Combine::Sum;
        let present = self.shares.entry(key).or_default();
        match present.first_mut().filter(|_| is_sum) {
            // Not in place: the same tensor may be there under several names.
            Some(sum) => *sum = sum.f_add(&share)?,
            None => present.push(share),
        }
        Ok(())
    }

    /// Writes them to a file.
    ///
    /// # Errors
    /// As [`tensor_file::write`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let head = Head { schema_version: SCHEMA_VERSION, about: self.about.clone(), range: self.range() };
        let head = serde_json::to_string(&head).map_err(|error| Error::Environment(error.to_string()))?;
        let mut tensors: Vec<(String, Tensor)> = Vec::new();
        tensors.extend(self.loss.as_ref().map(|loss| ("loss".to_owned(), loss.shallow_clone())));
        tensors.extend(joined(&self.outputs, 0)?.map(|output| ("output".to_owned(), output)));
        tensors.extend(joined(&self.labels, 1)?.map(|labels| (LABELS.to_owned(), labels)));
        for (key, share) in &self.shares {
            let (quantity, parameter, factor) = key;
            let tensor = whole(key, share)?;
            tensors.extend(tensor.map(|tensor| (format!("{quantity}|{parameter}|{factor}"), tensor)));
        }
        tensor_file::write(path, &tensors, &BTreeMap::from([(PART.to_owned(), head)]))
    }

    /// Reads such a file.
    ///
    /// # Errors
    /// [`Error::Usage`] for a file that is none; as [`tensor_file::read`].
    pub fn load(path: &Path) -> Result<Self> {
        let file = tensor_file::read(path)?;
        let none = |what: &str| {
            Error::Usage(format!(
                "{}: {what}; expected a file that an extraction with the option `shard` has written",
                path.display()
            ))
        };
        let head = file.metadata.get(PART).ok_or_else(|| none("this is no part of an extraction"))?;
        let head: Head =
            serde_json::from_str(head).map_err(|error| none(&format!("its metadata are damaged ({error})")))?;
        if head.schema_version != SCHEMA_VERSION {
            return Err(none(&format!("its schema_version is {}", head.schema_version)));
        }
        let (samples, parameters) = (head.about.samples, head.about.parameters.len());
        if head.range.start < 0 || head.range.end <= head.range.start || head.range.end > samples {
            return Err(none(&format!("its samples are {:?} of {samples}", head.range)));
        }
        let mut sums = Sums::new(head.about, head.range.start);
        sums.range = head.range;
        for (name, tensor) in file.tensors {
            match name.as_str() {
                "loss" => sums.loss = Some(tensor),
                "output" => sums.outputs.push(tensor),
                LABELS => sums.labels.push(tensor),
                _ => {
                    let fields: Vec<&str> = name.split('|').collect();
                    let [quantity, parameter, factor] = fields[..] else {
                        return Err(none(&format!("it holds `{name}`")));
                    };
                    let parameter = parameter.parse().ok().filter(|number| *number < parameters);
                    let parameter = parameter.ok_or_else(|| none(&format!("it holds `{name}`")))?;
                    sums.shares.insert((quantity.to_owned(), parameter, factor.to_owned()), vec![tensor]);
                }
            }
        }
        let rows = sums.outputs.first().map(|output| output.size().first().copied().unwrap_or(0));
        if sums.loss.is_none() || rows != Some(sums.range.end - sums.range.start) {
            return Err(none("it does not hold the loss and the output of its samples"));
        }
        Ok(sums)
    }

    /// The whole of parts in any order.
    ///
    /// # Errors
    /// [`Error::Usage`] that says which samples are missing or there twice, or what tells a part apart from the others.
    pub fn merge(parts: Vec<(&Path, Sums)>) -> Result<Self> {
        let mut parts = parts;
        parts.sort_by_key(|(_, part)| (part.range.start, part.range.end));
        let mut parts = parts.into_iter();
        let Some((first_path, mut whole)) = parts.next() else {
            return Err(Error::Usage("merge: expected the files of all shards, got none".to_owned()));
        };
        let samples = whole.about.samples;
        let missing = |from: i64, to: i64| {
            Error::Usage(format!("merge: no file holds the samples {from} to {} of {samples}; give all shards", to - 1))
        };
        if whole.range.start > 0 {
            return Err(missing(0, whole.range.start));
        }
        for (path, part) in parts {
            if part.about != whole.about {
                return Err(Error::Usage(format!(
                    "merge: {} is of another extraction than {}: {}",
                    path.display(),
                    first_path.display(),
                    difference(&whole.about, &part.about)
                )));
            }
            if part.range.start < whole.range.end {
                return Err(Error::Usage(format!(
                    "merge: {} holds the samples {} to {}, some of which another file holds too; give each shard once",
                    path.display(),
                    part.range.start,
                    part.range.end - 1
                )));
            }
            if part.range.start > whole.range.end {
                return Err(missing(whole.range.end, part.range.start));
            }
            whole.append(part)?;
        }
        if whole.range.end < samples {
            return Err(missing(whole.range.end, samples));
        }
        Ok(whole)
    }

    fn append(&mut self, part: Sums) -> Result<()> {
        self.range.end = part.range.end;
        self.loss = match (self.loss.take(), part.loss) {
            (Some(one), Some(other)) => Some(one.f_add(&other)?),
            (one, other) => one.or(other),
        };
        self.outputs.extend(part.outputs);
        self.labels.extend(part.labels);
        for (key, shares) in part.shares {
            shares.into_iter().try_for_each(|share| self.put(key.clone(), share))?;
        }
        Ok(())
    }

    /// The quantities of all samples.
    ///
    /// # Errors
    /// [`Error::Usage`] where a share that is needed is not there, or a quantity is unknown.
    pub fn finish(self) -> Result<Extraction> {
        let Sums { about, loss, outputs, labels, shares, .. } = self;
        let of_whole = Whole { samples: about.samples, reduction: about.reduction, scale: about.scale };
        let missing = |what: &str| Error::Usage(format!("the parts hold no {what}; extract them again"));
        let mut all = Vec::new();
        let mut put = |quantity: &str, parameter: &str, factor: &str, tensor: Tensor| {
            let (quantity, parameter, factor) = (quantity.to_owned(), parameter.to_owned(), factor.to_owned());
            all.push(Taken { quantity, parameter, factor, tensor });
        };
        let taken: BTreeMap<Key, Tensor> = shares
            .into_iter()
            .map(|(key, share)| Ok(whole(&key, &share)?.map(|tensor| (key, tensor))))
            .filter_map(Result::transpose)
            .collect::<Result<_>>()?;
        let mut names: Vec<&str> = about.quantities.iter().map(String::as_str).collect();
        let mut quantities: Vec<Arc<dyn Quantity>> = Vec::new();
        while let Some(name) = names.get(quantities.len()).copied() {
            let quantity = by_name(name).ok_or_else(|| missing(name))?;
            let more: Vec<&str> = quantity.requires().iter().copied().filter(|other| !names.contains(other)).collect();
            names.extend(more);
            quantities.push(quantity);
        }
        let shares = |quantity: &dyn Quantity, parameter: usize| -> Vec<Share> {
            let key = |parameter| (quantity.name().to_owned(), parameter, String::new());
            let own = taken.range(key(parameter)..key(parameter + 1));
            own.map(|((_, _, factor), tensor)| Share {
                factor: factor.as_str(),
                tensor: tensor.shallow_clone(),
                is_done: is_input_factor(quantity, factor),
            })
            .collect()
        };
        let asked = quantities.iter().enumerate().map(|(place, quantity)| results::Taken {
            quantity: quantity.as_ref(),
            visible: place < about.quantities.len(),
            required: quantity.requires().iter().filter_map(|name| names.iter().position(|one| one == name)).collect(),
            shares: (0..about.parameters.len()).map(|parameter| Some(shares(quantity.as_ref(), parameter))).collect(),
        });
        let asked: Vec<results::Taken> = asked.collect();
        for one in results::finish(&asked, &of_whole) {
            let (name, full, factor) = (names[one.quantity], &about.parameters[one.parameter], one.factor);
            put(name, full, factor, one.tensor);
        }
        for name in &about.products {
            for (parameter, full) in about.parameters.iter().enumerate() {
                let product = taken.get(&(name.clone(), parameter, String::new())).ok_or_else(|| missing(name))?;
                put(name, full, "", product.shallow_clone());
            }
        }
        Ok(Extraction {
            loss: loss.ok_or_else(|| missing("loss"))?,
            output: joined(&outputs, 0)?.ok_or_else(|| missing("output"))?,
            labels: joined(&labels, 1)?,
            taken: all,
            metadata: about.metadata(),
            skipped: about.skipped,
        })
    }
}

impl About {
    /// The metadata of a file of quantities. What did not take part is not told, so that it changes nothing: neither numbers
    /// nor bytes.
    fn metadata(&self) -> BTreeMap<String, String> {
        let names: Vec<&str> = self.skipped.iter().map(|(name, _)| name.as_str()).collect();
        let reasons: serde_json::Map<_, _> =
            self.skipped.iter().map(|(name, reason)| (name.clone(), reason.as_str().into())).collect();
        let entries = [
            ("schema_version", SCHEMA_VERSION.to_string()),
            ("scale", self.scale.as_str().to_owned()),
            ("reduction", self.reduction.as_str().to_owned()),
            ("mc_samples", self.mc_samples.to_string()),
            ("mc_seed", self.mc_seed.map_or_else(|| "none".to_owned(), |seed| seed.to_string())),
            ("dtype", self.dtype.clone()),
            ("skipped", names.join(",")),
            ("skipped_reasons", serde_json::Value::Object(reasons).to_string()),
        ];
        entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// What tells two extractions apart, in words.
fn difference(one: &About, other: &About) -> String {
    let say = |what: &str, one: String, other: String| format!("{what} {other}, not {one}");
    if one.samples != other.samples {
        return say("it is of", format!("{} samples", one.samples), format!("{} samples", other.samples));
    }
    if one.quantities != other.quantities {
        return say("it holds", one.quantities.join(","), other.quantities.join(","));
    }
    "problem, parameters, samples or options differ".to_owned()
}

fn is_input_factor(quantity: &dyn Quantity, factor: &str) -> bool {
    factor == "A" && quantity.input_factor().is_some()
}

/// How shares become the whole: products and input factors are sums.
fn combine((quantity, _, factor): &Key) -> Combine {
    match by_name(quantity) {
        Some(quantity) if !is_input_factor(quantity.as_ref(), factor) => quantity.combine(),
        _ => Combine::Sum,
    }
}

fn whole(key: &Key, shares: &[Tensor]) -> Result<Option<Tensor>> {
    joined(shares, if combine(key) == Combine::VectorsAndSamples { 1 } else { 0 })
}

/// Tensors one after the other; one stays as it is.
fn joined(tensors: &[Tensor], axis: i64) -> Result<Option<Tensor>> {
    Ok(match tensors {
        [] => None,
        [one] => Some(one.shallow_clone()),
        several => Some(Tensor::f_cat(several, axis)?),
    })
}

/// `f32` or `f64`.
pub(super) fn dtype(kind: Kind) -> &'static str {
    if kind == Kind::Double { "f64" } else { "f32" }
}
