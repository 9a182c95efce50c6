//! How the settings were chosen: grids, sensitivity, budget.

use super::super::escape::markup;
use super::super::grid::{GridTable, Outcome};
use super::super::text::{cell, metric_title};
use super::super::{commands, problem};
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
            "<details id=\"grids\"><summary>All settings</summary>\n<p class=\"caption\">The {} at the last epoch. Dashed: on \
             the grid's edge. ★ and a frame: the chosen setting.</p>\n{}</details>\n",
            metric_title(results.selection_metric()),
            tables.concat()
        ));
    }
    html
}

/// A grid as a table: learning rates down, dampings across.
fn grid(content: &Content, problem: &str, optimizer: &str) -> Option<String> {
    let table = GridTable::of(content.results, problem, optimizer)?;
    let file = crate::config::name::file_part(optimizer);
    let mut html = format!(
        "<div class=\"scroll\" data-optimizer=\"{file}\"><table><caption>{}, {}</caption><thead><tr>\
         <th scope=\"col\" class=\"number\">learning rate</th>",
        markup(problem::title(problem)),
        markup(optimizer)
    );
    match table.dampings.is_empty() {
        true => html.push_str(&format!(
            "<th scope=\"col\" class=\"number\">{}</th>",
            metric_title(content.results.selection_metric())
        )),
        false => html.extend(
            table
                .dampings
                .iter()
                .map(|damping| format!("<th scope=\"col\" class=\"number\">damping {}</th>", significant(*damping, 4))),
        ),
    }
    html.push_str("</tr></thead><tbody>\n");
    let command = commands::of(&content.report.commands, problem, optimizer);
    for (column, rate) in table.learning_rates.iter().enumerate() {
        html.push_str(&format!("<tr><th scope=\"row\" class=\"number\">{}</th>", significant(*rate, 4)));
        for (line, outcomes) in table.outcomes.iter().enumerate() {
            html.push_str(&grid_cell(&table, line, column, &outcomes[column], &command));
        }
        html.push_str("</tr>\n");
    }
    Some(html + "</tbody></table></div>\n")
}

fn grid_cell(table: &GridTable, line: usize, column: usize, outcome: &Outcome, command: &str) -> String {
    let best = table.winner == Some((line, column));
    let (text, diverged) = match outcome {
        Outcome::Value(value) => (format!("<a href=\"#{}\">{}</a>", markup(command), cell(*value)), false),
        Outcome::Diverged => ("diverged".to_owned(), true),
        Outcome::Missing => ("-".to_owned(), false),
    };
    let classes = [("edge", table.is_edge(line, column)), ("best", best), ("diverged", diverged)];
    let classes: Vec<&str> = classes.iter().filter(|(_, holds)| *holds).map(|(class, _)| *class).collect();
    format!("<td class=\"number {}\">{}{text}</td>", classes.join(" "), if best { "★ " } else { "" })
}
