//! `extract` from its command line to the file it writes: names, shapes, metadata, choices and errors.

use std::collections::BTreeMap;
use std::path::PathBuf;

use backpack_run::backpack::tensor_file::{self, TensorFile};
use backpack_run::cli::extract::run;
use backpack_run::cli::extract_args::ExtractArgs;
use clap::Parser;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    arguments: ExtractArgs,
}

const CONV_NET: &str = r#"
name = "net"
dataset = { synthetic = { shape = [2, 7, 6], classes = 3, train = 10, test = 10 } }
loss = "cross_entropy"
[[layers]]
type = "conv2d"
out_channels = 4
kernel_size = [3, 2]
stride = [2, 1]
[[layers]]
type = "sigmoid"
[[layers]]
type = "max_pool2d"
kernel_size = 2
[[layers]]
type = "dropout"
p = 0.5
[[layers]]
type = "flatten"
[[layers]]
type = "linear"
out_features = 3
"#;

/// A folder with a problem file `net.toml`, a batch `b` and whatever else a test puts there.
struct Bench {
    folder: TempDir,
    out: &'static str,
}

impl Bench {
    fn new(problem: &str) -> Self {
        let bench = Bench { folder: crate::support::temporary_folder(), out: "q" };
        std::fs::write(bench.path("net.toml"), problem).unwrap();
        tch::manual_seed(3);
        let y = Tensor::from_slice(&[0i64, 2, 1, 1, 0]);
        bench.write("b", &[("x", Tensor::randn([5, 2, 7, 6], (Kind::Double, Device::Cpu))), ("y", y)]);
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

    fn try_extract(&self, flags: &str) -> Result<TensorFile, String> {
        let at = |name: &str| self.path(name).display().to_string();
        let (problem, batch, out) = (at("net.toml"), at("b"), at(self.out));
        let flags = flags.replace("DIR/", &format!("{}/", self.folder.path().display()));
        let fixed = ["extract", "--problem", &problem, "--batch", &batch, "--out", &out];
        let command = Command::try_parse_from(fixed.into_iter().chain(flags.split_whitespace()));
        let _ = std::fs::remove_file(&out);
        let outcome = run(command.map_err(|error| error.to_string())?.arguments);
        match outcome {
            Ok(()) => Ok(tensor_file::read(&self.path("q")).unwrap()),
            Err(error) => {
                assert!(!self.path("q").exists(), "nothing is written when {error}");
                Err(format!("{} (exit code {})", error, error.exit_code()))
            }
        }
    }

    fn extract(&self, flags: &str) -> TensorFile {
        self.try_extract(flags).unwrap()
    }

    /// The error, which has to contain these parts.
    fn refuse(&self, flags: &str, parts: &[&str]) {
        let message = self.try_extract(flags).expect_err(flags);
        for part in parts {
            assert!(message.contains(part), "{flags}: `{part}` is not in: {message}");
        }
    }
}

fn error(one: &Tensor, other: &Tensor) -> f64 {
    assert_eq!(one.size(), other.size());
    f64::try_from((one - other).abs().max() / other.abs().max().clamp_min(1e-30)).unwrap()
}

fn assert_same(one: &TensorFile, other: &TensorFile, bound: f64) {
    assert_eq!(one.tensors.keys().collect::<Vec<_>>(), other.tensors.keys().collect::<Vec<_>>());
    for (name, tensor) in &one.tensors {
        let error = error(tensor, &other.tensors[name]);
        assert!(error <= bound, "{name}: {error:e}");
    }
}

#[test]
fn all_is_table_1_under_the_names_and_shapes_of_the_contract() {
    let bench = Bench::new(CONV_NET);
    let q = bench.extract("--quantities all,batch_diag_ggn,batch_diag_hessian,sqrt_ggn,sqrt_ggn_mc --mc-samples 2");
    let parameters: [(&str, &[i64]); 4] =
        [("0.weight", &[4, 2, 3, 2]), ("0.bias", &[4]), ("5.weight", &[3, 8]), ("5.bias", &[3])];
    let mut expected: BTreeMap<String, Vec<i64>> =
        [("loss", vec![]), ("output", vec![5, 3]), ("mc_labels", vec![2, 5])].map(|(n, s)| (n.to_owned(), s)).into();
    for (parameter, shape) in parameters {
        let lead = |lead: &[i64]| [lead, shape].concat();
        for name in ["grad", "sum_grad_squared", "variance", "diag_ggn", "diag_ggn_mc", "diag_hessian"] {
            expected.insert(format!("{name}.{parameter}"), lead(&[]));
        }
        for name in ["batch_grad", "batch_diag_ggn", "batch_diag_hessian"] {
            expected.insert(format!("{name}.{parameter}"), lead(&[5]));
        }
        expected.insert(format!("batch_l2.{parameter}"), vec![5]);
        expected.insert(format!("sqrt_ggn.{parameter}"), lead(&[3, 5]));
        expected.insert(format!("sqrt_ggn_mc.{parameter}"), lead(&[2, 5]));
        for name in ["kfac", "kflr", "kfra"] {
            expected.insert(format!("{name}.{parameter}.B"), vec![shape[0], shape[0]]);
            if parameter.ends_with("weight") {
                let inputs: i64 = shape[1..].iter().product();
                expected.insert(format!("{name}.{parameter}.A"), vec![inputs, inputs]);
            }
        }
    }
    let found: BTreeMap<String, Vec<i64>> = q.tensors.iter().map(|(name, t)| (name.clone(), t.size())).collect();
    assert_eq!(found, expected);
    for (name, tensor) in &q.tensors {
        assert_eq!(tensor.kind(), if name == "mc_labels" { Kind::Int64 } else { Kind::Float }, "{name}");
    }
    let metadata: Vec<_> = q.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        metadata,
        [
            ("dtype", "f32"),
            ("mc_samples", "2"),
            ("mc_seed", "42"),
            ("reduction", "mean"),
            ("scale", "backpack"),
            ("schema_version", "1"),
            ("skipped", ""),
            ("skipped_reasons", "{}"),
        ]
    );
}

