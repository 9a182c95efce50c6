//! A thousand damages to the files of a study, at random: the results are the same, or the damage is told.
//!
//! Runs are planned, read and carried out by the library in this process; some damages are put before the program too.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::study_support::{Bench, text, without_seal, without_times};
use backpack_run::cli::flags::StudyFlags;
use backpack_run::signals::Stop;
use backpack_run::study::collect::{self, GridResult};
use backpack_run::study::event::{Outcome, RunEvent};
use backpack_run::study::experiment::Select;
use backpack_run::study::prepare::{self, Folders, Prepared};
use backpack_run::study::run::{self, DataCache};
use backpack_run::study::settings::RunTask;
use backpack_run::study::standing::{self, Standing};
use clap::Parser;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const FINISHED: usize = 800;
const INTERRUPTED: usize = 400;
/// Damages that are put before the program as well.
const BY_PROGRAM: usize = 24;
/// Files that may be deleted without a word.
const OPTIONAL: [&str; 4] = ["steps.csv", "provenance.json", "weights.safetensors", "end.safetensors"];

/// Of the last learning rate the run diverges.
const GRID: &str = "grid --problem tiny.toml --optimizer momentum --lr 0.01,0.1,1e12 --epochs 3";
const TINY: &str = r#"
name = "tiny"
dataset = { synthetic = { shape = [6], classes = 3, train = 60, test = 20, seed = 1 } }
loss = "cross_entropy"
batch_size = 10
epochs = 3
valid_size = 10
[[layers]]
type = "linear"
out_features = 3
"#;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    flags: StudyFlags,
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

struct Study {
    bench: Bench,
    prepared: Prepared,
    select: Select,
    cache: DataCache,
    /// What all runs hold when nothing was damaged, without times and seals.
    expected: Files,
    /// The ranking and the scores then.
    ranking: (Vec<usize>, Vec<u64>),
}

/// What came of a damage.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// No result changed, and nothing had to be said.
    Equal,
    /// Told, and equal after the run was carried out again.
    Mended,
    /// Told by an error.
    Refused,
}

impl Study {
    fn new() -> Self {
        let bench = Bench::new();
        let problem = bench.path().join("tiny.toml");
        fs::write(&problem, TINY).unwrap();
        let line = GRID.replace("tiny.toml", problem.to_str().unwrap());
        let flags = Flags::try_parse_from(line.split(' ')).unwrap().flags;
        let experiment = flags.resolve().unwrap();
        let folders = Folders { runs: bench.runs("runs"), data: None, pause_file: None };
        let mut all = prepare::prepare(&experiment, &experiment.pairs(), &[42], &folders).unwrap();
        let (prepared, select) = (all.remove(0), experiment.select);
        let (expected, ranking) = Default::default();
        // As the program does: the threads of libtorch would wait for each other in turns.
        backpack_run::runtime::set_threads(prepared.tasks[0].settings.threads);
        let mut study = Study { bench, prepared, select, cache: DataCache::default(), expected, ranking };
        for task in study.prepared.tasks.clone() {
            let outcome = study.carry_out(&task).0;
            assert!(matches!(outcome, Outcome::Done | Outcome::Diverged { .. }), "{outcome:?}");
        }
        study.expected = study.results();
        study.ranking = study.rank();
        assert_eq!(study.expected.len(), 3 * 4 + 2 * 2, "{:?}", study.expected.keys());
        study
    }

    fn carry_out(&mut self, task: &RunTask) -> (Outcome, String) {
        let mut said = String::new();
        let outcome = run::carry_out(task, &mut self.cache, &Stop::never(), &mut |event| {
            if let RunEvent::Note { text } = event {
                said += &(text + "\n");
            }
        });
        if let Outcome::Failed { reason, .. } = &outcome {
            said += reason;
        }
        (outcome, said)
    }

    /// Every run stopped in its second epoch, with two checkpoints.
    fn interrupt(&mut self) {
        fs::remove_dir_all(self.bench.runs("runs")).unwrap();
        for task in self.prepared.tasks.clone() {
            let often = RunTask { checkpoint_seconds: 1e-9, ..task };
            let stop = Stop::never();
            let outcome = run::carry_out(&often, &mut self.cache, &stop, &mut |event| {
                if matches!(event, RunEvent::Evaluated(row) if row.epoch == 1) {
                    stop.request();
                }
            });
            let diverges = often.settings.optimizer.learning_rate > 1e3;
            assert!(diverges || outcome == Outcome::Interrupted, "{outcome:?}");
        }
    }

