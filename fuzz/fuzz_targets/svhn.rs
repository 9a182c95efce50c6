//! The MAT-file reader, and SVHN's two variables in it.
#![no_main]

use std::path::Path;

use backpack_run::problems::data::formats::{mat, svhn};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz");
    if let Ok(arrays) = mat::parse(bytes, path) {
        for array in arrays {
            assert_eq!(array.values().count(), array.sizes.iter().product::<usize>());
        }
    }
    if let Ok(images) = svhn::parse(bytes, path, None) {
        assert!(images.labels.iter().all(|&label| label < 10));
        assert_eq!(images.pixels.len(), images.len() * images.image_bytes());
    }
});
