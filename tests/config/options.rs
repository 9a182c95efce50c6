//! What files and the command line choose together: options of optimizers as lists, labels, and which problems an experiment
//! has.

use backpack_run::study::experiment::Experiment;

use crate::resolve::{Folder, NET, flags, resolved};

/// The values of an option of the optimizer at this place.
fn option(experiment: &Experiment, place: usize, key: &str) -> String {
    experiment.optimizers[place].values(key).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Tables, figures and the columns of CSV files bear it.
#[test]
fn a_label_is_one_line_that_is_not_too_long() {
    let folder = Folder::new();
    let resolve = |label: &str| {
        let label = serde_json::to_string(label).unwrap();
        let study =
            format!("problem = \"mnist_logreg\"\n[[optimizer]]\nname = \"sgd\"\nlearning_rate = 1\nlabel = {label}\n");
        flags(&[&folder.write("study.toml", &study)]).resolve()
    };
    for fits in ["x", "KFAC, batch", &"ä".repeat(60)] {
        assert_eq!(resolve(fits).unwrap().optimizers[0].title(), fits);
    }
    for refused in ["", " ", " x", "x ", "a\nb", &"x".repeat(61)] {
        let error = resolve(refused).unwrap_err().to_string();
        assert!(error.contains("a line of 1 to 60 characters"), "{refused:?}: {error}");
    }
}

#[test]
fn every_option_can_be_a_list_and_is_gridded() {
    let folder = Folder::new();
    let study = folder.write(
        "study.toml",
        r#"
        problem = "mnist_logreg"
        clip_norm = ["none", 1]
        [[optimizer]]
        name = "adamw"
        learning_rate = [0.1, 0.01]
        betas = [[0.9, 0.999], [0.8, 0.95]]
        weight_decay = "logspace(-2, 0, 3)"
        schedule = ["constant", { cosine = { warmup = 0.05 } }, { steps = { at = [0.5, 0.75], factor = 0.1 } }]
        [[optimizer]]
        name = "kfac"
        label = "KFAC, batch"
        learning_rate = 1
        damping = [1, 10]
        averaging = ["none", "ema:0.5"]
        mc_samples = [1, 4]
        kfac_approx = ["expand", "backpack"]
        [[optimizer]]
        name = "kfac"
        learning_rate = 1
        damping = 1
        "#,
    );
    let experiment = resolved(&[&study]);
    let counts: Vec<usize> = experiment.optimizers.iter().map(|grid| grid.count()).collect();
    assert_eq!(counts, [2 * 2 * 3 * 3 * 2, 2 * 2 * 2 * 2 * 2, 2]);
    let titles: Vec<&str> = experiment.optimizers.iter().map(|grid| grid.title()).collect();
    assert_eq!(titles, ["AdamW", "KFAC, batch", "KFAC"]);
    assert_eq!(option(&experiment, 0, "betas"), "[0.9, 0.999]; [0.8, 0.95]");
    assert_eq!(option(&experiment, 0, "weight_decay"), "0.01; 0.1; 1");
    assert_eq!(
        option(&experiment, 0, "schedule"),
        "constant; cosine(warmup 0.05, end 0); steps(at 0.5 0.75, factor 0.1)"
    );
    assert_eq!(option(&experiment, 1, "mc_samples"), "1; 4");
    assert_eq!(option(&experiment, 2, "clip_norm"), "none; 1");
    // Options are within the damping, the last one innermost.
    let settings = experiment.optimizers[1].settings();
    let shown: Vec<String> =
        settings[..6].iter().map(|s| format!("{} {} {:?}", s.averaging, s.label(), s.damping)).collect();
    assert!(shown[0].starts_with("none") && shown[0].contains("kfac_approx expand") && !shown[0].contains("clip"));
    assert!(shown[1].contains("clip_norm 1"), "{shown:?}");
    // What is resolved reads back equal.
    let text = experiment.to_toml().unwrap();
    assert_eq!(resolved(&[&folder.write("again.toml", &text)]), experiment);
}

#[test]
fn lists_on_the_command_line_and_what_momentum_is_meant_for() {
    let common = ["--problem", "mnist_logreg", "--set"];
    let with = |more: &[&str]| resolved(&[&common, more].concat());
    let experiment = with(&["momentum=0,0.9", "--optimizer", "momentum,muon", "--set", "nesterov=true,false"]);
    assert_eq!(
        (option(&experiment, 0, "momentum"), option(&experiment, 0, "nesterov")),
        ("0; 0.9".into(), "true; false".into())
    );
    assert_eq!(option(&experiment, 1, "momentum"), "0; 0.9");
    // Beside a curvature rule it is that one's, as it always was.
    let experiment = with(&["momentum=0.5", "--optimizer", "momentum,muon", "--curv", "diag_ggn"]);
    let values: Vec<String> = (0..3).map(|place| option(&experiment, place, "momentum")).collect();
    let names: Vec<&str> = experiment.optimizers.iter().map(|grid| grid.name.as_str()).collect();
    assert_eq!(
        (names, values),
        (vec!["diag_ggn", "momentum", "muon"], vec!["0.5".into(), "0.9".into(), "0.95".into()])
    );
    let experiment = with(&["betas=[0.8, 0.9]", "--optimizer", "adamw", "--set", "clip_norm=none"]);
    assert_eq!(
        (option(&experiment, 0, "betas"), option(&experiment, 0, "clip_norm")),
        ("[0.8, 0.9]".into(), "none".into())
    );
    for (set, expected) in [
        ("betas=0.9", "in brackets"),
        ("betas=[0.9]", "in brackets"),
        ("betas=[0.9,1.0]", "up to but not including 1"),
        ("clip_norm=0", "a number above 0"),
        ("schedule=linear", "unknown schedule"),
        ("schedule={ cosine = { warm = 0.1 } }", "did you mean `warmup`"),
        ("schedule={ steps = { at = [0.5, 0.2], factor = 0.1 } }", "ascending"),
        ("adjust_lr_fn=match", "unknown adjust_lr_fn"),
        ("ns_steps=0", "expected"),
    ] {
        let error = flags(&["--problem", "mnist_logreg", "--optimizer", "adamw,muon", "--set", set]).resolve();
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{set}: {error}");
    }
}

#[test]
fn a_problem_that_is_named_is_the_files_own() {
    let folder = Folder::new();
    let net = folder.write("nets/net.toml", NET);
    let text = "problem = [{ base = \"mnist_logreg\", epochs = 2 }, { base = \"mnist_logreg\", name = \"short\", epochs = 1 }, \
                \"nets/net.toml\"]\nbatch_size = 22\n[[optimizer]]\nname = \"adam\"\n";
    let study = folder.write("study.toml", text);
    let problems = |more: &[&str]| -> Vec<(String, usize, usize)> {
        let problems = resolved(&[&[study.as_str()], more].concat()).problems;
        problems.into_iter().map(|problem| (problem.name, problem.epochs, problem.batch_size)).collect()
    };
    let all = problems(&[]);
    assert_eq!(all, [("mnist_logreg".into(), 2, 22), ("short".into(), 1, 22), ("net".into(), 1, 22)]);
    assert_eq!(problems(&["--problem", "mnist_logreg"]), all[..1]);
    assert_eq!(problems(&["--problem", "net,short"]), [all[2].clone(), all[1].clone()]);
    assert_eq!(problems(&["--problem", &net]), all[2..]);
    assert_eq!(problems(&["--set", "problem=short"]), all[1..2]);
    let other = folder.write("other.toml", &NET.replace("\"net\"", "\"other\""));
    assert_eq!(problems(&["--problem", &format!("short,{other}")]), [all[1].clone(), ("other".into(), 1, 22)]);
    // What is written out in full is meant as it is written.
    let written = problems(&["--set", "problem={ base = \"mnist_logreg\", epochs = 7 }"]);
    assert_eq!(written, [("mnist_logreg".into(), 7, 22)]);
    let refused = |more: &[&str]| flags(&[&[study.as_str()], more].concat()).resolve().unwrap_err().to_string();
    for name in ["mnist_mlp", "nothing"] {
        for error in [refused(&["--problem", name]), refused(&["--set", &format!("problem={name}")])] {
            assert!(
                [name, "study.toml", "mnist_logreg, short, net"].iter().all(|part| error.contains(part)),
                "{error}"
            );
        }
    }
    assert!(refused(&["--problem", "shrot"]).contains("`short`"));
}