    /// All files of the runs that matter, without times and seals.
    fn results(&self) -> Files {
        let mut files = self.bench.results("runs");
        files.retain(|path, _| !path.to_string_lossy().contains("/checkpoint"));
        files
    }

    fn rank(&self) -> (Vec<usize>, Vec<u64>) {
        let grid = GridResult::collect(&self.prepared, self.select).unwrap();
        let scores = grid.candidates.iter().map(|candidate| candidate.score(self.select).to_bits());
        (grid.ranking.clone(), scores.collect())
    }

    /// What becomes of a study in which `damaged` of the run `task` was damaged.
    fn judge(&mut self, task: &RunTask, damaged: &Path, was: &str) -> Fate {
        let name = damaged.file_name().unwrap().to_str().unwrap();
        let planned = match standing::plan(self.prepared.tasks.clone(), false) {
            Ok(planned) => planned,
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains(damaged.to_str().unwrap()), "{was}: {said}");
                return Fate::Refused;
            }
        };
        let mut told = String::new();
        for planned in planned {
            let own = planned.task == *task;
            assert!(own || !matches!(planned.standing, Standing::Damaged(_)), "{was}: another run is damaged");
            if let Standing::Damaged(damage) = &planned.standing {
                told += &damage.to_string();
                if matches!(name, "epochs.csv" | "status.json") {
                    assert!(!matches!(collect::read(&task.folder()), Ok(Some(_))), "{was}: a damaged result is read");
                }
            }
            if planned.standing.is_to_do() {
                let (outcome, said) = self.carry_out(&planned.task);
                told += &said;
                if let Outcome::Failed { .. } = outcome {
                    assert!(own && said.contains(name), "{was}: {said}");
                    return Fate::Refused;
                }
            } else {
                run::tidy(&planned.task, planned.unsealed);
            }
        }
        assert_eq!(self.rank(), self.ranking, "{was}: another ranking");
        let (mut expected, found) = (self.expected.clone(), self.results());
        if OPTIONAL.contains(&name) && !damaged.exists() {
            expected.remove(damaged.strip_prefix(self.bench.runs("runs")).unwrap());
        }
        for (path, content) in &expected {
            assert!(found.get(path) == Some(content), "{was}: {} differs", path.display());
        }
        assert_eq!(found.len(), expected.len(), "{was}: {:?}", found.keys());
        if told.contains(name) { Fate::Mended } else { Fate::Equal }
    }

    /// What becomes of it when the program gets the command: `table` is what it printed before.
    fn program(&self, table: &str, damaged: &Path, was: &str) -> Fate {
        let output = self.bench.output("runs", GRID);
        let (said, name) = (text(&output.stderr), damaged.file_name().unwrap().to_str().unwrap());
        if !output.status.success() {
            assert!(said.contains(name), "{was}: {said}");
            return Fate::Refused;
        }
        assert_eq!(text(&output.stdout), table, "{was}: {said}");
        let found = self.results();
        for (path, content) in &self.expected {
            let deleted = damaged.ends_with(path) && OPTIONAL.contains(&name) && !damaged.exists();
            assert!(deleted || found.get(path) == Some(content), "{was}: {} differs; {said}", path.display());
        }
        if said.contains(name) { Fate::Mended } else { Fate::Equal }
    }
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| !path.ends_with(".lock.guard")).collect();
    files.sort();
    files
}

