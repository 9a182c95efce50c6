//! The cache of libtorch: whole or not used, whatever happened to it or to the download.
//!
//! pip itself fetches here, from a folder of tiny wheels instead of the network.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use assert_cmd::Command;
use predicates::prelude::*;
use tempfile::TempDir;

/// Writes three small wheels in the layout of the real ones, and a requirements file with their hashes.
const MAKE_WHEELS: &str = r#"
import hashlib, pathlib, platform, sys, zipfile
folder = pathlib.Path(sys.argv[1])
machine = platform.machine()
wheels = {
    f"torch-2.13.0-cp311-cp311-manylinux_2_28_{machine}.whl": {
        "torch/lib/libtorch_cpu.so": "cpu" * 1000,
        "torch/lib/libtorch_cuda.so": "cuda",
        "torch/lib/libtorch_python.so": "python",
        "torch/lib/libtorch.so": "needs cuda",
        "torch/lib/libc10.so": "c10",
        "torch/lib/libc10_cuda.so": "c10 cuda",
        "torch/lib/libgomp.so.1": "gomp",
        "torch/include/ATen/ATen.h": "header",
        "torch/nn/functional.py": "python",
    },
    f"nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_{machine}.whl": {"nvidia/cu13/lib/libcudart.so.13": "cudart"},
    f"nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_{machine}.whl": {"nvidia/cu13/lib/libcupti.so.13": "cupti"},
}
lines = []
for wheel, files in wheels.items():
    name, version, python, abi, tag = wheel[:-4].split("-")
    info = f"{name}-{version}.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {python}-{abi}-{tag}\n"
    files[f"{info}/RECORD"] = ""
    with zipfile.ZipFile(folder / wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    digest = hashlib.sha256((folder / wheel).read_bytes()).hexdigest()
    lines.append(f"{name.replace('_', '-')}=={version} \\\n    --hash=sha256:{digest}\n")
(folder / "requirements.txt").write_text("".join(lines))
"#;

/// Wheels and a cache folder of one test.
struct Place {
    wheels: TempDir,
    cache: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Place { wheels: crate::support::temporary_folder(), cache: crate::support::temporary_folder() };
        Command::new("python3").arg("-c").arg(MAKE_WHEELS).arg(place.wheels.path()).assert().success();
        place
    }

    fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new("python3");
        command.arg(crate::support::repository("scripts/libtorch.py")).arg("cached");
        command.arg("--requirements").arg(self.wheels.path().join("requirements.txt"));
        command.env("BACKPACK_RUN_CACHE", self.cache.path());
        command.env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", self.wheels.path());
        command
    }

    /// Runs the script to its good end; gives the folder that it prints, and what it says.
    fn fetch(&self) -> (PathBuf, String) {
        let output = self.command().output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        (PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end()), said)
    }

    /// What lies in the cache, apart from the lock.
    fn entries(&self) -> Vec<String> {
        let names = fs::read_dir(self.cache.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| name != "libtorch.lock").collect()
    }

    fn wheel(&self, prefix: &str) -> PathBuf {
        let mut paths = fs::read_dir(self.wheels.path()).unwrap().map(|entry| entry.unwrap().path());
        paths.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).unwrap()
    }
}

fn assert_whole(libtorch: &Path) {
    assert_eq!(fs::read_to_string(libtorch.join("build-version")).unwrap(), "2.13.0\n");
    assert_eq!(fs::read_to_string(libtorch.join("lib/libtorch.so")).unwrap(), "INPUT(-ltorch_cpu)\n");
    assert_eq!(fs::read_to_string(libtorch.join("lib/libtorch_cpu.so")).unwrap(), "cpu".repeat(1000));
    assert!(libtorch.join("lib/libgomp.so.1").is_file() && libtorch.join("include/ATen/ATen.h").is_file());
    for library in ["libcudart.so.13", "libcupti.so.13"] {
        assert!(libtorch.join("../nvidia/cu13/lib").join(library).is_file());
    }
}

#[test]
fn keeps_the_part_for_the_cpu_and_finds_it_again() {
    let place = Place::new();
    let (libtorch, said) = place.fetch();
    assert!(said.contains("fetching libtorch 2.13.0"), "{said}");
    assert_whole(&libtorch);
    for left_out in ["lib/libtorch_cuda.so", "lib/libtorch_python.so", "lib/libc10_cuda.so", "nn"] {
        assert!(!libtorch.join(left_out).exists(), "{left_out}");
    }
    assert_eq!(place.entries().len(), 1, "only the unpacked libtorch stays: {:?}", place.entries());
    fs::remove_file(place.wheel("torch")).unwrap();
    let (again, said) = place.fetch();
    assert_eq!(again, libtorch);
    assert!(said.contains("from an earlier download"), "{said}");
}

