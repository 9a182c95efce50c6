//! How far `bench` is: one bar on a terminal, a line per visit otherwise; always on stderr.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use super::super::{bench_table, terminal};
use crate::bench::run::{Event, LEAST_VISITS};

/// What is told of the visits to the rows of a benchmark.
pub(in crate::cli) struct BenchProgress {
    /// None where lines are printed.
    bar: Option<ProgressBar>,
    /// Visits that every row has, unless time runs out.
    least: usize,
    /// Visits so far, and what they have shown, by row.
    rows: Vec<(usize, String)>,
    /// The number of the row that is being visited, and its title.
    row: (usize, String),
}

impl BenchProgress {
    /// A bar where stderr is a terminal; a row is visited once where its pairs are counted.
    pub fn new(rows: usize, is_counted: bool) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| terminal::bars().add(ProgressBar::new(0)));
        BenchProgress::with(bar, rows, is_counted)
    }

    fn with(bar: Option<ProgressBar>, rows: usize, is_counted: bool) -> Self {
        let least = if is_counted { 1 } else { LEAST_VISITS };
        let bar = bar.map(|bar| {
            let style = ProgressStyle::with_template("{prefix} [{wide_bar}] {elapsed} elapsed\n  {wide_msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
            // It is whole before it is shown.
            let bar = bar.with_style(style).with_prefix(format!("0/{rows} rows"));
            bar.set_length((rows * least) as u64);
            bar
        });
        BenchProgress { bar, least, rows: vec![Default::default(); rows], row: (0, String::new()) }
    }

    /// Shows what has come to pass; what is to be printed is given to `print`.
    pub fn tell(&mut self, event: &Event, print: &mut dyn FnMut(&str)) {
        match event {
            Event::Begun { number, task } => {
                self.row = (*number, task.title());
                if let Some(bar) = &self.bar {
                    let known = self.rows.get(*number).map_or("", |(_, known)| known);
                    bar.set_message(format!("{}{known}", self.row.1));
                }
            }
            Event::Visited { visits, measurement } => {
                let (number, title) = &self.row;
                if let Some(row) = self.rows.get_mut(*number) {
                    *row = (*visits, format!(": {} so far", bench_table::ratio(&measurement.row)));
                }
                let rows = self.rows.len();
                let Some(bar) = &self.bar else {
                    return print(&format!(
                        "[{}/{rows}] {title}: {}",
                        number + 1,
                        bench_table::line(*visits, measurement)
                    ));
                };
                // Further visits, for precision, come when every row has its least number.
                bar.set_position(self.rows.iter().map(|(visits, _)| (*visits).min(self.least) as u64).sum());
                let known = self.rows.iter().filter(|(visits, _)| *visits >= self.least).count();
                bar.set_prefix(format!("{known}/{rows} rows"));
            }
        }
    }
}

impl Drop for BenchProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpack::request::DEFAULT_CHUNK_BYTES;
    use crate::bench::task::{Subject, Task};
    use crate::cli::bench_table::tests::measurement;

    /// Two rows, each visited twice; what was printed.
    fn visited(shown: &mut BenchProgress) -> Vec<String> {
        let mut printed = Vec::new();
        for visits in [1, 2] {
            for (number, quantity) in ["kfac", "variance"].into_iter().enumerate() {
                let task = Task {
                    figure: "6".into(),
                    source: "mnist_logreg".into(),
                    problem: "mnist_logreg".into(),
                    subject: Subject::Quantity(quantity.into()),
                    batch_size: 64,
                    threads: 2,
                    device: "cpu".into(),
                    include_data: false,
                    chunk_bytes: DEFAULT_CHUNK_BYTES,
                    alone: false,
                };
                let measurement = measurement("6", "mnist_logreg", quantity, 64, 1.5);
                let mut print = |line: &str| printed.push(line.to_owned());
                shown.tell(&Event::Begun { number, task: &task }, &mut print);
                shown.tell(&Event::Visited { visits, measurement: &measurement }, &mut print);
            }
        }
        printed
    }

    #[test]
    fn a_terminal_has_one_bar_and_no_lines() {
        let bar = ProgressBar::hidden();
        let mut shown = BenchProgress::with(Some(bar.clone()), 2, false);
        assert_eq!(visited(&mut shown), Vec::<String>::new());
        // Of the four visits that each has at least.
        assert_eq!((bar.position(), bar.length(), bar.prefix()), (4, Some(8), "0/2 rows".to_owned()));
        assert_eq!(bar.message(), "mnist_logreg: variance, batch 64, 2 threads: 1.50 gradients (1.46 to 1.56) so far");
        let bar_of_one = ProgressBar::hidden();
        let mut counted = BenchProgress::with(Some(bar_of_one.clone()), 2, true);
        visited(&mut counted);
        assert_eq!((bar_of_one.position(), bar_of_one.prefix()), (2, "2/2 rows".to_owned()));
        assert!(!bar.is_finished());
        drop(shown);
        assert!(bar.is_finished());
    }

    #[test]
    fn without_a_terminal_there_is_a_line_per_visit() {
        let lines = visited(&mut BenchProgress::with(None, 2, false));
        assert_eq!(lines.len(), 4);
        assert_eq!(
            lines[3],
            "[2/2] mnist_logreg: variance, batch 64, 2 threads: 1.50 gradients (1.46 to 1.56), 18.45 ms, 40 pairs in 2 visits"
        );
    }
}
