//! Experiment files, with the problems that they name.
#![no_main]

use std::cell::RefCell;

use backpack_run::study::experiment::{Request, resolve};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static FOLDER: RefCell<tempfile::TempDir> = RefCell::new(tempfile::tempdir().unwrap());
}

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with_borrow(|folder| {
        let path = folder.path().join("fuzz.toml");
        std::fs::write(&path, bytes).unwrap();
        if let Ok(experiment) = resolve(Request { file: Some(&path), ..Request::default() }) {
            let _ = experiment.to_toml();
        }
    });
});
