//! How defects of problem files, experiment files and `--set` are shown: place, caret, expectation and remedy. Numbers that
//! single precision, in which runs compute, does not hold are such defects; what it just holds is trained with.

use std::fmt::Write as _;

use crate::study_support::{Bench, text};
use backpack_run::config::Source;
use backpack_run::problems::definition;
use backpack_run::study::experiment::{Request, resolve};

/// A problem file with `lines` after a head without defects, and one layer.
fn problem(lines: &str) -> String {
    let text = format!(
        "name = \"net\"\ndataset = \"mnist\"\nloss = \"cross_entropy\"\n{lines}\n[[layers]]\ntype = \"flatten\"\n"
    );
    problem_error(&text)
}

/// A problem file whose second layer is `layer`.
fn layer(layer: &str) -> String {
    let head = "name = \"net\"\ndataset = \"mnist\"\nloss = \"cross_entropy\"\n";
    problem_error(&format!("{head}\n[[layers]]\ntype = \"relu\"\n[[layers]]\n{layer}\n"))
}

fn problem_error(text: &str) -> String {
    let source = Source::built_in("net.toml", text);
    definition::parse(&source).expect_err(text).to_string()
}

fn set_error(arguments: &[&str]) -> String {
    let set: Vec<String> =
        ["problem=mnist_logreg", "optimizer=kfac"].iter().chain(arguments).map(|text| text.to_string()).collect();
    resolve(Request { set: &set, ..Default::default() }).expect_err("a defect").to_string()
}

fn experiment_error(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.toml");
    std::fs::write(&path, text).unwrap();
    let error = resolve(Request { file: Some(&path), ..Default::default() }).expect_err(text).to_string();
    error.replace(&folder.path().display().to_string(), "FOLDER")
}

fn all<'a>(errors: impl IntoIterator<Item = (&'a str, String)>) -> String {
    errors.into_iter().fold(String::new(), |mut text, (about, error)| {
        let _ = writeln!(text, "## {about}\n{error}\n");
        text
    })
}

