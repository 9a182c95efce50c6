//! A small study's results, made up so that every number of its report can be worked out by hand.

#![allow(dead_code)]

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The optimizers, with each one's test accuracy at the last epoch by seed 0, 1, 2.
pub const ACCURACIES: [(&str, [f64; 3]); 3] =
    [("KFAC", [0.91, 0.92, 0.93]), ("Momentum", [0.90, 0.90, 0.90]), ("Adam", [0.90, 0.93, 0.92])];

/// Epochs after the initial evaluation.
pub const EPOCHS: usize = 4;

/// Writes the study `small` into `root` and gives its folder.
pub fn write_study(root: &Path) -> PathBuf {
    let folder = root.join("small");
    std::fs::create_dir_all(&folder).unwrap();
    let mut seeds =
        "problem,optimizer,seed,status,epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,test_loss,\
                     test_accuracy,train_seconds,eval_seconds\n"
            .to_owned();
    let mut curves = "problem,optimizer,metric,epoch,median,lower_quartile,upper_quartile,mean,std,n\n".to_owned();
    let mut finals =
        "problem,optimizer,learning_rate,damping,edge,metric,median,lower_quartile,upper_quartile,mean,std,n,\
                      diverged\n"
            .to_owned();
    for (optimizer, accuracies) in ACCURACIES {
        for epoch in 0..=EPOCHS {
            let at = |last: f64| 0.1 + (last - 0.1) * epoch as f64 / EPOCHS as f64;
            for (seed, last) in accuracies.iter().enumerate() {
                let (accuracy, loss) = (at(*last), 1.5 - at(*last));
                let seconds = if epoch == 0 { 0.0 } else { 2.0 + seed as f64 };
                writeln!(
                    seeds,
                    "p,{optimizer},{seed},done,{epoch},{loss},{accuracy},{loss},{accuracy},{loss},{accuracy},{seconds},0.1"
                )
                .unwrap();
            }
            let mut sorted = accuracies.map(at);
            sorted.sort_by(f64::total_cmp);
            let [low, middle, high] = [(sorted[0] + sorted[1]) / 2.0, sorted[1], (sorted[1] + sorted[2]) / 2.0];
            for part in ["train", "valid", "test"] {
                writeln!(curves, "p,{optimizer},{part}_accuracies,{epoch},{middle},{low},{high},{middle},0.01,3")
                    .unwrap();
                let (l, m, h) = (1.5 - high, 1.5 - middle, 1.5 - low);
                writeln!(curves, "p,{optimizer},{part}_losses,{epoch},{m},{l},{h},{m},0.01,3").unwrap();
                if epoch == EPOCHS {
                    let setting = if optimizer == "KFAC" { "0.1,0.01,damping:lowest" } else { "0.01,,interior" };
                    writeln!(
                        finals,
                        "p,{optimizer},{setting},{part}_accuracies,{middle},{low},{high},{middle},0.01,3,0"
                    )
                    .unwrap();
                    writeln!(finals, "p,{optimizer},{setting},{part}_losses,{m},{l},{h},{m},0.01,3,0").unwrap();
                }
            }
        }
    }
    let mut grid = "problem,optimizer,learning_rate,damping,seed,status,epoch,train_loss,train_accuracy,valid_loss,\
                    valid_accuracy,test_loss,test_accuracy,rank,best\n"
        .to_owned();
    for (i, rate) in ["0.01", "0.1", "1"].iter().enumerate() {
        for (j, damping) in ["0.01", "0.1", "1"].iter().enumerate() {
            if i == 2 && j == 0 {
                writeln!(grid, "p,KFAC,{rate},{damping},0,diverged,1,,,,,,,9,false").unwrap();
                continue;
            }
            let value = 0.9 - 0.1 * (i as f64 - 1.0).abs() - 0.02 * j as f64;
            let best = i == 1 && j == 0;
            writeln!(grid, "p,KFAC,{rate},{damping},0,done,4,0.5,{value},0.5,{value},0.5,{value},{},{best}", 1 + i + j)
                .unwrap();
        }
        writeln!(grid, "p,Momentum,{rate},,0,done,4,0.5,0.{0},0.5,0.{0},0.5,0.{0},{1},{2}", 7 + i % 2, 1 + i, i == 1)
            .unwrap();
    }
    let meta = r#"{"schema_version": 1, "name": "small", "experiment": {"problem": [{"name": "p", "batch_size": 64}]},
        "winners": [{"problem": "p", "optimizer": "KFAC", "learning_rate": 0.1, "damping": 0.01, "edge": "damping:lowest"},
                    {"problem": "p", "optimizer": "Momentum", "learning_rate": 0.01, "damping": null, "edge": "interior"}],
        "seeds": [0, 1, 2], "grid_seed": 0, "select": {"metric": "valid_accuracies", "mode": "final"}, "diverged": "fill",
        "program": {"version": "0.1.0", "git_revision": null, "tch": "0.26.0", "libtorch": "2.13.0"},
        "machine": {"cpu": "a </script> processor", "cores": 2, "threads": 1}, "created": "2026-01-01T00:00:00Z"}"#;
    for (name, text) in [
        ("seeds.csv", &seeds),
        ("curves.csv", &curves),
        ("final.csv", &finals),
        ("grid.csv", &grid),
        ("meta.json", &meta.to_owned()),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    folder
}

