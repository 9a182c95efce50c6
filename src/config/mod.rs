//! Configuration files and values as users write them, with errors that point at the place.

pub mod diagnostic;
pub mod item;
mod keys;
pub mod name;
pub mod set;
pub mod write;

pub use diagnostic::{Diagnostic, Origin, Place, Source};
pub use item::{Item, Table};
pub use keys::{Schema, keys_of, not_known, some_table, table};
pub use name::FolderName;
