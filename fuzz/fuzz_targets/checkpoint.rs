//! A run's checkpoint: whatever the file holds, it is whole or told to be damaged.
#![no_main]

use std::cell::RefCell;

use backpack_run::study::store::{RunFolder, checkpoint};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static FOLDER: RefCell<tempfile::TempDir> = RefCell::new(tempfile::tempdir().unwrap());
}

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with_borrow(|folder| {
        let folder = RunFolder::at(folder.path());
        std::fs::write(folder.checkpoint(), bytes).unwrap();
        let loaded = checkpoint::load(&folder).unwrap();
        assert!(loaded.checkpoint.is_some() || loaded.damage.len() == 1);
    });
});
