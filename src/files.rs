//! Reading files: regular ones alone, so that nothing that is read can keep the program waiting; and paths in JSON and
//! TOML, which need not be text.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Opens a regular file for reading.
///
/// # Errors
/// Those of the system; [`ErrorKind::IsADirectory`] for a folder and [`ErrorKind::InvalidInput`] for a named pipe, a
/// device or the like. None of these is waited for.
pub(crate) fn open(path: &Path) -> Result<File> {
    open_with_metadata(path).map(|(file, _)| file)
}

/// A regular file's content.
///
/// # Errors
/// As [`open`].
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    read_with_metadata(path).map(|(bytes, _)| bytes)
}

/// As [`read`](fn@read), with what the system says of the file.
///
/// # Errors
/// As [`open`].
pub(crate) fn read_with_metadata(path: &Path) -> Result<(Vec<u8>, Metadata)> {
    let (file, metadata) = open_with_metadata(path)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(metadata.len()).unwrap_or(usize::MAX))?;
    // Through `take`, since a file's own `read_to_end` asks for its size once more.
    file.take(u64::MAX).read_to_end(&mut bytes)?;
    Ok((bytes, metadata))
}

/// A regular file's content as text.
///
/// # Errors
/// As [`open`]; [`ErrorKind::InvalidData`] where it is no UTF-8.
pub(crate) fn read_to_string(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|error| Error::new(ErrorKind::InvalidData, error))
}

/// What the system says of a regular file; links are followed.
///
/// # Errors
/// As [`open`].
pub(crate) fn metadata(path: &Path) -> Result<Metadata> {
    let metadata = std::fs::metadata(path)?;
    refuse_irregular(metadata.file_type())?;
    Ok(metadata)
}

fn open_with_metadata(path: &Path) -> Result<(File, Metadata)> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // A named pipe is opened at once instead of when somebody writes to it. On regular files it has no effect.
        options.custom_flags(libc::O_NONBLOCK);
    }
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    refuse_irregular(metadata.file_type())?;
    Ok((file, metadata))
}

fn refuse_irregular(kind: FileType) -> Result<()> {
    if kind.is_file() {
        return Ok(());
    }
    if kind.is_dir() {
        return Err(Error::new(ErrorKind::IsADirectory, "it is a folder, not a file"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Err(Error::new(ErrorKind::InvalidInput, "it is a named pipe; only regular files are read"));
        }
    }
    Err(Error::new(ErrorKind::InvalidInput, "it is no regular file, and only those are read"))
}

/// A path in JSON or TOML: a text, or its bytes where it is not UTF-8, as paths on Unix need not be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredPath(pub PathBuf);

/// The path of these bytes; nothing on a system whose paths are no bytes.
pub(crate) fn path_of_bytes(bytes: Vec<u8>) -> Option<PathBuf> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        Some(std::ffi::OsString::from_vec(bytes).into())
    }
    #[cfg(not(unix))]
    {
        let _ = bytes;
        None
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected the path of a file")]
enum Form {
    Text(String),
    Bytes(Vec<u8>),
}

impl Serialize for StoredPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        stored_path::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for StoredPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        stored_path::deserialize(deserializer).map(StoredPath)
    }
}

/// `#[serde(with = "stored_path")]` for a path.
pub(crate) mod stored_path {
    use super::{Deserialize, Deserializer, Form, Path, PathBuf, Serialize, Serializer};

    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => Form::Bytes(path.as_os_str().as_encoded_bytes().to_vec()).serialize(serializer),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Ok(PathBuf::from(text)),
            Form::Bytes(bytes) => super::path_of_bytes(bytes)
                .ok_or_else(|| serde::de::Error::custom("a path of bytes is one of another system")),
        }
    }
}

/// `#[serde(with = "stored_path_option")]` for a path that may be missing.
pub(crate) mod stored_path_option {
    use super::{Deserialize, Deserializer, PathBuf, Serialize, Serializer, StoredPath};

    pub fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        path.clone().map(StoredPath).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<StoredPath>::deserialize(deserializer)?.map(|stored| stored.0))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn a_regular_file_is_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "text").unwrap();
        assert_eq!(read_to_string(&file).unwrap(), "text");
        std::os::unix::fs::symlink(&file, folder.path().join("link")).unwrap();
        assert_eq!(read(&folder.path().join("link")).unwrap(), b"text");
        assert_eq!(read(folder.path()).unwrap_err().kind(), ErrorKind::IsADirectory);
        assert_eq!(read(&folder.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(read(&pipe).unwrap_err().to_string().contains("named pipe"));
        assert!(metadata(&pipe).unwrap_err().to_string().contains("named pipe"));
        assert_eq!(read(Path::new("/dev/zero")).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn paths_travel_through_json_whatever_their_bytes() {
        for bytes in [b"/a/\xff\xfe b".to_vec(), "/a/\u{fc}".as_bytes().to_vec()] {
            let path = StoredPath(std::ffi::OsString::from_vec(bytes).into());
            let text = serde_json::to_string(&path).unwrap();
            assert_eq!(serde_json::from_str::<StoredPath>(&text).unwrap(), path, "{text}");
        }
        assert_eq!(serde_json::to_string(&StoredPath("/a".into())).unwrap(), "\"/a\"");
    }
}
