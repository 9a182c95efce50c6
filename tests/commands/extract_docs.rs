//! The example of docs/extract.md: its commands and names hold, and where Python has torch it runs.

use std::path::{Path, PathBuf};
use std::process::Command;

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
