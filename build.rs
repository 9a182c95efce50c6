//! Compiles the few C++ files of this package and makes the built binaries find libtorch by themselves.
//!
//! `torch-sys` tells its direct dependents where libtorch's libraries lie (`DEP_TCH_LIBTORCH_LIB`). That folder goes
//! into the run path of every binary, test and example, so that none of them needs `LD_LIBRARY_PATH`.

use std::path::PathBuf;

const NATIVE: &str = "src/backpack/native";
const SOURCES: [&str; 7] =
    ["shim.cpp", "product.cpp", "symmetric.cpp", "cholesky.cpp", "sparse_squares.cpp", "gelu.cpp", "kept_memory.cpp"];
const HEADERS: [&str; 4] = ["guarded.h", "cholesky.h", "product.h", "each_processor.h"];

fn main() {
    for file in SOURCES.iter().chain(&HEADERS) {
        println!("cargo:rerun-if-changed={NATIVE}/{file}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    let libraries = PathBuf::from(std::env::var("DEP_TCH_LIBTORCH_LIB").expect(
        "torch-sys did not say where libtorch lies; set LIBTORCH, or run scripts/setup.sh, which says what it does",
    ));
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", libraries.display());
    // For the build scripts of crates that depend on this one, as DEP_BACKPACK_RUN_LIBTORCH.
    println!("cargo:libtorch={}", libraries.display());
    println!("cargo:rustc-env=BACKPACK_RUN_LIBTORCH={}", libraries.display());
    // A CUDA build of libtorch registers its kernels from a library that nothing refers to by name.
    if libraries.join("libtorch_cuda.so").exists() {
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
        println!("cargo:rustc-link-arg=-ltorch_cuda");
        println!("cargo:rustc-link-arg=-ltorch");
    }
    let include = match std::env::var_os("LIBTORCH_INCLUDE") {
        Some(folder) => PathBuf::from(folder).join("include"),
        None => libraries.parent().expect("a library folder has a parent").join("include"),
    };
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .flag_if_supported("-Wno-unused-parameter")
        .flag_if_supported("-Wno-psabi")
        .flag("-D_GLIBCXX_USE_CXX11_ABI=1")
        .warnings(false)
        .opt_level(3)
        .files(SOURCES.map(|source| format!("{NATIVE}/{source}")))
        .compile("backpack_run_shim");
}
