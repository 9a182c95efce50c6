//! The scripts, and what holds for the whole checkout.

mod cache;
mod circles;
mod device;
mod docs;
mod floors;
mod lint;
mod python;
mod setup;
mod skip;
#[path = "../study_support/mod.rs"]
mod study_support;
#[path = "../support/mod.rs"]
mod support;
mod sweep;
