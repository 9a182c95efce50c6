//! What will be measured, and what is left out and why, decided before anything is.

use std::collections::BTreeMap;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;

use super::figure::{FIGURES, Figure, PROBLEM, STEPS, Subjects, figure};
use super::task::{Feasible, SEED, Subject, Task, feasible};
use crate::backpack::Network;
use crate::backpack::quantities::TABLE_1;
use crate::error::{Error, Result};
use crate::problems::builder::build_network;
use crate::problems::data::{DataFolders, describe};
use crate::problems::definition::{self, ProblemDefinition};
use crate::words::count;

/// All figures in their quick form take this long, the last pairs and the peaks excepted.
const QUICK_TIME: Duration = Duration::from_secs(420);
/// Half of an interval's width that ends a row, as a share of the ratio, of the quick form and of anything else.
const QUICK_PRECISION: f64 = 0.05;
const PRECISION: f64 = 0.02;
/// On a machine that is busy even one pair a row may take too long: no row of the quick form is begun after this.
const QUICK_END: Duration = Duration::from_secs(540);
/// The rows of anything else take this long on average, at the most, unless told otherwise.
const ROW_TIME: Duration = Duration::from_secs(60);

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Figures by name; empty where none is named.
    pub figures: Vec<String>,
    /// Problems, by name or path, in place of the figures' own.
    pub problems: Vec<String>,
    /// Quantities in place of the figures' own; `all` is Table 1.
    pub quantities: Vec<String>,
    /// Optimizers in place of the steps' own.
    pub optimizers: Vec<String>,
    /// Batch sizes in place of the figures' or the problems' own.
    pub batch_sizes: Vec<usize>,
    /// Numbers of threads; each row is measured with each of them.
    pub threads: Vec<usize>,
    /// Exactly so many pairs a row.
    pub rounds: Option<usize>,
    /// Half of the interval's width, as a share of the ratio, that ends a row; 0.02, or 0.05 in the quick form, where it
    /// is not given.
    pub precision: Option<f64>,
    /// The time for everything.
    pub time: Option<Duration>,
    /// What a row may need, in bytes.
    pub memory: u64,
    /// Whether fetching batches is timed.
    pub include_data: bool,
    /// Where tensors live.
    pub device: String,
}

/// Something that is not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// As in [`super::Row`].
    pub figure: String,
    /// As in [`super::Row`].
    pub problem: String,
    /// As in [`super::Row`].
    pub quantity: String,
    /// As in [`super::Row`].
    pub batch_size: usize,
    /// Why.
    pub reason: String,
}

impl LeftOut {
    /// A task that there was no time for.
    pub fn for_time(task: &Task) -> Self {
        LeftOut {
            figure: task.figure.clone(),
            problem: task.problem.clone(),
            quantity: task.subject.name().to_owned(),
            batch_size: task.batch_size,
            reason: "the time was up; give more with --time-budget, or name the figure".to_owned(),
        }
    }
}

/// What will be measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Row by row.
    pub tasks: Vec<Task>,
    /// What is not, and why.
    pub left_out: Vec<LeftOut>,
    /// Exactly so many pairs a row.
    pub rounds: Option<usize>,
    /// Half of the interval's width, as a share of the ratio, that ends a row.
    pub precision: f64,
    /// The time for everything, where it is given; else it goes by the number of rows.
    pub time: Option<Duration>,
    /// After this no row is begun.
    pub end: Option<Duration>,
    /// Whether these are the quick sizes.
    pub quick: bool,
}

/// A problem's rows of one figure, as they are asked for.
struct Block {
    figure: &'static str,
    problem: String,
    subjects: Vec<Subject>,
    batch_sizes: Vec<usize>,
}

impl Plan {
    /// The plan for a selection: the quick form of everything where nothing is selected.
    ///
    /// # Errors
    /// [`Error::Usage`] for unknown names, [`Error::Unsupported`] for what was asked for by name and cannot be
    /// measured (with its estimate where memory is the reason), and what loading of problems says.
    pub fn new(selection: &Selection) -> Result<Self> {
        let quick = [&selection.figures, &selection.problems, &selection.quantities, &selection.optimizers]
            .iter()
            .all(|names| names.is_empty());
        let precision = selection.precision.unwrap_or(if quick { QUICK_PRECISION } else { PRECISION });
        let time = selection.time.or(quick.then_some(QUICK_TIME));
        let end = (quick && selection.time.is_none() && selection.rounds.is_none()).then_some(QUICK_END);
        let mut plan =
            Plan { tasks: Vec::new(), left_out: Vec::new(), rounds: selection.rounds, precision, time, end, quick };
        let mut problems = Problems::default();
        for block in blocks(selection, quick)? {
            plan.add(&block, selection, &mut problems)?;
        }
        if plan.tasks.is_empty() {
            let reasons: Vec<_> =
                plan.left_out.iter().map(|left| format!("{}: {}", left.quantity, left.reason)).collect();
            return Err(Error::Usage(format!("nothing is left to measure. {}", reasons.join("; "))));
        }
        Ok(plan)
    }

