//! Products kept on disk, so that what was interrupted goes on.
//!
//! Eigenvalues, trace and density are decided by their random vectors and by the products with the matrix. So it is enough to
//! keep the products, in the order in which they were taken, each with a digest of the vectors that it belongs to: a process
//! that begins anew asks for the same products, gets them from the files, and comes to the same numbers. Where it asks for
//! others, because settings have changed, those that are left are of no use and are dropped.
//!
//! Files are written in one step, and none of them is a result.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::Tensor;

use crate::atomic;
use crate::backpack::tensor_file;
use crate::error::{Error, IoContext, Result};

/// How often products are written.
const SAVE: Duration = Duration::from_secs(60);
/// The version of the files.
const SCHEMA_VERSION: u32 = 1;
/// The key of a file's metadata that tells what it holds.
const HEAD: &str = "backpack_run_products";
/// The file of a product that is not whole.
const UNFINISHED: &str = "unfinished";

/// A folder of products.
#[derive(Debug)]
pub struct Kept {
    folder: PathBuf,
    /// Tells matrix, parameters and samples apart from others.
    identity: String,
    /// The number of the next file to be read, and of the next to be written once nothing is left to read.
    next: usize,
    /// Whether products still come from files.
    replays: bool,
    /// What a file has left, in its order.
    read: VecDeque<Product>,
    /// Products that are in no file, or in one of which not all are used.
    waiting: Vec<Product>,
    /// Vectors whose products came from files.
    found: i64,
    saved: Instant,
}

/// A product, and what it is of.
#[derive(Debug)]
struct Product {
    entry: Entry,
    tensor: Tensor,
}

/// What is told of a product, or of as much of it as there is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// Of its vectors.
    digest: String,
    /// The loss of the samples behind it, as bits, so that none of them is lost.
    loss: u64,
    /// The samples that have their share in all rows.
    samples: i64,
    /// The rows in which the part behind these has its share too.
    rows: i64,
}

#[derive(Serialize, Deserialize)]
struct Head {
    schema_version: u32,
    identity: String,
    entries: Vec<Entry>,
}

/// How far a product has come.
#[derive(Debug)]
pub(super) struct Progress {
    /// The samples that have their share in all rows.
    pub samples: i64,
    /// The rows in which the part behind these has its share too.
    pub rows: i64,
    /// The loss of the samples, as far as they go.
    pub loss: f64,
    /// `[K, P]`.
    pub sum: Tensor,
}

impl Progress {
    /// Nothing yet, for vectors `[K, P]`.
    pub fn none(vectors: &Tensor) -> Self {
        Progress { samples: 0, rows: 0, loss: 0.0, sum: vectors.zeros_like() }
    }

    fn of(&self, digest: &str) -> Product {
        let entry =
            Entry { digest: digest.to_owned(), loss: self.loss.to_bits(), samples: self.samples, rows: self.rows };
        Product { entry, tensor: self.sum.shallow_clone() }
    }
}

impl Product {
    /// As what it was saved, for vectors of the same place.
    fn progress(&self, vectors: &Tensor) -> Option<Progress> {
        let fits = self.tensor.size() == vectors.size() && self.tensor.kind() == vectors.kind();
        fits.then(|| Progress {
            samples: self.entry.samples,
            rows: self.entry.rows,
            loss: f64::from_bits(self.entry.loss),
            sum: self.tensor.to_device(vectors.device()),
        })
    }
}

impl Kept {
    /// As soon as so many vectors' products wait to be written, they are.
    pub const WAITING: usize = 32;

    /// The products in a folder, which is made once there are some. Those of another identity are removed.
    ///
    /// # Errors
    /// [`Error::Io`] where these cannot be removed.
    pub fn open(folder: &Path, identity: String) -> Result<Self> {
        let mut kept = Kept {
            folder: folder.to_owned(),
            identity,
            next: 0,
            replays: true,
            read: VecDeque::new(),
            waiting: Vec::new(),
            found: 0,
            saved: Instant::now(),
        };
        if folder.exists() && kept.load(&kept.file(0)).is_none() && kept.load(&folder.join(UNFINISHED)).is_none() {
            tracing::info!("{} belongs to another spectrum; starting over", folder.display());
            atomic::remove(&folder.join(UNFINISHED))?;
            kept.drop_rest()?;
        }
        Ok(kept)
    }

