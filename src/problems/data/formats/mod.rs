//! The file formats of data sets, one reader a file; each parses bytes without libtorch, so that it can be fuzzed.

pub mod cifar;
pub mod idx;
mod images;
pub mod mat;
pub mod mini;
pub mod svhn;
pub mod synthetic;
pub mod text;
pub mod user;

pub use images::Images;
