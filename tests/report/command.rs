//! `report`: its files' forms, figures, studies that are not finished, DeepOBS's files.

use std::path::Path;

use crate::report_support::write_study;
use backpack_run::bench::Row;
use backpack_run::report::results::Results;
use backpack_run::report::{Options, bench, report, write_bench_files};

pub fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

#[test]
fn tables_stay_as_they_are() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    report(&folder, &Options::default()).unwrap();
    insta::assert_snapshot!(read(folder.join("tables/settings.tex")), @r"
    % The chosen settings: learning rate α, damping λ, and whether they lie on the grid's edge.
    % needs \usepackage{booktabs}
    \begin{tabular}{lllll}
    \toprule
    problem & optimizer & $\alpha$ & $\lambda$ & place in the grid \\
    \midrule
    p & KFAC & 0.1 & 0.01 & damping low \\
    p & Momentum & 0.01 & - & interior \\
    \bottomrule
    \end{tabular}
    ");
    insta::assert_snapshot!(read(folder.join("tables/final.md")), @"
    Results at the last epoch: median [lower, upper quartile] over n seeds.

    | problem | optimizer | test loss | train loss | test accuracy | train accuracy | n | diverged |
    | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
    | p | KFAC | 0.5800 [0.5750, 0.5850] | 0.5800 [0.5750, 0.5850] | 0.9200 [0.9150, 0.9250] | 0.9200 [0.9150, 0.9250] | 3 | 0 |
    | p | Momentum | 0.6000 [0.6000, 0.6000] | 0.6000 [0.6000, 0.6000] | 0.9000 [0.9000, 0.9000] | 0.9000 [0.9000, 0.9000] | 3 | 0 |
    | p | Adam | 0.5800 [0.5750, 0.5900] | 0.5800 [0.5750, 0.5900] | 0.9200 [0.9100, 0.9250] | 0.9200 [0.9100, 0.9250] | 3 | 0 |
    ");
}

/// Every file of figures/ is what its ending says.
fn assert_figures(folder: &Path, stems: &[&str]) {
    for stem in stems {
        let svg = read(folder.join(format!("{stem}.svg")));
        let document = roxmltree::Document::parse(&svg).unwrap_or_else(|error| panic!("{stem}.svg: {error}"));
        let names: Vec<&str> = document.descendants().map(|node| node.tag_name().name()).collect();
        assert!(names.contains(&"path") && names.contains(&"title"), "{stem}.svg");
        assert!(!names.contains(&"text"), "{stem}.svg needs a font");
        let png = std::fs::read(folder.join(format!("{stem}.png"))).unwrap();
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.ends_with(b"IEND\xaeB`\x82"), "{stem}.png");
        let pdf = std::fs::read(folder.join(format!("{stem}.pdf"))).unwrap();
        let holds = |part: &[u8]| pdf.windows(part.len()).any(|window| window == part);
        assert!(pdf.starts_with(b"%PDF-") && holds(b"%%EOF"), "{stem}.pdf");
        assert!(holds(b"/FontFile"), "{stem}.pdf carries no font");
    }
}

#[test]
fn figures_are_well_formed() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    assert_eq!(report(&folder, &Options::default()).unwrap().figures.len(), 5);
    let stems = ["curves_p_epochs", "curves_p_seconds", "grid_p", "sensitivity_p", "budget_p"];
    assert_figures(&folder.join("figures"), &stems);
}

#[test]
fn seconds_are_logarithmic_where_one_is_much_slower() {
    use backpack_run::report::figures::figures;
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    let seconds = |results: &Results| {
        let all = figures(results, None);
        all.into_iter().find(|figure| figure.stem == "curves_p_seconds").unwrap().svg
    };
    let mut results = Results::read(&folder).unwrap();
    assert!(!seconds(&results).contains("in s (log)"));
    for row in results.seeds.iter_mut().filter(|row| row.optimizer == "KFAC") {
        row.train_seconds = row.train_seconds.map(|seconds| 10.0 * seconds);
    }
    let svg = seconds(&results);
    assert_eq!(svg.matches("training time in s (log)").count(), 2);
    // Time 0 has no place there: every line begins within its panel, the left one from 48.
    let starts: Vec<f64> =
        svg.split("<polyline points=\"").skip(1).map(|rest| rest.split(',').next().unwrap().parse().unwrap()).collect();
    assert_eq!(starts.len(), 12);
    assert!(starts.iter().all(|x| (48.0..460.0).contains(x)), "{starts:?}");
}

