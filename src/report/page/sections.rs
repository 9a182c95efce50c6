//! The parts of a page that are text and tables.

use serde_json::Value;

use super::super::escape::{markup, markup_block};
use super::super::evidence::Comparison;
use super::super::grid::{GridTable, Outcome};
use super::super::results::{Results, distinct};
use super::super::tables::Table;
use super::super::text::{cell, metric_title, significant};
use super::Content;

/// What the study was, what came out, and what is missing.
pub(super) fn summary(content: &Content) -> String {
    let results = content.results;
    let (problems, optimizers) = (results.problems(), distinct(results.curves.iter().map(|row| &row.optimizer)));
    let mut seeds = distinct(results.seeds.iter().map(|row| &row.seed));
    seeds.sort_unstable();
    let mut html = format!(
        "<p>{} optimizer{} on {}; {} seed{}.</p>\n",
        optimizers.len(),
        if optimizers.len() == 1 { "" } else { "s" },
        markup(&problems.join(", ")),
        seeds.len(),
        if seeds.len() == 1 { "" } else { "s" }
    );
    for problem in &problems {
        let best = |metric: &str| {
            let rows = results.finals.iter().filter(|r| &r.problem == problem && r.metric.as_str() == metric);
            rows.max_by(|a, b| match a.metric.larger_is_better() {
                true => a.median.total_cmp(&b.median),
                false => b.median.total_cmp(&a.median),
            })
        };
        if let (Some(accuracy), Some(loss)) = (best("test_accuracies"), best("test_losses")) {
            html.push_str(&format!(
                "<p>{}: the highest median test accuracy has {} ({}), the lowest median test loss {} ({}).</p>\n",
                markup(problem),
                markup(&accuracy.optimizer),
                cell(accuracy.median),
                markup(&loss.optimizer),
                cell(loss.median)
            ));
        }
    }
    if !results.notes.is_empty() {
        html.push_str("<div class=\"notes\" role=\"note\">\n");
        html.extend(results.notes.iter().map(|note| format!("<p>{}</p>\n", markup(note))));
        html.push_str("</div>\n");
    }
    html.push_str(
        "<nav aria-label=\"Sections\"><a href=\"#curves-section\">Curves</a><a href=\"#evidence\">Evidence</a>\
         <a href=\"#tables\">Tables</a><a href=\"#grids\">Grids</a><a href=\"#provenance\">Settings and provenance</a></nav>\n",
    );
    html
}

/// The sentences on the pairs.
pub(super) fn evidence(comparisons: &[Comparison]) -> String {
    let mut html = "<h2 id=\"evidence\">Evidence</h2>\n".to_owned();
    if comparisons.is_empty() {
        return html + "<p>No two optimizers have a finished seed in common.</p>\n";
    }
    html.push_str(
        "<p class=\"caption\">Mean paired difference over seeds at the last epoch; bootstrap interval (BCa, 10,000 resamples); \
         sign-flip permutation test, two-sided.</p>\n",
    );
    for problem in distinct(comparisons.iter().map(|pair| &pair.problem)) {
        html.push_str(&format!("<h3>{}</h3>\n<ul>\n", markup(&problem)));
        for pair in comparisons.iter().filter(|pair| pair.problem == problem) {
            html.push_str(&format!("<li>{}</li>\n", markup(&pair.sentence())));
        }
        html.push_str("</ul>\n");
    }
    html
}

