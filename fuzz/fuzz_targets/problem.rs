//! Problem files: what is read describes a network, or is refused; nothing of it is allocated.
#![no_main]

use std::path::Path;

use backpack_run::config::Source;
use backpack_run::problems::{builder, definition};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(problem) = definition::parse(&Source::file(Path::new("fuzz.toml"), text.to_owned())) {
        for shape in [&[4][..], &[3, 8, 8]] {
            let _ = builder::lay_out(&problem, shape);
        }
    }
});