/// Damages a file in one of many ways, and says how; nothing where its content stays what it was.
fn damage(path: &Path, random: &mut StdRng) -> Option<String> {
    let whole = fs::read(path).unwrap();
    let place = random.random_range(0..whole.len().max(1));
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let line = random.random_range(0..lines.len().max(1));
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        Some(bytes)
    };
    let without_line = || [&lines[..line], &lines[line + 1..]].concat().concat();
    let (bit, byte) = (1u8 << random.random_range(0..8), random.random_range(0..=255));
    // A byte or a line is the likeliest damage; what is not a file any more the rarest.
    let (how, bytes) = match random.random_range(0..20) {
        0..=5 => (format!("bit {bit} of byte {place} flipped"), with(&|bytes| bytes[place] ^= bit)),
        6..=8 => (format!("byte {place} is {byte}"), with(&|bytes| bytes[place] = byte)),
        9 => (format!("byte {place} is a digit"), with(&|bytes| bytes[place] = b'0' + byte % 10)),
        10..=12 => (format!("without line {line}"), Some(without_line())),
        13 => (format!("line {line} twice"), Some([&lines[..=line], &lines[line..]].concat().concat())),
        14 => (format!("cut to {place} bytes"), with(&|bytes| bytes.truncate(place))),
        15 => ("emptied".to_owned(), Some(Vec::new())),
        16 => ("with more at its end".to_owned(), with(&|bytes| bytes.extend(&whole[place..]))),
        17 => ("deleted".to_owned(), None),
        18 => ("a folder".to_owned(), None),
        _ => ("a named pipe".to_owned(), None),
    };
    match bytes {
        Some(bytes) if bytes == whole => return None,
        Some(bytes) => fs::write(path, bytes).unwrap(),
        None => {
            fs::remove_file(path).unwrap();
            match how.as_str() {
                "a folder" => fs::create_dir(path).unwrap(),
                "a named pipe" => {
                    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
                    // SAFETY: the name is a text that ends with a zero.
                    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o644) }, 0);
                }
                _ => {}
            }
        }
    }
    Some(how)
}

/// Damages the study as it is now `count` times, each time from the same state, and counts what came of it.
fn damage_often(study: &mut Study, count: usize, kind: &str, random: &mut StdRng) -> BTreeMap<Fate, usize> {
    let (runs, pristine) = (study.bench.runs("runs"), study.bench.path().join(kind));
    crate::study_support::copy(&runs, &pristine);
    let restore = || {
        fs::remove_dir_all(&runs).unwrap();
        crate::study_support::copy(&pristine, &runs);
    };
    let table = study.bench.succeed("runs", GRID);
    let mut fates = BTreeMap::new();
    for number in 0..count {
        restore();
        let task = study.prepared.tasks[random.random_range(0..study.prepared.tasks.len())].clone();
        let candidates = files(task.folder().path());
        let path = candidates[random.random_range(0..candidates.len())].clone();
        let Some(how) = damage(&path, random) else { continue };
        let was = format!("{kind} {number}, {}: {how}", path.display());
        let fate = match number % (count * 2 / BY_PROGRAM) {
            0 => study.program(&table, &path, &was),
            _ => study.judge(&task, &path, &was),
        };
        *fates.entry(fate).or_insert(0) += 1;
    }
    restore();
    fates
}

#[test]
fn a_thousand_damages_leave_equal_results_or_are_told() {
    let mut study = Study::new();
    let mut random = StdRng::seed_from_u64(15);
    // A thousand unless said otherwise.
    let tries: usize = std::env::var("RANDOM_DAMAGES").map_or(1000, |text| text.parse().unwrap());
    let [of_finished, of_interrupted] = [FINISHED, INTERRUPTED].map(|count| count * tries / 1000);
    let finished = damage_often(&mut study, of_finished, "finished", &mut random);
    study.interrupt();
    let interrupted = damage_often(&mut study, of_interrupted, "interrupted", &mut random);
    println!("finished: {finished:?}; interrupted: {interrupted:?}");
    let tried: usize = finished.values().chain(interrupted.values()).sum();
    assert!(tried >= tries, "only {tried} damages changed anything");
    // Of a finished run nearly every byte counts.
    assert!(finished[&Fate::Mended] > of_finished / 2, "{finished:?}");
    assert!(interrupted[&Fate::Mended] > 20 * tries / 1000, "{interrupted:?}");
}

#[test]
fn what_is_compared_tells_results_apart() {
    let study = Study::new();
    let table = "epoch,a,b,c,d,e,f,g,h\n0,1,2,3,4,5,6,7,8\n";
    assert_ne!(without_times(table), without_times(&table.replace("0,1", "0,2")));
    assert_ne!(without_seal(br#"{"epoch": 1}"#), without_seal(br#"{"epoch": 2}"#));
    assert!(study.ranking.0.len() == 3 && study.ranking.1.iter().all(|bits| f64::from_bits(*bits).is_finite()));
}
