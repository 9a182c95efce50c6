//! What the `dataset` key of a problem file names: a published set, a user's own file, a text, or a synthetic set; and what
//! stands in its place, the shape of an input alone.

use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::named::set_names;
use crate::config::{self, not_known};
use crate::files::StoredPath;
use crate::numbers::{MAX_SIZE, read};

/// Characters of a text's sample, at most.
const MAX_CONTEXT: i64 = 1 << 20;

/// The `dataset` of a problem file.
///
/// Written `"mnist"`, `{ safetensors = "file" }`, `{ text = "file", context = 64 }` or `{ synthetic = { shape = [3, 32, 32],
/// classes = 10, train = 50000, test = 10000, seed = 0 } }`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum DataSource {
    /// One that is called by its name ([`super::set_names`]).
    Named(String),
    /// A user's own file with tensors `x`, `y` and perhaps `x_test`, `y_test`.
    SafeTensors {
        /// The file; absolute, or relative to the working directory.
        path: PathBuf,
    },
    /// A text whose next character is to be predicted.
    Text {
        /// The UTF-8 file; absolute, or relative to the working directory.
        path: PathBuf,
        /// Characters of a sample.
        context: usize,
    },
    /// A set computed from a seed.
    Synthetic(SyntheticOptions),
    /// No data, but the shape of an input: enough to extract and to check, not to train.
    Absent(InputShape),
}

/// The `input` of a problem file without data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputShape {
    /// The shape of one sample; empty where it is a single integer.
    #[serde(deserialize_with = "sizes")]
    pub shape: Vec<i64>,
    /// How many different integers samples are made of, from 0 on; `None` for floats.
    #[serde(default, deserialize_with = "some_size", skip_serializing_if = "Option::is_none")]
    pub integers: Option<i64>,
}

/// A deterministic set of `classes` prototypes with noise on samples and labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticOptions {
    /// The shape of one sample.
    #[serde(deserialize_with = "sample_shape")]
    pub shape: Vec<i64>,
    /// How many classes.
    #[serde(deserialize_with = "read::size")]
    pub classes: usize,
    /// How many training samples, those of the validation split included.
    #[serde(deserialize_with = "read::size")]
    pub train: usize,
    /// How many test samples.
    #[serde(deserialize_with = "read::size")]
    pub test: usize,
    /// The seed of prototypes and noise.
    #[serde(default, deserialize_with = "read::seed")]
    pub seed: u64,
}

/// What the sizes of a sample are, for messages.
pub(in crate::problems) const SAMPLE_SHAPE: &str = "1 or more sizes of a sample with at most 2147483647 values";

/// Sizes of a sample, perhaps none.
fn sizes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<i64>, D::Error> {
    #[derive(Deserialize)]
    struct Size(#[serde(deserialize_with = "size")] i64);
    fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        read::integer(deserializer, 1..=MAX_SIZE)
    }
    let shape: Vec<i64> = Vec::<Size>::deserialize(deserializer)?.into_iter().map(|size| size.0).collect();
    let elements = shape.iter().try_fold(1i64, |product, size| product.checked_mul(*size));
    match elements.is_some_and(|elements| elements <= MAX_SIZE) {
        true => Ok(shape),
        false => Err(D::Error::custom(format!("expected {SAMPLE_SHAPE}"))),
    }
}

fn sample_shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<i64>, D::Error> {
    let shape = sizes(deserializer)?;
    if shape.is_empty() { Err(D::Error::custom(format!("expected {SAMPLE_SHAPE}"))) } else { Ok(shape) }
}

fn some_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    read::integer(deserializer, 1..=MAX_SIZE).map(Some)
}

impl DataSource {
    /// The file, if it is one.
    pub(in crate::problems) fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            DataSource::SafeTensors { path } | DataSource::Text { path, .. } => Some(path),
            _ => None,
        }
    }
}

impl fmt::Display for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataSource::Named(name) => f.write_str(name),
            DataSource::SafeTensors { path } => write!(f, "{}", path.display()),
            DataSource::Text { path, .. } => write!(f, "{}", path.display()),
            DataSource::Synthetic(_) => f.write_str("synthetic"),
            DataSource::Absent(input) => write!(f, "none, samples of shape {:?}", input.shape),
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
            DataSource::Text { path, context } => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("text", &StoredPath(path.clone()))?;
                map.serialize_entry("context", context)?;
                map.end()
            }
            DataSource::Synthetic(options) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("synthetic", options)?;
                map.end()
            }
            DataSource::Absent(input) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("input", input)?;
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
                    "one of {}, {{ safetensors = \"file\" }}, {{ text = \"file\", context }} or {{ synthetic = {{ shape, classes, \
                     train, test, seed }} }}",
                    set_names().join(", ")
                )
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<DataSource, E> {
                match name {
                    name if set_names().contains(&name) => Ok(DataSource::Named(name.to_owned())),
                    "synthetic" => {
                        Err(E::custom("expected { synthetic = { shape = [..], classes = .., train = .., test = .. } }"))
                    }
                    name if name.ends_with(".safetensors") => {
                        Err(E::custom(format!("expected {{ safetensors = \"{name}\" }}")))
                    }
                    name if name.ends_with(".txt") => {
                        Err(E::custom(format!("expected {{ text = \"{name}\", context = 64 }}")))
                    }
                    name => Err(E::custom(not_known("data set", name, set_names()))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DataSource, A::Error> {
                match Form::deserialize(MapAccessDeserializer::new(map))? {
                    Form { safetensors: Some(path), synthetic: None, text: None, context: None, input: None } => {
                        Ok(DataSource::SafeTensors { path: path.0 })
                    }
                    Form { synthetic: Some(options), safetensors: None, text: None, context: None, input: None } => {
                        Ok(DataSource::Synthetic(options))
                    }
                    Form {
                        text: Some(path),
                        context: Some(context),
                        safetensors: None,
                        synthetic: None,
                        input: None,
                    } => Ok(DataSource::Text { path: path.0, context }),
                    Form { input: Some(input), safetensors: None, synthetic: None, text: None, context: None } => {
                        Ok(DataSource::Absent(input))
                    }
                    _ => Err(A::Error::custom(
                        "a data set has one source: `safetensors`, `synthetic`, or `text` with `context`",
                    )),
                }
            }
        }

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Form {
            safetensors: Option<StoredPath>,
            #[serde(default, deserialize_with = "config::some_table")]
            synthetic: Option<SyntheticOptions>,
            text: Option<StoredPath>,
            #[serde(default, deserialize_with = "read::count::<_, _, 1, MAX_CONTEXT>")]
            context: Option<usize>,
            input: Option<InputShape>,
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
            "dataset = { context = 64, text = \"a.txt\" }",
            "dataset = { input = { shape = [5], integers = 9 } }",
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
        assert!(refuse("dataset = { safetensors = \"f\", text = \"g\", context = 1 }").contains("one source"));
        assert!(refuse("dataset = { text = \"f\" }").contains("context"));
        assert!(refuse("dataset = 3").contains("cifar10"));
    }
}
