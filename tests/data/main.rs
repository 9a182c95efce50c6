//! Data sets: formats, identity, splits, augmentation and fetching.

mod fetch;
mod formats;
mod identity;
mod sets;
#[path = "../study_support/mod.rs"]
mod study_support;
#[path = "../support/mod.rs"]
mod support;
