//! Runs packed into one file: nothing is lost on the way there and back, and what is no archive of runs is refused.
#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use backpack_run::study::packing;
use backpack_run::study::store::archive::{Member, Writer, read};
use tar::{EntryType, Header};

use crate::study_support::{Bench, finish, signal, text};

const STUDY: &str = "study tiny.toml --results-dir results";
const FILE: &str = "schema = 1\nname = \"tiny\"\nproblem = \"small.toml\"\nepochs = 1\ntrain_size = 200\nseeds = [42, 43]\n\
                    [[optimizer]]\nname = \"sgd\"\nlearning_rate = [0.01, 0.1]\n";

fn studied() -> (Bench, String) {
    let bench = Bench::new();
    fs::write(bench.path().join("tiny.toml"), FILE).unwrap();
    let table = bench.succeed("runs", STUDY);
    (bench, table)
}

#[test]
fn a_study_goes_on_from_its_archive() {
    let (bench, table) = studied();
    let whole = bench.results("runs");
    let said = bench.succeed("runs", "results pack tiny --results-dir results --remove");
    assert!(said.contains("3 runs") && said.contains("3 removed"), "{said}");
    assert!(bench.run_folders("runs").is_empty());
    // The archive in place of the folder: looked at as it is, and not written to.
    let archive = "results/tiny/runs.tar.zst";
    let survey = bench.succeed(archive, "status");
    assert!(survey.contains("3 runs: 3 done"), "{survey}");
    let refused = bench.output(archive, STUDY);
    assert!(refused.status.code() == Some(2) && text(&refused.stderr).contains("results unpack"), "{refused:?}");
    let said = bench.succeed("back", "results unpack --results-dir results");
    assert!(said.contains("3 runs put into"), "{said}");
    assert!(bench.results("back") == whole, "unpacked runs differ");
    let again = bench.output("back", STUDY);
    assert!(text(&again.stdout) == table && text(&again.stderr).contains("skipped"), "{}", text(&again.stderr));
    let said = bench.succeed("back", &format!("results unpack {archive}"));
    assert!(said.contains("0 runs put into") && said.contains("3 there already"), "{said}");
    // A further seed is packed beside those that are in the archive alone.
    bench.succeed("more", &format!("{STUDY} --seeds 44 --lr 0.1"));
    let said = bench.succeed("more", "results pack tiny --results-dir results");
    assert!(said.contains("kept from before"), "{said}");
    assert_eq!(packing::names(&bench.path().join(archive)).unwrap().len(), 4);
}

#[test]
fn a_packing_that_is_killed_loses_nothing() {
    let (bench, _) = studied();
    let whole = bench.results("runs");
    for delay in [20, 60, 100, 140, 180, 240] {
        let child = bench.start("runs", "results pack tiny --results-dir results --remove");
        std::thread::sleep(Duration::from_millis(delay));
        signal(&child, libc::SIGKILL);
        finish(child);
    }
    if bench.path().join("results/tiny/runs.tar.zst").exists() {
        bench.succeed("runs", "results unpack tiny --results-dir results");
    }
    assert!(bench.results("runs") == whole, "a run was lost");
}

#[test]
fn a_study_says_how_to_bring_packed_runs_back() {
    let (bench, _) = studied();
    bench.succeed("runs", "results pack tiny --results-dir results --remove --without-weights");
    let said = text(&bench.output("runs", STUDY).stderr);
    assert!(said.contains("holds 3 runs") && said.contains("results unpack"), "{said}");
    // With the runs trained anew there is nothing to bring back.
    assert!(!text(&bench.output("runs", STUDY).stderr).contains("results unpack"));
}

/// An archive of entries of these kinds, names and contents.
fn archive(path: &Path, entries: &[(EntryType, &str, &[u8])]) {
    let mut tar = tar::Builder::new(zstd::Encoder::new(fs::File::create(path).unwrap(), 3).unwrap());
    for (kind, name, content) in entries {
        let mut header = Header::new_ustar();
        // As bytes: the crate refuses to write such names itself.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.as_old_mut().linkname[..4].copy_from_slice(b"/etc");
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
}

/// Kind, path and bytes of each entry.
type Entries<'a> = Vec<(EntryType, &'a str, &'a [u8])>;

#[test]
fn hostile_archives_are_refused_and_write_nothing() {
    const STATUS: &str = "p/sgd/lr-0.1__00000000/seed-42/status.json";
    let folder = crate::support::temporary_folder();
    let path = folder.path().join("runs.tar.zst");
    let regular = EntryType::Regular;
    let zeros = vec![0; 200 << 20];
    let cases: [(&str, Entries, &str); 10] = [
        ("traversal", vec![(regular, "../../../../evil/status.json", b"x")], "is not a file of a run"),
        ("traversal within", vec![(regular, "p/../lr/seed-42/status.json", b"x")], "is not a file of a run"),
        ("an absolute path", vec![(regular, "/p/sgd/lr/seed-42/status.json", b"x")], "is not a file of a run"),
        ("another file", vec![(regular, "p/sgd/lr/seed-42/run.sh", b"x")], "is not a file of a run"),
        ("a symbolic link", vec![(EntryType::Symlink, STATUS, b"")], "is not a regular file"),
        ("a hard link", vec![(EntryType::Link, STATUS, b"")], "is not a regular file"),
        ("a device", vec![(EntryType::Char, STATUS, b"")], "is not a regular file"),
        (
            "a long name",
            vec![(EntryType::GNULongName, STATUS, b"aaaa"), (regular, STATUS, b"x")],
            "is not a regular file",
        ),
        ("a file twice", vec![(regular, STATUS, b"x"), (regular, STATUS, b"y")], "twice"),
        ("a bomb", vec![(regular, STATUS, &zeros)], "would"),
    ];
    let runs = folder.path().join("runs");
    for (name, entries, expected) in cases {
        archive(&path, &entries);
        let error = packing::unpack(&path, &runs).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(expected), "{name}: {error}");
        assert!(!runs.exists() && fs::read_dir(folder.path()).unwrap().count() == 1, "{name} wrote something");
    }
    // A sound one that is cut off, has a flipped bit, or is none at all.
    let file = fs::File::create(&path).unwrap();
    let mut writer = Writer::new(file, &path).unwrap();
    let run = "p/sgd/lr-0.1__00000000/seed-42".to_owned();
    let content: Vec<u8> = (0..5000u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for file in ["epochs.csv", "status.json"] {
        let member = Member { run: run.clone(), file, size: content.len() as u64 };
        writer.add(&member, content.as_slice()).unwrap();
    }
    writer.finish().unwrap();
    let sound = fs::read(&path).unwrap();
    let mut seen = 0;
    read(&path, &mut |_, _| {
        seen += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, 2);
    let flipped = |place: usize| {
        let mut bytes = sound.clone();
        bytes[place] ^= 1;
        bytes
    };
    let cut = |length: usize| sound[..length].to_vec();
    for bytes in [cut(0), cut(3), cut(sound.len() / 2), cut(sound.len() - 1), flipped(sound.len() / 2), b"no".to_vec()]
    {
        fs::write(&path, &bytes).unwrap();
        let error = packing::unpack(&path, &runs).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(!runs.exists(), "{} bytes", bytes.len());
    }
}