#[test]
fn quantities_agree_with_each_other_and_scale_as_told() {
    let bench = Bench::new(CONV_NET);
    let q = bench.extract("--dtype f64 --quantities all,sqrt_ggn");
    let paper = bench.extract("--dtype f64 --quantities sum_grad_squared,variance --scale paper");
    assert_eq!(paper.metadata["scale"], "paper");
    for parameter in ["0.weight", "0.bias", "5.weight", "5.bias"] {
        let of = |name: &str| &q.tensors[&format!("{name}.{parameter}")];
        let each = of("batch_grad");
        assert_eq!(each.kind(), Kind::Double);
        assert!(error(&each.sum_dim_intlist(0, false, Kind::Double), of("grad")) < 1e-12);
        assert!(error(&each.square().flatten(1, -1).sum_dim_intlist(1, false, Kind::Double), of("batch_l2")) < 1e-12);
        let squares = each.square().sum_dim_intlist(0, false, Kind::Double);
        assert!(error(&squares, of("sum_grad_squared")) < 1e-12);
        let diagonal = of("sqrt_ggn").square().sum_dim_intlist([0i64, 1].as_slice(), false, Kind::Double);
        assert!(error(&diagonal, of("diag_ggn")) < 1e-12);
        let scaled = |name: &str| &paper.tensors[&format!("{name}.{parameter}")];
        assert!(error(scaled("sum_grad_squared"), &(of("sum_grad_squared") * 5.0)) < 1e-12);
        assert!(error(scaled("variance"), &(of("variance") * 25.0)) < 1e-12);
    }
}

