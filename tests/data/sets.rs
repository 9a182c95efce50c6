//! Data sets from their files to a feed: real ones where they are found (Fashion-MNIST always, others where BACKPACK_RUN_DATA
//! has them), the embedded and synthetic ones, and a user's own file; loading, verifying, importing, augmentation, and
//! `backpack-run data` as it is called.

use std::collections::HashMap;
use std::path::Path;

use backpack_run::problems::data::augmentation::{Draws, Jitter, Recipe, augment};
use backpack_run::problems::data::obtain::{ImportOptions, SetState, import, status, verify};
use backpack_run::problems::data::{
    CATALOG, Compared, DataFolders, DataSet, DataSource, Feed, FeedOptions, Fit, Part, Published, SyntheticOptions,
    describe, identify, load, published,
};
use predicates::prelude::*;
use predicates::str::contains;
use tch::{Device, Kind, Tensor};

fn named(name: &str) -> DataSource {
    DataSource::Named(name.to_owned())
}

fn folders() -> DataFolders {
    DataFolders::from_choice(None)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(tensor.to_kind(Kind::Double).contiguous().view([-1])).unwrap()
}

/// What holds for every published set: counts, labels, shape, and the statistics that normalisation is made of.
fn check_published(set: &Published, data: &DataSet) {
    let [channels, height, width] = set.shape.map(|size| size as i64);
    for (part, count) in [(&data.train, set.train), (&data.test, set.test)] {
        assert_eq!(part.x.size(), [count as i64, channels, height, width]);
        assert_eq!(part.x.kind(), Kind::Uint8);
        let classes = values(&part.y.bincount::<Tensor>(None, set.classes as i64));
        assert_eq!(classes.len(), set.classes);
        assert!(classes.iter().all(|&count| count > 0.0), "{}: every class occurs: {classes:?}", set.name);
    }
    if set.name.starts_with("cifar") {
        // DeepOBS's constants are the training file's own statistics, channel by channel.
        let x = data.train.x.to_kind(Kind::Float).f_div_scalar(255.0).unwrap();
        let mean = values(&x.mean_dim([0i64, 2, 3].as_slice(), false, Kind::Double));
        for (channel, (got, expected)) in mean.iter().zip(set.mean).enumerate() {
            assert!((got - expected).abs() < 2e-4, "{} channel {channel}: {got} {expected}", set.name);
        }
    }
    let info = describe(&named(set.name), &DataFolders(Vec::new())).unwrap();
    assert_eq!((info.train, info.test, info.shape), (data.train.len(), data.test.len(), data.shape.clone()));
}

#[test]
fn every_set_that_is_found_is_whole() {
    let mut found = Vec::new();
    for set in CATALOG.iter().filter(|set| folders().find(set).is_ok()) {
        check_published(set, &load(&named(set.name), &folders()).unwrap());
        found.push(set.name);
    }
    println!("found: {found:?}");
    if found.is_empty() {
        crate::support::skip!("every_set_that_is_found_is_whole", "no published data set is on this machine");
    }
}

#[test]
fn fashion_mnist_verifies_and_can_be_imported() {
    let set = published("fashion_mnist").unwrap();
    let Ok(place) = folders().find(set) else {
        crate::support::skip!("fashion_mnist_verifies_and_can_be_imported", "Fashion-MNIST is not on this machine");
    };
    let report = verify(set, &folders()).unwrap();
    assert!(report.ok(), "{report:?}");

    let data = load(&named("fashion_mnist"), &folders()).unwrap();
    // The first ten labels, and the mean pixel 0.2860 that is quoted for the training images.
    assert_eq!(values(&data.train.y.narrow(0, 0, 10)), [9.0, 0.0, 0.0, 3.0, 0.0, 2.0, 7.0, 2.0, 5.0, 5.0]);
    let mean = f64::try_from(data.train.x.to_kind(Kind::Float).mean(Kind::Double)).unwrap() / 255.0;
    assert!((mean - 0.2860).abs() < 1e-4, "{mean}");

    let root = tempfile::tempdir().unwrap();
    for link in [true, false] {
        let options = ImportOptions { link, unpublished: false };
        let folder = import(set, place.path(), root.path(), options).unwrap();
        assert_eq!(folder, root.path().join("fashion-mnist"));
        let own = DataFolders(vec![root.path().to_owned()]);
        assert!(verify(set, &own).unwrap().ok());
        assert_eq!(folder.join(set.files[0].name).is_symlink(), link);
    }
    // The same files are no MNIST, though they are named and shaped alike.
    let error = import(published("mnist").unwrap(), place.path(), root.path(), ImportOptions::default()).unwrap_err();
    assert!(error.to_string().contains("another hash"), "{error}");
    assert!(!root.path().join("mnist").exists());
    let error = import(set, &root.path().join("fashion-mnist"), root.path(), ImportOptions::default()).unwrap_err();
    assert!(error.to_string().contains("already"), "{error}");
}