#[test]
fn a_bench_has_overhead_figures() {
    let root = crate::support::temporary_folder();
    let csv = root.path().join("bench.csv");
    let mut text =
        "figure,problem,quantity,batch_size,threads,rounds,gradient_seconds,seconds,ratio,ratio_low,ratio_high,\
                    peak_bytes\n"
            .to_owned();
    for (name, ratio) in [("batch_grad", 1.4), ("kflr", 6.5), ("diag_ggn", 102.0)] {
        text.push_str(&format!(
            "6,p,{name},64,2,20,0.1,{},{ratio},{},{},1000\n",
            0.1 * ratio,
            ratio * 0.9,
            ratio * 1.1
        ));
        text.push_str(&format!(
            "3,p,{name},8,2,20,0.1,{},{ratio},,,\n3,p,{name},16,2,20,0.1,0.1,1,1,1,\n",
            0.1 * ratio
        ));
    }
    std::fs::write(&csv, text).unwrap();
    let written = write_bench_files(&csv).unwrap();
    assert_eq!(written.figures.len(), 2);
    assert_figures(&root.path().join("figures"), &["overhead_6_p", "overhead_3_p"]);
    let table = read(root.path().join("tables/overhead.md"));
    assert!(table.contains("| p | 6 | kflr | 64 | 2 | 20 | 6.50 | 5.85 | 7.15 |\n"), "{table}");
    assert!(!table.contains("paper"), "{table}");
}

#[test]
fn an_interval_of_no_width_is_drawn_without_a_warning() {
    let root = crate::support::temporary_folder();
    let csv = root.path().join("bench.csv");
    let rows = "steps,p,kfac,8,1,1,0.1,0.2,2,2,2,\nsteps,p,adam,8,1,1,0.1,0.1,1,1,1,\n";
    std::fs::write(&csv, format!("{}\n{rows}", Row::HEADER.join(","))).unwrap();
    let output =
        crate::support::program().args(["report", "--bench"]).arg(&csv).env("RUST_LOG", "warn").assert().success();
    assert_eq!(String::from_utf8_lossy(&output.get_output().stderr), "");
    assert_figures(&root.path().join("figures"), &["overhead_steps_p"]);
}

#[test]
fn the_papers_ratios_stand_beside_ours() {
    let root = crate::support::temporary_folder();
    let csv = root.path().join("bench.csv");
    let mut text = format!("{}\n", Row::HEADER.join(","));
    for (figure, problem, quantity, batch_size) in [
        ("3", "cifar10_3c3d", "loop", 8),
        ("3", "cifar10_3c3d", "loop", 64),
        ("3", "cifar10_3c3d", "grad", 8),
        ("8", "cifar100_allcnnc", "kflr", 16),
        ("8", "cifar100_allcnnc", "grad", 16),
        ("steps", "cifar10_3c3d", "kfac", 128),
    ] {
        text += &format!("{figure},{problem},{quantity},{batch_size},2,9,0.1,0.2,2.0,1.9,2.1,1000\n");
    }
    std::fs::write(&csv, text).unwrap();
    write_bench_files(&csv).unwrap();
    let table = read(root.path().join("tables/overhead.md"));
    for row in [
        "| cifar10_3c3d | 3 | loop | 64 | 2 | 9 | 2.00 | 1.90 | 2.10 | 8.57 |",
        "| cifar10_3c3d | 3 | grad | 8 | 2 | 9 | 2.00 | 1.90 | 2.10 | - |",
        "| cifar100_allcnnc | 8 | kflr | 16 | 2 | 9 | 2.00 | 1.90 | 2.10 | 23.1 |",
        "| cifar10_3c3d | steps | kfac | 128 | 2 | 9 | 2.00 | 1.90 | 2.10 | - |",
    ] {
        assert!(table.contains(row), "{row}: {table}");
    }
    assert!(table.contains("| paper (GPU) |") && table.contains("data loading"), "{table}");
    // Open marks at every size of the paper's between ours (8, 16, 32, 64), an open bar, and what they are in words.
    let rows = bench::read(&csv).unwrap();
    let figures = backpack_run::report::figures::overhead(&rows);
    let of = |stem: &str| figures.iter().find(|figure| figure.stem == stem).unwrap().svg.as_str();
    let lines = of("overhead_3_cifar10_3c3d");
    assert_eq!(lines.matches("fill=\"#fff\" stroke=\"#0072b2\"").count(), 4);
    let bars = of("overhead_8_cifar100_allcnnc");
    assert!(bars.contains(">23.1</text>"), "{bars}");
    let caption = |stem: &str| figures.iter().find(|figure| figure.stem == stem).unwrap().caption.as_str();
    for stem in ["overhead_3_cifar10_3c3d", "overhead_8_cifar100_allcnnc"] {
        assert!(caption(stem).contains("of a GPU") && caption(stem).contains("data loading"), "{}", caption(stem));
    }
    assert!(!caption("overhead_steps_cifar10_3c3d").contains("GPU"));
    // The page of a study takes the table in.
    let folder = write_study(root.path());
    report(&folder, &Options { bench: rows, ..Options::default() }).unwrap();
    assert!(read(folder.join("index.html")).contains("<th scope=\"col\" class=\"number\">paper (GPU)</th>"));
    assert!(folder.join("tables/overhead.tex").is_file());
}

