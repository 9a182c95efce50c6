//! The records of CIFAR-10 and CIFAR-100.
#![no_main]

use std::path::Path;

use backpack_run::problems::data::formats::Images;
use backpack_run::problems::data::formats::cifar::{SHAPE, Variant, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for (variant, classes) in [(Variant::Ten, 10), (Variant::Hundred, 100)] {
        let mut images = Images::with_capacity(SHAPE, 0);
        if parse(bytes, Path::new("fuzz"), variant, None, &mut images).is_ok() {
            assert!(images.labels.iter().all(|&label| label < classes));
            assert_eq!(images.pixels.len(), images.len() * images.image_bytes());
        }
    }
});
