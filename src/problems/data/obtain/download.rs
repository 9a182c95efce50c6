//! One file over HTTP: mirrors in order, retries, resumption, and a hash before the file takes its name.
//!
//! Bytes go to `NAME.part` beside the target, which survives interruption; the next call asks only for the rest. A
//! server that ignores the range sends all again. Once the size is reached the hash is compared, and only then the file
//! is renamed, so whoever sees it sees it whole. No wait is without end: a server that gives nothing, or too little, is
//! left for the next.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs4::{FileExt, TryLockError};
use ureq::Agent;
use ureq::http::Response;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};

use super::Progress;
use super::hash::{Hashes, hash};
use crate::error::{Error, IoContext, Result};

/// What to download, from where, to where.
#[derive(Clone, Debug)]
pub struct Download {
    /// Where the file lies; tried in order.
    pub urls: Vec<String>,
    /// What it is to become.
    pub target: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// How often a server may fail in a row, without a byte gained, before the next is asked.
    pub attempts: u32,
    /// The pause before the first retry; doubled with each.
    pub pause: Duration,
    /// The least that a server must give, however it is asked.
    pub least: Rate,
}

/// So many bytes in so long a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The bytes.
    pub bytes: u64,
    /// The time.
    pub window: Duration,
}

impl Rate {
    /// 1 KiB a second over a minute, with which the largest set takes days; nothing that comes more slowly arrives.
    pub const LEAST: Rate = Rate { bytes: 60 << 10, window: Duration::from_secs(60) };
}

/// What a server gave since the present window began.
struct Pace {
    least: Rate,
    began: Instant,
    bytes: u64,
}

impl Pace {
    fn new(least: Rate) -> Self {
        Pace { least, began: Instant::now(), bytes: 0 }
    }

    /// Counts bytes that came, and at the end of a window whether they were enough.
    fn came(&mut self, count: usize) -> Result<(), Failure> {
        self.bytes += count as u64;
        if self.began.elapsed() < self.least.window {
            return Ok(());
        }
        let (bytes, seconds) = (self.bytes, self.began.elapsed().as_secs_f64());
        *self = Pace::new(self.least);
        match bytes < self.least.bytes {
            true => Err(Failure::Lasting(format!("too slow: {bytes} bytes in {seconds:.0} seconds"))),
            false => Ok(()),
        }
    }
}

/// Why a request did not end with the whole file.
enum Failure {
    /// Worth asking the same server again.
    Passing(String),
    /// Not worth it.
    Lasting(String),
    /// The disk; no server helps.
    Ours(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Ours(error)
    }
}

/// The name under which a file is collected.
pub fn part_path(target: &Path) -> PathBuf {
    let mut name = OsString::from(target);
    name.push(".part");
    PathBuf::from(name)
}

