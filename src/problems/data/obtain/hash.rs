//! SHA-256 and MD5 of files and of what compressed files hold.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use md5::Md5;
use sha2::{Digest as _, Sha256};

use crate::error::{IoContext, Result};
use crate::files;
use crate::problems::data::catalog::Digest;

/// The hashes of some bytes, hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// SHA-256.
    pub sha256: String,
    /// MD5.
    pub md5: String,
}

impl Hashes {
    /// Whether the bytes are those that the digest stands for.
    pub fn fit(&self, digest: &Digest) -> bool {
        self.sha256 == digest.sha256 && digest.md5.is_none_or(|md5| self.md5 == md5)
    }
}

/// The hashes of a file.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) where it cannot be read.
pub fn hash_file(path: &Path) -> Result<Hashes> {
    hash(files::open(path).at("opening", path)?).at("reading", path)
}

/// The hashes of what a .gz holds; `None` where it is not readable gzip.
pub(crate) fn hash_content(path: &Path) -> Result<Option<Hashes>> {
    let file = std::io::BufReader::new(files::open(path).at("opening", path)?);
    Ok(hash(MultiGzDecoder::new(file)).ok())
}

/// The hashes of bytes in memory.
pub(crate) fn hash_bytes(mut bytes: &[u8]) -> Hashes {
    let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
    while !bytes.is_empty() {
        let (now, rest) = bytes.split_at(bytes.len().min(1 << 16));
        sha256.update(now);
        md5.update(now);
        bytes = rest;
    }
    Hashes { sha256: hex::encode(sha256.finalize()), md5: hex::encode(md5.finalize()) }
}

pub(super) fn hash(mut stream: impl Read) -> std::io::Result<Hashes> {
    let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
    let mut buffer = vec![0; 1 << 16];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                sha256.update(&buffer[..count]);
                md5.update(&buffer[..count]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Hashes { sha256: hex::encode(sha256.finalize()), md5: hex::encode(md5.finalize()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standards() {
        // FIPS 180-4 and RFC 1321, of "abc".
        let hashes = hash_bytes(b"abc");
        assert_eq!(hashes.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hashes.md5, "900150983cd24fb0d6963f7d28e17f72");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"abc").unwrap();
        assert_eq!(hash_file(file.path()).unwrap(), hashes);
        assert_eq!(hash_content(file.path()).unwrap(), None);
    }
}
