//! The scripts, and what holds for the whole checkout.

mod cache;
mod checkout;
mod circles;
mod device;
mod floors;
mod python;
mod shell;
#[path = "../study_support/mod.rs"]
mod study_support;
#[path = "../support/mod.rs"]
mod support;