#[test]
fn the_page_needs_nothing_beside_it() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    report(&folder, &Options::default()).unwrap();
    let page = read(folder.join("index.html"));
    for outside in ["http:", "https:", "//cdn", "@import", "src=", "<link rel=\"stylesheet", "url(h"] {
        assert!(!page.contains(outside), "the page holds {outside}");
    }
    assert_eq!(page.matches("</script>").count(), 2, "a text of the study ends the script");
    assert_eq!(page.matches("<figure data-metric=").count(), 8);
    assert_eq!(page.matches("<figure data-figure=").count(), 3);
    assert_eq!(page.matches("tabindex=\"0\"").count(), 9); // eight panels and the settings
    // Every link within the page leads somewhere.
    let targets: Vec<&str> = page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(targets.len() > 20, "{targets:?}");
    for target in targets {
        assert!(page.contains(&format!(" id=\"{target}\"")), "{target}");
    }
}

#[test]
fn a_study_that_is_still_at_it_is_reported() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    for missing in ["curves.csv", "final.csv", "grid.csv"] {
        std::fs::remove_file(folder.join(missing)).unwrap();
    }
    std::fs::write(folder.join("meta.json"), "{\"schema_version\": 1, \"na").unwrap();
    // The last line's last number is cut short; what is left of it is still a number.
    let seeds = read(folder.join("seeds.csv"));
    std::fs::write(folder.join("seeds.csv"), &seeds[..seeds.len() - 2]).unwrap();
    let report_ = report(&folder, &Options::default()).unwrap();
    assert_eq!(report_.evidence[0].n, 3);
    assert!(report_.evidence.iter().any(|pair| pair.second == "Adam" && pair.n == 2));
    assert!(report_.notes.iter().any(|note| note.contains("seeds.csv is still being written")), "{:?}", report_.notes);
    // One seed alone is no evidence, and said to be none.
    let one: Vec<&str> = seeds.lines().filter(|l| l.contains("seed,") || l.contains(",0,done")).collect();
    std::fs::write(folder.join("seeds.csv"), one.join("\n") + "\n").unwrap();
    let report_ = report(&folder, &Options::default()).unwrap();
    assert!(report_.evidence[0].sentence().ends_with("with one seed, which is no evidence."));
    // A malformed line elsewhere is an error.
    std::fs::write(folder.join("seeds.csv"), seeds.replacen(",done,1,", ",done,x,", 1)).unwrap();
    assert!(report(&folder, &Options::default()).unwrap_err().to_string().contains("seeds.csv"));
    for file in ["seeds.csv", "meta.json"] {
        std::fs::remove_file(folder.join(file)).unwrap();
    }
    assert!(report(&folder, &Options::default()).unwrap_err().to_string().contains("nothing to report"));
}

