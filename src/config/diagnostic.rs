//! Errors that show the place: file, line, column, the line itself with a caret under it, and what to do.

use std::io::IsTerminal;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::source::{Place, Source};
use crate::error::Error;

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

impl Place {
    /// An error about this place.
    pub fn error(&self, title: impl Into<String>, label: impl Into<String>) -> Diagnostic {
        Diagnostic::new(title).at(self, label)
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
