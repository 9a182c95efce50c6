//! `extract` over parts of a batch or a data set: whatever the parts' size, the result is that of one batch; resuming, shards
//! and `merge`. The example of docs/extract.md: its commands and names hold, and where Python has torch it runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use backpack_run::backpack::tensor_file::{self, TensorFile};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

use crate::support;

const NET: &str = r#"
name = "net"
dataset = { safetensors = "own.safetensors" }
loss = "LOSS"
valid_size = 6
[[layers]]
type = "conv2d"
out_channels = 3
kernel_size = 2
[[layers]]
type = "sigmoid"
[[layers]]
type = "flatten"
[[layers]]
type = "linear"
out_features = 4
"#;

/// Everything that has parts.
const QUANTITIES: &str = "grad,batch_grad,batch_l2,sum_grad_squared,variance,diag_ggn,diag_ggn_mc,diag_hessian,kfac,kflr,kfac_expand,kflr_reduce,\
                          batch_diag_ggn,batch_diag_hessian,sqrt_ggn,sqrt_ggn_mc";

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new(loss: &str) -> Self {
        let bench = Bench { folder: support::temporary_folder() };
        std::fs::write(bench.path("net.toml"), NET.replace("LOSS", loss)).unwrap();
        let count = |shape: &[i64]| Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
        let numbers = |shape: &[i64]| (count(shape) * 0.7).sin().view(shape);
        let y = |n: i64| match loss {
            "cross_entropy" => count(&[n]).square().remainder(4).to_kind(Kind::Int64),
            "mse" => numbers(&[n, 4]),
            _ => numbers(&[n, 4]).gt(0.0).to_kind(Kind::Double),
        };
        bench.write("b", &[("x", numbers(&[23, 2, 4, 3])), ("y", y(23))]);
        bench.write("own.safetensors", &[("x", numbers(&[29, 2, 4, 3])), ("y", y(29))]);
        let weights = [
            ("0.weight", numbers(&[3, 2, 2, 2])),
            ("0.bias", numbers(&[3])),
            ("3.weight", numbers(&[4, 18])),
            ("3.bias", numbers(&[4])),
        ];
        bench.write("w", &weights);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, tensors: &[(&str, Tensor)]) {
        let tensors: Vec<_> =
            tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone())).collect();
        tensor_file::write(&self.path(name), &tensors, &BTreeMap::new()).unwrap();
    }

    fn run(&self, arguments: &str) -> Output {
        let mut command = support::program();
        command.env("BACKPACK_RUN_CACHE", support::cache());
        command.current_dir(self.folder.path()).args(arguments.split_whitespace()).output().unwrap()
    }

    /// Runs `extract` on the problem in f64 to the file Q.
    fn extract(&self, arguments: &str) -> TensorFile {
        self.succeed(&format!("extract --problem net.toml --dtype f64 --out q {arguments}"));
        tensor_file::read(&self.path("q")).unwrap()
    }

    fn succeed(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments}: {}", text(&output.stderr));
        text(&output.stderr)
    }

    /// The error of a command that must be refused.
    fn refuse(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {}", text(&output.stderr));
        text(&output.stderr)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// That both hold the same: labels bit by bit, numbers to 1e-12 of the largest.
fn assert_same(one: &TensorFile, other: &TensorFile, what: &str) {
    let names = |file: &TensorFile| file.tensors.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(one), names(other), "{what}");
    assert_eq!(one.metadata, other.metadata, "{what}");
    for (name, tensor) in &one.tensors {
        let found = &other.tensors[name];
        assert_eq!((tensor.size(), tensor.kind()), (found.size(), found.kind()), "{what} {name}");
        let error = f64::try_from((tensor - found).abs().max().to_kind(Kind::Double)).unwrap();
        let largest = f64::try_from(tensor.abs().max().to_kind(Kind::Double)).unwrap();
        let bound = if name == "mc_labels" && tensor.kind() == Kind::Int64 { 0.0 } else { 1e-12 * largest };
        assert!(error <= bound, "{what} {name}: {error:e} of {largest:e}");
    }
}

