//! Results whose files were damaged after the run: they are told of and trained again, and never ranked.
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};

use crate::study_support::{Bench, state, text};

const GRID: &str = "grid --problem small.toml --optimizer momentum --lr 0.001,0.1 --epochs 2 --jobs 2";

/// The run with learning rate 0.1, which is the best.
fn best(bench: &Bench) -> PathBuf {
    let found = bench.run_folders("runs").into_iter().find(|path| path.to_string_lossy().contains("/lr-0.1__"));
    found.unwrap()
}

/// Damages one file of a finished grid and gives the command again: it must name the file and end with the same
/// results. The commands that only read must not believe the damage either.
fn is_told_and_trained_again(name: &str, reason: &str, damage: impl Fn(&Path)) {
    let bench = Bench::new();
    let table = bench.succeed("runs", GRID);
    assert!(table.contains("best: lr 0.1"), "{table}");
    let whole = bench.results("runs");
    let folder = best(&bench);
    damage(&folder.join(name));

    let survey = bench.succeed("runs", "status --format csv");
    let line = survey.lines().find(|line| line.contains("/lr-0.1__")).unwrap();
    assert!(line.contains(",damaged,") && line.contains(name), "{line}");
    let planned = bench.succeed("runs", &format!("{GRID} --dry-run --format csv"));
    assert!(planned.lines().any(|line| line.contains("/lr-0.1__") && line.contains("damaged")), "{planned}");

    let output = bench.output("runs", GRID);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let told =
        said.lines().find(|line| line.contains(name) && line.contains("the run is repeated")).unwrap_or_default();
    assert!(told.contains("lr 0.1, seed 42") && told.contains(reason), "{said}");
    assert_eq!(text(&output.stdout), table);
    assert!(bench.results("runs") == whole, "the results are others");
    assert_eq!(text(&bench.output("runs", GRID).stderr).trim(), "2 runs have their results already and are skipped");
}

#[test]
fn an_evaluation_that_is_gone() {
    is_told_and_trained_again("epochs.csv", "it has 2 rows, and 3 were written", |path| {
        let table = fs::read_to_string(path).unwrap();
        let end = table.trim_end().rfind('\n').unwrap();
        fs::write(path, &table[..=end]).unwrap();
    });
}

#[test]
fn a_table_that_is_missing() {
    is_told_and_trained_again("epochs.csv", "it is missing", |path| fs::remove_file(path).unwrap());
}

#[test]
fn a_table_that_is_empty() {
    is_told_and_trained_again("epochs.csv", "and 3 were written", |path| fs::write(path, "").unwrap());
}

#[test]
fn a_table_that_is_cut_within_a_line() {
    is_told_and_trained_again("epochs.csv", "and 3 were written", |path| {
        let table = fs::read(path).unwrap();
        fs::write(path, &table[..table.len() - 20]).unwrap();
    });
}

#[test]
fn a_digit_that_changed() {
    is_told_and_trained_again("epochs.csv", "its content is not what was written", |path| {
        let table = fs::read_to_string(path).unwrap();
        fs::write(path, table.replacen("0.", "1.", 1)).unwrap();
    });
}

#[test]
fn a_named_pipe_in_place_of_a_table() {
    is_told_and_trained_again("epochs.csv", "it is a named pipe", |path| {
        fs::remove_file(path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    });
}

#[test]
fn a_status_that_is_no_text() {
    is_told_and_trained_again("status.json", "it is not UTF-8", |path| {
        let mut status = fs::read(path).unwrap();
        status[20] = 0xff;
        fs::write(path, status).unwrap();
    });
}

#[test]
fn a_status_with_another_number() {
    is_told_and_trained_again("status.json", "its content is not what was written", |path| {
        let status = fs::read_to_string(path).unwrap();
        fs::write(path, status.replace("\"failed_inverses\": 0", "\"failed_inverses\": 7")).unwrap();
    });
}

#[test]
fn files_beside_the_table() {
    for name in ["config.json", "steps.csv", "provenance.json", "weights.safetensors", "end.safetensors"] {
        is_told_and_trained_again(name, "its content is not what was written", |path| {
            let mut bytes = fs::read(path).unwrap();
            let place = bytes.len() / 2;
            bytes[place] ^= 1;
            fs::write(path, bytes).unwrap();
        });
    }
}

/// A folder cannot be replaced by a file, and what is in it is not the program's to delete.
#[test]
fn a_folder_in_place_of_a_table_is_refused() {
    let bench = Bench::new();
    bench.succeed("runs", GRID);
    let table = best(&bench).join("epochs.csv");
    fs::remove_file(&table).unwrap();
    fs::create_dir(&table).unwrap();
    // From the second time on it is a run that failed.
    for reason in ["it is a folder, not a file", "writing failed"] {
        let output = bench.output("runs", GRID);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("epochs.csv: {reason}")) && said.contains("1 of 2 runs failed"), "{said}");
        assert!(!text(&output.stdout).contains("best: lr 0.1"), "{}", text(&output.stdout));
    }
    fs::remove_dir(&table).unwrap();
    assert!(bench.succeed("runs", GRID).contains("best: lr 0.1"));
}

#[test]
fn files_that_nobody_reads_may_be_deleted() {
    let bench = Bench::new();
    let table = bench.succeed("runs", GRID);
    for name in ["steps.csv", "provenance.json", "weights.safetensors", "end.safetensors", ".lock.guard"] {
        fs::remove_file(best(&bench).join(name)).unwrap();
    }
    let output = bench.output("runs", GRID);
    assert_eq!(text(&output.stderr).trim(), "2 runs have their results already and are skipped");
    assert_eq!(text(&output.stdout), table);
    assert!(!best(&bench).join("steps.csv").exists());
}

