//! The Python package: pip builds and installs it from this checkout, and its own tests (python/tests) hold.
//!
//! It needs a Python with torch 2.13.0 and what the package's tests ask for (`pip install maturin pytest mypy ..`): the one that
//! BACKPACK_RUN_PYTHON names, or python3. .ci/run makes one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What is imported by the build and by the tests.
const NEEDED: &str = "
import importlib.util, pathlib, sys
for name in ['torch', 'maturin', 'pytest', 'mypy', 'nbclient', 'ipykernel', 'matplotlib', 'pandas', 'pip', 'venv']:
    if importlib.util.find_spec(name) is None:
        sys.exit(f'it has no {name}')
torch = pathlib.Path(importlib.util.find_spec('torch').origin).with_name('version.py').read_text()
if \"__version__ = '2.13.0\" not in torch:
    sys.exit('its torch is not 2.13.0')
";

/// A Python that has all of it, or the reason why there is none.
fn python() -> Result<PathBuf, String> {
    let python = std::env::var_os("BACKPACK_RUN_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let output = Command::new(&python).args(["-c", NEEDED]).output();
    match output {
        Ok(output) if output.status.success() => Ok(python),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("{}: {}", python.display(), text.lines().last().unwrap_or_default()))
        }
        Err(error) => Err(format!("{}: {error}", python.display())),
    }
}

fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}\n{err}")
}

/// Runs a command to its end.
fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    said(&output)
}

/// An empty environment in which the packages of another Python can be imported, torch among them.
fn environment(python: &Path, folder: &Path) -> PathBuf {
    succeeds(Command::new(python).args(["-m", "venv"]).arg(folder));
    let own = folder.join("bin/python");
    let place = ["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"];
    let packages = succeeds(Command::new(python).args(place));
    let site = succeeds(Command::new(&own).args(place));
    std::fs::write(Path::new(site.trim()).join("packages.pth"), packages.trim()).unwrap();
    own
}

#[cfg(unix)]
#[test]
fn the_package_installs_and_its_tests_hold() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => crate::support::skip!("the_package_installs_and_its_tests_hold", reason),
    };
    let folder = crate::support::temporary_folder();
    let own = environment(&python, &folder.path().join("environment"));
    let root = crate::support::repository(".");
    // The build of this test, so that nothing of libtorch's bindings is compiled again: with LIBTORCH as it was then.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut install = Command::new(&own);
    install.args(["-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]).arg(&root);
    install.env("CARGO_TARGET_DIR", target);
    // maturin is a program beside that Python.
    let interpreter =
        succeeds(Command::new(&python).args(["-c", "import sysconfig; print(sysconfig.get_path('scripts'))"]));
    let old = std::env::var_os("PATH").unwrap_or_default();
    let places = std::iter::once(PathBuf::from(interpreter.trim())).chain(std::env::split_paths(&old));
    install.env("PATH", std::env::join_paths(places).unwrap());
    succeeds(&mut install);
    let tests = folder.path().join("tests");
    let mut pytest = Command::new(&own);
    pytest
        .args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider", "--rootdir"])
        .arg(&root)
        .arg(root.join("python/tests"));
    pytest.arg("--basetemp").arg(&tests).current_dir(folder.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    let told = succeeds(&mut pytest);
    println!("{told}");
    assert!(told.contains(" passed"), "{told}");
    assert!(!told.contains("skipped"), "{told}");
}
