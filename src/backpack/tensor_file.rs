//! Safetensors files: named tensors read whole, and written atomically.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{SafeTensors, TensorInfo, TensorView};
use tch::{Device, Tensor};

use crate::backpack::memory;
use crate::error::{Error, IoContext, Result};
use crate::{files, tensor_head};

/// A file's tensors by name, and what its header says beside them.
#[derive(Debug)]
pub struct TensorFile {
    /// The file.
    pub path: PathBuf,
    /// The tensors, on the CPU.
    pub tensors: BTreeMap<String, Tensor>,
    /// The header's `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

impl TensorFile {
    /// The tensors, which must be floats, PyTorch's `num_batches_tracked` apart.
    ///
    /// # Errors
    /// [`Error::Shape`] that names one which is not.
    pub fn floats(self) -> Result<BTreeMap<String, Tensor>> {
        let odd =
            |(name, tensor): &(&String, &Tensor)| !tensor.is_floating_point() && !name.ends_with("num_batches_tracked");
        match self.tensors.iter().find(odd) {
            Some((name, tensor)) => Err(Error::Shape(format!(
                "{}: the tensor `{name}` is {:?}; expected floats",
                self.path.display(),
                tensor.kind()
            ))),
            None => Ok(self.tensors),
        }
    }
}

/// Reads a whole file.
///
/// # Errors
/// [`Error::Config`] when it is not there; [`Error::Io`] when it cannot be read; [`Error::Environment`] when the memory
/// does not suffice; and as [`parse`].
pub fn read(path: &Path) -> Result<TensorFile> {
    let unreadable = |error| Error::unreadable(path, error);
    let mut opened = files::open(path).map_err(unreadable)?;
    let length = opened.metadata().map_err(unreadable)?.len();
    tensor_head::read(&mut opened, length).map_err(unreadable)?.map_err(|what| broken(path, &what))?;
    // The bytes, and the tensors made of them.
    memory::check_room(path.display(), length.saturating_mul(2))?;
    parse(&files::read(path).map_err(unreadable)?, path)
}

/// Reads the bytes of a file; `path` is for errors.
///
/// # Errors
/// [`Error::Data`] when it is no safetensors file, or holds a type of element or sizes that libtorch does not have.
pub fn parse(bytes: &[u8], path: &Path) -> Result<TensorFile> {
    let unreadable = |error: safetensors::SafeTensorError| broken(path, &error.to_string());
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(unreadable)?;
    let file = SafeTensors::deserialize(bytes).map_err(unreadable)?;
    let tensors = file.iter().map(|(name, view)| Ok((name.to_owned(), tensor(path, name, &view)?)));
    Ok(TensorFile {
        path: path.to_owned(),
        tensors: tensors.collect::<Result<_>>()?,
        metadata: header.metadata().clone().unwrap_or_default().into_iter().collect(),
    })
}

fn broken(path: &Path, what: &str) -> Error {
    Error::Data {
        path: path.to_owned(),
        offset: 0,
        found: format!("unreadable safetensors ({what})"),
        expected: "a whole safetensors file".into(),
        remedy: "Write it with save_file of safetensors.torch or safetensors.numpy".into(),
    }
}

fn tensor(path: &Path, name: &str, view: &TensorView) -> Result<Tensor> {
    let kind = tensor_head::kind(view.dtype());
    let odd = |what: String, expected: &str, remedy: &str| Error::Data {
        path: path.to_owned(),
        offset: 0,
        found: format!("the tensor `{name}` of {what}"),
        expected: expected.into(),
        remedy: remedy.into(),
    };
    let kind = kind.ok_or_else(|| {
        let expected = "F32, F64, F16, BF16, I64 or another type of PyTorch";
        odd(format!("type {:?}", view.dtype()), expected, "Convert it")
    })?;
    let shape = tensor_head::sizes(view.shape()).ok_or_else(|| {
        let remedy = "Write the file again with the right tensor";
        odd(format!("sizes {:?}", view.shape()), "sizes that a tensor of PyTorch can have", remedy)
    })?;
    if view.data().is_empty() {
        return Ok(Tensor::f_zeros(shape.as_slice(), (kind, Device::Cpu))?);
    }
    Ok(Tensor::f_from_data_size(view.data(), &shape, kind)?)
}

/// How many elements are written at a time.
const PIECE: i64 = 1 << 20;

/// Checks that [`write()`] can make a file at `path`, before the work whose result it is to hold.
///
/// # Errors
/// [`Error::Io`] when its folder is not there or takes no file.
pub fn check_writable(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new().prefix(".backpack-run-").tempfile_in(folder);
    file.at("creating a file beside it", path)?;
    if path.is_dir() {
        return Err(Error::Usage(format!("{}: this is a folder; name a file", path.display())));
    }
    Ok(())
}

/// Writes tensors and metadata to a file that is there whole or not at all: a file of this name is replaced in one step.
/// The same content gives the same bytes. Tensors may have any layout and device.
///
/// # Errors
/// [`Error::Io`] when the folder or the disk does not take it; [`Error::Shape`] for a name that occurs twice.
pub fn write(path: &Path, tensors: &[(String, Tensor)], metadata: &BTreeMap<String, String>) -> Result<()> {
    let (header, order) = header(tensors, metadata)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut options = tempfile::Builder::new();
    options.prefix(".backpack-run-");
    #[cfg(unix)]
    {
        // What any new file gets: the umask takes its share.
        use std::os::unix::fs::PermissionsExt;
        options.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = options.tempfile_in(folder).at("creating a file beside it", path)?;
    let mut put = |bytes: &[u8]| file.write_all(bytes).at("writing", path);
    put(&(header.len() as u64).to_le_bytes())?;
    put(&header)?;
    for place in order {
        for_bytes(&tensors[place].1, &mut put)?;
    }
    file.as_file().sync_all().at("writing", path)?;
    file.persist(path).map_err(|failed| failed.error).at("putting it in place", path)?;
    Ok(())
}

/// The header, padded so that the data are aligned, and the order in which the tensors follow: wide elements first, so
/// that all are aligned, then by name. The crate's own writer orders the metadata by chance.
fn header(tensors: &[(String, Tensor)], metadata: &BTreeMap<String, String>) -> Result<(Vec<u8>, Vec<usize>)> {
    let mut infos = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let dtype = tensor_head::dtype(tensor.kind());
        let dtype = dtype.ok_or_else(|| {
            Error::Unsupported(format!("`{name}`: safetensors files hold no elements of type {:?}", tensor.kind()))
        })?;
        infos.push((dtype, tensor.size().iter().map(|&size| size as usize).collect::<Vec<_>>()));
    }
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by(|&a, &b| infos[b].0.cmp(&infos[a].0).then_with(|| tensors[a].0.cmp(&tensors[b].0)));
    let mut entries = serde_json::Map::new();
    if !metadata.is_empty() {
        entries.insert("__metadata__".into(), serde_json::json!(metadata));
    }
    let mut offset = 0;
    for &place in &order {
        let (dtype, shape) = infos[place].clone();
        let length = tensors[place].1.numel() * tensors[place].1.kind().elt_size_in_bytes();
        let info = TensorInfo { dtype, shape, data_offsets: (offset, offset + length) };
        offset += length;
        let name = &tensors[place].0;
        if entries.insert(name.clone(), serde_json::json!(info)).is_some() {
            return Err(Error::Shape(format!("two tensors of the name `{name}`")));
        }
    }
    let mut header = serde_json::Value::Object(entries).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok((header, order))
}

/// Hands the elements' bytes to `put`, a piece at a time, so that a large tensor is never there twice.
pub(crate) fn for_bytes(tensor: &Tensor, mut put: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let flat = tensor.to_device(Device::Cpu).contiguous().view([-1]);
    let (count, width) = (flat.size()[0], tensor.kind().elt_size_in_bytes());
    let mut buffer = Vec::new();
    let mut start = 0;
    while start < count {
        let length = PIECE.min(count - start);
        buffer.resize(length as usize * width, 0);
        flat.narrow(0, start, length).f_copy_data_u8(&mut buffer, length as usize)?;
        put(&buffer)?;
        start += length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tch::Kind;

    use super::*;

    fn example() -> (Vec<(String, Tensor)>, BTreeMap<String, String>) {
        let tensors = vec![
            ("b".to_owned(), Tensor::from_slice(&[1i64, -2])),
            ("a".to_owned(), Tensor::from_slice(&[0.5f32, 1.0, 1.5, 2.0, 2.5, 3.0]).view([2, 3]).tr()),
            ("empty".to_owned(), Tensor::zeros([0, 4], (Kind::Double, Device::Cpu))),
            ("loss".to_owned(), Tensor::from(0.1f64)),
        ];
        let metadata = [("scale", "paper"), ("dtype", "f64")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        (tensors, metadata.into())
    }

    #[test]
    fn what_is_written_reads_back_and_is_the_same_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let (tensors, metadata) = example();
        let paths = ["one", "two"].map(|name| folder.path().join(name));
        for path in &paths {
            write(path, &tensors, &metadata).unwrap();
        }
        let file = read(&paths[0]).unwrap();
        assert_eq!(file.metadata, metadata);
        assert_eq!(file.tensors.len(), tensors.len());
        for (name, tensor) in &tensors {
            assert_eq!(&file.tensors[name], tensor, "{name}");
            assert_eq!(file.tensors[name].size(), tensor.size());
        }
        assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left behind");
    }

    fn bytes(tensor: &Tensor) -> Vec<u8> {
        let mut bytes = Vec::new();
        for_bytes(tensor, |piece| {
            bytes.extend(piece);
            Ok(())
        })
        .unwrap();
        bytes
    }

    #[test]
    fn large_tensors_come_in_pieces() {
        let numbers = Tensor::arange(2 * PIECE + 3, (Kind::Int64, Device::Cpu));
        let words: Vec<u8> = (0..2 * PIECE + 3).flat_map(i64::to_le_bytes).collect();
        assert!(bytes(&numbers) == words);
    }

    /// The crate's own writer is the judge of the layout.
    #[test]
    fn the_layout_is_that_of_the_crate() {
        let folder = tempfile::tempdir().unwrap();
        let (tensors, _) = example();
        let metadata = BTreeMap::from([("key".to_owned(), "value".to_owned())]);
        write(&folder.path().join("ours"), &tensors, &metadata).unwrap();
        let content: Vec<_> = tensors.iter().map(|(_, tensor)| bytes(tensor)).collect();
        let views = tensors.iter().zip(&content).map(|((name, tensor), bytes)| {
            let dtype = tensor_head::dtype(tensor.kind()).unwrap();
            let shape = tensor.size().iter().map(|&size| size as usize).collect();
            (name.clone(), TensorView::new(dtype, shape, bytes).unwrap())
        });
        let theirs = safetensors::serialize(views, Some(HashMap::from([("key".into(), "value".into())]))).unwrap();
        assert_eq!(std::fs::read(folder.path().join("ours")).unwrap(), theirs);
    }

    /// A file of one tensor without elements.
    fn hollow(shape: &str) -> Vec<u8> {
        let header = format!("{{\"x\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,0]}}}}");
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
    }

    #[test]
    fn sizes_that_no_tensor_has_are_refused_beside_a_zero() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hollow.safetensors");
        for shape in ["[9223372036854775808,0]", "[0,18446744073709551615]", "[0,4294967296,4294967296]"] {
            std::fs::write(&path, hollow(shape)).unwrap();
            let error = read(&path).unwrap_err();
            assert!(matches!(error, Error::Data { .. }), "{error}");
            assert!(error.to_string().contains("the tensor `x` of sizes ["), "{error}");
        }
        std::fs::write(&path, hollow("[0,3]")).unwrap();
        let grown = std::fs::File::options().write(true).open(&path).unwrap();
        grown.set_len(1 << 40).unwrap();
        let error = read(&path).unwrap_err();
        assert!(matches!(error, Error::Data { .. }), "a hole of a terabyte: {error}");
        std::fs::write(&path, hollow("[0,3]")).unwrap();
        assert_eq!(read(&path).unwrap().tensors["x"].size(), [0, 3]);
    }

    #[test]
    fn broken_files_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken.safetensors");
        let refuse = || read(&path).unwrap_err().to_string();
        assert!(refuse().contains("broken.safetensors: reading failed"), "{}", refuse());
        let (tensors, metadata) = example();
        write(&path, &tensors, &metadata).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 7, 20, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(refuse().contains("a whole safetensors file"), "{}", refuse());
        }
        std::fs::write(&path, b"PK\x03\x04 this is an archive of another kind, as torch.save writes it").unwrap();
        assert!(refuse().contains("save_file"), "{}", refuse());
    }
}