#[test]
fn the_embedded_set_is_a_part_of_fashion_mnist() {
    let mini = load(&named("fashion_mnist_mini"), &DataFolders(Vec::new())).unwrap();
    assert_eq!(
        (mini.train.len(), mini.test.len(), mini.default_valid_size, mini.train_eval_size),
        (3500, 1000, 700, 3500)
    );
    if folders().find(published("fashion_mnist").unwrap()).is_err() {
        crate::support::skip!("the_embedded_set_is_a_part_of_fashion_mnist", "Fashion-MNIST is not on this machine");
    }
    let whole = load(&named("fashion_mnist"), &folders()).unwrap();
    for (mini, whole, each) in [(&mini.train, &whole.train, 350), (&mini.test, &whole.test, 100)] {
        let mut left = [each; 10];
        let labels = Vec::<i64>::try_from(&whole.y).unwrap();
        let mut chosen = Vec::new();
        for (index, &label) in labels.iter().enumerate() {
            if left[label as usize] > 0 {
                left[label as usize] -= 1;
                chosen.push(index as i64);
            }
        }
        let indices = Tensor::from_slice(&chosen);
        assert_eq!(mini.y, whole.y.index_select(0, &indices));
        assert_eq!(mini.x, whole.x.index_select(0, &indices));
    }
}

#[test]
fn a_missing_set_is_an_error_with_places_and_a_remedy() {
    let root = tempfile::tempdir().unwrap();
    let folders = DataFolders(vec![root.path().to_owned()]);
    for set in &CATALOG {
        let error = load(&named(set.name), &folders).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        let text = error.to_string();
        let place = root.path().join(set.folder).display().to_string();
        assert!(text.contains(&place) && text.contains(&format!("data fetch {}", set.name)), "{text}");
    }
    let error = load(&named("mnits"), &folders).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("did you mean `mnist`"), "{error}");
    let states = status(&folders).unwrap();
    assert_eq!(states.len(), 6);
    for set in states {
        match set.state {
            SetState::Embedded => assert_eq!(set.info.name, "fashion_mnist_mini"),
            SetState::Missing(_) => {}
            SetState::Found(place) => panic!("{} in {}", set.info.name, place.display()),
        }
    }
}

#[test]
fn a_set_with_a_wrong_file_is_refused_at_loading() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("cifar-100-binary");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("train.bin"), vec![0; 3074 * 10]).unwrap();
    std::fs::write(folder.join("test.bin"), vec![0; 3074 * 10]).unwrap();
    let error = load(&named("cifar100"), &DataFolders(vec![root.path().to_owned()])).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("train.bin") && error.to_string().contains("50000 records"), "{error}");
}

#[test]
fn the_synthetic_set_serves_any_shape() {
    for shape in [vec![7], vec![1, 28, 28], vec![3, 32, 32], vec![2, 3, 5, 4]] {
        let options = SyntheticOptions { shape: shape.clone(), classes: 4, train: 400, test: 100, seed: 1 };
        let source = DataSource::Synthetic(options);
        let data = load(&source, &DataFolders(Vec::new())).unwrap();
        assert_eq!(data.shape, shape);
        assert_eq!(data.fingerprint, identify(&source, &DataFolders(Vec::new())).unwrap().fingerprint);
        let feed = Feed::new(&data, options_for(&data, 32)).unwrap();
        let batch = feed.train_batch(&feed.train_order(0), 0, 0).unwrap();
        assert_eq!(batch.x.size()[1..], shape);
        assert!(f64::try_from(batch.x.max()).unwrap() <= 1.0, "bytes are divided by 255");
        let info = describe(&source, &DataFolders(Vec::new())).unwrap();
        assert_eq!(info.default_valid_size, data.default_valid_size);
    }
}

fn options_for(data: &DataSet, batch_size: usize) -> FeedOptions {
    FeedOptions {
        seed: 42,
        batch_size,
        drop_last: true,
        valid_size: data.default_valid_size,
        train_size: None,
        augment: data.augmentation.is_some(),
        fit: Fit { integers: None, targets: Compared::Targets(data.info().target_shape) },
        device: Device::Cpu,
        kind: Kind::Float,
    }
}

fn write_user_file(path: &Path, tensors: &[(&str, Tensor)]) {
    Tensor::write_safetensors(tensors, path).unwrap();
}

