//! From a data source to a data set in memory.

use std::path::Path;

use tch::{Kind, Tensor};

use super::defect::{defect, read_file};
use super::folders::DataFolders;
use super::formats::synthetic;
use super::formats::text::{self, Text};
use super::formats::user::{self, Stored, UserFile};
use super::identity::Identity;
use super::named::named_set;
use super::set::{DataInfo, DataSet, Inputs, Samples, default_valid_size};
use super::source::{DataSource, InputShape};
use crate::backpack::memory;
use crate::error::{Error, IoContext, Result};
use crate::random::{Purpose, permutation, stream};
use crate::tensor_head;

/// One sample in so many is held out for testing where a user's file has no test part.
const HELD_OUT: usize = 5;

/// What is known of a set without its samples: nothing is opened for a named one, only header and targets of a user's.
///
/// # Errors
/// [`Error::Usage`] for an unknown name or impossible options; [`Error::Io`] and [`Error::Data`] for a user's file.
pub fn describe(source: &DataSource, folders: &DataFolders) -> Result<DataInfo> {
    match source {
        DataSource::Named(name) => named_set(name)?.describe(folders),
        DataSource::Synthetic(options) => {
            synthetic::check(options)?;
            Ok(DataInfo {
                name: "synthetic".to_owned(),
                shape: options.shape.clone(),
                inputs: Inputs::Integers,
                classes: Some(options.classes),
                target_shape: Vec::new(),
                train: options.train,
                test: options.test,
                built_in: true,
                augmentation: false,
                default_valid_size: default_valid_size(options.train),
            })
        }
        DataSource::Text { path, context } => {
            let text = read_text(path, *context)?;
            Ok(DataInfo {
                name: source.to_string(),
                shape: vec![*context as i64],
                inputs: Inputs::Tokens,
                classes: Some(text.vocabulary.len()),
                target_shape: vec![*context as i64],
                train: text.train,
                test: text.test,
                built_in: false,
                augmentation: false,
                default_valid_size: default_valid_size(text.train),
            })
        }
        DataSource::Absent(input) => Ok(DataInfo {
            name: source.to_string(),
            shape: input.shape.clone(),
            inputs: if input.integers.is_some() { Inputs::Tokens } else { Inputs::Floats },
            classes: None,
            target_shape: Vec::new(),
            train: 0,
            test: 0,
            built_in: false,
            augmentation: false,
            default_valid_size: 0,
        }),
        DataSource::SafeTensors { path } => {
            let file = user::read_layout(path)?;
            let samples = file.train.x.shape[0];
            let test = file.test.as_ref().map_or(samples / HELD_OUT, |test| test.x.shape[0]).max(1);
            let train = if file.test.is_some() { samples } else { samples - test };
            Ok(DataInfo {
                name: source.to_string(),
                shape: sample_shape(&file.train.x),
                inputs: if file.train.x.is_integer() { Inputs::Integers } else { Inputs::Floats },
                classes: file.targets.classes(),
                target_shape: file.target_shape.clone(),
                train,
                test,
                built_in: false,
                augmentation: false,
                default_valid_size: default_valid_size(train),
            })
        }
    }
}

/// What tells a data set's content apart from others.
///
/// # Errors
/// [`Error::MissingData`] where a published set is not found; [`Error::Usage`] for an unknown name; [`Error::Io`] and
/// [`Error::Data`] for files that cannot be read or are damaged.
pub fn identify(source: &DataSource, folders: &DataFolders) -> Result<Identity> {
    match source {
        DataSource::Named(name) => named_set(name)?.identify(folders),
        DataSource::Synthetic(options) => Ok(Identity::of_content(synthetic::fingerprint(options))),
        DataSource::Absent(input) => Err(no_data(input)),
        DataSource::Text { path, context } => {
            text::check_there(path, *context)?;
            Identity::of_file(path, |digest| format!("{digest} context {context}"))
        }
        DataSource::SafeTensors { path } => {
            // A file of another size than its header tells of is damaged, and not read to its end.
            user::read_header(path)?;
            Identity::of_file(path, |digest| digest)
        }
    }
}