    fn add(&mut self, block: &Block, selection: &Selection, problems: &mut Problems) -> Result<()> {
        let (definition, shape, network) = problems.get(&block.problem)?;
        let own = [definition.batch_size];
        let batch_sizes = if block.batch_sizes.is_empty() { &own } else { block.batch_sizes.as_slice() };
        for batch_size in batch_sizes {
            for subject in &block.subjects {
                let budget = selection.memory;
                let named = match subject {
                    Subject::Step(name) => selection.optimizers.iter().any(|asked| asked == name.as_str()),
                    other => selection.quantities.iter().any(|asked| asked == other.name()),
                };
                let reason = match feasible(network, shape, definition.l2, subject, *batch_size, budget)? {
                    Feasible::Yes { chunk_bytes, .. } => {
                        for threads in &selection.threads {
                            let task = Task {
                                figure: block.figure.to_owned(),
                                source: block.problem.clone(),
                                problem: definition.name.clone(),
                                subject: subject.clone(),
                                batch_size: *batch_size,
                                threads: *threads,
                                device: selection.device.clone(),
                                include_data: selection.include_data,
                                chunk_bytes,
                                alone: false,
                            };
                            if !self.tasks.contains(&task) {
                                self.tasks.push(task);
                            }
                        }
                        continue;
                    }
                    Feasible::TooLarge { needed } => format!(
                        "it needs about {}, but only {} are available; take a smaller batch, or give more with --memory-budget",
                        ByteSize(needed),
                        ByteSize(budget)
                    ),
                    Feasible::No(reason) => reason,
                };
                if named {
                    let title = format!("{} of {} at batch {batch_size}", subject.name(), definition.name);
                    return Err(Error::Unsupported(format!("{title}: {reason}")));
                }
                self.left_out.push(LeftOut {
                    figure: block.figure.to_owned(),
                    problem: definition.name.clone(),
                    quantity: subject.name().to_owned(),
                    batch_size: *batch_size,
                    reason,
                });
            }
        }
        Ok(())
    }

    /// What all rows together may take.
    pub fn time_for_all(&self) -> Duration {
        self.time.unwrap_or(ROW_TIME * self.tasks.len() as u32)
    }

    /// The plan in words, a line a problem and figure.
    pub fn describe(&self) -> String {
        let mut lines: Vec<(String, Vec<&str>, Vec<usize>)> = Vec::new();
        for task in &self.tasks {
            let title = match figure(&task.figure) {
                Some(Figure { name, title, .. }) if *name != STEPS => format!("Fig. {name}, {title}; {}", task.problem),
                Some(Figure { name, title, .. }) => format!("{name}, {title}; {}", task.problem),
                None => task.problem.clone(),
            };
            if lines.last().is_none_or(|line| line.0 != title) {
                lines.push((title, Vec::new(), Vec::new()));
            }
            if let Some((_, subjects, batches)) = lines.last_mut() {
                if !subjects.contains(&task.subject.name()) {
                    subjects.push(task.subject.name());
                }
                if !batches.contains(&task.batch_size) {
                    batches.push(task.batch_size);
                }
            }
        }
        let mut text = match self.quick {
            true => "Quick sizes of all figures; name figures with --figure for the full ones.\n".to_owned(),
            false => String::new(),
        };
        for (title, subjects, batches) in lines {
            let batches: Vec<_> = batches.iter().map(usize::to_string).collect();
            text += &format!("{title}, batch {}: {}\n", batches.join(", "), subjects.join(", "));
        }
        for left in &self.left_out {
            text += &format!(
                "left out of {}: {} of {} at batch {}: {}\n",
                left.figure, left.quantity, left.problem, left.batch_size, left.reason
            );
        }
        let rows = count(self.tasks.len(), "row");
        text + &match (self.rounds, self.time) {
            (Some(1), _) => format!("{rows}, one pass each without warm-up.\n"),
            (Some(rounds), _) => format!("{rows}, {rounds} pairs each after a warm-up.\n"),
            (None, Some(time)) => format!(
                "{rows}, each to {} % or its share of about {}.\n",
                self.precision * 100.0,
                humantime::format_duration(Duration::from_secs(time.as_secs()))
            ),
            (None, None) => format!(
                "{rows}, each to {} % or {} s on average: at most about {}.\n",
                self.precision * 100.0,
                ROW_TIME.as_secs(),
                humantime::format_duration(self.time_for_all())
            ),
        }
    }
}

