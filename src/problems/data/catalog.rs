//! The published data sets: what they hold, how their files are called, where they come from and their hashes.
//!
//! A hash was either computed from the published file itself (MNIST's four files; the uncompressed contents of
//! Fashion-MNIST's, from Debian's dataset-fashion-mnist, which packs them anew), or stands in two published sources:
//!
//! - `TFDS`: tensorflow/datasets, tensorflow_datasets/url_checksums/{mnist,fashion_mnist,cifar10,cifar100,svhn_cropped}.txt
//!   (SHA-256 and size): MNIST's and Fashion-MNIST's .gz, both CIFAR archives, SVHN's .mat.
//! - `TVR`: ankane/torchvision-ruby, lib/torchvision/datasets/{fashion_mnist,cifar10,cifar100}.rb (SHA-256):
//!   Fashion-MNIST's .gz, both CIFAR archives and their .bin files.
//! - `TV`: pytorch/vision, torchvision/prototype/datasets/_builtin/{mnist,svhn}.py (SHA-256): Fashion-MNIST's .gz, SVHN.
//! - `DL`: rai-project/dldataset, vision/{cifar10,cifar100}.go (MD5): the .bin files of both CIFARs, whose SHA-256 is
//!   published once only; both digests are compared.
//! - JuliaML/MLDatasets.jl (src/datasets/vision/cifar100.jl) and gomlx/gomlx (examples/cifar/cifar.go) repeat the
//!   archives' SHA-256; the authors' pages their MD5.

use super::augmentation::Recipe;
use super::formats::cifar::Variant;
use super::set::Normalization;

/// What a file's bytes must hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// SHA-256, hexadecimal.
    pub sha256: &'static str,
    /// MD5, hexadecimal, where it is the second source.
    pub md5: Option<&'static str>,
}

/// A file as its authors publish it.
#[derive(Clone, Copy, Debug)]
pub struct PublishedFile {
    /// Its name.
    pub name: &'static str,
    /// Its bytes.
    pub size: u64,
    /// Its hash.
    pub digest: Digest,
    /// The hash of what a .gz holds.
    pub content: Option<Digest>,
    /// The folders it is published in, in the order in which they are tried; each ends with a slash.
    pub urls: &'static [&'static str],
}

/// In which format a set is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Four idx files.
    Idx,
    /// A .tar.gz with files of records.
    Cifar(Variant),
    /// Two MAT-files.
    Svhn,
}

/// A published data set.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// What a problem file calls it.
    pub name: &'static str,
    /// Its usual name.
    pub title: &'static str,
    /// [channels, height, width].
    pub shape: [usize; 3],
    /// How many classes.
    pub classes: usize,
    /// Images in the training file.
    pub train: usize,
    /// Images in the test file.
    pub test: usize,
    /// Images for validation, and those the train metrics are measured on.
    pub valid: usize,
    /// The format.
    pub format: Format,
    /// The folder below a data folder that holds the files as published.
    pub folder: &'static str,
    /// Further folders in which the files are recognised (torchvision's); "" is the data folder itself.
    pub also: &'static [&'static str],
    /// What to fetch.
    pub files: &'static [PublishedFile],
    /// The hashes of an archive's files.
    pub members: &'static [(&'static str, Digest)],
    /// Folders and files that torchvision keeps and that are not read.
    pub pickles: &'static [&'static str],
    /// The channels' means, after division by 255.
    pub mean: &'static [f64],
    /// The channels' standard deviations.
    pub std: &'static [f64],
    /// How training images are augmented.
    pub recipe: Option<Recipe>,
}

impl Published {
    /// How the images are scaled.
    pub fn normalization(&self) -> Normalization {
        Normalization { mean: self.mean.to_vec(), std: self.std.to_vec() }
    }
}

/// The published set of this name.
pub fn published(name: &str) -> Option<&'static Published> {
    CATALOG.iter().find(|set| set.name == name)
}

const fn sha256(sha256: &'static str) -> Digest {
    Digest { sha256, md5: None }
}

const fn both(sha256: &'static str, md5: &'static str) -> Digest {
    Digest { sha256, md5: Some(md5) }
}

const MNIST_URLS: &[&str] = &[
    "https://yann.lecun.com/exdb/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
];
const FASHION_URLS: &[&str] = &[
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
];
const CIFAR10_URLS: &[&str] = &[
    "https://www.cs.toronto.edu/~kriz/",
    "https://cave.cs.toronto.edu/kriz/",
    "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/cifar10/",
];
const CIFAR100_URLS: &[&str] = &[
    "https://www.cs.toronto.edu/~kriz/",
    "https://cave.cs.toronto.edu/kriz/",
    "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/cifar100/",
];
const SVHN_URLS: &[&str] =
    &["http://ufldl.stanford.edu/housenumbers/", "https://cseweb.ucsd.edu/~weijian/static/datasets/svhn/"];

const fn gz(
    urls: &'static [&'static str],
    name: &'static str,
    size: u64,
    file: &'static str,
    content: &'static str,
) -> PublishedFile {
    PublishedFile { name, size, digest: sha256(file), content: Some(sha256(content)), urls }
}

