//! The CSV files of runs: what is read is written as it was read.
#![no_main]

use std::path::Path;

use backpack_run::study::store::rows::{Row, from_csv, to_csv};
use backpack_run::study::store::{DiagnosticRow, EpochRow, StepRow};
use libfuzzer_sys::fuzz_target;

fn check<R: Row>(text: &str) {
    let path = Path::new("fuzz");
    if let Ok(rows) = from_csv::<R>(text, path) {
        let written = to_csv(&rows).unwrap();
        let again = to_csv(&from_csv::<R>(&written, path).unwrap()).unwrap();
        assert_eq!(again, written);
    }
}

fuzz_target!(|text: &str| {
    check::<EpochRow>(text);
    check::<StepRow>(text);
    check::<DiagnosticRow>(text);
    let _ = backpack_run::bench::row::read_rows(text.as_bytes(), "fuzz");
});
