//! The published archives of CIFAR-10 and CIFAR-100: gzip, tar, records. Input that is not gzip is compressed first, so
//! that the tar reader gets to see something.
#![no_main]

use std::io::Write;
use std::path::Path;

use backpack_run::problems::data::formats::cifar::{Variant, parse_archive};
use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let packed = encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap();
    for variant in [Variant::Ten, Variant::Hundred] {
        for archive in [bytes, &packed] {
            // A whole archive holds 180 MB; nothing that a fuzzer makes is one.
            assert!(parse_archive(archive, path, variant).is_err());
        }
    }
});