/// The files that name problems and optimizers.
const TABLES: [&str; 4] = ["seeds.csv", "curves.csv", "final.csv", "grid.csv"];

/// Names that are something else to one form of output or another.
pub const HOSTILE: [&str; 18] = [
    "<!--<script>",
    "</script><script>document.title = 'taken'</script>",
    "\"onmouseover=\"document.title = 'taken'",
    "it's & <b>so</b> &amp; on",
    "]]></svg><img src=x onerror=\"document.title = 'taken'\">",
    "one\ntwo\r\nthree\ttabs",
    "bell\u{7} escape\u{1b}[31m null\0 delete\u{7f} next\u{85}",
    "\u{202e}CAFK\u{202c} \u{2066}isolated\u{2069} \u{feff}",
    "no character \u{ffff} \u{fffe} \u{fdd0}",
    "a, b; c | d \\| \\ e",
    "100 % of #1_$x^2~{y}",
    "[options]* \\end{tabular}",
    "*bold* _it_ `code` [link](javascript:alert(1)) ~~gone~~",
    "# no comment",
    "../../up/and/away",
    "網 \u{1f469}\u{200d}\u{1f680} e\u{301} \u{5e9}\u{5dc}\u{5d5}\u{5dd}",
    "__proto__",
    LONG,
];

/// 300 characters without a space.
const LONG: &str = concat!(
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
);

/// As [`write_study`], with another name for the problem and for optimizers.
pub fn write_study_of(root: &Path, problem: &str, optimizer: impl Fn(&str) -> String) -> PathBuf {
    let folder = write_study(root);
    for table in TABLES {
        let path = folder.join(table);
        let mut reader = csv::Reader::from_path(&path).unwrap();
        let header = reader.headers().unwrap().clone();
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let mut writer = csv::WriterBuilder::new().comment(Some(b'#')).from_path(&path).unwrap();
        writer.write_record(&header).unwrap();
        for row in rows {
            let names = [problem.to_owned(), optimizer(&row[1])];
            writer.write_record(names.iter().map(String::as_str).chain(row.iter().skip(2))).unwrap();
        }
        writer.flush().unwrap();
    }
    let path = folder.join("meta.json");
    let mut meta: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    meta["experiment"]["problem"][0]["name"] = problem.into();
    for winner in meta["winners"].as_array_mut().unwrap() {
        winner["problem"] = problem.into();
        winner["optimizer"] = optimizer(winner["optimizer"].as_str().unwrap()).into();
    }
    std::fs::write(path, meta.to_string()).unwrap();
    folder
}

/// Adds the same study once more for a further problem, with other accuracies.
pub fn add_study(folder: &Path, problem: &str, accuracy: impl Fn(f64) -> f64) {
    let other = tempfile::tempdir().unwrap();
    let other = write_study_of(other.path(), problem, str::to_owned);
    for table in TABLES {
        let path = folder.join(table);
        let mut reader = csv::Reader::from_path(other.join(table)).unwrap();
        let header = reader.headers().unwrap().clone();
        let metric = header.iter().position(|name| name == "metric");
        let mut text = std::fs::read_to_string(&path).unwrap().into_bytes();
        let mut writer = csv::Writer::from_writer(&mut text);
        for row in reader.records().map(Result::unwrap) {
            let is_of_accuracy = |column: &str| match metric {
                Some(place) => {
                    row[place].ends_with("accuracies")
                        && ["median", "lower_quartile", "upper_quartile"].contains(&column)
                }
                None => column.ends_with("accuracy"),
            };
            let cell = |(column, cell): (&str, &str)| match cell.parse() {
                Ok(value) if is_of_accuracy(column) => accuracy(value).to_string(),
                _ => cell.to_owned(),
            };
            writer.write_record(header.iter().zip(row.iter()).map(cell)).unwrap();
        }
        writer.flush().unwrap();
        drop(writer);
        std::fs::write(&path, text).unwrap();
    }
}
