//! The learning curves: boxes that show and hide, and panels over epochs and over seconds that tell values.

use serde_json::{Map, Value, json};

use super::super::commands;
use super::super::escape::{markup, visible};
use super::super::figures::{CurvePanel, Over, WIDTH, curve_panel};
use super::super::results::{PAPER_METRICS, Results, distinct};
use super::super::style::Looks;
use super::super::svg::Svg;
use super::super::text::{self, metric_title};
use super::content::{Content, command_link, inline};
use crate::config::name::file_part;

/// The curves of every problem; their data are added to `panels`.
pub(super) fn section(content: &Content, panels: &mut Map<String, Value>) -> String {
    if content.results.curves.is_empty() {
        return String::new();
    }
    let mut html = format!(
        "<h2 id=\"curves-section\">Learning curves</h2>\n<p class=\"caption\">Point at a figure to read its values, or \
         focus it with Tab and use the arrow keys, Home and End. {}</p>\n",
        command_link(content, commands::STUDY)
    );
    html.push_str(&controls(content.results));
    for problem in content.results.problems() {
        for over in [Over::Epochs, Over::Seconds] {
            let of_metric =
                |metric| Some((metric, curve_panel(content.results, &problem, metric, over, content.reference)?));
            let metrics: Vec<_> = PAPER_METRICS.into_iter().filter_map(of_metric).collect();
            // What is said of all panels alike is said once, below them.
            let is_shared = metrics.windows(2).all(|pair| pair[0].1.caption == pair[1].1.caption);
            let shared = metrics.first().filter(|_| is_shared).map(|(_, panel)| panel.caption.clone());
            let drawn: String = metrics
                .into_iter()
                .map(|(metric, panel)| {
                    let id = format!("{}-{metric}-{}", file_part(&problem), over.as_str());
                    let title =
                        format!("{} on {} over {}", metric_title(metric), text::problem_title(&problem), over.as_str());
                    let label = markup(&format!("{title}; arrow keys read values"));
                    let html = format!(
                        "<figure data-metric=\"{metric}\"><div class=\"panel\" data-panel=\"{id}\" tabindex=\"0\" \
                         role=\"group\" aria-label=\"{label}\">{}</div><output aria-live=\"polite\"></output>{}</figure>\n",
                        inline(&panel.svg),
                        match shared {
                            Some(_) => String::new(),
                            None => format!("<figcaption>{}</figcaption>", markup(&panel.caption)),
                        }
                    );
                    panels.insert(id, data(&panel, over));
                    html
                })
                .collect();
            if !drawn.is_empty() {
                let title = markup(&format!("{}, over {}", text::problem_title(&problem), over.as_str()));
                let below =
                    shared.map_or_else(String::new, |text| format!("<p class=\"caption\">{}</p>\n", markup(&text)));
                html.push_str(&format!(
                    "<section><h3>{title}</h3>\n<div class=\"panels\">\n{drawn}</div>\n{below}</section>\n"
                ));
            }
        }
    }
    html
}

/// The check boxes of optimizers and metrics.
fn controls(results: &Results) -> String {
    let looks = Looks::of(results);
    let mut html =
        "<form class=\"controls\" aria-label=\"What is shown\"><fieldset><legend>optimizers</legend>".to_owned();
    for name in distinct(results.curves.iter().map(|row| &row.optimizer)) {
        let mut sample = Svg::new(34.0, 12.0);
        let style = looks.style(&name);
        sample.line((1.0, 6.0), (33.0, 6.0), &style.stroke(2.0));
        style.mark(&mut sample, (17.0, 6.0), 3.2, true);
        let sample = inline(&sample.finish(&name, "")).replacen("role=\"img\"", "aria-hidden=\"true\"", 1);
        html.push_str(&format!(
            "<label><input type=\"checkbox\" data-kind=\"optimizer\" value=\"{}\" checked>{sample}{}</label>",
            file_part(&name),
            markup(&name)
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

fn data(panel: &CurvePanel, over: Over) -> Value {
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
        "over": over.as_str(),
        "width": WIDTH,
        "frame": {
            "x": frame.x, "y": frame.y, "width": frame.width, "height": frame.height,
            "low": scale.low, "high": scale.high, "log": scale.log,
        },
        "lines": lines,
    })
}
