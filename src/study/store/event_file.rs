//! The file that TensorBoard reads: TFRecord frames around `Event` messages of TensorFlow's event.proto.
//!
//! A frame is the length (u64), its masked CRC-32C, the message and the message's masked CRC-32C, all little-endian.
//! The messages are few and are described here: crates for this format bring a protocol-buffer compiler or an asynchronous
//! runtime with them, or are no longer kept up.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message as _;

use super::checkpoint::Progress;
use crate::atomic;
use crate::error::{IoContext, Result};

/// The file's name; TensorBoard looks for `tfevents` in it.
pub const FILE_NAME: &str = "events.out.tfevents.0.backpack-run";

/// A file that grows while a run goes on. Each start of a run writes it anew from what the checkpoint knows, so that
/// nothing is in it twice.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
    /// How many rows of the progress are in it.
    epochs: usize,
    diagnostics: usize,
}

impl EventFile {
    /// Begins the file in this folder; one that is there is replaced.
    ///
    /// # Errors
    /// [`crate::Error::Io`] where it cannot be written.
    pub fn start(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).at("creating the folder", folder)?;
        let path = folder.join(FILE_NAME);
        // Not into what stands there: it may be a link to another file, or a named pipe that nobody reads.
        atomic::remove(&path)?;
        let mut file = File::create_new(&path).at("creating", &path)?;
        let file_version = Some("brain.Event:2".to_owned());
        let version = Event { wall_time: now(), step: None, file_version, summary: None };
        file.write_all(&frame(&version.encode_to_vec())).at("writing", &path)?;
        Ok(EventFile { path, file, epochs: 0, diagnostics: 0 })
    }

    /// Writes the rows that are not in it yet.
    ///
    /// # Errors
    /// [`crate::Error::Io`] where it cannot be written.
    pub fn append(&mut self, progress: &Progress, steps_per_epoch: usize) -> Result<()> {
        let mut bytes = Vec::new();
        let time = now();
        for row in &progress.diagnostics[self.diagnostics..] {
            let tag = match row.layer.as_str() {
                "all" => row.name.clone(),
                layer => format!("{}/{layer}", row.name),
            };
            bytes.extend(frame(&scalars(time, row.step, &[(&tag, row.value)])));
        }
        for row in &progress.epochs[self.epochs..] {
            let values = [
                ("loss/train", row.train_loss),
                ("loss/valid", row.valid_loss),
                ("loss/test", row.test_loss),
                ("accuracy/train", row.train_accuracy),
                ("accuracy/valid", row.valid_accuracy),
                ("accuracy/test", row.test_accuracy),
            ];
            bytes.extend(frame(&scalars(time, (row.epoch * steps_per_epoch) as u64, &values)));
        }
        self.file.write_all(&bytes).at("writing", &self.path)?;
        (self.epochs, self.diagnostics) = (progress.epochs.len(), progress.diagnostics.len());
        Ok(())
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// TensorFlow's event.proto, as far as it is needed.
#[derive(prost::Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, optional, tag = "2")]
    step: Option<i64>,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(prost::Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(prost::Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

fn scalars(time: f64, step: u64, values: &[(&str, f64)]) -> Vec<u8> {
    let scalar = |(tag, value): &(&str, f64)| Scalar { tag: (*tag).to_owned(), simple_value: Some(*value as f32) };
    let summary = Some(Summary { value: values.iter().map(scalar).collect() });
    Event { wall_time: time, step: Some(step as i64), file_version: None, summary }.encode_to_vec()
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut frame = Vec::with_capacity(message.len() + 16);
    frame.extend(length);
    frame.extend(masked_crc(&length).to_le_bytes());
    frame.extend(message);
    frame.extend(masked_crc(message).to_le_bytes());
    frame
}

/// TFRecord's checksum: CRC-32C rotated right by 15 bits, plus a constant.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}