#[test]
fn sampled_labels_are_told_and_taken() {
    let bench = Bench::new(CONV_NET);
    let sampled = "--dtype f64 --quantities diag_ggn_mc,sqrt_ggn_mc,kfac";
    let drawn = bench.extract(&format!("{sampled} --mc-samples 3 --mc-seed 7"));
    assert_eq!((drawn.metadata["mc_samples"].as_str(), drawn.metadata["mc_seed"].as_str()), ("3", "7"));
    let other = bench.extract(&format!("{sampled} --mc-samples 3 --mc-seed 8"));
    assert_ne!(drawn.tensors["mc_labels"], other.tensors["mc_labels"]);

    // The labels given back give the same, whatever the flags say.
    let batch = tensor_file::read(&bench.path("b")).unwrap().tensors;
    let labels = drawn.tensors["mc_labels"].shallow_clone();
    bench.write("b", &[("x", batch["x"].copy()), ("y", batch["y"].copy()), ("mc_labels", labels)]);
    let given = bench.extract(&format!("{sampled} --mc-samples 9 --mc-seed 1"));
    assert_same(&given, &drawn, 0.0);
    assert_eq!((given.metadata["mc_samples"].as_str(), given.metadata["mc_seed"].as_str()), ("3", "none"));

    // Where nothing is sampled they are of no consequence.
    let plain = std::fs::read(bench.extract("--quantities grad --mc-samples 4 --mc-seed 2").path).unwrap();
    assert_eq!(plain, std::fs::read(bench.extract("--quantities grad").path).unwrap());
}

#[test]
fn weights_come_by_name_and_else_from_the_seed() {
    let bench = Bench::new(CONV_NET);
    let of_seed = |seed: u64| bench.extract(&format!("--quantities grad --seed {seed}"));
    assert_same(&bench.extract("--quantities grad"), &of_seed(42), 0.0);
    assert_ne!(of_seed(42).tensors["output"], of_seed(43).tensors["output"]);

    let ones = |shape: &[i64]| Tensor::ones(shape, (Kind::Double, Device::Cpu));
    let (weight, bias) = (ones(&[4, 2, 3, 2]) * 0.1, ones(&[4]));
    let (last, offset) = (ones(&[3, 8]), Tensor::from_slice(&[1.0, 2.0, 3.0]));
    let whole = [("0.weight", weight), ("0.bias", bias), ("5.weight", last), ("5.bias", offset)];
    bench.write("w", &whole);
    let q = bench.extract("--quantities grad --weights DIR/w --dtype f64");
    let output = &q.tensors["output"];
    let difference = output.select(1, 2) - output.select(1, 0);
    assert!(error(&difference, &Tensor::from_slice(&[2.0; 5])) < 1e-12, "the rows of 5.weight are equal");

    bench.write("w", &[("0.weight", whole[0].1.copy()), ("0.scale", ones(&[1])), ("5.weight", ones(&[3, 9]))]);
    bench.refuse(
        "--weights DIR/w",
        &[
            "/w: ",
            "`0.bias` of shape [4] is missing",
            "`0.scale` is not",
            "[3, 9], the network's is [3, 8]",
            "(exit code 2)",
        ],
    );
    bench.write("w", &[("0.weight", whole[0].1.to_kind(Kind::Int64))]);
    bench.refuse("--weights DIR/w", &["`0.weight`", "Int64", "expected floats"]);
}

