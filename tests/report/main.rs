//! `report`: tables, figures, evidence and the page.

#[path = "../report_support/browser.rs"]
mod browser;
mod command;
mod evidence;
mod names;
mod numbers;
mod page;
#[path = "../report_support/mod.rs"]
mod report_support;
mod summary;
#[path = "../support/mod.rs"]
mod support;
mod tuning;
mod unfinished;
