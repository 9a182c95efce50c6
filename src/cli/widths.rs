//! For tests: what is printed at several widths, and that it breaks no word there; studies that were never run.

use std::collections::HashSet;
use std::path::Path;

use super::terminal;
use crate::problems::definition::built_in;
use crate::study::collect::GridResult;
use crate::study::experiment::{DataFacts, Experiment, Request, Select, resolve};
use crate::study::results::{PairResult, SeedRun};
use crate::study::select::{Candidate, SeedResult};
use crate::study::settings::RunTask;
use crate::study::state::RunState;
use crate::study::store::{EpochRow, KeepEnd};

/// What is printed on terminals with 80, 100 and 150 columns. Holds that no line is wider, and that every word is one of
/// those that stand where there is all the room in the world.
pub(super) fn snapshot(render: &dyn Fn() -> String) -> String {
    let wide = terminal::at_width(None, render);
    let all: HashSet<&str> = words(&wide).into_iter().collect();
    // A note tells what is left out, and names of columns are followed by a colon where rows stand as lists.
    let is_known = |word: &str| {
        let note = "no room here for: (--format csv has them)".split(' ').any(|known| known == word);
        note || all.contains(word) || all.contains(word.trim_end_matches([':', ',']))
    };
    let at = |width: usize| {
        let text = terminal::at_width(Some(width), render);
        let broken: Vec<&str> = words(&text).into_iter().filter(|word| !is_known(word)).collect();
        assert!(broken.is_empty(), "at {width}: {broken:?}\n{text}");
        let wide: Vec<&str> =
            text.lines().filter(|line| line.chars().count() > width && line.split_whitespace().count() > 1).collect();
        assert!(wide.is_empty(), "at {width}: {wide:?}");
        format!("{width} columns\n{}", text.trim_end())
    };
    [80, 100, 150].map(at).join("\n\n")
}

fn words(text: &str) -> Vec<&str> {
    let is_border = |letter: char| letter.is_whitespace() || "│┆┌┐└┘├┤─═╞╡┬┴╪┼".contains(letter);
    text.split(is_border).filter(|word| !word.is_empty()).collect()
}

/// The experiment of these keys.
pub(super) fn experiment(set: &[&str]) -> Experiment {
    let set: Vec<String> = set.iter().map(|text| (*text).to_owned()).collect();
    resolve(Request { set: &set, ..Default::default() }).unwrap()
}

/// A run of one of the experiment's settings.
pub(super) fn tasks(experiment: &Experiment, problem: &str) -> Vec<RunTask> {
    let facts = DataFacts { fingerprint: "data".into(), weights: None, default_valid_size: 1000 };
    let grid = experiment.grid(&built_in(problem).unwrap().unwrap(), &experiment.optimizers[0], &facts);
    let task = |settings| RunTask {
        settings,
        seed: 42,
        runs_dir: Path::new("runs").to_owned(),
        data_dir: None,
        checkpoint_seconds: 300.0,
        keep_end: KeepEnd::default(),
        diagnostics: None,
        pause_file: None,
    };
    grid.settings.into_iter().map(task).collect()
}

/// What a run measured that ends at these values.
pub(super) fn measured(epochs: usize, loss: f64, accuracy: f64) -> SeedResult {
    let row = |epoch: usize| {
        let share = epoch as f64 / epochs as f64;
        let (loss, accuracy) = (2.3 + share * (loss - 2.3), 0.1 + share * (accuracy - 0.1));
        EpochRow {
            epoch,
            train_loss: loss,
            train_accuracy: accuracy,
            valid_loss: loss + 0.01,
            valid_accuracy: accuracy - 0.01,
            test_loss: loss + 0.02,
            test_accuracy: accuracy - 0.02,
            train_seconds: 2.0,
            eval_seconds: 0.5,
        }
    };
    SeedResult { rows: vec![row(0), row(epochs)], diverged: false }
}

/// The grid of these keys on a problem with its setting at `best` the best, and three seeds of it.
pub(super) fn pair(problem: &str, set: &[&str], best: usize) -> PairResult {
    let key = format!("problem={problem}");
    let experiment = experiment(&[&[key.as_str()], set].concat());
    let facts = DataFacts { fingerprint: "data".into(), weights: None, default_valid_size: 1000 };
    let grid = experiment.grid(&built_in(problem).unwrap().unwrap(), &experiment.optimizers[0], &facts);
    let count = grid.settings.len();
    let candidate = |place: usize| {
        let optimizer = &grid.settings[place].optimizer;
        let accuracy = if place == best { 0.91 } else { 0.5 };
        let results = vec![measured(5, 1.0 - accuracy, accuracy)];
        Candidate { learning_rate: optimizer.learning_rate, damping: optimizer.damping, results }
    };
    let seeds = [0.0, 0.003, -0.012].map(|off| SeedRun {
        task: tasks(&experiment, problem).swap_remove(best),
        state: RunState::Done,
        result: measured(5, 0.3 + off, 0.91 - off),
        steps: None,
    });
    let grid = GridResult {
        problem: problem.to_owned(),
        select: Select::default(),
        candidates: (0..count).map(candidate).collect(),
        runs: vec![Vec::new(); count],
        unfinished: vec![0; count],
        ranking: std::iter::once(best).chain((0..count).filter(|place| *place != best)).collect(),
        rungs: vec![Vec::new()],
        is_complete: true,
        grid,
    };
    PairResult { grid, winner: Some(best), seeds: seeds.into(), steps_per_epoch: 100 }
}