#[test]
fn batch_norm_takes_its_statistics_from_the_weights() {
    let normalised = CONV_NET.replace("type = \"sigmoid\"", "type = \"batch_norm2d\"");
    let bench = Bench::new(&normalised);
    let range = |n: i64, from: f64| Tensor::arange(n, (Kind::Double, Device::Cpu)) * 0.25 + from;
    let mut weights = vec![
        ("0.weight", range(48, -3.0).view([4, 2, 3, 2])),
        ("0.bias", range(4, 0.0)),
        ("1.weight", range(4, 1.0)),
        ("1.bias", range(4, -1.0)),
        ("1.running_mean", range(4, 0.5)),
        ("1.running_var", range(4, 0.5)),
        ("1.num_batches_tracked", Tensor::from(3i64)),
        ("5.weight", range(24, -2.0).view([3, 8])),
        ("5.bias", range(3, 0.0)),
    ];
    bench.write("w", &weights);
    let q = bench.extract("--weights DIR/w --dtype f64");
    assert_eq!(q.metadata["skipped"], "kfra,kfac.1.weight,kfac.1.bias,kflr.1.weight,kflr.1.bias");
    assert!(q.metadata["skipped_reasons"].contains("layer 1 (batch_norm2d)"), "{:?}", q.metadata);
    assert!(q.metadata["skipped_reasons"].contains("its scale acts on each channel by itself"), "{:?}", q.metadata);
    let names = |flags: &str| -> Vec<String> {
        let q = bench.extract(&format!("--weights DIR/w --dtype f64 {flags}"));
        q.tensors.into_keys().filter(|name| name.starts_with("kf")).collect()
    };
    let of = |quantity: &str| {
        ["0.bias.B", "0.weight.A", "0.weight.B", "5.bias.B", "5.weight.A", "5.weight.B"]
            .map(|factor| format!("{quantity}.{factor}"))
    };
    assert_eq!(names(""), [of("kfac"), of("kflr")].concat());
    // Asked for by name it has what it can have too.
    assert_eq!(names("--quantities grad,kfac"), of("kfac"));
    bench.refuse(
        "--weights DIR/w --quantities grad,kfra",
        &["`kfra`", "layer 1 (batch_norm2d)", "diag_ggn", "(exit code 2)"],
    );

    weights[5].1 = range(4, 1.5);
    bench.write("w", &weights);
    assert!(error(&bench.extract("--weights DIR/w --dtype f64").tensors["output"], &q.tensors["output"]) > 1e-3);
    let _ = weights.remove(4);
    bench.write("w", &weights);
    bench.refuse("--weights DIR/w", &["`1.running_mean` of shape [4] is missing"]);

    // While training it mixes the samples: nothing but the gradient is left.
    let training = bench.extract("--train");
    assert_eq!(training.metadata["skipped"].split(',').count(), 10);
    assert!(training.tensors.contains_key("grad.0.weight") && !training.tensors.contains_key("variance.0.weight"));
}

#[test]
fn dropout_is_off_unless_training() {
    let bench = Bench::new(CONV_NET);
    let output = |flags: &str| bench.extract(&format!("--quantities grad {flags}")).tensors["output"].shallow_clone();
    assert_eq!(output(""), output(""));
    let masked = output("--train");
    assert_eq!(masked, output("--train"));
    assert_ne!(masked, output(""));
}

#[test]
fn products_agree_with_the_square_root() {
    // A net of one linear layer without bias: its Hessian is the GGN, one block.
    let single = r#"
name = "single"
dataset = "mnist"
loss = "cross_entropy"
[[layers]]
type = "flatten"
[[layers]]
type = "linear"
out_features = 3
bias = false
"#;
    let bench = Bench::new(single);
    let v = Tensor::randn([3, 84], (Kind::Double, Device::Cpu));
    bench.write("v", &[("1.weight", v.copy())]);
    let q = bench.extract("--dtype f64 --quantities sqrt_ggn,sqrt_ggn_mc --mc-samples 2 --products DIR/v");
    let along = |root: &str| {
        let root = q.tensors[root].flatten(0, 1).flatten(1, -1);
        root.tr().matmul(&root.matmul(&v.flatten(0, -1))).view([3, 84])
    };
    for (product, root) in
        [("ggn_product", "sqrt_ggn"), ("hessian_product", "sqrt_ggn"), ("fisher_mc_product", "sqrt_ggn_mc")]
    {
        let error = error(&q.tensors[&format!("{product}.1.weight")], &along(&format!("{root}.1.weight")));
        assert!(error < 1e-11, "{product}: {error:e}");
    }
    // Without a sampled quantity the product's labels are still told.
    let alone = bench.extract("--dtype f64 --quantities grad --mc-samples 2 --products DIR/v");
    assert_eq!(alone.tensors["mc_labels"], q.tensors["mc_labels"]);

    bench.write("v", &[("1.weight", v.tr().contiguous()), ("1.bias", v)]);
    bench.refuse("--products DIR/v", &["/v: ", "[84, 3], the parameter's is [3, 84]", "`1.bias` is not a parameter"]);
}

