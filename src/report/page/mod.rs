//! The page of a study: one HTML file that needs nothing beside it, no network, and no script to be read.

mod content;
mod curves;
mod matrix;
mod provenance;
mod results;
mod tuning;

use serde_json::{Map, Value};

use super::escape::{json_in_html, markup};
use super::style;
use content::figures_of;

pub use content::Content;

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
