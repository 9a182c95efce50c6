//! The commands that made a page's numbers, as a reader can run them again.

use serde_json::Value;

use super::results::Results;
use crate::config::write::to_text;
use crate::words::shell_quoted;

/// One command, and what it makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// What links lead to.
    pub id: String,
    /// What it makes.
    pub makes: String,
    /// The command line.
    pub line: String,
}

/// The id of the command that makes all of a study.
pub const STUDY: &str = "command-study";
/// The id of the command that compares.
pub const REPORT: &str = "command-report";
/// The id of the command that times steps.
pub const BENCH: &str = "command-bench";

/// The resolved experiment as an experiment file; nothing where meta.json has none, or there are several.
pub fn experiment(results: &Results) -> Option<String> {
    if !results.studies.is_empty() {
        return None;
    }
    let experiment = results.meta["experiment"].as_object().map(|table| Value::Object(table.clone()))?;
    let table = toml::Table::try_from(without_nulls(experiment)).ok()?;
    Some(to_text(&table))
}

/// What has no value is left out, as TOML has no word for it.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(table) => Value::Object(
            table
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// The name of that file.
pub fn file(results: &Results) -> String {
    format!("{}.toml", crate::config::name::folder_name(&results.name))
}

/// All of a page's commands; `bench` says whether it shows what steps cost.
pub fn commands(results: &Results, bench: bool) -> Vec<Command> {
    if !results.studies.is_empty() {
        let names: Vec<String> = results.studies.iter().map(|(name, _)| shell_quoted(name)).collect();
        let line = format!("backpack-run report {} --side-by-side {}", names.join(" "), shell_quoted(&results.name));
        let makes = "this page; each study's own page says how its numbers were made".to_owned();
        return vec![Command { id: REPORT.to_owned(), makes, line }];
    }
    let file = shell_quoted(&file(results));
    let mut commands = vec![Command {
        id: STUDY.to_owned(),
        makes: "everything without a command of its own: grids, best settings, seeds".to_owned(),
        line: format!("backpack-run study {file}"),
    }];
    for problem in results.problems() {
        for optimizer in results.optimizers(&problem) {
            commands.extend(train(results, &problem, &optimizer, &file));
        }
    }
    commands.push(Command {
        id: REPORT.to_owned(),
        makes: "this page: intervals, tests and figures".to_owned(),
        line: format!("backpack-run report {}", shell_quoted(&results.name)),
    });
    if bench {
        commands.push(Command {
            id: BENCH.to_owned(),
            makes: "what a step costs, in time and memory".to_owned(),
            line: format!(
                "backpack-run bench --figure steps --problem {} --out bench",
                shell_quoted(&results.problems().join(","))
            ),
        });
    }
    commands
}

/// The run of one seed of a best setting. A file of several problems, or of several entries for one optimizer, does not
/// tell by these flags which one is meant, so there is none.
fn train(results: &Results, problem: &str, optimizer: &str, file: &str) -> Option<Command> {
    let experiment = &results.meta["experiment"];
    let name = results.command_line_name(optimizer)?;
    let entries = experiment["optimizer"].as_array()?.iter().filter(|entry| entry["name"] == name).count();
    if experiment["problem"].as_array()?.len() != 1 || entries != 1 {
        return None;
    }
    let winner = results.winner(problem, optimizer)?;
    let mut line = format!("backpack-run train {file} --optimizer {name} --lr {}", winner["learning_rate"].as_f64()?);
    if let Some(damping) = winner["damping"].as_f64() {
        line = format!("{} --damping {damping}", line.replacen("--optimizer", "--curv", 1));
    }
    for (key, value) in winner["options"].as_object().into_iter().flatten() {
        line.push_str(&format!(" --set {}", shell_quoted(&format!("{key}={value}"))));
    }
    let mut seeds: Vec<u64> =
        results.seeds_of(problem).filter(|row| row.optimizer == optimizer).map(|row| row.seed).collect();
    seeds.sort_unstable();
    line.push_str(&format!(" --seed {}", seeds.first()?));
    let makes = format!("{optimizer}: one seed of its best setting; likewise for the other seeds");
    Some(Command { id: id(problem, optimizer), makes, line })
}

/// What a link to an optimizer's command leads to.
fn id(problem: &str, optimizer: &str) -> String {
    use crate::config::name::file_part;
    format!("command-{}-{}", file_part(problem), file_part(optimizer))
}

/// Where the numbers of an optimizer come from: its own command, or else the study's.
pub fn of(commands: &[Command], problem: &str, optimizer: &str) -> String {
    let own = id(problem, optimizer);
    let known = |id: &str| commands.iter().any(|command| command.id == id);
    if known(&own) { own } else { (if known(STUDY) { STUDY } else { REPORT }).to_owned() }
}
