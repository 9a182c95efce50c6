//! Precedence, defaults and round trips of experiments, and the names of run folders.

use std::path::{Path, PathBuf};

use backpack_run::backpack::layers::LAYER_TYPES;
use backpack_run::cli::flags::StudyFlags;
use backpack_run::config::Source;
use backpack_run::optimizers::{Averaging, OptionValue};
use backpack_run::problems::data::DataSource;
use backpack_run::problems::definition::{self, built_in_names};
use backpack_run::study::experiment::{DataFacts, Experiment, Metric, SelectMode};
use backpack_run::study::settings::RunSettings;
use clap::Parser;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    flags: StudyFlags,
}

pub fn flags(arguments: &[&str]) -> StudyFlags {
    Command::try_parse_from(["grid"].iter().chain(arguments)).unwrap_or_else(|error| panic!("{error}")).flags
}

pub fn resolved(arguments: &[&str]) -> Experiment {
    flags(arguments).resolve().unwrap_or_else(|error| panic!("{error}"))
}

fn flag_error(arguments: &[&str]) -> String {
    match Command::try_parse_from(["grid"].iter().chain(arguments)) {
        Ok(command) => command.flags.resolve().expect_err("a defect").to_string(),
        Err(error) => {
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        }
    }
}

pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

pub const NET: &str = r#"
name = "net"
dataset = "mnist"
loss = "cross_entropy"
epochs = 1
batch_size = 11
l2 = 0.5

[[layers]]
type = "flatten"
[[layers]]
type = "linear"
out_features = 10
"#;

#[test]
fn bare_flags_give_the_papers_protocol() {
    let experiment = resolved(&["--problem", "cifar10_3c3d", "--curv", "kfac"]);
    assert_eq!(experiment.name, "cifar10_3c3d");
    assert_eq!(experiment.problems, [definition::load("cifar10_3c3d").unwrap()]);
    let [grid] = &experiment.optimizers[..] else { panic!() };
    assert_eq!(grid.name.as_str(), "kfac");
    assert_eq!(grid.learning_rates, [1e-4, 1e-3, 1e-2, 1e-1, 1.0]);
    assert_eq!(grid.dampings, [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]);
    assert_eq!(grid.values("averaging"), [OptionValue::Averaging(Averaging::Cumulative)]);
    let settings = grid.settings();
    assert_eq!(settings.len(), 30);
    assert_eq!((settings[1].learning_rate, settings[1].damping), (1e-4, Some(1e-3)));
    assert_eq!((settings[6].learning_rate, settings[6].damping), (1e-3, Some(1e-4)));
    assert_eq!((experiment.threads, experiment.mc_samples, experiment.checkpoint_seconds), (1, 1, 60.0));
    assert_eq!((experiment.grid_seed, experiment.grid_seeds()), (42, vec![42]));
    assert_eq!(experiment.seeds, (42..52).collect::<Vec<u64>>());
    assert_eq!((experiment.select.metric, experiment.select.mode), (Metric::ValidAccuracies, SelectMode::Final));
    let baselines = resolved(&["--problem", "mnist_logreg", "--optimizer", "sgd,momentum"]);
    assert_eq!(baselines.optimizers.iter().map(|grid| grid.count()).collect::<Vec<_>>(), [20, 20]);
    assert_eq!(baselines.optimizers[0].settings()[0].damping, None);
}