#[test]
fn parts_of_any_size_give_what_one_batch_gives() {
    for loss in ["cross_entropy", "mse", "bce_with_logits"] {
        let bench = Bench::new(loss);
        for reduction in ["mean", "sum"] {
            for (more, sizes) in [("", &[7, 100][..]), ("--scale paper --mc-samples 3", &[1, 22])] {
                let all =
                    format!("--set reduction={reduction} --batch b --quantities {QUANTITIES} --products w {more}");
                let whole = bench.extract(&all);
                assert_eq!(whole.tensors["batch_grad.0.weight"].size()[0], 23);
                for size in sizes {
                    let parts = bench.extract(&format!("{all} --batch-size {size}"));
                    assert_same(&whole, &parts, &format!("{loss} {reduction} {more} {size}"));
                }
            }
        }
        // Labels of the batch's own go with their samples.
        let mut own = tensor_file::read(&bench.path("b")).unwrap().tensors;
        let labels = bench.extract("--batch b --quantities kfac --mc-samples 2").tensors.remove("mc_labels").unwrap();
        own.insert("mc_labels".to_owned(), labels.flip([0]));
        let own: Vec<(&str, Tensor)> = own.iter().map(|(name, t)| (name.as_str(), t.shallow_clone())).collect();
        bench.write("b", &own);
        let whole = bench.extract("--batch b --quantities kfac,diag_ggn_mc");
        assert_same(&whole, &bench.extract("--batch b --quantities kfac,diag_ggn_mc --batch-size 5"), loss);
    }
}

#[test]
fn integers_of_any_width_and_bytes_are_taken() {
    let bench = Bench::new("cross_entropy");
    let bytes = Tensor::arange(23 * 24, (Kind::Int64, Device::Cpu)).remainder(256).view([23, 2, 4, 3]);
    let y = Tensor::arange(23, (Kind::Int64, Device::Cpu)).remainder(4);
    bench.write("b", &[("x", bytes.to_kind(Kind::Double) / 255.0), ("y", y.shallow_clone())]);
    let floats = bench.extract("--batch b --quantities grad");
    for kind in [Kind::Uint8, Kind::Int, Kind::Int16] {
        bench.write("b", &[("x", bytes.to_kind(Kind::Uint8)), ("y", y.to_kind(kind))]);
        assert_same(&floats, &bench.extract("--batch b --quantities grad"), &format!("{kind:?}"));
    }
}

#[test]
fn what_has_no_parts_is_refused_or_left_out() {
    let bench = Bench::new("cross_entropy");
    bench.extract("--batch b --quantities kfra --batch-size 23");
    let extract = "extract --problem net.toml --batch b --out q";
    assert!(bench.refuse(&format!("{extract} --quantities kfra --batch-size 5")).contains("kfra"));
    let all = bench.extract("--batch b --batch-size 5");
    assert_eq!(all.metadata["skipped"], "kfra");
    assert!(all.metadata["skipped_reasons"].contains("`batch_size`"));
    assert!(bench.refuse(&format!("{extract} --quantities ekfac --shard 0/2")).contains("has no shards"));
    assert!(bench.refuse(&format!("{extract} --train --batch-size 5")).contains("dropout"));
}

/// A basis is known but for signs and for what eigenvalues that are alike leave open; the matrix that is made of it is not.
#[test]
fn ekfac_takes_a_second_pass_in_the_basis_of_all_samples() {
    let bench = Bench::new("mse");
    let all = "--batch b --weights w --quantities ekfac,kfac_expand --mc-samples 30";
    let whole = bench.extract(all);
    for size in [4, 22] {
        let parts = bench.extract(&format!("{all} --batch-size {size}"));
        assert_eq!(whole.tensors.keys().collect::<Vec<_>>(), parts.tensors.keys().collect::<Vec<_>>());
        for layer in ["0", "3"] {
            let matrix = |file: &TensorFile| {
                let of = |name: &str| &file.tensors[&format!("ekfac.{layer}.weight.{name}")];
                // Each eigenvalue belongs to the product of an eigenvector of B and one of A.
                let basis = of("B").kron(of("A"));
                basis.matmul(&of("eigenvalues").reshape([-1]).diag(0)).matmul(&basis.tr())
            };
            let (one, other) = (matrix(&whole), matrix(&parts));
            let error = f64::try_from((&one - &other).abs().max()).unwrap();
            let largest = f64::try_from(one.abs().max()).unwrap();
            assert!(error < 1e-9 * largest, "{size} {layer}: {error:e} of {largest:e}");
        }
        let name = "kfac_expand.0.weight.A";
        let error = f64::try_from((&whole.tensors[name] - &parts.tensors[name]).abs().max()).unwrap();
        assert!(error < 1e-14, "{error:e}");
    }
}