/// Reads a data set into memory, on the CPU, and checks structure, counts and labels. That it is the published one is not
/// asked for, but told by its fingerprint.
///
/// # Errors
/// [`Error::MissingData`] that lists where it was looked for; [`Error::Data`] and [`Error::Io`] for bad files;
/// [`Error::Usage`] for an unknown name or impossible options; [`Error::Environment`] where the memory does not suffice or
/// a file changes while it is read.
pub fn load(source: &DataSource, folders: &DataFolders) -> Result<DataSet> {
    match source {
        DataSource::Named(name) => named_set(name)?.load(folders),
        DataSource::Synthetic(options) => {
            memory::check_room("the synthetic data set", synthetic::bytes(options))?;
            let (train, test) = synthetic::generate(options)?;
            let samples = |part: synthetic::Synthetic| {
                let mut shape = vec![part.y.len() as i64];
                shape.extend(&options.shape);
                Samples { x: Tensor::from_slice(&part.x).view(shape.as_slice()), y: Tensor::from_slice(&part.y) }
            };
            let (classes, fingerprint) = (Some(options.classes), synthetic::fingerprint(options));
            let plain = DataSet::plain("synthetic".to_owned(), samples(train), samples(test), classes, fingerprint);
            Ok(DataSet { built_in: true, ..plain })
        }
        DataSource::Absent(input) => Err(no_data(input)),
        DataSource::Text { path, context } => {
            let identity = identify(source, folders)?;
            let data = load_text(path, *context, identity.fingerprint.clone())?;
            identity.check_unchanged()?;
            Ok(data)
        }
        DataSource::SafeTensors { path } => {
            let identity = identify(source, folders)?;
            let data = load_user(path, identity.fingerprint.clone())?;
            identity.check_unchanged()?;
            Ok(data)
        }
    }
}

/// Reads a text, for which a number of four bytes a character is needed beside it, twice for a moment.
fn read_text(path: &Path, context: usize) -> Result<Text> {
    text::check_there(path, context)?;
    let length = std::fs::metadata(path).at("reading", path)?.len();
    memory::check_room(path.display(), length.saturating_mul(9))?;
    text::read(path, context)
}

/// The windows of a text: all characters of each but the last are a sample, all but the first its labels.
fn load_text(path: &Path, context: usize, fingerprint: String) -> Result<DataSet> {
    let text = read_text(path, context)?;
    let windows = Tensor::from_slice(&text.numbers).f_view([-1, context as i64 + 1])?;
    let part = |start: usize, count: usize| -> Result<Samples> {
        let windows = windows.f_narrow(0, start as i64, count as i64)?;
        let (x, y) = (windows.f_narrow(1, 0, context as i64)?, windows.f_narrow(1, 1, context as i64)?);
        Ok(Samples { x: x.f_contiguous()?, y: y.f_to_kind(Kind::Int64)? })
    };
    let (train, test) = (part(0, text.train)?, part(text.train, text.test)?);
    let plain = DataSet::plain(path.display().to_string(), train, test, Some(text.vocabulary.len()), fingerprint);
    Ok(DataSet { vocabulary: Some(text.vocabulary), ..plain })
}

/// The error of a problem that says what its input looks like and names no data.
pub(crate) fn no_data(input: &InputShape) -> Error {
    match (input.integers, input.shape.as_slice()) {
        (Some(_), [context]) => Error::MissingData(format!(
            "the problem is for a text of your own, and none is given: \
             name it by the key `dataset = {{ text = \"FILE\", context = {context} }}`"
        )),
        _ => Error::Usage(
            "the problem has no data set, only the shape of its input, with which it can be extracted and checked, not \
             trained: give it one, in its file or by the key `dataset=..` (see `list problems`)"
                .to_owned(),
        ),
    }
}

fn sample_shape(x: &Stored) -> Vec<i64> {
    x.shape[1..].iter().map(|&size| size as i64).collect()
}

fn load_user(path: &Path, fingerprint: String) -> Result<DataSet> {
    // The header is compared with the file's size before the rest is read.
    user::read_layout(path)?;
    let length = std::fs::metadata(path).at("reading", path)?.len();
    // The bytes, and the tensors made of them.
    memory::check_room(path.display(), length.saturating_mul(2))?;
    let bytes = read_file(path)?;
    let file = user::parse(&bytes, path)?;
    let UserFile { train, test, targets, target_shape } = &file;
    let part = |half: &user::Half| -> Result<Samples> {
        let x = tensor(&bytes, &half.x, path)?;
        let x = if half.x.is_integer() { x } else { x.to_kind(Kind::Float) };
        let y = tensor(&bytes, &half.y, path)?;
        let y = y.to_kind(if targets.classes().is_some() { Kind::Int64 } else { Kind::Float });
        Ok(Samples { x, y: y.view([&[-1], target_shape.as_slice()].concat().as_slice()) })
    };
    let whole = part(train)?;
    let (train_part, test_part) = match test {
        Some(test) => (whole, part(test)?),
        None => hold_out(whole, path)?,
    };
    let name = path.display().to_string();
    Ok(DataSet::plain(name, train_part, test_part, targets.classes(), fingerprint))
}