const fn plain(urls: &'static [&'static str], name: &'static str, size: u64, file: &'static str) -> PublishedFile {
    PublishedFile { name, size, digest: sha256(file), content: None, urls }
}

/// The published sets, in the order in which they are listed.
pub static CATALOG: [Published; 5] = [
    Published {
        name: "mnist",
        title: "MNIST",
        shape: [1, 28, 28],
        classes: 10,
        train: 60_000,
        test: 10_000,
        valid: 10_000,
        format: Format::Idx,
        folder: "mnist",
        also: &["MNIST/raw"],
        files: &[
            gz(
                MNIST_URLS,
                "train-images-idx3-ubyte.gz",
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            gz(
                MNIST_URLS,
                "train-labels-idx1-ubyte.gz",
                28_881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            gz(
                MNIST_URLS,
                "t10k-images-idx3-ubyte.gz",
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            gz(
                MNIST_URLS,
                "t10k-labels-idx1-ubyte.gz",
                4_542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ],
        members: &[],
        pickles: &[],
        mean: &[],
        std: &[],
        recipe: None,
    },
    Published {
        name: "fashion_mnist",
        title: "Fashion-MNIST",
        shape: [1, 28, 28],
        classes: 10,
        train: 60_000,
        test: 10_000,
        valid: 10_000,
        format: Format::Idx,
        folder: "fashion-mnist",
        also: &["FashionMNIST/raw"],
        files: &[
            gz(
                FASHION_URLS,
                "train-images-idx3-ubyte.gz",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            gz(
                FASHION_URLS,
                "train-labels-idx1-ubyte.gz",
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            gz(
                FASHION_URLS,
                "t10k-images-idx3-ubyte.gz",
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
            gz(
                FASHION_URLS,
                "t10k-labels-idx1-ubyte.gz",
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ],
        members: &[],
        pickles: &[],
        mean: &[],
        std: &[],
        recipe: None,
    },
    Published {
        name: "cifar10",
        title: "CIFAR-10",
        shape: [3, 32, 32],
        classes: 10,
        train: 50_000,
        test: 10_000,
        valid: 10_000,
        format: Format::Cifar(Variant::Ten),
        folder: "cifar-10-batches-bin",
        also: &[],
        files: &[plain(
            CIFAR10_URLS,
            "cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        )],
        members: &[
            (
                "data_batch_1.bin",
                both(
                    "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
                    "5dd7e06a14cb22eb9f671a540d1b7c25",
                ),
            ),
            (
                "data_batch_2.bin",
                both(
                    "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
                    "5ea93a67294ea407fff1d09f752e9692",
                ),
            ),
            (
                "data_batch_3.bin",
                both(
                    "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
                    "942cd6a4bcdd0dd3c604fbe906cb4421",
                ),
            ),
            (
                "data_batch_4.bin",
                both(
                    "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
                    "ae636b3ba5c66a11e91e8cb52e771fcb",
                ),
            ),
            (
                "data_batch_5.bin",
                both(
                    "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
                    "53f37980c15c3d472c316c40844f3f0d",
                ),
            ),
            (
                "test_batch.bin",
                both(
                    "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
                    "803d5f7f4d78ea53de84dbe85f74fb6d",
                ),
            ),
        ],
        pickles: &["cifar-10-batches-py", "cifar-10-python.tar.gz"],
        mean: &[0.49139968, 0.48215841, 0.44653091],
        std: &[0.24703223, 0.24348513, 0.26158784],
        recipe: Some(Recipe::CIFAR),
    },
    Published {
        name: "cifar100",
        title: "CIFAR-100",
        shape: [3, 32, 32],
        classes: 100,
        train: 50_000,
        test: 10_000,
        valid: 10_000,
        format: Format::Cifar(Variant::Hundred),
        folder: "cifar-100-binary",
        also: &[],
        files: &[plain(
            CIFAR100_URLS,
            "cifar-100-binary.tar.gz",
            168_513_733,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        )],
        members: &[
            (
                "train.bin",
                both(
                    "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
                    "6172c7755cfe09b2fe270c85cebc1b15",
                ),
            ),
            (
                "test.bin",
                both(
                    "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
                    "4499cfba6c016c1be1438163640a0898",
                ),
            ),
        ],
        pickles: &["cifar-100-python", "cifar-100-python.tar.gz"],
        mean: &[0.50707516, 0.48654887, 0.44091784],
        std: &[0.26733429, 0.25643846, 0.27615047],
        recipe: Some(Recipe::CIFAR),
    },
    Published {
        name: "svhn",
        title: "SVHN (cropped digits)",
        shape: [3, 32, 32],
        classes: 10,
        train: 73_257,
        test: 26_032,
        valid: 26_032,
        format: Format::Svhn,
        folder: "svhn",
        also: &["SVHN", ""],
        files: &[
            plain(
                SVHN_URLS,
                "train_32x32.mat",
                182_040_794,
                "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
            ),
            plain(
                SVHN_URLS,
                "test_32x32.mat",
                64_275_384,
                "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
            ),
        ],
        members: &[],
        pickles: &[],
        mean: &[0.4376821, 0.4437697, 0.47280442],
        std: &[0.19803012, 0.20101562, 0.19703614],
        recipe: Some(Recipe::SVHN),
    },
];