#[test]
fn each_source_overrides_those_below() {
    let folder = Folder::new();
    folder.write("nets/net.toml", NET);
    let study = folder.write(
        "study.toml",
        "problem = \"nets/net.toml\"\nbatch_size = 22\nl2 = 0.25\nthreads = 2\nlearning_rate = 0.5\ndamping = 0.5\n\
         [[optimizer]]\nname = \"kfac\"\nalpha = 0.25\n[[optimizer]]\nname = \"kflr\"\n",
    );
    // Problem file and default.
    let alone = resolved(&["--problem", &folder.write("net.toml", NET), "--curv", "kfac"]);
    assert_eq!((alone.problems[0].epochs, alone.problems[0].batch_size, alone.problems[0].l2), (1, 11, 0.5));
    assert!(!alone.problems[0].augment);
    // The experiment file over the problem file; its optimizers over what it says for all.
    let experiment = resolved(&[&study]);
    assert_eq!(experiment.name, "study");
    let problem = &experiment.problems[0];
    assert_eq!((problem.epochs, problem.batch_size, problem.l2, experiment.threads), (1, 22, 0.25, 2));
    assert_eq!(experiment.optimizers[0].learning_rates, [0.25]);
    assert_eq!(experiment.optimizers[1].learning_rates, [0.5]);
    assert_eq!(experiment.optimizers[1].dampings, [0.5]);
    // --set over the experiment file, later ones over earlier ones.
    let set =
        ["--experiment", &study, "--set", "batch_size=33", "--set", "l2=1", "--set", "l2=2", "--set", "alpha=1,2"];
    let experiment = resolved(&set);
    let problem = &experiment.problems[0];
    assert_eq!((problem.epochs, problem.batch_size, problem.l2), (1, 33, 2.0));
    assert_eq!(experiment.optimizers[0].learning_rates, [1.0, 2.0]);
    assert_eq!(experiment.optimizers[1].learning_rates, [1.0, 2.0]);
    // Flags over --set.
    let experiment =
        resolved(&[&set[..], &["--batch-size", "44", "--lr", "logspace(-1,0,2),7", "--curv", "kflr"]].concat());
    assert_eq!((experiment.problems[0].batch_size, experiment.problems[0].l2), (44, 2.0));
    assert_eq!(experiment.optimizers.len(), 1);
    assert_eq!(experiment.optimizers[0].name.as_str(), "kflr");
    assert_eq!(experiment.optimizers[0].learning_rates, [0.1, 1.0, 7.0]);
    assert_eq!(experiment.optimizers[0].dampings, [0.5]);
}

#[test]
fn every_flag_arrives() {
    let experiment = resolved(&[
        "--problem",
        "mnist_logreg,fmnist_logreg",
        "--curvature",
        "kfac, diag_ggn",
        "--learning-rate",
        "0.1",
        "--damping",
        "0",
        "--epochs",
        "0",
        "--batch-size",
        "7",
        "--train-size",
        "70",
        "--averaging",
        "ema:0.9",
        "--mc-samples",
        "3",
        "--seed",
        "5",
        "--threads",
        "2",
        "--device",
        "cuda:1",
        "--checkpoint-seconds",
        "0.5",
        "--set",
        "dataset=fashion_mnist_mini",
        "--set",
        "augment=true",
        "--set",
        "select.mode=best",
        "--set",
        "select={metric=\"test_losses\"}",
        "--set",
        "valid_size=9",
        "--set",
        "grid_seed=4",
        "--set",
        "name=mine",
        "--set",
        "reduction=sum",
        "--set",
        "loss=mse",
        "--set",
        "chunk_bytes=1MiB",
    ]);
    assert_eq!(experiment.name, "mine");
    assert_eq!(
        experiment.problems.iter().map(|problem| problem.name.as_str()).collect::<Vec<_>>(),
        ["mnist_logreg", "fmnist_logreg"]
    );
    for problem in &experiment.problems {
        assert_eq!(problem.dataset, DataSource::Named("fashion_mnist_mini".to_owned()));
        assert_eq!((problem.epochs, problem.batch_size, problem.train_size), (0, 7, Some(70)));
        assert_eq!((problem.valid_size, problem.augment), (Some(9), true));
        assert_eq!((problem.loss.unwrap().to_string().as_str(), problem.reduction.as_str()), ("mse", "sum"));
    }
    assert_eq!(experiment.optimizers.len(), 2);
    assert_eq!(experiment.optimizers[1].name.as_str(), "diag_ggn");
    assert_eq!(
        (experiment.optimizers[0].values("averaging"), &experiment.optimizers[0].dampings[..]),
        (&[OptionValue::Averaging(Averaging::Ema(0.9))][..], &[0.0][..])
    );
    assert_eq!((experiment.mc_samples, experiment.threads, experiment.device.as_str()), (3, 2, "cuda:1"));
    assert_eq!((experiment.checkpoint_seconds, experiment.chunk_bytes), (0.5, 1 << 20));
    assert_eq!((experiment.grid_seed, experiment.grid_seeds(), &experiment.seeds[..]), (4, vec![5], &[5][..]));
    assert_eq!((experiment.select.metric, experiment.select.mode), (Metric::TestLosses, SelectMode::Best));
    assert_eq!(experiment.pairs().len(), 4);
}

