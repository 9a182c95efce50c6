//! The pairs of optimizers as a matrix: colour where one is clearly better, nothing where these seeds do not decide.

use super::super::escape::markup;
use super::super::evidence::{COMPARED, Comparison, signed};
use super::super::results::distinct;
use super::super::summary::SummaryRow;
use super::super::text;
use super::super::text::{capital, metric_title, p_value, plain};
use super::content::Content;
use crate::study::experiment::Metric;

/// Up to so many optimizers there is room for intervals.
const ROOMY: usize = 8;

/// The matrices of all problems, and all numbers folded away.
pub(super) fn section(content: &Content) -> String {
    let pairs = &content.report.evidence;
    let mut html = "<h2 id=\"evidence\">Pairs</h2>\n".to_owned();
    if pairs.is_empty() {
        return html + "<p>No two optimizers have a finished seed in common.</p>\n";
    }
    html.push_str(
        "<p class=\"caption\">Row minus column at the last epoch: the median of the seed-by-seed differences, the interval of \
         differences that the test does not reject, and p, both corrected for all pairs of the matrix (two-sided sign-flip \
         permutation test; Holm). Blue: the row is better. Orange: the column is better. Empty: undecided with these \
         seeds.</p>\n",
    );
    if pairs.iter().any(|pair| pair.tuning.is_some()) {
        html.push_str(
            "<p class=\"caption\">Intervals also cover the changes that 95 % of the study's further tunings, drawn from the \
             finished grids, would have made.</p>\n",
        );
    }
    for name in distinct(pairs.iter().map(|pair| &pair.problem)) {
        let order: Vec<&SummaryRow> = content.report.summary.iter().filter(|row| row.problem == name).collect();
        html.push_str(&format!("<section><h3>{}</h3>\n", markup(text::problem_title(&name))));
        for metric in COMPARED {
            let here: Vec<&Comparison> =
                pairs.iter().filter(|pair| pair.problem == name && pair.metric == metric).collect();
            if here.is_empty() {
                continue;
            }
            let names: Vec<&str> = order
                .iter()
                .map(|row| row.optimizer.as_str())
                .filter(|name| here.iter().any(|p| p.is_of(name)))
                .collect();
            html.push_str(&match here.iter().any(|pair| pair.is_clear()) {
                true => matrix(metric, &names, &here),
                false => format!("<p>{}</p>\n", undecided(metric, &here)),
            });
            html.push_str(&all(metric, &here));
        }
        html.push_str("</section>\n");
    }
    html
}

/// Instead of a matrix in which nothing stands.
fn undecided(metric: Metric, pairs: &[&Comparison]) -> String {
    let why = match pairs.iter().any(|pair| pair.interval.is_some()) {
        true => "these seeds tell no pair apart",
        false => "too few seeds to decide any pair",
    };
    format!("{}: {why}.", capital(metric_title(metric)))
}

fn matrix(metric: Metric, names: &[&str], pairs: &[&Comparison]) -> String {
    let size = if names.len() > ROOMY { "matrix tight" } else { "matrix" };
    let mut html =
        format!("<table class=\"{size}\"><caption>{}</caption><thead><tr><td></td>", capital(metric_title(metric)));
    html.extend(names.iter().map(|name| format!("<th scope=\"col\"><span>{}</span></th>", markup(name))));
    html.push_str("</tr></thead><tbody>\n");
    for row in names {
        html.push_str(&format!("<tr><th scope=\"row\">{}</th>", markup(row)));
        for column in names {
            let pair = pairs.iter().find(|pair| row != column && pair.is_of(row) && pair.is_of(column));
            html.push_str(&match pair.map(|pair| pair.from(row)) {
                Some(pair) if pair.is_clear() => decided(&pair),
                Some(_) => "<td></td>".to_owned(),
                None => "<td class=\"same\"></td>".to_owned(),
            });
        }
        html.push_str("</tr>\n");
    }
    html + "</tbody></table>\n"
}

fn decided(pair: &Comparison) -> String {
    let (class, arrow) = if pair.lead() > 0.0 { ("better", "▲") } else { ("worse", "▼") };
    let [low, high] = pair.interval.unwrap_or(pair.range);
    format!(
        "<td class=\"{class}\" title=\"{}\"><span class=\"arrow\" aria-hidden=\"true\">{arrow}</span><a href=\"#command-report\">\
         <span class=\"size\">{}</span> <span class=\"more\">[{}, {}]<br>p {}</span></a></td>",
        markup(&pair.sentence()),
        signed(pair.difference),
        plain(low),
        plain(high),
        markup(p_value(pair.p_holm).trim_start_matches("= "))
    )
}

/// Every pair with all of its numbers.
fn all(metric: Metric, pairs: &[&Comparison]) -> String {
    let header = [
        "first",
        "second",
        "seeds",
        "first better",
        "second better",
        "difference",
        "interval",
        "p",
        "corrected p",
        "detectable",
    ];
    let mut html = format!(
        "<details><summary>All pairs on {}</summary>\n<div class=\"scroll\"><table class=\"cards\"><caption>Detectable: the difference that these \
         seeds would detect four times out of five.</caption><thead><tr>",
        metric_title(metric)
    );
    let class = |place: usize| if place < 2 { "" } else { " class=\"number\"" };
    for (place, name) in header.iter().enumerate() {
        html.push_str(&format!("<th scope=\"col\"{}>{name}</th>", class(place)));
    }
    html.push_str("</tr></thead><tbody>\n");
    for pair in pairs {
        let cells = [
            pair.first.clone(),
            pair.second.clone(),
            pair.n.to_string(),
            pair.wins.to_string(),
            pair.losses.to_string(),
            signed(pair.difference),
            pair.interval.map_or_else(|| "-".to_owned(), |[low, high]| format!("{} to {}", plain(low), plain(high))),
            p_value(pair.p).trim_start_matches("= ").to_owned(),
            p_value(pair.p_holm).trim_start_matches("= ").to_owned(),
            pair.detectable.map_or_else(|| "-".to_owned(), plain),
        ];
        html.push_str("<tr>");
        for (place, text) in cells.iter().enumerate() {
            html.push_str(&format!("<td{} data-label=\"{}\">{}</td>", class(place), header[place], markup(text)));
        }
        html.push_str("</tr>\n");
    }
    html + "</tbody></table></div></details>\n"
}
