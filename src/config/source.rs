//! Where a value came from: a text that was read (a file or a `--set` argument) and a place in it.

use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};

/// No configuration is larger, in bytes; a device file would never end.
const LARGEST: u64 = 16 << 20;

/// What kind of text a value came from; values on the command line are read more leniently (see [`super::set`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file, or a definition that is built in.
    File,
    /// A `--set KEY=VALUE` argument.
    CommandLine,
}

/// A text that configuration was read from.
#[derive(Debug)]
pub struct Source {
    /// What an error calls it: the path as the user gave it, or `--set`.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// The folder that relative paths in it start from.
    pub folder: PathBuf,
    /// What kind of text it is.
    pub origin: Origin,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not there, is not UTF-8 or larger than any configuration; [`Error::Io`] if it is there
    /// and cannot be read.
    pub fn read(path: &Path) -> Result<Arc<Self>> {
        let name = path.display();
        let mut bytes = Vec::new();
        let file = crate::files::open(path);
        file.and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
            .map_err(|error| Error::unreadable(path, error))?;
        if bytes.len() as u64 > LARGEST {
            return Err(Error::Config(format!("{name}: a configuration file has at most {LARGEST} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::Config(format!("{name}: not UTF-8 at byte {at}; TOML is UTF-8 text"))
        })?;
        Ok(Source::file(path, text))
    }

    /// The text of a file.
    pub fn file(path: &Path, text: String) -> Arc<Self> {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Arc::new(Source { name: path.display().to_string(), text, folder, origin: Origin::File })
    }

    /// A text that is part of the program.
    pub fn built_in(name: &str, text: &str) -> Arc<Self> {
        Arc::new(Source { name: name.to_owned(), text: text.to_owned(), folder: PathBuf::new(), origin: Origin::File })
    }

    /// The argument of a `--set`.
    pub fn set_argument(text: &str) -> Arc<Self> {
        Arc::new(Source {
            name: "--set".to_owned(),
            text: text.to_owned(),
            folder: PathBuf::new(),
            origin: Origin::CommandLine,
        })
    }
}

/// A place in a [`Source`], or none for what was made by a program.
///
/// Two places always compare equal, so that definitions compare by what they say and not by where it was written.
#[derive(Clone, Default)]
pub struct Place(Option<(Arc<Source>, Range<usize>)>);

impl Place {
    /// The bytes `span` of `source`.
    pub fn new(source: &Arc<Source>, span: Range<usize>) -> Self {
        Place(Some((source.clone(), span)))
    }

    /// The source, if there is one.
    pub fn source(&self) -> Option<&Arc<Source>> {
        self.0.as_ref().map(|(source, _)| source)
    }

    /// The bytes in the source, if there is one.
    pub fn span(&self) -> Option<Range<usize>> {
        self.0.as_ref().map(|(_, span)| span.clone())
    }

    /// The line, counted from 1.
    pub fn line(&self) -> Option<usize> {
        let (source, span) = self.0.as_ref()?;
        let before = source.text.as_bytes().get(..span.start)?;
        Some(before.iter().filter(|byte| **byte == b'\n').count() + 1)
    }
}

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0, self.line()) {
            (Some((source, _)), Some(line)) => write!(f, "{}:{line}", source.name),
            _ => f.write_str("nowhere"),
        }
    }
}
