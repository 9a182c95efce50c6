//! Every reader on files made here: what is whole reads back, what is broken is refused with a place and a remedy.

use std::io::{Read, Write};
use std::path::Path;

use backpack_run::Error;
use backpack_run::problems::data::formats::cifar::{self, Variant};
use backpack_run::problems::data::formats::user::{self, Targets};
use backpack_run::problems::data::formats::{Images, idx, mat, svhn};
use backpack_run::problems::data::{DataFolders, DataSource, load};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use proptest::collection::vec;
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView, serialize};

const PATH: &str = "folder/file";

fn path() -> &'static Path {
    Path::new(PATH)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The error names the file, an offset, what was found and expected, and a remedy; here it must contain `word` too.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, word: &str) -> u64 {
    let error = result.unwrap_err();
    let text = error.to_string();
    let Error::Data { path, offset, found, expected, remedy } = error else { panic!("{text}") };
    assert_eq!(path.components().next(), Path::new(PATH).components().next(), "{text}");
    assert!(!found.is_empty() && !expected.is_empty() && remedy.len() > 20, "{text}");
    assert!(text.contains(word), "`{word}` is not in: {text}");
    offset
}

fn idx_file(sizes: &[u32], elements: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(elements);
    bytes
}

fn element(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if (1..=4).contains(&data.len()) {
        bytes.extend((kind | (data.len() as u32) << 16).to_le_bytes());
        bytes.extend(data);
        bytes.resize(8, 0);
    } else {
        bytes.extend(kind.to_le_bytes());
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

/// A matrix as MATLAB 7 writes it: class, dimensions, name, elements of the given storage type.
fn matrix(class: u8, sizes: &[i32], name: &str, storage: u32, elements: &[u8]) -> Vec<u8> {
    let mut inside = element(6, &[class, 0, 0, 0, 0, 0, 0, 0]);
    inside.extend(element(5, &sizes.iter().flat_map(|size| size.to_le_bytes()).collect::<Vec<_>>()));
    inside.extend(element(1, name.as_bytes()));
    inside.extend(element(storage, elements));
    let mut bytes = 14u32.to_le_bytes().to_vec();
    bytes.extend((inside.len() as u32).to_le_bytes());
    bytes.extend(inside);
    bytes
}

fn compressed(matrix: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(matrix).unwrap();
    let data = encoder.finish().unwrap();
    let mut bytes = 15u32.to_le_bytes().to_vec();
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

fn mat_file(variables: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"MATLAB 5.0 MAT-file, Platform: GLNXA64".to_vec();
    bytes.resize(124, b' ');
    bytes.extend([0x00, 0x01, b'I', b'M']);
    variables.iter().for_each(|variable| bytes.extend(variable));
    bytes
}

/// SVHN's layout: X of class uint8, y of class double whose elements are stored as bytes.
fn svhn_file(x: &[u8], y: &[u8]) -> Vec<u8> {
    let n = y.len() as i32;
    let x = matrix(9, &[32, 32, 3, n], "X", 2, x);
    let y = matrix(6, &[n, 1], "y", 2, y);
    mat_file(&[compressed(&x), compressed(&y)])
}

fn svhn_images(count: usize) -> (Vec<u8>, Vec<u8>) {
    let pixels = (0..count * 3072).map(|place| (place % 251) as u8).collect();
    (pixels, (0..count).map(|image| (image % 10 + 1) as u8).collect())
}

fn user_file(tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (*name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    serialize(views, None).unwrap()
}

fn small_user_file() -> Vec<u8> {
    let labels: Vec<u8> = [0i64, 2, 1, 2].iter().flat_map(|label| label.to_le_bytes()).collect();
    user_file(&[("x", Dtype::U8, vec![4, 3], (0..12).collect()), ("y", Dtype::I64, vec![4], labels)])
}

/// A reader and a whole file for it.
type Reader = (&'static str, fn(&[u8]) -> Result<(), Error>, Vec<u8>);

fn readers() -> Vec<Reader> {
    let (x, y) = svhn_images(3);
    let mut record = vec![7];
    record.resize(3073, 9);
    vec![
        ("idx", |bytes| idx::parse(bytes, path()).map(|_| ()), idx_file(&[3, 2, 2], &[5; 12])),
        ("idx.gz", |bytes| idx::parse(bytes, path()).map(|_| ()), gzip(&idx_file(&[30, 2, 2], &[5; 120]))),
        (
            "cifar",
            |bytes| cifar::parse(bytes, path(), Variant::Ten, Some(2), &mut Images::with_capacity(cifar::SHAPE, 0)),
            [record.clone(), record].concat(),
        ),
        (
            "cifar archive",
            |bytes| cifar::parse_archive(bytes, path(), Variant::Hundred).map(|_| ()),
            Vec::new(), // A whole one is too large to damage often; see below.
        ),
        ("svhn", |bytes| svhn::parse(bytes, path(), None).map(|_| ()), svhn_file(&x, &y)),
        ("user", |bytes| user::parse(bytes, path()).map(|_| ()), small_user_file()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn idx_reads_back(sizes in vec(0u32..7, 1..4), zipped: bool, seed: u8) {
        let elements: Vec<u8> = (0..sizes.iter().product::<u32>()).map(|place| (place as u8).wrapping_mul(seed)).collect();
        let plain = idx_file(&sizes, &elements);
        let array = idx::parse(&if zipped { gzip(&plain) } else { plain }, path()).unwrap();
        prop_assert_eq!(array.sizes, sizes.iter().map(|&size| size as usize).collect::<Vec<_>>());
        prop_assert_eq!(array.elements, elements);
    }

    #[test]
    fn noise_is_refused(bytes in vec(any::<u8>(), 0..400)) {
        for (_, read, _) in readers() {
            if !bytes.is_empty() {
                refused(read(&bytes), "expected");
            }
        }
    }

    #[test]
    fn a_file_cut_short_is_refused(share in 0.0..1.0f64) {
        for (_, read, whole) in readers().into_iter().filter(|reader| !reader.2.is_empty()) {
            let length = (whole.len() as f64 * share) as usize;
            refused(read(&whole[..length]), "expected");
        }
    }

    #[test]
    fn a_damaged_file_never_panics(share in 0.0..1.0f64, flip in 1u8..) {
        for (name, read, mut whole) in readers().into_iter().filter(|reader| !reader.2.is_empty()) {
            let place = (whole.len() as f64 * share) as usize;
            whole[place] ^= flip;
            if let Err(error) = read(&whole) {
                let is_data = matches!(error, Error::Data { .. });
                prop_assert!(is_data, "{}: {}", name, error);
            }
        }
    }

    #[test]
    fn gzip_damage_is_noticed(share in 0.0..1.0f64, flip in 1u8..) {
        let plain = idx_file(&[500], &(0..500).map(|place| (place % 256) as u8).collect::<Vec<_>>());
        let mut zipped = gzip(&plain);
        // The ten bytes of the header hold nothing that the content depends on.
        let place = 10 + ((zipped.len() - 10) as f64 * share) as usize;
        zipped[place] ^= flip;
        // The last bits of the stream are padding, which may hold anything.
        match idx::parse(&zipped, path()) {
            Ok(read) => prop_assert_eq!(read.elements, idx::parse(&plain, path()).unwrap().elements),
            damaged => drop(refused(damaged, "expected")),
        }
    }
}

#[test]
fn whole_files_are_accepted() {
    for (name, read, whole) in readers().into_iter().filter(|reader| !reader.2.is_empty()) {
        read(&whole).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn idx_names_the_place_of_each_defect() {
    let parse = |bytes: &[u8]| idx::parse(bytes, path());
    assert_eq!(refused(parse(&[0, 0, 13, 3, 0, 0, 0, 1]), "2051"), 0);
    assert_eq!(refused(parse(&idx_file(&[4, 2], &[0; 7])), "after 7 bytes"), 12 + 7);
    assert_eq!(refused(parse(&idx_file(&[4, 2], &[0; 9])), "more bytes"), 12 + 8);
    // Counts that no memory could hold are refused before anything is allocated.
    assert_eq!(refused(parse(&idx_file(&[u32::MAX, u32::MAX, 28], &[0; 9])), "can hold"), 4);
    assert_eq!(refused(parse(&gzip(&idx_file(&[u32::MAX], &[0; 9]))), "can hold"), 4);
    let mut cut = gzip(&idx_file(&[100], &[3; 100]));
    cut.truncate(cut.len() - 6);
    refused(parse(&cut), "gzip");
}

#[test]
fn idx_images_and_labels_belong_together() {
    let images = idx_file(&[3, 2, 2], &[1; 12]);
    let expected = idx::Expected { size: [2, 2], classes: 10, count: Some(3) };
    let parse = |images: &[u8], labels: &[u8], expected| {
        idx::parse_images((images, Path::new("folder/images")), (labels, Path::new("folder/labels")), expected)
    };
    let read = parse(&images, &idx_file(&[3], &[0, 9, 4]), expected).unwrap();
    assert_eq!((read.labels, read.shape, read.pixels.len()), (vec![0, 9, 4], [1, 2, 2], 12));
    assert_eq!(refused(parse(&images, &idx_file(&[3], &[0, 10, 4]), expected), "label 10"), 9);
    refused(parse(&images, &idx_file(&[2], &[0, 1]), expected), "folder/images");
    refused(parse(&images, &idx_file(&[3], &[0; 3]), idx::Expected { count: Some(4), ..expected }), "3 images");
    refused(parse(&images, &idx_file(&[3], &[0; 3]), idx::Expected { size: [28, 28], ..expected }), "28, 28");
}

/// A header that claims other counts is refused before anything that it claims is inflated: what follows it here cannot
/// be.
#[test]
fn counts_are_compared_before_anything_is_inflated() {
    let broken = |mut packed: Vec<u8>| {
        packed.truncate(packed.len() - packed.len() / 3);
        packed
    };
    let noise: Vec<u8> = (0..60_000u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let expected = idx::Expected { size: [2, 2], classes: 10, count: Some(3) };
    let images = |bytes: &[u8]| idx::parse_images((bytes, path()), (&idx_file(&[3], &[0; 3]), path()), expected);
    assert_eq!(refused(images(&broken(gzip(&idx_file(&[15_000, 2, 2], &noise)))), "15000 images"), 4);
    refused(images(&gzip(&idx_file(&[u32::MAX, 2, 2], &noise))), "4294967295 images");
    let labels = broken(gzip(&idx_file(&[60_000], &noise)));
    let whole = idx_file(&[3, 2, 2], &[1; 12]);
    refused(idx::parse_images((&whole, path()), (&labels, path()), expected), "sizes [60000]");

    let (x, y) = svhn_images(3);
    let with = |variables: &[Vec<u8>]| mat_file(variables);
    let cut = |matrix: &[u8]| {
        let packed = broken(compressed(matrix).split_off(8));
        [&15u32.to_le_bytes()[..], &(packed.len() as u32).to_le_bytes(), &packed].concat()
    };
    let many = cut(&matrix(9, &[32, 32, 3, 19], "X", 2, &noise[..19 * 3072]));
    refused(svhn::parse(&with(std::slice::from_ref(&many)), path(), Some(3)), "19 images");
    let (x, y) = (compressed(&matrix(9, &[32, 32, 3, 3], "X", 2, &x)), compressed(&matrix(6, &[3, 1], "y", 2, &y)));
    let long = cut(&matrix(6, &[60_000, 1], "y", 2, &noise));
    refused(svhn::parse(&with(&[x.clone(), long]), path(), Some(3)), "y of sizes [60000, 1]");
    // What is neither images nor labels is not inflated at all.
    let other = cut(&matrix(9, &[60_000, 1], "Z", 2, &noise));
    assert_eq!(svhn::parse(&with(&[other, x, y]), path(), Some(3)).unwrap().len(), 3);
    refused(mat::parse(&with(&[many]), path()), "zlib");
}

/// Variables that together inflate beyond any memory.
#[test]
fn arrays_of_a_mat_file_are_bounded_together() {
    let claims = |bytes: usize| {
        // The head of a matrix of zeros that goes on for as long as it says.
        let mut head = matrix(9, &[i32::try_from(bytes).unwrap(), 1], "Z", 2, &[0; 8]);
        let at = head.len() - 16;
        head[at + 4..at + 8].copy_from_slice(&(bytes as u32).to_le_bytes());
        let inside = (head.len() - 16 + bytes) as u32;
        head[4..8].copy_from_slice(&inside.to_le_bytes());
        head
    };
    // Packed, 300 MB are 300 kB; four of them are refused at the fourth, and a header without such bytes at once.
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&claims(300 << 20)).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(300 << 20), &mut encoder).unwrap();
    let data = encoder.finish().unwrap();
    let zeros = [&15u32.to_le_bytes()[..], &(data.len() as u32).to_le_bytes(), &data].concat();
    let offset =
        refused(mat::parse(&mat_file(&[zeros.clone(), zeros.clone(), zeros.clone(), zeros]), path()), "at most");
    assert!(offset > 128 + 3 * data.len() as u64, "{offset}");
    refused(mat::parse(&mat_file(&[compressed(&claims(1 << 30))]), path()), "Z of sizes [1073741824, 1]");
}

#[test]
fn cifar_records_read_back_and_name_their_defects() {
    let record = |labels: &[u8], pixel: u8| {
        let mut record = labels.to_vec();
        record.resize(labels.len() + 3072, pixel);
        record
    };
    let parse = |bytes: &[u8], variant, count| {
        let mut images = Images::with_capacity(cifar::SHAPE, 2);
        cifar::parse(bytes, path(), variant, count, &mut images).map(|()| images)
    };
    let ten = [record(&[3], 7), record(&[9], 8)].concat();
    let images = parse(&ten, Variant::Ten, Some(2)).unwrap();
    assert_eq!((images.labels, images.pixels[3071], images.pixels[3072]), (vec![3, 9], 7, 8));
    let hundred = [record(&[19, 99], 1), record(&[0, 42], 2)].concat();
    assert_eq!(parse(&hundred, Variant::Hundred, Some(2)).unwrap().labels, [99, 42], "the fine label counts");

    assert_eq!(refused(parse(&ten, Variant::Ten, Some(3)), "9219 bytes"), 6146);
    assert_eq!(refused(parse(&ten[..4000], Variant::Ten, None), "927 bytes"), 3073);
    assert_eq!(refused(parse(&[record(&[3], 7), record(&[10], 8)].concat(), Variant::Ten, None), "label 10"), 3073);
    assert_eq!(refused(parse(&record(&[20, 5], 7), Variant::Hundred, None), "from 0 to 19"), 0);
    assert_eq!(refused(parse(&record(&[19, 100], 7), Variant::Hundred, None), "from 0 to 99"), 1);
}

fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("cifar-100-binary/{name}"), content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

#[test]
fn a_cifar_archive_reads_back_and_names_its_defects() {
    let records = |count: usize, fine: u8| -> Vec<u8> {
        let mut record = vec![4, fine];
        record.resize(3074, fine);
        record.repeat(count)
    };
    let parse = |bytes: &[u8]| cifar::parse_archive(bytes, path(), Variant::Hundred);
    let (train, test) = (records(50_000, 77), records(10_000, 11));
    // The order in the archive does not matter.
    let whole =
        archive(&[("test.bin", test.clone()), ("fine_label_names.txt", b"apple".to_vec()), ("train.bin", train)]);
    let (read_train, read_test) = parse(&whole).unwrap();
    assert_eq!((read_train.len(), read_test.len()), (50_000, 10_000));
    assert_eq!((read_train.labels[49_999], read_test.labels[0]), (77, 11));

    refused(parse(&whole[..whole.len() / 2]), "archive");
    refused(parse(&archive(&[("test.bin", test.clone())])), "train.bin");
    refused(parse(&archive(&[("test.bin", test[..3074 * 9].to_vec())])), "27666 bytes");
    refused(parse(&archive(&[("test.bin", test.clone()), ("test.bin", test)])), "second time");
    refused(parse(b"not an archive"), "archive");
}

#[test]
fn svhn_reads_back_in_row_major_order() {
    let (x, y) = svhn_images(12);
    let images = svhn::parse(&svhn_file(&x, &y), path(), Some(12)).unwrap();
    assert_eq!(images.labels, [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2], "ten stands for zero");
    for (image, channel, row, column) in [(0, 0, 0, 1), (3, 1, 30, 2), (11, 2, 5, 31)] {
        let got = images.pixels[image * 3072 + channel * 1024 + row * 32 + column];
        assert_eq!(got, x[image * 3072 + channel * 1024 + column * 32 + row]);
    }
}

#[test]
fn mat_files_read_as_the_crate_matfile_reads_them() {
    let (x, y) = svhn_images(2);
    let doubles: Vec<u8> = [1.5f64, -2.0, 1e300].iter().flat_map(|value| value.to_le_bytes()).collect();
    let bytes = mat_file(&[
        compressed(&matrix(9, &[32, 32, 3, 2], "X", 2, &x)),
        matrix(6, &[2, 1], "y", 2, &y),
        matrix(6, &[1, 3], "a_longer_name", 9, &doubles),
    ]);
    let ours = mat::parse(&bytes, path()).unwrap();
    let theirs = matfile::MatFile::parse(&bytes[..]).unwrap();
    assert_eq!(ours.len(), 3);
    for array in &ours {
        let other = theirs.find_by_name(&array.name).unwrap();
        assert_eq!(*other.size(), array.sizes);
        let values: Vec<f64> = match other.data() {
            matfile::NumericData::UInt8 { real, .. } => real.iter().map(|&value| value.into()).collect(),
            matfile::NumericData::Double { real, .. } => real.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(array.values().collect::<Vec<_>>(), values);
    }
}

#[test]
fn svhn_names_its_defects() {
    let parse = |bytes: &[u8], count| svhn::parse(bytes, path(), count);
    let (x, y) = svhn_images(3);
    let (x_matrix, y_matrix) = (matrix(9, &[32, 32, 3, 3], "X", 2, &x), matrix(6, &[3, 1], "y", 2, &y));
    let with_y = |y: Vec<u8>| mat_file(&[compressed(&x_matrix), y]);
    refused(parse(&with_y(matrix(6, &[3, 1], "y", 2, &[1, 11, 2])), None), "label 11 of image 1");
    refused(parse(&with_y(matrix(6, &[3, 1], "y", 2, &[0, 1, 2])), None), "label 0");
    refused(parse(&with_y(matrix(6, &[2, 1], "y", 2, &[1, 2])), None), "y of sizes [2, 1]");
    refused(parse(&with_y(matrix(6, &[4, 1], "y", 2, &[1, 2, 3])), None), "dimensions [4, 1]");
    refused(parse(&with_y(matrix(6, &[-3, 1], "y", 2, &[1, 2, 3])), None), "dimensions");
    refused(parse(&mat_file(&[compressed(&x_matrix)]), None), "variable y");
    refused(parse(&svhn_file(&x, &y), Some(4)), "3 images");
    refused(parse(&mat_file(&[matrix(9, &[32, 32, 9], "X", 2, &x), y_matrix.clone()]), None), "[32, 32, 9]");
    let mut wrong = svhn_file(&x, &y);
    wrong[126] = b'M';
    wrong[127] = b'I';
    assert_eq!(refused(parse(&wrong, None), "little-endian"), 124);
    // A size beyond the file, and a variable that is compressed twice.
    let mut long = mat_file(std::slice::from_ref(&y_matrix));
    long[132..136].copy_from_slice(&u32::MAX.to_le_bytes());
    refused(parse(&long, None), "4294967295 bytes");
    refused(parse(&mat_file(&[compressed(&compressed(&y_matrix))]), None), "type 15");
}

#[test]
fn a_user_file_reads_back_and_names_its_defects() {
    let parse = |tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]| user::parse(&user_file(tensors), path());
    let x = || ("x", Dtype::F32, vec![4, 3], vec![0; 48]);
    let y = || ("y", Dtype::I64, vec![4], [0i64, 4, 1, 0].iter().flat_map(|label| label.to_le_bytes()).collect());
    let file = parse(&[x(), y(), ("other", Dtype::F64, vec![1], vec![0; 8])]).unwrap();
    assert_eq!((file.targets, file.test), (Targets::Classes(5), None));
    let values = parse(&[x(), ("y", Dtype::F32, vec![4, 2], vec![0; 32])]).unwrap();
    assert_eq!((values.targets, values.target_shape), (Targets::Values, vec![2]));
    let column = parse(&[x(), ("y", Dtype::F32, vec![4], vec![0; 16])]).unwrap();
    assert_eq!(column.target_shape, [1], "one value a sample is a row of one");
    let at_positions = parse(&[x(), ("y", Dtype::I64, vec![4, 2, 3], vec![0; 192])]).unwrap();
    assert_eq!((at_positions.targets, at_positions.target_shape), (Targets::Classes(1), vec![2, 3]));
    let test = [("x_test", Dtype::F32, vec![2, 3], vec![0; 24]), ("y_test", Dtype::U8, vec![2], vec![7, 0])];
    let whole = parse(&[x(), y(), test[0].clone(), test[1].clone()]).unwrap();
    assert_eq!(whole.targets, Targets::Classes(8), "test labels count too");

    refused(parse(&[x()]), "both x and y");
    refused(parse(&[("z", Dtype::F32, vec![1], vec![0; 4])]), "[z]");
    refused(parse(&[x(), y(), test[0].clone()]), "both x_test and y_test");
    refused(parse(&[x(), ("y", Dtype::I64, vec![3], vec![0; 24])]), "[4, ..]");
    refused(parse(&[x(), ("y", Dtype::I8, vec![4], vec![0, 255, 0, 0])]), "label -1");
    refused(parse(&[x(), ("y", Dtype::BOOL, vec![4, 2], vec![0; 8])]), "integer classes");
    let positions_test = ("y_test", Dtype::I64, vec![2, 1], vec![0; 16]);
    refused(parse(&[x(), y(), test[0].clone(), positions_test]), "y_test");
    refused(parse(&[("x", Dtype::BOOL, vec![4, 3], vec![0; 12]), y()]), "BOOL");
    refused(parse(&[("x", Dtype::F32, vec![4], vec![0; 16]), y()]), "[n, ...]");
    refused(parse(&[x(), y(), ("x_test", Dtype::F32, vec![2, 4], vec![0; 32]), test[1].clone()]), "x_test");
    let values_test = ("y_test", Dtype::F32, vec![2], vec![0; 8]);
    refused(parse(&[x(), y(), test[0].clone(), values_test]), "y_test");
}

#[test]
fn the_header_of_a_user_file_says_the_same_as_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.safetensors");
    let bytes = small_user_file();
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(user::read_layout(&file).unwrap(), user::parse(&bytes, &file).unwrap());
    for broken in [&bytes[..4], &bytes[..40], &bytes[..bytes.len() - 1]] {
        std::fs::write(&file, broken).unwrap();
        assert!(matches!(user::read_layout(&file), Err(Error::Data { .. })), "{}", broken.len());
    }
    // A hole of a terabyte behind what the header tells of takes no memory.
    std::fs::write(&file, &bytes).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(1 << 40).unwrap();
    let error = user::read_layout(&file).unwrap_err();
    assert!(error.to_string().contains("1099511627776"), "{error}");
    let source = DataSource::SafeTensors { path: file };
    assert!(matches!(load(&source, &DataFolders(Vec::new())), Err(Error::Data { .. })));
}
