//! Real data sets where they are found (Fashion-MNIST always, others where BACKPACK_RUN_DATA has them), the embedded and
//! synthetic ones, and a user's own file: loading, verifying, importing.

use std::collections::HashMap;
use std::path::Path;

use backpack_run::problems::data::obtain::{ImportOptions, SetState, import, status, verify};
use backpack_run::problems::data::{
    CATALOG, Compared, DataFolders, DataSet, DataSource, Feed, FeedOptions, Fit, Part, Published, SyntheticOptions,
    describe, identify, load, published,
};
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
