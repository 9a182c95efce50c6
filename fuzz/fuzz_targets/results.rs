//! The files of a results folder that `report` reads: the first byte says which of them the others are.
#![no_main]

use std::cell::RefCell;

use backpack_run::report::results::Results;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static FOLDER: RefCell<tempfile::TempDir> = RefCell::new(tempfile::tempdir().unwrap());
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let names = ["curves.csv", "final.csv", "grid.csv", "seeds.csv", "meta.json"];
    FOLDER.with_borrow(|folder| {
        let file = folder.path().join(names[usize::from(*which) % names.len()]);
        std::fs::write(&file, bytes).unwrap();
        let _ = Results::read(folder.path());
        std::fs::remove_file(&file).unwrap();
    });
});