#[test]
fn a_user_file_is_read_with_and_without_a_test_part() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("own.safetensors");
    let source = DataSource::SafeTensors { path: path.clone() };
    let x = Tensor::arange(40 * 2 * 3, (Kind::Float, Device::Cpu)).view([40, 2, 3]);
    let y = Tensor::arange(40, (Kind::Int64, Device::Cpu)).remainder(4);
    write_user_file(&path, &[("x", x.shallow_clone()), ("y", y.shallow_clone())]);

    let data = load(&source, &DataFolders(Vec::new())).unwrap();
    assert_eq!((data.train.len(), data.test.len(), data.default_valid_size), (32, 8, 6));
    assert_eq!((data.classes, data.built_in, data.shape.clone()), (Some(4), false, vec![2, 3]));
    // Samples keep their targets, and every one is in one of the parts.
    let mut seen: HashMap<i64, i64> = HashMap::new();
    for part in [&data.train, &data.test] {
        let first = Vec::<f32>::try_from(part.x.select(1, 0).select(1, 0)).unwrap();
        for (value, label) in first.iter().zip(Vec::<i64>::try_from(&part.y).unwrap()) {
            seen.insert(*value as i64 / 6, label);
        }
    }
    assert_eq!(seen.len(), 40);
    assert!(seen.iter().all(|(index, label)| index % 4 == *label));
    let again = load(&source, &DataFolders(Vec::new())).unwrap();
    assert_eq!(again.test.x, data.test.x, "the same samples are held out each time");
    assert_eq!(describe(&source, &DataFolders(Vec::new())).unwrap().train, 32);
    assert_eq!(data.fingerprint, identify(&source, &DataFolders(Vec::new())).unwrap().fingerprint);

    let targets = Tensor::ones([40, 3], (Kind::Double, Device::Cpu));
    let test = [("x_test", x.narrow(0, 0, 10)), ("y_test", targets.narrow(0, 0, 10))];
    let [x_test, y_test] = test;
    write_user_file(&path, &[("x", x.shallow_clone()), ("y", targets), x_test, y_test]);
    let whole = load(&source, &DataFolders(Vec::new())).unwrap();
    assert_eq!((whole.train.len(), whole.test.len(), whole.classes), (40, 10, None));
    assert_eq!((whole.train.y.kind(), whole.train.y.size()), (Kind::Float, vec![40, 3]));
    assert_ne!(whole.fingerprint, data.fingerprint);
    let feed = Feed::new(&whole, options_for(&whole, 4)).unwrap();
    assert_eq!(feed.evaluation_batches(Part::Test), 2);

    let _ = x.get(7).get(0).get(1).fill_(f64::NAN);
    write_user_file(&path, &[("x", x), ("y", y)]);
    let error = load(&source, &DataFolders(Vec::new())).unwrap_err().to_string();
    assert!(error.contains("element 43 ") && error.contains("finite"), "{error}");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(load(&source, &DataFolders(Vec::new())).unwrap_err().exit_code(), 3);
}

#[test]
fn an_augmented_feed_is_a_function_of_seed_and_step() {
    let options = SyntheticOptions { shape: vec![3, 32, 32], classes: 10, train: 500, test: 100, seed: 1 };
    let mut data = load(&DataSource::Synthetic(options), &DataFolders(Vec::new())).unwrap();
    data.augmentation = published("cifar10").unwrap().recipe;
    data.normalization = published("cifar10").unwrap().normalization();
    let feed = Feed::new(&data, options_for(&data, 64)).unwrap();
    let order = feed.train_order(3);
    let batch = |step| feed.train_batch(&order, 1, step).unwrap();
    assert_eq!(batch(77).x, batch(77).x);
    assert_ne!(batch(77).x, batch(78).x);
    assert_eq!(batch(77).y, batch(78).y);
    let evaluation = |part, evaluation, index| {
        let order = feed.evaluation_order(part, evaluation);
        feed.evaluation_batch(part, &order, evaluation, index).unwrap().x
    };
    assert_eq!(evaluation(Part::TrainEval, 2, 3), evaluation(Part::TrainEval, 2, 3));
    // Validation and test images are only scaled; train-eval ones are augmented as in training.
    let plain = Feed::new(&data, FeedOptions { augment: false, ..options_for(&data, 64) }).unwrap();
    let same = |part, index| {
        let order = plain.evaluation_order(part, 1);
        plain.evaluation_batch(part, &order, 1, index).unwrap().x == evaluation(part, 1, index)
    };
    assert!(same(Part::Valid, 0) && same(Part::Test, 0) && !same(Part::TrainEval, 0));
}

