//! scripts/setup.sh takes a libtorch that is there, and refuses a wrong one with what to do.
#![cfg(unix)]

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;

/// setup.sh with `LIBTORCH` set.
fn setup(libtorch: &Path) -> Command {
    let mut command = Command::new("bash");
    command.arg(crate::support::repository("scripts/setup.sh"));
    command.env("LIBTORCH", libtorch).env_remove("LIBTORCH_USE_PYTORCH");
    command
}

/// A folder that looks like a libtorch as far as setup.sh looks, but for its version.
fn folder_without_version() -> tempfile::TempDir {
    let folder = crate::support::temporary_folder();
    fs::create_dir_all(folder.path().join("lib")).unwrap();
    fs::create_dir_all(folder.path().join("include")).unwrap();
    fs::write(folder.path().join("lib/libtorch_cpu.so"), "").unwrap();
    folder
}

fn accepts(folder: &Path) {
    let line = format!("export LIBTORCH={}\n", folder.display());
    setup(folder).assert().success().stdout(line).stderr(predicate::str::contains("using libtorch 2.13.0"));
}

#[test]
fn takes_an_official_archive() {
    let folder = folder_without_version();
    fs::write(folder.path().join("build-version"), "2.13.0+cpu\n").unwrap();
    accepts(folder.path());
}

#[test]
fn takes_an_installed_torch_by_its_version_file() {
    let folder = folder_without_version();
    fs::write(folder.path().join("version.py"), "__all__ = ['__version__']\n__version__ = '2.13.0+cu130'\n").unwrap();
    accepts(folder.path());
}

#[test]
fn takes_a_build_that_has_only_headers_to_go_by() {
    let folder = folder_without_version();
    let header = folder.path().join("include/torch/csrc/api/include/torch/version.h");
    fs::create_dir_all(header.parent().unwrap()).unwrap();
    let text = "#pragma once\n#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 13\n#define TORCH_VERSION_PATCH 0\n\
                #define TORCH_VERSION \"2.13.0\"\n";
    fs::write(&header, text).unwrap();
    accepts(folder.path());
    fs::write(&header, text.replace("MINOR 13", "MINOR 12")).unwrap();
    setup(folder.path()).assert().code(3).stdout("").stderr(predicate::str::contains("libtorch 2.12.0"));
}

#[test]
fn refuses_another_version() {
    let folder = folder_without_version();
    fs::write(folder.path().join("build-version"), "2.5.1+cpu\n").unwrap();
    let says_all = predicate::str::contains("libtorch 2.5.1")
        .and(predicate::str::contains("2.13.0 is needed"))
        .and(predicate::str::contains("unset it"));
    setup(folder.path()).assert().code(3).stdout("").stderr(says_all);
}

#[test]
fn refuses_a_folder_that_is_no_libtorch() {
    let folder = crate::support::temporary_folder();
    let missing = folder.path().join("missing");
    setup(&missing).assert().code(3).stdout("").stderr(predicate::str::contains("is no folder"));
    setup(folder.path()).assert().code(3).stdout("").stderr(predicate::str::contains("neither build-version"));
    fs::write(folder.path().join("build-version"), "2.13.0\n").unwrap();
    setup(folder.path()).assert().code(3).stdout("").stderr(predicate::str::contains("no lib/libtorch_cpu"));
}

#[test]
fn an_odd_path_survives_the_shell() {
    let folder = folder_without_version();
    let odd = folder.path().join("it's a $folder");
    fs::create_dir(&odd).unwrap();
    fs::rename(folder.path().join("lib"), odd.join("lib")).unwrap();
    fs::write(odd.join("build-version"), "2.13.0\n").unwrap();
    let line = setup(&odd).assert().success().get_output().stdout.clone();
    let script = format!("{}printf %s \"$LIBTORCH\"", String::from_utf8(line).unwrap());
    Command::new("bash").arg("-c").arg(script).assert().success().stdout(odd.display().to_string());
}

#[test]
fn says_which_tool_is_missing() {
    let folder = folder_without_version();
    fs::write(folder.path().join("build-version"), "2.13.0\n").unwrap();
    setup(folder.path()).env("CXX", "no-such-compiler").assert().code(3).stderr(
        predicate::str::contains("no C++ compiler (no-such-compiler)").and(predicate::str::contains("apt-get")),
    );
}