#[test]
fn the_memory_budget_holds() {
    let bench = Bench::new(CONV_NET);
    let whole = bench.extract("--dtype f64");
    // Room for chunks of one sample only: the same numbers.
    let tight = bench.extract("--dtype f64 --memory-budget 300KiB");
    assert_eq!(tight.metadata["skipped"], "");
    assert_same(&tight, &whole, 1e-12);
    // No room for the matrices of KFRA; the columns of the Hessian's residual come in parts.
    let little = bench.extract("--dtype f64 --memory-budget 60KiB");
    assert_eq!(little.metadata["skipped"], "kfra", "{:?}", little.metadata);
    assert!(little.metadata["skipped_reasons"].contains("memory budget of 60.0 KiB"));
    bench.refuse(
        "--quantities grad,kfra --dtype f64 --memory-budget 30KiB",
        &["grad, kfra: this needs about", "30.0 KiB"],
    );
    bench.refuse("--memory-budget 1KiB", &["the forward pass", "1.0 KiB"]);
    bench.refuse("--memory-budget 0B", &["12GiB"]);
    bench.refuse("--memory-budget much", &["12GiB"]);
}

/// Memory that the system does not give is told of in a line, with 3, as the environment's fault.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_is_not_there_is_told_of_with_3() {
    let bench = Bench::new(&CONV_NET.replace("out_features = 3", "out_features = 300"));
    // Roots of 300 vectors for 1500 samples: 4.3 GB of the last layer alone.
    let x = Tensor::zeros([1500, 2, 7, 6], (Kind::Float, Device::Cpu));
    bench.write("b", &[("x", x), ("y", Tensor::zeros([1500], (Kind::Int64, Device::Cpu)))]);
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -v 4000000; exec \"$0\" \"$@\""]).arg(crate::support::program_path());
    limited.args(["extract", "--problem", "net.toml", "--batch", "b", "--out", "q", "--threads", "1"]);
    limited.args(["--quantities", "sqrt_ggn", "--memory-budget", "1000000GiB"]).current_dir(bench.path(""));
    let output = limited.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("allocate memory") && told.contains("take fewer samples"), "{told}");
    assert!(told.lines().count() < 4 && !told.contains("panicked"), "{told}");
}

#[test]
fn the_output_never_replaces_an_input() {
    let bench = Bench::new(CONV_NET);
    let (problem, batch) = (bench.path("net.toml").display().to_string(), bench.path("b").display().to_string());
    let flags = ["extract", "--problem", &problem, "--batch", &batch, "--out", &batch, "--quantities", "grad"];
    let error = run(Command::try_parse_from(flags).unwrap().arguments).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    assert!(error.to_string().contains("--batch") && error.to_string().contains("overwritten"), "{error}");
    assert!(tensor_file::read(&bench.path("b")).unwrap().tensors.contains_key("x"));
}

