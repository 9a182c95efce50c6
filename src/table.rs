//! Tables as CSV, the way every file of results is written.

use crate::error::{Error, Result};

/// A header and its records; a cell is quoted where it has to be.
///
/// # Errors
/// [`Error::Environment`] for a record that is not as long as the header.
pub(crate) fn csv(header: &[&str], records: impl IntoIterator<Item = Vec<String>>) -> Result<String> {
    let failed = |error: &dyn std::fmt::Display| Error::Environment(format!("writing CSV: {error}"));
    // What reads results takes a line that begins with # for a comment.
    let mut writer = csv::WriterBuilder::new().comment(Some(b'#')).from_writer(Vec::new());
    writer.write_record(header).map_err(|error| failed(&error))?;
    for record in records {
        writer.write_record(record).map_err(|error| failed(&error))?;
    }
    let bytes = writer.into_inner().map_err(|error| failed(&error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A cell that is empty where its value is not known.
pub(crate) fn known(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}