#[test]
fn a_report_without_a_reference_leaves_no_agreement_of_former_curves() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    let files = [
        "agreement.csv",
        "agreement_epochs.csv",
        "tables/agreement.md",
        "tables/agreement.tex",
        "tables/agreement.csv",
    ];
    std::fs::create_dir_all(folder.join("tables")).unwrap();
    files.iter().for_each(|name| std::fs::write(folder.join(name), "of former curves").unwrap());
    report(&folder, &Options::default()).unwrap();
    assert!(files.iter().all(|name| !folder.join(name).exists()));
}

#[test]
fn deepobs_runs_go_out_and_come_in() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    let exported = report(&folder, &Options { export_deepobs: true, ..Options::default() }).unwrap().exported;
    assert_eq!(exported, 9);
    let setting = "deepobs/p/KFACConstantDampingOptimizer/num_epochs__4__batch_size__64__damping__1.e-02__lr__1.e-01";
    let file = folder.join(setting).join("random_seed__0__1970-01-01-00-00-00.json");
    let run: serde_json::Value = serde_json::from_str(&read(&file)).unwrap();
    assert_eq!(run["testproblem"], "p");
    assert_eq!(run["test_accuracies"].as_array().unwrap().len(), 5);
    assert_eq!(run["optimizer_hyperparams"], serde_json::json!({"damping": 0.01, "lr": 0.1}));
    // Python's NaN is read as a run that broke off.
    let text = read(&file).replacen("1.4", "NaN", 1);
    std::fs::write(&file, text).unwrap();
    let deepobs = vec![folder.join("deepobs")];
    let pairs = report(&folder, &Options { deepobs, ..Options::default() }).unwrap().evidence;
    let same = pairs.iter().find(|p| p.first == "Momentum" && p.second == "Momentum (DeepOBS)").unwrap();
    assert_eq!((same.n, same.difference), (3, 0.0));
    assert!(read(folder.join("index.html")).contains("KFAC (DeepOBS)"));
}

#[test]
fn the_command_takes_names_and_folders() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    let run = |arguments: &[&str]| {
        let mut command = crate::support::program();
        command.arg("report").args(arguments).env("BACKPACK_RUN_RESULTS", root.path());
        command
    };
    // The page, what to beware of, and who leads.
    let output = run(&["small"]).env("COLUMNS", "80").assert().success();
    let text =
        String::from_utf8_lossy(&output.get_output().stdout).replace(&root.path().display().to_string(), "RESULTS");
    assert!(text.lines().skip(1).all(|line| line.chars().count() <= 80), "{text}");
    insta::assert_snapshot!(text, @"
    small: RESULTS/small/index.html (5 figures)
      p: KFAC has the highest median test accuracy, 0.9200.
        It was ahead of Momentum in three of three seeds, by +0.0100 to +0.0300; of
          Adam in two of three seeds, by -0.0100 to +0.0100.
        Three seeds cannot decide between this many optimizers, whatever the
          difference; that takes seven.
    ");
    let output = run(&["small", "--format", "json"]).assert().success();
    let printed: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(printed["schema_version"], 1);
    assert_eq!(printed["studies"][0]["evidence"].as_array().unwrap().len(), 6);
    assert_eq!(printed["studies"][0]["summary"][0]["optimizer"], "KFAC");
    run(&[folder.to_str().unwrap()]).assert().success();
    run(&[]).assert().success();
    run(&["other"]).assert().code(2);
    run(&["small", "--side-by-side", "small"]).assert().code(2);
    run(&["small", "--side-by-side", "../up"]).assert().code(2);
    run(&["small", "--reference", "no.csv"]).assert().code(2);
    run(&["small", "--deepobs", root.path().join("small/figures").to_str().unwrap()]).assert().code(2);
}

