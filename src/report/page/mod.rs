//! The page of a study: one HTML file that needs nothing beside it, no network, and no script to be read.

mod curves;
mod matrix;
mod provenance;
mod results;
mod tuning;

use serde_json::{Map, Value};

use super::agreement::Reference;
use super::escape::{json_in_html, markup};
use super::evidence::Leader;
use super::figures::Figure;
use super::results::Results;
use super::style;
use super::tables::Table;
use super::{Report, commands};

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

/// The sections that the page may have, and what the links to them say.
const SECTIONS: [(&str, &str); 8] = [
    ("results", "Results"),
    ("curves-section", "Curves"),
    ("evidence", "Pairs"),
    ("tuning", "Tuning"),
    ("diagnostics", "Diagnostics"),
    ("tables", "Tables"),
    ("commands", "Commands"),
    ("provenance", "Settings and provenance"),
];

/// The page's text.
pub fn page(content: &Content) -> String {
    let mut panels = Map::new();
    let curves = curves::section(content, &mut panels);
    let data = json_in_html(&Value::Object(panels));
    let name = markup(&content.results.name);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{name}: study</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>\n{}{}</style>\n</head>\n<body>\n<header>\n<h1>{name}</h1>\n",
        include_str!("page.css"),
        style::in_the_dark()
    );
    html.push_str(&results::summary(content));
    let sections = [
        results::section(content),
        curves,
        matrix::section(content),
        tuning::section(content),
        figures_of(content, &["diagnostics"], "diagnostics", "Diagnostics"),
        results::tables(content.tables),
        provenance::commands(content),
        provenance::section(content),
    ];
    for (id, title) in SECTIONS {
        if sections.iter().any(|section| section.contains(&format!("<h2 id=\"{id}\""))) {
            html.push_str(&format!("<a href=\"#{id}\">{title}</a>"));
        }
    }
    html.push_str("</nav>\n</header>\n<main>\n");
    html.extend(sections);
    html.push_str("</main>\n");
    html.push_str(&format!("<script type=\"application/json\" id=\"curves\">{data}</script>\n"));
    html.push_str(&format!("<script>\n{}</script>\n</body>\n</html>\n", include_str!("page.js")));
    html
}

/// A section of the figures of these kinds; nothing where there is none.
fn figures_of(content: &Content, kinds: &[&str], id: &str, title: &str) -> String {
    let figures = content.report.figures.iter().filter(|figure| kinds.contains(&figure.kind));
    let figures: Vec<String> = figures.map(|figure| drawn(content, figure)).collect();
    match figures.is_empty() {
        true => String::new(),
        false => format!("<h2 id=\"{id}\">{title}</h2>\n<div class=\"panels\">\n{}</div>\n", figures.concat()),
    }
}

/// A figure with its caption, its files and its command.
fn drawn(content: &Content, figure: &Figure) -> String {
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
fn command_link(content: &Content, id: &str) -> String {
    let known = content.report.commands.iter().any(|command| command.id == id);
    if known { format!("<a href=\"#{}\">command</a>", markup(id)) } else { String::new() }
}

/// Within HTML the namespace is known, and the page's own text names the figure.
fn inline(svg: &str) -> String {
    svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1)
}