/// Images that torchvision made with the same parameters (scripts/make_augmentation_golden.py).
#[test]
fn images_are_those_of_torchvision() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/augmentation.safetensors");
    let golden: HashMap<String, Tensor> = Tensor::read_safetensors(path).unwrap().into_iter().collect();
    let integers = |name: &str| Vec::<i64>::try_from(golden[name].to_kind(Kind::Int64).view([-1])).unwrap();
    let factors = Vec::<f32>::try_from(golden["factors"].view([-1])).unwrap();
    let order = integers("order");
    let jitters = order.chunks_exact(3).zip(factors.chunks_exact(3)).map(|(order, factors)| {
        [0, 1, 2].map(|place| {
            let jitter = [Jitter::Brightness, Jitter::Contrast, Jitter::Saturation][order[place] as usize];
            (jitter, factors[order[place] as usize])
        })
    });
    let draws = Draws {
        rows: integers("rows"),
        columns: integers("columns"),
        flips: integers("flips").into_iter().map(|flip| flip == 1).collect(),
        jitters: jitters.collect(),
    };

    let got = augment(&golden["images"], &Recipe::CIFAR, &draws).unwrap();

    let expected = golden["expected"].to_kind(Kind::Float);
    assert_eq!(got.size(), expected.size());
    let difference = (&got - &expected).abs();
    let largest = f64::try_from(difference.max()).unwrap();
    let changed = f64::try_from(difference.gt(0.0).to_kind(Kind::Float).mean(Kind::Double)).unwrap();
    println!("largest difference {largest}, share of pixels that differ {changed}");
    assert!(largest <= 1.0, "largest difference {largest}");
    assert!(changed < 1e-3, "{changed} of the pixels differ, though none should but for the platform's rounding");
    let moved = f64::try_from((&expected - golden["images"].to_kind(Kind::Float)).abs().mean(Kind::Double)).unwrap();
    assert!(moved > 10.0, "the golden images are changed images");
}

#[test]
fn list_comes_in_three_forms() {
    let root = crate::support::temporary_folder();
    let list = |format: &str| {
        let mut command = crate::support::program();
        command.args(["data", "list", "--format", format, "--data-dir"]).arg(root.path());
        String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
    };
    assert!(list("table").contains("fashion_mnist_mini"));
    let csv = list("csv");
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 6);
    assert_eq!(&rows[3][0], "cifar10");
    let json: serde_json::Value = serde_json::from_str(&list("json")).unwrap();
    assert_eq!(json["schema_version"], 1);
    let states: Vec<_> =
        json["data_sets"].as_array().unwrap().iter().map(|set| set["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["missing", "missing", "built in", "missing", "missing", "missing"]);
}

#[test]
fn exit_codes_tell_usage_from_environment() {
    let root = crate::support::temporary_folder();
    let run = |arguments: &[&str]| {
        let mut command = crate::support::program();
        command.arg("data").args(arguments).arg("--data-dir").arg(root.path());
        command.assert()
    };
    run(&["verify", "mnits"]).code(2).stdout("").stderr(contains("did you mean `mnist`"));
    run(&["fetch"]).code(2).stdout("").stderr(contains("NAME"));
    run(&["verify"]).code(3).stdout("").stderr(contains("data fetch"));
    run(&["verify", "svhn"]).code(3).stderr(contains("svhn").and(contains("Looked for it in")));
    run(&["import", "mnist", "/nowhere"]).code(3).stderr(contains("/nowhere"));
    run(&["fetch", "fashion_mnist_mini"]).success().stdout("").stderr(contains("nothing to fetch"));
}

#[test]
fn verify_fails_on_files_that_are_not_the_published_ones() {
    let root = crate::support::temporary_folder();
    let folder = root.path().join("cifar-100-binary");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, count) in [("train.bin", 50_000), ("test.bin", 10_000)] {
        let mut record = vec![1, 2];
        record.resize(3074, 3);
        std::fs::write(folder.join(name), record.repeat(count)).unwrap();
    }
    let verify = |format: &str| {
        let mut command = crate::support::program();
        command.args(["data", "verify", "cifar100", "--format", format, "--data-dir"]).arg(root.path());
        command.assert().code(1).stderr(contains("cifar100")).get_output().stdout.clone()
    };
    let json: serde_json::Value = serde_json::from_slice(&verify("json")).unwrap();
    let set = &json["data_sets"][0];
    assert_eq!((set["ok"].as_bool(), set["defect"].is_null()), (Some(false), true));
    assert_eq!(set["files"][0]["hash"], "differs");
    std::fs::write(folder.join("test.bin"), vec![200; 3074 * 10_000]).unwrap();
    let csv = String::from_utf8(verify("csv")).unwrap();
    assert!(csv.contains("label 200"), "{csv}");
}

#[test]
fn a_mirror_that_is_not_there_is_named() {
    let root = crate::support::temporary_folder();
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = crate::support::program();
    command.args(["data", "fetch", "mnist", "--data-dir"]).arg(root.path());
    command.env("BACKPACK_RUN_MIRROR", format!("http://{address}/sets"));
    command.assert().code(3).stdout("").stderr(contains(format!("http://{address}/sets/train-images-idx3-ubyte.gz")));
    assert!(!root.path().join("mnist/train-images-idx3-ubyte.gz").exists());
}
