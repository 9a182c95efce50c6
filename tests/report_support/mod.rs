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