/// Checks, without reading a set into memory, that its samples are among the integers that a network takes; of a set that
/// the program knows by name they are bytes.
///
/// # Errors
/// [`Error::Shape`] that tells an integer which is not; [`Error::Io`] and [`Error::Data`] for a user's file.
pub fn check_integers(source: &DataSource, count: i64) -> Result<()> {
    let (least, largest) = match source {
        DataSource::SafeTensors { path } => user::integers_of(path)?,
        DataSource::Text { path, context } => (0, read_text(path, *context)?.vocabulary.len() as i64 - 1),
        DataSource::Absent(input) => (0, input.integers.unwrap_or(1) - 1),
        // What a program's own sets hold, their samples tell when they are drawn.
        DataSource::Named(name) if named_set(name)?.published().is_none() => return Ok(()),
        DataSource::Named(_) | DataSource::Synthetic(_) => (0, i64::from(u8::MAX)),
    };
    if least >= 0 && largest < count {
        return Ok(());
    }
    let odd = if least < 0 { least } else { largest };
    Err(super::fit::beyond(&source.to_string(), odd, count))
}

/// How many different integers the samples of a text are made of, or of the input of a problem without data; `None` for any
/// other set.
///
/// # Errors
/// As [`describe`].
pub fn vocabulary_size(source: &DataSource) -> Result<Option<i64>> {
    Ok(match source {
        DataSource::Text { path, context } => Some(read_text(path, *context)?.vocabulary.len() as i64),
        DataSource::Absent(input) => input.integers,
        _ => None,
    })
}

/// Sets a fifth of the samples aside for testing, the same ones whatever a run's seed, each part in the file's order.
fn hold_out(whole: Samples, path: &Path) -> Result<(Samples, Samples)> {
    let n = whole.len();
    let count = (n / HELD_OUT).max(1);
    tracing::info!(
        "{}: no x_test and y_test, so {count} of {n} samples are held out for testing, the same in every run",
        path.display()
    );
    // Step 1: step 0 of this purpose is the validation split's.
    let mut order = permutation(&mut stream(0, Purpose::Split, 1), n);
    let mut rest = order.split_off(count);
    order.sort_unstable();
    rest.sort_unstable();
    let take = |indices: &[i64]| -> Result<Samples> {
        let indices = Tensor::from_slice(indices);
        Ok(Samples { x: whole.x.f_index_select(0, &indices)?, y: whole.y.f_index_select(0, &indices)? })
    };
    Ok((take(&rest)?, take(&order)?))
}

fn tensor(bytes: &[u8], stored: &Stored, path: &Path) -> Result<Tensor> {
    let kind = tensor_head::kind(stored.dtype)
        .filter(|kind| *kind != Kind::Bool)
        .ok_or_else(|| Error::Unsupported(format!("{}: elements of type {:?}", path.display(), stored.dtype)))?;
    let shape = tensor_head::sizes(&stored.shape).ok_or_else(|| {
        let expected = "sizes that a tensor can have";
        defect(path, stored.start, format!("sizes {:?}", stored.shape), expected, "Write the file again")
    })?;
    let tensor = Tensor::f_from_data_size(&bytes[stored.start..stored.end], &shape, kind)?;
    if tensor.is_floating_point() {
        let finite = tensor.isfinite().flatten(0, -1);
        if !bool::try_from(finite.all())? {
            let place = i64::try_from(finite.to_kind(Kind::Int).argmin(0, false))? as usize;
            let offset = stored.start + place * tensor.kind().elt_size_in_bytes();
            let found = format!("element {place} of a tensor is not finite");
            return Err(defect(path, offset, found, "finite numbers", "Write the file again without NaN and infinity"));
        }
    }
    Ok(tensor)
}
