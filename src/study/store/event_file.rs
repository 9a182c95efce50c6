//! The file that TensorBoard reads: TFRecord frames around `Event` messages of TensorFlow's event.proto.
//!
//! A frame is the length (u64), its masked CRC-32C, the message and the message's masked CRC-32C, all little-endian.
//! Of the messages only five fields are needed, which are written by hand; the crates there are for this format bring
//! a whole protocol-buffer compiler or asynchronous runtime with them, or are no longer kept up.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::atomic;
use super::checkpoint::Progress;
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
        let mut version = Vec::new();
        put_double(&mut version, 1, now());
        put_bytes(&mut version, 3, b"brain.Event:2");
        file.write_all(&frame(&version)).at("writing", &path)?;
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

/// An `Event` with a `Summary`: wall_time = 1, step = 2, summary = 5; in the summary value = 1, of which tag = 1 and
/// simple_value = 2.
fn scalars(time: f64, step: u64, values: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in values {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, tag.as_bytes());
        entry.push(2 << 3 | 5);
        entry.extend((*value as f32).to_le_bytes());
        put_bytes(&mut summary, 1, &entry);
    }
    let mut event = Vec::new();
    put_double(&mut event, 1, time);
    event.push(2 << 3);
    put_varint(&mut event, step);
    put_bytes(&mut event, 5, &summary);
    event
}

fn put_double(message: &mut Vec<u8>, field: u8, value: f64) {
    message.push(field << 3 | 1);
    message.extend(value.to_le_bytes());
}

fn put_bytes(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    message.push(field << 3 | 2);
    put_varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
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
