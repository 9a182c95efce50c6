//! What the program says of inputs that are there but doubtful, and which exit code a file has that cannot be read.

use backpack_run::backpack::tensor_file;
use predicates::str::contains;
use tch::{Device, Kind, Tensor};

const NET: &str = r#"
schema = 1
name = "net"
dataset = { synthetic = { shape = [3], classes = 2, train = 40, test = 20 } }
loss = "cross_entropy"
batch_size = 4
valid_size = 10
[[layers]]
type = "linear"
out_features = 2
"#;

fn write_batch(folder: &std::path::Path, x: Tensor) {
    let y = Tensor::zeros([x.size()[0]], (Kind::Int64, Device::Cpu));
    tensor_file::write(&folder.join("b"), &[("x".into(), x), ("y".into(), y)], &Default::default()).unwrap();
}

#[test]
fn a_file_that_is_not_there_is_2_and_one_that_cannot_be_read_3() {
    let folder = crate::support::temporary_folder();
    std::fs::write(folder.path().join("net.toml"), NET).unwrap();
    write_batch(folder.path(), Tensor::ones([2, 3], (Kind::Float, Device::Cpu)));
    // Its first page is never mapped, so that reading fails for everyone.
    let broken = "/proc/self/mem";
    for (path, code) in [("./none.toml", 2), ("./", 2), (broken, 3)] {
        if code == 3 && !cfg!(target_os = "linux") {
            continue;
        }
        for arguments in [
            vec!["train", "--problem", path, "--curv", "kfac", "--lr", "1", "--damping", "1"],
            vec!["grid", path],
            vec!["extract", "--problem", "net.toml", "--out", "q", "--batch", path],
            vec!["extract", "--problem", "net.toml", "--out", "q", "--batch", "b", "--weights", path],
        ] {
            let mut program = crate::support::program();
            program.current_dir(folder.path()).args(&arguments).assert().code(code).stderr(contains("reading failed"));
        }
    }
}

#[test]
fn doubtful_batches_are_told_of() {
    let folder = crate::support::temporary_folder();
    std::fs::write(folder.path().join("net.toml"), NET).unwrap();
    let extract = |more: &[&str]| {
        let mut program = crate::support::program();
        program.current_dir(folder.path()).args(["extract", "--problem", "net.toml", "--batch", "b"]).args(more);
        program.assert()
    };
    let x = Tensor::ones([2, 3], (Kind::Float, Device::Cpu));
    write_batch(folder.path(), x.copy());
    let silent = extract(&["--out", "q"]).success();
    assert!(!String::from_utf8_lossy(&silent.get_output().stderr).contains("WARN"));
    let _ = x.get(1).get(2).fill_(f64::NAN);
    write_batch(folder.path(), x);
    extract(&["--out", "q"]).success().stderr(contains("`x` holds NaN or infinity, first at [1, 2]"));
    write_batch(folder.path(), Tensor::ones([2, 5], (Kind::Float, Device::Cpu)));
    extract(&["--out", "q"]).success().stderr(contains("have [3]; the network is built for the shape of `x`"));
    // Where the result can go is looked at before the batch is.
    std::fs::remove_file(folder.path().join("b")).unwrap();
    extract(&["--out", "none/q"]).code(3).stderr(contains("creating a file beside it"));
    extract(&["--out", "."]).code(2).stderr(contains("this is a folder"));
    for size in ["12GB", "12", "GiB", "1TiB"] {
        extract(&["--out", "q", "--memory-budget", size]).code(2).stderr(contains("12GiB"));
    }
}

#[test]
fn draws_that_nobody_makes_are_told_of() {
    let folder = crate::support::temporary_folder();
    std::fs::write(folder.path().join("net.toml"), NET).unwrap();
    let warns = "mc_samples is given, but none of the optimizers samples labels";
    for (optimizer, warned) in [(["--optimizer", "adam"], true), (["--curv", "kfac"], false)] {
        let mut program = crate::support::program();
        program.current_dir(folder.path()).args(["grid", "--dry-run", "--problem", "net.toml", "--mc-samples", "3"]);
        let output = program.args(optimizer).assert().success();
        assert_eq!(String::from_utf8_lossy(&output.get_output().stderr).contains(warns), warned);
    }
}
