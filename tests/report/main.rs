//! `report`: tables, figures, evidence and the page.

mod command;
mod evidence;
mod names;
mod numbers;
mod page;
#[path = "../report_support/mod.rs"]
mod report_support;
#[path = "../support/mod.rs"]
mod support;
mod unfinished;
