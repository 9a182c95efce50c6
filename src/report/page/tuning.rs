//! How the settings were chosen: grids, sensitivity, budget.

use super::super::commands;
use super::super::escape::markup;
use super::super::grid::{GridTable, Outcome, settings, when};
use super::super::text::{self, cell, metric_title};
use super::content::{Content, drawn};
use crate::digits::significant;

/// The figures of tuning, and every grid as a table, folded away.
pub(super) fn section(content: &Content) -> String {
    let results = content.results;
    let kinds = ["grid", "sensitivity", "budget"];
    let figures = content.report.figures.iter().filter(|figure| kinds.contains(&figure.kind));
    let figures: Vec<String> = figures.map(|figure| drawn(content, figure)).collect();
    let tables: Vec<String> = results
        .problems()
        .iter()
        .flat_map(|problem| results.grid_optimizers(problem).into_iter().map(move |optimizer| (problem, optimizer)))
        .filter_map(|(problem, optimizer)| grid(content, problem, &optimizer))
        .collect();
    if figures.is_empty() && tables.is_empty() {
        return String::new();
    }
    let mut html = "<h2 id=\"tuning\">Tuning</h2>\n".to_owned();
    if !figures.is_empty() {
        html.push_str(&format!("<div class=\"panels\">\n{}</div>\n", figures.concat()));
    }
    if !tables.is_empty() {
        html.push_str(&format!(
            "<details id=\"grids\"><summary>All settings</summary>\n<p class=\"caption\">The {} {}. Dashed: on \
             the grid's edge. ★ and a frame: the chosen setting.</p>\n{}</details>\n",
            metric_title(results.selection_metric()),
            when(results, results.problems().iter().map(String::as_str)),
            tables.concat()
        ));
    }
    html
}

/// A grid as a table: learning rates down, dampings across; drawn settings as a list, since no two share a line of such a table.
fn grid(content: &Content, problem: &str, optimizer: &str) -> Option<String> {
    let table = GridTable::of(content.results, problem, optimizer)?;
    let file = crate::config::name::file_part(optimizer);
    let (order, body) = match table.is_scattered() {
        true => (", best first", list(content, problem, optimizer)),
        false => ("", cells(content, &table, &commands::of(&content.report.commands, problem, optimizer))),
    };
    Some(format!(
        "<div class=\"scroll\" data-optimizer=\"{file}\"><table><caption>{}, {}{order}</caption><thead><tr>\
         <th scope=\"col\" class=\"number\">learning rate</th>{body}</tbody></table></div>\n",
        markup(text::problem_title(problem)),
        markup(optimizer)
    ))
}

/// What stands in a grid's table behind the head of its first column.
fn cells(content: &Content, table: &GridTable, command: &str) -> String {
    let mut html = match table.dampings.is_empty() {
        true => head(metric_title(content.results.selection_metric())),
        false => table.dampings.iter().map(|damping| head(&format!("damping {}", significant(*damping, 4)))).collect(),
    };
    html.push_str("</tr></thead><tbody>\n");
    for (column, rate) in table.learning_rates.iter().enumerate() {
        html.push_str(&format!("<tr><th scope=\"row\" class=\"number\">{}</th>", significant(*rate, 4)));
        for (line, outcomes) in table.outcomes.iter().enumerate() {
            let best = table.winner == Some((line, column));
            html.push_str(&outcome_cell(&outcomes[column], table.is_edge(line, column), best, command));
        }
        html.push_str("</tr>\n");
    }
    html
}

/// The same of a list: a row a setting. Drawn values have no edge that anyone chose.
fn list(content: &Content, problem: &str, optimizer: &str) -> String {
    let mut settings = settings(content.results, problem, optimizer);
    settings.sort_by_key(|setting| (setting.rank.is_none(), setting.rank));
    let is_shown =
        |name: &str| settings.iter().any(|of| of.options.iter().any(|(key, value)| key == name && !value.is_empty()));
    let names: Vec<String> = settings.first().map_or_else(Vec::new, |first| {
        first.options.iter().map(|(name, _)| name.clone()).filter(|name| is_shown(name)).collect()
    });
    let mut html = head("damping");
    html.extend(names.iter().map(|name| head(&markup(&name.replace('_', " ")))));
    html.push_str(&head(metric_title(content.results.selection_metric())));
    html.push_str("</tr></thead><tbody>\n");
    let command = commands::of(&content.report.commands, problem, optimizer);
    let number = |text: &str| format!("<td class=\"number\">{text}</td>");
    for setting in &settings {
        let rate = significant(setting.learning_rate, 4);
        html.push_str(&format!("<tr><th scope=\"row\" class=\"number\">{rate}</th>"));
        html.push_str(&number(&setting.damping.map_or_else(|| "-".to_owned(), |damping| significant(damping, 4))));
        for name in &names {
            let value = setting.options.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
            html.push_str(&number(&markup(if value.is_empty() { "-" } else { value })));
        }
        html.push_str(&outcome_cell(&setting.outcome, false, setting.best, &command));
        html.push_str("</tr>\n");
    }
    html
}

/// The head of a column of numbers.
fn head(text: &str) -> String {
    format!("<th scope=\"col\" class=\"number\">{text}</th>")
}

fn outcome_cell(outcome: &Outcome, edge: bool, best: bool, command: &str) -> String {
    let (text, diverged) = match outcome {
        Outcome::Value(value) => (format!("<a href=\"#{}\">{}</a>", markup(command), cell(*value)), false),
        Outcome::Diverged => ("diverged".to_owned(), true),
        Outcome::Missing => ("-".to_owned(), false),
    };
    let classes = [("edge", edge), ("best", best), ("diverged", diverged)];
    let classes: Vec<&str> = classes.iter().filter(|(_, holds)| *holds).map(|(class, _)| *class).collect();
    format!("<td class=\"number {}\">{}{text}</td>", classes.join(" "), if best { "★ " } else { "" })
}
