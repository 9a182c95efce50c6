//! The idx reader: arrays, plain and gzipped, and a pair of images and labels cut from one input.
#![no_main]

use std::path::Path;

use backpack_run::problems::data::formats::idx::{Expected, parse, parse_images};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz");
    if let Ok(array) = parse(bytes, path) {
        assert_eq!(array.elements.len(), array.sizes.iter().product::<usize>());
    }
    let (images, labels) = bytes.split_at(bytes.len() / 2);
    let expected = Expected { size: [2, 2], classes: 10, count: None };
    if let Ok(images) = parse_images((images, path), (labels, path), expected) {
        assert!(images.labels.iter().all(|&label| label < 10));
        assert_eq!(images.pixels.len(), images.labels.len() * 4);
    }
});
