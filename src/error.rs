//! The one error type of the library, and the exit code that goes with each kind of error.
//!
//! An error names what it is about (file, line, key, layer), what was expected and what to do. Panics are for bugs.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::suggest;

/// What every fallible function of this library returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// All done; a diverged run is a result, not a failure.
pub const EXIT_OK: u8 = 0;
/// Some runs failed though others could go on, or a check or comparison did not hold.
pub const EXIT_FAILED: u8 = 1;
/// The command line, an experiment file or a problem file is wrong.
pub const EXIT_USAGE: u8 = 2;
/// libtorch, data, or the disk: nothing could start or go on.
pub const EXIT_ENVIRONMENT: u8 = 3;
/// Interrupted by SIGINT or SIGTERM.
pub const EXIT_INTERRUPTED: u8 = 130;

/// An error with everything a user needs to mend it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A flag or an argument that cannot be used.
    #[error("{0}")]
    Usage(String),
    /// A configuration file that cannot be used; the text is already rendered with file, line, column and a caret.
    #[error("{0}")]
    Config(String),
    /// A data file that is not what it should be.
    #[error("{}: {found} at byte {offset}; expected {expected}. {remedy}", path.display())]
    Data {
        /// The file that was read.
        path: PathBuf,
        /// Where in the (decompressed) file the defect lies, in bytes.
        offset: u64,
        /// What was found there.
        found: String,
        /// What should have been there.
        expected: String,
        /// What to do about it, a sentence.
        remedy: String,
    },
    /// A data set that was not found in any of the places it may lie.
    #[error("{0}")]
    MissingData(String),
    /// A file or folder that cannot be read or written.
    #[error("{}: {action} failed: {source}", path.display())]
    Io {
        /// What was being done, as a noun ("reading", "creating the folder").
        action: String,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Something about this machine: libtorch, a device, memory, a lock.
    #[error("{0}")]
    Environment(String),
    /// More memory than this machine has free.
    #[error("{0}")]
    Memory(String),
    /// A quantity that a network cannot give. Others may be possible, or this one in another mode.
    #[error("{reason}")]
    Refused {
        /// The quantity.
        quantity: String,
        /// The name of the layer that it cannot be had from; None where it is the network as a whole.
        layer: Option<String>,
        /// Why, and what is possible instead, a sentence that names the layer.
        reason: String,
    },
    /// A name that no quantity has.
    #[error("unknown quantity `{name}`: {}", suggest::help(name, known.iter().copied()))]
    UnknownQuantity {
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<&'static str>,
    },
    /// A result that a pass does not hold.
    #[error("{quantity} of `{parameter}`: {reason}")]
    NotTaken {
        /// The quantity.
        quantity: String,
        /// The parameter.
        parameter: String,
        /// What there is instead.
        reason: String,
    },
    /// Something else that a layer, loss or quantity cannot do; names the layer and what is possible.
    #[error("{0}")]
    Unsupported(String),
    /// Tensors whose shapes do not fit together.
    #[error("{0}")]
    Shape(String),
    /// Tensors that are not those of a network's parameters and buffers.
    #[error("{}", list(missing, unexpected, misshapen))]
    Weights {
        /// Those that are missing, with their shapes.
        missing: Vec<(String, Vec<i64>)>,
        /// Those that the network does not have.
        unexpected: Vec<String>,
        /// Those of another shape, with the shape that is there and the network's.
        misshapen: Vec<(String, Vec<i64>, Vec<i64>)>,
    },
    /// An operation that libtorch refused; its own first sentence, without its stack.
    #[error("libtorch: {0}")]
    Torch(String),
    /// Some runs failed, or a check did not hold, while everything else was done.
    #[error("{0}")]
    Failed(String),
    /// SIGINT or SIGTERM.
    #[error("interrupted; the same command continues where this one stopped")]
    Interrupted,
    /// SIGINT or SIGTERM ended something that is not continued; says what is left of it.
    #[error("{0}")]
    Stopped(String),
}

impl Error {
    /// An I/O error about `path`; `action` is a noun ("reading").
    pub fn io(action: impl Into<String>, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Error::Io { action: action.into(), path: path.as_ref().to_owned(), source }
    }

    /// The error about an input file that was named and cannot be read: one that is not there, or is a folder, is a
    /// mistake in the command or file that names it, and so is one that is no regular file; any other reason lies in this
    /// machine.
    pub fn unreadable(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::NotFound => {
                Error::Config(format!("{}: reading failed: there is no such file", path.as_ref().display()))
            }
            std::io::ErrorKind::NotADirectory | std::io::ErrorKind::IsADirectory | std::io::ErrorKind::InvalidInput => {
                Error::Config(format!("{}: reading failed: {source}", path.as_ref().display()))
            }
            _ => Error::io("reading", path, source),
        }
    }

    /// The error of what libtorch says: of its first sentence, without its stack.
    pub fn of_libtorch(text: &str) -> Self {
        let ends = ["\nException raised from", "\nframe #", "\\nException raised from", "\\nframe #"];
        let end = ends.iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
        let text = text[..end].trim();
        if !lacks_memory(text) {
            return Error::Torch(text.to_owned());
        }
        // From inside of an unwrapped error: Torch(".. bytes. Error code 12 ..
        let text = text.rsplit_once("Torch(\"").map_or(text, |(_, inner)| inner);
        Error::Memory(format!("libtorch: {text}: take fewer samples or quantities at once, or a smaller memory budget"))
    }

    /// The process's exit code for this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_)
            | Error::Config(_)
            | Error::Refused { .. }
            | Error::UnknownQuantity { .. }
            | Error::NotTaken { .. }
            | Error::Unsupported(_)
            | Error::Shape(_)
            | Error::Weights { .. } => EXIT_USAGE,
            Error::Data { .. }
            | Error::MissingData(_)
            | Error::Io { .. }
            | Error::Environment(_)
            | Error::Memory(_)
            | Error::Torch(_) => EXIT_ENVIRONMENT,
            Error::Failed(_) => EXIT_FAILED,
            Error::Interrupted | Error::Stopped(_) => EXIT_INTERRUPTED,
        }
    }
}

/// Whether a message of Rust's, C++'s or libtorch's allocators says that there was no memory.
pub fn lacks_memory(text: &str) -> bool {
    let words = ["memory allocation of", "bad_alloc", "allocate memory", "not enough memory", "out of memory"];
    words.iter().any(|words| text.contains(words))
}

/// What is wrong with a network's tensors, in words.
fn list(missing: &[(String, Vec<i64>)], unexpected: &[String], misshapen: &[(String, Vec<i64>, Vec<i64>)]) -> String {
    let missing = missing.iter().map(|(name, shape)| format!("`{name}` of shape {shape:?} is missing"));
    let misshapen = misshapen
        .iter()
        .map(|(name, there, own)| format!("`{name}` has the shape {there:?}, the network's is {own:?}"));
    let unexpected = unexpected.iter().map(|name| format!("`{name}` is not a parameter of the network"));
    missing.chain(misshapen).chain(unexpected).collect::<Vec<_>>().join("; ")
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        let text = match &error {
            tch::TchError::Torch(text) => text.clone(),
            other => other.to_string(),
        };
        Error::of_libtorch(&text)
    }
}

/// Puts the file and the action to an I/O result.
pub trait IoContext<T> {
    /// Turns an I/O error into one that names `path` and what was being done with it.
    fn at(self, action: &str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn at(self, action: &str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::io(action, path, source))
    }
}