#[test]
fn splits_are_those_of_the_seed_in_the_files_order() {
    let bench = Bench::new("cross_entropy");
    let own = tensor_file::read(&bench.path("own.safetensors")).unwrap().tensors;
    let rows = |x: &Tensor| -> Vec<Vec<f64>> {
        let x = x.to_kind(Kind::Float).to_kind(Kind::Double).flatten(1, -1);
        (0..x.size()[0]).map(|row| Vec::<f64>::try_from(x.get(row)).unwrap()).collect()
    };
    let all = rows(&own["x"]);
    // By identity in place of the network, the output is the input.
    let identity = "name = \"net\"\ndataset = { safetensors = \"own.safetensors\" }\nloss = \"mse\"\ntargets = \"input\"\n\
                    valid_size = 6\n[[layers]]\ntype = \"flatten\"\n";
    std::fs::write(bench.path("net.toml"), identity).unwrap();
    let places = |arguments: &str| -> Vec<usize> {
        let found = bench.extract(&format!("--quantities grad {arguments}"));
        assert_eq!(f64::try_from(&found.tensors["loss"]).unwrap(), 0.0);
        rows(&found.tensors["output"]).iter().map(|row| all.iter().position(|other| other == row).unwrap()).collect()
    };
    let (train, valid, test) = (places("--split train"), places("--split valid"), places("--split test"));
    assert_eq!((train.len(), valid.len(), test.len()), (18, 6, 5));
    assert!([&train, &valid, &test].iter().all(|places| places.is_sorted()), "in the file's order");
    let mut every: Vec<usize> = [train.clone(), valid.clone(), test.clone()].concat();
    every.sort_unstable();
    assert_eq!(every, (0..29).collect::<Vec<_>>());
    assert_eq!(places("--split train --samples 7 --batch-size 3"), train[..7]);
    assert_ne!(places("--split valid --seed 43"), valid);
    assert_eq!(places("--split test --seed 43"), test);
    let more = bench.refuse("extract --problem net.toml --out q --split valid --samples 7");
    assert!(more.contains("6 validation samples"), "{more}");
}

#[test]
fn shards_in_any_order_are_the_whole_and_others_are_refused() {
    let bench = Bench::new("cross_entropy");
    let all = format!("--batch b --weights w --quantities {QUANTITIES} --products w --mc-samples 2");
    let whole = bench.extract(&all);
    for index in 0..3 {
        bench.succeed(&format!(
            "extract --problem net.toml --dtype f64 {all} --shard {index}/3 --batch-size 4 --out s{index}"
        ));
    }
    bench.succeed("merge --out m s2 s0 s1");
    assert_same(&whole, &tensor_file::read(&bench.path("m")).unwrap(), "merged");
    assert!(bench.refuse("merge --out n s2 s0").contains("no file holds the samples 7 to 14"));
    assert!(bench.refuse("merge --out n s0 s1 s2 s1").contains("give each shard once"));
    assert!(bench.refuse("merge --out n s0 s1 q").contains("no part of an extraction"));
    let other = all.replace("--weights w", "--seed 7");
    bench.succeed(&format!("extract --problem net.toml --dtype f64 {other} --shard 2/3 --out t2"));
    assert!(bench.refuse("merge --out n s0 s1 t2").contains("of another extraction"));
    assert!(!bench.path("n").exists());
    assert!(
        bench.refuse(&format!("extract --problem net.toml {all} --shard 0/24 --out z")).contains("some would be empty")
    );
    assert!(bench.refuse(&format!("extract --problem net.toml {all} --shard 3/3 --out z")).contains("I/N"));
    // Damage is told, not merged.
    for (damage, bytes) in [("cut", 100), ("longer cut", 2000)] {
        std::fs::write(bench.path("d"), &std::fs::read(bench.path("s1")).unwrap()[..bytes]).unwrap();
        let output = bench.run("merge --out n s0 d s2");
        assert!(matches!(output.status.code(), Some(2 | 3)), "{damage}: {}", text(&output.stderr));
    }
}

/// Starts a command and sends SIGINT once it handles that and has worked for a while.
#[cfg(target_os = "linux")]
pub(super) fn interrupt(command: &mut std::process::Command) {
    let mut child = command.spawn().unwrap();
    let handles_it = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim().to_owned();
        u64::from_str_radix(&mask, 16).unwrap() & 1 << (libc::SIGINT - 1) != 0
    };
    let began = std::time::Instant::now();
    while !handles_it() {
        assert!(began.elapsed() < std::time::Duration::from_secs(60));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    // SAFETY: the child has not been waited for, so that its number is still its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    assert_eq!(child.wait().unwrap().code(), Some(130), "it has not ended by then");
}