#[test]
fn wrong_flags_are_named_with_what_was_expected() {
    let kfac = ["--problem", "mnist_logreg", "--curv", "kfac"];
    for (arguments, parts) in [
        (&["--lr", "fast"][..], &["--lr", "expected a number", "`fast`"][..]),
        (&["--lr", "0"], &["--lr", "above 0"]),
        (&["--lr", "-1e-3"], &["--lr", "above 0"]),
        (&["--lr", "logspace(0,1,10001)"], &["--lr", "10000 points"]),
        (&["--damping", "nan"], &["--damping", "at least 0"]),
        (&["--lr", "1,1e39"], &["--lr", "single precision", "3.4e38"]),
        (&["--lr", "logspace(-60, -50, 3)"], &["--lr", "single precision"]),
        (&["--damping", "1e-46"], &["--damping", "single precision"]),
        (&["--damping=-1"], &["--damping", "at least 0"]),
        (&["--lr", "logspace(-4,0,200)", "--damping", "logspace(-4,0,51)"], &["200", "51", "10000"]),
        (&["--epochs", "-1"], &["--epochs"]),
        (&["--batch-size", "0"], &["--batch-size", "1"]),
        (&["--train-size", "0"], &["--train-size", "1"]),
        (&["--averaging", "mean"], &["--averaging", "cumulative"]),
        (&["--mc-samples", "0"], &["--mc-samples"]),
        (&["--seeds", "1,x"], &["--seeds", "`x`"]),
        (&["--seeds", "1,1"], &["--seeds", "1 twice"]),
        (&["--jobs", "0"], &["--jobs"]),
        (&["--threads", "0"], &["--threads"]),
        (&["--device", "gpu"], &["--device", "cuda:INDEX"]),
        (&["--launcher", "pbs"], &["--launcher", "slurm"]),
        (&["--slurm", "=x"], &["--slurm", "key=value"]),
        (&["--slurm", "partition=gpu"], &["--slurm", "--launcher slurm"]),
        (&["--slurm", "wrap=ls"], &["--slurm", "`wrap`", "leave it out"]),
        (&["--slurm", "time=10,array=0-3"], &["--slurm", "`array`", "array_limit=N"]),
        (&["--slurm", "o=mine.log"], &["--slurm", "`output`", "task-N.log"]),
        (&["--slurm", "no_requeue"], &["--slurm", "`no-requeue`"]),
        (&["--slurm", "chd=/"], &["--slurm", "`chd`", "`chdir`"]),
        (&["--slurm", "array_limit=0"], &["--slurm", "array_limit", "from 1"]),
        (&["--checkpoint-seconds", "0"], &["--checkpoint-seconds", "above 0"]),
        (&["--format", "xml"], &["--format", "json"]),
        (&["--set", "epochs"], &["epochs", "KEY=VALUE"]),
        (&["--optimizer", "adma"], &["--optimizer", "did you mean adam"]),
    ] {
        let error = flag_error(&[&kfac[..], arguments].concat());
        for part in parts {
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }
    assert!(flag_error(&["--problem", "mnist_logreg", "--curv", "adam"]).contains("--curv"));
    assert!(flag_error(&["--problem", "mnist_logerg", "--curv", "kfac"]).contains("did you mean `mnist_logreg`"));
    assert!(flag_error(&["--problem", "mnist_logreg", "--optimizer", "adam", "--damping", "1"]).contains("damping"));
    assert!(flag_error(&["--curv", "kfac"]).contains("--problem"));
    assert!(flag_error(&["--problem", "mnist_logreg"]).contains("--curv"));
    assert!(flag_error(&["a.toml", "--experiment", "b.toml"]).contains("--experiment"));
    assert!(flag_error(&["no/such/study.toml"]).contains("no/such/study.toml"));
}

#[test]
fn train_wants_one_setting() {
    let single = ["--problem", "mnist_logreg", "--curv", "kfac", "--lr", "0.01", "--damping", "0.01"];
    assert!(resolved(&single).single().is_ok());
    let error = |arguments: &[&str]| resolved(arguments).single().unwrap_err().to_string();
    assert!(error(&single[..6]).contains("--damping"));
    assert!(error(&single[..4]).contains("--lr"));
    assert!(error(&["--problem", "mnist_logreg,mnist_mlp", "--curv", "kfac"]).contains("2 problem(s)"));
}

#[test]
fn where_a_loss_has_no_accuracy_the_loss_decides() {
    let folder = Folder::new();
    let net = |loss: &str| {
        format!(
            "name = \"{loss}\"\nloss = \"{loss}\"\nbatch_size = 8\nepochs = 1\n\
             dataset = {{ synthetic = {{ shape = [4], classes = 3, train = 60, test = 30 }} }}\n\
             [[layers]]\ntype = \"linear\"\nout_features = 3\n"
        )
    };
    let (mse, ce) = (folder.write("mse.toml", &net("mse")), folder.write("ce.toml", &net("cross_entropy")));
    let metric = |problems: &str| resolved(&["--problem", problems, "--optimizer", "adam"]).select.metric;
    assert_eq!(metric(&ce), Metric::ValidAccuracies);
    assert_eq!(metric(&mse), Metric::ValidLosses);
    assert_eq!(metric(&format!("{ce},{mse}")), Metric::ValidLosses);
    let by = |metric: &str| {
        let select = format!("select={{ metric = \"{metric}\" }}");
        flags(&["--problem", &mse, "--optimizer", "adam", "--set", &select]).resolve()
    };
    assert_eq!(by("test_losses").unwrap().select.metric, Metric::TestLosses);
    assert!(by("test_accuracies").unwrap_err().to_string().contains("expected train_losses"));
}

#[test]
fn keys_of_set_are_known_however_they_are_written() {
    for set in ["name=x", "name = \"x\"", "\"name\" = \"x\""] {
        assert!(flags(&["--set", set]).sets("name"), "{set}");
    }
    assert!(!flags(&["--set", "names=x"]).sets("name"));
}

#[test]
fn an_optimizer_can_be_for_some_of_the_problems() {
    let folder = Folder::new();
    let study = folder.write(
        "study.toml",
        "problem = [\"mnist_logreg\", \"fmnist_2c2d\"]\n[[optimizer]]\nname = \"kfra\"\nproblem = \"mnist_logreg\"\n\
         [[optimizer]]\nname = \"kfac\"\nproblem = [\"mnist_logreg\"]\nlearning_rate = 1\n\
         [[optimizer]]\nname = \"kfac\"\nproblem = [\"fmnist_2c2d\"]\nlearning_rate = 2\n",
    );
    let experiment = resolved(&[&study]);
    let pairs: Vec<_> = experiment
        .pairs()
        .into_iter()
        .map(|(problem, grid)| (problem.name.clone(), grid.name.as_str(), grid.learning_rates[0]))
        .collect();
    let (logreg, two) = ("mnist_logreg".to_owned(), "fmnist_2c2d".to_owned());
    assert_eq!(pairs, [(logreg.clone(), "kfra", 1e-4), (logreg, "kfac", 1.0), (two, "kfac", 2.0)]);
}

#[test]
fn what_is_resolved_reads_back_equal() {
    let folder = Folder::new();
    let net = NET.replace("\"mnist\"", "{ safetensors = \"own.safetensors\" }");
    let net = folder.write("net.toml", &format!("{net}bias = false\nweight_init = {{ truncated_normal = 0.03 }}\n"));
    let problems = format!("{},{net}", built_in_names().join(","));
    let arguments = [
        "--problem",
        &problems,
        "--curv",
        "kfac,kfra",
        "--optimizer",
        "adam",
        "--set",
        "kfra_aliasing=true",
        "--train-size",
        "9",
        "--set",
        "l2=1e-30",
        "--averaging",
        "ema:0.1",
    ];
    let configs: Vec<PathBuf> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("configs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let experiments = configs.iter().map(|path| resolved(&[path.to_str().unwrap()])).chain([resolved(&arguments)]);
    for experiment in experiments {
        let text = experiment.to_toml().unwrap();
        let path = folder.write("elsewhere/copy.toml", &text);
        let again = resolved(&[&path]);
        // As texts first, whose difference a person can read.
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        for (line, other) in lines(&text).iter().zip(lines(&again.to_toml().unwrap())) {
            assert_eq!(line, &other);
        }
        assert!(again == experiment, "{} does not read back equal", experiment.name);
        for problem in &experiment.problems {
            let json = serde_json::to_string(problem).unwrap();
            assert_eq!(serde_json::from_str::<definition::ProblemDefinition>(&json).unwrap(), *problem);
        }
    }
}

#[test]
fn the_documented_defaults_are_those_that_hold() {
    for layer in LAYER_TYPES.iter() {
        let options = layer.options();
        let required = options.iter().filter(|option| option.default.is_none());
        let value = |name: &str| match (layer.name, name) {
            ("pad", "padding") => "[1, 1]",
            (_, "index") => "\"0\"",
            (_, "dims" | "shape") => "[0, 1]",
            _ => "3",
        };
        let required: String = required.map(|option| format!("{} = {}\n", option.name, value(&option.name))).collect();
        let inputs = if layer.is_merge { "[\"input\", \"input\"]" } else { "[\"input\"]" };
        let parse = |options: &str| {
            let head = "name = \"n\"\ndataset = \"mnist\"\nloss = \"mse\"\n[[layers]]\n";
            let text = format!("{head}type = \"{}\"\n{required}inputs = {inputs}\n{options}", layer.name);
            definition::parse(&Source::built_in("n.toml", &text)).unwrap_or_else(|error| panic!("{error}"))
        };
        for option in options {
            let Some(default) = &option.default else { continue };
            // A default that follows from the input is told in words.
            if default.starts_with("the ") {
                continue;
            }
            let default = if default == "kernel_size" { "3" } else { default };
            assert_eq!(parse(""), parse(&format!("{} = {default}\n", option.name)), "{}.{}", layer.name, option.name);
        }
        assert_eq!(parse("").layers[0].kind(), layer.name);
    }
}

pub fn settings(arguments: &[&str]) -> RunSettings {
    let experiment = resolved(arguments);
    let (problem, grid) = experiment.single().unwrap();
    let facts = DataFacts { fingerprint: "mnist".to_owned(), weights: None, default_valid_size: 10_000 };
    experiment.grid(problem, grid, &facts).settings.remove(0)
}

#[test]
fn two_values_are_no_single_setting() {
    let base = ["--problem", "mnist_logreg", "--curv", "kfac"];
    let refusal = |more: [&str; 4]| match resolved(&[&base[..], &more].concat()).single() {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    assert_eq!(refusal(["--lr", "0.1", "--damping", "1"]), "");
    assert!(refusal(["--lr", "0.1,0.2", "--damping", "1"]).contains("--lr has 2 values"));
    assert!(refusal(["--lr", "0.1", "--damping", "1,2"]).contains("--damping has 2 values"));
}

#[test]
fn a_folder_depends_on_what_changes_the_numbers_and_on_nothing_else() {
    let base = ["--problem", "mnist_logreg", "--curv", "diag_ggn", "--lr", "1e-2", "--damping", "1e-3"];
    let folder = |more: &[&str]| settings(&[&base[..], more].concat()).folder();
    assert!(!settings(&base).optimizer.kfra_aliasing, "KFRA alone has that option");
    let first = folder(&[]);
    let (prefix, hash) = first.rsplit_once("__").unwrap();
    assert_eq!(prefix, "lr-0.01__damping-0.001");
    assert!(
        hash.len() == 8 && hash.chars().all(|digit| digit.is_ascii_digit() || ('a'..='f').contains(&digit)),
        "{hash}"
    );
    for same in [
        &["--seed", "7"][..],
        &["--jobs", "2"],
        &["--mc-samples", "3"],
        &["--checkpoint-seconds", "1"],
        &["--set", "grid_seed=1"],
        &["--set", "select.mode=best"],
        &["--set", "name=other"],
        &["--set", "valid_size=10000"],
        &["--epochs", "50", "--batch-size", "128", "--set", "l2=-0.0"],
        &["--runs-dir", "elsewhere"],
    ] {
        assert_eq!(folder(same), first, "{same:?}");
    }
    let mut others: Vec<String> = [
        &["--epochs", "2"][..],
        &["--batch-size", "64"],
        &["--train-size", "1000"],
        &["--averaging", "none"],
        &["--averaging", "ema:0.95"],
        &["--threads", "2"],
        &["--device", "cuda"],
        &["--set", "l2=0.001"],
        &["--set", "augment=true"],
        &["--set", "reduction=sum"],
        &["--set", "loss=mse"],
        &["--set", "valid_size=5000"],
        &["--set", "chunk_bytes=1000"],
        &["--problem", "mnist_mlp"][..],
    ]
    .iter()
    .map(|more| if more[0] == "--problem" { settings(&[more, &base[2..]].concat()).folder() } else { folder(more) })
    .collect();
    others.push(first);
    let count = others.len();
    others.sort();
    others.dedup();
    assert_eq!(others.len(), count, "two different settings share a folder");
    // Which optimizer it is is the folder above, and what one does not use does not matter to it.
    let adam = |more: &[&str]| {
        settings(&[&["--problem", "mnist_logreg", "--optimizer", "adam", "--lr", "1e-5"], more].concat()).folder()
    };
    assert!(adam(&[]).starts_with("lr-0.00001__"), "{}", adam(&[]));
    assert_eq!(adam(&["--set", "chunk_bytes=1000"]), adam(&[]));
    assert_eq!(folder(&["--device", "cuda:1"]), folder(&["--device", "cuda"]));
}

#[test]
fn settings_read_back_equal_to_the_last_bit() {
    for learning_rate in ["0.1", "1e-30", "0.00029763514416313193", "2.3357214690901213e-05", "1e30"] {
        let arguments = ["--problem", "cifar100_allcnnc", "--optimizer", "momentum", "--lr", learning_rate];
        let settings = settings(&arguments);
        let json = serde_json::to_string_pretty(&settings).unwrap();
        let back: RunSettings = serde_json::from_str(&json).unwrap();
        assert_eq!(back, settings);
        assert_eq!(back.folder(), settings.folder());
        assert!(settings.folder().len() < 60, "{}", settings.folder());
    }
}
