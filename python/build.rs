//! Compiles the one C++ file of this crate against the libtorch that torch-sys has found.
//!
//! Nothing is said of where libtorch lies: Python's torch is loaded before this module, and its libraries are taken.

use std::path::PathBuf;

const SOURCE: &str = "native/dlpack.cpp";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-changed=build.rs");
    let libraries = PathBuf::from(std::env::var("DEP_TCH_LIBTORCH_LIB").expect(
        "torch-sys did not say where libtorch lies; set LIBTORCH, or run scripts/setup.sh, which says what it does",
    ));
    let include = match std::env::var_os("LIBTORCH_INCLUDE") {
        Some(folder) => PathBuf::from(folder).join("include"),
        None => libraries.parent().expect("a library folder has a parent").join("include"),
    };
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .include(&include)
        .flag("-D_GLIBCXX_USE_CXX11_ABI=1")
        .flag_if_supported("-Wno-unused-parameter")
        .flag_if_supported("-Wno-psabi")
        .warnings(false)
        .opt_level(3)
        .file(SOURCE)
        .compile("backpack_run_dlpack");
}
