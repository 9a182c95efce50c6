//! Which problems an experiment has where a file names some and the command line others.

use super::resolve::{Folder, NET, flags, resolved};

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
