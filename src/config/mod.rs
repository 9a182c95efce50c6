//! Configuration files and values as users write them, with errors that point at the place.

pub mod diagnostic;
pub mod item;
pub mod name;
pub mod set;
pub mod source;
pub mod table;
pub mod write;

pub use diagnostic::Diagnostic;
pub use item::Item;
pub use source::{Origin, Place, Source};
pub use table::Table;