/// What the script is to say, and the damage done to the folder that `LIBTORCH` names.
type Damage = (&'static str, fn(&Path));

#[test]
fn a_damaged_cache_is_noticed_and_replaced() {
    let damages: [Damage; 4] = [
        ("libtorch_cpu.so has changed", |libtorch| {
            let path = libtorch.join("lib/libtorch_cpu.so");
            let mut bytes = fs::read(&path).unwrap();
            bytes[1234] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("ATen.h", |libtorch| fs::remove_file(libtorch.join("include/ATen/ATen.h")).unwrap()),
        ("libcudart.so.13 has changed", |libtorch| {
            fs::write(libtorch.join("../nvidia/cu13/lib/libcudart.so.13"), "cud").unwrap();
        }),
        ("no readable manifest.json", |libtorch| {
            fs::write(libtorch.join("../manifest.json"), "{\"files\": {").unwrap()
        }),
    ];
    let place = Place::new();
    let (libtorch, _) = place.fetch();
    for (expected, damage) in damages {
        damage(&libtorch);
        let (_, said) = place.fetch();
        assert!(said.contains("is damaged") && said.contains(expected), "{expected}: {said}");
        assert_whole(&libtorch);
        assert_eq!(place.entries().len(), 1, "{:?}", place.entries());
    }
}

#[test]
fn what_a_killed_setup_left_behind_is_used_or_cleared() {
    let place = Place::new();
    let downloads = place.cache.path().join("downloads");
    let leftover = place.cache.path().join("tmp-1/libtorch/torch/lib");
    fs::create_dir_all(&leftover).unwrap();
    fs::write(leftover.join("libtorch_cpu.so"), "half").unwrap();
    fs::create_dir(&downloads).unwrap();
    // A whole wheel of an earlier download is used; half a wheel is not.
    let whole = place.wheel("torch");
    fs::rename(&whole, downloads.join(whole.file_name().unwrap())).unwrap();
    let half = place.wheel("nvidia_cuda_cupti");
    fs::write(downloads.join(half.file_name().unwrap()), &fs::read(&half).unwrap()[..100]).unwrap();
    let (libtorch, said) = place.fetch();
    assert!(said.contains("is here from an earlier download"), "{said}");
    assert!(said.contains("does not have the expected SHA-256"), "{said}");
    assert_whole(&libtorch);
    assert_eq!(place.entries().len(), 1, "{:?}", place.entries());
}

#[test]
fn a_wheel_that_is_not_the_expected_one_is_refused() {
    let place = Place::new();
    let wheel = place.wheel("nvidia_cuda_runtime");
    let mut bytes = fs::read(&wheel).unwrap();
    bytes.push(0);
    fs::write(&wheel, bytes).unwrap();
    Command::from_std(place.command()).assert().code(3).stdout("").stderr(
        predicate::str::contains("could not fetch nvidia-cuda-runtime").and(predicate::str::contains("set LIBTORCH")),
    );
    // The part that did arrive is kept, and nothing that looks like a libtorch.
    assert_eq!(place.entries(), ["downloads"]);
}

#[test]
fn two_at_once_do_not_clash() {
    let place = Place::new();
    let start = || place.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let outputs = [start(), start(), start()].map(|child| child.wait_with_output().unwrap());
    let said = outputs.iter().map(|output| String::from_utf8_lossy(&output.stderr)).collect::<String>();
    for output in &outputs {
        assert!(output.status.success(), "{said}");
        assert_whole(Path::new(String::from_utf8_lossy(&output.stdout).trim_end()));
    }
    assert_eq!(said.matches("setup: unpacking").count(), 1, "{said}");
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let place = Place::new();
    let file = place.cache.path().join("file");
    fs::write(&file, "").unwrap();
    let mut command = place.command();
    command.env("BACKPACK_RUN_CACHE", file.join("below"));
    let names_it = predicate::str::contains("file/below").and(predicate::str::contains("BACKPACK_RUN_CACHE"));
    Command::from_std(command).assert().code(3).stdout("").stderr(names_it);
}
