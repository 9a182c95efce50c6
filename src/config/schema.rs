//! The version of a file's form.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::numbers::read;

/// The version that this program knows.
const KNOWN: i64 = 1;

/// The key `schema` of a file whose form this program knows.
#[derive(Clone, Copy, Debug)]
pub struct Schema;

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match read::integer(deserializer, 1..=i64::MAX)? {
            1..=KNOWN => Ok(Schema),
            _ => Err(D::Error::custom(format!(
                "the file is for a newer version of this program; this one knows {KNOWN}"
            ))),
        }
    }
}
