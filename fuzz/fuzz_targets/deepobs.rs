//! A run of DeepOBS's, as its JSON files hold it.
#![no_main]

use std::cell::RefCell;

use backpack_run::report::deepobs::import;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static FOLDER: RefCell<tempfile::TempDir> = RefCell::new(tempfile::tempdir().unwrap());
}

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with_borrow(|folder| {
        std::fs::write(folder.path().join("random_seed__42__2024-01-01-00-00-00.json"), bytes).unwrap();
        let _ = import(folder.path());
    });
});
