//! What the `dataset` key of a problem file names: a published set, a user's own file, or a synthetic set.

use std::fmt;
use std::path::PathBuf;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::files::StoredPath;

/// The names that a problem file may write for `dataset`.
pub const BUILT_IN_NAMES: [&str; 6] = ["mnist", "fashion_mnist", "fashion_mnist_mini", "cifar10", "cifar100", "svhn"];

/// The `dataset` of a problem file.
///
/// Written `"mnist"`, `{ safetensors = "file" }` or `{ synthetic = { shape = [3, 32, 32], classes = 10, train = 50000,
/// test = 10000, seed = 0 } }`.
#[derive(Clone, Debug, PartialEq)]
pub enum DataSource {
    /// One of [`BUILT_IN_NAMES`].
    Named(String),
    /// A user's own file with tensors `x`, `y` and perhaps `x_test`, `y_test`.
    SafeTensors {
        /// The file; absolute, or relative to the working directory.
        path: PathBuf,
    },
    /// A set computed from a seed.
    Synthetic(SyntheticOptions),
}

/// A deterministic set of `classes` prototypes with noise on samples and labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticOptions {
    /// The shape of one sample.
    pub shape: Vec<i64>,
    /// How many classes.
    pub classes: usize,
    /// How many training samples, those of the validation split included.
    pub train: usize,
    /// How many test samples.
    pub test: usize,
    /// The seed of prototypes and noise.
    #[serde(default)]
    pub seed: u64,
}

impl fmt::Display for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataSource::Named(name) => f.write_str(name),
            DataSource::SafeTensors { path } => write!(f, "{}", path.display()),
            DataSource::Synthetic(_) => f.write_str("synthetic"),
        }
    }
}

impl Serialize for DataSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            DataSource::Named(name) => serializer.serialize_str(name),
            DataSource::SafeTensors { path } => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("safetensors", &StoredPath(path.clone()))?;
                map.end()
            }
            DataSource::Synthetic(options) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("synthetic", options)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for DataSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Source;
        impl<'de> Visitor<'de> for Source {
            type Value = DataSource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "one of {}, {{ safetensors = \"file\" }} or {{ synthetic = {{ shape, classes, train, test, seed }} }}",
                    BUILT_IN_NAMES.join(", ")
                )
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<DataSource, E> {
                if BUILT_IN_NAMES.contains(&name) {
                    Ok(DataSource::Named(name.to_owned()))
                } else {
                    Err(E::unknown_variant(name, &BUILT_IN_NAMES))
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DataSource, A::Error> {
                use serde::de::Error as _;
                let Some(key) = map.next_key::<String>()? else {
                    return Err(A::Error::custom("an empty table; expected `safetensors` or `synthetic`"));
                };
                let source = match key.as_str() {
                    "safetensors" => DataSource::SafeTensors { path: map.next_value::<StoredPath>()?.0 },
                    "synthetic" => DataSource::Synthetic(map.next_value()?),
                    other => return Err(A::Error::unknown_field(other, &["safetensors", "synthetic"])),
                };
                match map.next_key::<String>()? {
                    Some(other) => {
                        Err(A::Error::custom(format!("`{other}` beside `{key}`; a data set has one source")))
                    }
                    None => Ok(source),
                }
            }
        }
        deserializer.deserialize_any(Source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Problem {
        dataset: DataSource,
    }

    #[test]
    fn every_form_reads_back() {
        for text in [
            "dataset = \"mnist\"",
            "dataset = { safetensors = \"own.safetensors\" }",
            "dataset = { synthetic = { shape = [3, 32, 32], classes = 10, train = 50, test = 10, seed = 7 } }",
        ] {
            let problem: Problem = toml::from_str(text).unwrap();
            let json = serde_json::to_string(&problem).unwrap();
            assert_eq!(serde_json::from_str::<Problem>(&json).unwrap().dataset, problem.dataset);
        }
    }

    #[test]
    fn wrong_forms_are_refused_by_name() {
        let refuse = |text: &str| toml::from_str::<Problem>(text).unwrap_err().to_string();
        assert!(refuse("dataset = \"mnits\"").contains("mnist"));
        assert!(refuse("dataset = { safetensor = \"f\" }").contains("safetensors"));
        assert!(
            refuse("dataset = { synthetic = { shape = [1], classes = 2, train = 1, test = 1, sed = 1 } }")
                .contains("sed")
        );
        assert!(refuse("dataset = { safetensors = \"f\", synthetic = 1 }").contains("one source"));
        assert!(refuse("dataset = 3").contains("cifar10"));
    }
}
