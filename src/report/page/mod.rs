//! The page of a study: one HTML file that needs nothing beside it, no network, and no script to be read.

mod sections;

use serde_json::{Map, Value, json};

use super::agreement::Reference;
use super::escape::{json_in_html, markup, visible};
use super::evidence::Comparison;
use super::figures::{CurvePanel, curve_panel};
use super::results::{PAPER_METRICS, Results, distinct};
use super::style;
use super::svg::Svg;
use super::tables::Table;
use super::text::metric_title;
use crate::config::name::file_part;

/// Everything that a page shows.
#[derive(Debug)]
pub struct Content<'a> {
    /// The study's results.
    pub results: &'a Results,
    /// The pairs of optimizers.
    pub evidence: &'a [Comparison],
    /// The reference.
    pub reference: Option<&'a Reference>,
    /// The tables.
    pub tables: &'a [Table],
}

/// The page's text.
pub fn page(content: &Content) -> String {
    let results = content.results;
    let mut panels = Map::new();
    let curves = curve_sections(content, &mut panels);
    let data = json_in_html(&Value::Object(panels));
    let name = markup(&results.name);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{name}: study</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>\n{}</style>\n</head>\n<body>\n<header>\n<h1>{name}</h1>\n",
        include_str!("page.css")
    );
    html.push_str(&sections::summary(content));
    html.push_str("</header>\n<main>\n");
    html.push_str(&controls(results));
    html.push_str(&curves);
    html.push_str(&sections::evidence(content.evidence));
    html.push_str(&sections::tables(content.tables));
    html.push_str(&sections::grids(results));
    html.push_str(&sections::provenance(results));
    html.push_str("</main>\n");
    html.push_str(&format!("<script type=\"application/json\" id=\"curves\">{data}</script>\n"));
    html.push_str(&format!("<script>\n{}</script>\n</body>\n</html>\n", include_str!("page.js")));
    html
}

/// The check boxes of optimizers and metrics.
fn controls(results: &Results) -> String {
    let mut html =
        "<form class=\"controls\" aria-label=\"What is shown\"><fieldset><legend>optimizers</legend>".to_owned();
    for (place, name) in distinct(results.curves.iter().map(|row| &row.optimizer)).iter().enumerate() {
        let mut sample = Svg::new(34.0, 12.0);
        let style = style::of(name, place);
        sample.line((1.0, 6.0), (33.0, 6.0), &style.stroke(2.0));
        style.mark(&mut sample, (17.0, 6.0), 3.2, true);
        let sample = inline(&sample.finish(name, "")).replacen("role=\"img\"", "aria-hidden=\"true\"", 1);
        html.push_str(&format!(
            "<label><input type=\"checkbox\" data-kind=\"optimizer\" value=\"{}\" checked>{sample}{}</label>",
            file_part(name),
            markup(name)
        ));
    }
    html.push_str(
        "<button type=\"button\" data-all=\"optimizer\">all</button></fieldset><fieldset><legend>metrics</legend>",
    );
    for metric in PAPER_METRICS {
        let title = metric_title(metric);
        html.push_str(&format!(
            "<label><input type=\"checkbox\" data-kind=\"metric\" value=\"{metric}\" checked>{title}</label>"
        ));
    }
    html.push_str("<button type=\"button\" data-all=\"metric\">all</button></fieldset></form>\n");
    html
}

/// The curves of every problem; their data are added to `panels`.
fn curve_sections(content: &Content, panels: &mut Map<String, Value>) -> String {
    let mut html =
        "<h2 id=\"curves-section\">Learning curves</h2>\n<p class=\"caption\">Values of an epoch: move the pointer \
                    over a figure, or reach it with Tab and use the arrow keys, Home and End.</p>\n"
            .to_owned();
    for problem in content.results.problems() {
        html.push_str(&format!("<section><h3>{}</h3>\n<div class=\"panels\">\n", markup(&problem)));
        for metric in PAPER_METRICS {
            let Some(panel) = curve_panel(content.results, &problem, metric, content.reference) else { continue };
            let id = format!("{}-{metric}", file_part(&problem));
            let label = markup(&format!("{} on {problem}; arrow keys read values", metric_title(metric)));
            html.push_str(&format!(
                "<figure data-metric=\"{metric}\"><div class=\"panel\" data-panel=\"{id}\" tabindex=\"0\" role=\"group\" \
                 aria-label=\"{label}\">{}</div><output aria-live=\"polite\"></output><figcaption>{}</figcaption></figure>\n",
                inline(&panel.svg),
                markup(&panel.caption)
            ));
            panels.insert(id, data(&panel));
        }
        html.push_str("</div></section>\n");
    }
    html
}

/// Within HTML the namespace is known.
fn inline(svg: &str) -> String {
    svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1)
}

fn data(panel: &CurvePanel) -> Value {
    let lines: Vec<Value> = panel
        .lines
        .iter()
        .map(|line| {
            let points: Vec<[f64; 4]> = line.points.iter().map(|p| [p.x, p.y, p.low, p.high]).collect();
            json!({ "key": file_part(&line.name), "name": visible(&line.name), "points": points })
        })
        .collect();
    let frame = &panel.frame;
    let scale = frame.horizontal;
    json!({
        "width": super::figures::WIDTH,
        "frame": { "x": frame.x, "y": frame.y, "width": frame.width, "height": frame.height, "low": scale.low, "high": scale.high },
        "lines": lines,
    })
}
