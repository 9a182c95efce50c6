//! Runs are known by what their data hold: other content under the same name is another run, the same content in another
//! layout is the same one, and a run that was begun with other data does not go on.
#![cfg(unix)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::study_support::{Bench, finish, signal, state, text, wait_for};
use backpack_run::problems::data::{DataFolders, DataSource, identify, published};
use flate2::Compression;
use flate2::write::GzEncoder;

const TRAIN: &str = "train --problem mnist_logreg --optimizer sgd --lr 0.1 --epochs 1 --train-size 2000";

fn idx(sizes: &[u32], element: impl Fn(usize) -> u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend((0..sizes.iter().product::<u32>() as usize).map(element));
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A set of MNIST's layout and counts that is not MNIST: each image is as bright as its class, and labels are moved by
/// `shift` classes.
fn mnist_like(folder: &Path, shift: u8, zipped: bool) {
    let class = |image: usize| (image * 7 % 10) as u8;
    fs::create_dir_all(folder).unwrap();
    for (part, count) in [("train", 60_000), ("t10k", 10_000)] {
        let images = idx(&[count, 28, 28], |place| 20 * class(place / 784) + (place % 784 % 16) as u8);
        let labels = idx(&[count], |image| (class(image) + shift) % 10);
        for (kind, bytes) in [("images-idx3", images), ("labels-idx1", labels)] {
            let (name, bytes) = match zipped {
                true => (format!("{part}-{kind}-ubyte.gz"), gzip(&bytes)),
                false => (format!("{part}-{kind}-ubyte"), bytes),
            };
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

/// Where a run keeps what it is known by.
fn folders(bench: &Bench, runs: &str) -> Vec<PathBuf> {
    bench.run_folders(runs)
}

fn train(bench: &Bench, runs: &str, data: &str, extra: &str) -> Output {
    let output = bench.output(runs, &format!("{TRAIN} --data-dir {data} {extra}"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

#[test]
fn other_content_under_the_same_name_is_another_run() {
    let bench = Bench::new();
    mnist_like(&bench.path().join("one/mnist"), 0, true);
    mnist_like(&bench.path().join("two/mnist"), 3, true);
    let output = train(&bench, "runs", "one", "");
    let said = text(&output.stderr);
    assert!(
        said.contains("data set mnist: one/mnist/train-images-idx3-ubyte.gz does not hold what is published"),
        "{said}"
    );
    assert_eq!(said.matches("does not hold").count(), 1, "told once: {said}");
    let first = bench.only_run("runs");
    let config = fs::read_to_string(first.join("config.json")).unwrap();
    assert!(config.contains("\"data_fingerprint\": \"mnist "), "{config}");

    let said = text(&train(&bench, "runs", "two", "").stderr);
    assert!(!said.contains("already"), "{said}");
    let both = folders(&bench, "runs");
    assert_eq!(both.len(), 2, "other labels, another run");
    let curves: Vec<_> = both.iter().map(|run| fs::read_to_string(run.join("epochs.csv")).unwrap()).collect();
    assert_ne!(crate::study_support::without_times(&curves[0]), crate::study_support::without_times(&curves[1]));

    let said = text(&train(&bench, "runs", "one", "").stderr);
    assert!(said.contains("1 run has its result already"), "{said}");
    // Workers come to the same conclusion as the process that plans.
    let grid = TRAIN.replace("train --", "grid --").replace("0.1", "0.1,0.2");
    bench.succeed("runs", &format!("{grid} --data-dir two --jobs 2"));
    assert_eq!(folders(&bench, "runs").len(), 3);
}

#[test]
fn the_same_content_in_another_layout_is_the_same_run() {
    let bench = Bench::new();
    mnist_like(&bench.path().join("zipped/mnist"), 0, true);
    mnist_like(&bench.path().join("plain/MNIST/raw"), 0, false);
    train(&bench, "runs", "zipped", "");
    let said = text(&train(&bench, "runs", "plain", "").stderr);
    assert!(said.contains("1 run has its result already"), "{said}");
    bench.only_run("runs");
}

/// The published images are known by the set's name alone, however Debian packs them.
#[test]
fn the_published_set_keeps_its_name() {
    let Some(data) = crate::support::data_folder("fashion-mnist") else {
        crate::support::skip!(
            "the_published_set_keeps_its_name",
            "Fashion-MNIST is not installed (Debian: dataset-fashion-mnist)"
        );
    };
    let source = DataSource::Named("fashion_mnist".to_owned());
    let identity = identify(&source, &DataFolders(vec![data.clone()])).unwrap();
    assert_eq!((identity.fingerprint.as_str(), identity.unlike), ("fashion_mnist", None));

    let root = crate::support::temporary_folder();
    let raw = root.path().join("FashionMNIST/raw");
    fs::create_dir_all(&raw).unwrap();
    for file in published("fashion_mnist").unwrap().files {
        let packed = fs::read(data.join("fashion-mnist").join(file.name)).unwrap();
        let mut plain = Vec::new();
        std::io::copy(&mut flate2::read::MultiGzDecoder::new(&packed[..]), &mut plain).unwrap();
        fs::write(raw.join(file.name.trim_end_matches(".gz")), plain).unwrap();
    }
    let folders = DataFolders(vec![root.path().to_owned()]);
    assert_eq!(identify(&source, &folders).unwrap().fingerprint, "fashion_mnist");
    // One pixel.
    let images = raw.join("t10k-images-idx3-ubyte");
    let mut bytes = fs::read(&images).unwrap();
    bytes[5000] ^= 1;
    fs::write(&images, bytes).unwrap();
    let other = identify(&source, &folders).unwrap();
    assert!(other.fingerprint.starts_with("fashion_mnist ") && other.fingerprint.len() == 14 + 64, "{other:?}");
    assert!(other.unlike.unwrap().contains("t10k-images-idx3-ubyte"));
}

/// An archive and the folder it is extracted to hold the same.
#[test]
fn an_archive_and_its_folder_are_the_same_set() {
    let root = crate::support::temporary_folder();
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let folder = root.path().join("folder/cifar-100-binary");
    fs::create_dir_all(&folder).unwrap();
    for (name, count) in [("test.bin", 10_000), ("train.bin", 50_000)] {
        let mut record = vec![3, 50];
        record.resize(3074, 100);
        let content = record.repeat(count);
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("cifar-100-binary/{name}"), content.as_slice()).unwrap();
        fs::write(folder.join(name), content).unwrap();
    }
    fs::create_dir_all(root.path().join("archive")).unwrap();
    let packed = archive.into_inner().unwrap().finish().unwrap();
    fs::write(root.path().join("archive/cifar-100-binary.tar.gz"), packed).unwrap();
    let of = |below: &str| {
        let folders = DataFolders(vec![root.path().join(below)]);
        identify(&DataSource::Named("cifar100".to_owned()), &folders).unwrap().fingerprint
    };
    assert_eq!(of("folder"), of("archive"));
    // The same images in another order are other training batches.
    let train = folder.join("train.bin");
    let mut bytes = fs::read(&train).unwrap();
    bytes[1] = 51;
    fs::write(&train, &bytes).unwrap();
    let first = of("folder");
    bytes[1] = 50;
    bytes[3075] = 51;
    fs::write(&train, &bytes).unwrap();
    assert_ne!(of("folder"), first);
}

/// A run is interrupted, its labels change in place, and the same command begins another run; with the former labels the
/// first one goes on.
#[test]
fn an_interrupted_run_does_not_go_on_with_other_data() {
    let bench = Bench::new();
    let data = bench.path().join("data/mnist");
    mnist_like(&data, 0, false);
    let long = format!("{TRAIN} --data-dir data").replace("--epochs 1", "--epochs 30");
    let child = bench.start("runs", &long);
    wait_for("the first epochs", || {
        folders(&bench, "runs")
            .iter()
            .any(|folder| fs::read_to_string(folder.join("epochs.csv")).is_ok_and(|table| table.lines().count() >= 4))
    });
    signal(&child, libc::SIGTERM);
    assert_eq!(finish(child).code(), Some(130));
    let first = bench.only_run("runs");
    let before = bench.results("runs");

    let labels = data.join("train-labels-idx1-ubyte");
    let published = fs::read(&labels).unwrap();
    let shuffled: Vec<u8> =
        published.iter().enumerate().map(|(place, &byte)| if place < 8 { byte } else { (byte + 1) % 10 }).collect();
    fs::write(&labels, shuffled).unwrap();
    bench.succeed("runs", &long);
    assert_eq!(folders(&bench, "runs").len(), 2);
    let after = bench.results("runs");
    assert!(before.iter().all(|(file, bytes)| after[file] == *bytes), "the first run is as it was");

    fs::write(&labels, published).unwrap();
    bench.succeed("runs", &long);
    assert_eq!(folders(&bench, "runs").len(), 2);
    assert_eq!(state(&first), "done");
    bench.succeed("whole", &long);
    let whole = bench.results("whole");
    assert!(
        whole.iter().all(|(file, bytes)| bench.results("runs")[file] == *bytes),
        "as if it had not been interrupted"
    );
}

/// What a run's folder says it was begun with is believed before the command.
#[test]
fn a_checkpoint_of_other_data_is_refused() {
    let bench = Bench::new();
    let long = "train --problem small.toml --optimizer sgd --lr 0.1 --epochs 40";
    let child = bench.start("runs", long);
    wait_for("the first epochs", || {
        folders(&bench, "runs")
            .iter()
            .any(|folder| fs::read_to_string(folder.join("epochs.csv")).is_ok_and(|table| table.lines().count() >= 4))
    });
    signal(&child, libc::SIGTERM);
    assert_eq!(finish(child).code(), Some(130));
    let config = bench.only_run("runs").join("config.json");
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    let own = value["data_fingerprint"].take();
    value["data_fingerprint"] = "other".into();
    fs::write(&config, value.to_string()).unwrap();
    let output = bench.output("runs", long);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("started with other data (`other`"), "{said}");
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    assert_eq!(kept["data_fingerprint"], "other", "it is not written over");

    // The first versions did not say.
    value.as_object_mut().unwrap().remove("data_fingerprint");
    fs::write(&config, value.to_string()).unwrap();
    bench.succeed("runs", &format!("{long} --retry failed"));
    let written: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    assert_eq!(written["data_fingerprint"], own);
}

#[test]
fn damaged_files_are_refused_before_any_run_and_a_repaired_one_serves() {
    let bench = Bench::new();
    let data = bench.path().join("data/mnist");
    mnist_like(&data, 0, true);
    let images = data.join("train-images-idx3-ubyte.gz");
    let whole = fs::read(&images).unwrap();
    let cut = &whole[..whole.len() / 2];
    let mut longer = gzip(&idx(&[60_001, 28, 28], |_| 0));
    longer.truncate(longer.len() / 2);
    for (damaged, word) in [(cut, "unreadable gzip data"), (&longer[..], "60001 images"), (&[][..], "magic number")] {
        fs::write(&images, damaged).unwrap();
        let output = bench.output("runs", &format!("{TRAIN} --data-dir data"));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("train-images-idx3-ubyte.gz") && said.contains(word), "{said}");
        assert!(folders(&bench, "runs").is_empty());
    }
    // A file that is a hole of a terabyte.
    fs::File::create(&images).unwrap().set_len(1 << 40).unwrap();
    let output = bench.output("runs", &format!("{TRAIN} --data-dir data"));
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("1099511627776 bytes"), "{}", text(&output.stderr));
    fs::write(&images, whole).unwrap();
    train(&bench, "runs", "data", "");
    assert_eq!(state(&bench.only_run("runs")), "done");
}

/// The part of Fashion-MNIST that the program carries is what its name stands for in every HASH.
#[test]
fn the_embedded_set_is_what_it_was() {
    use sha2::Digest;
    let (train, test) = backpack_run::problems::data::formats::mini::read().unwrap();
    let mut hash = sha2::Sha256::new();
    for images in [train, test] {
        hash.update(&images.pixels);
        hash.update(&images.labels);
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "b794f5af49fbe800e0f5534e0a29edb0b3412a5613f80781d0c276f0ab21059f");
}

/// Without data nothing can be run, but what is done is shown: the published set is meant.
#[test]
fn runs_that_are_done_need_no_data() {
    let bench = Bench::new();
    let dry = |data: &str| {
        let output = bench.output("runs", &format!("{TRAIN} --data-dir {data} --dry-run --format csv"));
        text(&output.stdout)
    };
    let missing = dry("nowhere");
    assert!(missing.contains("mnist_logreg/sgd/lr-0.1__"), "{missing}");
    mnist_like(&bench.path().join("data/mnist"), 0, true);
    assert_ne!(dry("data"), missing);
}
