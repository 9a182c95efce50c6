//! Single commands from their arguments to what they print and write.

mod bench;
mod check;
mod extract;
mod extract_parts;
mod import;
mod import_damage;
mod messages;
mod spectrum;
#[path = "../support/mod.rs"]
mod support;