#[test]
fn batches_that_do_not_fit_are_refused() {
    let bench = Bench::new(CONV_NET);
    let batch = tensor_file::read(&bench.path("b")).unwrap().tensors;
    let (x, y) = (&batch["x"], &batch["y"]);
    let refuse = |tensors: &[(&str, Tensor)], parts: &[&str]| {
        bench.write("b", tensors);
        bench.refuse("", parts);
    };
    refuse(&[("y", y.copy())], &["`x` is missing", "[N, ...]", "found `y`"]);
    refuse(&[("x", x.copy())], &["`y` is missing"]);
    refuse(&[("x", x.to_kind(Kind::Int)), ("y", y.copy())], &["`x` is int64 of shape [5, 2, 7, 6]", "floats"]);
    refuse(
        &[("x", x.to_kind(Kind::Bool)), ("y", y.copy())],
        &["`x` is of another type", "floats of shape [N, ...], or integers"],
    );
    refuse(&[("x", x.copy()), ("y", y.to_kind(Kind::Float))], &["`y` is float32 of shape [5]", "int64", "[5]"]);
    refuse(&[("x", x.copy()), ("y", y.narrow(0, 0, 4))], &["`y` is int64 of shape [4]", "shape [5]"]);
    refuse(&[("x", x.copy()), ("y", y + 1)], &["the class 3", "3 outputs are the classes 0 to 2"]);
    refuse(&[("x", x.copy()), ("y", y - 1)], &["the class -1"]);
    let labels = |labels: Tensor| [("x", x.copy()), ("y", y.copy()), ("mc_labels", labels)];
    refuse(&labels(y.copy()), &["`mc_labels` is int64 of shape [5]", "[M, 5]"]);
    refuse(&labels(y.unsqueeze(0) + 2), &["`mc_labels` holds the class 4"]);
    refuse(
        &[("x", x.narrow(2, 0, 2)), ("y", y.copy())],
        &["layer 0 (conv2d)", "samples of shape [2, 2, 6]", "have [2, 7, 6]"],
    );
    std::fs::write(bench.path("b"), "no tensors").unwrap();
    bench.refuse("", &["/b: unreadable safetensors", "(exit code 3)"]);
    std::fs::remove_file(bench.path("b")).unwrap();
    bench.refuse("", &["/b: reading failed", "(exit code 2)"]);
}

#[test]
fn value_targets_and_their_sampled_labels() {
    for loss in ["mse", "bce_with_logits"] {
        let bench = Bench::new(&CONV_NET.replace("cross_entropy", loss));
        let batch = tensor_file::read(&bench.path("b")).unwrap().tensors;
        bench.refuse("", &["`y` is int64 of shape [5]", "[5, 3]", loss]);
        let y = Tensor::rand([5, 3], (Kind::Float, Device::Cpu)).round();
        bench.write("b", &[("x", batch["x"].copy()), ("y", y.copy())]);
        let drawn = bench.extract("--dtype f64 --mc-samples 2");
        let labels = &drawn.tensors["mc_labels"];
        assert_eq!((labels.size(), labels.kind()), (vec![2, 5, 3], Kind::Double));
        bench.write("b", &[("x", batch["x"].copy()), ("y", y.copy()), ("mc_labels", labels.copy())]);
        assert_same(&bench.extract("--dtype f64"), &drawn, 0.0);
        bench.write("b", &[("x", batch["x"].copy()), ("y", y.copy()), ("mc_labels", y.copy())]);
        bench.refuse("", &["`mc_labels` is float32 of shape [5, 3]", "[M, 5, 3]"]);
    }
}

#[test]
fn one_value_a_sample_needs_no_second_axis() {
    let bench = Bench::new(&CONV_NET.replace("cross_entropy", "mse").replace("out_features = 3", "out_features = 1"));
    let batch = tensor_file::read(&bench.path("b")).unwrap().tensors;
    let y = batch["y"].to_kind(Kind::Float);
    bench.write("b", &[("x", batch["x"].copy()), ("y", y.copy())]);
    let flat = bench.extract("");
    bench.write("b", &[("x", batch["x"].copy()), ("y", y.unsqueeze(1))]);
    assert_same(&bench.extract(""), &flat, 0.0);
}

#[test]
fn flags_that_mean_nothing_are_refused() {
    let mut bench = Bench::new(CONV_NET);
    bench.refuse("--quantities grad,varience", &["unknown quantity `varience`", "did you mean `variance`"]);
    bench.refuse("--mc-samples 0", &["--mc-samples"]);
    bench.refuse("--dtype f16", &["f32", "f64"]);
    bench.out = "no/q";
    bench.refuse("--quantities all", &["/no/q: creating a file beside it failed", "(exit code 3)"]);
}
