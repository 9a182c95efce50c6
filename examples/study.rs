//! A study from Rust: carried out by this process, watched, and read. Its results lie in results/ as the program's do, so that
//! `backpack-run report` and `backpack-run study` take them up.
//!
//! `cargo run --release --example study -- configs/fig10_quick.toml` carries out an experiment file.

use std::path::Path;

use backpack_run::study::aggregate::Diverged;
use backpack_run::study::conduct::{Study, Terms};
use backpack_run::study::event::{RunEvent, StudyEvent};
use backpack_run::study::experiment::{Request, resolve};
use backpack_run::study::prepare::Folders;

/// One line for each evaluation, and one for each metric of each optimizer at the end.
fn main() -> backpack_run::Result<()> {
    let file = std::env::args_os().nth(1).expect("an experiment file");
    let experiment = resolve(Request { file: Some(Path::new(&file)), ..Request::default() })?;
    let study = Study::prepare(experiment, &Folders { runs: "runs".into(), data: None, pause_file: None })?;
    let folders = study.results_in(Path::new("results"), Diverged::Fill)?;
    let watch = &mut |event: StudyEvent| {
        if let StudyEvent::Run { run, event: RunEvent::Evaluated(row), .. } = event {
            println!("{}, epoch {}: train loss {:?}", run.label(true), row.epoch, row.train_loss);
        }
    };
    let results = study.carry_out(folders, &Terms::default(), watch)?.whole()?;
    for row in &results.rows {
        println!(
            "{} {} {}: {} with {} seeds",
            row.problem, row.optimizer, row.metric, row.statistics.median, row.statistics.n
        );
    }
    Ok(())
}
