//! The commands that made the numbers, the resolved experiment, and what it was carried out by.

use serde_json::Value;

use super::super::commands;
use super::super::escape::{markup, markup_block};
use super::content::Content;
use crate::digits::significant;

/// The commands, each where links lead to.
pub(super) fn commands(content: &Content) -> String {
    let mut html = "<h2 id=\"commands\">Commands</h2>\n<p class=\"caption\">The numbers on this page link to the commands that made them.".to_owned();
    if commands::experiment(content.results).is_some() {
        html.push_str(&format!(
            " {} is the <a href=\"#experiment\">resolved experiment</a> below.",
            markup(&commands::file(content.results))
        ));
    }
    html.push_str("</p>\n<dl class=\"commands\">\n");
    for command in &content.report.commands {
        html.push_str(&format!(
            "<dt id=\"{}\">{}</dt><dd><code>{}</code></dd>\n",
            markup(&command.id),
            markup(&command.makes),
            markup(&command.line)
        ));
    }
    html + "</dl>\n"
}

/// The settings and versions; the experiment is folded away.
pub(super) fn section(content: &Content) -> String {
    let results = content.results;
    let mut html = "<h2 id=\"provenance\">Settings and provenance</h2>\n".to_owned();
    for (name, meta) in &results.studies {
        html.push_str(&format!("<h3>{}</h3>\n", markup(name)));
        html.push_str(&facts(meta));
    }
    if results.studies.is_empty() {
        html.push_str(&facts(&results.meta));
    }
    match commands::experiment(results) {
        None if results.meta.is_null() => html.push_str("<p>There is no meta.json yet.</p>\n"),
        None => {}
        Some(text) => html.push_str(&format!(
            "<details id=\"experiment\"><summary>{}, the resolved experiment</summary>\n<pre tabindex=\"0\">{}</pre></details>\n",
            markup(&commands::file(results)),
            markup_block(&text)
        )),
    }
    html
}

fn facts(meta: &Value) -> String {
    let mut html = "<dl>\n".to_owned();
    for key in ["created", "seeds", "grid_seed", "select", "target", "diverged"] {
        entry(&mut html, key, &meta[key]);
    }
    for group in ["program", "machine"] {
        for (key, value) in meta[group].as_object().into_iter().flatten() {
            entry(&mut html, &format!("{group}: {key}"), value);
        }
    }
    html + "</dl>\n"
}

/// One fact in words: lists with commas, tables as their values.
fn entry(html: &mut String, key: &str, value: &Value) {
    if value.is_null() {
        return;
    }
    html.push_str(&format!("<dt>{}</dt><dd>{}</dd>\n", markup(&key.replace('_', " ")), markup(&words(value))));
}

fn words(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(words).collect::<Vec<_>>().join(", "),
        // What has entries of its own may be named by the user.
        Value::Object(table) => table
            .iter()
            .map(|(key, value)| match value {
                Value::Object(_) => format!("{key} ({})", words(value)),
                _ => format!("{} {}", key.replace('_', " "), words(value)),
            })
            .collect::<Vec<_>>()
            .join(", "),
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or_else(String::new, |value| significant(value, 6))
        }
        other => other.to_string(),
    }
}