#[test]
fn studies_stand_side_by_side() {
    let root = crate::support::temporary_folder();
    let first = write_study(root.path());
    let second = root.path().join("second");
    std::fs::rename(&first, &second).unwrap();
    let meta = read(second.join("meta.json")).replace("\"small\"", "\"second\"");
    std::fs::write(second.join("meta.json"), meta).unwrap();
    write_study(root.path());
    let mut command = crate::support::program();
    command.args(["report", "small", "second", "--side-by-side", "both", "--format", "json"]);
    let output = command.env("BACKPACK_RUN_RESULTS", root.path()).assert().success();
    let printed: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let both = &printed["studies"][2];
    assert_eq!((&both["name"], &both["notes"]), (&"both".into(), &serde_json::json!([])));
    let names: Vec<&str> =
        both["summary"].as_array().unwrap().iter().map(|row| row["optimizer"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 6);
    assert!(names.contains(&"KFAC (small)") && names.contains(&"KFAC (second)"), "{names:?}");
    let pairs = both["evidence"].as_array().unwrap();
    assert_eq!(pairs.len(), 2 * 15);
    let same = pairs.iter().find(|pair| pair["first"] == "KFAC (small)" && pair["second"] == "KFAC (second)").unwrap();
    assert_eq!((&same["n"], &same["difference"]), (&3.into(), &0.0.into()));
    assert!(read(root.path().join("both/index.html")).contains("report small second --side-by-side both"));
    assert!(!root.path().join("both/seeds.csv").exists());
    // Everything on the page is there for other programs too.
    let file: serde_json::Value = serde_json::from_str(&read(root.path().join("both/report.json"))).unwrap();
    let points: usize =
        file["figures"].as_array().unwrap().iter().map(|figure| figure["points"].as_array().unwrap().len()).sum();
    assert_eq!(read(root.path().join("both/figures.csv")).lines().count(), 1 + points);
    assert!(points > 100, "{points}");
}

#[test]
fn the_first_table_is_sorted_and_tells_what_is_on_an_edge() {
    let root = crate::support::temporary_folder();
    let folder = write_study(root.path());
    let meta = read(folder.join("meta.json")).replace("\"edge\": \"interior\"", "\"edge\": \"learning_rate:highest\"");
    std::fs::write(folder.join("meta.json"), meta).unwrap();
    let made = report(&folder, &Options::default()).unwrap();
    let rows: Vec<(&str, f64)> =
        made.summary.iter().map(|row| (row.optimizer.as_str(), row.accuracy.as_ref().unwrap().median)).collect();
    // Of equal ones the first stays.
    assert_eq!(rows, [("KFAC", 0.92), ("Adam", 0.92), ("Momentum", 0.9)]);
    // Nine settings of which one broke off after an epoch; three of four epochs.
    let tuning = |place: usize| made.summary[place].tuning.as_ref().map(|tuning| (tuning.settings, tuning.epochs));
    assert_eq!([tuning(0), tuning(1), tuning(2)], [Some((9, 33)), None, Some((3, 12))]);
    assert_eq!(
        made.summary[0].setting,
        [("lr".to_owned(), "0.1".to_owned()), ("damping".to_owned(), "0.01".to_owned())]
    );
    assert_eq!((made.summary[0].edges.as_slice(), made.summary[0].baseline), (&["damping low".to_owned()][..], false));
    // Of the two on an edge, the baseline is warned of.
    assert_eq!(made.warnings.len(), 1);
    assert!(
        made.warnings[0].starts_with("Momentum on p: ") && made.warnings[0].contains("(lr high)"),
        "{:?}",
        made.warnings
    );
    assert!(
        read(folder.join("index.html")).find("class=\"notes\"").unwrap()
            < read(folder.join("index.html")).find("<main>").unwrap()
    );
    insta::assert_snapshot!(read(folder.join("tables/summary.md")), @"
    Medians over seeds at the last epoch, with their smallest and largest values (an interval needs six seeds). Best first; =: these seeds do not tell it from the best. Tuning: settings tried / epochs trained for it.

    | problem |  | optimizer | setting | test accuracy | test loss | time per epoch | tuning | on edge | seeds |
    | --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
    | p | ★ | KFAC | lr 0.1, damping 0.01 | 0.9200 [0.9100, 0.9300] | 0.5800 [0.5700, 0.5900] | 3 s | 9 / 33 | damping low | 3 |
    | p | = | Adam | lr 0.01 | 0.9200 [0.9000, 0.9300] | 0.5800 [0.5700, 0.6000] | 3 s | - | - | 3 |
    | p | = | Momentum | lr 0.01 | 0.9000 [0.9000, 0.9000] | 0.6000 [0.6000, 0.6000] | 3 s | 3 / 12 | lr high | 3 |
    ");
}