#[test]
#[cfg(target_os = "linux")]
fn an_interrupted_extraction_goes_on_and_is_never_taken_for_whole() {
    let bench = Bench::new("cross_entropy");
    let x = Tensor::arange(6000 * 24, (Kind::Double, Device::Cpu)).sin().view([6000, 2, 4, 3]);
    let y = Tensor::arange(6000, (Kind::Int64, Device::Cpu)).remainder(4);
    bench.write("b", &[("x", x), ("y", y)]);
    let arguments =
        "extract --problem net.toml --dtype f64 --batch b --quantities variance,kfac,diag_ggn_mc,batch_l2 --threads 1";
    bench.succeed(&format!("{arguments} --out whole"));
    let mut command = std::process::Command::new(support::program_path());
    command.env("BACKPACK_RUN_CACHE", support::cache()).current_dir(bench.folder.path());
    command.args(arguments.split_whitespace()).args(["--out", "q", "--batch-size", "1"]);
    command.stderr(std::process::Stdio::null());
    interrupt(&mut command);
    assert!(!bench.path("q").exists() && bench.path("q.partial").exists());
    assert!(bench.refuse("merge --out n q.partial").contains("no file holds the samples"));
    // The same samples with other options begin anew.
    let other = arguments.replace("variance,", "grad,");
    let anew = bench.succeed(&format!("{other} --out q --batch-size 4000"));
    assert!(anew.contains("starting over"), "{anew}");
    assert!(!bench.path("q.partial").exists(), "{anew}");
    std::fs::remove_file(bench.path("q")).unwrap();

    interrupt(&mut command);
    let told = bench.succeed(&format!("{arguments} --out q --batch-size 500"));
    assert!(told.contains("continuing after sample"), "{told}");
    assert!(!bench.path("q.partial").exists());
    let read = |name: &str| tensor_file::read(Path::new(&bench.path(name))).unwrap();
    assert_same(&read("whole"), &read("q"), "resumed");
}

/// The first block of this language in the page.
fn block(page: &str, language: &str) -> String {
    let after = page.split(&format!("```{language}\n")).nth(1).expect("there is such a block");
    after.split("```").next().expect("it has an end").to_owned()
}

/// A Python with torch and safetensors: the one that BACKPACK_RUN_PYTHON names, or python3.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("BACKPACK_RUN_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let found = Command::new(&python).args(["-c", "import torch, safetensors.torch"]).output();
    found.is_ok_and(|output| output.status.success()).then_some(python)
}

/// Runs the page's script in a folder, with the program on the PATH.
fn run_script(python: &Path, script: &str, folder: &Path) {
    std::fs::write(folder.join("example.py"), script).unwrap();
    let program = crate::support::program_path();
    let old = std::env::var_os("PATH").unwrap_or_default();
    let places = std::iter::once(program.parent().unwrap().to_owned()).chain(std::env::split_paths(&old));
    let output = Command::new(python)
        .arg("example.py")
        .current_dir(folder)
        .env("PATH", std::env::join_paths(places).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("after the step"));
}

#[test]
fn the_example_holds() {
    let page = std::fs::read_to_string(crate::support::repository("docs/extract.md")).unwrap();
    let (_, page) = page.split_once("\n## Through files\n").expect("the section is there");
    let (problem, script) = (block(page, "toml"), block(page, "python"));
    let folder = crate::support::temporary_folder();
    std::fs::write(folder.path().join("net.toml"), problem).unwrap();

    // The script's command, on weights of its names and shapes; what it then looks for is in the result.
    let zeros = |shape: &[i64]| tch::Tensor::zeros(shape, (tch::Kind::Float, tch::Device::Cpu));
    let write = |name: &str, tensors: Vec<(&str, tch::Tensor)>| {
        let tensors: Vec<_> = tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        let path = folder.path().join(name);
        backpack_run::backpack::tensor_file::write(&path, &tensors, &Default::default()).unwrap();
    };
    let weights = [("0.weight", zeros(&[4, 1, 5, 5])), ("0.bias", zeros(&[4]))];
    let last = [("4.weight", zeros(&[10, 144])), ("4.bias", zeros(&[10]))];
    write("weights.safetensors", weights.into_iter().chain(last).collect());
    write("batch.safetensors", vec![("x", zeros(&[32, 1, 28, 28])), ("y", zeros(&[32]).to_kind(tch::Kind::Int64))]);
    let command: String =
        script.lines().filter(|line| line.starts_with("command")).filter_map(|l| l.split('"').nth(1)).collect();
    let mut words = command.split_whitespace();
    assert_eq!(words.next(), Some("backpack-run"));
    crate::support::program().args(words).current_dir(folder.path()).assert().success();
    let q = backpack_run::backpack::tensor_file::read(&folder.path().join("quantities.safetensors")).unwrap().tensors;
    for name in script.split("q[f\"").skip(1).chain(script.split("q[\"").skip(1)) {
        let name = name.split('"').next().unwrap().replace("{name}", "4.weight");
        assert!(q.contains_key(&name), "{name} is not in {:?}", q.keys());
    }

    // CI has no Python with torch, nor has Debian one of the right age; where there is one the whole script runs too.
    match python() {
        Some(python) => run_script(&python, &script, folder.path()),
        None => {
            println!("the script itself was not run: no Python with torch and safetensors; set BACKPACK_RUN_PYTHON")
        }
    }
}