    /// Removes a folder of products; others' files in it stay.
    ///
    /// # Errors
    /// [`Error::Io`] where something of it cannot be removed.
    pub fn remove(folder: &Path) -> Result<()> {
        atomic::remove(&folder.join(UNFINISHED))?;
        remove_files(folder, 0)?;
        match std::fs::remove_dir(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("removing the folder", folder, error))
            }
            _ => Ok(()),
        }
    }

    /// What tells vectors apart from others.
    pub(super) fn digest(vectors: &Tensor) -> Result<String> {
        let mut digest = Sha256::new();
        digest.update(format!("{:?} {:?}", vectors.size(), vectors.kind()));
        tensor_file::for_bytes(vectors, |bytes| {
            digest.update(bytes);
            Ok(())
        })?;
        Ok(hex::encode(digest.finalize()))
    }

    /// The product with vectors of this digest, if it is the next that was kept, or as much of it as there is.
    pub(super) fn next(&mut self, digest: &str, vectors: &Tensor) -> Result<Option<Progress>> {
        if !self.replays {
            return Ok(None);
        }
        if self.read.is_empty() {
            let file = self.load(&self.file(self.next));
            self.read.extend(file.into_iter().flatten());
        }
        let next = self.read.pop_front().filter(|product| product.entry.digest == digest);
        if let Some(progress) = next.as_ref().and_then(|product| product.progress(vectors)) {
            self.waiting.extend(next);
            self.found += vectors.size()[0];
            if self.read.is_empty() {
                // All of this file is used, and it stays as it is.
                self.waiting.clear();
                self.next += 1;
            }
            return Ok(Some(progress));
        }
        let unfinished = self.load(&self.folder.join(UNFINISHED)).unwrap_or_default();
        let unfinished = unfinished.into_iter().find(|product| product.entry.digest == digest);
        let unfinished = unfinished.and_then(|product| product.progress(vectors));
        self.drop_rest()?;
        if self.found > 0 || unfinished.is_some() {
            tracing::info!("continuing after {} products of {}", self.found, self.folder.display());
        }
        Ok(unfinished)
    }

    /// Takes in a product with vectors of this digest.
    pub(super) fn add(&mut self, digest: &str, product: &Progress) -> Result<()> {
        self.waiting.push(product.of(digest));
        let waiting: i64 = self.waiting.iter().map(|product| product.tensor.size()[0]).sum();
        if waiting >= Self::WAITING as i64 { self.save() } else { Ok(()) }
    }

    /// Whether it is time to write what there is.
    pub(super) fn is_due(&self) -> bool {
        self.saved.elapsed() >= SAVE
    }

    /// Writes all whole products, and what there is of the one that is being taken.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be made or written to, or the disk is full.
    pub(super) fn save_with(&mut self, digest: &str, unfinished: &Progress) -> Result<()> {
        self.save()?;
        self.write(&self.folder.join(UNFINISHED), &[unfinished.of(digest)])
    }

    /// Writes all whole products.
    fn save(&mut self) -> Result<()> {
        self.saved = Instant::now();
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.write(&self.file(self.next), &self.waiting)?;
        self.next += 1;
        self.waiting.clear();
        Ok(())
    }

    fn file(&self, number: usize) -> PathBuf {
        self.folder.join(number.to_string())
    }

    fn write(&self, path: &Path, products: &[Product]) -> Result<()> {
        std::fs::create_dir_all(&self.folder).at("creating the folder", &self.folder)?;
        let entries = products.iter().map(|product| product.entry.clone()).collect();
        let head = Head { schema_version: SCHEMA_VERSION, identity: self.identity.clone(), entries };
        let head = serde_json::to_string(&head).map_err(|error| Error::Environment(error.to_string()))?;
        let named = products.iter().enumerate();
        let tensors: Vec<_> =
            named.map(|(place, product)| (place.to_string(), product.tensor.shallow_clone())).collect();
        tensor_file::write(path, &tensors, &BTreeMap::from([(HEAD.to_owned(), head)]))
    }

    /// What a file of this matrix holds; None where it is not there, is damaged or of another one.
    fn load(&self, path: &Path) -> Option<Vec<Product>> {
        let mut file = tensor_file::read(path).ok()?;
        let head: Head = serde_json::from_str(file.metadata.get(HEAD)?).ok()?;
        let fits = head.schema_version == SCHEMA_VERSION && head.identity == self.identity;
        let entries = fits.then(|| head.entries.into_iter().enumerate())?;
        entries
            .map(|(place, entry)| Some(Product { entry, tensor: file.tensors.remove(&place.to_string())? }))
            .collect()
    }

    /// Ends the replay: what was kept behind this is not asked for. The product that is not whole stays until another takes its
    /// place, so that it is not lost if this process ends early.
    fn drop_rest(&mut self) -> Result<()> {
        self.replays = false;
        self.read.clear();
        remove_files(&self.folder, self.next)
    }
}

/// Removes the files from this number on.
fn remove_files(folder: &Path, first: usize) -> Result<()> {
    let mut number = first;
    while folder.join(number.to_string()).exists() {
        atomic::remove(&folder.join(number.to_string()))?;
        number += 1;
    }
    Ok(())
}
