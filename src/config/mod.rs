//! Configuration files and values as users write them, with errors that point at the place.

pub mod diagnostic;
pub mod source;

pub use diagnostic::Diagnostic;
pub use source::{Origin, Place, Source};
