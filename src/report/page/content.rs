//! What a page shows, and how its sections draw a figure.

use crate::report::agreement::Reference;
use crate::report::escape::markup;
use crate::report::evidence::Leader;
use crate::report::figures::Figure;
use crate::report::results::Results;
use crate::report::tables::Table;
use crate::report::{Report, commands};

/// Everything that a page shows.
#[derive(Debug)]
pub struct Content<'a> {
    /// The study's results.
    pub results: &'a Results,
    /// What they come to.
    pub report: &'a Report,
    /// The best optimizer of each problem.
    pub leaders: &'a [Leader],
    /// The reference, where there is one.
    pub reference: Option<&'a Reference>,
    /// The tables beside the first one.
    pub tables: &'a [Table],
}

/// A section of the figures of these kinds; nothing where there is none.
pub(super) fn figures_of(content: &Content, kinds: &[&str], id: &str, title: &str) -> String {
    let figures = content.report.figures.iter().filter(|figure| kinds.contains(&figure.kind));
    let figures: Vec<String> = figures.map(|figure| drawn(content, figure)).collect();
    match figures.is_empty() {
        true => String::new(),
        false => format!("<h2 id=\"{id}\">{title}</h2>\n<div class=\"panels\">\n{}</div>\n", figures.concat()),
    }
}

/// A figure with its caption, its files and its command.
pub(super) fn drawn(content: &Content, figure: &Figure) -> String {
    let file =
        |ending: &str| format!("<a href=\"figures/{}.{ending}\">{}</a>", markup(&figure.stem), ending.to_uppercase());
    format!(
        "<figure data-figure=\"{}\">{}<figcaption>{} <span class=\"files\">{} {} {} {}</span></figcaption></figure>\n",
        figure.kind,
        inline(&figure.svg),
        markup(&figure.caption),
        file("svg"),
        file("png"),
        file("pdf"),
        command_link(content, commands::STUDY)
    )
}

/// A link to the command that made something.
pub(super) fn command_link(content: &Content, id: &str) -> String {
    let known = content.report.commands.iter().any(|command| command.id == id);
    if known { format!("<a href=\"#{}\">command</a>", markup(id)) } else { String::new() }
}

/// Within HTML the namespace is known, and the page's own text names the figure.
pub(super) fn inline(svg: &str) -> String {
    svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1)
}
