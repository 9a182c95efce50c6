//! What a reader wants first: the table of each problem, what is said of its leader, and what several problems come to.

use super::super::escape::markup;
use super::super::results::distinct;
use super::super::summary::{Column, Estimate, Standing, SummaryRow, columns, legend, mark};
use super::super::tables::Table;
use super::super::text::{self, cell};
use super::super::{absent, commands, verdict};
use super::content::{Content, drawn};
use crate::digits::significant;

/// What the study was, and what a reader should know before anything else; the links to sections are to follow.
pub(super) fn summary(content: &Content) -> String {
    let results = content.results;
    let problems: Vec<String> = results.problems().iter().map(|name| text::problem_title(name).to_owned()).collect();
    let optimizers = absent::count(results);
    let seeds = distinct(results.seeds.iter().map(|row| &row.seed)).len();
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    let mut html = format!(
        "<p>{optimizers} optimizer{} on {}; {seeds} seed{}.</p>\n",
        plural(optimizers),
        markup(&problems.join("; ")),
        plural(seeds)
    );
    let said: Vec<&String> = content.report.warnings.iter().chain(&content.report.notes).collect();
    if !said.is_empty() {
        html.push_str("<div class=\"notes\" role=\"note\">\n");
        html.extend(said.iter().map(|note| format!("<p>{}</p>\n", markup(note))));
        html.push_str("</div>\n");
    }
    html + "<nav aria-label=\"Sections\">\n"
}

/// The table of each problem and the figures of all of them.
pub(super) fn section(content: &Content) -> String {
    let mut html = "<h2 id=\"results\">Results</h2>\n".to_owned();
    for name in content.results.problems() {
        let rows: Vec<&SummaryRow> = content.report.summary.iter().filter(|row| row.problem == name).collect();
        if rows.is_empty() {
            continue;
        }
        html.push_str(&format!("<section><h3>{}</h3>\n", markup(text::problem_title(&name))));
        if let Some(leader) = content.leaders.iter().find(|leader| leader.problem == name) {
            // The problem's name stands above.
            let prefix = format!("{}: ", text::problem_title(&name));
            let mut said = verdict::sentences(leader);
            said.extend(verdict::detectable(&content.report.evidence, leader));
            let said: Vec<&str> = said.iter().map(|text| text.strip_prefix(&prefix).unwrap_or(text)).collect();
            html.push_str(&format!("<p class=\"verdict\">{}</p>\n", markup(&said.join(" "))));
        }
        html.push_str(&table(content, &rows));
        html.push_str("</section>\n");
    }
    let across = content.report.figures.iter().filter(|figure| matches!(figure.kind, "profile" | "ranks"));
    let across: Vec<String> = across.map(|figure| drawn(content, figure)).collect();
    if !across.is_empty() {
        html.push_str(&format!("<h3>All problems</h3>\n<div class=\"panels\">\n{}</div>\n", across.concat()));
    }
    html
}

fn table(content: &Content, rows: &[&SummaryRow]) -> String {
    let own: Vec<SummaryRow> = rows.iter().map(|row| (*row).clone()).collect();
    // On the page what belongs together stands in one cell.
    let columns: Vec<Column> = columns(&own).into_iter().filter(|(name, _)| !JOINED.contains(name)).collect();
    let class = |name: &str| if matches!(name, "setting" | "on edge") { "" } else { " class=\"number\"" };
    let mut html = format!(
        "<div class=\"scroll\"><table class=\"cards\"><caption>{}</caption><thead><tr><th scope=\"col\">optimizer</th>",
        markup(&legend(&own))
    );
    for (name, _) in &columns {
        html.push_str(&format!("<th scope=\"col\"{}>{name}</th>", class(name)));
    }
    html.push_str("</tr></thead><tbody>\n");
    for row in rows {
        let standing = match row.standing {
            Standing::Best => "best",
            Standing::Level => "level",
            Standing::Behind | Standing::Unknown => "behind",
        };
        html.push_str(&format!(
            "<tr class=\"{standing}\"><th scope=\"row\"><span class=\"mark\">{}</span>{}</th>",
            mark(row.standing),
            markup(&row.optimizer)
        ));
        let own = commands::of(&content.report.commands, &row.problem, &row.optimizer);
        for (name, text) in &columns {
            let command = if matches!(*name, "step" | "memory") { commands::BENCH } else { &own };
            let text = match *name {
                "test accuracy" => estimate(row.accuracy.as_ref()),
                "test loss" => estimate(row.loss.as_ref()),
                "steps to target" => to_target(row, &text(row)),
                _ => markup(&text(row)),
            };
            let edge = if *name == "on edge" && !row.edges.is_empty() { " data-edge=\"\"" } else { "" };
            let link = if text == "-" { text } else { format!("<a href=\"#{}\">{text}</a>", markup(command)) };
            html.push_str(&format!("<td{} data-label=\"{name}\"{edge}>{link}</td>", class(name)));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    html
}

/// Columns of the table that the page has within others.
const JOINED: [&str; 2] = ["epochs to target", "seeds at target"];

fn to_target(row: &SummaryRow, steps: &str) -> String {
    let Some(reached) = &row.reached else { return markup(steps) };
    let epochs = reached.epochs.map_or_else(String::new, |epochs| format!("epoch {}, ", significant(epochs, 4)));
    format!("{} <span class=\"ends\">{epochs}{}/{} seeds</span>", markup(steps), reached.seeds, row.n)
}

fn estimate(estimate: Option<&Estimate>) -> String {
    let Some(Estimate { median, interval, range }) = estimate else { return "-".to_owned() };
    let [low, high] = interval.unwrap_or(*range);
    if low.is_nan() {
        return cell(*median);
    }
    format!("{} <span class=\"ends\">[{}, {}]</span>", cell(*median), cell(low), cell(high))
}

/// The further tables of the report.
pub(super) fn tables(tables: &[Table]) -> String {
    if tables.is_empty() {
        return String::new();
    }
    let mut html = "<h2 id=\"tables\">Tables</h2>\n".to_owned();
    for table in tables {
        let class = |i: usize| if i < table.first_number { "" } else { " class=\"number\"" };
        html.push_str(&format!(
            "<div class=\"scroll\"><table class=\"dense\"><caption>{}</caption><thead><tr>",
            markup(&table.caption)
        ));
        for (i, name) in table.header.iter().enumerate() {
            html.push_str(&format!("<th scope=\"col\"{}>{}</th>", class(i), markup(name)));
        }
        html.push_str("</tr></thead><tbody>\n");
        for row in &table.rows {
            html.push_str("<tr>");
            let cell = |(i, text): (usize, &String)| format!("<td{}>{}</td>", class(i), markup(text));
            html.extend(row.iter().enumerate().map(cell));
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div>\n");
    }
    html
}
