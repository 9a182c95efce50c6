//! A full disk and a read-only folder, provoked on a small file system in memory.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::study_support::{Bench, state, text};

const GRID: &str = "grid --problem small.toml --optimizer momentum --lr 0.001,0.1 --epochs 1";

/// A file system of its own, unmounted when the value goes away.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of this many KiB; nothing where this user may not.
    fn mount(at: &Path, kib: usize) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={kib}k");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        output.is_ok_and(|output| output.status.success()).then(|| Tmpfs(at.to_owned()))
    }

    fn remount(&self, how: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status().unwrap();
        assert!(status.success());
    }

    fn free_bytes(&self) -> u64 {
        fs4::available_space(&self.0).unwrap()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // What cannot be unmounted goes with the machine.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_fails_the_run_and_loses_nothing() {
    let bench = Bench::new();
    let Some(disk) = Tmpfs::mount(&bench.runs("runs"), 1024) else {
        crate::support::skip!("a_full_disk_fails_the_run_and_loses_nothing", "a tmpfs cannot be mounted here");
    };
    bench.succeed("runs", &GRID.replace("0.001,0.1", "0.001"));
    let before = bench.results("runs");
    // Room for a few small files, not for the run's.
    let filler = bench.runs("runs").join("filler");
    fs::write(&filler, vec![0u8; (disk.free_bytes() - 12 * 1024) as usize]).unwrap();
    let output = bench.output("runs", GRID);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(text(&output.stdout).contains("best: lr 0.001"), "{}", text(&output.stdout));
    let after = bench.results("runs");
    assert!(before.iter().all(|(path, content)| after.get(path) == Some(content)), "a result was lost");

    fs::remove_file(&filler).unwrap();
    bench.succeed("runs", GRID);
    bench.succeed("whole", GRID);
    assert!(bench.results("whole") == bench.results("runs"));
}

#[test]
fn a_read_only_folder_is_told_and_its_results_stay() {
    let bench = Bench::new();
    let Some(disk) = Tmpfs::mount(&bench.runs("runs"), 4096) else {
        crate::support::skip!("a_read_only_folder_is_told_and_its_results_stay", "a tmpfs cannot be mounted here");
    };
    let table = bench.succeed("runs", GRID);
    disk.remount("ro");
    assert_eq!(bench.succeed("runs", GRID), table, "what is done needs no writing");
    let output = bench.output("runs", &GRID.replace("0.001,0.1", "0.01"));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    disk.remount("rw");
    assert!(bench.run_folders("runs").iter().all(|folder| state(folder) == "done"));
}
