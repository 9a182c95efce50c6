//! Reads result files, also of a study that is still at it: a missing file and an unfinished last line are noted.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, IoContext, Result};
use crate::study::store::SealedFile;

/// The rows of a CSV file with a header; none where it is missing. What is amiss is added to `notes`.
pub(super) fn read_rows<T: DeserializeOwned>(path: &Path, notes: &mut Vec<String>) -> Result<Vec<T>> {
    let Some(bytes) = read_bytes(path, notes)? else { return Ok(Vec::new()) };
    // A number cut short is still a number, so a line counts only with its end.
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    if whole < bytes.len() {
        notes.push(format!("The last line of {} is still being written and is left out.", file_name(path)));
    }
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(&bytes[..whole]);
    let mut rows = Vec::new();
    for row in reader.deserialize() {
        rows.push(row.map_err(|error: csv::Error| Error::Data {
            path: path.to_owned(),
            offset: error.position().map_or(0, csv::Position::byte),
            found: format!("{error}"),
            expected: "the columns and values that docs/report.md lists".to_owned(),
            remedy: "Make the file again with `backpack-run study`.".to_owned(),
        })?);
    }
    Ok(rows)
}

/// A JSON file; null where it is missing or unfinished.
pub(super) fn read_json(path: &Path, notes: &mut Vec<String>) -> Result<Value> {
    let Some(bytes) = read_bytes(path, notes)? else { return Ok(Value::Null) };
    Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        notes.push(format!("{} is unfinished ({error}) and is left out.", file_name(path)));
        Value::Null
    }))
}

/// Which of a study's tables are not what the study wrote, by its meta.json; one that is missing is noted elsewhere.
///
/// # Errors
/// When a table cannot be read.
pub(super) fn defects(folder: &Path, meta: &Value) -> Result<Vec<String>> {
    let mut defects = Vec::new();
    for (name, sealed) in meta["files"].as_object().into_iter().flatten() {
        let path = folder.join(name);
        let bytes = match crate::files::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            bytes => bytes.at("reading", &path)?,
        };
        let reason = match serde_json::from_value::<SealedFile>(sealed.clone()) {
            Ok(sealed) => sealed.defect(name, &bytes),
            Err(error) => Some(format!("meta.json does not tell what it should be ({error})")),
        };
        defects.extend(reason.map(|reason| {
            format!("{name} is not what the study wrote: {reason}. The study's command makes it again from its runs.")
        }));
    }
    Ok(defects)
}

fn read_bytes(path: &Path, notes: &mut Vec<String>) -> Result<Option<Vec<u8>>> {
    match crate::files::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            notes.push(format!("There is no {}.", file_name(path)));
            Ok(None)
        }
        Err(error) => Err(error).at("reading", path),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
