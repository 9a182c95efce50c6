//! Examines libtorch: which one this process has loaded, whether it is the one of the build, and whether it computes.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use super::finding::Finding;
use crate::runtime;

/// The version that the bindings are written for, exactly.
const EXPECTED: (u64, u64, u64) = (2, 13, 0);

unsafe extern "C" {
    /// Part of libtorch's stable C interface: major, minor and patch version in the three highest bytes.
    fn aoti_torch_abi_version() -> u64;
}

/// Version and place of libtorch, and whether it computes rightly.
pub(super) fn examine() -> Vec<Finding> {
    // SAFETY: takes nothing, gives a constant.
    vec![version(unpack(unsafe { aoti_torch_abi_version() })), place(loaded().as_deref()), arithmetic()]
}

fn unpack(packed: u64) -> (u64, u64, u64) {
    (packed >> 56, packed >> 48 & 0xff, packed >> 40 & 0xff)
}

fn version(found: (u64, u64, u64)) -> Finding {
    let text = |(major, minor, patch): (u64, u64, u64)| format!("{major}.{minor}.{patch}");
    if found == EXPECTED {
        return Finding::ok("libtorch", text(found));
    }
    Finding::fail(
        "libtorch",
        text(found),
        format!(
            "{} is needed, exactly: unset LD_LIBRARY_PATH, run `eval \"$(scripts/setup.sh)\"` and build again",
            text(EXPECTED)
        ),
    )
}

/// The folder of the libraries that the build was linked with.
fn linked() -> &'static Path {
    Path::new(env!("BACKPACK_RUN_LIBTORCH"))
}

/// The folder of the libtorch in this process's memory, where the system tells.
fn loaded() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    let path = Path::new(&line[line.find('/')?..]);
    path.parent().map(Path::to_owned)
}

fn place(loaded: Option<&Path>) -> Finding {
    const CHECK: &str = "libtorch's folder";
    let Some(loaded) = loaded else {
        return Finding::ok(CHECK, format!("{}, as built", linked().display()));
    };
    let same = |a: &Path, b: &Path| match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    };
    // An interpreter brings its own, whose version is what counts.
    if same(loaded, linked()) || runtime::is_in_interpreter() {
        return Finding::ok(CHECK, loaded.display().to_string());
    }
    Finding::warn(
        CHECK,
        format!("loaded from {}, built with {}", loaded.display(), linked().display()),
        "Unset LD_LIBRARY_PATH and LD_PRELOAD, or build again with the other libtorch",
    )
}

fn arithmetic() -> Finding {
    const CHECK: &str = "arithmetic";
    let product = || -> Result<f64, tch::TchError> {
        let a = Tensor::f_arange(64 * 64, (Kind::Double, Device::Cpu))?.f_view([64, 64])?;
        a.f_matmul(&Tensor::f_eye(64, (Kind::Double, Device::Cpu))?)?.f_sum(Kind::Double)?.f_double_value(&[])
    };
    let expected = (64 * 64 * (64 * 64 - 1) / 2) as f64;
    let remedy = "Delete the cached libtorch, run `eval \"$(scripts/setup.sh)\"` and build again";
    match product() {
        Ok(sum) if sum == expected => Finding::ok(CHECK, "a matrix product is right"),
        Ok(sum) => Finding::fail(CHECK, format!("a matrix product sums to {sum}, not {expected}"), remedy),
        Err(error) => Finding::fail(CHECK, format!("a matrix product failed: {error}"), remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn the_library_of_the_build_is_well() {
        let findings = examine();
        assert!(findings.iter().all(|finding| finding.state == State::Ok), "{findings:?}");
        assert_eq!(findings[0].found, "2.13.0");
    }

    #[test]
    fn another_version_fails_with_a_remedy() {
        let finding = version(unpack(2 << 56 | 12 << 48 | 1 << 40));
        assert_eq!((finding.state, finding.found.as_str()), (State::Fail, "2.12.1"));
        assert!(finding.remedy.contains("2.13.0") && finding.remedy.contains("setup.sh"));
    }

    #[test]
    fn another_folder_is_noticed() {
        let finding = place(Some(Path::new("/somewhere/else")));
        assert_eq!(finding.state, State::Warn);
        assert!(finding.found.contains("/somewhere/else") && finding.remedy.contains("LD_LIBRARY_PATH"));
        assert_eq!(place(Some(linked())).state, State::Ok);
    }
}
