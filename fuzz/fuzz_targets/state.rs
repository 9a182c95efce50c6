//! The JSON that a run's folder holds: its status, its configuration, its lock.
#![no_main]

use std::cell::RefCell;

use backpack_run::study::settings::RunSettings;
use backpack_run::provenance::Provenance;
use backpack_run::study::store::{RunFolder, lock};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static FOLDER: RefCell<tempfile::TempDir> = RefCell::new(tempfile::tempdir().unwrap());
}

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with_borrow(|folder| {
        let folder = RunFolder::at(folder.path());
        for path in [folder.status(), folder.config(), folder.provenance(), folder.lock()] {
            std::fs::write(path, bytes).unwrap();
        }
        let _ = folder.read_status();
        if let Ok(Some(settings)) = folder.read_json::<RunSettings>(&folder.config()) {
            assert!(settings.folder().starts_with("lr-"));
        }
        let _ = folder.read_json::<Provenance>(&folder.provenance());
        let _ = lock::holder(&folder.lock());
    });
});