#[test]
fn problem_files() {
    let shown = all([
        ("not TOML", problem("batch_size = = 3")),
        ("a key twice", problem("l2 = 0\nl2 = 1")),
        ("unknown key", problem("batchsize = 64")),
        ("unknown key, nothing near", problem("colour = 64")),
        ("wrong type", problem("batch_size = \"64\"")),
        ("a number for an integer", problem("batch_size = 64.0")),
        ("out of range", problem("batch_size = 0")),
        ("too large", problem("epochs = 99999999999")),
        ("negative l2", problem("l2 = -0.1")),
        ("l2 not finite", problem("l2 = nan")),
        ("unknown word", problem("reduction = \"men\"")),
        ("no boolean", problem("augment = \"yes\"")),
        ("unknown data set", problem_error("name = \"net\"\ndataset = \"fashon_mnist\"\nloss = \"mse\"\nlayers = []")),
        (
            "data set of a file",
            problem_error("name = \"net\"\ndataset = \"x.safetensors\"\nloss = \"mse\"\nlayers = []"),
        ),
        (
            "data set with an unknown key",
            problem_error("name = \"net\"\nloss = \"mse\"\nlayers = []\n[dataset]\nsynthetics = 1"),
        ),
        (
            "synthetic without classes",
            problem_error(
                "name = \"net\"\nloss = \"mse\"\nlayers = []\ndataset = { synthetic = { shape = [3, 8, 8] } }",
            ),
        ),
        (
            "synthetic with a huge shape",
            problem_error(
                "name = \"net\"\nloss = \"mse\"\nlayers = []\n[dataset.synthetic]\nshape = [99999, 99999, 99999]\nclasses = 2\ntrain = 1\ntest = 1",
            ),
        ),
        ("no name", problem_error("# only a comment\ndataset = \"mnist\"\nloss = \"mse\"\n")),
        ("no layers", problem_error("name = \"net\"\ndataset = \"mnist\"\nloss = \"mse\"\n")),
        ("layers empty", problem_error("name = \"net\"\ndataset = \"mnist\"\nloss = \"mse\"\nlayers = []\n")),
        (
            "a name that is no folder",
            problem_error("name = \"../net\"\ndataset = \"mnist\"\nloss = \"mse\"\nlayers = []\n"),
        ),
        ("empty file", problem_error("")),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn layers() {
    let shown = all([
        ("unknown type", layer("type = \"MaxPool\"\nkernel_size = 2")),
        ("unknown type, nothing near", layer("type = \"softmax\"")),
        ("no type", layer("kernel_size = 2")),
        ("unknown option", layer("type = \"conv2d\"\nkernl_size = 2\nout_channels = 3")),
        ("option of another layer", layer("type = \"relu\"\nkernel_size = 2")),
        ("option missing", layer("type = \"conv2d\"\nout_channels = 3")),
        ("kernel of size zero", layer("type = \"conv2d\"\nout_channels = 3\nkernel_size = [3, 0]")),
        ("kernel of three", layer("type = \"conv2d\"\nout_channels = 3\nkernel_size = [3, 3, 3]")),
        (
            "padding that is not the same",
            layer("type = \"conv2d\"\nout_channels = 3\nkernel_size = 3\npadding = \"sane\""),
        ),
        ("padding of three", layer("type = \"max_pool2d\"\nkernel_size = 3\npadding = [1, 1, 1]")),
        ("dropout of everything", layer("type = \"dropout\"\np = 1.0")),
        ("unknown init", layer("type = \"linear\"\nout_features = 3\nweight_init = \"xavier_norml\"")),
        ("unknown init with a number", layer("type = \"linear\"\nout_features = 3\nweight_init = { constnt = 1 }")),
        ("init without its number", layer("type = \"linear\"\nout_features = 3\nweight_init = \"constant\"")),
        (
            "init with a number too much",
            layer("type = \"linear\"\nout_features = 3\nweight_init = { xavier_normal = 1 }"),
        ),
        ("two inits", layer("type = \"linear\"\nout_features = 3\nweight_init = { constant = 1, normal = 1 }")),
        ("negative deviation", layer("type = \"linear\"\nout_features = 3\nweight_init = { normal = -1 }")),
        ("init of no bias", layer("type = \"linear\"\nout_features = 3\nbias = false\nbias_init = { constant = 1 }")),
        (
            "a layer that is no table",
            problem_error("name = \"net\"\ndataset = \"mnist\"\nloss = \"mse\"\nlayers = [{ type = \"relu\" }, 3]\n"),
        ),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn experiment_files() {
    let head = "schema = 1\nproblem = \"mnist_logreg\"\n";
    let with = |lines: &str| experiment_error(&format!("{head}{lines}\n"));
    let optimizer = |lines: &str| experiment_error(&format!("{head}[[optimizer]]\n{lines}\n"));
    let shown = all([
        ("another schema", experiment_error("schema = 2\n")),
        ("unknown key", with("epoch = 3")),
        ("unknown problem", experiment_error("problem = \"mnist_logregg\"\n")),
        ("problem file not there", experiment_error("problem = [\"mnist_logreg\", \"nets/mine.toml\"]\n")),
        ("unknown mode", with("select = { mode = \"last\" }")),
        ("unknown metric", with("select = { metric = \"valid_accuracy\" }")),
        ("unknown key of select", with("[select]\nmtric = \"valid_losses\"")),
        ("seeds twice", with("seeds = [1, 2, 1]")),
        ("unknown optimizer", optimizer("name = \"kfacc\"")),
        ("optimizer without name", optimizer("learning_rate = 1")),
        ("unknown key of an optimizer", optimizer("name = \"kfac\"\nlearningrate = 1")),
        ("both names of a key", optimizer("name = \"kfac\"\nlearning_rate = 1\nalpha = 1")),
        ("learning rate zero", optimizer("name = \"kfac\"\nlearning_rate = 0.0")),
        ("learning rate negative in a list", optimizer("name = \"kfac\"\nlearning_rate = [0.1, -1]")),
        ("learning rates empty", optimizer("name = \"kfac\"\nlearning_rate = []")),
        ("logspace misspelt", optimizer("name = \"kfac\"\nlearning_rate = \"logspce(1, 2, 3)\"")),
        ("logspace of too many", optimizer("name = \"kfac\"\nlearning_rate = \"logspace(1, 2, 10001)\"")),
        ("negative damping", optimizer("name = \"kfac\"\nlambda = -0.1")),
        ("damping of a baseline", optimizer("name = \"adam\"\ndamping = 0.1")),
        ("averaging", optimizer("name = \"kfac\"\naveraging = \"cumulativ\"")),
        ("averaging that diverges", optimizer("name = \"kfac\"\naveraging = \"ema:1.5\"")),
        ("a problem it does not have", optimizer("name = \"kfac\"\nproblem = \"fmnist_2c2d\"")),
        ("an optimizer twice", optimizer("name = \"kfac\"\n[[optimizer]]\nname = \"kfac\"")),
        (
            "a grid too large",
            optimizer("name = \"kfac\"\nlearning_rate = \"logspace(-4, 0, 101)\"\ndamping = \"logspace(-4, 0, 100)\""),
        ),
        ("no optimizer", experiment_error(head)),
        ("no problem", experiment_error("[[optimizer]]\nname = \"kfac\"")),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn set_arguments() {
    let shown = all([
        ("unknown key", set_error(&["batch_sise=3"])),
        ("no value", set_error(&["batch_size"])),
        ("wrong type", set_error(&["batch_size=many"])),
        ("wrong word", set_error(&["augment=flase"])),
        ("broken list", set_error(&["seeds=[1, 2"])),
        ("layers", set_error(&["layers=[]"])),
        ("unknown problem", set_error(&["problem=mnist_logreg,mnist_mpl"])),
        ("unknown optimizer", set_error(&["optimizer=kfac,kfr"])),
        ("size", set_error(&["chunk_bytes=12 parsecs"])),
        ("device", set_error(&["device=gpu"])),
        ("damping without a curvature", set_error(&["optimizer=adam", "damping=0.1"])),
        ("in a table", set_error(&["select.mode=bst"])),
        ("a list for a table", set_error(&["select=[\"valid_losses\", \"best\"]"])),
        ("a number for a word", set_error(&["reduction=0"])),
    ]);
    insta::assert_snapshot!(shown);
}

/// Defects of the graph: names, inputs, blocks.
#[test]
fn graphs() {
    let graph = |layers: &str| {
        problem_error(&format!("name = \"net\"\ndataset = \"mnist\"\nloss = \"cross_entropy\"\n\n{layers}"))
    };
    let relu = "[[layers]]\ntype = \"relu\"\n";
    let block = |keys: &str, inner: &str| format!("[[layers]]\ntype = \"block\"\n{keys}\n[[blocks.basic]]\n{inner}\n");
    let errors = [
        (
            "an input that comes later",
            graph(&format!("{relu}[[layers]]\ntype = \"add\"\ninputs = [\"previous\", \"2\"]\n{relu}")),
        ),
        (
            "a misspelt input",
            graph(
                "[[layers]]\ntype = \"relu\"\nname = \"stem\"\n[[layers]]\ntype = \"add\"\ninputs = [\"stme\", \"input\"]\n",
            ),
        ),
        ("a merge of one", graph(&format!("{relu}[[layers]]\ntype = \"multiply\"\n"))),
        ("a layer of two", graph(&format!("{relu}[[layers]]\ntype = \"relu\"\ninputs = [\"0\", \"input\"]\n"))),
        ("a name that is taken", graph(&format!("{relu}[[layers]]\ntype = \"relu\"\nname = \"0\"\n"))),
        ("a name that has a meaning", graph("[[layers]]\ntype = \"relu\"\nname = \"input\"\n")),
        ("a name with a slash", graph("[[layers]]\ntype = \"relu\"\nname = \"a/b\"\n")),
        ("an output that nothing takes", graph(&format!("{relu}[[layers]]\ntype = \"relu\"\ninputs = [\"input\"]\n"))),
        ("a misspelt block", graph(&block("block = \"bsaic\"", "type = \"relu\""))),
        ("a block in a block", graph(&block("block = \"basic\"", "type = \"block\"\nblock = \"basic\""))),
        (
            "a block's layer that looks outside",
            graph(&format!("{relu}{}", block("block = \"basic\"", "type = \"add\"\ninputs = [\"input\", \"0\"]"))),
        ),
        ("no repetition", graph(&block("block = \"basic\"\nrepeat = 0", "type = \"relu\""))),
        ("an unknown key of a block", graph(&block("block = \"basic\"\nrepaet = 2", "type = \"relu\""))),
        ("an index that is none", layer("type = \"slice\"\nindex = \"0, a\"")),
        ("a list of nothing", layer("type = \"reshape\"\nshape = []")),
    ];
    insta::assert_snapshot!(all(errors));
}

/// Beyond single precision's range, in the forms that TOML has for numbers.
const BEYOND: [&str; 5] = ["1e39", "-1e39", "1e-46", "3.5e38", "1e308"];

fn assert_place(error: &str, file: &str, line: usize, key: &str, value: &str) {
    assert!(error.contains(&format!("{file}:{line}:")), "{key} = {value}: {error}");
    assert!(error.contains(&format!("`{key}`")) && error.contains(value), "{key} = {value}: {error}");
}

#[test]
fn problem_files_are_refused_with_the_line() {
    let head = "name = \"net\"\ndataset = \"mnist\"\nloss = \"cross_entropy\"\n";
    let layer = |lines: &str| format!("{head}[[layers]]\n{lines}");
    let linear = |init: &str, value: &str| {
        layer(&format!("type = \"linear\"\nout_features = 10\nweight_init = {{ {init} = {value} }}\n"))
    };
    for value in BEYOND {
        for (key, line, file) in [
            ("l2", 4, format!("{head}l2 = {value}\n[[layers]]\ntype = \"flatten\"\n")),
            ("alpha", 6, layer(&format!("type = \"elu\"\nalpha = {value}\n"))),
            ("negative_slope", 6, layer(&format!("type = \"leaky_relu\"\nnegative_slope = {value}\n"))),
            ("eps", 6, layer(&format!("type = \"batch_norm2d\"\neps = {value}\n"))),
            ("constant", 7, linear("constant", value)),
            ("normal", 7, linear("normal", value)),
            ("uniform", 7, linear("uniform", value)),
            ("truncated_normal", 7, linear("truncated_normal", value)),
        ] {
            let error = definition::parse(&Source::built_in("net.toml", &file)).expect_err(&file).to_string();
            assert_place(&error, "net.toml", line, key, value);
            // A negative one may be refused for that.
            assert!(error.contains("single precision") || value.starts_with('-'), "{file}: {error}");
        }
    }
}

#[test]
fn experiment_files_and_set_are_refused_with_the_line() {
    let folder = crate::support::temporary_folder();
    let path = folder.path().join("study.toml");
    for value in BEYOND {
        for (key, number) in [
            ("learning_rate", value.to_owned()),
            ("alpha", format!("[0.1, {value}]")),
            ("damping", format!("\"0.1,{value}\"")),
            ("lambda", value.to_owned()),
            ("l2", value.to_owned()),
        ] {
            std::fs::write(
                &path,
                format!("problem = \"mnist_logreg\"\n{key} = {number}\n[[optimizer]]\nname = \"kfac\"\n"),
            )
            .unwrap();
            let error = resolve(Request { file: Some(&path), ..Default::default() }).expect_err(key).to_string();
            assert_place(&error, "study.toml", 2, key, value);
            let set = ["problem=mnist_logreg", "optimizer=kfac"].map(str::to_owned).into_iter();
            let set: Vec<String> = set.chain([format!("{key}={number}")]).collect();
            let error = resolve(Request { set: &set, ..Default::default() }).expect_err(key).to_string();
            assert!(error.contains(&format!("`{key}`")) && error.contains("--set"), "{key} = {number}: {error}");
        }
    }
}

/// What is not refused is trained with, if only to diverge.
#[test]
fn what_single_precision_just_holds_fails_no_run() {
    let bench = Bench::new();
    let refused = bench.output("runs", "train --problem small.toml --optimizer sgd --lr 1e39");
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(bench.run_folders("runs").is_empty());
    let baselines = ["sgd", "momentum", "adam"].map(|name| format!("--optimizer {name} --lr 3.4e38,1e-45"));
    let curvatures = ["diag_ggn", "kfac"].map(|name| format!("--curv {name} --lr 3.4e38,1e-45 --damping 3.4e38,1e-45"));
    for optimizer in baselines.iter().chain(&curvatures) {
        for scheme in ["constant", "levenberg_marquardt", "trace"] {
            let options = match optimizer.starts_with("--curv") {
                true => format!("--set damping_scheme={scheme}"),
                false if scheme == "constant" => String::new(),
                false => continue,
            };
            for l2 in ["3.4e38", "1e-45"] {
                let command = format!("grid --problem small.toml {optimizer} --set l2={l2} {options} --epochs 1");
                let output = bench.output("runs", &command);
                assert!(output.status.success(), "{command}: {}", text(&output.stderr));
            }
        }
    }
}
