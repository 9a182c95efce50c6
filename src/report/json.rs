//! A report as JSON: everything that its page shows, for other programs.

use serde_json::{Value, json};

use super::Report;
use super::agreement::Agreement;
use super::evidence::Comparison;
use super::figures::Figure;
use super::profile::{Profile, Ranks};
use super::summary::{Estimate, Standing, SummaryRow};

/// What the report says, without the figures' points.
pub fn report(report: &Report) -> Value {
    json!({
        "name": report.name,
        "page": report.page,
        "figures": report.figures.len(),
        "notes": report.notes,
        "warnings": report.warnings,
        "exported": report.exported,
        "summary": report.summary.iter().map(summary).collect::<Vec<_>>(),
        "verdicts": report.verdicts,
        "evidence": report.evidence.iter().map(comparison).collect::<Vec<_>>(),
        "profiles": { "steps": profiles(&report.profiles[0]), "seconds": profiles(&report.profiles[1]) },
        "ranks": report.ranks.iter().map(ranks).collect::<Vec<_>>(),
        "agreement": report.agreements.iter().map(agreement).collect::<Vec<_>>(),
    })
}

/// report.json: the same with every figure, its caption and its points.
pub fn file(of: &Report) -> Value {
    let mut value = report(of);
    value["schema_version"] = json!(1);
    value["page"] = json!("index.html");
    value["figures"] = of.figures.iter().map(figure).collect();
    value["commands"] =
        of.commands.iter().map(|command| json!({ "makes": command.makes, "command": command.line })).collect();
    value
}

fn figure(figure: &Figure) -> Value {
    let points = figure.data.iter().map(|datum| {
        json!([datum.panel, datum.line, number(datum.x), number(datum.value), number(datum.lower), number(datum.upper)])
    });
    json!({
        "file": figure.stem,
        "problem": figure.problem,
        "title": figure.title,
        "caption": figure.caption,
        "columns": ["panel", "line", "x", "value", "lower", "upper"],
        "points": points.collect::<Vec<_>>(),
    })
}

/// JSON has no word for what is no number.
fn number(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { Value::Null }
}

fn estimate(estimate: &Estimate) -> Value {
    json!({
        "median": number(estimate.median),
        "interval": estimate.interval,
        "range": estimate.range.map(number),
    })
}

fn summary(row: &SummaryRow) -> Value {
    let standing = match row.standing {
        Standing::Best => "best",
        Standing::Level => "level",
        Standing::Behind => "behind",
        Standing::Unknown => "unknown",
    };
    let setting: serde_json::Map<String, Value> =
        row.setting.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "problem": row.problem,
        "optimizer": row.optimizer,
        "standing": standing,
        "setting": setting,
        "test_accuracy": row.accuracy.as_ref().map(estimate),
        "test_loss": row.loss.as_ref().map(estimate),
        "target": row.reached.as_ref().map(|reached| json!({
            "steps": reached.steps, "epochs": reached.epochs, "seconds": reached.seconds, "seeds": reached.seeds,
        })),
        "seconds_per_epoch": row.epoch_seconds,
        "step_cost": row.step_cost,
        "peak_bytes": row.peak_bytes,
        "tuning": row.tuning.as_ref().map(|tuning| json!({
            "settings": tuning.settings, "epochs": tuning.epochs,
            "learning_rates": tuning.learning_rates, "dampings": tuning.dampings,
        })),
        "edges": row.edges,
        "n": row.n,
        "diverged": row.diverged,
    })
}

fn comparison(pair: &Comparison) -> Value {
    json!({
        "problem": pair.problem, "metric": pair.metric, "first": pair.first, "second": pair.second,
        "epoch": pair.epoch, "n": pair.n, "difference": pair.difference,
        "lower": pair.interval.map(|[low, _]| low), "upper": pair.interval.map(|[_, high]| high),
        "smallest": pair.range[0], "largest": pair.range[1],
        "p": pair.p, "p_holm": pair.p_holm, "pairs": pair.pairs, "wins": pair.wins, "losses": pair.losses,
        "detectable": pair.detectable, "tuning": pair.tuning, "clear": pair.is_clear(), "sentence": pair.sentence(),
    })
}

fn profiles(profiles: &[Profile]) -> Vec<Value> {
    let one = |profile: &Profile| {
        json!({
            "optimizer": profile.optimizer,
            "ratios": profile.ratios.iter().map(|ratio| number(*ratio)).collect::<Vec<_>>(),
            "geometric_mean": profile.geometric_mean(),
        })
    };
    profiles.iter().map(one).collect()
}

fn ranks(ranks: &Ranks) -> Value {
    let each: serde_json::Map<String, Value> =
        ranks.ranks.iter().map(|(problem, rank)| (problem.clone(), json!(rank))).collect();
    json!({ "optimizer": ranks.optimizer, "mean": ranks.mean(), "ranks": each })
}

fn agreement(agreement: &Agreement) -> Value {
    let counts = agreement.counts();
    json!({
        "problem": agreement.problem, "optimizer": agreement.optimizer, "metric": agreement.metric,
        "epochs": agreement.epochs.len(), "within": counts.once, "share": agreement.share(),
        "inside": counts.inside, "within_twice": counts.twice,
        "expected": agreement.expected.map(|expected| json!({
            "inside": expected.inside, "within": expected.once, "within_twice": expected.twice,
        })),
        "farthest": agreement.farthest().map(|far| json!({
            "epoch": far.epoch, "distance": number(far.distance()), "median": number(far.median),
            "reference": number(far.reference),
        })),
        "end": {
            "epoch": agreement.end.epoch, "n": agreement.end.seeds[0], "reference_n": agreement.end.seeds[1],
            "difference": number(agreement.end.difference), "interval": agreement.end.interval(),
        },
    })
}