/// `seeds` reads the grid and does not carry it out: a damaged run makes the grid an unfinished one.
#[test]
fn seeds_do_not_choose_among_damaged_results() {
    let bench = Bench::new();
    bench.succeed("runs", GRID);
    fs::write(best(&bench).join("epochs.csv"), "").unwrap();
    let output = bench.output("runs", &format!("{} --results-dir results", GRID.replacen("grid", "seeds", 1)));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("epochs.csv: it has 0 rows") && said.contains("the grid is not finished"), "{said}");
}

/// How far it was to go stood in what is gone: none is told.
#[test]
fn status_of_a_run_without_its_status_says_what_is_there() {
    let bench = Bench::new();
    bench.succeed("runs", GRID);
    fs::remove_file(best(&bench).join("status.json")).unwrap();
    let rows = bench.succeed("runs", "status --format csv");
    let row = rows.lines().find(|row| row.contains(",waiting,")).unwrap_or_else(|| panic!("{rows}"));
    assert!(row.contains(",waiting,2,0,"), "{row}");
    let table = bench.succeed("runs", "status small");
    assert!(table.contains(" 2/? ") && table.contains(" 2/2 "), "{table}");
    let json: serde_json::Value = serde_json::from_str(&bench.succeed("runs", "status --format json")).unwrap();
    let waiting = json["runs"].as_array().unwrap().iter().find(|run| run["state"] == "waiting").unwrap();
    assert_eq!((&waiting["epoch"], &waiting["epochs"]), (&2.into(), &serde_json::Value::Null));
    // No epoch at all is a length like others.
    bench.succeed("untrained", "train --problem small.toml --optimizer momentum --lr 0.01 --epochs 0");
    let table = bench.succeed("untrained", "status small");
    assert!(table.contains(" 0/0 "), "{table}");
}

/// The first versions of the program wrote no seals: rows are counted, and the first start seals what it finds.
#[test]
fn results_without_a_seal_are_counted_and_sealed() {
    let bench = Bench::new();
    let grid = GRID.replace("--epochs 2", "--epochs 1");
    bench.unpack_old_runs("runs");
    let table = bench.succeed("runs", &grid);
    let status = || fs::read_to_string(best(&bench).join("status.json")).unwrap();
    assert!(status().contains("\"seal\""), "{}", status());
    assert_eq!(bench.succeed("runs", &grid), table);
    let epochs = best(&bench).join("epochs.csv");
    fs::write(&epochs, fs::read_to_string(&epochs).unwrap().replacen("0.", "1.", 1)).unwrap();
    let output = bench.output("runs", &grid);
    assert!(text(&output.stderr).contains("epochs.csv: its content is not"), "{}", text(&output.stderr));

    fs::remove_dir_all(bench.runs("runs")).unwrap();
    bench.unpack_old_runs("runs");
    let rows = fs::read_to_string(&epochs).unwrap();
    let end = rows.trim_end().rfind('\n').unwrap();
    fs::write(&epochs, &rows[..=end]).unwrap();
    let output = bench.output("runs", &grid);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("it has 1 row, and a run that is done has 2"), "{said}");
    assert_eq!(state(&best(&bench)), "done");
    assert_eq!(text(&output.stdout), table);
}

/// A process that was killed right after it had written a result may leave this beside it.
#[test]
fn what_is_left_beside_a_result_goes_at_the_next_start() {
    let bench = Bench::new();
    let table = bench.succeed("runs", GRID);
    let whole = bench.results("runs");
    let names = ["checkpoint.safetensors", "checkpoint.previous.safetensors", "lock.json", ".epochs.csv.1.tmp"];
    for name in names {
        let left = best(&bench).join(name);
        fs::write(&left, "left").unwrap();
        assert_eq!(bench.succeed("runs", GRID), table, "{name}");
        assert!(!left.exists(), "{name} is still there");
    }
    assert!(bench.results("runs") == whole);
}

/// One that was killed before that leaves half-written files too, which are none of the run's.
#[test]
fn what_is_half_written_goes_when_the_run_is_taken_up() {
    let bench = Bench::new();
    bench.succeed("runs", GRID);
    let whole = bench.results("runs");
    fs::remove_file(best(&bench).join("status.json")).unwrap();
    let left = best(&bench).join(".epochs.csv.1.tmp");
    fs::write(&left, "epoch,tr").unwrap();
    bench.succeed("runs", GRID);
    assert!(!left.exists() && bench.results("runs") == whole);
}

/// The tables of a study that was written anew by hand, or damaged, are shown with a word about it.
#[test]
fn a_report_tells_of_damaged_tables() {
    let bench = Bench::new();
    bench.succeed("runs", GRID);
    bench.succeed("runs", &format!("{} --results-dir results --seeds 42,43", GRID.replacen("grid", "seeds", 1)));
    let folder = fs::read_dir(bench.path().join("results")).unwrap().next().unwrap().unwrap().path();
    let report = || {
        let mut command = std::process::Command::new(crate::support::program_path());
        let output = command.arg("report").arg(&folder).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    assert!(!report().0.contains("is not what the study wrote"));
    for name in ["seeds.csv", "grid.csv", "curves.csv", "final.csv"] {
        let whole = fs::read_to_string(folder.join(name)).unwrap();
        let end = whole.trim_end().rfind('\n').unwrap();
        fs::write(folder.join(name), &whole[..=end]).unwrap();
        let (shown, said) = report();
        let expected = format!("{name} is not what the study wrote: it has ");
        assert!(shown.contains(&expected) && said.contains(&expected), "{shown}\n{said}");
        fs::write(folder.join(name), whole).unwrap();
    }
}
