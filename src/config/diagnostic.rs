//! Where a value came from, and errors that show the place: file, line, column, the line itself with a caret under it,
//! and what to do.

use std::fmt;
use std::io::{IsTerminal, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

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

    /// An error about this place.
    pub fn error(&self, title: impl Into<String>, label: impl Into<String>) -> Diagnostic {
        Diagnostic::new(title).at(self, label)
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

/// Enough for a path, a value and an explanation on one line; longer source lines are cut by the renderer.
const WIDTH: usize = 140;

/// An error under construction.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    title: String,
    marks: Vec<Mark>,
    helps: Vec<String>,
}

#[derive(Clone, Debug)]
struct Mark {
    source: Arc<Source>,
    span: Range<usize>,
    label: String,
}

impl Diagnostic {
    /// An error that says `title` and has no place yet.
    pub fn new(title: impl Into<String>) -> Self {
        Diagnostic { title: title.into(), marks: Vec::new(), helps: Vec::new() }
    }

    /// Points at `place`; the first place is the primary one, further ones give context. A place without a source is
    /// left out.
    pub fn at(mut self, place: &Place, label: impl Into<String>) -> Self {
        if let (Some(source), Some(span)) = (place.source(), place.span()) {
            let span = first_line(&source.text, span);
            self.marks.push(Mark { source: source.clone(), span, label: label.into() });
        }
        self
    }

    /// Adds what to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.helps.push(help.into());
        self
    }

    /// Adds what to do about it, if there is something.
    pub fn maybe_help(self, help: Option<String>) -> Self {
        match help {
            Some(help) => self.help(help),
            None => self,
        }
    }

    /// The text, in colour or plain.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(WIDTH);
        // The caller prints "error: " itself, like for every other error.
        let mut group = Level::ERROR.no_name().primary_title(&self.title).elements(self.snippets());
        for help in &self.helps {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group])
    }

    /// One snippet a source, in the order in which the sources were first pointed at.
    fn snippets(&self) -> Vec<Snippet<'_, annotate_snippets::Annotation<'_>>> {
        let mut snippets: Vec<(&Arc<Source>, Snippet<'_, _>)> = Vec::new();
        for (index, mark) in self.marks.iter().enumerate() {
            let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let annotation = kind.span(mark.span.clone()).label(mark.label.as_str());
            match snippets.iter().position(|(source, _)| Arc::ptr_eq(source, &mark.source)) {
                Some(position) => {
                    let (source, snippet) = snippets.remove(position);
                    snippets.insert(position, (source, snippet.annotation(annotation)));
                }
                None => {
                    let snippet = Snippet::source(mark.source.text.as_str()).path(mark.source.name.as_str());
                    snippets.push((&mark.source, snippet.annotation(annotation)));
                }
            }
        }
        snippets.into_iter().map(|(_, snippet)| snippet).collect()
    }
}

impl From<Diagnostic> for Error {
    fn from(diagnostic: Diagnostic) -> Self {
        let colour =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Error::Config(diagnostic.render(colour))
    }
}

/// The part of `span` that lies on its first line, on character boundaries inside `text`.
fn first_line(text: &str, span: Range<usize>) -> Range<usize> {
    let boundary = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = boundary(span.start);
    let end = boundary(span.end.max(start));
    let line = text[start..end].find(['\n', '\r']).map_or(end, |length| start + length);
    start..line
}
