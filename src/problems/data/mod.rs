//! Data sets: where they lie, how they are read, and what a run draws from them.
//!
//! The way of a sample: a reader in [`formats`] turns files into arrays, [`load`](fn@load) makes a [`DataSet`] of them,
//! and a [`Feed`] draws batches: split, order, augmentation, normalisation. [`obtain`] fetches, verifies and imports
//! the published files.

pub mod augmentation;
mod catalog;
mod defect;
mod digests;
mod feed;
mod fit;
mod folders;
pub mod formats;
mod identity;
mod load;
mod named;
mod named_set;
pub mod obtain;
mod selection;
mod set;
mod source;
mod split;

pub use catalog::{CATALOG, Digest, Published, PublishedFile, published};
pub use feed::{Batch, Feed, FeedOptions, Order, Part};
pub use fit::{Compared, Fit, Wanted};
pub use folders::{DataFolders, Place};
pub use identity::Identity;
pub(crate) use identity::digest_of;
pub(crate) use load::no_data;
pub use load::{check_integers, describe, identify, load, vocabulary_size};
pub(crate) use named::{built_in, replace};
pub use named::{named_set, named_sets, set_names};
pub use named_set::NamedSet;
pub use selection::{Chosen, Selection, SelectionOptions};
pub use set::{DataInfo, DataSet, Inputs, Normalization, Samples};
pub(in crate::problems) use source::SAMPLE_SHAPE;
pub use source::{DataSource, InputShape, SyntheticOptions};
