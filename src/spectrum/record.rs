//! What is known of a spectrum, as JSON and CSV.

use serde::Serialize;

use super::{Density, Eigenvalues, Matrix, Trace};
use crate::error::{Error, Result};
use crate::table;

/// The version of the JSON.
const SCHEMA_VERSION: u32 = 1;

/// Of what a spectrum is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct About {
    /// The problem's name.
    pub problem: String,
    /// The matrix.
    #[serde(serialize_with = "name")]
    pub matrix: Matrix,
    /// The samples.
    pub samples: i64,
    /// The matrix's rows.
    pub parameters: i64,
    /// `f32` or `f64`.
    pub dtype: String,
    /// The seed of random vectors.
    pub seed: u64,
    /// Labels for each sample, and the seed of their draws, of the sampled Fisher.
    pub mc: Option<(i64, u64)>,
    /// The loss.
    pub loss: Option<f64>,
}

fn name<S: serde::Serializer>(matrix: &Matrix, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(matrix.as_str())
}

/// A spectrum, as far as it was asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// Of what it is.
    #[serde(flatten)]
    pub about: About,
    /// Eigenvalues at its ends.
    pub eigenvalues: Option<Eigenvalues>,
    /// The trace.
    pub trace: Option<Trace>,
    /// The density.
    pub density: Option<Density>,
}

/// The columns of [`Record::rows`].
pub const HEADER: [&str; 4] = ["quantity", "place", "value", "bar"];

impl Record {
    /// Eigenvalues, counted from 1 at their end of the spectrum, with their residuals, and the trace with its bar.
    pub fn rows(&self) -> Vec<(&'static str, usize, f64, f64)> {
        let ends =
            self.eigenvalues.iter().flat_map(|found| [("largest", &found.largest), ("smallest", &found.smallest)]);
        let values = ends.flat_map(|(end, values)| {
            values.iter().enumerate().map(move |(place, one)| (end, place + 1, one.value, one.residual))
        });
        values.chain(self.trace.iter().map(|trace| ("trace", 1, trace.value, trace.bar))).collect()
    }

    /// [`Self::rows`] as CSV.
    ///
    /// # Errors
    /// None but those of writing to memory.
    pub fn csv(&self) -> Result<String> {
        let record = |(quantity, place, value, bar): (&str, usize, f64, f64)| {
            vec![quantity.to_owned(), place.to_string(), value.to_string(), bar.to_string()]
        };
        table::csv(&HEADER, self.rows().into_iter().map(record))
    }

    /// Everything as JSON.
    ///
    /// # Errors
    /// None but those of writing to memory.
    pub fn json(&self) -> Result<String> {
        #[derive(Serialize)]
        struct Document<'a> {
            schema_version: u32,
            #[serde(flatten)]
            record: &'a Record,
        }
        let document = Document { schema_version: SCHEMA_VERSION, record: self };
        let text = serde_json::to_string_pretty(&document);
        text.map(|text| text + "\n").map_err(|error| Error::Environment(format!("writing JSON: {error}")))
    }
}
