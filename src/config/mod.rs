//! Configuration files and values as users write them, with errors that point at the place.

pub mod diagnostic;
pub mod item;
mod keys;
mod messages;
pub mod name;
pub mod set;
pub mod source;
pub mod write;

pub use diagnostic::Diagnostic;
pub use item::{Item, Table};
pub use keys::{Schema, keys_of, some_table, table};
pub use messages::not_known;
pub use name::FolderName;
pub use source::{Origin, Place, Source};
