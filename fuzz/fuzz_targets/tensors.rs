//! The safetensors files of `extract`: batches, weights, vectors.
#![no_main]

use std::path::Path;

use backpack_run::backpack::tensor_file::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = parse(bytes, Path::new("fuzz")) {
        let held: usize = file.tensors.values().map(|tensor| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum();
        assert!(held <= bytes.len());
    }
});