/// Which problems are measured in which figures.
fn blocks(selection: &Selection, quick: bool) -> Result<Vec<Block>> {
    let quantities: Vec<Subject> = selection
        .quantities
        .iter()
        .flat_map(|name| if name == "all" { TABLE_1.to_vec() } else { vec![name.as_str()] })
        .map(Subject::quantity)
        .collect::<Result<_>>()?;
    let steps: Vec<Subject> = selection.optimizers.iter().map(|name| Subject::step(name)).collect::<Result<_>>()?;
    let figures = chosen_figures(selection, quick)?;
    let mut blocks = Vec::new();
    for figure in &figures {
        for panel in figure.panels {
            let (subjects, batch_sizes) = if quick { panel.quick } else { (panel.subjects, panel.batch_sizes) };
            let (own, replaced) = match subjects {
                Subjects::Quantities(names) => {
                    (names.iter().map(|name| Subject::quantity(name)).collect::<Result<Vec<_>>>()?, &quantities)
                }
                Subjects::Steps(names) => {
                    (names.iter().map(|name| Subject::step(name)).collect::<Result<Vec<_>>>()?, &steps)
                }
            };
            let subjects = if replaced.is_empty() { own } else { replaced.clone() };
            let batch_sizes =
                if selection.batch_sizes.is_empty() { batch_sizes.to_vec() } else { selection.batch_sizes.clone() };
            let own_panel = |problem: &str| figure.panels.iter().any(|panel| panel.problem == problem);
            let mut place = |problem: &str, batch_sizes: Vec<usize>| {
                let (problem, subjects) = (problem.to_owned(), subjects.clone());
                blocks.push(Block { figure: figure.name, problem, subjects, batch_sizes });
            };
            if selection.problems.is_empty() {
                place(panel.problem, batch_sizes.clone());
            }
            for problem in &selection.problems {
                // A problem that the figure has keeps its own panel; another one is measured once, at its own batch size.
                if problem == panel.problem {
                    place(problem, batch_sizes.clone());
                } else if !own_panel(problem) && std::ptr::eq(panel, &figure.panels[0]) {
                    place(problem, selection.batch_sizes.clone());
                }
            }
        }
    }
    if selection.figures.is_empty() {
        for problem in &selection.problems {
            let block = |figure, subjects| Block {
                figure,
                problem: problem.clone(),
                subjects,
                batch_sizes: selection.batch_sizes.clone(),
            };
            if steps.is_empty() || !quantities.is_empty() {
                let all = || TABLE_1.into_iter().map(Subject::quantity).collect::<Result<Vec<_>>>();
                let subjects = if quantities.is_empty() { all()? } else { quantities.clone() };
                blocks.push(block(PROBLEM, subjects));
            }
            if !steps.is_empty() {
                blocks.push(block(STEPS, steps.clone()));
            }
        }
    }
    Ok(blocks)
}

/// The figures that are named; without any and without a problem those that show what is named, or all.
fn chosen_figures(selection: &Selection, quick: bool) -> Result<Vec<&'static Figure>> {
    if quick {
        return Ok(FIGURES.iter().collect());
    }
    let mut names: Vec<&str> = selection.figures.iter().map(String::as_str).collect();
    if names.is_empty() && selection.problems.is_empty() {
        names.extend((!selection.quantities.is_empty()).then_some("6"));
        names.extend((!selection.optimizers.is_empty()).then_some(STEPS));
    }
    names
        .into_iter()
        .map(|name| {
            figure(name).ok_or_else(|| {
                let names: Vec<_> = FIGURES.iter().map(|figure| figure.name).collect();
                Error::Usage(format!("figure `{name}`: expected one of {}", names.join(", ")))
            })
        })
        .collect()
}

/// The problems of a plan, each built once.
#[derive(Default)]
struct Problems(BTreeMap<String, (ProblemDefinition, Vec<i64>, Network)>);

impl Problems {
    fn get(&mut self, name: &str) -> Result<&(ProblemDefinition, Vec<i64>, Network)> {
        if !self.0.contains_key(name) {
            let definition = definition::load(name)?;
            let info = describe(&definition.dataset, &DataFolders::from_choice(None))?;
            let network = build_network(&definition, &info.shape, SEED)?;
            crate::problems::builder::check_outputs(&definition, &network, &info)?;
            self.0.insert(name.to_owned(), (definition, info.shape, network));
        }
        Ok(&self.0[name])
    }
}