/// The tables of the report.
pub(super) fn tables(tables: &[Table]) -> String {
    let mut html = "<h2 id=\"tables\">Tables</h2>\n".to_owned();
    for table in tables {
        let class = |i: usize| if i < table.first_number { "" } else { " class=\"number\"" };
        html.push_str(&format!(
            "<div class=\"scroll\"><table><caption>{}</caption><thead><tr>",
            markup(&table.caption)
        ));
        for (i, name) in table.header.iter().enumerate() {
            html.push_str(&format!("<th scope=\"col\"{}>{}</th>", class(i), markup(name)));
        }
        html.push_str("</tr></thead><tbody>\n");
        for row in &table.rows {
            html.push_str("<tr>");
            html.extend(row.iter().enumerate().map(|(i, text)| format!("<td{}>{}</td>", class(i), markup(text))));
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div>\n");
    }
    html
}

/// Every grid as a table.
pub(super) fn grids(results: &Results) -> String {
    let metric = metric_title(results.selection_metric());
    let mut html = format!(
        "<h2 id=\"grids\">Grids</h2>\n<p class=\"caption\">The {metric} at the last epoch. Dashed: on the grid's edge. ★ and a \
         frame: the chosen setting.</p>\n"
    );
    for problem in results.problems() {
        for optimizer in results.grid_optimizers(&problem) {
            let Some(table) = GridTable::of(results, &problem, &optimizer) else { continue };
            html.push_str(&format!(
                "<div class=\"scroll\" data-optimizer=\"{0}\"><table><caption>{1}, {0}</caption><thead><tr><th scope=\"col\">λ \\ α</th>",
                markup(&optimizer), markup(&problem)
            ));
            for rate in &table.learning_rates {
                html.push_str(&format!("<th scope=\"col\" class=\"number\">{}</th>", significant(*rate, 4)));
            }
            html.push_str("</tr></thead><tbody>\n");
            for (line, outcomes) in table.outcomes.iter().enumerate().rev() {
                let damping = table.dampings.get(line).map_or_else(|| "-".to_owned(), |value| significant(*value, 4));
                html.push_str(&format!("<tr><th scope=\"row\">{damping}</th>"));
                html.extend(
                    outcomes.iter().enumerate().map(|(column, outcome)| grid_cell(&table, line, column, outcome)),
                );
                html.push_str("</tr>\n");
            }
            html.push_str("</tbody></table></div>\n");
        }
    }
    html
}

fn grid_cell(table: &GridTable, line: usize, column: usize, outcome: &Outcome) -> String {
    let best = table.winner == Some((line, column));
    let (text, diverged) = match outcome {
        Outcome::Value(value) => (cell(*value), false),
        Outcome::Diverged => ("diverged".to_owned(), true),
        Outcome::Missing => ("-".to_owned(), false),
    };
    let classes = [("edge", table.is_edge(line, column)), ("best", best), ("diverged", diverged)];
    let classes: Vec<&str> = classes.iter().filter(|(_, holds)| *holds).map(|(class, _)| *class).collect();
    format!("<td class=\"number {}\">{}{text}</td>", classes.join(" "), if best { "★ " } else { "" })
}

/// The resolved experiment and what it was carried out by.
pub(super) fn provenance(results: &Results) -> String {
    let meta = &results.meta;
    let mut html = "<h2 id=\"provenance\">Settings and provenance</h2>\n<dl>\n".to_owned();
    for key in ["created", "seeds", "grid_seed", "select", "diverged"] {
        entry(&mut html, key, &meta[key]);
    }
    for group in ["program", "machine"] {
        for (key, value) in meta[group].as_object().into_iter().flatten() {
            entry(&mut html, &format!("{group}: {key}"), value);
        }
    }
    html.push_str("</dl>\n");
    match &meta["experiment"] {
        Value::Null => html.push_str("<p>There is no meta.json yet.</p>\n"),
        Value::String(text) => html.push_str(&format!("<pre tabindex=\"0\">{}</pre>\n", markup_block(text))),
        value => html.push_str(&format!("<pre tabindex=\"0\">{}</pre>\n", markup_block(&format!("{value:#}")))),
    }
    html
}

fn entry(html: &mut String, key: &str, value: &Value) {
    let text = match value {
        Value::Null => return,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    html.push_str(&format!("<dt>{}</dt><dd>{}</dd>\n", markup(&key.replace('_', " ")), markup(&text)));
}