impl Download {
    /// Downloads the file.
    ///
    /// # Errors
    /// [`Error::Environment`] that tells what went wrong with each server, and that nothing is lost; [`Error::Io`] where
    /// the disk refuses.
    pub fn run(&self, progress: &mut dyn Progress) -> Result<()> {
        let part = part_path(&self.target);
        if let Some(folder) = self.target.parent() {
            std::fs::create_dir_all(folder).at("creating the folder", folder)?;
        }
        let file = &mut open_part(&part)?;
        match FileExt::try_lock(file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Environment(format!(
                    "{}: another process is downloading this file; wait for it or end it",
                    part.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("locking", &part, error)),
        }
        let name = self.target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        progress.start(&name, self.size, length(file, &part)?);
        let mut reasons = String::new();
        for url in &self.urls {
            match self.ask(url, file, &part, progress) {
                Ok(()) => {
                    file.sync_all().at("writing", &part)?;
                    std::fs::rename(&part, &self.target).at("renaming", &part)?;
                    progress.finish();
                    return Ok(());
                }
                Err(Failure::Ours(error)) => return Err(error),
                Err(Failure::Passing(reason) | Failure::Lasting(reason)) => {
                    progress.note(&format!("{url}: {reason}"));
                    reasons += &format!("\n  {url}: {reason}");
                }
            }
        }
        let kept = length(file, &part)?;
        let kept = match kept {
            0 => {
                std::fs::remove_file(&part).at("deleting", &part)?;
                String::new()
            }
            _ => format!(" ({kept} of {} bytes are kept in {})", self.size, part.display()),
        };
        Err(Error::Environment(format!(
            "{name} could not be downloaded:{reasons}\nThe same command goes on where this one stopped{kept}; the option `mirror` \
             (BACKPACK_RUN_MIRROR) names another server, and `backpack-run data import` takes files that you have"
        )))
    }

    /// Collects the file from one server and compares its hash.
    fn ask(&self, url: &str, file: &mut File, part: &Path, progress: &mut dyn Progress) -> Result<(), Failure> {
        let mut failures = 0;
        let mut pace = Pace::new(self.least);
        let mut most = length(file, part)?;
        // Bytes of an earlier call or server may be another file's; a wrong hash then is worth a fresh start.
        let mut mixed = most > 0;
        loop {
            let outcome = match length(file, part)? == self.size {
                true => Ok(()),
                false => self.request(url, file, part, &mut pace, progress),
            };
            let reason = match outcome {
                Ok(()) => {
                    let hashes = hash_opened(file, part)?;
                    if hashes.sha256 == self.sha256 {
                        return Ok(());
                    }
                    file.set_len(0).at("writing", part)?;
                    let reason = format!("SHA-256 {} instead of {}", hashes.sha256, self.sha256);
                    if !mixed {
                        return Err(Failure::Lasting(reason));
                    }
                    mixed = false;
                    most = 0;
                    format!("{reason}; starting over")
                }
                Err(Failure::Passing(reason)) => reason,
                Err(other) => return Err(other),
            };
            let now = length(file, part)?;
            failures = if now > most { 1 } else { failures + 1 };
            // A server that ends every answer after a few bytes is as slow as one that waits between them; one that gave
            // nothing is asked again.
            if now > most {
                pace.came(0)?;
            } else {
                pace = Pace::new(self.least);
            }
            most = most.max(now);
            if failures > self.attempts {
                return Err(Failure::Passing(reason));
            }
            progress.note(&format!("{url}: {reason}; trying again"));
            std::thread::sleep(self.pause * 2u32.saturating_pow(failures - 1).min(16));
        }
    }

    /// Asks for what is missing and appends it.
    fn request(
        &self,
        url: &str,
        file: &mut File,
        part: &Path,
        pace: &mut Pace,
        progress: &mut dyn Progress,
    ) -> Result<(), Failure> {
        let mut have = length(file, part)?;
        if have > self.size {
            file.set_len(0).at("writing", part)?;
            have = 0;
        }
        let mut request = agent().get(url);
        if have > 0 {
            request = request.header(RANGE, format!("bytes={have}-"));
        }
        let response = request.call().map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::HostNotFound | ureq::Error::Http(_) | ureq::Error::Tls(_) => {
                Failure::Lasting(error.to_string())
            }
            ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => {
                Failure::Lasting(io.to_string())
            }
            _ => Failure::Passing(error.to_string()),
        })?;
        let announced = match response.status().as_u16() {
            206 if have > 0 => {
                let range = header(&response, CONTENT_RANGE);
                let (start, total) = range.as_deref().and_then(parse_content_range).unwrap_or((u64::MAX, None));
                if start != have {
                    file.set_len(0).at("writing", part)?;
                    return Err(Failure::Passing(format!("an answer from byte {start} to a request from {have}")));
                }
                total
            }
            200 => {
                if have > 0 {
                    progress.note(&format!("{url}: the server cannot resume; starting over"));
                    file.set_len(0).at("writing", part)?;
                    have = 0;
                }
                header(&response, CONTENT_LENGTH).and_then(|length| length.parse().ok())
            }
            416 => {
                file.set_len(0).at("writing", part)?;
                return Err(Failure::Passing("the server has no such range; starting over".to_owned()));
            }
            status @ (408 | 425 | 429 | 500..=599) => return Err(Failure::Passing(format!("status {status}"))),
            status => return Err(Failure::Lasting(format!("status {status}"))),
        };
        if let Some(total) = announced
            && total != self.size
        {
            return Err(Failure::Lasting(format!("a file of {total} bytes instead of {}", self.size)));
        }
        file.seek(SeekFrom::Start(have)).at("writing", part)?;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => return Err(Failure::Passing(format!("{error} after {have} of {} bytes", self.size))),
            };
            if have + count as u64 > self.size {
                file.set_len(0).at("writing", part)?;
                return Err(Failure::Lasting(format!("more than {} bytes", self.size)));
            }
            file.write_all(&buffer[..count]).at("writing", part)?;
            have += count as u64;
            progress.reached(have);
            pace.came(count)?;
        }
        if have < self.size {
            return Err(Failure::Passing(format!("the connection ended after {have} of {} bytes", self.size)));
        }
        Ok(())
    }
}

/// Opens the file in which the bytes are collected, and none but a plain file in this place: what another put there, a
/// link to a file elsewhere for example, is not written to.
fn open_part(part: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    }
    let foreign = || {
        Error::Environment(format!(
            "{}: bytes are collected in a file of this name, and what is there is a link or no file at all; remove it",
            part.display()
        ))
    };
    let file = match options.open(part) {
        Ok(file) => file,
        Err(_) if std::fs::symlink_metadata(part).is_ok_and(|there| !there.is_file()) => return Err(foreign()),
        Err(error) => return Err(Error::io("opening", part, error)),
    };
    let there = file.metadata().at("reading", part)?;
    #[cfg(unix)]
    let names = std::os::unix::fs::MetadataExt::nlink(&there);
    #[cfg(not(unix))]
    let names = 1;
    if there.is_file() && names <= 1 { Ok(file) } else { Err(foreign()) }
}

/// The hashes of an open file, from its beginning.
fn hash_opened(file: &mut File, part: &Path) -> Result<Hashes> {
    file.seek(SeekFrom::Start(0)).at("reading", part)?;
    hash(file).at("reading", part)
}

fn length(file: &File, part: &Path) -> Result<u64> {
    Ok(file.metadata().at("reading", part)?.len())
}

fn header<T>(response: &Response<T>, name: ureq::http::HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// The first byte and the whole size of "bytes 5-9/10".
fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, total.trim().parse().ok()))
}

fn agent() -> Agent {
    let timeout = Some(Duration::from_secs(60));
    Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("backpack-run/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(Duration::from_secs(30)))
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_send_request(timeout)
        .timeout_recv_response(timeout)
        .timeout_per_read(timeout)
        .build()
        .new_agent()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_understood() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(parse_content_range("bytes */10"), None);
        assert_eq!(parse_content_range("items 5-9/10"), None);
    }
}
