//! A user's safetensors file.
#![no_main]

use std::path::Path;

use backpack_run::problems::data::formats::user::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = parse(bytes, Path::new("fuzz")) {
        for half in std::iter::once(&file.train).chain(&file.test) {
            assert_eq!(half.x.shape[0], half.y.shape[0]);
            assert!(half.x.end <= bytes.len() && half.y.end <= bytes.len());
        }
    }
});
